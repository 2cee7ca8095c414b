#include "cli_launch.h"
#include "early.h"
#include "lastcall/lastcall.h"
#include "standard_fds.h"

/* The program lastcall: a command, or a server without handlers of its own. */

int main(int argc, char **argv)
{
    standard_fds_fill();
    if (cli_names_command(argc, argv)) {
        early_undo();
        return cli_run(argc, argv);
    }
    return lc_main(argc, argv, NULL, NULL);
}

#include "cli_p.h"

/* lastcall-cli: `lastcall COMMAND` becomes this program, with the same arguments. */
int main(int argc, char **argv)
{
    int status = cli_carry_out(argc, argv);

    if (status >= 0)
        return status;
    return cli_fail(EX_USAGE, "want a command, as in: lastcall status; see lastcall --help");
}

#include <locale.h>
#include <string.h>

#include "cli_fail.h"
#include "commands.h"
#include "standard_fds.h"

/* lastcall-cli: `lastcall COMMAND` execs this program with the same arguments (cli_launch.h). */

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
#define X(name, run, help) {name, run},
    CLI_COMMANDS(X)
#undef X
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

int main(int argc, char **argv)
{
    standard_fds_fill();
    const struct command *command = argc >= 2 ? find_command(argv[1]) : NULL;

    if (command == NULL)
        return cli_fail(EX_USAGE,
                        "a command is missing, for example: lastcall status; see lastcall --help");
    cli_fail_set_command(command->name);
    (void)setlocale(LC_CTYPE, ""); /* decides which characters the terminal can show */
    return command->run(argc - 1, argv + 1);
}

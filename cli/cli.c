#include "cli_p.h"

#include <stdio.h>
#include <string.h>

#include "replay.h"

static const struct cli_command commands[] = {
    {"replay", replay_command, "send unfinished requests again"},
    {"unfinished", unfinished_command, "list unfinished requests, and what became of them"},
    {NULL, NULL, NULL},
};

int cli_run(int argc, char **argv)
{
    if (argc < 2)
        return -1;
    for (const struct cli_command *command = commands; command->name != NULL; command++)
        if (strcmp(command->name, argv[1]) == 0)
            return command->run(argc - 1, argv + 1);
    return -1;
}

void cli_print_commands(void)
{
    for (const struct cli_command *command = commands; command->name != NULL; command++)
        (void)printf("  %-28s%s\n", command->name, command->help);
}

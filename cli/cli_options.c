#include "cli_options.h"

#include <stdio.h>

#define PROGRAM_SIZE 40
#define COLUMN 30 /* of the help texts */

void cli_print_help(const struct flags *flags)
{
    const struct cli_usage *usage = (const struct cli_usage *)(const void *)flags;

    (void)printf("Usage: lastcall %s\n\n%s\n", usage->synopsis, usage->about);
    flags_print(flags);
    if (usage->after != NULL)
        (void)printf("\n%s", usage->after);
}

int cli_parse(int argc, char **argv, struct cli_usage *usage, void *target)
{
    static char program[PROGRAM_SIZE]; /* a process runs one command */
    int operands;
    bool dashes;

    (void)snprintf(program, sizeof(program), "lastcall %s", usage->command);
    usage->flags.program = program;
    usage->flags.target = target;
    usage->flags.column = COLUMN;
    int status = flags_parse(&usage->flags, argc, argv, &operands, &dashes);
    if (status < 0 && operands < argc)
        return cli_usage_error(usage, "%s: not an option", argv[operands]);
    return status;
}

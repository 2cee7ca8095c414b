#include "cli_p.h"

#include <getopt.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "command_list.h"
#include "replay.h"

static const struct cli_command commands[] = {
#define X(name, run, help) {name, run},
    CLI_COMMANDS(X)
#undef X
        {NULL, NULL},
};

/* For messages. One command a process. */
static const char *running = "";

int cli_carry_out(int argc, char **argv)
{
    if (argc < 2)
        return -1;
    for (const struct cli_command *command = commands; command->name != NULL; command++) {
        if (strcmp(command->name, argv[1]) != 0)
            continue;
        running = command->name;
        (void)setlocale(LC_CTYPE, ""); /* which characters the terminal can show */
        return command->run(argc - 1, argv + 1);
    }
    return -1;
}

int cli_fail(int status, const char *format, ...)
{
    va_list args;

    (void)fflush(stdout); /* what was said before comes before */
    (void)fprintf(stderr, running[0] != '\0' ? "lastcall %s: " : "lastcall%s: ", running);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    return status;
}

/* ---- options ---- */

#define OPTIONS_MAX 16
#define LONG_BASE 1000 /* above every letter */

static void print_help(const struct cli_usage *usage)
{
    (void)printf("Usage: lastcall %s\n\n%s\n", usage->synopsis, usage->about);
    for (size_t i = 0; i < usage->option_count; i++) {
        const struct cli_option *option = &usage->options[i];
        char left[48];
        (void)snprintf(left, sizeof(left), "  --%s%s%s", option->name,
                       option->argument != NULL ? " " : "",
                       option->argument != NULL ? option->argument : "");
        (void)printf("%-24s%s\n", left, option->help);
    }
    (void)printf("%-24s%s\n", "  --help", "print this and exit");
}

int cli_parse(int argc, char **argv, const struct cli_usage *usage)
{
    struct option longs[OPTIONS_MAX + 2] = {0};
    size_t n = usage->option_count < OPTIONS_MAX ? usage->option_count : OPTIONS_MAX;
    int choice;

    for (size_t i = 0; i < n; i++) {
        longs[i].name = usage->options[i].name;
        longs[i].has_arg = usage->options[i].argument != NULL ? required_argument : no_argument;
        longs[i].val = LONG_BASE + (int)i;
    }
    longs[n] = (struct option){.name = "help", .val = 'h'};
    opterr = 0;
    optind = 0; /* glibc: begin anew, whoever came before */
    while ((choice = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
        if (choice == 'h') {
            print_help(usage);
            return 0;
        }
        if (choice < LONG_BASE)
            return cli_fail(EX_USAGE, "%s: %s; see lastcall %s --help", argv[optind - 1],
                            choice == ':' ? "wants a value" : "no such option", running);
        const struct cli_option *option = &usage->options[choice - LONG_BASE];
        if (option->flag != NULL)
            *option->flag = true;
        else
            *option->text = optarg;
    }
    if (optind < argc)
        return cli_fail(EX_USAGE, "%s: not an option; see lastcall %s --help", argv[optind],
                        running);
    return -1;
}

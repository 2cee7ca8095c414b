#include "cli_launch.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "commands.h"

static const struct {
    const char *name, *help;
} commands[] = {
#define X(name, run, help) {name, help},
    CLI_COMMANDS(X)
#undef X
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static bool is_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return true;
    return false;
}

bool cli_names_command(int argc, char **argv)
{
    return argc >= 2 && is_command(argv[1]);
}

int cli_run(int argc, char **argv)
{
    char path[PATH_MAX + 16];

    if (!cli_names_command(argc, argv))
        return -1;
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
    path[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(path, '/');
    (void)strcpy(slash != NULL ? slash + 1 : path, "lastcall-cli");
    (void)execv(path, argv);
    (void)fprintf(stderr, "lastcall %s: cannot run %s: %s (it is installed beside lastcall)\n",
                  argv[1], path, strerrordesc_np(errno));
    return EX_UNAVAILABLE;
}

void cli_print_commands(void)
{
    for (size_t i = 0; i < COMMANDS; i++)
        (void)printf("  %-28s%s\n", commands[i].name, commands[i].help);
}

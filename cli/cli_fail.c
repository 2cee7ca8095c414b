#include "cli_fail.h"

#include <stdarg.h>
#include <stdio.h>

static const char *command_name = ""; /* a process runs one command */
static bool is_muted;

void cli_fail_set_command(const char *name)
{
    command_name = name;
}

void cli_fail_mute(bool on)
{
    is_muted = on;
}

int cli_fail(int status, const char *format, ...)
{
    va_list args;

    if (is_muted)
        return status;
    (void)fflush(stdout); /* keeps the order of output and message */
    (void)fprintf(stderr, command_name[0] != '\0' ? "lastcall %s: " : "lastcall%s: ", command_name);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    return status;
}

#include "require.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

/* `coord/drain.c` of `/home/.../coord/drain.c`. */
static const char *short_name(const char *file)
{
    const char *at = file + strlen(file);

    for (unsigned slashes = 0; at > file; at--)
        if (at[-1] == '/' && ++slashes == 2)
            break;
    return at;
}

void require_failed(const char *file, int line, const char *function, const char *condition)
{
    char text[512];

    (void)snprintf(text, sizeof(text), "bug: %s:%d: %s(): this does not hold: %s", short_name(file),
                   line, function, condition);
    log_last_line("bug", text);
    abort();
}

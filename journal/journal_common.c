/* What the files that open a record share: errors, paths, counts. */

#include "journal_p.h"

#include <stdarg.h>
#include <stdio.h>

int journal_fail(char *error, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(error, JOURNAL_ERROR_SIZE, format, args);
    va_end(args);
    return status;
}

char *journal_path_in(const char *dir, const char *name)
{
    char *path;
    return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

void journal_count(_Atomic uint64_t *count, uint64_t n)
{
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

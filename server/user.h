#ifndef LASTCALL_USER_H
#define LASTCALL_USER_H

/* What a process that was started as root gives away once it has what takes root. */

#include <stdbool.h>
#include <stddef.h>

/* Become `name` for good, with its groups. Being `name` already is enough.
 * Thread: main only, before any other starts (credentials(7): Linux has them a thread).
 * Errors: false, and `error` holds one line. */
bool user_become(const char *name, char *error, size_t error_size);

#endif

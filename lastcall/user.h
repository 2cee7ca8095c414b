#ifndef LASTCALL_USER_H
#define LASTCALL_USER_H

/* Dropping root privileges, once everything that needs them is done. */

#include <stdbool.h>
#include <stddef.h>

/* Become the user `name`, with its groups, for the rest of the process's life. Being `name` already
 * is enough.
 * Thread: main only, before any other starts (credentials(7): on Linux each thread has its own).
 * Errors: false, and `error` holds one line. */
bool user_become(const char *name, char *error, size_t error_size);

/* May root make the folder `path`? It must be missing, and only root may write in the folder around
 * it: so no other user can replace it.     Thread: before start. */
bool user_may_make_folder(const char *path);

/* Make it for that user only, if only root may write in the folder around it; else do nothing. The
 * code that uses the folder reports errors. The caller is root.     Thread: before start. */
void user_make_folder(const char *name, const char *path);

#endif

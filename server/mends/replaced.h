#ifndef LASTCALL_REPLACED_H
#define LASTCALL_REPLACED_H

/* The functions of libh2o that this program replaces by name.
 *
 * libh2o calls some of its own functions through its procedure linkage table. The dynamic linker
 * searches the program before the libraries (ld.so(8)), so a definition here is the one that the
 * library calls. Each replacement is a thin wrapper in replaced.c: it calls our hooks, and the
 * library's own function through `library`.
 *
 * If the linker resolved a name elsewhere, the replacement would silently do nothing. So the
 * process checks at start that the library calls each replacement, and that it is a version that
 * the mends were written for; if not, the process logs that and does not start. library.h has the
 * table of the functions. */

#include "library.h"

/* Does the loaded libh2o call every replacement? It does not if another libh2o came first in this
 * process: linked before this library, or loaded before it with dlopen(3).
 * Thread: any, after replaced_init().     Blocks: never.
 * Errors: true; false, and `error` holds one line with the cause. */
bool replaced_check_calls(char *error, size_t error_size);

/* The same, and is `server_name`, which h2o_config_init() sets
 * from the library's version, one of those that the mends were written for?
 * Thread: main only, after replaced_init().     Blocks: never.
 * Errors: true; false, and `error` holds one line with the cause. */
bool replaced_check(h2o_iovec_t server_name, char *error, size_t error_size);

#endif

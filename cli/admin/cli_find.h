#ifndef LASTCALL_CLI_FIND_H
#define LASTCALL_CLI_FIND_H

/* The default admin socket. */

/* Search `folders` (NULL at the end; a missing folder counts as empty) for the one socket that a
 * server listens on. `pid` > 0: the socket of that process, or of a worker of that master.
 * Thread: main only.     Blocks: up to two seconds for each server that must identify itself; with
 * `pid` up to ten more for each that has not done so by then.
 * Errors: 0 and *ret_path (malloc(3)); the exit status, after the message has been printed. */
int cli_find_socket(const char *const *folders, long pid, char **ret_path);

#endif

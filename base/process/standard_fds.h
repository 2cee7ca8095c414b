#ifndef LASTCALL_STANDARD_FDS_H
#define LASTCALL_STANDARD_FDS_H

/* Descriptors 0 to 2 are standard input, output and error, also in a process whose parent has
 * closed them. If they stayed closed, the next socket or file that is opened would get such a
 * number, and the log, or what a library prints, would be written into it. */

#include <stdbool.h>

/* Open /dev/null for each of the three that is closed.
 * Thread: main only, first of all in main().     Blocks: never. */
void standard_fds_fill(void);

/* Was descriptor `fd` closed at the start?     Thread: any, after standard_fds_fill(). */
bool standard_fds_was_closed(int fd);

#endif

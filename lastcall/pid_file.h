#ifndef LASTCALL_PID_FILE_H
#define LASTCALL_PID_FILE_H

/* The pid file. It is complete at every instant, and only the process that it names removes it. If
 * only root may write in its folder, often /run, it is opened before the process drops privileges,
 * and written through that descriptor. */

#include <stdbool.h>

/* Open it as root; if it is missing or empty, write our process id into it. An existing file must
 * look like a pid file: others may be able to write in the folder, and root must not write through
 * their link.
 * Thread: main only, before start.     Errors: 0; a negative errno. */
int pid_file_open(const char *path);

/* Take the descriptor that the predecessor has opened.     Thread: main only, before start. */
void pid_file_take(int fd);

/* The descriptor; -1: it was not opened.     Thread: any, after start. */
int pid_file_fd(void);

/* All of these: Thread: any, one at a time.     Blocks: on the disk. */

/* Write our process id into it.     Errors: 0; a negative errno. */
int pid_file_write(const char *path);
bool pid_file_names_us(const char *path);
/* Remove it, if it names us: a successor may have written its own pid. */
void pid_file_remove(const char *path);

#endif

#ifndef LASTCALL_PID_FILE_H
#define LASTCALL_PID_FILE_H

/* The file that names the process: whole at every instant, and removed only by the process that it
 * names. Its folder, often /run, may be root's alone: then it is opened before root is given up,
 * and written through that descriptor. */

#include <stdbool.h>

/* Open it, before root is given up. What stands there already must be a file like one of ours: the
 * folder may be others' too, and root writes where a link leads.
 * Thread: main only, before start.     Errors: 0; a negative errno. */
int pid_file_open(const char *path);

/* A predecessor has opened it: `fd` is ours from now on.     Thread: main only, before start. */
void pid_file_take(int fd);

/* -1: it was not opened.     Thread: any, after start. */
int pid_file_fd(void);

/* All of these: Thread: any, one at a time.     Blocks: on the disk. */

/* Put our process id into it.     Errors: 0; a negative errno. */
int pid_file_write(const char *path);
bool pid_file_names_us(const char *path);
/* Ours only: a successor may have written its own by now. */
void pid_file_remove(const char *path);

#endif

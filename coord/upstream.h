#ifndef LASTCALL_UPSTREAM_H
#define LASTCALL_UPSTREAM_H

/* The one who started this process to succeed it, or to work for it: what it gave us, and the line
 * to it. */

#include <sys/types.h>

#include "inherit.h"

struct upstream {
    int fd; /* the channel; -1: nobody started us so */
    pid_t pid;
    bool is_master;      /* it outlives us: the channel stays */
    bool runs_app;       /* a master that has the application: none is ours to start */
    uint64_t generation; /* ours; 1 if nobody says */
    int stderr_fd;       /* where our words go once we are in charge; -1 */
    ino_t words_inode;   /* the pipe that they go into until then */
    int conns_fd;        /* connections come here; -1 */
    int pid_file_fd;     /* open since somebody had the right to; -1 */
    char pid_file[256];  /* its path; "": none */
    struct inheritance listeners;
};

/* Look into the environment, and take what is there: the hand-over of a predecessor, or the sockets
 * of a service manager.
 * Owner:  the caller; ends with upstream_release().     Thread: main only, before start.
 * Blocks: up to ten seconds, for the other side.
 * Errors: 0; a negative errno, and `error` holds one line; nothing is held then. */
int upstream_open(struct upstream *ret_upstream, char *error, size_t error_size);

/* From here on our words go where those of the one who started us go, and no more to itself;
 * unless standard error has become a file since.     Thread: the one that logs, or any. */
void upstream_take_stderr(struct upstream *upstream);

/* Close what nobody took.     Thread: main only. */
void upstream_release(struct upstream *upstream);

#endif

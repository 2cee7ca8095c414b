#ifndef LASTCALL_PREDECESSOR_H
#define LASTCALL_PREDECESSOR_H

/* The predecessor: the process that started this one as its successor, or a master that started it
 * as its worker. Holds what it handed over, and the channel to it. */

#include <sys/types.h>

#include "inherit.h"

struct predecessor {
    int fd; /* the channel; -1: this process has no predecessor */
    pid_t pid;
    int notify_fd;       /* a master's channel, for predecessor_notify(); never closed; -1: none */
    bool is_master;      /* it outlives us: the channel stays open */
    bool runs_app;       /* a master that has the application: do not start one */
    uint64_t generation; /* ours; 1 without a predecessor */
    uint64_t open_files; /* the limit on them that the first process of the line began with; 0: as
                          * it is */
    int stderr_fd;       /* what our standard error becomes once we serve; -1: none */
    ino_t stderr_pipe_inode; /* the pipe that it is until then */
    int conns_fd;            /* the predecessor sends connections here; -1: none */
    int pid_file_fd;         /* opened by a process that had the right to; -1: none */
    char pid_file[256];      /* its path; "": none */
    struct inheritance listeners;
};

/* Take what the environment names: the hand-over of a predecessor, or the sockets of a service
 * manager.
 * Owner:  the caller; ends with predecessor_release().     Thread: main only, before start.
 * Blocks: up to ten seconds, for the predecessor's messages.
 * Errors: 0; a negative errno, and `error` holds one line; nothing is held then. */
int predecessor_open(struct predecessor *ret_predecessor, char *error, size_t error_size);

/* Replace our standard error, a pipe to the predecessor, by the predecessor's own; unless it has
 * become a file since.     Thread: any. */
void predecessor_take_stderr(struct predecessor *predecessor);

/* For notify_through(): send a message for the service manager to the master. `predecessor` is a
 * struct predecessor. If the master does not read, the message is lost.
 * Thread: any.     Blocks: never. */
void predecessor_notify(void *predecessor, const char *text);

/* Close the descriptors that were not taken.     Thread: main only. */
void predecessor_release(struct predecessor *predecessor);

#endif

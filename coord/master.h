#ifndef LASTCALL_MASTER_H
#define LASTCALL_MASTER_H

/* The modes master and daemon: a small parent with one thread, which keeps its process id for good.
 * It holds the listeners, so that nobody is refused while no worker lives; starts the worker, and
 * another one with the same rights at SIGHUP (succession.h); replaces one that dies; passes the
 * signals on that stop the service, and its status. It reads no configuration: the worker, which
 * does, tells it before it has accepted anything what concerns the parent. An application behind
 * `--` is the parent's, too (master_app.h), and passes over restarts untouched. */

#include "restart.h"
#include "upstream.h"

struct master_config {
    struct upstream *upstream; /* what a service manager gave us is taken out of it */
    char *const *argv;
    const char *binary;
    char *const *command;      /* the application; NULL: none */
    int keep_fd;               /* -1: none */
    int ready_fd;              /* gets a byte once the first worker accepts; -1: nobody waits */
    uint64_t first_timeout_ns; /* for the first worker; later ones have restart.timeout */
};

/* Be the master until it is over; returns the exit status: the worker's, if it drained.
 * Thread: main only, before any other.     Blocks: for the life of the service. */
int master_run(const struct master_config *config);

/* Go into the background: fork(2), and have the child return -1 and its end of a pipe. The parent
 * waits for a byte in it, and returns 0; or for the child's end, and returns its status.
 * Thread: main only, before any other.     Errors: a status as above, and one line in the log. */
int master_detach(int *ret_ready_fd);

#endif

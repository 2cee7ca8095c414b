#ifndef LASTCALL_MASTER_H
#define LASTCALL_MASTER_H

/* The master: a small parent with one thread, for the modes master and daemon. Its process id never
 * changes. It keeps the listeners open, so no client is refused while there is no worker. It starts
 * the worker, at SIGHUP another one with the same rights (succession.h), and a new one if the
 * worker dies. It passes on signals that stop the service, and ends with the worker's exit status.
 * It reads no configuration: the worker sends the settings that concern the master before it
 * accepts anything. The application (`-- COMMAND`) is a child of the master (master_app.h), so
 * restarts do not touch it. */

#include "restart.h"
#include "predecessor.h"

struct master_config {
    struct predecessor *predecessor; /* the sockets of a service manager are taken out of it */
    char *const *argv;
    const char *binary;
    char *const *command;      /* the application; NULL: none */
    int keep_fd;               /* a descriptor for the workers to inherit; -1: none */
    int ready_fd;              /* gets a byte once the service is up; -1: none */
    uint64_t first_timeout_ns; /* for the first worker; later ones use restart.timeout */
    uint64_t force_after_ns;   /* until the first worker has read the configuration */
};

/* Run the master until the service ends. Returns the exit status: the worker's, if it drained.
 * Thread: main only, before any other.     Blocks: for the life of the service. */
int master_run(const struct master_config *config);

/* Go into the background with fork(2). The child returns -1, and its end of a pipe. The parent
 * waits for a byte in the pipe and returns 0; or for the child's end, and returns its exit status.
 * Thread: main only, before any other.     Errors: a status as above, and one line in the log. */
int master_detach(int *ret_ready_fd);

#endif

#ifndef LASTCALL_RESTARTER_H
#define LASTCALL_RESTARTER_H

/* The restart thread of a server. As the predecessor it starts a successor (succession.h) and hands
 * over; as the successor it sends READY and waits for COMMIT.
 *
 *     signal thread --restarter_request()--> [ mu, eventfd ] --> the thread --> coordinator
 *     coordinator's steps ------------------/                            \--> the server's ops
 *
 * The thread polls its descriptors, and never blocks elsewhere. */

#include "coord.h"
#include "restart_news.h"
#include "succession.h"
#include "predecessor.h"

struct restarter;

/* The server's callbacks, on the restart thread. None may block, except commit(). */
struct restarter_ops {
    /* Listener number `i`, as HANDOVER_LISTENER. False: there are no more.
     * Owner: the descriptor is the caller's, message_release(). */
    bool (*offer)(void *arg, size_t i, struct message *ret_message);
    /* Whether listener number `i` came from our predecessor. */
    bool (*is_inherited)(void *arg, size_t i);
    /* Add HANDOVER_TAKEN, HANDOVER_WELCOME, and the settings that a master needs. */
    void (*describe)(void *arg, struct message *message);
    /* The settings of the application, as HANDOVER_APP, for a master that has it. False: none. */
    bool (*describe_app)(void *arg, struct message *ret_message);
    /* Requests for a master's application wait, or go on: see server_hold(). */
    void (*hold)(void *arg, bool hold);
    /* Key number `i` for session tickets, as HANDOVER_TICKET_KEY; false: there are no more.
     * take_key() takes a predecessor's key.     Both may be NULL. */
    bool (*offer_key)(void *arg, size_t i, struct message *ret_message);
    void (*take_key)(void *arg, const struct message *message);
    /* This process serves now: accept, write the pid file. The callee logs errors. */
    void (*commit)(void *arg);
    /* A successor accepts; a drain follows. Idle connections of the listeners in `welcome` can be
     * sent over `conns_fd` (owned by the callee, -1: none). Listeners that are not in `taken` must
     * be closed by this process. */
    void (*hand_over)(void *arg, const uint64_t *taken, size_t taken_count, const uint64_t *welcome,
                      size_t welcome_count, int conns_fd);
    /* Write the pid file again.     May be NULL. */
    void (*reclaim)(void *arg);
    /* Open the log files again, by order of a master or a predecessor.     May be NULL. */
    void (*reopen)(void *arg);
    /* Standard error, if it is a log file; else -1. A master gets it.     May be NULL. */
    int (*log_fd)(void *arg);
    /* A successor accepts, and stops as this process does, but ends after it: files that both share
     * (socket files, the key in Redis) are the successor's to remove. */
    void (*transfer)(void *arg, const uint64_t *taken, size_t taken_count);
};

struct restarter_config {
    struct coord *coord;
    struct predecessor *predecessor; /* its channel and descriptors are taken; fd -1: none */
    struct restart_config timing;
    char *const *argv;
    const char *binary;
    int keep_fd;              /* a descriptor that the successor inherits; -1: none */
    uint64_t open_files;      /* the limit on open files before this process raised it */
    uint64_t stop_longest_ns; /* the longest that a stop takes, lame duck included */
    const char *pid_file;     /* NULL: none */
    int pid_file_fd;          /* -1: not open */
    const struct restarter_ops *ops;
    void *arg;
};

/* Start the thread. As a successor it sends READY at once, so everything else must be up.
 * Owner:  the caller; ends with restarter_stop(). The config's pointers are borrowed until then.
 * Thread: main only, before coord_run().     Errors: 0; a negative errno. */
int restarter_start(const struct restarter_config *config, struct restarter **ret_restarter);

/* Request a restart. The outcome is in the log.     Thread: any.     Blocks: never. */
void restarter_request(struct restarter *restarter, const char *trigger, const char *detail);

/* The outcomes of restarts so far.     Thread: any.     Blocks: never. */
void restarter_get_outcomes(struct restarter *restarter, struct restart_outcomes *ret_outcomes);

/* This process has opened its log files again, because they were moved. The successor, which may
 * have the old ones open, does the same, and the master. NULL is allowed.
 * Thread: any.     Blocks: never. */
void restarter_logs_reopened(struct restarter *restarter);

/* Wait until this process may end. No COMMIT is sent from here on. It waits for a successor that
 * got COMMIT to send SETTLED, or to end; and for a successor that stops with this process to end,
 * or to report that its drain was called off, because a service manager takes our end for the end
 * of the service. Returns `status`, or the successor's if that is worse. NULL is allowed. Thread:
 * main only, after coord_run(). Blocks: until then. A successor that does not send SETTLED is
 * killed at the deadline of the drain, or after half a second if that has passed. A successor that
 * stops gets as long as a stop can take. After another signal (restarter_hurry(), or a forced
 * drain), which is passed on, half a second for each. */
int restarter_leave(struct restarter *restarter, int status);

/* A stop signal came after the drain. NULL is allowed.     Thread: any. */
void restarter_hurry(struct restarter *restarter);

/* Stop and join the thread. NULL is allowed.     Thread: main only, after coord_run(). */
void restarter_stop(struct restarter *restarter);

#endif

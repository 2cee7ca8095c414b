#ifndef LASTCALL_RESTARTER_H
#define LASTCALL_RESTARTER_H

/* The thread that sees to restarts in a server: as the one who will be followed (it starts the
 * successor, see succession.h), and as the one who follows (it says READY, and waits for COMMIT).
 *
 *     signal thread --restarter_request()--> [ mu, eventfd ] --> the thread --> coordinator
 *     coordinator's steps ------------------/                            \--> the server's ops
 *
 * The thread polls: nothing it does waits for anybody. */

#include "coord.h"
#include "succession.h"
#include "upstream.h"

struct restarter;

/* What it asks of the server; called on its thread, except for commit's answer none may block. */
struct restarter_ops {
    /* Listener number `i`, as HANDOVER_LISTENER. False: there are no more. */
    bool (*offer)(void *arg, size_t i, struct handover_message *ret_message);
    /* Whether listener number `i` came from our predecessor. */
    bool (*is_inherited)(void *arg, size_t i);
    /* Add HANDOVER_TAKEN and HANDOVER_WELCOME, and what a master wants to know of our settings. */
    void (*describe)(void *arg, struct handover_message *message);
    /* What a master that has the application wants to know of it, as HANDOVER_APP. False: nothing.
     */
    bool (*describe_app)(void *arg, struct handover_message *ret_message);
    /* Requests for the application, which a master has, are to wait or go on: see server_hold(). */
    void (*hold)(void *arg, bool hold);
    /* Key number `i` for session tickets, as HANDOVER_TICKET_KEY; false: there are no more. And one
     * that a predecessor had.     Both may be NULL. */
    bool (*offer_key)(void *arg, size_t i, struct handover_message *ret_message);
    void (*take_key)(void *arg, const struct handover_message *message);
    /* We are in charge: accept, put our name into the pid file. What goes wrong is logged. */
    void (*commit)(void *arg);
    /* A successor accepts. `conns_fd` (owned by the callee, -1: none) takes the connections that
     * came in by a listener of `welcome`; listeners that are not `taken` are ours to close. The
     * drain that follows asks for it. */
    void (*followed)(void *arg, const uint64_t *taken, size_t taken_count, const uint64_t *welcome,
                     size_t welcome_count, int conns_fd);
    /* Put our name into the pid file again.     May be NULL. */
    void (*reclaim)(void *arg);
    /* A successor accepts, and stops as this process does, but later: what bears the name of both
     * of us is its own to remove. */
    void (*bequeath)(void *arg, const uint64_t *taken, size_t taken_count);
};

struct restarter_config {
    struct coord *coord;
    struct upstream *upstream; /* its channel and descriptors are taken; fd -1: nobody */
    struct restart_config timing;
    char *const *argv;
    const char *binary;
    int keep_fd;              /* -1: none */
    uint64_t stop_longest_ns; /* a stop takes no longer, lame duck and all */
    const char *pid_file;     /* NULL: none */
    int pid_file_fd;          /* -1: it is not held open */
    const struct restarter_ops *ops;
    void *arg;
};

/* Start the thread. As a successor it says READY at once: everything else must be up.
 * Owner:  the caller; ends with restarter_stop(). The config's pointers are borrowed until then.
 * Thread: main only, before coord_run().     Errors: 0; a negative errno. */
int restarter_start(const struct restarter_config *config, struct restarter **ret_restarter);

/* Ask for a restart; what becomes of it is in the log.     Thread: any.     Blocks: never. */
void restarter_request(struct restarter *restarter, const char *trigger, const char *detail);

/* How often this service was started anew, this process included; 1 at first.     Thread: any. */
uint64_t restarter_generation(const struct restarter *restarter);

/* Wait until nothing is under way for which this process is needed: a successor that was told to
 * accept has said that it does, or is gone; and where that was told to stop with us, it has ended
 * (or serves on: that was called off), since a manager takes our end for that of the service. It is
 * told to accept no more from here on. Returns `status`, or the successor's if that says more. NULL
 * is allowed.     Thread: main only, after coord_run().
 * Blocks: as long as that takes. One that has not said that it accepts is killed at the deadline of
 * the drain, or in half a second where that is over; one that does is waited for as long as a stop
 * may take at most. A signal (restarter_hurry(), or a second one before) is passed on, and then it
 * is half a second each. */
int restarter_leave(struct restarter *restarter, int status);

/* A signal has come behind the drain. NULL is allowed.     Thread: any. */
void restarter_hurry(struct restarter *restarter);

/* Stop and join the thread. NULL is allowed.     Thread: main only, after coord_run(). */
void restarter_stop(struct restarter *restarter);

#endif

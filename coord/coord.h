#ifndef LASTCALL_COORD_H
#define LASTCALL_COORD_H

/* The drain coordinator. It decides when this process ends.
 *
 *     signal thread --coord_signal()--\
 *     loops, pool ----coord_poke()-----+--> [ mu, cond ] --> coord_run(), on the main thread:
 *     watchers, admin API-------------/                      look, decide (drain.c), act, sleep
 *
 * It owns the phase (phase.h has the graph), sleeps on one condition variable, and reaches the
 * server only through the table of callbacks below. It sleeps with pthread_cond_timedwait on
 * CLOCK_MONOTONIC, so a step of the wall clock moves no deadline.
 *
 * Guarantees: one function writes the phase, and every step is logged; no poke is lost (see poke
 * note, coord_p.h); after the deadline coord_run() returns, whatever the server does, as long as
 * the callbacks keep their own time limits. It does not free, close or join anything. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "drain.h"
#include "exit_status.h"
#include "pool.h"

/* Counts of the server, summed over its loops. */
struct coord_census {
    unsigned listeners; /* still open */
    uint64_t active;    /* requests, from complete until their last byte is handed to the kernel */
    uint64_t connections; /* open, lingering ones included */
    uint64_t lingering;   /* among those: answered, waiting until the client has read the answer */
    uint64_t answered;    /* requests answered since the start */
    uint64_t accepted;    /* connections since the start */
    uint64_t idle_released; /* idle connections that the drain has closed */
    uint64_t handed_over;   /* connections that a successor took */
    uint64_t tunnels_told;  /* tunnels that the drain ended, both sides having a Close frame */
    uint64_t tunnels_cut;   /* tunnels that it cut */
    uint64_t streams_ended; /* event streams that it ended between two events */
    uint64_t given_up;      /* requests that a limit of the server cut during the drain */
    uint64_t tasks;         /* work that is no request, and that the drain waits for */
    uint64_t abandoned; /* handlers whose request is gone: running, or returned and not yet handled
                           by the loop */
};

/* One request that the drain waits for, or that could not be finished. */
struct coord_request {
    char *method; /* the list owns it and the other texts */
    char *path;
    char *authority;
    char *peer;
    char *id;          /* of `request-id`; NULL: it has none */
    const char *state; /* "unread", "receiving", "held" (until the application answers), "inline",
                          "queued", "running", "responding", "kept" (the handler has returned, and
                          the answer comes later) or "abandoned" (the client left, the handler
                          still runs) */
    uint64_t age_ns;
    uint64_t body_bytes; /* of the request, as far as received */
    uint64_t sent_bytes; /* of the response's body */
};

struct coord_requests {
    struct coord_request *items;
    size_t count;
    size_t left_out; /* not listed: too many, or no memory */
};

/* Free the texts and the array. A zeroed list is allowed.     Thread: the owner's. */
void coord_requests_release(struct coord_requests *list);

/* What asked for a drain. */
struct coord_trigger {
    char name[24];   /* one word */
    char detail[96]; /* why, or for whom; may be "" */
    uint64_t at_ns;
};

#define COORD_TRIGGERS_MAX 8

/* The state of the drain at one instant. */
struct coord_status {
    enum coord_phase phase;
    bool is_final;                    /* the drain cannot be called off, whatever the phase */
    char final_by[24];                /* the trigger that made it so */
    bool handed_over;                 /* a successor has taken over */
    bool revocable;                   /* a drain could be called off, see coord_undrain() */
    bool forced;                      /* a second signal has come */
    bool stands_by;                   /* another process is in charge */
    uint64_t entered_ns[PHASE_COUNT]; /* 0: never entered */
    uint64_t lame_duck_until_ns;      /* CLOCK_NEVER outside of LAME_DUCK */
    uint64_t deadline_at_ns;          /* the last deadline; CLOCK_NEVER before CLOSING */
    struct drain_config drain;        /* the settings of this drain, or of the next one */
    struct coord_trigger triggers[COORD_TRIGGERS_MAX]; /* of this drain; the first one began it */
    size_t trigger_count;
    size_t triggers_left_out;
    struct coord_census begin; /* when the drain began; zeroed before */
    struct coord_census end;   /* zeroed before DONE */
    uint64_t jobs_left;        /* in the pool at DONE; 0 before */
    uint64_t requested_ns;     /* when the drain was requested; 0: it was not */
    uint64_t unfinished;       /* requests on record as unfinished; 0 before the end of ABORTING */
    int exit_status;           /* of the process; -1 before DONE */
};

/* What the coordinator asks the server to do. All are called on the coordinator's thread. */
struct coord_server_ops {
    /* From now on (or no longer) add `Connection: close` to every answer, and answer 503 to
     * readiness checks. Must not block. */
    void (*lame_duck)(void *server, bool on);
    /* Begin to close every listener without resetting a connection. Must not block; poke when done.
     */
    void (*close_listeners)(void *server);
    /* Instead of close_listeners, when a successor accepts: close only the listeners that it has
     * not taken, leave the others to it, and let it take the idle connections. Must not block; poke
     * when done. NULL: coord_request_handover() is never called. */
    void (*hand_over)(void *server);
    /* Announce the end to open connections (GOAWAY), evenly over `spread_ns`. Must not block. */
    void (*finish)(void *server, uint64_t spread_ns);
    /* The idle grace is over: close every idle connection, evenly over `spread_ns`. Must not block.
     */
    void (*release_idle)(void *server, uint64_t spread_ns);
    /* Ask what has no end of its own, such as tunnels, to end where nothing is torn, evenly over
     * `spread_ns`; each has `moment_ns` for that. Must not block. NULL: there is nothing such. */
    void (*leave)(void *server, uint64_t spread_ns, uint64_t moment_ns);
    /* The deadline of these classes (bits, 1 << enum drain_class) has passed, and that of others
     * has not: log their requests, count them as given_up, cut them, and no longer count them as
     * active or connected. OTHER includes connections without a request. Must not block. */
    void (*give_up)(void *server, unsigned classes);
    /* List the requests that are not yet answered, oldest first. Takes almost no time, but may
     * block for 50 ms (debug builds: 1 s) if a loop does not respond: the deadline comes first.
     * With `freeze`: send no more answers, raise the cancel flag of the jobs, and wait up to half a
     * second longer for a loop that gets no processor. */
    void (*list_requests)(void *server, bool freeze, struct coord_requests *ret_list);
    /* Close every connection at once. Must not block. */
    void (*cut)(void *server);
    /* Must not block. */
    void (*census)(void *server, struct coord_census *ret_census);
};

struct coord_config {
    const struct coord_server_ops *ops;
    void *server;
    struct drain_config drain;
    const char *report_path; /* path of the JSON report; NULL: none */
    uint64_t progress_ns;    /* how often to log what the drain waits for; 0: never */
};

struct coord;

/* Owner:  the caller; ends with coord_destroy(). The config's pointers are borrowed until then.
 * Thread: any.     Blocks: never.     Errors: 0 and *ret_coord; -ENOMEM. */
int coord_create(const struct coord_config *config, struct coord **ret_coord);

/* NULL is allowed.     Thread: after coord_run() has returned and every other user is joined. */
void coord_destroy(struct coord *coord);

/* Count the jobs of `pool`, too. Its on_idle must poke this coordinator.
 * Thread: before coord_run(). */
void coord_attach_pool(struct coord *coord, struct pool *pool);

/* What happened to the requests that the process could not finish. */
struct coord_archived {
    uint64_t count;  /* moved to the archive */
    uint64_t left;   /* still in the in-flight record; the next start moves them */
    char path[4096]; /* the archive's file; "": nothing was moved */
};

/* Call `archive` when the drain is cut short. It moves every unfinished request to the archive:
 * `forced` tells why (a second signal; else the deadline), `loops_are_quiet` that no loop has a
 * connection or a request any more. It returns before CLOCK_MONOTONIC reads `until_ns`. It is
 * called on the coordinator's thread.     Thread: before coord_run(). */
void coord_attach_archive(struct coord *coord,
                          void (*archive)(void *arg, bool forced, bool loops_are_quiet,
                                          uint64_t until_ns, struct coord_archived *ret_archived),
                          void *arg);

/* Run the coordinator until the drain is over; returns the exit status.
 * Thread: main only, once.     Blocks: for the life of the server. */
int coord_run(struct coord *coord);

/* Begin the drain; later requests are noted and change nothing. `trigger` names what asked (one
 * word), `detail` tells more (may be "").     Thread: any.     Blocks: never. */
void coord_request_drain(struct coord *coord, const char *trigger, const char *detail);

/* The same, with another deadline than the configured ones; 0 and longer ones are allowed,
 * CLOCK_NEVER means the configured ones. It is one deadline for the whole drain: no class (drain.h)
 * has a later one. Only the request that begins the drain sets it. Returns whether this one did.
 * Thread: any.     Blocks: never. */
bool coord_request_drain_within(struct coord *coord, const char *trigger, const char *detail,
                                uint64_t deadline_ns);

/* Begin the drain, or join one; whichever it is, it ends when CLOCK_MONOTONIC reads `until_ns`, or
 * at its own deadline if that is earlier (drain_limit_at()); CLOCK_NEVER: at its own deadline.
 * Thread: any.     Blocks: never. */
void coord_request_drain_until(struct coord *coord, const char *trigger, const char *detail,
                               uint64_t until_ns);

/* Cut the drain short, as a second signal does; begin one if there is none. `trigger` names what
 * asked.     Thread: any.     Blocks: never. */
void coord_force(struct coord *coord, const char *trigger);

/* The requests that could not be finished; borrowed until coord_destroy(). Those that a limit of
 * the server cut earlier (census.given_up) are not among them.     Thread: any, at DONE. */
const struct coord_requests *coord_get_unfinished(struct coord *coord);

/* The same, because something has ended that the server cannot do without. A drain that it begins
 * and that ends clean has the exit status `status` instead of 0. Neither that drain nor one that
 * was under way can be called off.     Thread: any.     Blocks: never. */
bool coord_request_drain_ending(struct coord *coord, const char *trigger, const char *detail,
                                int status);

/* The process that started this one was asked to stop, and passes that on: `signals` is the number
 * of stop signals so far, in total (see coord_set_predecessor(); the second one forces).
 * `is_final`: it closes listeners that both share, so this drain has no lame duck and cannot be
 * called off, nor can one that was under way.     Thread: any.     Blocks: never. */
void coord_request_stop(struct coord *coord, const char *trigger, const char *detail,
                        unsigned signals, bool is_final);

enum coord_handover {
    COORD_HANDOVER_BEGUN,
    COORD_HANDOVER_JOINED,   /* a drain was requested before, and becomes the hand-over */
    COORD_HANDOVER_TOO_LATE, /* the listeners are closing already, including the shared ones */
};

/* A successor accepts: begin the drain that follows, without lame duck, since clients need not go
 * elsewhere. The successor keeps the listeners that it took. If this call begins the drain, it
 * reports `successor` to the service manager (0: a master does that), and this process sends the
 * manager nothing more. If a drain was under way, the service is stopping, and this process waits
 * for both ends, see restarter_leave(). The drain cannot be called off.
 * Thread: any.     Blocks: never. */
enum coord_handover coord_request_handover(struct coord *coord, const char *detail,
                                           pid_t successor);

/* The process that started this one and passes signals on to it. A program that signals both
 * processes (a service manager signals all processes of a service) has sent one signal, not two.
 * Thread: main only, before coord_run(). */
void coord_set_predecessor(struct coord *coord, pid_t predecessor);

/* This process is not in charge: the one that started it serves, and has lent it the listeners. A
 * drain that is requested in this state ends this process, has no lame duck, cannot be called off,
 * and is not reported to a service manager.     Thread: main only, before coord_run(). */
void coord_stand_by(struct coord *coord);

/* This process is in charge from now on. Returns false if a drain was requested before: then the
 * process must not serve, and ends.     Thread: any.     Blocks: never. */
bool coord_take_charge(struct coord *coord);

/* A stop signal arrived: the first one begins the drain, or joins one that another trigger began;
 * the second one cuts it short. Signals within drain.force-after of the last one that counted are
 * the same order; the predecessor has counted those that it passes on. Returns how many orders
 * there were since the last undrain (after the third the caller should leave by _exit(2)), or one
 * of the two below.
 * Thread: any.     Blocks: on the log. */
#define COORD_SIGNAL_SAME (-1) /* not a new order: do nothing */
#define COORD_SIGNAL_LATE 0    /* a new order, but the drain is over */
int coord_signal(struct coord *coord, int signo, pid_t sender);

/* Call the drain off. Returns false after the point of no return, the step into CLOSING.
 * Thread: any.     Blocks: never. */
bool coord_undrain(struct coord *coord);

/* Something changed that the coordinator may wait for. Its next look sees all that the caller wrote
 * before this call.     Thread: any.     Blocks: never. */
void coord_poke(struct coord *coord);

/* Thread: any.     Blocks: never. */
void coord_get_status(struct coord *coord, struct coord_status *ret_status);

/* Call `stepped` after each step of the phase, and after a trigger that came later than the first;
 * with the phase at that time. It is called on the coordinator's thread, without any lock, and must
 * not block. At most COORD_STEPS_MAX callbacks.     Thread: before coord_run(). */
#define COORD_STEPS_MAX 8
void coord_on_step(struct coord *coord, void (*stepped)(void *arg, enum coord_phase phase),
                   void *arg);

/* Thread: any. */
enum coord_phase coord_get_phase(struct coord *coord);

/* Wait until the phase is `phase` or later, or until CLOCK_MONOTONIC reads `until_ns`.
 * Thread: any but the coordinator's.     Blocks: yes.     Errors: 0; -ETIMEDOUT. */
int coord_wait_phase(struct coord *coord, enum coord_phase phase, uint64_t until_ns);

#endif

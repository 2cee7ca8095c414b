#ifndef LASTCALL_COORD_H
#define LASTCALL_COORD_H

/* The drain coordinator: the one who decides when this process ends.
 *
 *     signal thread --coord_signal()--\
 *     loops, pool ----coord_poke()-----+--> [ mu, cond ] --> coord_run(), on the main thread:
 *     watchers, admin API-------------/                      look, decide (drain.c), act, sleep
 *
 * It owns the phase (phase.h has the graph), sleeps on one condition variable, and reaches the
 * server through the table of callbacks below, never through a header of the server. It sleeps with
 * pthread_cond_timedwait on CLOCK_MONOTONIC, so a step of the wall clock moves no deadline.
 *
 * Guarantees: the phase is written in one place and every step is logged; no poke is lost (see
 * "poke note" in coord.c); past the deadline coord_run() returns, whatever the server does, as long
 * as the callbacks keep their own bounds. It does not free, close or join anything. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "drain.h"
#include "pool.h"

struct journal;

/* The status of the process. The last three are sysexits(3), as h2o uses them. */
enum coord_exit {
    COORD_EXIT_CLEAN = 0,
    COORD_EXIT_DEADLINE = 3, /* the deadline passed, unfinished requests are on record */
    COORD_EXIT_FORCED = 4,   /* a second signal */
    COORD_EXIT_USAGE = 64,
    COORD_EXIT_UNAVAILABLE = 69,
    COORD_EXIT_CONFIG = 78,
};

/* Counts of the server, summed over its loops. */
struct coord_census {
    unsigned listeners;     /* still open */
    uint64_t active;        /* requests from whole to last byte handed to the kernel */
    uint64_t connections;   /* open, lingering ones included */
    uint64_t lingering;     /* of them: answered, waiting for the peer to have read it */
    uint64_t answered;      /* requests ended since the start, aborted ones left out */
    uint64_t accepted;      /* connections since the start */
    uint64_t idle_released; /* connections that the drain let go while they idled */
    uint64_t handed_over;   /* connections that a successor has taken */
    uint64_t given_up;      /* requests that a limit of the server's own cut in the drain */
};

/* One request that is being waited for, or could not be finished. */
struct coord_request {
    char *method; /* owned by the list, as the other texts */
    char *path;
    char *authority;
    char *peer;
    const char *state; /* "unread", "receiving", "held" (until the application answers), "inline",
                          "queued", "running", "responding" or "abandoned" (the client left, the
                          handler was still at it) */
    uint64_t age_ns;
    uint64_t body_bytes; /* of the request, as far as it came */
    uint64_t sent_bytes; /* of the response's body */
};

struct coord_requests {
    struct coord_request *items;
    size_t count;
    size_t left_out; /* beyond the list's bound, or no memory; counted, never silent */
};

/* Free the texts and the array. A zeroed list is allowed.     Thread: whoever owns the list. */
void coord_requests_release(struct coord_requests *list);

/* Who or what asked for a drain. */
struct coord_trigger {
    char name[24];   /* one word */
    char detail[96]; /* who, or why; may be "" */
    uint64_t at_ns;
};

#define COORD_TRIGGERS_MAX 8

/* Where the process stands, at one instant. */
struct coord_status {
    enum coord_phase phase;
    bool is_final;                    /* the drain can not be called off, whatever the phase */
    char final_by[24];                /* the trigger that made it so */
    bool handed_over;                 /* a successor has taken over */
    bool revocable;                   /* a drain could be called off, see coord_undrain() */
    bool forced;                      /* a second signal has come */
    bool stands_by;                   /* somebody else is in charge */
    uint64_t entered_ns[PHASE_COUNT]; /* 0: never entered */
    uint64_t lame_duck_until_ns;      /* CLOCK_NEVER outside of LAME_DUCK */
    uint64_t deadline_at_ns;          /* the last of all; CLOCK_NEVER before CLOSING */
    struct drain_config drain;        /* what holds for this drain, or would for the next */
    struct coord_trigger triggers[COORD_TRIGGERS_MAX]; /* of this drain; the first won */
    size_t trigger_count;
    size_t triggers_left_out;
    struct coord_census begin; /* when the drain began; zeroed before */
    uint64_t unfinished;       /* requests that are on record as such; 0 before ABORTING is over */
    int exit_status;           /* of the process; -1 until it is decided, in DONE */
};

/* What the coordinator asks of the server. All are called on the coordinator's thread. */
struct coord_server_ops {
    /* From now on (or no longer) say `Connection: close` to everyone, and not ready to who asks.
     * Must not block. */
    void (*lame_duck)(void *server, bool on);
    /* Begin to close every listener without resetting anyone. Must not block; poke when done. */
    void (*close_listeners)(void *server);
    /* In place of close_listeners, when a successor accepts: close only what it has not taken,
     * leave the rest to it, and let it have the connections that idle. Must not block; poke when
     * done. NULL: nobody calls coord_request_handover(). */
    void (*hand_over)(void *server);
    /* Tell open connections that this is the end: GOAWAY, evenly over `spread_ns`. Must not block.
     */
    void (*finish)(void *server, uint64_t spread_ns);
    /* Idle-grace is over: let go of every connection that only idles, evenly over `spread_ns`. Must
     * not block. */
    void (*release_idle)(void *server, uint64_t spread_ns);
    /* The deadline of these classes (bits, 1 << enum drain_class) has come, and others are still
     * waited for: name and count what is in them now, as given_up, cut it, and count it no more as
     * active or connected. With OTHER among them, also what has no request is cut. Must not block.
     */
    void (*give_up)(void *server, unsigned classes);
    /* List the requests not yet answered, oldest first. Takes no time, as a rule, and may block for
     * 250 ms where the loops get no processor: a name is worth more than to be punctual then.
     * With `freeze`: no answer leaves any more, and jobs are told to give up. */
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
    const char *report_path; /* JSON report at the end; NULL: none */
    uint64_t progress_ns;    /* how often a line names what is waited for; 0: never */
};

struct coord;

/* Owner:  the caller; ends with coord_destroy(). The config's pointers are borrowed until then.
 * Thread: any.     Blocks: never.     Errors: 0 and *ret_coord; -ENOMEM. */
int coord_create(const struct coord_config *config, struct coord **ret_coord);

/* A NULL coord is allowed.     Thread: after coord_run() has returned and every other user is
 * joined. */
void coord_destroy(struct coord *coord);

/* Count `pool`'s jobs too. Its on_idle must poke this coordinator.     Thread: before coord_run().
 */
void coord_attach_pool(struct coord *coord, struct pool *pool);

/* Archive what is in flight when the drain is cut short; NULL is allowed.
 * Thread: before coord_run(). */
void coord_attach_journal(struct coord *coord, struct journal *journal);

/* Be the coordinator until it is over; returns the exit status.
 * Thread: main only, once.     Blocks: for the life of the server. */
int coord_run(struct coord *coord);

/* Begin the drain; a later request is noted and changes nothing. `trigger` names what asked (one
 * word), `detail` who or why (may be "").     Thread: any.     Blocks: never. */
void coord_request_drain(struct coord *coord, const char *trigger, const char *detail);

/* The same, with another deadline than the configured ones; 0 and later ones than those are
 * allowed, and CLOCK_NEVER stands for the configured ones. It is one for the whole drain: no class
 * (drain.h) has a later one then. Only the request that begins the drain sets it. Returns whether
 * this one did. Thread: any.     Blocks: never. */
bool coord_request_drain_within(struct coord *coord, const char *trigger, const char *detail,
                                uint64_t deadline_ns);

/* The same, because something has ended without which the server is of no use; a drain that it
 * begins, and that ends clean, has `status` as its exit status in place of 0. Neither that drain
 * nor one that was under way can be called off then. Thread: any.     Blocks: never. */
bool coord_request_drain_ending(struct coord *coord, const char *trigger, const char *detail,
                                int status);

/* The one who started this process was told to stop, and passes it on: as `signals` signals, those
 * included that it has passed on before (see coord_set_upstream(); the second one forces).
 * `is_final`: it closes listeners that we share; so this drain has no lame duck and can not be
 * called off, nor can one that was under way.     Thread: any.     Blocks: never. */
void coord_request_stop(struct coord *coord, const char *trigger, const char *detail,
                        unsigned signals, bool is_final);

enum coord_handover {
    COORD_HANDOVER_BEGUN,
    COORD_HANDOVER_JOINED,   /* a drain had been asked for before: it goes on as this one */
    COORD_HANDOVER_TOO_LATE, /* its listeners are closing already, those that we share included */
};

/* A successor accepts: begin the drain that follows, without lame duck, since nobody needs to look
 * elsewhere; it leaves to the successor what that has taken. Where this begins it, the service
 * manager is told of `successor` (0: a master does that), and nothing more: else it is stopping the
 * service, and has to wait for both, see restarter_leave(). Can not be called off.
 * Thread: any.     Blocks: never. */
enum coord_handover coord_request_handover(struct coord *coord, const char *detail,
                                           pid_t successor);

/* The one who started this process, and passes signals on: whoever sends one to both of us (a
 * service manager to all processes of a service, say) has sent one, and not two.
 * Thread: main only, before coord_run(). */
void coord_set_upstream(struct coord *coord, pid_t upstream);

/* This process is not in charge: whoever started it serves, and has lent it the listeners. A drain
 * that is asked for then ends it, without lame duck, can not be called off, and is nothing that a
 * service manager should hear of.     Thread: main only, before coord_run(). */
void coord_stand_by(struct coord *coord);

/* From here on it is. Returns false if a drain came first: it must not serve then, and ends.
 * Thread: any.     Blocks: never. */
bool coord_take_charge(struct coord *coord);

/* A signal asks: the first begins the drain, or joins one that something else began; the second
 * cuts it short. Returns how many there were since the last undrain: at the third, the caller
 * should leave by _exit(2).     Thread: any.     Blocks: never. */
unsigned coord_signal(struct coord *coord, int signo, pid_t sender);

/* Call the drain off. Returns false past the point of no return, which is the step into CLOSING.
 * Thread: any.     Blocks: never. */
bool coord_undrain(struct coord *coord);

/* Something changed that the coordinator may wait for.     Thread: any.     Blocks: never.
 * Whatever the caller wrote before is seen by the look that follows. */
void coord_poke(struct coord *coord);

/* Thread: any.     Blocks: never. */
void coord_get_status(struct coord *coord, struct coord_status *ret_status);

/* Have `stepped` called behind each step of the phase, and behind a trigger that came later than
 * the first; with the phase that holds then. It is called on the coordinator's thread, without any
 * lock, and must not block. At most COORD_STEPS_MAX may ask.     Thread: before coord_run(). */
#define COORD_STEPS_MAX 8
void coord_on_step(struct coord *coord, void (*stepped)(void *arg, enum coord_phase phase),
                   void *arg);

/* Thread: any. */
enum coord_phase coord_get_phase(struct coord *coord);

/* Wait until the phase is `phase` or later, or until CLOCK_MONOTONIC reads `until_ns`.
 * Thread: any but the coordinator's.     Blocks: yes.     Errors: 0; -ETIMEDOUT. */
int coord_wait_phase(struct coord *coord, enum coord_phase phase, uint64_t until_ns);

#endif

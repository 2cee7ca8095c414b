#ifndef LASTCALL_DRAIN_H
#define LASTCALL_DRAIN_H

/* The rules of the drain, and nothing else: no thread, no clock, no descriptor. The coordinator
 * (coord.c) tells it the time and what it sees, and is told what to do next. So every rule can be
 * tested with numbers. */

#include "clock.h"
#include "phase.h"

/* What a drain waits for may have deadlines of its own: some things are worth waiting longer for,
 * others end only when somebody ends them. A response that has not begun, and all that is no
 * request, is of the class OTHER; the general deadline is its. */
#define DRAIN_CLASS_LIST(X)                                                                        \
    X(OTHER, "others")                                                                             \
    X(TUNNEL, "tunnels") /* a connection that was upgraded, as WebSocket is */                     \
    X(STREAM, "streams") /* a response that has begun */                                           \
    X(UPLOAD, "uploads") /* a request whose body is still arriving */

#define DRAIN_CLASS_ENUM(id, name) DRAIN_##id,
enum drain_class { DRAIN_CLASS_LIST(DRAIN_CLASS_ENUM) DRAIN_CLASSES };
#undef DRAIN_CLASS_ENUM

struct drain_config {
    uint64_t
        lame_duck_ns; /* stay ready-to-leave so long before the listeners close; 0: not at all */
    uint64_t deadline_ns;   /* from CLOSING: the general deadline */
    uint64_t idle_grace_ns; /* how long an idle connection may still begin a request */
    uint64_t spread_ns;     /* let go of what idles over so long, not at once; 0: at once */
    uint64_t class_ns[DRAIN_CLASSES]; /* deadlines of classes, from CLOSING; 0: the general one */
};

/* What the coordinator sees at a look. */
struct drain_view {
    bool listeners_closed;
    bool quiet;    /* nothing active in loops, no connection open */
    bool jobs;     /* the pool is at work */
    bool archived; /* ABORTING has done its work */
};

enum drain_cause { DRAIN_CAUSE_NONE, DRAIN_CAUSE_QUIET, DRAIN_CAUSE_DEADLINE, DRAIN_CAUSE_FORCED };

struct drain {
    struct drain_config config; /* immutable after drain_init */
    enum coord_phase phase;
    enum drain_cause cause; /* why the drain ended, or is being cut short */
    bool requested;
    bool forced;
    bool idle_released;
    uint64_t entered_ns[PHASE_COUNT]; /* 0: never entered */
    uint64_t requested_ns;
    unsigned given_up;                   /* bits of the classes whose deadline has come */
    uint64_t deadline_at_ns;             /* the last one of all; CLOCK_NEVER before CLOSING */
    uint64_t class_at_ns[DRAIN_CLASSES]; /* of each class; CLOCK_NEVER before CLOSING */
    uint64_t grace_at_ns;                /* CLOCK_NEVER before CLOSING */
};

/* What to do now. */
struct drain_advice {
    enum coord_phase next; /* the phase to be in; equal to the present one: stay */
    bool release_idle;     /* idle-grace is over */
    unsigned give_up; /* bits of classes: what is in one of them now is not waited for any more */
};

/* Thread: all of these: the caller's own lock or thread. */
void drain_init(struct drain *drain, const struct drain_config *config, uint64_t now_ns);

/* Someone wants the drain to begin. The first request counts; returns false for later ones. */
bool drain_request(struct drain *drain, uint64_t now_ns);

/* Take a request back. Returns false past the point of no return. */
bool drain_undo(struct drain *drain);
bool drain_can_undo(const struct drain *drain); /* what drain_undo() would return */

/* Cut it short: archive, close, leave. */
void drain_force(struct drain *drain);

struct drain_advice drain_look(struct drain *drain, uint64_t now_ns, const struct drain_view *view);

/* Write the phase, the only function that does. The step must be in the table. */
void drain_enter(struct drain *drain, enum coord_phase next, uint64_t now_ns);

/* When a drain with that configuration is over at the latest, from CLOSING: the longest of its
 * deadlines. */
uint64_t drain_longest_ns(const struct drain_config *config);

/* Let the whole of it take `longest_ns`: the general deadline becomes that, and none is later. */
void drain_limit(struct drain *drain, uint64_t longest_ns);

/* Over which time may what idles be let go of, from now on? It ends early enough before the
 * deadline for the last of them to be gone. */
uint64_t drain_spread_ns(const struct drain *drain, uint64_t now_ns);

/* `streams`, for a log line.     Thread: any. */
const char *drain_class_name(enum drain_class class);

/* When must the coordinator look again, if nothing else happens? CLOCK_NEVER: not for the clock. */
uint64_t drain_next_look_ns(const struct drain *drain);

#endif

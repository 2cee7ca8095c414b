#ifndef LASTCALL_DRAIN_H
#define LASTCALL_DRAIN_H

/* The rules of the drain: no thread, no clock, no descriptor. The coordinator (coord.c) passes in
 * the time and what it sees, and gets back what to do next. So every rule can be tested with
 * numbers. */

#include "clock.h"
#include "phase.h"

/* Classes of what a drain waits for. Each may have a deadline of its own: an upload may deserve
 * more time, a tunnel ends only when its peer ends it. A response that has not begun, and a
 * connection without a request, is of the class OTHER, which has the general deadline. */
#define DRAIN_CLASS_LIST(X)                                                                        \
    X(OTHER, "others")                                                                             \
    X(TUNNEL, "tunnels") /* an upgraded connection, such as WebSocket; an event stream */          \
    X(STREAM, "streams") /* a response that has begun */                                           \
    X(UPLOAD, "uploads") /* a request whose body is still arriving */

#define DRAIN_CLASS_ENUM(id, name) DRAIN_##id,
enum drain_class { DRAIN_CLASS_LIST(DRAIN_CLASS_ENUM) DRAIN_CLASSES };
#undef DRAIN_CLASS_ENUM

struct drain_config {
    uint64_t
        lame_duck_ns;     /* how long lame duck lasts before the listeners close; 0: no lame duck */
    uint64_t deadline_ns; /* from CLOSING: the general deadline */
    uint64_t idle_grace_ns; /* how long idle connections stay open for one more request */
    uint64_t
        spread_ns; /* spread the close of idle connections over this time; 0: close all at once */
    uint64_t class_ns[DRAIN_CLASSES]; /* the classes' deadlines, from CLOSING; 0: the general one */
    uint64_t force_after_ns; /* stop signals closer together than this count as one, see stops.h;
                                CLOCK_NEVER: no signals come */
};

/* What the coordinator sees when it looks. */
struct drain_view {
    bool listeners_closed;
    bool quiet;    /* no request in the loops, no connection open */
    bool jobs;     /* jobs are queued or running in the pool */
    bool archived; /* ABORTING has archived and cut */
};

enum drain_cause { DRAIN_CAUSE_NONE, DRAIN_CAUSE_QUIET, DRAIN_CAUSE_DEADLINE, DRAIN_CAUSE_FORCED };

struct drain {
    struct drain_config config; /* immutable after drain_init */
    enum coord_phase phase;
    enum drain_cause cause; /* why the drain ended, or is cut short */
    bool requested;
    bool called_off; /* in LAME_DUCK: the next step goes back to RUNNING, even if another drain was
                        requested meanwhile */
    bool forced;
    bool idle_released;
    bool has_asked; /* what has no end of its own was asked to end, by the deadline that it has */
    uint64_t entered_ns[PHASE_COUNT]; /* 0: never entered */
    uint64_t requested_ns;
    uint64_t limit_at_ns;    /* no deadline is later; CLOCK_NEVER: there is no such limit */
    unsigned given_up;       /* bits of the classes whose deadline has passed */
    uint64_t deadline_at_ns; /* the last deadline; CLOCK_NEVER before CLOSING */
    uint64_t
        class_at_ns[DRAIN_CLASSES]; /* the deadline of each class; CLOCK_NEVER before CLOSING */
    uint64_t grace_at_ns;           /* CLOCK_NEVER before CLOSING */
};

/* What to do now. */
struct drain_advice {
    enum coord_phase next; /* the phase to enter; the present one: stay */
    bool release_idle;     /* close idle connections: the idle grace is over */
    bool ask_to_leave;     /* ask tunnels to end: their deadline comes, or their spread begins */
    unsigned give_up;      /* bits of classes: give up what is in them now */
};

/* All of these: Thread: the caller's own lock or thread. */
void drain_init(struct drain *drain, const struct drain_config *config, uint64_t now_ns);

/* Request the drain. Returns true for the first request, false for later ones. */
bool drain_request(struct drain *drain, uint64_t now_ns);

/* Call the drain off. Returns false after the point of no return. */
bool drain_undo(struct drain *drain);
bool drain_can_undo(const struct drain *drain); /* what drain_undo() would return */

/* Cut the drain short: archive, close, leave. */
void drain_force(struct drain *drain);

struct drain_advice drain_look(struct drain *drain, uint64_t now_ns, const struct drain_view *view);

/* Write the phase; no other function does. The step must be in the table. */
void drain_enter(struct drain *drain, enum coord_phase next, uint64_t now_ns);

/* The longest time from CLOSING to the end of a drain with that configuration: its longest
 * deadline. */
uint64_t drain_longest_ns(const struct drain_config *config);

/* Limit the whole drain to `longest_ns`: this becomes the general deadline, and no class has a
 * later one. */
void drain_limit(struct drain *drain, uint64_t longest_ns);

/* The drain ends at `at_ns`, or at an earlier deadline that it has. A lame duck that is before it
 * takes half of the time until then at most. To call the drain off takes the limit away. */
void drain_limit_at(struct drain *drain, uint64_t at_ns, uint64_t now_ns);

/* Make the limit the configured deadlines, where those are later: for a message. */
void drain_limit_left(struct drain *drain, uint64_t now_ns);

/* When the lame duck ends. Only in LAME_DUCK. */
uint64_t drain_lame_duck_until_ns(const struct drain *drain);

/* The time from now over which idle connections may be closed. It ends early enough before the
 * deadline for the last of them to be gone. */
uint64_t drain_spread_ns(const struct drain *drain, uint64_t now_ns);

/* How long a tunnel has for its farewell: a second, but at most half of its deadline. */
uint64_t drain_farewell_ns(const struct drain *drain);

/* The same for one that is asked now: no longer than until that deadline. */
uint64_t drain_farewell_left_ns(const struct drain *drain, uint64_t now_ns);

/* The time from now over which tunnels may be asked to end. The last one still has its farewell
 * before their deadline. */
uint64_t drain_leave_spread_ns(const struct drain *drain, uint64_t now_ns);

/* `streams`, for a log line.     Thread: any. */
const char *drain_class_name(enum drain_class class);

/* When the coordinator must look again, if nothing happens before; CLOCK_NEVER: not at all. */
uint64_t drain_next_look_ns(const struct drain *drain);

#endif

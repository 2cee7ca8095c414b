#ifndef LASTCALL_PLACE_H
#define LASTCALL_PLACE_H

/* Where the handler of a route is called: by the thread that drives the loop, at once, or by a
 * worker, from the queue.
 *
 * In place costs the loop the time that the handler takes; the queue costs two wake-ups and the
 * handler's distance from the loop's caches, together some tens of microseconds. So a route starts
 * in the queue, and its handlers are called in place once they have shown to be short.
 *
 * Estimate note. Each loop has an estimate a route: a mean that goes half of the way up to a longer
 * sample at once, and down to a shorter one by a thirty-second of the way, or by a thousandth once
 * the route has had a long handler. So a new route is in place after some seventy short handlers;
 * one long handler moves it into the queue, for some fourteen hundred, and for twice as many each
 * time that it had come back, up to fifty-six hundred. A handler that blocks in place delays
 * all connections of its loop, some dozens of requests. With one in a thousand that is more than
 * one request in a hundred, and a client would see it at the 99th percentile; so such a route stays
 * in the queue. One with one in ten thousand is in place nearly half of the time. A sample counts
 * at most PLACE_LONGEST_NS, for the loop waits not much longer (see pool_place()).
 *
 * A handler that was preempted looks as long as one that blocks. So a long time alone is no sample:
 * the next handlers of the route are measured, which costs two system calls each, and a measured
 * one counts with its processor time if it never slept. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

struct loop;

#define PLACE_SHORT_NS UINT64_C(50000)
#define PLACE_LONGEST_NS UINT64_C(400000)
/* A turn of a loop spends no more in handlers; the rest of them go to the queue. */
#define PLACE_TURN_NS UINT64_C(1000000)

enum place_mode { PLACE_AUTO, PLACE_QUEUE };

/* Of a route and a loop. */
struct place {
    /* immutable */
    enum place_mode mode;
    /* atomic: written by the loop and by workers, relaxed: an estimate, and a lost update does not
     * matter */
    _Atomic uint32_t estimate_ns;
    _Atomic uint32_t to_measure; /* so many of the next handlers */
    _Atomic uint32_t setbacks;   /* so often a long one came when they had been short */
    _Atomic uint32_t usual_ns;   /* the plain mean of the last ones: one long handler does not count
                                  * for much */
};

/* Thread: the loop, before its first request. */
void place_init(struct place *place, enum place_mode mode);

/* Have all handlers been short lately?     Thread: any. */
bool place_is_short(const struct place *place);

/* Will the next handler be short, most likely? See pool_job.brief.     Thread: any. */
bool place_is_brief(const struct place *place);

/* May the next handler be called in place?     Thread: owner loop only. */
bool place_is_here(const struct place *place, const struct loop *loop);

/* One that was called in place did not come back in time. `busy`: it did not sleep. Then it
 * computes, or the machine has too few processors: the next ones are measured.     Thread: owner
 * loop only. */
void place_was_left(struct place *place, bool busy);

/* A handler has taken so long, as far as it counts; see estimate note.     Thread: any. */
void place_add_sample(struct place *place, uint64_t ns);

/* The time of one handler.     Thread: the one that calls it. */
struct place_watch {
    struct place *place;
    uint64_t begun_ns;
    bool measured;
    struct rusage before;
};
/* `now_ns` 0: it reads the clock. */
void place_begin(struct place_watch *watch, struct place *place, uint64_t now_ns);
/* Returns how long it took. */
uint64_t place_end(const struct place_watch *watch);

#endif

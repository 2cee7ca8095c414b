#ifndef LASTCALL_COORD_P_H
#define LASTCALL_COORD_P_H

/* What the files of the coordinator share: coord.c (creating it, its loop), coord_requests.c (the
 * requests of other threads), coord_status.c (what they may read), coord_enter.c (what each phase
 * begins with), coord_progress.c (what a drain reports while it lasts).
 *
 * Poke note. A loop or a worker changes a count and then pokes; the coordinator reads the counts
 * and then sleeps. It must not sleep through a change that it has not read. Both sides use `mu`:
 *
 *     changer:  write count;  lock; poked = true; unlock;  signal
 *     coord:    lock; poked = false; unlock;  read counts;  lock; while (!poked) wait; unlock
 *
 * Consider the changer's critical section. If it comes after the coordinator's first one, `poked`
 * is true in the second one, and the coordinator does not wait. If it comes before, the unlock in
 * the changer happens before the lock in the coordinator, so the read that follows sees the count.
 * There is no third case. The signal may come after the unlock: if the coordinator waits by then,
 * the signal wakes it; if not, it has yet to look at `poked`. The counts may therefore be relaxed
 * atomics. The changers poke only during a drain. Each loop pokes once, on its own thread, when it
 * learns of the drain; so a change for which it did not poke came before that poke. */

#include "coord.h"

#include <pthread.h>

#include "file.h"
#include "report.h"
#include "require.h"
#include "stops.h"

#define COORD_STATUS_UNDECIDED (-1)

struct coord {
    /* immutable after coord_create */
    struct coord_config config;
    struct pool *pool; /* written before coord_run */
    void (*archive)(void *arg, bool forced, bool loops_are_quiet, uint64_t until_ns,
                    struct coord_archived
                        *ret_archived); /* written before coord_run; NULL: nothing is on record */
    void *archive_arg;
    struct {
        void (*stepped)(void *arg, enum coord_phase phase);
        void *arg;
    } steps[COORD_STEPS_MAX]; /* written before coord_run */
    size_t step_count;
    /* coordinator's thread only */
    struct coord_census census;
    uint64_t pool_active;
    /* Kept open for the report, which must be written even if descriptors have run out. */
    int spare_fds[FILE_DESCRIPTORS];
    uint64_t next_progress_ns;
    uint64_t next_status_ns;
    uint64_t next_notify_ns;
    uint64_t answered_when_notified;
    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t wake;    /* the coordinator sleeps on it */
    pthread_cond_t stepped; /* the phase has changed */
    struct drain drain;
    struct report report;
    bool poked;
    bool noted;           /* a change without a step: another trigger, or an undrain */
    bool began;           /* the beginning of the drain has been logged */
    bool handed_over;     /* the drain is a hand-over to a successor */
    pid_t successor;      /* for MAINPID=; 0: another process reports it */
    bool speaks_on;       /* this process still speaks to the service manager after the hand-over */
    pid_t predecessor;    /* 0: none */
    struct stops signals; /* the stop signals of this drain */
    unsigned passed_on;   /* stop signals that the predecessor has passed on */
    bool stands_by;       /* another process is in charge, see coord_stand_by() */
    bool is_final; /* this drain cannot be called off: the application has ended, or another process
                      closes the listeners */
    char final_by[24]; /* the trigger that made it so */
    bool final_was_said;
    int clean_status; /* the exit status of a clean drain */
};

static inline void coord_lock(struct coord *coord)
{
    int err = pthread_mutex_lock(&coord->mu);
    REQUIRE(err == 0);
}

static inline void coord_unlock(struct coord *coord)
{
    int err = pthread_mutex_unlock(&coord->mu);
    REQUIRE(err == 0);
}

/* A copy, because other threads may change its configuration.     Thread: the coordinator's. */
static inline struct drain coord_copy_drain(struct coord *coord)
{
    coord_lock(coord);
    struct drain drain = coord->drain;
    coord_unlock(coord);
    return drain;
}

/* ---- coord.c ---- */

/* Close the descriptors that are kept for the report. */
void coord_release_spare_fds(struct coord *coord);

/* ---- coord_status.c ---- */

/* Lock: mu. */
bool coord_is_revocable_locked(const struct coord *coord);

/* ---- coord_enter.c; Thread: the coordinator's ---- */

/* Do what the phase begins with. The phase was written before. */
void coord_enter_phase(struct coord *coord, enum coord_phase phase);

/* The time over which an action on all connections is spread; see drain_spread_ns(). */
uint64_t coord_spread_ns(struct coord *coord);

/* Ask what has no end of its own to end. */
void coord_ask_to_leave(struct coord *coord);

/* Say once that a drain that could be called off has become final. */
void coord_say_final(struct coord *coord);

/* ---- coord_progress.c; Thread: the coordinator's ---- */

void coord_show_progress(struct coord *coord, uint64_t now_ns);

/* Keep the service manager informed. */
void coord_tell_manager(struct coord *coord, uint64_t now_ns);

/* When the coordinator must look again, if no poke comes before. Lock: mu. */
uint64_t coord_next_look_ns(const struct coord *coord);

#endif

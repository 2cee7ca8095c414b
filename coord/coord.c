#include "coord.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "journal.h"
#include "log.h"
#include "notify.h"
#include "report.h"

/* Poke note. A loop or a worker changes a count and then pokes; the coordinator looks at the counts
 * and then sleeps. It must not sleep through a change that its look has missed. Both sides use
 * `mu`:
 *
 *     changer:  write count;  lock; poked = true; signal; unlock
 *     coord:    lock; poked = false; unlock;  read counts;  lock; while (!poked) wait; unlock
 *
 * Take the changer's critical section. If it comes after the coordinator's first one, `poked` is
 * true at the second one and the coordinator does not wait. If it comes before, the unlock in the
 * changer happens before the lock in the coordinator, so the read that follows sees the count.
 * There is no third case. The counts may therefore be relaxed atomics. The changers poke only while
 * a drain is under way, and each loop pokes once when it learns of the drain, on its own thread, so
 * a change that it did not poke for came before that poke. */

#define STATUS_UNDECIDED (-1)

struct coord {
    /* immutable after coord_create */
    struct coord_config config;
    struct pool *pool;       /* written before coord_run */
    struct journal *journal; /* the same; NULL: no request is on record */
    struct {
        void (*stepped)(void *arg, enum coord_phase phase);
        void *arg;
    } steps[COORD_STEPS_MAX]; /* written before coord_run */
    size_t step_count;
    /* coordinator's thread only */
    struct coord_census census;
    uint64_t pool_active;
    int spare_fd; /* kept for the report: it must be written also when descriptors have run out */
    uint64_t next_progress_ns;
    uint64_t next_status_ns;
    uint64_t next_notify_ns;
    uint64_t answered_when_notified;
    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t wake;    /* the coordinator's sleep */
    pthread_cond_t stepped; /* the phase has changed */
    struct drain drain;
    struct report report;
    bool poked;
    bool noted;                  /* news without a step: another trigger, or an undrain */
    bool began;                  /* the begin of the drain has been logged */
    bool handed_over;            /* to a successor */
    pid_t successor;             /* 0: it is not ours to tell */
    bool speaks_on;              /* to the service manager, though handed over */
    pid_t upstream;              /* 0: nobody started us so */
    unsigned signals, passed_on; /* that asked for this drain; through upstream */
    bool stands_by;              /* somebody else is in charge */
    bool is_final;               /* this drain can not be called off: what this process is there
                                    for has ended, or others close what it has */
    char final_by[24];           /* the trigger that made it so */
    bool final_was_said;
    int clean_status; /* the exit status of a drain that ends clean */
};

static void lock(struct coord *coord)
{
    int err = pthread_mutex_lock(&coord->mu);
    assert(err == 0);
    (void)err;
}

static void unlock(struct coord *coord)
{
    int err = pthread_mutex_unlock(&coord->mu);
    assert(err == 0);
    (void)err;
}

int coord_create(const struct coord_config *config, struct coord **ret_coord)
{
    struct coord *coord = calloc(1, sizeof(*coord));
    if (coord == NULL)
        return -ENOMEM;
    coord->config = *config;
    coord->spare_fd = config->report_path != NULL ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
    (void)pthread_mutex_init(&coord->mu, NULL);
    clock_cond_init(&coord->wake);
    clock_cond_init(&coord->stepped);
    drain_init(&coord->drain, &config->drain, clock_now_ns());
    coord->report.status = STATUS_UNDECIDED;
    *ret_coord = coord;
    return 0;
}

static void release_spare_fd(struct coord *coord)
{
    if (coord->spare_fd >= 0)
        (void)close(coord->spare_fd);
    coord->spare_fd = -1;
}

void coord_destroy(struct coord *coord)
{
    if (coord == NULL)
        return;
    release_spare_fd(coord);
    coord_requests_release(&coord->report.unfinished);
    (void)pthread_cond_destroy(&coord->stepped);
    (void)pthread_cond_destroy(&coord->wake);
    (void)pthread_mutex_destroy(&coord->mu);
    free(coord);
}

void coord_attach_pool(struct coord *coord, struct pool *pool)
{
    coord->pool = pool;
}

void coord_attach_journal(struct coord *coord, struct journal *journal)
{
    coord->journal = journal;
}

/* ---- what others may ask ---- */

static void poke_locked(struct coord *coord)
{
    coord->poked = true;
    (void)pthread_cond_signal(&coord->wake);
}

void coord_poke(struct coord *coord)
{
    lock(coord);
    poke_locked(coord);
    unlock(coord);
}

static void make_final_locked(struct coord *coord, const char *trigger)
{
    if (!coord->is_final)
        (void)snprintf(coord->final_by, sizeof(coord->final_by), "%s", trigger);
    coord->is_final = true;
}

static bool request_locked(struct coord *coord, const char *trigger, const char *detail)
{
    uint64_t now_ns = clock_now_ns();
    bool first = drain_request(&coord->drain, now_ns); /* later ones are noted, that is all */
    if (coord->stands_by) {
        coord->drain.config.lame_duck_ns = 0; /* nobody has come who could look elsewhere */
        make_final_locked(coord, trigger);
        notify_hand_over();
    }
    report_add_trigger(&coord->report, trigger, detail, now_ns);
    coord->noted |= !first;
    poke_locked(coord);
    return first;
}

void coord_request_drain(struct coord *coord, const char *trigger, const char *detail)
{
    lock(coord);
    (void)request_locked(coord, trigger, detail);
    unlock(coord);
}

bool coord_request_drain_within(struct coord *coord, const char *trigger, const char *detail,
                                uint64_t deadline_ns)
{
    lock(coord);
    bool first = request_locked(coord, trigger, detail);
    if (first && deadline_ns != CLOCK_NEVER) /* before CLOSING, which sets the point in time:
                                                drain_request() saw to that */
        drain_limit(&coord->drain, deadline_ns);
    unlock(coord);
    return first;
}

bool coord_request_drain_ending(struct coord *coord, const char *trigger, const char *detail,
                                int status)
{
    lock(coord);
    bool first = request_locked(coord, trigger, detail);
    if (first)
        coord->clean_status = status;
    make_final_locked(coord, trigger);
    unlock(coord);
    return first;
}

void coord_request_stop(struct coord *coord, const char *trigger, const char *detail,
                        unsigned signals, bool is_final)
{
    lock(coord);
    if (is_final && coord->drain.phase < PHASE_CLOSING)
        coord->drain.config.lame_duck_ns = 0;
    if (is_final)
        make_final_locked(coord, trigger);
    (void)request_locked(coord, trigger, detail);
    if (coord->passed_on < signals)
        coord->passed_on = signals;
    if (coord->passed_on > 1) {
        drain_force(&coord->drain);
        (void)snprintf(coord->report.forced_by, sizeof(coord->report.forced_by), "%s", trigger);
    }
    unlock(coord);
}

enum coord_handover coord_request_handover(struct coord *coord, const char *detail, pid_t successor)
{
    lock(coord);
    enum coord_handover how = !coord->drain.requested              ? COORD_HANDOVER_BEGUN
                              : coord->drain.phase < PHASE_CLOSING ? COORD_HANDOVER_JOINED
                                                                   : COORD_HANDOVER_TOO_LATE;
    if (how == COORD_HANDOVER_BEGUN)
        (void)request_locked(coord, "restart", detail);
    /* A drain that was asked for before goes over to that as well, as long as it can: a close that
     * is not the hand-over's would shut what the successor accepts on. */
    if (how != COORD_HANDOVER_TOO_LATE) {
        coord->drain.config.lame_duck_ns = 0;
        coord->handed_over = true;
        coord->successor = how == COORD_HANDOVER_BEGUN ? successor : 0;
        coord->speaks_on = how == COORD_HANDOVER_JOINED && successor > 0;
        poke_locked(coord);
    }
    unlock(coord);
    return how;
}

void coord_set_upstream(struct coord *coord, pid_t upstream)
{
    lock(coord);
    coord->upstream = upstream;
    unlock(coord);
}

void coord_stand_by(struct coord *coord)
{
    lock(coord);
    coord->stands_by = true;
    unlock(coord);
}

/* Under the lock under which a drain is asked for: one of the two comes first, and the other one
 * knows. */
bool coord_take_charge(struct coord *coord)
{
    lock(coord);
    bool taken = !coord->drain.requested;
    if (taken)
        coord->stands_by = false;
    unlock(coord);
    return taken;
}

unsigned coord_signal(struct coord *coord, int signo, pid_t sender)
{
    char name[24], detail[48] = "";

    (void)snprintf(name, sizeof(name), "SIG%s", sigabbrev_np(signo));
    if (sender > 0)
        (void)snprintf(detail, sizeof(detail), "from process %ld", (long)sender);
    lock(coord);
    bool is_passed_on = coord->upstream > 0 && sender == coord->upstream;
    unsigned count = is_passed_on ? ++coord->passed_on : ++coord->signals;
    if (coord->drain.phase == PHASE_DONE)
        count = 0; /* the status is decided and reported: it is on its way */
    if (count > 1)
        drain_force(&coord->drain);
    if (count == 2)
        memcpy(coord->report.forced_by, name, sizeof(name));
    (void)request_locked(coord, name, detail);
    unlock(coord);
    return count;
}

static bool is_revocable_locked(const struct coord *coord)
{
    return !coord->handed_over && !coord->is_final && drain_can_undo(&coord->drain);
}

bool coord_undrain(struct coord *coord)
{
    lock(coord);
    bool undone = is_revocable_locked(coord) && drain_undo(&coord->drain);
    if (undone) { /* here, not when it is noticed: the next request has a clean page */
        coord->report.trigger_count = coord->report.triggers_left_out = 0;
        memset(&coord->report.begin, 0, sizeof(coord->report.begin));
        coord->drain.config = coord->config.drain; /* the request may have had its own deadline */
        coord->signals = coord->passed_on = 0;
        coord->clean_status = COORD_EXIT_CLEAN;
        /* Whoever passed the request on hears of this even where no step was taken. */
        coord->noted |= coord->drain.phase == PHASE_RUNNING;
    }
    poke_locked(coord);
    unlock(coord);
    return undone;
}

void coord_get_status(struct coord *coord, struct coord_status *ret_status)
{
    lock(coord);
    const struct drain *drain = &coord->drain;
    *ret_status = (struct coord_status){
        .phase = drain->phase,
        .forced = drain->forced,
        .is_final = coord->is_final,
        .handed_over = coord->handed_over,
        .revocable = is_revocable_locked(coord),
        .stands_by = coord->stands_by,
        .lame_duck_until_ns = drain->phase == PHASE_LAME_DUCK
                                  ? drain->entered_ns[PHASE_LAME_DUCK] + drain->config.lame_duck_ns
                                  : CLOCK_NEVER,
        .deadline_at_ns = drain->deadline_at_ns,
        .drain = drain->config,
        .trigger_count = coord->report.trigger_count,
        .triggers_left_out = coord->report.triggers_left_out,
        .begin = coord->report.begin,
        .exit_status = coord->report.status,
    };
    if (coord->report.status != STATUS_UNDECIDED) /* before that, the coordinator is filling it */
        ret_status->unfinished = coord->report.unfinished.count + coord->report.unfinished.left_out;
    memcpy(ret_status->final_by, coord->final_by, sizeof(coord->final_by));
    memcpy(ret_status->entered_ns, drain->entered_ns, sizeof(drain->entered_ns));
    memcpy(ret_status->triggers, coord->report.triggers, sizeof(coord->report.triggers));
    unlock(coord);
}

void coord_on_step(struct coord *coord, void (*stepped)(void *arg, enum coord_phase phase),
                   void *arg)
{
    assert(coord->step_count < COORD_STEPS_MAX);
    coord->steps[coord->step_count].stepped = stepped;
    coord->steps[coord->step_count++].arg = arg;
}

enum coord_phase coord_get_phase(struct coord *coord)
{
    lock(coord);
    enum coord_phase phase = coord->drain.phase;
    unlock(coord);
    return phase;
}

int coord_wait_phase(struct coord *coord, enum coord_phase phase, uint64_t until_ns)
{
    struct timespec until = clock_timespec(until_ns);
    int err = 0;

    lock(coord);
    while (coord->drain.phase < phase && err == 0)
        err = pthread_cond_timedwait(&coord->stepped, &coord->mu, &until);
    bool reached = coord->drain.phase >= phase;
    unlock(coord);
    return reached ? 0 : -ETIMEDOUT;
}

/* ---- entering a phase ---- */

static void log_begin(struct coord *coord)
{
    lock(coord);
    coord->report.begin = coord->census;
    (void)clock_format_wall(coord->report.began_wall);
    struct report report = coord->report; /* its lists are still empty */
    coord->began = true;
    struct drain_config config = coord->drain.config;
    unlock(coord);
    report_log_begin(&report, &config);
}

static void enter_running(struct coord *coord)
{
    coord->config.ops->lame_duck(coord->config.server, false);
    lock(coord);
    coord->began = false;
    unlock(coord);
    log_line(LOG_LEVEL_INFO, "undrained", NULL, "drain called off: ready again");
    notify_send("READY=1\nSTATUS=serving");
}

static void say_lame_duck(struct coord *coord)
{
    char text[CLOCK_TEXT_SIZE];

    lock(coord);
    bool is_final = coord->is_final;
    coord->final_was_said = is_final;
    unlock(coord);
    const char *end = is_final ? "the drain can not be called off" : "the drain can be called off";
    log_line(LOG_LEVEL_INFO, "lame-duck",
             json_pack("{s:I,s:b}", "for_ms",
                       (json_int_t)(coord->config.drain.lame_duck_ns / NS_PER_MS), "final",
                       is_final),
             "lame duck for %s: not ready, still accepting, %s",
             clock_format_duration(coord->config.drain.lame_duck_ns, text), end);
    /* Not STOPPING: listeners are still open, and most drains can be undone. */
    notify_send("STATUS=lame duck for %s: still accepting, %s", text, end);
}

static void enter_lame_duck(struct coord *coord)
{
    log_begin(coord);
    coord->config.ops->lame_duck(coord->config.server, true);
    say_lame_duck(coord);
}

/* A drain that could be called off may have become final. */
static void say_final(struct coord *coord)
{
    lock(coord);
    bool is_due =
        coord->is_final && !coord->final_was_said && coord->drain.phase == PHASE_LAME_DUCK;
    coord->final_was_said |= is_due;
    char by[sizeof(coord->final_by)];
    memcpy(by, coord->final_by, sizeof(by));
    unlock(coord);
    if (!is_due)
        return;
    log_line(LOG_LEVEL_INFO, "final", NULL, "%s: the drain can no longer be called off", by);
    notify_send("STATUS=lame duck: still accepting, the drain can not be called off");
}

static void enter_closing(struct coord *coord)
{
    if (!coord->began)
        log_begin(coord);
    /* Watched before anything closes: a pool that falls idle from here on says so. */
    if (coord->pool != NULL)
        (void)pool_watch_idle(coord->pool, true);
    lock(coord);
    bool handed_over = coord->handed_over;
    pid_t successor = coord->successor;
    bool speaks_on = coord->speaks_on;
    unlock(coord);
    if (handed_over) {
        coord->config.ops->hand_over(coord->config.server);
        if (successor > 0)
            notify_send("MAINPID=%ld\nREADY=1\nSTATUS=serving", (long)successor);
        if (!speaks_on)
            notify_hand_over();
    } else {
        coord->config.ops->lame_duck(coord->config.server, true);
        log_line(LOG_LEVEL_INFO, "closing", NULL,
                 "closing the listeners: from here on the drain can not be called off");
        coord->config.ops->close_listeners(coord->config.server);
        notify_send("STOPPING=1\nSTATUS=closing the listeners");
    }
    coord->answered_when_notified = coord->census.answered;
}

static uint64_t spread_ns(struct coord *coord)
{
    return drain_spread_ns(&coord->drain, clock_now_ns()); /* settled since CLOSING */
}

static void enter_draining(struct coord *coord)
{
    const struct coord_census *now = &coord->census, *begin = &coord->report.begin;
    char text[CLOCK_TEXT_SIZE];
    uint64_t took_ns =
        coord->drain.entered_ns[PHASE_DRAINING] - coord->drain.entered_ns[PHASE_CLOSING];

    log_line(LOG_LEVEL_INFO, "listeners-closed",
             json_pack("{s:f, s:I}", "took_ms", (double)took_ns / (double)NS_PER_MS, "accepted",
                       (json_int_t)(now->accepted - begin->accepted)),
             "listeners closed after %s: %llu more connection%s accepted",
             clock_format_duration(took_ns, text),
             (unsigned long long)(now->accepted - begin->accepted),
             now->accepted - begin->accepted == 1 ? "" : "s");
    coord->config.ops->finish(coord->config.server, spread_ns(coord));
}

/* The most that the archive may take of the time behind the deadline. */
#define ARCHIVE_NS (500 * NS_PER_MS)

static void archive(struct coord *coord, bool loops_are_quiet)
{
    bool forced = coord->drain.cause == DRAIN_CAUSE_FORCED;

    if (coord->journal != NULL)
        journal_archive(coord->journal,
                        forced ? UNFINISHED_REASON_FORCED : UNFINISHED_REASON_DEADLINE,
                        loops_are_quiet, clock_now_ns() + ARCHIVE_NS, &coord->report.archived);
}

static void enter_aborting(struct coord *coord)
{
    /* The server freezes its answers before it lists: a request is either answered or listed. */
    coord->config.ops->list_requests(coord->config.server, true, &coord->report.unfinished);
    archive(coord, false);
    coord->report.connections_cut = coord->census.connections; /* soon they are gone */
    coord->config.ops->cut(coord->config.server);
}

static int exit_status_locked(const struct coord *coord)
{
    const struct report *report = &coord->report;

    if (coord->drain.cause == DRAIN_CAUSE_FORCED)
        return COORD_EXIT_FORCED;
    if (coord->drain.cause == DRAIN_CAUSE_DEADLINE &&
        report->unfinished.count + report->unfinished.left_out > 0)
        return COORD_EXIT_DEADLINE;
    if (report->end.given_up > 0) /* each of them was logged */
        return COORD_EXIT_DEADLINE;
    return coord->clean_status;
}

static void enter_done(struct coord *coord)
{
    /* What a limit of the server's own has cut is unfinished, too. */
    if (coord->drain.cause == DRAIN_CAUSE_QUIET && coord->census.given_up > 0)
        archive(coord, true);
    lock(coord); /* a late trigger may still be added to the list of them */
    coord->report.ended_ns = coord->drain.entered_ns[PHASE_DONE];
    coord->report.end = coord->census;
    coord->report.pool_active_at_end = coord->pool_active;
    coord->report.status = exit_status_locked(coord);
    struct report report = coord->report;
    struct drain drain = coord->drain;
    unlock(coord);

    log_status("%s", "");
    notify_send("STATUS=drained, exit status %d", report.status);
    report_log_end(&report, &drain);
    if (coord->config.report_path == NULL)
        return;
    release_spare_fd(coord);
    int err = report_write(&report, &drain, coord->config.report_path);
    if (err != 0)
        log_line(LOG_LEVEL_ERROR, "report-failed", NULL, "cannot write the report %s: %s",
                 coord->config.report_path, strerrordesc_np(-err));
}

static void (*const enter[PHASE_COUNT])(struct coord *) = {
    [PHASE_RUNNING] = enter_running,   [PHASE_LAME_DUCK] = enter_lame_duck,
    [PHASE_CLOSING] = enter_closing,   [PHASE_DRAINING] = enter_draining,
    [PHASE_ABORTING] = enter_aborting, [PHASE_DONE] = enter_done,
};

/* ---- the loop ---- */

static void look_around(struct coord *coord, enum coord_phase phase, struct drain_view *ret_view)
{
    memset(ret_view, 0, sizeof(*ret_view));
    memset(&coord->census, 0, sizeof(coord->census));
    coord->config.ops->census(coord->config.server, &coord->census);
    coord->pool_active = coord->pool != NULL ? pool_active(coord->pool) : 0;
    ret_view->listeners_closed = coord->census.listeners == 0;
    ret_view->quiet =
        coord->census.listeners == 0 && coord->census.active == 0 && coord->census.connections == 0;
    ret_view->jobs = coord->pool_active > 0;
    ret_view->archived = phase == PHASE_ABORTING; /* its enter function has returned */
}

#define STATUS_EVERY_NS (100 * NS_PER_MS)
#define OLDEST_NAMED 3

static void show_progress(struct coord *coord, uint64_t now_ns)
{
    if (coord->drain.phase != PHASE_DRAINING && coord->drain.phase != PHASE_CLOSING &&
        coord->drain.phase != PHASE_LAME_DUCK)
        return;
    if (log_has_status_line()) {
        if (now_ns >= coord->next_status_ns) {
            report_status(&coord->drain, &coord->census, coord->pool_active, now_ns);
            coord->next_status_ns = now_ns + STATUS_EVERY_NS;
        }
        return;
    }
    if (coord->config.progress_ns == 0)
        return;
    if (coord->next_progress_ns == 0)
        coord->next_progress_ns = now_ns + coord->config.progress_ns;
    if (now_ns >= coord->next_progress_ns) {
        struct coord_requests oldest = {0};
        coord->config.ops->list_requests(coord->config.server, false, &oldest);
        report_log_progress(&coord->drain, &coord->census, &oldest, now_ns);
        coord_requests_release(&oldest);
        coord->next_progress_ns = now_ns + coord->config.progress_ns;
    }
}

#define NOTIFY_EVERY_NS (1 * NS_PER_S)
#define NOTIFY_EXTENDS_US 5000000 /* it must hear from us again in that time */

/* More time is asked for only while requests really finish: a drain that is stuck should meet the
 * manager's limit as well as its own. */
static void tell_manager(struct coord *coord, uint64_t now_ns)
{
    char left[CLOCK_TEXT_SIZE], extend[64] = "";
    uint64_t end_ns = coord->drain.deadline_at_ns;

    if (coord->drain.phase != PHASE_DRAINING || now_ns < coord->next_notify_ns || !notify_wanted())
        return;
    coord->next_notify_ns = now_ns + NOTIFY_EVERY_NS;
    if (coord->census.answered > coord->answered_when_notified)
        (void)snprintf(extend, sizeof(extend), "\nEXTEND_TIMEOUT_USEC=%d", NOTIFY_EXTENDS_US);
    coord->answered_when_notified = coord->census.answered;
    notify_send("STATUS=draining: %llu requests in flight on %llu connections, %s left%s",
                (unsigned long long)coord->census.active,
                (unsigned long long)coord->census.connections,
                clock_format_duration(end_ns > now_ns ? end_ns - now_ns : 0, left), extend);
}

static uint64_t next_look_ns(const struct coord *coord)
{
    uint64_t next_ns = drain_next_look_ns(&coord->drain);
    uint64_t show_ns = log_has_status_line() ? coord->next_status_ns : coord->next_progress_ns;

    if (coord->drain.phase == PHASE_DRAINING && coord->next_notify_ns != 0 &&
        coord->next_notify_ns < next_ns)
        next_ns = coord->next_notify_ns;
    if (coord->drain.phase == PHASE_RUNNING || show_ns == 0)
        return next_ns;
    return show_ns < next_ns ? show_ns : next_ns;
}

static void sleep_until_poked(struct coord *coord)
{
    lock(coord);
    uint64_t until_ns = next_look_ns(coord);
    int err = 0;
    while (!coord->poked && err == 0) {
        if (until_ns == CLOCK_NEVER) {
            err = pthread_cond_wait(&coord->wake, &coord->mu);
        } else {
            struct timespec until = clock_timespec(until_ns);
            err = pthread_cond_timedwait(&coord->wake, &coord->mu, &until);
        }
    }
    assert(err == 0 || err == ETIMEDOUT);
    unlock(coord);
}

static void tell_steps(const struct coord *coord, enum coord_phase phase)
{
    for (size_t i = 0; i < coord->step_count; i++)
        coord->steps[i].stepped(coord->steps[i].arg, phase);
}

int coord_run(struct coord *coord)
{
    for (;;) {
        struct drain_view view;

        lock(coord);
        coord->poked = false; /* before the look, see poke note */
        bool noted = coord->noted;
        coord->noted = false;
        enum coord_phase phase = coord->drain.phase;
        unlock(coord);
        look_around(coord, phase, &view);

        /* Decided and written under one lock: whoever calls the drain off comes before the step,
         * and it is not taken, or after it, and is told that it is too late. */
        lock(coord);
        uint64_t now_ns = clock_now_ns();
        struct drain_advice advice = drain_look(&coord->drain, now_ns, &view);
        if (advice.next != phase) {
            drain_enter(&coord->drain, advice.next, now_ns);
            (void)pthread_cond_broadcast(&coord->stepped);
        }
        unlock(coord);

        if (advice.release_idle)
            coord->config.ops->release_idle(coord->config.server, spread_ns(coord));
        if (advice.give_up != 0)
            coord->config.ops->give_up(coord->config.server, advice.give_up);
        if (advice.next != phase) {
            enter[advice.next](coord);
            tell_steps(coord, advice.next);
            if (advice.next == PHASE_DONE)
                return coord->report.status;
            continue; /* the new phase may be over already */
        }
        if (noted) {
            say_final(coord);
            tell_steps(coord, phase);
        }
        show_progress(coord, now_ns);
        tell_manager(coord, now_ns);
        sleep_until_poked(coord);
    }
}

/* The requests of other threads: drains, signals, hand-overs, and calling a drain off. Each takes
 * `mu`, writes its request, and pokes. Unlike coord_poke() they may wake the coordinator before
 * they unlock: they come seldom, and not at the end of a drain. */

#include "coord_p.h"

#include <stdio.h>
#include <string.h>

#include "log.h"
#include "notify.h"

static void poke_locked(struct coord *coord)
{
    coord->poked = true;
    (void)pthread_cond_signal(&coord->wake);
}

/* The last one comes when nothing is left but the end of the process. Woken before the unlock, the
 * coordinator would run into the lock and sleep again; see poke note. */
void coord_poke(struct coord *coord)
{
    coord_lock(coord);
    coord->poked = true;
    coord_unlock(coord);
    (void)pthread_cond_signal(&coord->wake);
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
    bool first = drain_request(&coord->drain, now_ns); /* later ones are only noted */
    if (coord->stands_by) {
        coord->drain.config.lame_duck_ns = 0; /* no client has connected yet */
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
    coord_lock(coord);
    (void)request_locked(coord, trigger, detail);
    coord_unlock(coord);
}

bool coord_request_drain_within(struct coord *coord, const char *trigger, const char *detail,
                                uint64_t deadline_ns)
{
    coord_lock(coord);
    bool first = request_locked(coord, trigger, detail);
    if (first && deadline_ns != CLOCK_NEVER) /* before CLOSING, which computes the time */
        drain_limit(&coord->drain, deadline_ns);
    coord_unlock(coord);
    return first;
}

void coord_request_drain_until(struct coord *coord, const char *trigger, const char *detail,
                               uint64_t until_ns)
{
    coord_lock(coord);
    (void)request_locked(coord, trigger, detail);
    if (until_ns != CLOCK_NEVER)
        drain_limit_at(&coord->drain, until_ns, clock_now_ns());
    coord_unlock(coord);
}

void coord_force(struct coord *coord, const char *trigger)
{
    coord_lock(coord);
    if (coord->drain.phase != PHASE_DONE && coord->drain.phase != PHASE_ABORTING) {
        drain_force(&coord->drain);
        if (coord->report.forced_by[0] == '\0')
            (void)snprintf(coord->report.forced_by, sizeof(coord->report.forced_by), "%s", trigger);
        if (coord->drain.requested_ns == 0)
            coord->drain.requested_ns = clock_now_ns();
        report_add_trigger(&coord->report, trigger, "", clock_now_ns());
        poke_locked(coord);
    }
    coord_unlock(coord);
}

bool coord_request_drain_ending(struct coord *coord, const char *trigger, const char *detail,
                                int status)
{
    coord_lock(coord);
    bool first = request_locked(coord, trigger, detail);
    if (first)
        coord->clean_status = status;
    make_final_locked(coord, trigger);
    coord_unlock(coord);
    return first;
}

void coord_request_stop(struct coord *coord, const char *trigger, const char *detail,
                        unsigned signals, bool is_final)
{
    coord_lock(coord);
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
    coord_unlock(coord);
}

enum coord_handover coord_request_handover(struct coord *coord, const char *detail, pid_t successor)
{
    coord_lock(coord);
    enum coord_handover how = !coord->drain.requested              ? COORD_HANDOVER_BEGUN
                              : coord->drain.phase < PHASE_CLOSING ? COORD_HANDOVER_JOINED
                                                                   : COORD_HANDOVER_TOO_LATE;
    if (how == COORD_HANDOVER_BEGUN)
        (void)request_locked(coord, "restart", detail);
    /* A drain that was requested before becomes a hand-over, as long as it can: to close the
     * listeners would close those on which the successor accepts. */
    if (how != COORD_HANDOVER_TOO_LATE) {
        coord->drain.config.lame_duck_ns = 0;
        coord->handed_over = true;
        coord->successor = how == COORD_HANDOVER_BEGUN ? successor : 0;
        coord->speaks_on = how == COORD_HANDOVER_JOINED && successor > 0;
        poke_locked(coord);
    }
    coord_unlock(coord);
    return how;
}

void coord_set_predecessor(struct coord *coord, pid_t predecessor)
{
    coord_lock(coord);
    coord->predecessor = predecessor;
    coord_unlock(coord);
}

void coord_stand_by(struct coord *coord)
{
    coord_lock(coord);
    coord->stands_by = true;
    coord_unlock(coord);
}

/* Under the same lock as a request for a drain. So one of the two comes first, and the other one
 * sees it. */
bool coord_take_charge(struct coord *coord)
{
    coord_lock(coord);
    bool taken = !coord->drain.requested;
    if (taken)
        coord->stands_by = false;
    coord_unlock(coord);
    return taken;
}

/* How many orders there are now; COORD_SIGNAL_SAME: this signal is not a new order. */
static int count_signal_locked(struct coord *coord, pid_t sender, uint64_t now_ns)
{
    if (coord->predecessor > 0 && sender == coord->predecessor)
        return (int)++coord->passed_on;
    if (!stops_take(&coord->signals, now_ns, coord->config.drain.force_after_ns))
        return COORD_SIGNAL_SAME;
    return (int)coord->signals.count;
}

static void log_same(const char *name, const char *detail, uint64_t after_ns, uint64_t apart_ns)
{
    char after[CLOCK_TEXT_SIZE], apart[CLOCK_TEXT_SIZE];

    log_line(LOG_LEVEL_INFO, "signal-same",
             json_pack("{s:s, s:s, s:f}", "signal", name, "detail", detail, "after_ms",
                       (double)after_ns / (double)NS_PER_MS),
             "%s received%s%s, %s after the last one: the same stop (a signal that comes %s after "
             "it, or later, cuts the drain short)",
             name, detail[0] != '\0' ? " " : "", detail, clock_format_duration(after_ns, after),
             clock_format_duration(apart_ns, apart));
}

int coord_signal(struct coord *coord, int signo, pid_t sender)
{
    char name[24], detail[48] = "";
    uint64_t now_ns = clock_now_ns();

    (void)snprintf(name, sizeof(name), "SIG%s", sigabbrev_np(signo));
    if (sender > 0)
        (void)snprintf(detail, sizeof(detail), "from process %ld", (long)sender);
    coord_lock(coord);
    int count = count_signal_locked(coord, sender, now_ns);
    uint64_t last_ns = coord->signals.last_ns;
    if (count == COORD_SIGNAL_SAME) {
        coord_unlock(coord);
        log_same(name, detail, now_ns > last_ns ? now_ns - last_ns : 0,
                 coord->config.drain.force_after_ns);
        return count;
    }
    if (coord->drain.phase == PHASE_DONE)
        count = COORD_SIGNAL_LATE; /* the exit status is decided and reported */
    if (count > 1)
        drain_force(&coord->drain);
    if (count == 2)
        memcpy(coord->report.forced_by, name, sizeof(name));
    (void)request_locked(coord, name, detail);
    coord_unlock(coord);
    return count;
}

bool coord_undrain(struct coord *coord)
{
    coord_lock(coord);
    bool undone = coord_is_revocable_locked(coord) && drain_undo(&coord->drain);
    if (undone) { /* here and not on the coordinator's thread: the next request may come first */
        coord->report.trigger_count = coord->report.triggers_left_out = 0;
        memset(&coord->report.begin, 0, sizeof(coord->report.begin));
        coord->drain.config =
            coord->config.drain; /* the request may have set a deadline of its own */
        memset(&coord->signals, 0, sizeof(coord->signals));
        coord->passed_on = 0;
        coord->clean_status = EXIT_STATUS_CLEAN;
        /* Callbacks for steps hear of this even where no step was taken. */
        coord->noted |= coord->drain.phase == PHASE_RUNNING;
    }
    poke_locked(coord);
    coord_unlock(coord);
    return undone;
}

/* What each phase begins with: the table is at the end. */

#include "coord_p.h"

#include <stdio.h>
#include <string.h>

#include "log.h"
#include "notify.h"

static void log_begin(struct coord *coord)
{
    coord_lock(coord);
    coord->report.begin = coord->census;
    (void)clock_format_wall(coord->report.began_wall);
    struct report report = coord->report; /* its lists are still empty */
    coord->began = true;
    struct drain limited = coord->drain;
    coord_unlock(coord);
    if (limited.limit_at_ns != CLOCK_NEVER) /* the caller's, and it is earlier than the setting's */
        drain_limit_left(&limited, clock_now_ns());
    report_log_begin(&report, &limited.config);
}

static void enter_running(struct coord *coord)
{
    coord->config.ops->lame_duck(coord->config.server, false);
    coord_lock(coord);
    coord->began = false;
    coord_unlock(coord);
    log_line(LOG_LEVEL_INFO, "undrained", NULL, "drain called off: ready again");
    notify_send("READY=1\nSTATUS=serving");
}

static void say_lame_duck(struct coord *coord)
{
    char text[CLOCK_TEXT_SIZE];

    coord_lock(coord);
    bool is_final = coord->is_final;
    coord->final_was_said = is_final;
    coord_unlock(coord);
    const char *end = is_final ? "the drain cannot be called off" : "the drain can be called off";
    log_line(LOG_LEVEL_INFO, "lame-duck",
             json_pack("{s:I,s:b}", "for_ms",
                       (json_int_t)(coord->config.drain.lame_duck_ns / NS_PER_MS), "final",
                       is_final),
             "lame duck for %s: not ready, still accepting, %s",
             clock_format_duration(coord->config.drain.lame_duck_ns, text), end);
    /* Not STOPPING=1: the listeners are still open, and most drains can be called off. */
    notify_send("STATUS=lame duck for %s: still accepting, %s", text, end);
}

static void enter_lame_duck(struct coord *coord)
{
    log_begin(coord);
    coord->config.ops->lame_duck(coord->config.server, true);
    say_lame_duck(coord);
}

/* Log it if a drain that could be called off has become final. */
void coord_say_final(struct coord *coord)
{
    coord_lock(coord);
    bool is_due =
        coord->is_final && !coord->final_was_said && coord->drain.phase == PHASE_LAME_DUCK;
    coord->final_was_said |= is_due;
    char by[sizeof(coord->final_by)];
    memcpy(by, coord->final_by, sizeof(by));
    coord_unlock(coord);
    if (!is_due)
        return;
    log_line(LOG_LEVEL_INFO, "final", NULL, "%s: the drain can no longer be called off", by);
    notify_send("STATUS=lame duck: still accepting, the drain cannot be called off");
}

static void enter_closing(struct coord *coord)
{
    if (!coord->began)
        log_begin(coord);
    /* Watch before anything closes: the pool pokes each time it becomes idle from here on. */
    if (coord->pool != NULL)
        (void)pool_watch_idle(coord->pool, true);
    coord_lock(coord);
    bool handed_over = coord->handed_over;
    pid_t successor = coord->successor;
    bool speaks_on = coord->speaks_on;
    coord_unlock(coord);
    if (handed_over) {
        REQUIRE(coord->config.ops->hand_over != NULL);
        coord->config.ops->hand_over(coord->config.server);
        /* WATCHDOG=1 in the successor's name: the manager ignored its messages until now, and its
         * next one comes only after half of the watchdog's limit. */
        if (successor > 0)
            notify_send("MAINPID=%ld\nREADY=1\nSTATUS=serving\nWATCHDOG=1", (long)successor);
        if (!speaks_on)
            notify_hand_over();
    } else {
        coord->config.ops->lame_duck(coord->config.server, true);
        log_line(LOG_LEVEL_INFO, "closing", NULL,
                 "closing the listeners: from here on the drain cannot be called off");
        coord->config.ops->close_listeners(coord->config.server);
        notify_send("STOPPING=1\nSTATUS=closing the listeners");
    }
    coord->answered_when_notified = coord->census.answered;
}

uint64_t coord_spread_ns(struct coord *coord)
{
    struct drain drain = coord_copy_drain(coord);
    return drain_spread_ns(&drain, clock_now_ns());
}

void coord_ask_to_leave(struct coord *coord)
{
    struct drain drain = coord_copy_drain(coord);
    uint64_t now_ns = clock_now_ns();

    if (coord->config.ops->leave != NULL)
        coord->config.ops->leave(coord->config.server, drain_leave_spread_ns(&drain, now_ns),
                                 drain_farewell_left_ns(&drain, now_ns));
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
    coord->config.ops->finish(coord->config.server, coord_spread_ns(coord));
}

/* How long the archive may take after the deadline. */
#define ARCHIVE_NS (500 * NS_PER_MS)
/* And before it, on a disk that is slow: a second signal waits as long. */
#define ARCHIVE_EARLY_NS (5 * NS_PER_S)

static void archive(struct coord *coord, bool loops_are_quiet, uint64_t until_ns)
{
    bool forced = coord->drain.cause == DRAIN_CAUSE_FORCED;

    if (coord->archive != NULL)
        coord->archive(coord->archive_arg, forced, loops_are_quiet, until_ns,
                       &coord->report.archived);
}

static void enter_aborting(struct coord *coord)
{
    /* The server stops sending answers before it lists requests, so each request is either answered
     * or listed. */
    coord->config.ops->list_requests(coord->config.server, true, &coord->report.unfinished);
    archive(coord, false, clock_now_ns() + ARCHIVE_NS);
    coord->report.connections_cut = coord->census.connections; /* before cut() closes them */
    coord->config.ops->cut(coord->config.server);
}

/* The drain has ended by itself, so the deadline may be far away. */
static uint64_t archive_until_ns(const struct coord *coord)
{
    uint64_t now_ns = clock_now_ns(), deadline_ns = coord->drain.deadline_at_ns;

    if (deadline_ns > now_ns + ARCHIVE_EARLY_NS)
        return now_ns + ARCHIVE_EARLY_NS;
    return deadline_ns > now_ns + ARCHIVE_NS ? deadline_ns : now_ns + ARCHIVE_NS;
}

static int exit_status_locked(const struct coord *coord)
{
    const struct report *report = &coord->report;

    if (coord->drain.cause == DRAIN_CAUSE_FORCED)
        return EXIT_STATUS_FORCED;
    if (coord->drain.cause == DRAIN_CAUSE_DEADLINE &&
        report->unfinished.count + report->unfinished.left_out > 0)
        return EXIT_STATUS_DEADLINE;
    if (report->end.given_up > 0) /* each of them was logged */
        return EXIT_STATUS_DEADLINE;
    return coord->clean_status;
}

static void enter_done(struct coord *coord)
{
    /* Requests that a limit of the server cut are unfinished, too. */
    if (coord->drain.cause == DRAIN_CAUSE_QUIET && coord->census.given_up > 0)
        archive(coord, true, archive_until_ns(coord));
    coord_lock(coord); /* other threads may still add a trigger to the report */
    coord->report.ended_ns = coord->drain.entered_ns[PHASE_DONE];
    coord->report.end = coord->census;
    coord->report.pool_active_at_end = coord->pool_active;
    coord->report.status = exit_status_locked(coord);
    struct report report = coord->report;
    struct drain drain = coord->drain;
    coord_unlock(coord);

    log_status("%s", "");
    notify_send("STATUS=drained, exit status %d", report.status);
    report_log_end(&report, &drain);
    if (coord->config.report_path == NULL)
        return;
    coord_release_spare_fds(coord);
    int err = report_write(&report, &drain, coord->config.report_path);
    if (err != 0)
        log_line(LOG_LEVEL_ERROR, "report-failed", NULL, "cannot write the report %s: %s",
                 coord->config.report_path, file_error_text(err));
}

static void (*const enter[PHASE_COUNT])(struct coord *) = {
    [PHASE_RUNNING] = enter_running,   [PHASE_LAME_DUCK] = enter_lame_duck,
    [PHASE_CLOSING] = enter_closing,   [PHASE_DRAINING] = enter_draining,
    [PHASE_ABORTING] = enter_aborting, [PHASE_DONE] = enter_done,
};

void coord_enter_phase(struct coord *coord, enum coord_phase phase)
{
    enter[phase](coord);
}

/* What a drain reports while it lasts: lines in the log or the terminal's status line, and messages
 * to the service manager. */

#include "coord_p.h"

#include <stdio.h>

#include "log.h"
#include "notify.h"

#define STATUS_EVERY_NS (100 * NS_PER_MS)

/* Listing requests may block for this long, and must not delay the deadline. */
#define NAMES_CLEAR_NS (300 * NS_PER_MS)

static void name_oldest(struct coord *coord, uint64_t now_ns)
{
    struct coord_requests oldest = {0};
    struct drain drain = coord_copy_drain(coord);

    if (now_ns + NAMES_CLEAR_NS >= drain.deadline_at_ns)
        return;
    coord->config.ops->list_requests(coord->config.server, false, &oldest);
    drain = coord_copy_drain(coord);
    report_log_progress(&drain, &coord->census, &oldest, now_ns);
    coord_requests_release(&oldest);
}

void coord_show_progress(struct coord *coord, uint64_t now_ns)
{
    if (coord->drain.phase != PHASE_DRAINING && coord->drain.phase != PHASE_CLOSING &&
        coord->drain.phase != PHASE_LAME_DUCK)
        return;
    if (log_has_status_line()) {
        if (now_ns >= coord->next_status_ns) {
            struct drain drain = coord_copy_drain(coord);
            report_status(&drain, &coord->census, coord->pool_active, now_ns);
            coord->next_status_ns = now_ns + STATUS_EVERY_NS;
        }
        return;
    }
    if (coord->config.progress_ns == 0)
        return;
    if (coord->next_progress_ns == 0)
        coord->next_progress_ns = now_ns + coord->config.progress_ns;
    if (now_ns >= coord->next_progress_ns) {
        name_oldest(coord, now_ns);
        coord->next_progress_ns = now_ns + coord->config.progress_ns;
    }
}

#define NOTIFY_EVERY_NS (1 * NS_PER_S)
#define NOTIFY_EXTENDS_US 5000000 /* the manager gives us this much more time */

/* Ask for more time only while requests finish. If the drain is stuck, the manager's time-out
 * should end it as well. */
void coord_tell_manager(struct coord *coord, uint64_t now_ns)
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

uint64_t coord_next_look_ns(const struct coord *coord)
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

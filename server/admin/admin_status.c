#include "admin_p.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

/* The body of /status: the state of the process as JSON. docs/admin-api.md has the fields. */

#define OLDEST_SHOWN 20
#define LIST_GOOD_NS (100 * NS_PER_MS)
/* The loops make the list, and this thread waits for them at most 50 ms (debug builds: 1 s). If
 * one is stuck, ask less often, and not shortly before the deadline, when the coordinator needs its
 * own list. */
#define LIST_SLOW_NS (40 * NS_PER_MS)
#define LIST_REST_NS (2 * NS_PER_S)
#define LIST_CLEAR_OF_DEADLINE_NS (300 * NS_PER_MS)
#define SAMPLE_EVERY_NS (200 * NS_PER_MS)
#define RATE_OVER_NS (1 * NS_PER_S)
#define DIGITS 12 /* significant ones of a number with fractions */

static json_t *ms(uint64_t ns)
{
    return json_real(round((double)ns / 1e3) / 1e3); /* to the microsecond */
}

/* A point in time, counted from `origin_ns`. */
static json_t *ms_since(uint64_t at_ns, uint64_t origin_ns)
{
    return ms(at_ns > origin_ns ? at_ns - origin_ns : 0);
}

static json_t *count(uint64_t n)
{
    return json_integer((json_int_t)n);
}

bool admin_is_ready(struct admin *admin)
{
    /* relaxed: see hold note, hold.c */
    const struct server *server = admin->server;
    return (coord_get_phase(admin->coord) == PHASE_RUNNING ||
            atomic_load_explicit(&server->handed_over, memory_order_relaxed)) &&
           !atomic_load_explicit(&server->holding, memory_order_relaxed) && !server_is_full(server);
}

/* ---- requests ---- */

static bool may_list(const struct admin *admin, const struct coord_status *status, uint64_t now_ns)
{
    if (now_ns < admin->oldest.good_until_ns || status->phase >= PHASE_ABORTING || status->forced)
        return false;
    return status->deadline_at_ns == CLOCK_NEVER ||
           now_ns + LIST_CLEAR_OF_DEADLINE_NS < status->deadline_at_ns;
}

static void refresh_list(struct admin *admin, const struct coord_status *status)
{
    struct admin_oldest *oldest = &admin->oldest;
    uint64_t now_ns = clock_now_ns();

    if (status->phase == PHASE_DONE && status->exit_status == EXIT_STATUS_CLEAN)
        coord_requests_release(&oldest->list); /* all requests were answered */
    if (!may_list(admin, status, now_ns))
        return;
    coord_requests_release(&oldest->list);
    server_ops.list_requests(admin->server, false, &oldest->list);
    oldest->listed_ns = clock_now_ns();
    bool slow = oldest->listed_ns - now_ns >= LIST_SLOW_NS;
    oldest->good_until_ns = oldest->listed_ns + (slow ? LIST_REST_NS : LIST_GOOD_NS);
}

static json_t *request_json(const struct coord_request *request)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:s*, s:s, s:o, s:o, s:o}", "method",
                     log_json_text(request->method), "path", log_json_text(request->path),
                     "authority", log_json_text(request->authority), "peer",
                     log_json_text(request->peer), "request_id", request->id, "state",
                     request->state, "age_ms", ms(request->age_ns), "body_bytes",
                     count(request->body_bytes), "sent_bytes", count(request->sent_bytes));
}

static json_t *oldest_json(const struct admin *admin)
{
    const struct coord_requests *list = &admin->oldest.list;
    json_t *array = json_array();

    for (size_t i = 0; i < list->count && i < OLDEST_SHOWN; i++)
        (void)json_array_append_new(array, request_json(&list->items[i]));
    return array;
}

static uint64_t oldest_left_out(const struct admin *admin)
{
    const struct coord_requests *list = &admin->oldest.list;
    return list->left_out + (list->count > OLDEST_SHOWN ? list->count - OLDEST_SHOWN : 0);
}

/* Answers a second, since the newest sample that is at least a second old, or since the start. */
static double per_second(struct admin *admin, uint64_t answered)
{
    uint64_t now_ns = clock_now_ns();
    struct admin_sample from = {.at_ns = admin->started_ns};
    size_t last = (admin->sample_next + ADMIN_SAMPLES - 1) % ADMIN_SAMPLES;

    for (size_t i = 0; i < ADMIN_SAMPLES; i++) {
        const struct admin_sample *sample = &admin->samples[i];
        if (sample->at_ns > from.at_ns && sample->at_ns + RATE_OVER_NS <= now_ns)
            from = *sample;
    }
    if (admin->samples[last].at_ns + SAMPLE_EVERY_NS <= now_ns) {
        admin->samples[admin->sample_next] =
            (struct admin_sample){.at_ns = now_ns, .answered = answered};
        admin->sample_next = (admin->sample_next + 1) % ADMIN_SAMPLES;
    }
    double seconds = (double)(now_ns - from.at_ns) / 1e9;
    return seconds > 0 ? round((double)(answered - from.answered) / seconds * 10) / 10 : 0;
}

/* ---- the drain ---- */

static json_t *triggers_json(const struct coord_status *status)
{
    json_t *array = json_array();

    for (size_t i = 0; i < status->trigger_count; i++) {
        const struct coord_trigger *trigger = &status->triggers[i];
        (void)json_array_append_new(
            array, json_pack("{s:o, s:o, s:o}", "name", log_json_text(trigger->name), "detail",
                             log_json_text(trigger->detail), "at_ms",
                             ms_since(trigger->at_ns, status->triggers[0].at_ns)));
    }
    return array;
}

static json_t *phases_json(const struct coord_status *status)
{
    json_t *array = json_array();

    /* Phases are entered in the order of the enum. */
    for (int phase = PHASE_LAME_DUCK; phase < PHASE_COUNT; phase++)
        if (status->entered_ns[phase] != 0)
            (void)json_array_append_new(
                array,
                json_pack("{s:s, s:o}", "phase", phase_name((enum coord_phase)phase), "at_ms",
                          ms_since(status->entered_ns[phase], status->triggers[0].at_ns)));
    return array;
}

static json_t *left_json(uint64_t end_ns, uint64_t now_ns)
{
    return end_ns == CLOCK_NEVER ? json_null() : ms_since(end_ns, now_ns);
}

static json_t *drain_json(const struct coord_status *status, const struct coord_census *now)
{
    uint64_t now_ns = clock_now_ns();
    /* For some microseconds the drain is requested and has not begun. */
    const struct coord_census *begin = status->phase == PHASE_RUNNING ? now : &status->begin;

    if (status->trigger_count == 0)
        return json_null();
    return json_pack("{s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:{s:o, s:o}, s:o, s:o}", "triggers",
                     triggers_json(status), "triggers_left_out", count(status->triggers_left_out),
                     "phases", phases_json(status), "can_be_called_off", status->revocable,
                     "lame_duck_left_ms", left_json(status->lame_duck_until_ns, now_ns),
                     "deadline_ms", ms(drain_longest_ns(&status->drain)), "left_ms",
                     left_json(status->deadline_at_ns, now_ns), "began_with", "in_flight",
                     count(begin->active), "connections", count(begin->connections), "answered",
                     count(now->answered - begin->answered), "idle_released",
                     count(now->idle_released - begin->idle_released));
}

/* ---- restarts ---- */

static json_t *restart_json(const struct admin *admin)
{
    struct restart_outcomes outcomes;
    struct restarter *restarter = atomic_load_explicit(&admin->restarter, memory_order_acquire);

    if (restarter == NULL)
        return json_null();
    restarter_get_outcomes(restarter, &outcomes);
    json_t *last = outcomes.failed + outcomes.refused > 0
                       ? json_pack("{s:i, s:o}", "status", outcomes.status, "reason",
                                   log_json_text(outcomes.reason))
                       : json_null();
    return json_pack("{s:b, s:o, s:o, s:o}", "under_way", outcomes.is_under_way, "failed",
                     count(outcomes.failed), "refused", count(outcomes.refused), "last_failure",
                     last);
}

/* The process that the service manager and the pid file know: a worker's master. */
static json_t *service_pid_json(const struct admin *admin)
{
    pid_t master = admin->config.master_pid;
    return json_integer((json_int_t)(master > 0 ? master : getpid()));
}

/* ---- all ---- */

static json_t *listeners_json(const struct server *server)
{
    json_t *array = json_array();

    for (size_t i = 0; i < server->listeners.count; i++)
        (void)json_array_append_new(array, json_string(server->listeners.items[i].name));
    return array;
}

static json_t *pool_json(const struct admin *admin)
{
    struct pool_stats stats;

    pool_get_stats(admin->pool, &stats);
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "workers", count(stats.workers), "threads",
        count(stats.threads), "running", count(stats.running), "queued", count(stats.queued),
        "queue", count(admin->server->config.queue), "taken", count(stats.taken), "refused",
        count(stats.refused), "placed", count(stats.placed), "handed_off", count(stats.handed_off));
}

/* Requests that a limit has cut, and those left at the end. */
static uint64_t given_up(const struct coord_status *status, const struct coord_census *now)
{
    return now->given_up + status->unfinished;
}

static json_t *requests_json(struct admin *admin, const struct coord_status *status,
                             const struct coord_census *now)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:f}", "in_flight", count(now->active), "answered",
                     count(now->answered), "given_up", count(given_up(status, now)), "shed",
                     count(server_shed(admin->server)), "per_second",
                     per_second(admin, now->answered));
}

static json_t *connections_json(const struct admin *admin, const struct coord_census *now)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "open", count(now->connections), "lingering",
                     count(now->lingering), "accepted", count(now->accepted), "idle_released",
                     count(now->idle_released), "max", count(admin->server->max_connections));
}

static json_t *journal_json(const struct admin *admin)
{
    struct journal_stats stats;

    if (admin->server->journal == NULL)
        return json_null();
    journal_get_stats(admin->server->journal, &stats);
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "on_record", count(stats.slots_used),
                     "recorded", count(stats.recorded), "incomplete", count(stats.incomplete),
                     "unrecorded", count(stats.unrecorded), "archived", count(stats.archived),
                     "torn", count(stats.torn), "damaged", count(stats.damaged));
}

char *admin_status_text(struct admin *admin)
{
    struct coord_status status;
    struct coord_census now = {0};

    coord_get_status(admin->coord, &status);
    server_ops.census(admin->server, &now);
    refresh_list(admin, &status);
    json_t *all = json_pack(
        "{s:i, s:s, s:I, s:o, s:I, s:s, s:f, s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:o, s:o}",
        "schema", 1, "server", "lastcall/" LASTCALL_VERSION, "pid", (json_int_t)getpid(),
        "service_pid", service_pid_json(admin), "generation",
        (json_int_t)admin->server->config.generation, "started", admin->started_wall, "uptime_s",
        round((double)(clock_now_ns() - admin->started_ns) / 1e6) / 1e3, "phase",
        phase_name(status.phase), "ready", admin_is_ready(admin), "live",
        server_is_moving(admin->server), "listeners", listeners_json(admin->server), "requests",
        requests_json(admin, &status, &now), "connections", connections_json(admin, &now), "pool",
        pool_json(admin), "upstreams", admin_upstreams(admin->server), "journal",
        journal_json(admin), "oldest", oldest_json(admin), "oldest_left_out",
        count(oldest_left_out(admin)), "restart", restart_json(admin), "drain",
        drain_json(&status, &now));
    if (all != NULL && status.phase == PHASE_DONE && status.exit_status >= 0)
        (void)json_object_set_new(all, "exit_status", json_integer(status.exit_status));
    char *text = all != NULL ? json_dumps(all, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS)) : NULL;
    json_decref(all);
    return text;
}

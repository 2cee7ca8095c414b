#include "report.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "log.h"

#define NAMED_IN_LOG 20 /* unfinished requests in the log; the report has all listed ones */

typedef unsigned long long ull;

void coord_requests_release(struct coord_requests *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->items[i].method);
        free(list->items[i].path);
        free(list->items[i].authority);
        free(list->items[i].peer);
        free(list->items[i].id);
    }
    free(list->items);
    memset(list, 0, sizeof(*list));
}

void report_add_trigger(struct report *report, const char *name, const char *detail,
                        uint64_t now_ns)
{
    if (report->trigger_count == COORD_TRIGGERS_MAX) {
        report->triggers_left_out++;
        return;
    }
    struct coord_trigger *trigger = &report->triggers[report->trigger_count++];
    (void)snprintf(trigger->name, sizeof(trigger->name), "%s", name);
    (void)snprintf(trigger->detail, sizeof(trigger->detail), "%s", detail);
    trigger->at_ns = now_ns;
}

/* For a text that could not be copied without memory. */
static const char *known(const char *text)
{
    return text != NULL ? text : "?";
}

static const char *plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* The request and how long it takes, for a person who waits. */
static const char *force_text(const struct drain_config *config, char *text, size_t size)
{
    char apart[CLOCK_TEXT_SIZE];

    if (config->force_after_ns == CLOCK_NEVER)
        (void)snprintf(text, size, "it can be cut short");
    else if (config->force_after_ns == 0)
        (void)snprintf(text, size, "a second signal cuts it short");
    else
        (void)snprintf(text, size, "a second signal cuts it short if it comes %s after, or later",
                       clock_format_duration(config->force_after_ns, apart));
    return text;
}

/* `10s`, or `10s (tunnels 2s, uploads 30s)`. */
static const char *deadlines_text(const struct drain_config *config, char *text, size_t size)
{
    char one[CLOCK_TEXT_SIZE];
    size_t used =
        (size_t)snprintf(text, size, "%s", clock_format_duration(config->deadline_ns, one));
    bool any = false;

    for (size_t i = 0; i < DRAIN_CLASSES && used < size; i++) {
        if (config->class_ns[i] == 0)
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s %s", any ? ", " : " (",
                                 drain_class_name((enum drain_class)i),
                                 clock_format_duration(config->class_ns[i], one));
        any = true;
    }
    if (any && used < size)
        (void)snprintf(text + used, size - used, ")");
    return text;
}

void report_log_begin(const struct report *report, const struct drain_config *config)
{
    const struct coord_trigger *trigger = &report->triggers[0];
    const char *comes = strncmp(trigger->name, "SIG", 3) == 0 ? " received" : ":";
    char text[160], force[96];

    log_line(LOG_LEVEL_INFO, "drain-begun",
             json_pack("{s:o, s:o, s:I, s:I, s:I, s:I}", "trigger", log_json_text(trigger->name),
                       "detail", log_json_text(trigger->detail), "in_flight",
                       (json_int_t)report->begin.active, "connections",
                       (json_int_t)report->begin.connections, "deadline_ms",
                       (json_int_t)(drain_longest_ns(config) / NS_PER_MS), "force_after_ms",
                       config->force_after_ns == CLOCK_NEVER
                           ? (json_int_t)-1
                           : (json_int_t)(config->force_after_ns / NS_PER_MS)),
             "%s%s%s%s: draining, %llu request%s in flight on %llu connection%s, deadline %s; %s",
             trigger->name, trigger->detail[0] != '\0' || comes[0] == ' ' ? comes : "",
             trigger->detail[0] != '\0' ? " " : "", trigger->detail, (ull)report->begin.active,
             plural(report->begin.active), (ull)report->begin.connections,
             plural(report->begin.connections), deadlines_text(config, text, sizeof(text)),
             force_text(config, force, sizeof(force)));
}

static uint64_t left_ns(const struct drain *drain, uint64_t now_ns)
{
    uint64_t end_ns = drain->deadline_at_ns;
    if (drain->phase == PHASE_LAME_DUCK)
        end_ns = drain_lame_duck_until_ns(drain);
    return end_ns == CLOCK_NEVER || end_ns < now_ns ? 0 : end_ns - now_ns;
}

void report_status(const struct drain *drain, const struct coord_census *census,
                   uint64_t pool_active, uint64_t now_ns)
{
    log_status("%s: %llu request%s in flight, %llu job%s, %llu connection%s, %.1fs left",
               phase_name(drain->phase), (ull)census->active, plural(census->active),
               (ull)pool_active, plural(pool_active), (ull)census->connections,
               plural(census->connections), (double)left_ns(drain, now_ns) / (double)NS_PER_S);
}

void report_log_progress(const struct drain *drain, const struct coord_census *census,
                         const struct coord_requests *oldest, uint64_t now_ns)
{
    char names[512] = "", age[CLOCK_TEXT_SIZE], left[CLOCK_TEXT_SIZE];
    size_t used = 0, named = oldest->count < 3 ? oldest->count : 3;

    for (size_t i = 0; i < named && used < sizeof(names) - 1; i++) {
        const struct coord_request *r = &oldest->items[i];
        int n = snprintf(names + used, sizeof(names) - used, "%s%s %.80s (%s, %s)",
                         i == 0 ? "; oldest: " : ", ", known(r->method), known(r->path), r->state,
                         clock_format_duration(r->age_ns, age));
        used += n > 0 ? (size_t)n : 0;
    }
    log_line(LOG_LEVEL_INFO, "drain-progress",
             json_pack("{s:s, s:I, s:I, s:I}", "phase", phase_name(drain->phase), "in_flight",
                       (json_int_t)census->active, "connections", (json_int_t)census->connections,
                       "left_ms", (json_int_t)(left_ns(drain, now_ns) / NS_PER_MS)),
             "%s: waiting for %llu request%s on %llu connection%s, %s left%s",
             phase_name(drain->phase), (ull)census->active, plural(census->active),
             (ull)census->connections, plural(census->connections),
             clock_format_duration(left_ns(drain, now_ns), left), names);
}

/* ---- the end ---- */

static uint64_t since_request_ns(const struct report *report, const struct drain *drain)
{
    return report->ended_ns - drain->requested_ns;
}

/* How long the phase lasted from which a deadline counts. Neither the lame duck before it nor the
 * time for listing and archiving belongs to it. */
static uint64_t cut_after_ns(const struct drain *drain)
{
    return drain->entered_ns[PHASE_ABORTING] - drain->entered_ns[PHASE_CLOSING];
}

static void log_unfinished(const struct coord_request *r)
{
    char age[CLOCK_TEXT_SIZE];

    log_line(LOG_LEVEL_WARN, "unfinished",
             json_pack("{s:o, s:o, s:o, s:o, s:s*, s:s, s:I}", "method", log_json_text(r->method),
                       "path", log_json_text(r->path), "authority", log_json_text(r->authority),
                       "peer", log_json_text(r->peer), "request_id", r->id, "state", r->state,
                       "age_ms", (json_int_t)(r->age_ns / NS_PER_MS)),
             "unfinished: %s %s from %s, %s, age %s%s%s", known(r->method), known(r->path),
             known(r->peer), r->state, clock_format_duration(r->age_ns, age),
             r->id != NULL ? ", request id " : "", r->id != NULL ? r->id : "");
}

static void log_cut_short(const struct report *report, const struct drain *drain)
{
    char text[CLOCK_TEXT_SIZE];
    bool forced = drain->cause == DRAIN_CAUSE_FORCED;
    size_t listed = report->unfinished.count + report->unfinished.left_out;
    size_t n = listed + report->end.given_up; /* those were logged when they were given up */
    size_t named =
        report->unfinished.count < NAMED_IN_LOG ? report->unfinished.count : NAMED_IN_LOG;
    uint64_t after_ns = forced ? since_request_ns(report, drain) : cut_after_ns(drain);
    log_line(LOG_LEVEL_WARN, forced ? "drain-forced" : "drain-deadline",
             json_pack("{s:I, s:f}", "unfinished", (json_int_t)n, "after_ms",
                       (double)after_ns / (double)NS_PER_MS),
             "%s%s after %s: %zu request%s unfinished", forced ? "forced by " : "deadline exceeded",
             forced ? report->forced_by : "", clock_format_duration(after_ns, text), n, plural(n));
    for (size_t i = 0; i < named; i++)
        log_unfinished(&report->unfinished.items[i]);
    if (listed > named)
        log_line(LOG_LEVEL_WARN, "unfinished-more",
                 json_pack("{s:I}", "count", (json_int_t)(listed - named)),
                 "unfinished: and %zu more", listed - named);
}

static void log_archived(const struct coord_archived *archived)
{
    if (archived->count > 0)
        log_line(
            LOG_LEVEL_WARN, "archived",
            json_pack("{s:I, s:s}", "count", (json_int_t)archived->count, "path", archived->path),
            "%llu request%s archived to %s", (ull)archived->count, plural(archived->count),
            archived->path);
}

static void log_outcome(const struct report *report, const struct drain *drain)
{
    char text[CLOCK_TEXT_SIZE];
    uint64_t answered = report->end.answered - report->begin.answered;

    if (drain->cause == DRAIN_CAUSE_QUIET && report->end.given_up > 0) {
        log_line(LOG_LEVEL_WARN, "drained-short",
                 json_pack("{s:I, s:I}", "unfinished", (json_int_t)report->end.given_up, "answered",
                           (json_int_t)answered),
                 "drained in %s: %llu answered, %llu unfinished",
                 clock_format_duration(since_request_ns(report, drain), text), (ull)answered,
                 (ull)report->end.given_up);
        return;
    }
    if (drain->cause == DRAIN_CAUSE_FORCED ||
        (drain->cause == DRAIN_CAUSE_DEADLINE &&
         report->unfinished.count + report->unfinished.left_out + report->end.given_up > 0)) {
        log_cut_short(report, drain);
        return;
    }
    if (drain->cause == DRAIN_CAUSE_DEADLINE) {
        log_line(LOG_LEVEL_WARN, "drained-late",
                 json_pack("{s:i, s:I, s:f}", "unfinished", 0, "connections",
                           (json_int_t)report->connections_cut, "after_ms",
                           (double)cut_after_ns(drain) / (double)NS_PER_MS),
                 "deadline reached after %s: %llu answered, nothing unfinished, %llu connection%s "
                 "without a request cut",
                 clock_format_duration(cut_after_ns(drain), text), (ull)answered,
                 (ull)report->connections_cut, plural(report->connections_cut));
        return;
    }
    char handed[64] = "";
    if (report->end.handed_over > 0)
        (void)snprintf(handed, sizeof(handed), ", %llu handed over", (ull)report->end.handed_over);
    log_line(LOG_LEVEL_INFO, "drained",
             json_pack("{s:f, s:I, s:I, s:I}", "took_ms",
                       (double)since_request_ns(report, drain) / (double)NS_PER_MS, "answered",
                       (json_int_t)answered, "idle_released", (json_int_t)report->end.idle_released,
                       "handed_over", (json_int_t)report->end.handed_over),
             "drained in %s: %llu answered, %llu idle connection%s released%s",
             clock_format_duration(since_request_ns(report, drain), text), (ull)answered,
             (ull)report->end.idle_released, plural(report->end.idle_released), handed);
}

void report_log_end(const struct report *report, const struct drain *drain)
{
    log_outcome(report, drain);
    log_archived(&report->archived);
}

/* ---- the file ---- */

static json_t *triggers_json(const struct report *report)
{
    json_t *list = json_array();
    for (size_t i = 0; i < report->trigger_count; i++) {
        const struct coord_trigger *t = &report->triggers[i];
        (void)json_array_append_new(
            list, json_pack("{s:o, s:o, s:f}", "name", log_json_text(t->name), "detail",
                            log_json_text(t->detail), "at_ms",
                            (double)(t->at_ns - report->triggers[0].at_ns) / (double)NS_PER_MS));
    }
    return list;
}

static json_t *phases_json(const struct report *report, const struct drain *drain)
{
    json_t *list = json_array();
    uint64_t zero_ns = report->trigger_count > 0 ? report->triggers[0].at_ns : 0;
    for (enum coord_phase p = PHASE_LAME_DUCK; p < PHASE_COUNT; p++)
        if (drain->entered_ns[p] != 0)
            (void)json_array_append_new(
                list, json_pack("{s:s, s:f}", "phase", phase_name(p), "at_ms",
                                (double)(drain->entered_ns[p] - zero_ns) / (double)NS_PER_MS));
    return list;
}

static json_t *unfinished_json(const struct coord_requests *unfinished)
{
    json_t *list = json_array();
    for (size_t i = 0; i < unfinished->count; i++) {
        const struct coord_request *r = &unfinished->items[i];
        (void)json_array_append_new(
            list, json_pack("{s:o, s:o, s:o, s:o, s:s*, s:s, s:f, s:I, s:I}", "method",
                            log_json_text(r->method), "path", log_json_text(r->path), "authority",
                            log_json_text(r->authority), "peer", log_json_text(r->peer),
                            "request_id", r->id, "state", r->state, "age_ms",
                            (double)r->age_ns / (double)NS_PER_MS, "body_bytes",
                            (json_int_t)r->body_bytes, "sent_bytes", (json_int_t)r->sent_bytes));
    }
    return list;
}

static json_t *archive_json(const struct coord_archived *archived)
{
    return archived->path[0] != '\0' ? json_string(archived->path) : json_null();
}

static json_t *counts_json(const struct report *report)
{
    const struct coord_census *begin = &report->begin, *end = &report->end;
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "in_flight_at_begin",
        (json_int_t)begin->active, "connections_at_begin", (json_int_t)begin->connections,
        "accepted_during", (json_int_t)(end->accepted - begin->accepted), "answered_during",
        (json_int_t)(end->answered - begin->answered), "idle_released",
        (json_int_t)end->idle_released, "handed_over", (json_int_t)end->handed_over,
        "tunnels_closed", (json_int_t)end->tunnels_told, "tunnels_cut",
        (json_int_t)end->tunnels_cut, "event_streams_ended", (json_int_t)end->streams_ended,
        "unfinished",
        (json_int_t)(report->unfinished.count + report->unfinished.left_out + report->end.given_up),
        "jobs_at_end", (json_int_t)report->pool_active_at_end);
}

int report_write(const struct report *report, const struct drain *drain, const char *path)
{
    static const char *const causes[] = {"none", "quiet", "deadline", "forced"};
    json_t *root =
        json_pack("{s:i, s:s, s:s, s:s, s:i, s:o, s:I, s:f, s:f, s:o, s:o, s:o, s:I, s:o}",
                  "schema", 1, "server", "lastcall/" LASTCALL_VERSION, "began", report->began_wall,
                  "outcome", causes[drain->cause], "exit_status", report->status, "triggers",
                  triggers_json(report), "triggers_left_out", (json_int_t)report->triggers_left_out,
                  "took_ms", (double)since_request_ns(report, drain) / (double)NS_PER_MS,
                  "deadline_ms", (double)drain_longest_ns(&drain->config) / (double)NS_PER_MS,
                  "phases", phases_json(report, drain), "counts", counts_json(report), "unfinished",
                  unfinished_json(&report->unfinished), "archived",
                  (json_int_t)report->archived.count, "archive", archive_json(&report->archived));
    if (root == NULL)
        return -ENOMEM;
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9)), *lines = NULL;
    json_decref(root);
    if (text != NULL && asprintf(&lines, "%s\n", text) < 0)
        lines = NULL;
    /* Not world-readable: it has paths and addresses. */
    int err = lines != NULL ? file_write_whole_as(path, lines, 0640) : -ENOMEM;
    free(lines);
    free(text);
    return err;
}

#include "metrics.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "clock.h"
#include "loop.h"
#include "metrics_p.h"
#include "server_state.h"

#define CLOCK_IS "to about a millisecond, that of the event loop's clock"

static_assert(METRICS_BUCKETS == POOL_WAIT_BUCKETS, "one function writes both");

static const char *const kind_names[] = {
#define ROUTE_KIND_NAME(id, name) [ROUTE_##id] = name,
    ROUTE_KINDS(ROUTE_KIND_NAME)
#undef ROUTE_KIND_NAME
};

static const char *const refusal_labels[] = {
#define REFUSAL_LABEL(id, label, status, reason, text) [REFUSAL_##id] = label,
    REFUSALS(REFUSAL_LABEL)
#undef REFUSAL_LABEL
};

static const char *const cut_reason_names[] = {
#define CUT_REASON_NAME(id, name) [CUT_##id] = name,
    CUT_REASONS(CUT_REASON_NAME)
#undef CUT_REASON_NAME
};

/* ---- writing ---- */

static void seconds(FILE *out, const char *name, const char *labels, double value)
{
    (void)fprintf(out, "%s%s %.9g\n", name, labels, value);
}

void metrics_histogram(FILE *out, const char *name, const char *label, const uint64_t *buckets,
                       uint64_t sum_ns)
{
    const char *comma = label[0] != '\0' ? "," : "";
    uint64_t so_far = 0;

    for (unsigned k = 0; k < METRICS_BUCKETS - 1; k++) {
        so_far += buckets[k];
        (void)fprintf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", name, label, comma,
                      (double)(UINT64_C(1) << k) / 1e3, (ull)so_far);
    }
    so_far += buckets[METRICS_BUCKETS - 1];
    (void)fprintf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", name, label, comma, (ull)so_far);
    const char *open = label[0] != '\0' ? "{" : "", *close = label[0] != '\0' ? "}" : "";
    (void)fprintf(out, "%s_sum%s%s%s %.9g\n%s_count%s%s%s %llu\n", name, open, label, close,
                  (double)sum_ns / 1e9, name, open, label, close, (ull)so_far);
}

/* ---- adding up ---- */

uint64_t metrics_sum(struct server *server, size_t offset)
{
    uint64_t all = 0;

    for (unsigned i = 0; i < server->started; i++)
        all += count_get((_Atomic uint64_t *)(void *)((char *)&server->loops[i].metrics + offset));
    return all;
}

/* ---- requests ---- */

static void write_requests(FILE *out, struct server *server)
{
    family(
        out, "lastcall_requests_total", "counter",
        "Requests answered, by what their path is for and by the class of the status; a path with "
        "handlers of several kinds is \"other\".");
    for (size_t kind = 0; kind < ROUTE_KIND_COUNT; kind++)
        for (size_t class = 1; class < METRICS_CLASSES; class ++)
            (void)fprintf(out, "lastcall_requests_total{route=\"%s\",status=\"%zuxx\"} %llu\n",
                          kind_names[kind], class,
                          (ull)SUM_AT(server, requests, kind * METRICS_CLASSES + class));
    family(out, "lastcall_requests_aborted_total", "counter",
           "Requests that ended without a whole answer: the client left, or a limit cut them.");
    for (size_t kind = 0; kind < ROUTE_KIND_COUNT; kind++)
        (void)fprintf(out, "lastcall_requests_aborted_total{route=\"%s\"} %llu\n", kind_names[kind],
                      (ull)SUM_AT(server, aborted, kind));
    one(out, "lastcall_requests_shed_total", "counter",
        "Requests answered with 503 because the queue was full, or bodies held too much memory.",
        server_shed(server));
    family(out, "lastcall_requests_refused_total", "counter",
           "HTTP/1 requests that were refused because servers could read them differently, by "
           "reason.");
    for (size_t i = 0; i < REFUSAL_COUNT; i++)
        (void)fprintf(out, "lastcall_requests_refused_total{reason=\"%s\"} %llu\n",
                      refusal_labels[i], (ull)SUM_AT(server, refused, i));
    family(out, "lastcall_request_duration_seconds", "histogram",
           "From the whole request to the last byte handed to the kernel, " CLOCK_IS
           "; requests without a whole answer are left out.");
    for (size_t kind = 0; kind < ROUTE_KIND_COUNT; kind++) {
        uint64_t buckets[METRICS_BUCKETS];
        char label[32];
        for (size_t k = 0; k < METRICS_BUCKETS; k++)
            buckets[k] = SUM_AT(server, took, kind * METRICS_BUCKETS + k);
        (void)snprintf(label, sizeof(label), "route=\"%s\"", kind_names[kind]);
        metrics_histogram(out, "lastcall_request_duration_seconds", label, buckets,
                          SUM_AT(server, took_ns, kind));
    }
    one(out, "lastcall_arriving_body_bytes", "gauge",
        "Parts of request bodies that have arrived, of bodies that are not whole; each counts in "
        "steps of 64 KiB.",
        atomic_load_explicit(&server->arriving_bytes, memory_order_relaxed));
    one(out, "lastcall_arriving_body_bytes_limit", "gauge", "Beyond it, requests are refused.",
        server->max_arriving);
    one(out, "lastcall_arriving_bodies_refused_total", "counter",
        "Requests that were refused while their body arrived, for the sum of all was too large.",
        SUM(server, bodies_refused));
    one(out, "lastcall_request_body_bytes", "gauge",
        "Request bodies that are held for handlers on workers.",
        atomic_load_explicit(&server->job_body_bytes, memory_order_relaxed));
}

/* ---- connections ---- */

static void write_connections(FILE *out, struct server *server, const struct coord_census *now)
{
    static const char name[] = "lastcall_connections";
    uint64_t busy = SUM(server, busy), taken = busy + now->lingering;

    family(out, name, "gauge",
           "Open connections: active with a request in flight, lingering until the peer has its "
           "answer, all others idle.");
    (void)fprintf(out, "%s{state=\"active\"} %llu\n", name, (ull)busy);
    (void)fprintf(out, "%s{state=\"idle\"} %llu\n", name,
                  (ull)(now->connections > taken ? now->connections - taken : 0));
    (void)fprintf(out, "%s{state=\"lingering\"} %llu\n", name, (ull)now->lingering);
    one(out, "lastcall_connections_limit", "gauge",
        "Connections that are accepted at a time; others wait in the kernel.",
        server->max_connections);
    one(out, "lastcall_connections_limit_reached_total", "counter",
        "Times that a loop stopped accepting because that many were open, and more came.",
        SUM(server, limit_reached));
    one(out, "lastcall_connections_gave_way_total", "counter",
        "Connections that were closed while they idled, to make room for new ones.",
        SUM(server, gave_way));
    one(out, "lastcall_connections_accepted_total", "counter", "Connections accepted.",
        now->accepted);
    one(out, "lastcall_connections_released_total", "counter",
        "Connections that a drain let go while they idled.", now->idle_released);
    one(out, "lastcall_accept_errors_total", "counter",
        "Connections that could not be accepted: no descriptor was left, or the client had gone.",
        SUM(server, accept_errors));
    family(out, "lastcall_tls_handshakes_total", "counter",
           "TLS handshakes that began, by how they ended.");
    (void)fprintf(out, "lastcall_tls_handshakes_total{result=\"ok\"} %llu\n",
                  (ull)SUM(server, handshakes_done));
    (void)fprintf(out, "lastcall_tls_handshakes_total{result=\"failed\"} %llu\n",
                  (ull)SUM(server, handshakes_failed));
    one(out, "lastcall_http2_resets_total", "counter",
        "HTTP/2 streams that were reset by the client or by this server, or refused.",
        SUM(server, h2_resets));
    family(
        out, "lastcall_http2_refused_total", "counter",
        "What HTTP/2 clients were refused: requests that break a rule of the protocol, with more "
        "header or body than the limits allow; calm: connections that were told to calm down.");
    (void)fprintf(out, "lastcall_http2_refused_total{reason=\"malformed\"} %llu\n",
                  (ull)SUM(server, h2_malformed));
    (void)fprintf(out, "lastcall_http2_refused_total{reason=\"header\"} %llu\n",
                  (ull)SUM(server, h2_header_limit));
    (void)fprintf(out, "lastcall_http2_refused_total{reason=\"body\"} %llu\n",
                  (ull)SUM(server, h2_body_limit));
    (void)fprintf(out, "lastcall_http2_refused_total{reason=\"calm\"} %llu\n",
                  (ull)SUM(server, h2_calmed));
    family(
        out, "lastcall_clients_cut_total", "counter",
        "Clients that were too slow, by what they were too slow with: the head of a request, its "
        "body, taking an answer; idle are HTTP/2 connections without a stream.");
    for (size_t i = 0; i < CUT_REASON_COUNT; i++)
        (void)fprintf(out, "lastcall_clients_cut_total{reason=\"%s\"} %llu\n", cut_reason_names[i],
                      (ull)SUM_AT(server, clients_cut, i));
    one(out, "lastcall_listeners", "gauge", "Listeners that are open.", now->listeners);
}

/* ---- the pool ---- */

static void write_tunnels(FILE *out, struct server *server, const struct coord_census *now)
{
#define LABEL(id, label) [TUNNEL_END_##id] = (label),
    static const char *const labels[] = {TUNNEL_ENDS(LABEL)};
#undef LABEL
    const char *name = "lastcall_tunnels_ended_total";

    one(out, "lastcall_tunnels", "gauge", "Upgraded connections, such as WebSocket, that are open.",
        SUM(server, tunnels_open));
    family(
        out, name, "counter",
        "Upgraded connections that have ended: a peer did it, no traffic came, or a drain closed "
        "or cut them.");
    for (size_t i = 0; i < TUNNEL_END_COUNT; i++)
        (void)fprintf(out, "%s{how=\"%s\"} %llu\n", name, labels[i],
                      (ull)SUM_AT(server, tunnels_ended, i));
    (void)fprintf(out, "%s{how=\"going-away\"} %llu\n%s{how=\"cut\"} %llu\n", name,
                  (ull)now->tunnels_told, name, (ull)now->tunnels_cut);
    one(out, "lastcall_event_streams_ended_total", "counter",
        "Event streams of upstreams that a drain ended between two events.", now->streams_ended);
}

static void write_waits_of_loops(FILE *out, struct server *server)
{
    uint64_t so_far = 0;

    family(out, "lastcall_loop_wait_seconds", "histogram",
           "How long a turn of a loop has waited for handlers in place.");
    for (size_t k = 0; k < METRICS_WAITS; k++) {
        so_far += SUM_AT(server, waits, k);
        if (k < METRICS_WAITS - 1)
            (void)fprintf(out, "lastcall_loop_wait_seconds_bucket{le=\"%g\"} %llu\n",
                          (double)(UINT64_C(16) << k) / 1e6, (ull)so_far);
    }
    (void)fprintf(out,
                  "lastcall_loop_wait_seconds_bucket{le=\"+Inf\"} %llu\n"
                  "lastcall_loop_wait_seconds_sum %.9g\nlastcall_loop_wait_seconds_count %llu\n",
                  (ull)so_far, (double)SUM(server, waited_ns) / 1e9, (ull)so_far);
}

static void write_pool(FILE *out, struct server *server)
{
    struct pool_stats stats;
    struct pool_waits waits;

    pool_get_stats(server->pool, &stats);
    pool_get_waits(server->pool, &waits);
    one(out, "lastcall_pool_workers", "gauge", "Handlers that may run at once.", stats.workers);
    one(out, "lastcall_pool_workers_busy", "gauge", "Handlers that run.", stats.running);
    one(out, "lastcall_pool_threads", "gauge",
        "Threads that exist: at most one for each handler that may run at once, and one for each "
        "loop.",
        stats.threads);
    one(out, "lastcall_placed_total", "counter",
        "Requests whose handler was called in place, by the thread that drives the loop.",
        stats.placed);
    one(out, "lastcall_handed_off_total", "counter",
        "Handlers in place that kept their loop waiting, so that another thread went on with it.",
        stats.handed_off);
    one(out, "lastcall_pool_queue_length", "gauge", "Requests that wait for a worker.",
        stats.queued);
    one(out, "lastcall_pool_queue_limit", "gauge",
        "Requests that may wait for a worker; others are shed.", server->config.queue);
    one(out, "lastcall_pool_jobs_total", "counter", "Requests that the pool has taken.",
        stats.taken);
    one(out, "lastcall_pool_refused_total", "counter",
        "Requests that the pool has refused because its queue was full.", stats.refused);
    one(out, "lastcall_pool_dropped_total", "counter",
        "Requests that were taken out of the queue, and answered with 503, because their "
        "connection "
        "had more than a quarter of it and others came.",
        stats.dropped);
    family(out, "lastcall_pool_wait_seconds", "histogram",
           "How long requests have waited for a worker, " CLOCK_IS ", rounded up.");
    metrics_histogram(out, "lastcall_pool_wait_seconds", "", waits.buckets, waits.sum_ns);
    write_waits_of_loops(out, server);
}

/* ---- the drain ---- */

/* How long a phase has lasted so far. They are entered in the order of the enum. */
static uint64_t phase_ns(const struct coord_status *status, int phase)
{
    uint64_t end_ns = phase == PHASE_DONE ? status->entered_ns[phase] : clock_now_ns();

    if (status->entered_ns[phase] == 0)
        return 0;
    for (int later = PHASE_COUNT - 1; later > phase; later--)
        if (status->entered_ns[later] != 0)
            end_ns = status->entered_ns[later];
    return end_ns - status->entered_ns[phase];
}

static void write_drain(FILE *out, struct server *server, const struct coord_census *now)
{
    struct coord_status status;
    char label[32];

    coord_get_status(server->coord, &status);
    family(out, "lastcall_drain_phase", "gauge", "1 for the phase that holds, 0 for the others.");
    for (int phase = 0; phase < PHASE_COUNT; phase++)
        (void)fprintf(out, "lastcall_drain_phase{phase=\"%s\"} %d\n",
                      phase_name((enum coord_phase)phase), status.phase == (enum coord_phase)phase);
    family(out, "lastcall_drain_phase_duration_seconds", "gauge",
           "How long each phase of this drain has lasted so far.");
    for (int phase = PHASE_LAME_DUCK; phase < PHASE_DONE; phase++) {
        (void)snprintf(label, sizeof(label), "{phase=\"%s\"}", phase_name((enum coord_phase)phase));
        seconds(out, "lastcall_drain_phase_duration_seconds", label,
                (double)phase_ns(&status, phase) / 1e9);
    }
    one(out, "lastcall_requests_in_flight", "gauge",
        "Requests from whole to last byte handed to the kernel.", now->active);
    one(out, "lastcall_requests_unfinished_total", "counter",
        "Requests that the drain could not finish: cut by a limit, or on record at its end.",
        now->given_up + status.unfinished);
}

/* ---- the in-flight record ---- */

static void write_journal(FILE *out, struct server *server)
{
    struct journal_stats stats;

    if (server->journal == NULL)
        return;
    journal_get_stats(server->journal, &stats);
    one(out, "lastcall_journal_requests", "gauge", "Requests that are on record now.",
        stats.slots_used);
    one(out, "lastcall_journal_units", "gauge", "Units of 4 KiB in the record.", stats.units);
    one(out, "lastcall_journal_units_used", "gauge", "Units of the record that are in use.",
        stats.units_used);
    one(out, "lastcall_journal_recorded_total", "counter", "Requests that were put on record.",
        stats.recorded);
    one(out, "lastcall_journal_incomplete_total", "counter",
        "Requests on record whose body or headers did not fit.", stats.incomplete);
    one(out, "lastcall_journal_unrecorded_total", "counter",
        "Requests that should have been on record, and found no room.", stats.unrecorded);
    one(out, "lastcall_journal_archived_total", "counter",
        "Requests that went to the archive, those of processes that had died included.",
        stats.archived);
    one(out, "lastcall_journal_torn_total", "counter",
        "Records of processes that died while they wrote them.", stats.torn);
    one(out, "lastcall_journal_damaged_total", "counter", "Records that fail their checksum.",
        stats.damaged);
}

/* ---- the process ---- */

static void write_process(FILE *out, struct server *server)
{
    struct timespec cpu = {0};
    struct rlimit files;
    struct stat st;

    family(out, "lastcall_build_info", "gauge", "What this is made of.");
    (void)fprintf(out, "lastcall_build_info{version=\"%s\",libh2o=\"%s\",openssl=\"%s\"} 1\n",
                  LASTCALL_VERSION, H2O_VERSION, OpenSSL_version(OPENSSL_VERSION_STRING));
    one(out, "lastcall_generation", "gauge",
        "How often this service was restarted in place, this process included.",
        server->config.generation);
    one(out, "lastcall_event_loops", "gauge", "Event loops, one thread each.", server->started);
    one(out, "lastcall_stalls_total", "counter",
        "How often an event loop, a worker or the pool was found to stand still.",
        server_stalls(server));
    family(out, "process_start_time_seconds", "gauge",
           "When the process started, since the Unix epoch.");
    (void)fprintf(out, "process_start_time_seconds %lld\n", (long long)server->launched);
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    family(out, "process_cpu_seconds_total", "counter", "Processor time, of user and system.");
    seconds(out, "process_cpu_seconds_total", "", (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9);
    /* Linux 6.2 and later has the number here; counting them one by one would take its time. */
    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
        one(out, "process_open_fds", "gauge", "Open descriptors.", (uint64_t)st.st_size);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY)
        one(out, "process_max_fds", "gauge", "The limit on them.", files.rlim_cur);
}

char *metrics_text(struct server *server)
{
    struct coord_census now = {0};
    char *text = NULL;
    size_t bytes;
    FILE *out = open_memstream(&text, &bytes);

    if (out == NULL)
        return NULL;
    server_ops.census(server, &now);
    write_requests(out, server);
    write_connections(out, server, &now);
    metrics_upstreams(out, server);
    write_tunnels(out, server, &now);
    write_pool(out, server);
    write_drain(out, server, &now);
    write_journal(out, server);
    write_process(out, server);
    if (fclose(out) == 0)
        return text;
    free(text);
    return NULL;
}

#include "loadgen.h"

#include <inttypes.h>

/* One table of figures for both forms of the report. */

struct row {
    const char *name;
    uint64_t value;
    enum { COUNT, MS_OF_NS, ABSENT } form;
};

static struct row count_row(const char *name, uint64_t value)
{
    return (struct row){.name = name, .value = value, .form = COUNT};
}

/* The time from one instant to a later one; 0: that instant did not happen. */
static struct row span_row(const char *name, uint64_t from_ns, uint64_t to_ns)
{
    bool exists = from_ns != 0 && to_ns >= from_ns;

    return (struct row){
        .name = name, .value = exists ? to_ns - from_ns : 0, .form = exists ? MS_OF_NS : ABSENT};
}

#define ROWS_MAX 64

static size_t fill_outcomes(const struct load_result *r, struct row *rows)
{
    size_t n = 0;

    rows[n++] = count_row("sent", r->sent);
    rows[n++] = count_row("answered", r->answered);
    rows[n++] = count_row("answered_2xx", r->answered_2xx);
    rows[n++] = count_row("answered_503", r->answered_503);
    rows[n++] = count_row("answered_other", r->answered_other);
    rows[n++] = count_row("answered_after_signal", r->answered_after_signal);
    rows[n++] = count_row("refused", r->refused);
    rows[n++] = count_row("failed_handshakes", r->failed_handshakes);
    rows[n++] = count_row("refused_streams", r->refused_streams);
    rows[n++] = count_row("refused_pipelined", r->refused_pipelined);
    rows[n++] = count_row("unsent", r->unsent);
    rows[n++] = count_row("waiting_to_start", r->waiting_to_start);
    rows[n++] = count_row("queue_overflow", r->queue_overflow);
    rows[n++] = count_row("lost", r->lost);
    rows[n++] = count_row("lost_reset", r->lost_reset);
    rows[n++] = count_row("lost_eof", r->lost_eof);
    rows[n++] = count_row("lost_truncated", r->lost_truncated);
    rows[n++] = count_row("lost_on_reused", r->lost_on_reused);
    rows[n++] = count_row("waiting", r->waiting);
    rows[n++] = count_row("closes_announced", r->closes_announced);
    rows[n++] = count_row("goaways", r->goaways);
    rows[n++] = count_row("connects", r->connects);
    return n;
}

static size_t fill_crowd(const struct load_result *r, struct row *rows)
{
    size_t n = 0;

    rows[n++] = count_row("idle_opened", r->idle.opened);
    rows[n++] = count_row("idle_failed", r->idle.failed);
    rows[n++] = count_row("idle_closed", r->idle.closed);
    rows[n++] = count_row("idle_still_open", r->idle.still_open);
    rows[n++] = count_row("silent_opened", r->silent.opened);
    rows[n++] = count_row("silent_failed", r->silent.failed);
    rows[n++] = count_row("silent_closed", r->silent.closed);
    rows[n++] = count_row("silent_still_open", r->silent.still_open);
    return n;
}

static size_t fill_times(const struct load_result *r, uint64_t wall_ns, struct row *rows)
{
    uint64_t rate = wall_ns > 0 ? (uint64_t)((double)r->answered * 1e9 / (double)wall_ns) : 0;
    uint64_t tail_us = r->signal_ns != 0 && r->last_answer_ns > r->signal_ns
                           ? (r->last_answer_ns - r->signal_ns) / 1000
                           : 0;
    size_t n = 0;

    rows[n++] =
        count_row("signal_monotonic_us", r->signal_ns / 1000); /* to compare with other logs */
    rows[n++] = count_row("last_answer_after_signal_us", tail_us);
    rows[n++] = span_row("signal_to_first_refused_ms", r->signal_ns, r->first_refused_ns);
    rows[n++] = span_row("signal_to_gone_ms", r->signal_ns, r->gone_ns);
    rows[n++] = span_row("last_answer_to_gone_ms", r->last_answer_ns, r->gone_ns);
    rows[n++] = count_row("latency_p50_us", r->latency_p50_us);
    rows[n++] = count_row("latency_p99_us", r->latency_p99_us);
    rows[n++] = count_row("latency_max_us", r->latency_max_us);
    rows[n++] = count_row("latency_before_signal_p50_us", r->before_signal.p50_us);
    rows[n++] = count_row("latency_before_signal_p99_us", r->before_signal.p99_us);
    rows[n++] = count_row("latency_before_signal_max_us", r->before_signal.max_us);
    rows[n++] = count_row("latency_after_signal_p50_us", r->after_signal.p50_us);
    rows[n++] = count_row("latency_after_signal_p99_us", r->after_signal.p99_us);
    rows[n++] = count_row("latency_after_signal_max_us", r->after_signal.max_us);
    rows[n++] = count_row("wall_ms", wall_ns / 1000000);
    rows[n++] = count_row("answered_per_s", rate);
    return n;
}

static void print_row(const struct row *row, bool json, FILE *file)
{
    const char *absent = json ? "null" : "-";
    int width = json ? 0 : 14;
    char value[32];

    if (row->form == COUNT)
        (void)snprintf(value, sizeof(value), "%" PRIu64, row->value);
    else if (row->form == MS_OF_NS)
        (void)snprintf(value, sizeof(value), "%.3f", (double)row->value / 1e6);
    else
        (void)snprintf(value, sizeof(value), "%s", absent);
    fprintf(file, json ? "\"%s\":%*s" : "%-29s%*s\n", row->name, width, value);
}

/* first_loss is our own text: it contains no quotes and no control characters. */
void load_report_print(const struct load_result *result, uint64_t wall_ns, bool json, FILE *file)
{
    struct row rows[ROWS_MAX];
    size_t count = fill_outcomes(result, rows);

    count += fill_crowd(result, rows + count);
    count += fill_times(result, wall_ns, rows + count);
    for (size_t i = 0; i < count; i++) {
        if (json)
            (void)fputs(i == 0 ? "{" : ",", file);
        print_row(&rows[i], json, file);
    }
    if (json)
        fprintf(file, ",\"first_loss\":\"%s\"}\n", result->first_loss);
    else if (result->first_loss[0] != '\0')
        fprintf(file, "first loss: %s\n", result->first_loss);
}

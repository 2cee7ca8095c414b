#include "loadgen_count.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "loadgen_latency.h"
#include "loadgen_open.h"
#include "loadgen_timeline.h"

/* Every request that began is counted once: as answered, lost (by kind), refused, unsent or
 * waiting. After a run
 *
 *     sent = answered + lost + waiting + refused_pipelined + those refused streams that were whole
 *
 * Requests of the crowd are not counted here. */

void load_request_begin(struct load_conn *c, struct load_request *r)
{
    struct load *l = c->load;

    assert(c->resting > 0);
    memset(r, 0, sizeof(*r));
    r->begun_ns = clock_now_ns();
    r->ordinal = ++c->requests;
    if (c->assigned > 0) {
        r->begun_ns = c->rest_due_ns[c->rest_head];
        c->assigned--;
        load_open_settled(l, 1);
    }
    c->rest_head = (c->rest_head + 1) % c->width;
    c->resting--;
    c->open_requests++;
    if (c->role != LOAD_ROLE_CLIENT)
        return;
    l->outstanding++;
    l->begun++;
    r->number = l->options->number_from + l->begun;
    if (l->begun == l->options->max_requests)
        l->stopped = true;
}

void load_request_sent(struct load_conn *c, struct load_request *r)
{
    r->whole = true;
    if (c->role != LOAD_ROLE_CLIENT)
        return;
    c->load->result->sent++;
    load_timeline_count(c->load, LOAD_SENT);
}

void load_request_body(struct load_conn *c, struct load_request *r, const uint8_t *data, size_t len)
{
    struct load *l = c->load;

    if (l->options->expect_body != NULL && !r->body_wrong)
        r->body_wrong = len > l->expect_len - r->body_seen ||
                        memcmp(l->options->expect_body + r->body_seen, data, len) != 0;
    r->body_seen += len;
}

/* After a request its permit rests for the pause. */
static void permit_rest(struct load_conn *c)
{
    struct load *l = c->load;

    c->rest_due_ns[(c->rest_head + c->resting) % c->width] =
        l->now_ns + l->options->pause_ms * NS_PER_MS;
    c->resting++;
    c->open_requests--;
    if (c->role != LOAD_ROLE_CLIENT)
        return;
    l->outstanding--;
    load_open_permit_free(c);
}

void load_write_number(uint64_t number, char *digits)
{
    for (unsigned i = 0; i < LOAD_NUMBER_DIGITS; i++)
        digits[i] = "0123456789abcdef"[number >> 4 * (LOAD_NUMBER_DIGITS - 1 - i) & 15];
}

static void report_outcome(const struct load *l, const struct load_request *r,
                           enum load_outcome outcome)
{
    if (l->options->on_outcome != NULL)
        l->options->on_outcome(l->options->on_outcome_arg, r->number, r->status, outcome);
}

/* `what` is a clause, for example "reset before the answer". */
static void note_first_loss(struct load_conn *c, const struct load_request *r, const char *what)
{
    struct load *l = c->load;
    const char *since = l->result->signal_ns != 0 ? "the signal" : "the start";
    uint64_t since_ns = l->result->signal_ns != 0 ? l->result->signal_ns : l->start_ns;

    if (l->result->first_loss[0] != '\0')
        return;
    (void)snprintf(
        l->result->first_loss, sizeof(l->result->first_loss),
        "%s, %.1f ms after %s and %.1f ms after the request began; connection %u.%" PRIu64
        ", its request %" PRIu64 ", status %d, %zu bytes of body",
        what, (double)(l->now_ns - since_ns) / 1e6, since, (double)(l->now_ns - r->begun_ns) / 1e6,
        c->number, c->incarnation, r->ordinal, r->status, r->body_seen); /* may be cut */
}

static void count_event(struct load *l, uint64_t *counter, enum load_kind kind)
{
    ++*counter;
    load_timeline_count(l, kind);
}

static void count_loss(struct load_conn *c, const struct load_request *r, uint64_t *kind,
                       const char *what)
{
    count_event(c->load, kind, LOAD_LOST);
    if (r->ordinal > 1)
        c->load->result->lost_on_reused++;
    note_first_loss(c, r, what);
}

static void count_answer(struct load *l, const struct load_request *r)
{
    struct load_result *res = l->result;
    uint64_t us = l->now_ns > r->begun_ns ? (l->now_ns - r->begun_ns) / 1000 : 0;

    res->answered++;
    if (r->status / 100 == 2)
        res->answered_2xx++;
    else if (r->status == 503)
        res->answered_503++;
    else
        res->answered_other++;
    if (res->signal_ns != 0)
        res->answered_after_signal++;
    res->last_answer_ns = l->now_ns;
    load_histogram_add(&l->latency, us);
    load_histogram_add(res->signal_ns != 0 ? &l->latency_after_signal : &l->latency_before_signal,
                       us);
    load_latencies_add(l, us);
    load_timeline_count(l, LOAD_ANSWERED);
}

void load_request_answered(struct load_conn *c, struct load_request *r)
{
    struct load *l = c->load;

    if (c->role != LOAD_ROLE_CLIENT) {
        l->crowd->opened(c);
        permit_rest(c);
        return;
    }
    if (!r->whole) /* an answer before the end of a large request: count it as sent */
        load_request_sent(c, r);
    if (l->options->expect_body != NULL && r->body_seen != l->expect_len)
        r->body_wrong = true;
    if (r->body_wrong)
        count_loss(c, r, &l->result->lost_truncated, "the body is not the expected one");
    else
        count_answer(l, r);
    report_outcome(l, r, r->body_wrong ? LOAD_OUTCOME_TRUNCATED : LOAD_OUTCOME_ANSWERED);
    permit_rest(c);
}

static enum load_outcome outcome_of(const struct load_request *r, enum load_end how)
{
    if (how == LOAD_END_REFUSED)
        return LOAD_OUTCOME_REFUSED;
    if (!r->whole)
        return LOAD_OUTCOME_UNSENT;
    if (how == LOAD_END_PIPELINED)
        return LOAD_OUTCOME_REFUSED;
    if (how == LOAD_END_PATIENCE)
        return LOAD_OUTCOME_WAITING;
    if (how == LOAD_END_BROKEN || r->answer_begun)
        return LOAD_OUTCOME_TRUNCATED;
    return how == LOAD_END_EOF ? LOAD_OUTCOME_EOF : LOAD_OUTCOME_RESET;
}

void load_request_end(struct load_conn *c, struct load_request *r, enum load_end how)
{
    struct load_result *res = c->load->result;

    if (c->role != LOAD_ROLE_CLIENT) {
        permit_rest(c); /* its connection ends */
        return;
    }
    report_outcome(c->load, r, outcome_of(r, how));
    if (how == LOAD_END_REFUSED)
        count_event(c->load, &res->refused_streams, LOAD_REFUSED);
    else if (!r->whole)
        res->unsent++;
    else if (how == LOAD_END_PIPELINED)
        count_event(c->load, &res->refused_pipelined, LOAD_REFUSED);
    else if (how == LOAD_END_PATIENCE)
        res->waiting++;
    else if (how == LOAD_END_BROKEN)
        count_loss(c, r, &res->lost_truncated, "the answer is malformed");
    else if (r->answer_begun)
        count_loss(c, r, &res->lost_truncated,
                   how == LOAD_END_EOF ? "end of file within the answer"
                                       : "reset within the answer");
    else if (how == LOAD_END_EOF)
        count_loss(c, r, &res->lost_eof, "end of file before the answer");
    else
        count_loss(c, r, &res->lost_reset, "reset before the answer");
    permit_rest(c);
}

void load_count_refused(struct load_conn *c, uint64_t *counter)
{
    struct load *l = c->load;
    unsigned count = l->options->rate > 0 ? c->assigned : 1;

    for (unsigned i = 0; i < count; i++)
        count_event(l, counter, LOAD_REFUSED);
    if (c->assigned == 0)
        return;
    load_open_settled(l, c->assigned);
    c->assigned = 0;
    load_open_permit_free(c);
}

void load_count_finish(struct load *l)
{
    struct load_result *res = l->result;

    res->lost = res->lost_reset + res->lost_eof + res->lost_truncated;
    res->waiting_to_start += l->queue.len;
    struct load_latency all = load_histogram_read(&l->latency);
    res->latency_p50_us = all.p50_us;
    res->latency_p99_us = all.p99_us;
    res->latency_max_us = all.max_us;
    res->before_signal = load_histogram_read(&l->latency_before_signal);
    res->after_signal = load_histogram_read(&l->latency_after_signal);
}

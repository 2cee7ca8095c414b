#include "loadgen_p.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The books: every request that began is entered once, as answered, lost (of which kind), refused,
 * unsent or waiting. After a run
 *
 *     sent = answered + lost + waiting + those refused streams that were whole
 *
 * Latencies are kept in a histogram of 32 steps an octave, so a percentile is right to 3 %. */

#define STEPS 32

static size_t bucket_of(uint64_t us)
{
    if (us < 2 * STEPS)
        return (size_t)us;
    unsigned octave = 63U - (unsigned)__builtin_clzll(us) - 5U; /* log2(STEPS) is 5 */
    size_t bucket = (size_t)octave * STEPS + (size_t)(us >> octave);
    return bucket < LOAD_HISTOGRAM_BUCKETS ? bucket : LOAD_HISTOGRAM_BUCKETS - 1;
}

static uint64_t value_of(size_t bucket)
{
    if (bucket < 2 * STEPS)
        return bucket;
    size_t octave = bucket / STEPS - 1;
    uint64_t low = (uint64_t)(bucket - octave * STEPS) << octave;
    return low + ((UINT64_C(1) << octave) >> 1);
}

static uint64_t percentile_us(const struct load *l, uint64_t total, unsigned percent)
{
    uint64_t rank = (total * percent + 99) / 100;
    uint64_t seen = 0;

    for (size_t i = 0; i < LOAD_HISTOGRAM_BUCKETS; i++) {
        seen += l->latency[i];
        if (seen >= rank && seen > 0)
            return value_of(i) < l->result->latency_max_us ? value_of(i)
                                                           : l->result->latency_max_us;
    }
    return 0;
}

void load_request_begin(struct load_conn *c, struct load_request *r)
{
    struct load *l = c->load;

    assert(c->resting > 0);
    c->rest_head = (c->rest_head + 1) % c->width;
    c->resting--;
    c->open_requests++;
    c->requests++;
    l->outstanding++;
    l->begun++;
    if (l->begun == l->options->max_requests)
        l->stopped = true;

    memset(r, 0, sizeof(*r));
    r->begun_ns = load_clock_ns();
    r->ordinal = c->requests;
}

void load_request_body(struct load_conn *c, struct load_request *r, const uint8_t *data, size_t len)
{
    struct load *l = c->load;

    if (l->options->expect_body != NULL && !r->body_wrong)
        r->body_wrong = len > l->expect_len - r->body_seen ||
                        memcmp(l->options->expect_body + r->body_seen, data, len) != 0;
    r->body_seen += len;
}

/* The permit of a request that is over rests, then it begins the next. */
static void permit_rest(struct load_conn *c)
{
    struct load *l = c->load;

    c->rest_due_ns[(c->rest_head + c->resting) % c->width] =
        l->now_ns + l->options->pause_ms * LOAD_NS_PER_MS;
    c->resting++;
    c->open_requests--;
    l->outstanding--;
}

/* `what` is a whole clause, for example "reset before the answer". */
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
        c->number, c->incarnation, r->ordinal, r->status, r->body_seen); /* one line, cut is fine */
}

static void count_loss(struct load_conn *c, const struct load_request *r, uint64_t *kind,
                       const char *what)
{
    ++*kind;
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
    l->latency[bucket_of(us)]++;
    if (us > res->latency_max_us)
        res->latency_max_us = us;
}

void load_request_answered(struct load_conn *c, struct load_request *r)
{
    struct load *l = c->load;

    l->result->sent++; /* an answer may overtake the end of a large request: it counts as sent */
    if (l->options->expect_body != NULL && r->body_seen != l->expect_len)
        r->body_wrong = true;
    if (r->body_wrong)
        count_loss(c, r, &l->result->lost_truncated, "the body is not the expected one");
    else
        count_answer(l, r);
    permit_rest(c);
}

void load_request_end(struct load_conn *c, struct load_request *r, enum load_end how)
{
    struct load_result *res = c->load->result;

    if (r->whole)
        res->sent++;
    if (how == LOAD_END_REFUSED)
        res->refused_streams++;
    else if (!r->whole)
        res->unsent++;
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

void load_count_finish(struct load *l)
{
    struct load_result *res = l->result;

    res->lost = res->lost_reset + res->lost_eof + res->lost_truncated;
    res->latency_p50_us = percentile_us(l, res->answered, 50);
    res->latency_p99_us = percentile_us(l, res->answered, 99);
}

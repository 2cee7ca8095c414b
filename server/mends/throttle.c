/* `throttle-response: ON`: an answer with `X-Traffic: N` is sent at N bytes a second.
 *
 * Fault: libh2o's filter sends its last piece again every 100 ms, whether it was sent already or
 * not. If an upstream pauses, its bytes are sent twice, and replace those that follow; if a write
 * is under way, the second one aborts the process. Below 10 bytes a second nothing is sent at all.
 *
 * Upstream: never changed in the 2.2 series.
 *
 * Replaced: h2o_throttle_resp_register(), whose filter is not used. This one sends each piece
 * once, and after n bytes waits n/N seconds before it sends more. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "mends.h"

struct throttle {
    h2o_ostream_t super;
    h2o_req_t *req;
    h2o_timeout_entry_t timer;
    uint64_t rate;   /* bytes a second */
    uint64_t due_ms; /* send no more before this, by timers_now_ms() */
    /* The piece that waits. Its bytes belong to the generator, which goes on after they are sent.
     */
    H2O_VECTOR(h2o_iovec_t) waiting;
    h2o_send_state_t state;
};

static h2o_loop_t *loop_of(const struct throttle *throttle)
{
    return throttle->req->conn->ctx->loop;
}

static void send_now(struct throttle *throttle)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < throttle->waiting.size; i++)
        bytes += throttle->waiting.entries[i].len;
    throttle->due_ms = timers_now_ms(loop_of(throttle)) + bytes * 1000 / throttle->rate;
    size_t count = throttle->waiting.size;
    throttle->waiting.size = 0;
    h2o_ostream_send_next(&throttle->super, throttle->req, throttle->waiting.entries, count,
                          throttle->state);
}

static void look(struct throttle *throttle)
{
    if (throttle->state == H2O_SEND_STATE_ERROR ||
        timers_now_ms(loop_of(throttle)) >= throttle->due_ms)
        send_now(throttle);
    else
        h2o_timeout_link(loop_of(throttle), &throttle->req->conn->ctx->hundred_ms_timeout,
                         &throttle->timer);
}

static void on_timer(h2o_timeout_entry_t *timer)
{
    look(H2O_STRUCT_FROM_MEMBER(struct throttle, timer, timer));
}

static void on_send(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                    h2o_send_state_t state)
{
    struct throttle *throttle = H2O_STRUCT_FROM_MEMBER(struct throttle, super, self);

    h2o_vector_reserve(&req->pool, &throttle->waiting, count);
    if (count > 0)
        memcpy(throttle->waiting.entries, bufs, count * sizeof(*bufs));
    throttle->waiting.size = count;
    throttle->state = state;
    look(throttle);
}

static void on_stop(h2o_ostream_t *self, h2o_req_t *req)
{
    (void)req;
    h2o_timeout_unlink(&H2O_STRUCT_FROM_MEMBER(struct throttle, super, self)->timer);
}

/* Remove the header and return its number; 0: there is none. */
static uint64_t take_rate(h2o_req_t *req)
{
    ssize_t at = h2o_find_header(&req->res.headers, H2O_TOKEN_X_TRAFFIC, -1);

    if (at == -1)
        return 0;
    h2o_iovec_t value = req->res.headers.entries[at].value;
    size_t rate = h2o_strtosize(value.base, value.len);
    if (rate == 0 || rate == SIZE_MAX)
        return 0;
    (void)h2o_delete_header(&req->res.headers, at);
    return rate;
}

static void on_setup(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    bool is_head = h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));
    uint64_t rate = req->res.status == 200 && !is_head ? take_rate(req) : 0;

    (void)self;
    if (rate > 0) {
        struct throttle *throttle = H2O_STRUCT_FROM_MEMBER(
            struct throttle, super, h2o_add_ostream(req, sizeof(*throttle), slot));
        h2o_ostream_t *next = throttle->super.next;
        memset(throttle, 0, sizeof(*throttle));
        throttle->super = (h2o_ostream_t){.next = next, .do_send = on_send, .stop = on_stop};
        throttle->req = req;
        throttle->timer.cb = on_timer;
        throttle->rate = rate;
        size_t tenth = rate >= 10 ? rate / 10 : 1;
        if (req->preferred_chunk_size > tenth)
            req->preferred_chunk_size = tenth;
        slot = &throttle->super.next;
    }
    h2o_setup_next_ostream(req, slot);
}

void throttle_register(h2o_pathconf_t *path)
{
    h2o_filter_t *filter = h2o_create_filter(path, sizeof(*filter));
    filter->on_setup_ostream = on_setup;
}

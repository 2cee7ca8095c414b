#include "routes.h"

#include <stdlib.h>
#include <string.h>

#include "job.h"
#include "clock.h"
#include "gate.h"
#include "loop.h"
#include "pool_route.h"
#include "server_state.h"

#define SLEEP_LONGEST_MS 60000
#define SLEEP_RAREST 1000000
#define BURN_LONGEST_US 1000000
#define STREAM_LARGEST_KB (1024 * 1024)
#define STREAM_LONGEST_MS 600000

/* ---- the query ---- */

/* `name=NUMBER` in `query`; `fallback` if it is not there. Returns false if it is there and is no
 * number from 0 to `largest`. */
static bool query_number(const char *query, size_t query_bytes, const char *name, uint64_t largest,
                         uint64_t fallback, uint64_t *ret_number)
{
    size_t name_bytes = strlen(name);
    const char *end = query + query_bytes;

    *ret_number = fallback;
    for (const char *at = query; at < end;) {
        const char *next = memchr(at, '&', (size_t)(end - at));
        if (next == NULL)
            next = end;
        if ((size_t)(next - at) > name_bytes && memcmp(at, name, name_bytes) == 0 &&
            at[name_bytes] == '=') {
            size_t number =
                h2o_strtosize(at + name_bytes + 1, (size_t)(next - at) - name_bytes - 1);
            if (number == SIZE_MAX || number > largest)
                return false;
            *ret_number = number;
            return true;
        }
        at = next + 1;
    }
    return true;
}

static int send_plain(h2o_req_t *req, const char *text, size_t bytes)
{
    req->res.status = 200;
    req->res.reason = "OK";
    req->res.content_length = bytes;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("text/plain; charset=utf-8"));
    h2o_send_inline(req, text, bytes);
    return 0;
}

/* ---- hello-later, sleep and burn ---- */

static void hello_world(struct exchange *exchange, void *user)
{
    (void)user;
    (void)exchange_sleep(exchange, 3000);
    exchange_print(exchange, "Hello World\n");
}

/* Every `one_in`-th request of all, so that a load test knows how many slept. */
static bool is_its_turn(uint64_t one_in)
{
    static _Atomic uint64_t requests; /* relaxed: only a count */

    return one_in == 1 ||
           atomic_fetch_add_explicit(&requests, 1, memory_order_relaxed) % one_in == one_in - 1;
}

static void nap(struct exchange *exchange, uint64_t ms, bool ignore_cancel)
{
    if (!ignore_cancel) {
        (void)exchange_sleep(exchange, (uint32_t)ms);
        return;
    }
    struct timespec left = clock_timespec(ms * NS_PER_MS);
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) != 0)
        ;
}

static void sleep_and_count(struct exchange *exchange, void *user)
{
    uint64_t ms, ignore_cancel, one_in;
    size_t query_bytes = strlen(exchange->query);

    (void)user;
    if (!query_number(exchange->query, query_bytes, "ms", SLEEP_LONGEST_MS, 0, &ms) ||
        !query_number(exchange->query, query_bytes, "ignore-cancel", 1, 0, &ignore_cancel) ||
        !query_number(exchange->query, query_bytes, "one_in", SLEEP_RAREST, 1, &one_in) ||
        one_in == 0) {
        exchange->status = 400;
        exchange_print(exchange,
                       "ms must be a number from 0 to %d, ignore-cancel 0 or 1, one_in a number "
                       "from 1 to %d\n",
                       SLEEP_LONGEST_MS, SLEEP_RAREST);
        return;
    }
    if (ms > 0 && is_its_turn(one_in)) /* 0 takes no lock: load tests ask for it */
        nap(exchange, ms, ignore_cancel);
    exchange_print(exchange, "%zu\n", exchange->body_bytes);
}

static void burn(struct exchange *exchange, void *user)
{
    uint64_t us;

    (void)user;
    if (!query_number(exchange->query, strlen(exchange->query), "us", BURN_LONGEST_US, 0, &us)) {
        exchange->status = 400;
        exchange_print(exchange, "us must be a number from 0 to %d\n", BURN_LONGEST_US);
        return;
    }
    if (us > 0)
        for (uint64_t until_ns = clock_now_ns() + us * NS_PER_US; clock_now_ns() < until_ns;)
            ;
    exchange_print(exchange, "Hello World\n");
}

/* ---- hello ---- */

static int on_hello(h2o_handler_t *self, h2o_req_t *req)
{
    (void)self;
    return send_plain(req, H2O_STRLIT("Hello World\n"));
}

/* ---- ready and live ---- */

/* Not ready from LAME_DUCK on, though connections are still accepted, and while the application
 * cannot answer yet, though requests for it are held. */
static int on_ready(h2o_handler_t *self, h2o_req_t *req)
{
    struct server *server = loop_of(req->conn)->server;

    (void)self;
    bool handed_over = atomic_load_explicit(&server->handed_over, memory_order_relaxed);
    bool draining = atomic_load_explicit(&server->lame_duck, memory_order_relaxed) && !handed_over;
    bool starting = atomic_load_explicit(&server->holding, memory_order_relaxed);
    if (!draining && !starting && !server_is_full(server)) /* or others are */
        return send_plain(req, H2O_STRLIT("ready\n"));
    h2o_send_error_503(req, "Service Unavailable",
                       draining   ? "draining\n"
                       : starting ? "starting\n"
                                  : "full\n",
                       0);
    return 0;
}

static int on_live(h2o_handler_t *self, h2o_req_t *req)
{
    (void)self;
    return send_plain(req, H2O_STRLIT("live\n"));
}

/* ---- stream ---- */

#define PIECE_BYTES 16384

struct stream {
    h2o_generator_t super;
    h2o_timeout_entry_t timer;
    h2o_req_t *req;
    struct loop *loop;
    uint64_t bytes; /* of the whole body */
    uint64_t sent;  /* handed to h2o_send() */
    uint64_t begun_ns;
    uint64_t over_ns; /* how long it is to take */
    bool writing;     /* between h2o_send() and proceed() */
};

static char piece[PIECE_BYTES]; /* immutable after start */

static void fill_piece(void)
{
    for (size_t i = 0; i < sizeof(piece); i++)
        piece[i] = i % 64 == 63 ? '\n' : (char)('a' + i % 26);
}

static uint64_t due_bytes(const struct stream *stream, uint64_t gone_ns)
{
    if (gone_ns >= stream->over_ns)
        return stream->bytes;
    return (uint64_t)((double)stream->bytes * ((double)gone_ns / (double)stream->over_ns));
}

static void on_stream_tick(h2o_timeout_entry_t *entry);

static void stream_more(struct stream *stream)
{
    uint64_t gone_ns =
        clock_now_ns() - stream->begun_ns; /* once: both must mean the same instant */
    uint64_t due = due_bytes(stream, gone_ns);
    bool over = gone_ns >= stream->over_ns;

    if (stream->writing)
        return; /* proceed() comes back here: a slow reader sets the pace */
    if (due == stream->sent && !over) {
        if (!h2o_timeout_is_linked(&stream->timer))
            loop_tick(stream->loop, TICK_10_MS, &stream->timer);
        return;
    }
    uint64_t n = due - stream->sent < PIECE_BYTES ? due - stream->sent : PIECE_BYTES;
    bool last = over && stream->sent + n == stream->bytes;
    h2o_iovec_t buf = {piece, n};
    stream->sent += n;
    stream->writing = true;
    h2o_send(stream->req, &buf, n > 0 ? 1 : 0,
             last ? H2O_SEND_STATE_FINAL : H2O_SEND_STATE_IN_PROGRESS);
}

static void on_stream_tick(h2o_timeout_entry_t *entry)
{
    stream_more(container_of(entry, struct stream, timer));
}

static void on_stream_proceed(h2o_generator_t *self, h2o_req_t *req)
{
    struct stream *stream = container_of(self, struct stream, super);
    (void)req;
    stream->writing = false;
    stream_more(stream);
}

static void on_stream_stop(h2o_generator_t *self, h2o_req_t *req)
{
    struct stream *stream = container_of(self, struct stream, super);
    (void)req;
    h2o_timeout_unlink(&stream->timer);
}

static int on_stream(h2o_handler_t *self, h2o_req_t *req)
{
    const char *query = req->query_at != SIZE_MAX ? req->path.base + req->query_at + 1 : "";
    size_t query_bytes = req->query_at != SIZE_MAX ? req->path.len - req->query_at - 1 : 0;
    uint64_t kb, ms;

    (void)self;
    if (!query_number(query, query_bytes, "kb", STREAM_LARGEST_KB, 64, &kb) ||
        !query_number(query, query_bytes, "ms", STREAM_LONGEST_MS, 0, &ms)) {
        h2o_send_error_400(req, "Bad Request",
                           "kb must be a number from 0 to 1048576, ms from 0 to 600000\n", 0);
        return 0;
    }
    struct stream *stream = h2o_mem_alloc_pool(&req->pool, sizeof(*stream));
    memset(stream, 0, sizeof(*stream));
    stream->super.proceed = on_stream_proceed;
    stream->super.stop = on_stream_stop;
    stream->timer.cb = on_stream_tick;
    stream->req = req;
    stream->loop = loop_of(req->conn);
    stream->bytes = kb * 1024;
    stream->begun_ns = clock_now_ns();
    stream->over_ns = ms * NS_PER_MS;
    req->res.status = 200;
    req->res.reason = "OK";
    req->res.content_length = stream->bytes;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("text/plain; charset=utf-8"));
    h2o_start_response(req, &stream->super);
    if (h2o_memis(req->method.base, req->method.len, H2O_STRLIT("HEAD")))
        h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
    else
        stream_more(stream);
    return 0;
}

/* ---- all ---- */

bool routes_register(h2o_pathconf_t *path, const char *name)
{
    static const struct {
        const char *name;
        int (*on_req)(h2o_handler_t *, h2o_req_t *);
        exchange_handler handler; /* or this one, on the pool */
        bool is_root_only;
    } routes[] = {
        {"burn", NULL, burn, false},
        {"hello", on_hello, NULL, false},
        {"hello-later", NULL, hello_world, true},
        {"live", on_live, NULL, false},
        {"ready", on_ready, NULL, false},
        {"sleep", NULL, sleep_and_count, false},
        {"stream", on_stream, NULL, false},
    };

    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
        if (strcmp(name, routes[i].name) == 0) {
            if (piece[0] == '\0') /* once: loops of another server may be running */
                fill_piece();
            if (routes[i].handler != NULL)
                pool_route_register(path, routes[i].handler, routes[i].is_root_only);
            else
                h2o_create_handler(path, sizeof(h2o_handler_t))->on_req = routes[i].on_req;
            gate_note_kind(path, routes[i].handler != NULL ? ROUTE_POOL : ROUTE_INLINE);
            return true;
        }
    return false;
}

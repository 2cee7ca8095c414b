#include "upstream_pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "claims.h"
#include "clock.h"
#include "library.h"
#include "log.h"
#include "loop.h"
#include "request.h"
#include "upstream_tls.h"

/* Connections that are kept for an upstream on one loop. More would be closed at once. */
#define KEPT_MOST 1024

/* Requests that may be sent once more: a restart of the upstream ends all connections at once, so
 * there is a stock; after that a fifth of the requests, or ten a second. So an upstream that ends
 * every connection gets no more than 1.2 times its requests. */
#define AGAIN_STOCK 1024.0
#define AGAIN_A_REQUEST 0.2
#define AGAIN_A_MS 0.01

void upstream_init(struct upstream *upstream, struct proxy_loop *proxy,
                   const struct proxy_target *target, const struct proxy_settings *settings)
{
    memset(upstream, 0, sizeof(*upstream));
    upstream->proxy = proxy;
    upstream->target = target;
    upstream->settings = settings;
    upstream->again.tokens = AGAIN_STOCK;
    upstream->again.at_ms = loop_patient_ms(proxy->loop);
    h2o_linklist_init_anchor(&upstream->kept);
}

static struct loop_metrics *metrics_of(const struct upstream *upstream)
{
    return &upstream->proxy->loop->metrics;
}

static void count_open(struct upstream *upstream, uint64_t n)
{
    count_add(&metrics_of(upstream)->upstream_open, n);
    count_add(&upstream->counts.open, n);
}

static void count_idle(struct upstream *upstream, uint64_t n)
{
    count_add(&metrics_of(upstream)->upstream_idle, n);
    count_add(&upstream->counts.idle, n);
}

static void take_out(struct upstream_conn *conn)
{
    /* The analyzer does not follow the list: a connection that was freed is not in it any more. */
    count_idle(conn->upstream, (uint64_t)-1); /* NOLINT(clang-analyzer-unix.Malloc) */
    h2o_linklist_unlink(&conn->link);
    h2o_timeout_unlink(&conn->timer);
    conn->upstream->kept_count--;
}

static struct upstream_conn *take_first(struct upstream *upstream)
{
    struct upstream_conn *conn = container_of(upstream->kept.next, struct upstream_conn, link);

    take_out(conn);
    return conn;
}

static void leave_kept(struct upstream_conn *conn)
{
    if (h2o_linklist_is_linked(&conn->link))
        take_out(conn);
}

void upstream_close_kept(struct upstream *upstream)
{
    while (!h2o_linklist_is_empty(&upstream->kept))
        upstream_conn_close(take_first(upstream));
}

/* ---- connections ---- */

static void on_readable(h2o_socket_t *sock, const char *error)
{
    struct upstream_conn *conn = sock->data;

    if (conn->user != NULL)
        conn->on_readable(conn->user, error);
    else if (conn->is_plain || error != NULL || sock->input->size > 0 || conn->was_closed)
        upstream_conn_close(conn); /* it has ended, or sends what nobody asked for */
    /* else a message of TLS itself, such as a session ticket */
}

static void on_idle(h2o_timeout_entry_t *timer)
{
    upstream_conn_close(container_of(timer, struct upstream_conn, timer));
}

struct upstream_conn *upstream_take_new(struct upstream *upstream, h2o_socket_t *sock)
{
    struct upstream_conn *conn = h2o_mem_alloc(sizeof(*conn));

    *conn = (struct upstream_conn){.sock = sock,
                                   .upstream = upstream,
                                   .timer = {.cb = on_idle},
                                   .is_plain = sock->ssl == NULL,
                                   .is_tcp = !upstream->target->is_unix};
    sock->data = conn;
    upstream_tls_watch(sock, &conn->was_closed);
    count_add(&metrics_of(upstream)->upstream_connects, 1);
    count_open(upstream, 1);
    h2o_socket_dont_read(sock, conn->is_plain);
    library.h2o_socket_read_start(sock, on_readable);
    return conn;
}

static bool is_open(struct upstream_conn *conn)
{
    char byte;

    return recv(h2o_socket_get_fd(conn->sock), &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           errno == EAGAIN;
}

struct upstream_conn *upstream_take_kept(struct upstream *upstream, bool be_sure)
{
    while (!h2o_linklist_is_empty(&upstream->kept)) {
        struct upstream_conn *conn = take_first(upstream);
        if (!be_sure || is_open(conn))
            return conn;
        upstream_conn_close(conn);
    }
    return NULL;
}

void upstream_keep(struct upstream_conn *conn, bool be_sure)
{
    struct upstream *upstream = conn->upstream;
    uint64_t keepalive_ms = upstream->settings->keepalive_ms;

    conn->user = NULL;
    conn->requests++;
    if (keepalive_ms == 0 || upstream->kept_count >= KEPT_MOST ||
        h2o_socket_is_writing(conn->sock) || conn->sock->input->size > 0 || conn->was_closed ||
        (be_sure && !is_open(conn))) {
        upstream_conn_close(conn);
        return;
    }
    upstream_conn_resume(conn);
    h2o_linklist_insert(upstream->kept.next, &conn->link); /* before the first: it is the first */
    upstream->kept_count++;
    count_idle(upstream, 1);
    h2o_timeout_link(upstream->proxy->loop->evloop,
                     proxy_loop_timers(upstream->proxy, keepalive_ms), &conn->timer);
}

h2o_socket_t *upstream_conn_steal(struct upstream_conn *conn)
{
    h2o_socket_t *sock = conn->sock;

    leave_kept(conn);
    count_open(conn->upstream, (uint64_t)-1);
    h2o_socket_read_stop(sock);
    h2o_socket_dont_read(sock, 0);
    sock->data = NULL;
    upstream_tls_watch(sock, NULL);
    free(conn);
    return sock;
}

void upstream_conn_close(struct upstream_conn *conn)
{
    leave_kept(conn);
    count_open(conn->upstream, (uint64_t)-1);
    upstream_tls_watch(conn->sock, NULL); /* the socket may live on, to send close_notify */
    h2o_socket_close(conn->sock);
    free(conn);
}

/* Over TLS the library has read, and its input is what the kernel's buffer is to a plain socket. */
static ssize_t read_input(struct upstream_conn *conn, char *bytes, size_t room)
{
    h2o_socket_t *sock = conn->sock;
    size_t taken = sock->input->size < room ? sock->input->size : room;

    if (taken == 0)
        return -EAGAIN;
    memcpy(bytes, sock->input->bytes, taken);
    h2o_buffer_consume(&sock->input, taken);
    return (ssize_t)taken;
}

ssize_t upstream_conn_read(struct upstream_conn *conn, char *bytes, size_t room)
{
    ssize_t n;

    if (!conn->is_plain)
        return read_input(conn, bytes, room);
    do
        n = recv(h2o_socket_get_fd(conn->sock), bytes, room, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

void upstream_conn_pause(struct upstream_conn *conn)
{
    if (conn->is_stopped)
        return;
    conn->is_stopped = true;
    h2o_socket_read_stop(conn->sock);
}

void upstream_conn_resume(struct upstream_conn *conn)
{
    if (!conn->is_stopped)
        return;
    conn->is_stopped = false;
    library.h2o_socket_read_start(conn->sock, on_readable);
}

/* ---- the budget ---- */

static void earn(struct upstream *upstream, double tokens)
{
    upstream->again.tokens += tokens;
    if (upstream->again.tokens > AGAIN_STOCK)
        upstream->again.tokens = AGAIN_STOCK;
}

static bool take_token(struct upstream *upstream)
{
    uint64_t now_ms = loop_patient_ms(upstream->proxy->loop);

    if (now_ms > upstream->again.at_ms)
        earn(upstream, (double)(now_ms - upstream->again.at_ms) * AGAIN_A_MS);
    upstream->again.at_ms = now_ms;
    if (upstream->again.tokens < 1)
        return false;
    upstream->again.tokens -= 1;
    return true;
}

bool upstream_may_send_again(struct upstream *upstream)
{
    if (!take_token(upstream))
        return false;
    count_add(&metrics_of(upstream)->upstream_repeats, 1);
    return true;
}

bool upstream_may_go_on(struct upstream *upstream)
{
    if (!take_token(upstream))
        return false;
    count_add(&metrics_of(upstream)->upstream_moves, 1);
    return true;
}

/* ---- what is counted ---- */

void upstream_begin_request(struct upstream *upstream)
{
    earn(upstream, AGAIN_A_REQUEST); /* a part of a repetition */
    count_add(&upstream->counts.requests, 1);
    count_add(&upstream->counts.active, 1);
}

void upstream_end_request(struct upstream *upstream)
{
    count_add(&upstream->counts.active, (uint64_t)-1);
}

void upstream_begin_tunnel(struct upstream *upstream)
{
    count_add(&upstream->counts.active, 1);
}

void upstream_end_tunnel(struct upstream *upstream)
{
    count_add(&upstream->counts.active, (uint64_t)-1);
}

static void count_time(_Atomic uint64_t *buckets, _Atomic uint64_t *sum_ns, uint64_t ms)
{
    count_add(&buckets[metrics_bucket(ms * NS_PER_MS)], 1);
    count_add(sum_ns, ms * NS_PER_MS);
}

void upstream_note_connect(struct upstream *upstream, uint64_t ms)
{
    count_time(upstream->counts.connects, &upstream->counts.connects_ns, ms);
}

void upstream_note_head(struct upstream *upstream, h2o_req_t *req, uint64_t ms)
{
    count_time(upstream->counts.heads, &upstream->counts.heads_ns, ms);
    if (upstream->owner != NULL)
        upstream->owner->answered(upstream, req, false);
}

void upstream_note_whole(struct upstream *upstream, h2o_req_t *req)
{
    if (upstream->owner != NULL)
        upstream->owner->answered(upstream, req, true);
}

void upstream_note_failure(struct upstream *upstream, h2o_req_t *req, enum upstream_failure failure)
{
    count_add(&metrics_of(upstream)->upstream_failures[failure], 1);
    count_add(&upstream->counts.failures[failure], 1);
    if (upstream->owner != NULL)
        upstream->owner->failed(upstream, req, failure);
}

/* ---- the log ---- */

const char *upstream_phase(enum upstream_failure failure)
{
#define PHASE(id, label, phase) [UPSTREAM_##id] = (phase),
    static const char *const phases[] = {UPSTREAM_FAILURES(PHASE)};
#undef PHASE
    return phases[failure];
}

const char *upstream_label(enum upstream_failure failure)
{
#define LABEL(id, label, phase) [UPSTREAM_##id] = (label),
    static const char *const labels[] = {UPSTREAM_FAILURES(LABEL)};
#undef LABEL
    return labels[failure];
}

void upstream_set_error(h2o_req_t *req, const char *label)
{
    *h2o_req_getenv(req, H2O_STRLIT(OWN_VARIABLE_PROXY_ERROR), 1) =
        h2o_iovec_init(label, strlen(label));
}

void upstream_log(struct upstream *upstream, enum upstream_failure failure, const char *what,
                  uint64_t age_ms, const h2o_req_t *req)
{
    uint64_t now_ms = loop_patient_ms(upstream->proxy->loop);
    uint64_t *said_ms = &upstream->said[failure].at_ms, left_out;
    size_t path = req->input.query_at != SIZE_MAX ? req->input.query_at : req->input.path.len;
    char more[48] = "", id[REQUEST_ID_SIZE];

    if (*said_ms != 0 && now_ms - *said_ms < 1000) {
        upstream->said[failure].left_out++;
        return;
    }
    left_out = upstream->said[failure].left_out;
    upstream->said[failure].left_out = 0;
    *said_ms = now_ms;
    if (left_out > 0)
        (void)snprintf(more, sizeof(more), "; %llu more of these", (unsigned long long)left_out);
    bool has_id = request_id_of(req, id)[0] != '\0';
    log_line(LOG_LEVEL_WARN, "upstream-failed",
             json_pack("{s:s, s:s, s:s, s:I, s:I, s:s*}", "upstream", upstream->target->name,
                       "phase", upstream_phase(failure), "cause", what, "age_ms",
                       (json_int_t)age_ms, "left_out", (json_int_t)left_out, "request_id",
                       has_id ? id : NULL),
             "upstream %s: %s (%s, %llu ms; %.*s %.*s%s%s)%s", upstream->target->name, what,
             upstream_phase(failure), (unsigned long long)age_ms,
             (int)(req->input.method.len < 32 ? req->input.method.len : 32), req->input.method.base,
             (int)(path < 256 ? path : 256), req->input.path.base, has_id ? "; request id " : "",
             id, more);
}

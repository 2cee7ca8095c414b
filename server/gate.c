#include "server_p.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "job.h"
#include "log.h"

/* The gate is the first handler of every path: a request passes it when its header and body are
 * whole, and from then on it is active. It must cost next to nothing, since every request pays:
 *
 *     the record    is a prefilter of the request (h2o_add_prefilter): one piece of its own
 *                   memory pool, found again from it in a step or two, and called when the
 *                   response begins
 *     the end       is the access-log hook of the path. libh2o calls it where it disposes of a
 *                   request, after the last byte was handed to the kernel or when it was given
 *                   up, whatever the reason: one hook for every ending
 *     the counts    are this loop's own, plain loads and stores
 *
 * Errors that libh2o answers for a request with a whole header, before any handler (413, 417), do
 * not pass the gate; they go by the fallback path, whose filter sees to their last line. What is no
 * request at all gets the library's bare 400. */

#define TEXT_LONGEST 1024
#define LISTED_MAX 10000 /* requests in one list; the rest is counted */

/* One on every path. */
struct gate_logger {
    h2o_logger_t super;
    enum route_kind kind;
    bool has_kind;
};

static bool is_answered(const h2o_req_t *req)
{
    if (req->version < 0x200) /* HTTP/1 stamps the end when the last write is complete */
        return req->timestamps.response_end_at.tv_sec != 0;
    return req->timestamps.response_start_at.tv_sec != 0 &&
           (req->res.content_length == SIZE_MAX || req->bytes_sent >= req->res.content_length ||
            h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD")));
}

static void on_prefilter(h2o_req_prefilter_t *self, h2o_req_t *req, h2o_ostream_t **slot);

struct inflight *inflight_of(const h2o_req_t *req)
{
    h2o_req_prefilter_t *at = req->prefilters;
    while (at != NULL && at->on_setup_ostream != on_prefilter)
        at = at->next;
    return at != NULL ? container_of(at, struct inflight, super) : NULL;
}

static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    struct loop *loop = container_of(req->conn->ctx, struct loop, ctx);

    (void)handler;
    /* An internal redirect comes by again: it is the same request. */
    if (req->prefilters != NULL && inflight_of(req) != NULL)
        return -1;
    struct inflight *inflight =
        container_of(h2o_add_prefilter(req, sizeof(*inflight)), struct inflight, super);
    inflight->super.on_setup_ostream = on_prefilter;
    inflight->link = (h2o_linklist_t){NULL, NULL};
    inflight->req = req;
    inflight->loop = loop;
    inflight->conn = conn_of(req);
    inflight->job = NULL;
    inflight->given_up = false;
    inflight->held = NULL;
    inflight->slot = NULL;
    inflight->begun_ns = loop_now_ns(loop);
    h2o_linklist_insert(&loop->inflight, &inflight->link);
    if (inflight->conn->active++ == 0)
        count_add(&loop->metrics.busy, 1);
    if (!inflight->conn->given_up)
        count_add(&loop->counts.active, 1);
    stall_last_begin(&loop->last, req);
    if (req->version >= 0x200)
        letgo_calm(req);
    if (loop->journal != NULL)
        onrecord_begin(inflight);
    return -1; /* the next handler answers */
}

static void count_answer(struct loop *loop, enum route_kind kind, const h2o_req_t *req)
{
    unsigned class = (unsigned)req->res.status / 100;
    count_add(&loop->metrics.requests[kind][class < METRICS_CLASSES ? class : 0], 1);
}

static void count_time(struct loop *loop, enum route_kind kind, const struct inflight *inflight)
{
    uint64_t took_ns = loop_now_ns(loop) - inflight->begun_ns;
    count_add(&loop->metrics.took[kind][metrics_bucket(took_ns)], 1);
    count_add(&loop->metrics.took_ns[kind], took_ns);
}

static void on_end(h2o_logger_t *logger, h2o_req_t *req)
{
    enum route_kind kind = container_of(logger, struct gate_logger, super)->kind;
    struct inflight *inflight = inflight_of(req);

    if (inflight == NULL) { /* an error that the library answered by itself */
        if (req->timestamps.response_start_at.tv_sec != 0)
            count_answer(container_of(req->conn->ctx, struct loop, ctx), kind, req);
        return;
    }
    struct loop *loop = inflight->loop;
    bool given_up = inflight->given_up || inflight->conn->given_up;
    bool answered = !loop->frozen && !given_up && is_answered(req);
    /* What a limit of our own has cut stays on record, to be archived at the end. */
    bool stays = given_up && !is_answered(req);
    struct journal_slot *slot = stays ? NULL : inflight->slot;

    stall_last_end(&loop->last, req);
    h2o_linklist_unlink(&inflight->link);
    if (inflight->job != NULL)
        slot = job_abandon(inflight->job, slot);
    if (slot != NULL)
        onrecord_end(loop, slot);
    if (--inflight->conn->active == 0)
        count_add(&loop->metrics.busy, (uint64_t)-1);
    if (!inflight->conn->given_up)
        count_add(&loop->counts.active, (uint64_t)-1);
    if (answered) {
        count_add(&loop->counts.answered, 1);
        count_answer(loop, kind, req);
        count_time(loop, kind, inflight);
    } else {
        count_add(&loop->metrics.aborted[kind], 1);
    }
    if (req->version < 0x200) {
        inflight->conn->idle_since_ns = loop_now_ns(loop);
        inflight->conn->has_received = false;
        inflight->conn->unacked = 0;
    }
    if (req->res.status == 101) /* from here on it is none of HTTP's */
        inflight->conn->is_tunnel = true;
    if (req->version >= 0x200) {
        if (answered)
            inflight->conn->h2_answers++;
        else
            inflight->conn->h2_resets++;
        if (!answered)
            count_add(&loop->metrics.h2_resets, 1);
    }
    if (loop->draining || loop->released || loop->handing) { /* or nobody is interested */
        letgo_look_soon(loop);
        loop_note_change(loop);
    }
}

/* The `Connection:` line is written after this, also for requests parsed before the drain began. */
static void see_to_last_line(struct loop *loop, h2o_req_t *req)
{
    if (req->version >= 0x200)
        return;
    if (loop->say_close)
        req->http1_is_persistent = 0;
    if (req->http1_is_persistent)
        return;
    struct conn *conn = conn_of(req);
    if (conn != NULL) {
        conn->asked_to_close =
            !loop->say_close && (req->version < 0x101 ||
                                 h2o_find_header(&req->headers, H2O_TOKEN_CONNECTION, -1) != -1);
        conn_will_close(conn);
    }
}

/* Which process answered: for whoever wants to see a restart from outside. */
static void show_generation(const struct loop *loop, h2o_req_t *req)
{
    char *text = h2o_mem_alloc_pool(&req->pool, 24);
    int n = snprintf(text, 24, "%llu", (unsigned long long)loop->server->options->generation);

    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("lastcall-generation"), 0,
                          "Lastcall-Generation", text, (size_t)n);
}

static void on_prefilter(h2o_req_prefilter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct inflight *inflight = container_of(self, struct inflight, super);

    if (inflight->loop->server->options->generation_header)
        show_generation(inflight->loop, req);
    see_to_last_line(inflight->loop, req);
    if (inflight->slot != NULL)
        journal_set_responding(inflight->slot);
    h2o_setup_next_prefilter(self, req, slot);
}

static void on_fallback_response(h2o_filter_t *filter, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct loop *loop = container_of(req->conn->ctx, struct loop, ctx);

    (void)filter;
    /* Errors that never reached a handler; the others have it. */
    if (loop->server->options->generation_header && inflight_of(req) == NULL)
        show_generation(loop, req);
    see_to_last_line(loop, req);
    h2o_setup_next_ostream(req, slot);
}

void gate_register(h2o_pathconf_t *path)
{
    h2o_handler_t *handler = h2o_create_handler(path, sizeof(*handler));
    handler->on_req = on_request;
    gate_register_inner(path);
}

void gate_register_inner(h2o_pathconf_t *path)
{
    struct gate_logger *logger = (void *)h2o_create_logger(path, sizeof(*logger));
    logger->super.log_access = on_end;
    logger->kind = ROUTE_OTHER;
    logger->has_kind = false;
}

void gate_note_kind(h2o_pathconf_t *path, enum route_kind kind)
{
    for (size_t i = 0; i < path->loggers.size; i++) {
        if (path->loggers.entries[i]->log_access != on_end)
            continue;
        struct gate_logger *logger = (void *)path->loggers.entries[i];
        logger->kind = logger->has_kind && logger->kind != kind ? ROUTE_OTHER : kind;
        logger->has_kind = true;
    }
}

void gate_register_fallback(h2o_pathconf_t *path)
{
    gate_register(path);
    h2o_filter_t *filter = h2o_create_filter(path, sizeof(*filter));
    filter->on_setup_ostream = on_fallback_response;
}

void inflight_mark_resets(struct loop *loop)
{
    for (h2o_linklist_t *node = loop->inflight.next; node != &loop->inflight; node = node->next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        const h2o_req_t *req = inflight->req;
        /* HTTP/1.0 without a length; all others are framed (RFC 9112 section 8). */
        if (req->version < 0x101 && req->res.content_length == SIZE_MAX &&
            req->timestamps.response_start_at.tv_sec != 0)
            inflight->conn->reset_when_cut = true;
    }
}

/* ---- lists ---- */

struct coord_request *coord_requests_append(struct coord_requests *list)
{
    if (list->count == LISTED_MAX) {
        list->left_out++;
        return NULL;
    }
    if ((list->count & (list->count - 1)) == 0) { /* full at each power of two */
        size_t room = list->count == 0 ? 1 : list->count * 2;
        struct coord_request *grown = realloc(list->items, room * sizeof(*grown));
        if (grown == NULL) {
            list->left_out++;
            return NULL;
        }
        list->items = grown;
    }
    struct coord_request *item = &list->items[list->count++];
    memset(item, 0, sizeof(*item));
    return item;
}

char *text_of(h2o_iovec_t bytes, size_t longest)
{
    return h2o_strdup(NULL, bytes.base != NULL ? bytes.base : "",
                      bytes.len < longest ? bytes.len : longest)
        .base;
}

static char *peer_text(h2o_req_t *req)
{
    struct sockaddr_storage peer;
    char host[INET6_ADDRSTRLEN], text[INET6_ADDRSTRLEN + 16];

    if (req->conn->callbacks->get_socket(req->conn) == NULL ||
        req->conn->callbacks->get_peername(req->conn, (void *)&peer) == 0)
        return strdup("?");
    if (peer.ss_family == AF_INET) {
        const struct sockaddr_in *in = (void *)&peer;
        (void)inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        (void)snprintf(text, sizeof(text), "%s:%u", host, ntohs(in->sin_port));
    } else if (peer.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (void *)&peer;
        (void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        (void)snprintf(text, sizeof(text), "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        (void)snprintf(text, sizeof(text), "unix");
    }
    return strdup(text);
}

static void list_request(struct coord_requests *list, h2o_req_t *req, const char *state,
                         uint64_t age_ns)
{
    struct coord_request *item = coord_requests_append(list);
    if (item == NULL)
        return;
    item->method = text_of(req->input.method, 32);
    item->path = text_of(req->input.path, TEXT_LONGEST);
    item->authority = text_of(req->input.authority, 256);
    item->peer = peer_text(req);
    item->state = state;
    item->age_ns = age_ns;
    item->body_bytes = req->entity.len;
    item->sent_bytes = req->bytes_sent;
}

/* A request that has begun to arrive, but has not passed the gate. */
static int list_receiving(h2o_req_t *req, void *data)
{
    struct timeval begun = req->timestamps.request_begin_at, now;
    struct conn *conn = conn_of(req);

    if (conn == NULL || conn->given_up || begun.tv_sec == 0 || req->processed_at.at.tv_sec != 0 ||
        (req->version < 0x200 && letgo_is_idle(req)))
        return 0;
    /* Not a byte in clear: list_unread_conn() has it. */
    if (req->version < 0x200 && req->input.method.len == 0 &&
        req->conn->callbacks->get_socket(req->conn)->input->size == 0)
        return 0;
    (void)gettimeofday(&now, NULL); /* the library's stamps are wall-clock */
    int64_t age_us = (now.tv_sec - begun.tv_sec) * 1000000L + (now.tv_usec - begun.tv_usec);
    list_request(data, req, "receiving", age_us > 0 ? (uint64_t)age_us * NS_PER_US : 0);
    conn->is_receiving = conn->loop->frozen; /* that list has the unread ones, too */
    return 0;
}

static void list_unread(struct coord_requests *list, const char *method, const char *path)
{
    struct coord_request *item = coord_requests_append(list);
    if (item == NULL)
        return;
    item->method = strdup(method);
    item->path = strdup(path);
    item->authority = strdup("?");
    item->peer = strdup("?");
    item->state = "unread";
}

/* A request that nobody has read: the process stood still, or ran out of time. Its first line is
 * still in the kernel. */
static void list_unread_fd(struct coord_requests *list, int fd)
{
    char bytes[TEXT_LONGEST + 1], method[33] = "?", path[TEXT_LONGEST + 1] = "?";

    ssize_t n = recv(fd, bytes, TEXT_LONGEST, MSG_PEEK | MSG_DONTWAIT);
    if (n <= 0)
        return;
    bytes[n] = '\0';
    if (sscanf(bytes, "%32[A-Z] %1024[^ \r\n]", method, path) != 2)
        (void)strcpy(path, "?");
    list_unread(list, method, path);
}

/* What came over TLS is there, but can not be named. */
static void list_unread_conn(struct coord_requests *list, const struct conn *conn)
{
    int fd = h2o_socket_get_fd(conn->sock);

    if (!conn->is_tls)
        list_unread_fd(list, fd);
    else if ((conn->ssl != NULL && tls_is_mid_record(conn->ssl)) ||
             tls_has_unread_request(fd, conn->ssl != NULL))
        list_unread(list, "?", "?");
}

void inflight_list_unread(struct loop *loop, struct coord_requests *list)
{
    h2o_linklist_t *h2s = &loop->ctx.http2._conns;

    for (h2o_linklist_t *node = h2s->next; node != h2s; node = node->next) {
        h2o_http2_conn_t *h2 = container_of(node, h2o_http2_conn_t, _conns);
        if (h2->sock != NULL && letgo_h2_has_begun(h2))
            ((struct conn *)h2->sock->on_close.data)->is_h2 = true;
    }
    for (h2o_linklist_t *node = loop->conns.next; node != &loop->conns; node = node->next) {
        struct conn *conn = container_of(node, struct conn, link);
        /* Behind a request that is listed already, more of it or a pipelined one may wait: the
         * client knows that those were not answered. */
        if (conn->sock != NULL && !conn->given_up && !conn->is_h2 && !conn->is_receiving &&
            conn->active == 0 && conn->sock->input->size == 0)
            list_unread_conn(list, conn);
    }
    /* And on connections that nobody has accepted. */
    for (size_t i = 0; i < loop->server->listeners.count; i++) {
        int fd = -1;
        if (loop->listeners[i].sock == NULL)
            continue;
        int listener = h2o_socket_get_fd(loop->listeners[i].sock);
        while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
            if (loop->listeners[i].listener->tls ==
                NULL) /* else it had no keys yet to send one with */
                list_unread_fd(list, fd);
            (void)close(fd);
        }
        int left = errno != EAGAIN ? listener_queue_length(loop->listeners[i].listener) : 0;
        if (left > 0) /* no descriptor to look at them with: at least they are counted */
            list->left_out += (size_t)left;
    }
}

void inflight_list(struct loop *loop, struct coord_requests *ret_list)
{
    uint64_t now_ns = clock_now_ns();

    for (h2o_linklist_t *node = loop->inflight.next; node != &loop->inflight; node = node->next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        const char *state = "inline";
        if (inflight->given_up) /* it was named when it was */
            continue;
        if (inflight->req->timestamps.response_start_at.tv_sec != 0)
            state = "responding";
        else if (inflight->held != NULL)
            state = "held";
        else if (inflight->job != NULL)
            state = job_state(inflight->job);
        list_request(ret_list, inflight->req, state, now_ns - inflight->begun_ns);
    }
    job_list_abandoned(loop, ret_list);
    h2o_globalconf_t *config = loop->ctx.globalconf;
    (void)config->http1.callbacks.foreach_request(&loop->ctx, list_receiving, ret_list);
    (void)config->http2.callbacks.foreach_request(&loop->ctx, list_receiving, ret_list);
}

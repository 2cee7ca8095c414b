#include "server_p.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job.h"

/* The gate is the first handler of every path: a request passes it when its header and body are
 * whole, and from then on it is active. Its record lives in the request's memory pool, with a
 * destructor, and libh2o empties that pool when the last byte was handed to the kernel or the request
 * was given up, whatever the reason: one hook for every ending. The counts are this loop's own. */

#define TEXT_LONGEST 1024
#define LISTED_MAX 10000 /* requests in one list; the rest is counted */

static bool is_answered(const h2o_req_t *req)
{
    if (req->version < 0x200) /* HTTP/1 stamps the end when the last write is complete */
        return req->timestamps.response_end_at.tv_sec != 0;
    return req->timestamps.response_start_at.tv_sec != 0 &&
           (req->res.content_length == SIZE_MAX || req->bytes_sent >= req->res.content_length ||
            h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD")));
}

static void on_dispose(void *data)
{
    struct inflight *inflight = data;
    struct loop *loop = inflight->loop;
    h2o_req_t *req = inflight->req;
    bool answered = !loop->frozen && is_answered(req);

    h2o_linklist_unlink(&inflight->link);
    if (inflight->job != NULL)
        job_abandon(inflight->job);
    count_add(&loop->counts.active, (uint64_t)-1);
    if (answered)
        count_add(&loop->counts.answered, 1);
    if (req->version >= 0x200 && inflight->conn != NULL) {
        if (answered)
            inflight->conn->h2_answers++;
        else
            inflight->conn->h2_resets++;
    }
    if (loop->draining)
        letgo_look_soon(loop);
    loop_note_change(loop);
}

static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    struct loop *loop = container_of(req->conn->ctx, struct loop, ctx);

    (void)handler;
    /* An internal redirect comes by again: it is the same request. */
    if (req->res_is_delegated || req->num_reprocessed != 0)
        return -1;
    struct inflight *inflight =
        h2o_mem_alloc_shared(&req->pool, sizeof(*inflight), on_dispose);
    inflight->link = (h2o_linklist_t){NULL, NULL};
    inflight->req = req;
    inflight->loop = loop;
    inflight->conn = conn_of(req);
    inflight->job = NULL;
    inflight->begun_ns = clock_now_ns();
    h2o_linklist_insert(&loop->inflight, &inflight->link);
    count_add(&loop->counts.active, 1);
    if (req->version >= 0x200)
        letgo_calm(req);
    return -1; /* the next handler answers */
}

/* Who closes an HTTP/1 connection decides whether to linger: a client that asked for the close sends
 * nothing more; one that we turn away may be in the middle of a body or a pipelined request. */
static bool server_closes(const struct loop *loop, h2o_req_t *req)
{
    return loop->say_close ||
           (req->version >= 0x101 && h2o_find_header(&req->headers, H2O_TOKEN_CONNECTION, -1) == -1);
}

static void on_response(h2o_filter_t *filter, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct loop *loop = container_of(req->conn->ctx, struct loop, ctx);

    (void)filter;
    if (req->version < 0x200) {
        /* The `Connection:` line is written after this, also for requests parsed before. */
        if (loop->say_close)
            req->http1_is_persistent = 0;
        if (!req->http1_is_persistent && server_closes(loop, req)) {
            struct conn *conn = conn_of(req);
            if (conn != NULL)
                conn_will_close(conn);
        }
    }
    h2o_setup_next_ostream(req, slot);
}

void gate_register(h2o_pathconf_t *path)
{
    h2o_handler_t *handler = h2o_create_handler(path, sizeof(*handler));
    handler->on_req = on_request;
    h2o_filter_t *filter = h2o_create_filter(path, sizeof(*filter));
    filter->on_setup_ostream = on_response;
}

struct inflight *inflight_of(struct loop *loop, h2o_req_t *req)
{
    /* From the youngest: it is nearly always the one that has just come through the gate. */
    for (h2o_linklist_t *node = loop->inflight.prev; node != &loop->inflight; node = node->prev) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        if (inflight->req == req)
            return inflight;
    }
    return NULL;
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

    if (begun.tv_sec == 0 || req->processed_at.at.tv_sec != 0)
        return 0;
    (void)gettimeofday(&now, NULL); /* the library's stamps are wall-clock */
    int64_t age_us = (now.tv_sec - begun.tv_sec) * 1000000L + (now.tv_usec - begun.tv_usec);
    list_request(data, req, "receiving", age_us > 0 ? (uint64_t)age_us * NS_PER_US : 0);
    return 0;
}

void inflight_list(struct loop *loop, struct coord_requests *ret_list)
{
    uint64_t now_ns = clock_now_ns();

    for (h2o_linklist_t *node = loop->inflight.next; node != &loop->inflight; node = node->next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        const char *state = "inline";
        if (inflight->req->timestamps.response_start_at.tv_sec != 0)
            state = "responding";
        else if (inflight->job != NULL)
            state = job_state(inflight->job);
        list_request(ret_list, inflight->req, state, now_ns - inflight->begun_ns);
    }
    job_list_abandoned(loop, ret_list);
    h2o_globalconf_t *config = loop->ctx.globalconf;
    (void)config->http1.callbacks.foreach_request(&loop->ctx, list_receiving, ret_list);
    (void)config->http2.callbacks.foreach_request(&loop->ctx, list_receiving, ret_list);
}

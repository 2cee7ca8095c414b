#include "list.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "idle.h"
#include "job.h"
#include "list_item.h"
#include "listener.h"
#include "request.h"
#include "server_state.h"
#include "tls.h"

/* Lists of what a loop has not answered: for an operator, and for the archive at the end of a
 * drain. The latter is made while the loop is frozen, and also has what was not read or accepted
 * yet. */

#define TEXT_LONGEST 1024

static char *text_of(h2o_iovec_t bytes, size_t longest)
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

static void list_request(struct coord_requests *list, h2o_req_t *req, h2o_iovec_t id,
                         const char *state, uint64_t age_ns)
{
    struct coord_request *item = coord_requests_append(list);
    if (item == NULL)
        return;
    item->method = text_of(req->input.method, 32);
    item->path = text_of(req->input.path, TEXT_LONGEST);
    item->authority = text_of(req->input.authority, 256);
    item->peer = peer_text(req);
    item->id = id.base != NULL ? text_of(id, CLAIMS_ID_MOST) : NULL;
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
        (req->version < 0x200 && h1_is_idle(req)))
        return 0;
    /* No byte is decrypted: list_unread_conn() has it. */
    if (req->version < 0x200 && req->input.method.len == 0 &&
        req->conn->callbacks->get_socket(req->conn)->input->size == 0)
        return 0;
    (void)gettimeofday(&now, NULL); /* the library's stamps are wall-clock */
    int64_t age_us = (now.tv_sec - begun.tv_sec) * 1000000L + (now.tv_usec - begun.tv_usec);
    list_request(data, req, h2o_iovec_init(NULL, 0), "receiving",
                 age_us > 0 ? (uint64_t)age_us * NS_PER_US : 0);
    conn->listed.is_receiving = conn->loop->frozen; /* that list has the unread ones, too */
    return 0;
}

static void append_unread(struct coord_requests *list, const char *method, const char *path)
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

/* A request that was not read: the process was stopped, or the deadline passed. Its first line is
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
    append_unread(list, method, path);
}

/* A request over TLS is counted, but cannot be named. */
static void list_unread_conn(struct coord_requests *list, const struct conn *conn)
{
    int fd = h2o_socket_get_fd(conn->sock);

    if (!conn->is_tls)
        list_unread_fd(list, fd);
    else if ((conn->ssl != NULL && tls_is_mid_record(conn->ssl)) ||
             tls_has_unread_request(fd, conn->ssl != NULL))
        append_unread(list, "?", "?");
}

/* Connections of HTTP/2 whose requests the library knows. */
static void mark_h2(struct loop *loop)
{
    h2o_linklist_t *h2s = &loop->ctx.http2._conns;

    for (h2o_linklist_t *node = h2s->next; node != h2s; node = node->next) {
        h2o_http2_conn_t *h2 = container_of(node, h2o_http2_conn_t, _conns);
        if (h2->sock != NULL && h2_has_begun(h2))
            ((struct conn *)h2->sock->on_close.data)->listed.is_h2 = true;
    }
}

/* What came on connections that were not accepted. */
static void list_unaccepted(const struct loop_listener *from, struct coord_requests *list)
{
    int fd, listener = h2o_socket_get_fd(from->sock);

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (from->listener->tls == NULL) /* else it had no keys yet to send a request with */
            list_unread_fd(list, fd);
        (void)close(fd);
    }
    int left = errno != EAGAIN ? listener_queue_length(from->listener) : 0;
    if (left > 0) /* no descriptor to look at them with: at least they are counted */
        list->left_out += (size_t)left;
}

void list_unread(struct loop *loop, struct coord_requests *list)
{
    mark_h2(loop);
    for (h2o_linklist_t *node = loop->conns.next; node != &loop->conns; node = node->next) {
        struct conn *conn = container_of(node, struct conn, link);
        /* After a request that is listed already, more of it or a pipelined one may wait: the
         * client knows that those were not answered. What waits in a tunnel is no request. */
        if (conn->sock != NULL && !conn->given_up && !conn->is_tunnel && !conn->listed.is_h2 &&
            !conn->listed.is_receiving && conn->active == 0 && conn->sock->input->size == 0)
            list_unread_conn(list, conn);
    }
    for (size_t i = 0; i < loop->server->listeners.count; i++)
        if (loop->listeners[i].sock != NULL)
            list_unaccepted(&loop->listeners[i], list);
}

void list_requests(struct loop *loop, struct coord_requests *ret_list)
{
    uint64_t now_ns = clock_now_ns();

    for (h2o_linklist_t *node = loop->inflight.next; node != &loop->inflight; node = node->next) {
        struct inflight *inflight = container_of(node, struct inflight, link);
        const char *state = "inline";
        if (inflight->given_up) /* logged already */
            continue;
        if (inflight->req->timestamps.response_start_at.tv_sec != 0)
            state = "responding";
        else if (inflight->held != NULL)
            state = "held";
        else if (inflight->job != NULL)
            state = job_state(inflight->job);
        list_request(ret_list, inflight->req, inflight->id, state, now_ns - inflight->begun_ns);
    }
    job_list_abandoned(loop, ret_list);
    h2o_globalconf_t *config = loop->ctx.globalconf;
    (void)config->http1.callbacks.foreach_request(&loop->ctx, list_receiving, ret_list);
    (void)config->http2.callbacks.foreach_request(&loop->ctx, list_receiving, ret_list);
}

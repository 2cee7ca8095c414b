#include "dial.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loop.h"

struct attempt {
    struct dial *dial;
    h2o_socket_t *sock; /* NULL: it is over */
};

struct dial {
    struct upstream *upstream;
    dial_done *done;
    void *data;
    h2o_timeout_entry_t limit; /* of all */
    h2o_timeout_entry_t next;  /* when the next address is tried; first of all it begins */
    h2o_hostinfo_getaddr_req_t *lookup;
    h2o_socket_t *tls; /* connected, and shaking hands */
    const char *error; /* why the last address failed */
    size_t count, tried, open;
    uint64_t again_ms; /* after which a full Unix socket was last tried again; 0: none was */
    struct {
        struct sockaddr_storage addr;
        socklen_t len;
    } addresses[DIAL_ADDRESSES_MAX];
    struct attempt attempts[DIAL_ADDRESSES_MAX];
};

/* ---- the end ---- */

static void close_attempts(struct dial *dial)
{
    for (size_t i = 0; i < dial->tried; i++) {
        if (dial->attempts[i].sock != NULL)
            h2o_socket_close(dial->attempts[i].sock);
        dial->attempts[i].sock = NULL;
    }
    dial->open = 0;
}

void dial_cancel(struct dial *dial)
{
    h2o_timeout_unlink(&dial->limit);
    h2o_timeout_unlink(&dial->next);
    if (dial->lookup != NULL)
        h2o_hostinfo_getaddr_cancel(dial->lookup);
    if (dial->tls != NULL)
        h2o_socket_close(dial->tls);
    close_attempts(dial);
    free(dial);
}

static void finish(struct dial *dial, h2o_socket_t *sock, enum upstream_failure failure,
                   const char *what)
{
    dial_done *done = dial->done;
    void *data = dial->data;

    dial_cancel(dial);
    done(data, sock, failure, what);
}

static void on_limit(h2o_timeout_entry_t *timer)
{
    struct dial *dial = container_of(timer, struct dial, limit);

    finish(dial, NULL, UPSTREAM_CONNECT_TIME,
           dial->lookup != NULL ? "the name of the upstream could not be looked up in time"
           : dial->tls != NULL  ? "the TLS handshake with the upstream took too long"
                                : "the upstream did not accept the connection in time");
}

/* ---- TLS ---- */

static void on_tls(h2o_socket_t *sock, const char *error)
{
    struct dial *dial = sock->data;

    if (error ==
        h2o_socket_error_ssl_cert_name_mismatch) /* see upstream_tls.c, which knows better */
        error = NULL;
    if (error != NULL) {
        finish(dial, NULL, UPSTREAM_TLS, error);
        return;
    }
    dial->tls = NULL;
    finish(dial, sock, UPSTREAM_FAILURE_COUNT, NULL);
}

/* ---- addresses ---- */

static void connected(struct dial *dial, h2o_socket_t *sock, size_t index)
{
    struct upstream *upstream = dial->upstream;

    upstream->good_len = dial->addresses[index].len;
    memcpy(&upstream->good, &dial->addresses[index].addr, sizeof(upstream->good));
    h2o_timeout_unlink(&dial->next);
    if (!upstream->target->is_tls) {
        finish(dial, sock, UPSTREAM_FAILURE_COUNT, NULL);
        return;
    }
    close_attempts(dial); /* one that is connected later would take the place of this one */
    dial->tls = sock;
    sock->data = dial;
    h2o_socket_ssl_handshake(sock, upstream->settings->ssl_ctx, upstream->target->host, on_tls);
}

static void try_next(struct dial *dial);

static void on_connected(h2o_socket_t *sock, const char *error)
{
    struct attempt *attempt = sock->data;
    struct dial *dial = attempt->dial;
    int err = 0;
    socklen_t len = sizeof(err);

    if (error != NULL || getsockopt(h2o_socket_get_fd(sock), SOL_SOCKET, SO_ERROR, &err, &len) != 0)
        err = ECONNABORTED;
    attempt->sock = NULL;
    dial->open--;
    if (err == 0) {
        connected(dial, sock, (size_t)(attempt - dial->attempts));
        return;
    }
    h2o_socket_close(sock);
    dial->error = strerrordesc_np(err);
    try_next(dial);
}

/* Returns 0, or an errno. */
static int try_address(struct dial *dial, size_t index)
{
    const struct sockaddr *addr = (const void *)&dial->addresses[index].addr;
    struct attempt *attempt = &dial->attempts[index];
    int on = 1;

    attempt->sock = NULL;
    int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return errno;
    if (connect(fd, addr, dial->addresses[index].len) != 0 && errno != EINPROGRESS) {
        int err = errno;
        (void)close(fd);
        return err;
    }
    if (addr->sa_family != AF_UNIX)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    attempt->dial = dial;
    attempt->sock = h2o_evloop_socket_create(dial->upstream->proxy->loop->evloop, fd, 0);
    attempt->sock->data = attempt;
    h2o_socket_notify_write(attempt->sock, on_connected);
    dial->open++;
    return 0;
}

static void link_next(struct dial *dial, uint64_t ms)
{
    struct proxy_loop *proxy = dial->upstream->proxy;

    h2o_timeout_unlink(&dial->next);
    h2o_timeout_link(proxy->loop->evloop,
                     ms == 0 ? &proxy->loop->ctx.zero_timeout : proxy_loop_timers(proxy, ms),
                     &dial->next);
}

/* It is the only address. Each pause is twice as long as the one before: many requests may wait. */
static void try_again(struct dial *dial)
{
    dial->tried--;
    dial->again_ms = dial->again_ms == 0 ? 1 : 2 * dial->again_ms;
    if (dial->again_ms > DIAL_AGAIN_MOST_MS)
        dial->again_ms = DIAL_AGAIN_MOST_MS;
    link_next(dial, dial->again_ms);
}

static bool is_full(const struct dial *dial, int err)
{
    return err == EAGAIN && dial->upstream->target->is_unix;
}

static void try_next(struct dial *dial)
{
    while (dial->tried < dial->count) {
        int err = try_address(dial, dial->tried++);
        if (is_full(dial, err)) {
            try_again(dial);
            return;
        }
        if (err == 0) {
            if (dial->tried < dial->count)
                link_next(dial, DIAL_NEXT_MS);
            return;
        }
        dial->error = strerrordesc_np(err);
    }
    if (dial->open == 0)
        finish(dial, NULL, UPSTREAM_CONNECT, dial->error);
}

static void add_address(struct dial *dial, const void *addr, socklen_t len)
{
    if (dial->count == DIAL_ADDRESSES_MAX || len > sizeof(dial->addresses[0].addr))
        return;
    memcpy(&dial->addresses[dial->count].addr, addr, len);
    dial->addresses[dial->count++].len = len;
}

static const struct addrinfo *next_of(const struct addrinfo *at, bool of_first, int first)
{
    while (at != NULL && (at->ai_family == first) != of_first)
        at = at->ai_next;
    return at;
}

/* One of the family of the first, one of the other, and so on. */
static void add_in_turn(struct dial *dial, const struct addrinfo *list)
{
    int first = list->ai_family;
    const struct addrinfo *same = list, *other = next_of(list, false, first);

    while (same != NULL || other != NULL) {
        if (same != NULL) {
            add_address(dial, same->ai_addr, same->ai_addrlen);
            same = next_of(same->ai_next, true, first);
        }
        if (other != NULL) {
            add_address(dial, other->ai_addr, other->ai_addrlen);
            other = next_of(other->ai_next, false, first);
        }
    }
}

static void good_one_first(struct dial *dial)
{
    const struct upstream *upstream = dial->upstream;

    for (size_t i = 1; i < dial->count; i++) {
        if (dial->addresses[i].len != upstream->good_len ||
            memcmp(&dial->addresses[i].addr, &upstream->good, upstream->good_len) != 0)
            continue;
        __typeof__(dial->addresses[0]) good = dial->addresses[i];
        memmove(&dial->addresses[1], &dial->addresses[0], i * sizeof(good));
        dial->addresses[0] = good;
    }
}

/* ---- the beginning ---- */

static void on_looked_up(h2o_hostinfo_getaddr_req_t *lookup, const char *error,
                         struct addrinfo *list, void *data)
{
    struct dial *dial = data;

    (void)lookup;
    dial->lookup = NULL;
    if (error != NULL || list == NULL) {
        finish(dial, NULL, UPSTREAM_LOOKUP, error != NULL ? error : "the upstream has no address");
        return;
    }
    add_in_turn(dial, list);
    good_one_first(dial);
    try_next(dial);
}

static void on_next(h2o_timeout_entry_t *timer)
{
    struct dial *dial = container_of(timer, struct dial, next);
    const struct proxy_target *target = dial->upstream->target;
    struct loop *loop = dial->upstream->proxy->loop;

    if (dial->count > 0) {
        try_next(dial);
        return;
    }
    dial->lookup = h2o_hostinfo_getaddr(
        &loop->ctx.receivers.hostinfo_getaddr, h2o_iovec_init(target->host, strlen(target->host)),
        h2o_iovec_init(target->port, strlen(target->port)), AF_UNSPEC, SOCK_STREAM, IPPROTO_TCP,
        AI_ADDRCONFIG | AI_NUMERICSERV, on_looked_up, dial);
}

struct dial *dial_begin(struct upstream *upstream, dial_done *done, void *data)
{
    struct dial *dial = h2o_mem_alloc(sizeof(*dial));
    const struct proxy_target *target = upstream->target;
    struct proxy_loop *proxy = upstream->proxy;

    memset(dial, 0, offsetof(struct dial, addresses));
    dial->upstream = upstream;
    dial->done = done;
    dial->data = data;
    dial->limit.cb = on_limit;
    dial->next.cb = on_next;
    dial->error = "the upstream has no address";
    h2o_timeout_link(proxy->loop->evloop, proxy_loop_timers(proxy, upstream->settings->connect_ms),
                     &dial->limit);
    if (target->len > 0) {
        add_address(dial, &target->address, target->len);
        if (try_address(dial, dial->tried++) == 0)
            return dial;
        dial->tried = 0; /* once more, so that the failure is reported later */
    }
    link_next(dial, 0);
    return dial;
}

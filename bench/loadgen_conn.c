#include "loadgen_p.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* A slot is one closed-loop client; it has at most one connection at a time:
 *
 *                 conn_connect                conn_open
 *      CLOSED ------------------> CONNECTING -----------> OPEN
 *        ^  <----- conn_refused ------'                    |
 *        '<------------------- conn_finish ----------------'
 *        '--- conn_retire ---> RETIRED
 *
 * After every event of a slot load_conn_settle() looks at it once: close, retire, connect, or begin
 * requests whose permit is due, then write and set the timer. Nothing else begins anything, so
 * there is no recursion between a wire and the loop.
 *
 * What a kernel has received before a reset stays readable behind it: whenever epoll reports an end
 * (RDHUP, HUP, ERR), the socket is read until the kernel says so itself, and only then is the
 * outcome of the open requests decided. */

#define RETRY_NS (5 * LOAD_NS_PER_MS)
#define REFUSED_IN_ROW_MAX 20

static int conn_register(struct load_conn *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};

    return epoll_ctl(c->load->epoll_fd, operation, c->fd, &event) == 0 ? 0 : -errno;
}

void load_conn_want_write(struct load_conn *c, bool want)
{
    if (c->wants_write == want)
        return;
    int r = conn_register(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLRDHUP | (want ? EPOLLOUT : 0U));
    if (r != 0)
        c->load->error = r;
    c->wants_write = want;
}

size_t load_conn_write(struct load_conn *c, const void *data, size_t len)
{
    size_t done = 0;

    while (done < len && !c->write_failed) {
        ssize_t n = send(c->fd, (const char *)data + done, len - done, MSG_NOSIGNAL);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            c->write_failed = c->closing = true;
            (void)shutdown(c->fd, SHUT_RDWR); /* whatever the error was: an end will be reported */
        }
    }
    return done;
}

static void conn_close_fd(struct load_conn *c)
{
    (void)close(c->fd); /* leaves the epoll set with it; nothing to do about an error */
    c->fd = -1;
    c->phase = CONN_CLOSED;
    c->wants_write = false;
    c->write_failed = false;
    c->closing = false;
}

static void conn_finish(struct load_conn *c, enum load_end how)
{
    c->load->wire->end(c, how);
    assert(c->open_requests == 0);
    conn_close_fd(c);
}

static void conn_retire(struct load_conn *c)
{
    struct load *l = c->load;

    if (c->phase == CONN_OPEN)
        conn_finish(c, LOAD_END_EOF);
    if (c->phase == CONN_CONNECTING) {
        if (l->gone)
            l->result->refused++; /* it hung: nobody is there to complete it */
        conn_close_fd(c);
    }
    load_timer_clear(c);
    c->phase = CONN_RETIRED;
    l->retired++;
}

static void conn_refused(struct load_conn *c)
{
    struct load *l = c->load;

    conn_close_fd(c);
    c->retry_ns = l->now_ns + RETRY_NS;
    l->result->refused++;
    if (l->result->signal_ns != 0 && ++c->refused_in_row >= REFUSED_IN_ROW_MAX)
        conn_retire(c);
}

/* Connecting over and over to a free port in the range of local ports meets itself in the end. */
static bool is_connected_to_itself(const struct load_conn *c)
{
    struct sockaddr_storage own;
    socklen_t len = sizeof(own);

    if (c->load->address.ss_family == AF_UNIX)
        return false;
    return getsockname(c->fd, (struct sockaddr *)&own, &len) == 0 && len == c->load->address_len &&
           memcmp(&own, &c->load->address, len) == 0;
}

static void conn_open(struct load_conn *c)
{
    struct load *l = c->load;
    int on = 1;

    if (is_connected_to_itself(c)) {
        conn_refused(c);
        return;
    }
    if (l->address.ss_family != AF_UNIX)
        (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* only speed */
    c->phase = CONN_OPEN;
    c->refused_in_row = 0;
    c->requests = 0;
    c->incarnation++;
    l->result->connects++;
    int r = l->wire->open(c);
    if (r != 0)
        l->error = r;
}

/* connect() returned, or a connect in progress ended. */
static void conn_connected(struct load_conn *c, int error)
{
    struct load *l = c->load;

    if (error == 0) {
        conn_open(c);
    } else if (error == EADDRNOTAVAIL) { /* no local port is free: ours, not the server's doing */
        conn_close_fd(c);
        c->retry_ns = l->now_ns + RETRY_NS;
    } else {
        conn_refused(c);
    }
}

static void conn_connect(struct load_conn *c)
{
    struct load *l = c->load;

    c->fd = socket(l->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        l->error = -errno;
        return;
    }
    int r = connect(c->fd, (struct sockaddr *)&l->address, l->address_len);
    int error = r == 0 ? 0 : errno;
    c->phase = CONN_CONNECTING;
    c->wants_write = error == EINPROGRESS;
    if (error == 0 || error == EINPROGRESS) {
        r = conn_register(c, EPOLL_CTL_ADD,
                          EPOLLIN | EPOLLRDHUP | (c->wants_write ? EPOLLOUT : 0U));
        if (r != 0)
            l->error = r;
    }
    if (error != EINPROGRESS)
        conn_connected(c, error);
}

static uint64_t conn_due_ns(const struct load_conn *c)
{
    uint64_t due = c->rest_due_ns[c->rest_head];

    return c->phase == CONN_CLOSED && c->retry_ns > due ? c->retry_ns : due;
}

static void conn_begin_due(struct load_conn *c)
{
    struct load *l = c->load;

    c->blocked = false;
    while (c->resting > 0 && !c->closing && load_may_begin(l) && conn_due_ns(c) <= l->now_ns) {
        if (c->phase == CONN_CLOSED)
            conn_connect(c);
        if (c->phase != CONN_OPEN || l->error != 0)
            break;
        if (!l->wire->begin(c)) {
            c->blocked = true;
            break;
        }
    }
}

static bool conn_is_done(const struct load_conn *c)
{
    return c->phase == CONN_OPEN && c->closing && c->open_requests == 0;
}

static void conn_set_timer(struct load_conn *c)
{
    bool waits = c->resting > 0 && !c->closing && !c->blocked && load_may_begin(c->load) &&
                 (c->phase == CONN_OPEN || c->phase == CONN_CLOSED);

    if (waits)
        load_timer_set(c, conn_due_ns(c));
    else
        load_timer_clear(c);
}

void load_conn_settle(struct load_conn *c)
{
    struct load *l = c->load;

    do {
        if (conn_is_done(c))
            conn_finish(c, LOAD_END_EOF);
        if (c->phase == CONN_RETIRED || l->error != 0)
            return;
        if (c->open_requests == 0 && !load_may_begin(l)) {
            conn_retire(c);
            return;
        }
        conn_begin_due(c);
        if (c->phase == CONN_OPEN)
            l->wire->flush(c);
    } while (conn_is_done(c)); /* the flush can find that out */
    conn_set_timer(c);
}

static void conn_read(struct load_conn *c, bool to_the_end)
{
    struct load *l = c->load;
    ssize_t n;

    do {
        n = recv(c->fd, l->input, sizeof(l->input), 0);
        l->now_ns = load_clock_ns();
        if (n > 0) {
            l->wire->input(c, l->input, (size_t)n);
        } else if (n == 0) {
            conn_finish(c, c->write_failed ? LOAD_END_RESET : LOAD_END_EOF);
            return;
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            conn_finish(c, LOAD_END_RESET);
            return;
        }
    } while (to_the_end || n < 0 || (size_t)n == sizeof(l->input));
}

void load_conn_event(struct load_conn *c, uint32_t events)
{
    if (c->phase == CONN_CONNECTING) {
        int error = 0;
        socklen_t len = sizeof(error);
        if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
            error = errno;
        conn_connected(c, error);
    } else if (c->phase == CONN_OPEN &&
               (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        conn_read(c, (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
    }
    load_conn_settle(c);
}

void load_conn_wind_up(struct load_conn *c)
{
    if (c->phase == CONN_OPEN)
        conn_finish(c, LOAD_END_PATIENCE);
    if (c->phase != CONN_RETIRED)
        conn_retire(c);
}

#include "loadgen_conn.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "loadgen_count.h"
#include "loadgen_open.h"
#include "loadgen_pace.h"
#include "loadgen_timer.h"
#include "loadgen_tls.h"

/* The phases of a slot:
 *
 *               load_conn_connect             conn_open (then, with TLS, SHAKING)
 *      CLOSED ------------------> CONNECTING -----------> OPEN
 *        ^  <------ conn_failed ------'                    |
 *        '<------------------- conn_finish ----------------'
 *        '--- conn_retire ---> RETIRED
 *
 * After every event load_conn_settle() runs once: it closes, retires, connects, or begins requests
 * whose permit is due, then writes and sets the timer. Only this function begins requests, so a
 * wire and the loop never recurse.
 *
 * Data that the kernel received before a reset stays readable. When epoll reports an end (RDHUP,
 * HUP, ERR), the slot reads until recv() reports that end, and only then decides the outcome of the
 * open requests. A slow reader does the same after a reset. */

#define RETRY_NS (5 * NS_PER_MS)
#define REFUSED_IN_ROW_MAX 20
#define SLOW_BUFFER_BYTES 16384

static int conn_register(struct load_conn *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};

    return epoll_ctl(c->load->epoll_fd, operation, c->fd, &event) == 0 ? 0 : -errno;
}

/* While a slow reader pauses, epoll does not report the end of file either. */
static void conn_update_interest(struct load_conn *c, int operation)
{
    uint32_t interest =
        (c->read_paused ? 0U : EPOLLIN | EPOLLRDHUP) | (c->wants_write ? EPOLLOUT : 0U);

    if (operation == EPOLL_CTL_MOD && c->interest == interest)
        return;
    int r = conn_register(c, operation, interest);
    if (r != 0)
        c->load->error = r;
    c->interest = interest;
}

void load_conn_want_write(struct load_conn *c, bool want)
{
    c->wants_write = want;
    conn_update_interest(c, EPOLL_CTL_MOD);
}

static ssize_t conn_send(struct load_conn *c, const void *data, size_t len)
{
    return c->ssl != NULL ? load_tls_send(c, data, len) : send(c->fd, data, len, MSG_NOSIGNAL);
}

static ssize_t conn_recv(struct load_conn *c, void *data, size_t len)
{
    return c->ssl != NULL ? load_tls_recv(c, data, len) : recv(c->fd, data, len, 0);
}

size_t load_conn_write(struct load_conn *c, const void *data, size_t len)
{
    size_t done = 0;

    while (done < len && !c->write_failed) {
        ssize_t n = conn_send(c, (const char *)data + done, len - done);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            c->write_failed = c->closing = true;
            (void)shutdown(c->fd, SHUT_RDWR); /* after any error epoll then reports an end */
        }
    }
    return done;
}

static void conn_close_fd(struct load_conn *c)
{
    load_tls_close(c);
    (void)close(c->fd); /* also removes it from the epoll set */
    c->fd = -1;
    c->phase = CONN_CLOSED;
    c->wants_write = false;
    c->write_failed = false;
    c->closing = false;
    c->read_paused = false;
    c->send_waits = false;
    c->read_due_ns = c->send_due_ns = 0;
}

static void conn_finish(struct load_conn *c, enum load_end how)
{
    if (c->role != LOAD_ROLE_SILENT)
        c->load->wire->end(c, how);
    assert(c->open_requests == 0);
    conn_close_fd(c);
}

static void conn_retire(struct load_conn *c)
{
    struct load *l = c->load;

    if (c->phase == CONN_OPEN)
        conn_finish(c, LOAD_END_EOF);
    if (c->phase == CONN_CONNECTING || c->phase == CONN_SHAKING) {
        if (l->gone)
            load_count_refused(c, &l->result->refused); /* no server completes the connect */
        conn_close_fd(c);
    }
    l->result->waiting_to_start += c->assigned;
    load_open_settled(l, c->assigned);
    c->assigned = 0;
    load_timer_clear(c);
    c->phase = CONN_RETIRED;
    l->retired++;
}

static void conn_failed(struct load_conn *c, uint64_t *counter)
{
    struct load *l = c->load;

    conn_close_fd(c);
    if (c->role != LOAD_ROLE_CLIENT)
        return;
    load_count_refused(c, counter);
    if (l->options->rate > 0)
        return; /* the arrivals decide when the next connect is due */
    c->retry_ns = l->now_ns + RETRY_NS;
    if (l->result->signal_ns != 0 && ++c->refused_in_row >= REFUSED_IN_ROW_MAX)
        conn_retire(c);
}

/* Repeated connects to an unused port may pick that port as the local one: a self-connection. */
static bool is_connected_to_itself(const struct load_conn *c)
{
    struct sockaddr_storage own;
    socklen_t len = sizeof(own);

    if (c->load->address.ss_family == AF_UNIX)
        return false;
    return getsockname(c->fd, (struct sockaddr *)&own, &len) == 0 && len == c->load->address_len &&
           memcmp(&own, &c->load->address, len) == 0;
}

static void conn_opened(struct load_conn *c)
{
    struct load *l = c->load;

    c->phase = CONN_OPEN;
    c->refused_in_row = 0;
    c->requests = 0;
    c->incarnation++;
    if (c->role == LOAD_ROLE_SILENT) {
        l->crowd->opened(c);
        return;
    }
    if (c->role == LOAD_ROLE_CLIENT)
        l->result->connects++;
    int r = l->wire->open(c);
    if (r != 0)
        l->error = r;
}

static void conn_shake(struct load_conn *c)
{
    enum load_tls_step step = load_tls_shake(c);

    if (step == LOAD_TLS_DONE)
        conn_opened(c);
    else if (step == LOAD_TLS_FAILED)
        conn_failed(c, &c->load->result->failed_handshakes);
    else
        load_conn_want_write(c, step == LOAD_TLS_WRITES);
}

static void conn_open(struct load_conn *c)
{
    struct load *l = c->load;
    int on = 1;

    if (is_connected_to_itself(c)) {
        conn_failed(c, &l->result->refused);
        return;
    }
    if (l->address.ss_family != AF_UNIX)
        (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* an optimization */
    if (l->tls == NULL || c->role == LOAD_ROLE_SILENT) {
        conn_opened(c);
        return;
    }
    c->phase = CONN_SHAKING;
    int r = load_tls_open(c);
    if (r != 0)
        l->error = r;
    else
        conn_shake(c);
}

/* connect() has returned, or a connect in progress has ended. */
static void conn_connected(struct load_conn *c, int error)
{
    struct load *l = c->load;

    if (error == 0) {
        conn_open(c);
    } else if (c->role == LOAD_ROLE_SILENT && error == ECONNRESET) {
        l->crowd->opened(c); /* a reset during the handshake would be ECONNREFUSED */
        conn_close_fd(c);
    } else if (error == EADDRNOTAVAIL) { /* no local port is free: not the server's fault */
        conn_close_fd(c);
        c->retry_ns = l->now_ns + RETRY_NS;
    } else {
        conn_failed(c, &l->result->refused);
    }
}

/* A small buffer keeps the TCP window small, so the server cannot send everything at once. */
static void conn_limit_buffer(struct load_conn *c)
{
    int bytes = SLOW_BUFFER_BYTES;

    if (c->load->options->read_rate > 0)
        (void)setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)); /* a hint */
}

void load_conn_connect(struct load_conn *c)
{
    struct load *l = c->load;

    c->fd = socket(l->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        l->error = -errno;
        return;
    }
    conn_limit_buffer(c);
    int r = connect(c->fd, (struct sockaddr *)&l->address, l->address_len);
    int error = r == 0 ? 0 : errno;
    c->phase = CONN_CONNECTING;
    c->wants_write = error == EINPROGRESS;
    if (error == 0 || error == EINPROGRESS)
        conn_update_interest(c, EPOLL_CTL_ADD);
    if (error != EINPROGRESS)
        conn_connected(c, error);
}

static uint64_t conn_due_ns(const struct load_conn *c)
{
    uint64_t due = c->rest_due_ns[c->rest_head];

    return c->phase == CONN_CLOSED && c->retry_ns > due ? c->retry_ns : due;
}

static bool conn_has_due_permit(const struct load_conn *c)
{
    return c->load->options->rate > 0 ? c->assigned > 0 : c->resting > 0;
}

static void conn_begin_due(struct load_conn *c)
{
    struct load *l = c->load;

    c->blocked = false;
    while (conn_has_due_permit(c) && !c->closing && !l->stopped && conn_due_ns(c) <= l->now_ns) {
        if (c->phase == CONN_CLOSED)
            load_conn_connect(c);
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
    uint64_t due = UINT64_MAX;
    bool waits = conn_has_due_permit(c) && !c->closing && !c->blocked && !c->load->stopped &&
                 (c->phase == CONN_OPEN || c->phase == CONN_CLOSED);

    if (waits)
        due = conn_due_ns(c);
    if (c->read_paused && c->read_due_ns < due)
        due = c->read_due_ns;
    if (c->send_waits && c->send_due_ns < due)
        due = c->send_due_ns;
    if (due != UINT64_MAX)
        load_timer_set(c, due);
    else
        load_timer_clear(c);
}

static void conn_resume(struct load_conn *c)
{
    c->send_waits = false; /* flush() sets it again if necessary */
    if (!c->read_paused || c->read_due_ns > c->load->now_ns)
        return;
    c->read_paused = false;
    conn_update_interest(c, EPOLL_CTL_MOD);
}

void load_conn_settle(struct load_conn *c)
{
    struct load *l = c->load;

    conn_resume(c);
    do {
        if (conn_is_done(c))
            conn_finish(c, LOAD_END_EOF);
        if (c->phase == CONN_RETIRED || l->error != 0)
            return;
        if (c->open_requests == 0 && l->stopped) {
            conn_retire(c);
            return;
        }
        conn_begin_due(c);
        if (c->phase == CONN_OPEN)
            l->wire->flush(c);
    } while (conn_is_done(c)); /* flush() may have set c->closing */
    conn_set_timer(c);
}

/* If the server closed before the request arrived, it answers the request with a reset. recv()
 * still returns the end of file first; SO_ERROR shows the reset. */
static enum load_end conn_end_of_file(const struct load_conn *c)
{
    int error = 0;
    socklen_t len = sizeof(error);

    (void)getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    return c->write_failed || error != 0 ? LOAD_END_RESET : LOAD_END_EOF;
}

/* A slow reader reads one slice, then pauses. */
static void conn_read_slice(struct load_conn *c)
{
    struct load *l = c->load;
    ssize_t n = conn_recv(c, l->input, load_pace_read_room(c, sizeof(l->input)));

    l->now_ns = clock_now_ns();
    if (n > 0) {
        load_pace_read(c, (size_t)n);
        conn_update_interest(c, EPOLL_CTL_MOD);
        l->wire->input(c, l->input, (size_t)n);
    } else if (n == 0) {
        conn_finish(c, conn_end_of_file(c));
    } else if (errno != EAGAIN && errno != EINTR) {
        conn_finish(c, LOAD_END_RESET);
    }
}

static void conn_read(struct load_conn *c, bool to_the_end)
{
    struct load *l = c->load;
    ssize_t n;

    do {
        n = conn_recv(c, l->input, sizeof(l->input));
        l->now_ns = clock_now_ns();
        if (n > 0) {
            if (c->role != LOAD_ROLE_SILENT)
                l->wire->input(c, l->input, (size_t)n);
        } else if (n == 0) {
            conn_finish(c, conn_end_of_file(c));
            return;
        } else if (errno == EAGAIN) {
            return;
        } else if (errno != EINTR) {
            conn_finish(c, LOAD_END_RESET);
            return;
        }
    } while (to_the_end || n < 0 || (size_t)n == sizeof(l->input) || c->ssl != NULL);
}

void load_conn_event(struct load_conn *c, uint32_t events)
{
    if (c->phase == CONN_CONNECTING) {
        int error = 0;
        socklen_t len = sizeof(error);
        if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
            error = errno;
        conn_connected(c, error);
    } else if (c->phase == CONN_SHAKING) {
        conn_shake(c);
    } else if (c->phase == CONN_OPEN && c->load->options->read_rate > 0 &&
               c->role == LOAD_ROLE_CLIENT && (events & (EPOLLHUP | EPOLLERR)) == 0) {
        if ((events & (EPOLLIN | EPOLLRDHUP)) != 0)
            conn_read_slice(c);
    } else if (c->phase == CONN_OPEN &&
               (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) {
        conn_read(c, (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0);
    }
    if (c->role == LOAD_ROLE_CLIENT)
        load_conn_settle(c);
    else
        c->load->crowd->settle(c);
}

/* Input in OpenSSL's buffer causes no epoll event: the timer reads it. */
void load_conn_due(struct load_conn *c)
{
    conn_resume(c);
    if (c->phase == CONN_OPEN && !c->read_paused && load_tls_has_more(c))
        load_conn_event(c, EPOLLIN);
    else
        load_conn_settle(c);
}

void load_conn_drop(struct load_conn *c, enum load_end how)
{
    if (c->phase == CONN_OPEN)
        conn_finish(c, how);
    else if (c->phase == CONN_CONNECTING || c->phase == CONN_SHAKING)
        conn_close_fd(c);
}

void load_conn_wind_up(struct load_conn *c)
{
    if (c->phase == CONN_OPEN)
        conn_finish(c, LOAD_END_PATIENCE);
    if (c->phase != CONN_RETIRED)
        conn_retire(c);
}

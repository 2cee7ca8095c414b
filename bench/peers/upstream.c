#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

/* The upstream of the proxies of drain.py and throughput.py. One thread, loopback only; it exits at
 * once on SIGTERM.
 *
 * It answers every request with the same twelve bytes: at once, or, with ms=A or ms=A-B in the
 * query, after a random time in that range. Request bodies need a Content-Length.
 *
 * GET /upstream-stats returns counts of what the clients, the proxies, have done:
 *
 *   - requests: their head has arrived;
 *   - answered: the kernel has taken the whole answer;
 *   - cut_reset: a reset arrived while a request was under way, that is, after its first byte and
 *     before its answer;
 *   - cut_eof: an end of file arrived while a request was under way;
 *   - reset_after: a reset arrived on a connection without a request under way. The client may have
 *     discarded an unread answer;
 *   - refused: requests that this server cannot parse;
 *   - connections: accepted.
 *
 * Requests for these counts do not count. Everything that happened before them does, because epoll
 * reports events in the order in which they occurred. */

#define HEAD_MOST 16384
#define EVENTS_A_TURN 256
#define SLOTS 4096 /* in the timer wheel, 1 ms each */
#define DELAY_MOST_MS (SLOTS - 2)
#define BODY_MOST (1U << 30)

enum state {
    STATE_HEAD, /* idle if nothing has been read */
    STATE_BODY,
    STATE_WAITING, /* the answer is not due yet */
    STATE_CLOSING, /* the answer and an end of file are sent; waiting for the client's */
};

struct conn {
    int fd;
    enum state state;
    bool keep;       /* keep the connection open after the answer */
    bool is_asking;  /* the request is for the counts */
    size_t have;     /* bytes in `head` */
    size_t body;     /* bytes of the body that have not arrived yet */
    unsigned low_ms; /* range of the delay */
    unsigned high_ms;
    struct conn **slot; /* in the wheel; NULL: not there */
    struct conn *prev, *next;
    char head[HEAD_MOST + 1];
};

static struct counts {
    unsigned long connections, requests, answered, cut_reset, cut_eof, reset_after, refused;
} counts;

static int epoll_fd;
static struct conn *wheel[SLOTS];
static unsigned long now_ms, turned_ms; /* turned_ms: the wheel has handled it */
static size_t waiting;

static unsigned long clock_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (unsigned long)t.tv_sec * 1000 + (unsigned long)t.tv_nsec / 1000000;
}

static unsigned draw(unsigned low, unsigned high)
{
    static uint64_t seed = 88172645463325252U;

    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return low + (unsigned)(seed % (high - low + 1));
}

/* ---- the wheel ---- */

static void wheel_take(struct conn *c)
{
    if (c->slot == NULL)
        return;
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        *c->slot = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    c->slot = NULL;
    waiting--;
}

static void wheel_put(struct conn *c, unsigned ms)
{
    if (waiting == 0)
        turned_ms = now_ms;
    /* One more, because this millisecond has begun already. */
    c->slot = &wheel[(now_ms + ms + 1) % SLOTS];
    c->prev = NULL;
    c->next = *c->slot;
    if (c->next != NULL)
        c->next->prev = c;
    *c->slot = c;
    waiting++;
}

/* ---- one connection ---- */

static bool is_under_way(const struct conn *c)
{
    return c->state == STATE_BODY || c->state == STATE_WAITING ||
           (c->state == STATE_HEAD && c->have > 0);
}

static void conn_close(struct conn *c)
{
    wheel_take(c);
    (void)close(c->fd);
    free(c);
}

/* The client has closed the connection: by a reset (`err`), or an end of file (0). */
static void conn_lost(struct conn *c, int err)
{
    if (is_under_way(c) && !c->is_asking)
        *(err != 0 ? &counts.cut_reset : &counts.cut_eof) += 1;
    else if (err != 0)
        counts.reset_after++;
    conn_close(c);
}

static void conn_refuse(struct conn *c)
{
    static const char text[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";

    counts.refused++;
    (void)send(c->fd, text, sizeof(text) - 1, MSG_NOSIGNAL);
    conn_close(c);
}

static int print_answer(const struct conn *c, char *text, size_t size)
{
    char body[512] = "Hello World\n";
    int len = 12;

    if (c->is_asking)
        len = snprintf(body, sizeof(body),
                       "{\"connections\": %lu, \"requests\": %lu, \"answered\": %lu, "
                       "\"cut_reset\": %lu, \"cut_eof\": %lu, \"reset_after\": %lu, "
                       "\"refused\": %lu}\n",
                       counts.connections, counts.requests, counts.answered, counts.cut_reset,
                       counts.cut_eof, counts.reset_after, counts.refused);
    return snprintf(text, size,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n%s\r\n%s",
                    len, c->keep ? "" : "Connection: close\r\n", body);
}

/* An answer is far smaller than the socket's buffer, and there is only one, so a partial send()
 * means that the connection is broken. Returns false if the connection is gone. */
static bool conn_answer(struct conn *c)
{
    char text[1024];
    int len = print_answer(c, text, sizeof(text));

    wheel_take(c);
    if (send(c->fd, text, (size_t)len, MSG_NOSIGNAL) != len) {
        conn_lost(c, ECONNRESET);
        return false;
    }
    counts.answered += !c->is_asking;
    c->state = c->keep ? STATE_HEAD : STATE_CLOSING;
    if (!c->keep)
        (void)shutdown(c->fd, SHUT_WR);
    return true;
}

/* ---- reading a request ---- */

static bool parse_number(const char *text, unsigned long largest, unsigned long *ret_number,
                         const char **ret_end)
{
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    unsigned long number = strtoul(text, &end, 10);
    if (number > largest)
        return false;
    *ret_number = number;
    *ret_end = end;
    return true;
}

/* `line` ends with a NUL. */
static bool parse_request_line(struct conn *c, const char *line)
{
    const char *version = strstr(line, " HTTP/1.");
    const char *ms = strstr(line, "ms=");
    unsigned long low = 0, high = 0;

    if (version == NULL)
        return false;
    c->keep = version[8] == '1';
    c->is_asking = strstr(line, " /upstream-stats ") != NULL;
    if (ms != NULL) {
        if (!parse_number(ms + 3, DELAY_MOST_MS, &low, &ms))
            return false;
        high = low;
        if (*ms == '-' && (!parse_number(ms + 1, DELAY_MOST_MS, &high, &ms) || high < low))
            return false;
    }
    c->low_ms = (unsigned)low;
    c->high_ms = (unsigned)high;
    return true;
}

static bool parse_field(struct conn *c, const char *line)
{
    const char *value = strchr(line, ':');
    unsigned long number;

    if (value == NULL)
        return false;
    size_t name = (size_t)(value - line);
    value += 1 + strspn(value + 1, " \t");
    if (name == 14 && strncasecmp(line, "content-length", name) == 0) {
        if (!parse_number(value, BODY_MOST, &number, &value))
            return false;
        c->body = number;
    } else if (name == 10 && strncasecmp(line, "connection", name) == 0) {
        c->keep = c->keep && strcasestr(value, "close") == NULL;
    }
    return name != 17 || strncasecmp(line, "transfer-encoding", name) != 0;
}

/* The complete head ends at `end`. */
static bool parse_head(struct conn *c, char *end)
{
    bool is_first = true;

    c->body = 0;
    for (char *line = c->head; line < end;) {
        char *next = memmem(line, (size_t)(end + 2 - line), "\r\n", 2);
        *next = '\0';
        if (!(is_first ? parse_request_line(c, line) : parse_field(c, line)))
            return false;
        is_first = false;
        line = next + 2;
    }
    return true;
}

/* Discard the part of the body that has arrived. */
static void take_body(struct conn *c)
{
    size_t part = c->have < c->body ? c->have : c->body;

    c->have -= part;
    c->body -= part;
    memmove(c->head, c->head + part, c->have);
}

/* Returns false if the connection is gone. */
static bool conn_step(struct conn *c)
{
    if (c->state == STATE_HEAD) {
        char *end = memmem(c->head, c->have, "\r\n\r\n", 4);
        if (end == NULL && c->have < HEAD_MOST)
            return true;
        if (end == NULL || !parse_head(c, end)) {
            conn_refuse(c);
            return false;
        }
        c->have -= (size_t)(end + 4 - c->head);
        memmove(c->head, end + 4, c->have);
        c->state = STATE_BODY;
        counts.requests += !c->is_asking;
    }
    if (c->state == STATE_BODY) {
        take_body(c);
        if (c->body > 0)
            return true;
        c->state = STATE_WAITING;
        if (c->high_ms == 0)
            return conn_answer(c);
        wheel_put(c, draw(c->low_ms, c->high_ms));
    }
    return true;
}

static void conn_read(struct conn *c)
{
    if (c->have == HEAD_MOST) { /* input during a delayed request: proxies do not pipeline */
        conn_refuse(c);
        return;
    }
    ssize_t n = recv(c->fd, c->head + c->have, HEAD_MOST - c->have, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        conn_lost(c, n == 0 ? 0 : errno);
        return;
    }
    if (c->state == STATE_CLOSING)
        return;
    c->have += (size_t)n;
    (void)conn_step(c);
}

/* ---- the loop ---- */

static void accept_all(int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct conn *c = calloc(1, sizeof(*c));
        if (c == NULL) {
            (void)close(fd);
            return;
        }
        c->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
            conn_close(c);
        else
            counts.connections++; /* NOLINT(clang-analyzer-unix.Malloc): epoll(7) has `c` */
    }
}

/* Proxies do not pipeline, so no further request is in the buffer. */
static void turn_wheel(void)
{
    for (; waiting > 0 && turned_ms < now_ms; turned_ms++)
        while (wheel[(turned_ms + 1) % SLOTS] != NULL)
            (void)conn_answer(wheel[(turned_ms + 1) % SLOTS]);
}

static void serve(int listener)
{
    struct epoll_event events[EVENTS_A_TURN];

    for (;;) {
        int n = epoll_wait(epoll_fd, events, EVENTS_A_TURN, waiting > 0 ? 1 : -1);
        now_ms = clock_ms();
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                accept_all(listener);
            else
                conn_read(events[i].data.ptr);
        }
        turn_wheel();
    }
}

/* ---- start ---- */

static int fail(const char *what)
{
    (void)fprintf(stderr, "lastcall-upstream: %s: %s\n", what, strerror(errno));
    return EX_UNAVAILABLE;
}

/* A listener on loopback, or -1 with errno. */
static int open_listener(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, SOMAXCONN) != 0)
        return -1; /* the process exits */
    return fd;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", required_argument, NULL, 'p'}, {0}};
    unsigned long port = 0;
    const char *end = "";
    bool ok = true;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        ok &= option == 'p' && parse_number(optarg, UINT16_MAX, &port, &end) && *end == '\0';
    if (!ok || port == 0 || optind != argc) {
        (void)fprintf(stderr, "usage: lastcall-upstream --port 1..65535\n");
        return EX_USAGE;
    }
    int listener = open_listener((uint16_t)port);
    if (listener < 0)
        return fail("cannot listen");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event) != 0)
        return fail("epoll");
    serve(listener);
}

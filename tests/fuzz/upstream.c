/* Makes up answers of upstreams and applications, cuts them anywhere, and looks at what a client of
 * the real process gets. Everything goes over loopback.
 *
 *     fuzz_upstream LASTCALL [--seconds N] [--seed S] [--from NUMBER] [--count N] [--judge 0]
 *
 * What has to hold for every answer:
 *     the process lives, and the client has an answer or the end of its connection
 *     that answer is whole, or visibly cut; never one that breaks the rules of its protocol
 *     one that keeps the rules arrives as it was sent, and cut it never looks whole
 *     a request is sent again only if a connection that was kept ended without a byte of an answer
 *
 * With --judge 0 only the first is checked: for a process with known faults, does anything end it?
 * A failure is printed with the options that repeat it: the same seed, and --from with --count 1.
 */

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "answer_client.h"
#include "upstream_plan.h"
#include "upstream_server.h"

#define UPSTREAMS_MAX 64
#define ROOM ((size_t)2 << 20)
#define PATIENCE_MS 20000

struct upstream {
    int fd; /* -1: free */
    enum plan_kind kind;
    char bytes[16384]; /* of a request */
    size_t size;
    unsigned requests; /* that it has had */
};

/* One exchange; the upstream connections outlive it. */
static struct {
    struct server server;
    struct upstream upstreams[UPSTREAMS_MAX];
    struct plan plan;
    uint64_t seed, number;
    bool judges;
    enum answer_protocol protocol;
    char path[64];              /* of this exchange alone, without its first letter */
    struct upstream *answering; /* gets the plan; NULL: not yet, or done */
    size_t sent;
    bool plan_is_used;
    bool may_repeat, was_repeated; /* the request */
    int client;
    char received[ROOM];
    size_t received_size;
    enum connection_end client_end;
} fuzz;

static uint64_t now_ms(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void die(const char *what)
{
    (void)fprintf(stderr, "fuzz_upstream: %s: %s\n", what, strerror(errno));
    (void)kill(fuzz.server.pid, SIGKILL);
    (void)unlink(fuzz.server.conf);
    exit(2);
}

/* ---- a failure ---- */

static void print_bytes(const char *title, const char *bytes, size_t size)
{
    (void)printf("%s (%zu bytes): \"", title, size);
    for (size_t i = 0; i < size && i < 3000; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '\r')
            (void)printf("\\r");
        else if (c == '\n')
            (void)printf("\\n");
        else if (c < ' ' || c > '~' || c == '"' || c == '\\')
            (void)printf("\\x%02x", c);
        else
            (void)putchar(c);
    }
    (void)printf("%s\"\n", size > 3000 ? " ..." : "");
}

static void fail(const char *fault)
{
    static const char *const protocols[] = {"HTTP/1.0", "HTTP/1.1", "HTTP/2"};
    static const char *const ends[] = {"kept", "closed", "reset"};
    const struct plan *plan = &fuzz.plan;

    (void)printf("FAIL: %s\n"
                 "again: --seed %llu --from %llu --count 1\n"
                 "client %s, %s to %s, %s the rules, status %d, %zu of %zu bytes sent, then %s; "
                 "head %zu, whole %zu\n",
                 fault, (unsigned long long)fuzz.seed, (unsigned long long)fuzz.number,
                 protocols[fuzz.protocol], plan->kind == PLAN_HTTP ? "HTTP" : "FastCGI",
                 plan->to_head ? "HEAD" : "GET", plan->keeps_rules ? "keeps" : "breaks",
                 plan->status, plan->sent, plan->size, ends[plan->end], plan->head_size,
                 plan->whole_size);
    print_bytes("sent", plan->bytes, plan->sent);
    print_bytes("received", fuzz.received, fuzz.received_size);
    (void)kill(fuzz.server.pid, SIGKILL);
    (void)unlink(fuzz.server.conf);
    exit(1);
}

/* ---- the server ---- */

static void check_alive(void)
{
    int status;
    static char text[64];

    if (waitpid(fuzz.server.pid, &status, WNOHANG) == 0)
        return;
    (void)snprintf(text, sizeof(text), "the process ended, %s %d",
                   WIFSIGNALED(status) ? "signal" : "status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    fail(text);
}

/* ---- the upstreams ---- */

static void hang_up(struct upstream *upstream, bool reset)
{
    const struct linger now = {.l_onoff = 1};

    if (reset)
        (void)setsockopt(upstream->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    (void)close(upstream->fd);
    upstream->fd = -1;
    if (fuzz.answering == upstream)
        fuzz.answering = NULL;
}

static void accept_upstream(enum plan_kind kind)
{
    int fd = accept4(fuzz.server.listeners[kind], NULL, NULL, SOCK_CLOEXEC), on = 1;

    if (fd < 0)
        return;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    for (size_t i = 0; i < UPSTREAMS_MAX; i++) {
        if (fuzz.upstreams[i].fd < 0) {
            fuzz.upstreams[i] = (struct upstream){.fd = fd, .kind = kind};
            return;
        }
    }
    (void)close(fd);
}

static bool is_whole_request(const struct upstream *upstream)
{
    if (upstream->kind == PLAN_HTTP)
        return memmem(upstream->bytes, upstream->size, "\r\n\r\n", 4) != NULL;
    for (size_t at = 0; upstream->size - at >= 8;) {
        const unsigned char *head = (const unsigned char *)upstream->bytes + at;
        size_t content = (size_t)head[4] << 8 | head[5];
        if (head[1] == 5 && content == 0)
            return true;
        at += 8 + content + head[6];
        if (at > upstream->size)
            return false;
    }
    return false;
}

/* What a push or an internal redirect asks for. */
static void answer_plainly(const struct upstream *upstream)
{
    static const char http[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    static const char fastcgi[] = "\1\6\0\1\0\4\0\0X:\n\n\1\3\0\1\0\x08\0\0\0\0\0\0\0\0\0\0";

    if (upstream->kind == PLAN_HTTP)
        (void)send(upstream->fd, http, sizeof(http) - 1, MSG_NOSIGNAL);
    else
        (void)send(upstream->fd, fastcgi, sizeof(fastcgi) - 1, MSG_NOSIGNAL);
}

static void read_upstream(struct upstream *upstream)
{
    ssize_t n = recv(upstream->fd, upstream->bytes + upstream->size,
                     sizeof(upstream->bytes) - upstream->size, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        hang_up(upstream, false);
        return;
    }
    upstream->size += (size_t)n;
    if (!is_whole_request(upstream))
        return;
    bool is_ours = memmem(upstream->bytes, upstream->size, fuzz.path, strlen(fuzz.path)) != NULL;
    upstream->size = 0;
    upstream->requests++;
    if (fuzz.plan_is_used && upstream->kind == fuzz.plan.kind && is_ours)
        fuzz.was_repeated = true;
    if (fuzz.plan_is_used || upstream->kind != fuzz.plan.kind || !is_ours) {
        answer_plainly(upstream);
        return;
    }
    fuzz.plan_is_used = true;
    fuzz.may_repeat = upstream->requests > 1 && fuzz.plan.sent == 0;
    fuzz.answering = upstream;
    fuzz.sent = 0;
}

/* One more piece of the plan; at its end, its end. */
static void go_on_answering(void)
{
    struct upstream *upstream = fuzz.answering;
    struct plan *plan = &fuzz.plan;
    size_t piece = 1 + plan_random(plan, plan_random(plan, 3) == 0 ? 30 : 100000);

    if (piece > plan->sent - fuzz.sent)
        piece = plan->sent - fuzz.sent;
    ssize_t n = send(upstream->fd, plan->bytes + fuzz.sent, piece, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n < 0) {
        hang_up(upstream, false);
        return;
    }
    fuzz.sent += (size_t)n;
    if (fuzz.sent < plan->sent)
        return;
    fuzz.answering = NULL;
    if (plan->end != PLAN_KEEP)
        hang_up(upstream, plan->end == PLAN_RESET);
}

/* ---- the client ---- */

static int connect_client(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(fuzz.server.port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        die("socket");
    if (connect(fd, (void *)&address, sizeof(address)) != 0) {
        check_alive();
        fail("a client cannot connect");
    }
    return fd;
}

static void ask(const char *path, bool to_head)
{
    char bytes[1024];
    size_t size = answer_request(fuzz.protocol, to_head, path, bytes, sizeof(bytes));

    fuzz.received_size = 0;
    fuzz.client_end = CONNECTION_OPEN;
    (void)!send(fuzz.client, bytes, size, MSG_NOSIGNAL);
}

static void read_client(void)
{
    ssize_t n = recv(fuzz.client, fuzz.received + fuzz.received_size, ROOM - fuzz.received_size,
                     MSG_DONTWAIT);

    if (n > 0)
        fuzz.received_size += (size_t)n;
    else if (n == 0)
        fuzz.client_end = CONNECTION_CLOSED;
    else if (errno != EAGAIN && errno != EINTR)
        fuzz.client_end = CONNECTION_RESET;
}

/* Wait for whatever comes, but not while there is more to send. */
static void turn(void)
{
    struct pollfd fds[UPSTREAMS_MAX + 3] = {
        {.fd = fuzz.client_end == CONNECTION_OPEN ? fuzz.client : -1, .events = POLLIN},
        {.fd = fuzz.server.listeners[0], .events = POLLIN},
        {.fd = fuzz.server.listeners[1], .events = POLLIN}};

    for (size_t i = 0; i < UPSTREAMS_MAX; i++)
        fds[3 + i] = (struct pollfd){.fd = fuzz.upstreams[i].fd, .events = POLLIN};
    int wait_ms = fuzz.answering == NULL ? 100 : (int)plan_random(&fuzz.plan, 8) / 7;
    if (poll(fds, UPSTREAMS_MAX + 3, wait_ms) < 0 && errno != EINTR)
        die("poll");
    if (fds[0].revents != 0)
        read_client();
    for (size_t i = 0; i < UPSTREAMS_MAX; i++)
        if (fuzz.upstreams[i].fd >= 0 && fds[3 + i].revents != 0)
            read_upstream(&fuzz.upstreams[i]);
    for (size_t i = 0; i < 2; i++)
        if (fds[1 + i].revents != 0)
            accept_upstream((enum plan_kind)i);
    if (fuzz.answering != NULL)
        go_on_answering();
}

static enum answer_state await_answer(bool to_head, struct answer *ret_answer)
{
    uint64_t until_ms = now_ms() + PATIENCE_MS;
    size_t looked_at = SIZE_MAX;

    for (;;) {
        if (fuzz.received_size != looked_at || fuzz.client_end != CONNECTION_OPEN) {
            enum answer_state state = answer_read(fuzz.protocol, to_head, fuzz.received,
                                                  fuzz.received_size, fuzz.client_end, ret_answer);
            if (state != ANSWER_MORE)
                return state;
            answer_release(ret_answer);
            looked_at = fuzz.received_size;
        }
        if (now_ms() > until_ms) {
            check_alive();
            fail("no answer comes, and no end");
        }
        turn();
    }
}

/* ---- what has to hold ---- */

/* How much of the answer can the client have? */
static bool is_sent_whole(const struct plan *plan)
{
    if (plan->ends_by_close)
        return plan->sent >= plan->head_size && plan->end == PLAN_CLOSE;
    return plan->sent >= plan->whole_size ||
           (plan->end_of_stdout > 0 && plan->end == PLAN_CLOSE &&
            plan->sent >= plan->end_of_stdout && plan->sent <= plan->after_stdout);
}

static void judge_body(const struct plan *plan, const struct answer *answer)
{
    size_t want = plan->ends_by_close ? plan->sent - plan->head_size : plan->body_size;

    if (answer->status != plan->status)
        fail("another status than was sent");
    if (answer->body_size != want || (want > 0 && memcmp(answer->body, plan->body, want) != 0))
        fail("another body than was sent");
}

static void judge(const struct plan *plan, enum answer_state state, const struct answer *answer)
{
    static char text[160];

    if (!fuzz.judges)
        return;
    if (state == ANSWER_BROKEN) {
        (void)snprintf(text, sizeof(text), "the client cannot read it: %s", answer->fault);
        fail(text);
    }
    if (!plan->keeps_rules)
        return;
    bool is_error = answer->status == 502 && state == ANSWER_WHOLE;
    if (fuzz.was_repeated) {
        if (!fuzz.may_repeat)
            fail("a request was sent again that may have been read");
        if (state != ANSWER_WHOLE || (answer->status != 200 && !is_error))
            fail("a request that was sent again gets no answer");
        return;
    }
    if (plan->sent < plan->head_size) {
        if (!is_error)
            fail("half a head is no answer, and gets 502");
    } else if (!is_sent_whole(plan)) {
        if (state == ANSWER_WHOLE && !is_error)
            fail("what was cut looks whole");
    } else if (state == ANSWER_WHOLE && !is_error) {
        judge_body(plan, answer);
    } else if (plan->end != PLAN_RESET) { /* which may overtake the rest */
        fail("what was whole is not passed on");
    }
}

/* What follows on the same connection is another answer. */
static void ask_once_more(const struct answer *first)
{
    struct answer second;

    if (fuzz.received_size > first->used)
        fail("something follows the answer");
    ask("/own", false);
    enum answer_state state = await_answer(false, &second);
    bool closed = state == ANSWER_CUT && fuzz.received_size == 0;
    if (!closed && (state != ANSWER_WHOLE || second.status != 200))
        fail("the next request on the connection gets no answer of its own");
    answer_release(&second);
}

static void exchange(void)
{
    static const char letters[2][2] = {{'p', 'q'}, {'f', 'g'}};
    char path[80];
    struct plan *plan = &fuzz.plan;
    struct answer answer;

    plan_make(plan, fuzz.seed, fuzz.number);
    fuzz.protocol = (enum answer_protocol)plan_random(plan, ANSWER_PROTOCOLS);
    fuzz.plan_is_used = fuzz.may_repeat = fuzz.was_repeated = false;
    fuzz.client = connect_client();
    (void)snprintf(fuzz.path, sizeof(fuzz.path), "/x%llu.", (unsigned long long)fuzz.number);
    (void)snprintf(path, sizeof(path), "/%c%s", letters[plan->kind][plan_random(plan, 2)],
                   fuzz.path);
    ask(path, plan->to_head);
    enum answer_state state = await_answer(plan->to_head, &answer);
    check_alive();
    judge(plan, state, &answer);
    if (fuzz.judges && state == ANSWER_WHOLE && fuzz.protocol == ANSWER_HTTP11 &&
        plan_random(plan, 4) == 0 && !answer.ends_with_connection &&
        fuzz.client_end == CONNECTION_OPEN)
        ask_once_more(&answer);
    answer_release(&answer);
    (void)close(fuzz.client);
    while (fuzz.answering != NULL) /* the client has gone, but the answer must end */
        hang_up(fuzz.answering, false);
}

static uint64_t number_of(const char *text)
{
    return strtoull(text, NULL, 10);
}

int main(int argc, char **argv)
{
    uint64_t seconds = 10, count = UINT64_MAX, from = 0;

    fuzz.judges = true;
    fuzz.seed = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 20;
    for (int i = 2; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seconds") == 0)
            seconds = number_of(argv[i + 1]);
        else if (strcmp(argv[i], "--seed") == 0)
            fuzz.seed = number_of(argv[i + 1]);
        else if (strcmp(argv[i], "--from") == 0)
            from = number_of(argv[i + 1]);
        else if (strcmp(argv[i], "--judge") == 0)
            fuzz.judges = number_of(argv[i + 1]) != 0;
        else if (strcmp(argv[i], "--count") == 0)
            count = number_of(argv[i + 1]);
    }
    if (argc < 2 || argc % 2 != 0) {
        (void)fputs("usage: fuzz_upstream LASTCALL [--seconds N] [--seed S] [--from NUMBER] "
                    "[--count N] [--judge 0]\n",
                    stderr);
        return 64;
    }
    (void)printf("seed %llu\n", (unsigned long long)fuzz.seed);
    (void)fflush(stdout);
    for (size_t i = 0; i < UPSTREAMS_MAX; i++)
        fuzz.upstreams[i].fd = -1;
    server_start(&fuzz.server, argv[1]);
    uint64_t until_ms = now_ms() + seconds * 1000;
    for (fuzz.number = from; count > 0 && now_ms() < until_ms; fuzz.number++, count--)
        exchange();
    (void)kill(fuzz.server.pid, SIGTERM);
    int status;
    if (waitpid(fuzz.server.pid, &status, 0) != fuzz.server.pid || status != 0)
        fail("the process did not end well");
    (void)unlink(fuzz.server.conf);
    (void)printf("%llu answers, all as they have to be\n",
                 (unsigned long long)(fuzz.number - from));
    return 0;
}

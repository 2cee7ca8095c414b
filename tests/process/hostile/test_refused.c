/* The real process and HTTP/1 requests that servers could read differently: each is answered whole
 * and closed, is in the access log and in the metrics, and nothing of it reaches the upstream.
 * Requests that only look odd are served. (test_strict_head.c has the rules one by one.) */

#include "admin_client.h"
#include "with_config.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "target.h"
#include "tls_client.h"

#define FRONT                                                                                      \
    LISTEN "admin: {listen: 'unix:@/admin'}\naccess-log: {path: @/access, format: '%r %s %V'}\n"
#define JOURNAL "journal: {dir: '@/journal', hold: ON}\n"
#define LINE(text) text "\r\n"
#define BARE(text) text "\n"
#define TO_A LINE("Host: a.test")
#define POST(fields) LINE("POST /x HTTP/1.1") TO_A fields "\r\n"
#define CHUNKED LINE("Transfer-Encoding: chunked")
#define SECOND LINE("GET /second HTTP/1.1") TO_A "\r\n"

struct shape {
    const char *text;
    const char *reason; /* label of the metric */
};

static const struct shape shapes[] = {
    {POST(LINE("Content-Length: 6") CHUNKED) "0\r\n\r\n" SECOND, "transfer-encoding"},
    {POST(CHUNKED LINE("Content-Length: 4")) "0\r\n\r\n" SECOND, "transfer-encoding"},
    {POST(CHUNKED CHUNKED) "0\r\n\r\n" SECOND, "transfer-encoding"},
    {POST(LINE("Transfer-Encoding: xchunked")) SECOND, "transfer-encoding"},
    {LINE("POST /x HTTP/1.0") CHUNKED "\r\n0\r\n\r\n" SECOND, "transfer-encoding"},
    {POST(LINE("Content-Length: 5") LINE("Content-Length: 0")) "hello" SECOND, "content-length"},
    {POST(LINE("Content-Length: 0, 5")) "hello" SECOND, "content-length"},
    {POST(LINE("Content-Length: 0x5")) "hello" SECOND, "content-length"},
    {LINE("GET /x HTTP/1.1") TO_A LINE("X: a") LINE(" Content-Length: 5") "\r\n" SECOND, "folded"},
    {LINE("GET /x HTTP/1.1") "\r\n" SECOND, "host"},
    {LINE("GET /x HTTP/1.1") TO_A LINE("Host: b.test") "\r\n" SECOND, "host"},
    {LINE("GET /x HTTP/1.1") LINE("Host: a b/\\@?#") "\r\n" SECOND, "host"},
    {LINE("GET http://b.test/x HTTP/1.1") TO_A "\r\n" SECOND, "host"},
    {BARE("GET /x HTTP/1.1") BARE("Host: a.test") "\r\n" SECOND, "line-end"},
    {LINE("GET /x HTTP/1.1") BARE("Host: a.test") "\n" SECOND, "line-end"},
    {BARE("POST /x HTTP/1.1") BARE("Host: a.test") BARE("Content-Length: 5") "\nhello" SECOND,
     "line-end"},
    {BARE("POST /x HTTP/1.1") BARE("Host: a.test") BARE("Transfer-Encoding: chunked") "\n0\r\n\r\n",
     "line-end"},
    {BARE("GET /x HTTP/1.1") BARE("Host: a.test") BARE("Upgrade: h2c") "\n" SECOND, "line-end"},
    {LINE("GET /x HTTP/1.1 HTTP/1.1") TO_A "\r\n" SECOND, "syntax"},
    {LINE("GET /x") "\r\n" SECOND, "syntax"},
    {LINE("GET /x HTTP/2.0") TO_A "\r\n" SECOND, "syntax"},
    {LINE("GET /x HTTP/1.1") TO_A LINE("X : y") "\r\n" SECOND, "syntax"},
    {LINE("GET /x HTTP/1.1") TO_A LINE("X: a\rY: b") "\r\n" SECOND, "syntax"},
    {"\x16\x03\x01 not for here, this is no TLS", "syntax"},
    {LINE("GET /x%00.html HTTP/1.1") TO_A "\r\n" SECOND, "target"},
    {LINE("GET x HTTP/1.1") TO_A "\r\n" SECOND, "target"},
    {LINE("G{}T /x HTTP/1.1") TO_A "\r\n" SECOND, "method"},
    {LINE("CONNECT a.test:80 HTTP/1.1") TO_A "\r\n" SECOND, "connect"},
    {POST(CHUNKED) "5xyz\r\nhello\r\n0\r\n\r\n" SECOND, "chunk"},
    {POST(CHUNKED) "5\r\nhelloXX0\r\n\r\n" SECOND, "chunk"},
    {POST(CHUNKED) "5\nhello\n0\n\n" SECOND, "chunk"},
    {POST(CHUNKED) "2;\nxx\r\n45\r\n0\r\n\r\n" SECOND, "chunk"},
    {POST(CHUNKED) "ffffffffffffffff\r\nhello", "chunk"},
    {POST(CHUNKED) "5\r\nhello\r\n0\r\nX : y\r\n\r\n" SECOND, "trailer"},
};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static double refused_for(const struct process *admin, const char *reason)
{
    char name[96];
    char *text = admin_call(admin, "GET", "/metrics", "", NULL);

    (void)snprintf(name, sizeof(name), "\nlastcall_requests_refused_total{reason=\"%s\"} ", reason);
    const char *at = strstr(text, name);
    if (at == NULL)
        fail_msg("no %s in:\n%s", name, text);
    double value = strtod(at + strlen(name), NULL);
    free(text);
    return value;
}

static struct process start_front(struct process *p, const struct target *target, const char *more)
{
    char conf[2048];

    (void)snprintf(conf, sizeof(conf),
                   "%s%shosts: {default: {paths: {/: {proxy.reverse.url: '%s'}}}}\n", FRONT, more,
                   target->url);
    start(p, conf);
    return admin_of(p);
}

/* All that comes until a clean end. A reset fails the test.     Owner: the caller. */
static char *read_to_end(int fd)
{
    size_t n = 0;
    char *got = malloc(65536);

    for (;;) {
        ssize_t more = client_recv(fd, got + n, 65535 - n, 0);
        if (more < 0)
            fail_msg("%s after: %.*s", strerrorname_np(errno), (int)n, got);
        if (more == 0)
            break;
        n += (size_t)more;
    }
    got[n] = '\0';
    return got;
}

static void assert_whole_refusal(const char *answer, const char *request)
{
    const char *length = strcasestr(answer, "\r\nContent-Length: "),
               *body = strstr(answer, "\r\n\r\n");

    if ((strncmp(answer, "HTTP/1.1 400 Bad Request\r\n", 26) != 0 &&
         strncmp(answer, "HTTP/1.1 501 Not Implemented\r\n", 30) != 0) ||
        strstr(answer, "\r\nConnection: close\r\n") == NULL || length == NULL || body == NULL ||
        strtoul(length + 18, NULL, 10) != strlen(body + 4))
        fail_msg("%s\n\nwas answered:\n%s", request, answer);
}

/* More unread bytes follow it than the server's buffer takes: a close would reset the connection.
 */
static void assert_refused(const struct process *p, const struct shape *shape)
{
    static char waste[65537];
    int fd = client_connect(p);

    memset(waste, 'w', sizeof(waste) - 1);
    client_send(fd, shape->text);
    client_send(fd, waste);
    char *answer = read_to_end(fd);
    assert_whole_refusal(answer, shape->text);
    if (strstr(answer, "RFC ") == NULL)
        fail_msg("%s\n\nwas answered:\n%s", shape->text, answer);
    free(answer);
    (void)close(fd);
}

static void assert_all_are_refused(struct process *p, const struct process *admin,
                                   struct target *target)
{
    for (size_t i = 0; i < SHAPES; i++) {
        double before = refused_for(admin, shapes[i].reason);
        assert_refused(p, &shapes[i]);
        double after = refused_for(admin, shapes[i].reason);
        if (after - before != 1)
            fail_msg("%s went from %.0f to %.0f for:\n%s", shapes[i].reason, before, after,
                     shapes[i].text);
    }
    assert_int_equal(target_count(target), 0);
}

static void test_refused_requests_are_answered_counted_and_not_handed_on(void **state)
{
    struct process p;
    struct target target;
    (void)state;
    target_start(&target);
    struct process admin = start_front(&p, &target, "");
    assert_all_are_refused(&p, &admin, &target);
    assert_answer(&p, GET("/taken"), "HTTP/1.1 200 ");
    assert_int_equal(target_count(&target), 1);
    stop(&p);
    process_release(&p);
    target_release(&target);
}

static void test_they_are_with_bytes_left_in_the_kernel(void **state)
{
    struct process p;
    struct target target;
    (void)state;
    target_start(&target);
    assert_int_equal(mkdir(in_directory("journal"), 0777), 0);
    struct process admin =
        start_front(&p, &target, geteuid() == 0 ? "user: root\n" JOURNAL : JOURNAL);
    assert_all_are_refused(&p, &admin, &target);
    stop(&p);
    process_release(&p);
    target_release(&target);
}

static void test_refused_requests_are_in_the_access_log(void **state)
{
    struct process p;
    (void)state;
    (void)unlink(in_directory("access"));
    start(&p, FRONT HELLO);
    assert_refused(&p,
                   &(struct shape){LINE("GET /with?q HTTP/1.1") TO_A LINE("Host: b") "\r\n", ""});
    assert_refused(&p, &(struct shape){LINE("GET /1.0 HTTP/1.0") CHUNKED "\r\n", ""});
    assert_refused(&p, &(struct shape){LINE("CONNECT a.test:80 HTTP/1.1") TO_A "\r\n", ""});
    assert_refused(&p, &(struct shape){POST(CHUNKED) "zz", ""});
    assert_refused(&p, &(struct shape){"\x16\x03\x01\x01 HTTP/1.1\r\n", ""});
    stop(&p);
    process_release(&p);
    char *log = read_file(in_directory("access"));
    assert_contains(log, "GET /with?q HTTP/1.1 400 ");
    assert_contains(log, "GET /1.0 HTTP/1.0 400 ");
    assert_contains(log, "CONNECT a.test:80 HTTP/1.1 501 ");
    assert_contains(log, "POST /x HTTP/1.1 400 a.test");
    assert_contains(log, "- - HTTP/1.1 400 ");
    assert_int_equal(lines_of(log), 5);
    free(log);
}

/* ---- large heads ---- */

static void test_too_many_or_too_long_fields_are_answered_431(void **state)
{
    enum { LONGEST = 500000 };
    struct process p;
    (void)state;
    start(&p, FRONT HELLO);
    struct process admin = admin_of(&p);
    char *text = malloc(LONGEST + 1);
    size_t n = (size_t)sprintf(text, "GET / HTTP/1.1\r\n" TO_A);
    for (unsigned i = 0; i < 100; i++)
        n += (size_t)sprintf(text + n, "X-%u: y\r\n", i);
    (void)sprintf(text + n, "\r\n");
    int fd = client_connect(&p);
    client_send(fd, text);
    char *answer = read_to_end(fd);
    assert_contains(answer, "HTTP/1.1 431 Request Header Fields Too Large\r\n");
    free(answer);
    (void)close(fd);
    n = (size_t)sprintf(text, "GET / HTTP/1.1\r\n" TO_A "X: ");
    memset(text + n, 'y', LONGEST - n);
    text[LONGEST] = '\0';
    fd = client_connect(&p);
    client_send(fd, text);
    answer = read_to_end(fd);
    assert_contains(answer, "HTTP/1.1 431 Request Header Fields Too Large\r\n");
    assert_true(refused_for(&admin, "too-large") == 2);
    free(answer);
    free(text);
    (void)close(fd);
    stop(&p);
    process_release(&p);
}

/* Their number does not matter, since they are dropped. */
static void test_trailer_fields_are_bounded_by_their_bytes(void **state)
{
    enum { TOO_LONG = 80 << 10 };
    struct process p;
    struct target target;
    (void)state;
    target_start(&target);
    struct process admin = start_front(&p, &target, "");
    char *text = malloc(TOO_LONG);
    size_t n = (size_t)sprintf(text, "%s", POST(CHUNKED) "5\r\nhello\r\n0\r\n");
    for (unsigned i = 0; i < 1000; i++)
        n += (size_t)sprintf(text + n, "Foo%u: 0123456789abcdef:%u\r\n", i, i);
    (void)sprintf(text + n, "\r\n");
    assert_answer(&p, text, "HTTP/1.1 200 ");
    assert_lacks(target.requests->head, "0123456789abcdef");
    assert_int_equal(target.requests->body_bytes, 5);
    n = (size_t)sprintf(text, "%s", POST(CHUNKED) "5\r\nhello\r\n0\r\nFoo: ");
    memset(text + n, 'y', TOO_LONG - 1 - n);
    text[TOO_LONG - 1] = '\0';
    int fd = client_connect(&p);
    client_send(fd, text);
    char *answer = read_to_end(fd);
    assert_contains(answer, "HTTP/1.1 431 Request Header Fields Too Large\r\n");
    assert_true(refused_for(&admin, "too-large") == 1);
    assert_int_equal(target_count(&target), 1);
    free(answer);
    free(text);
    (void)close(fd);
    stop(&p);
    process_release(&p);
    target_release(&target);
}

/* ---- bodies that arrive in pieces ---- */

static void test_chunk_is_refused_wherever_its_bytes_are_cut(void **state)
{
    static const char head[] = POST(CHUNKED), body[] = "5;a=b\r\nhello\r\n3xyz\r\n";
    struct process p;
    struct target target;
    (void)state;
    target_start(&target);
    struct process admin = start_front(&p, &target, "");
    for (size_t cut = 0; cut < sizeof(body) - 1; cut++) {
        int fd = client_connect(&p);
        char first[256], rest[64];
        (void)snprintf(first, sizeof(first), "%s%.*s", head, (int)cut, body);
        (void)snprintf(rest, sizeof(rest), "%s", body + cut);
        client_send(fd, first);
        /* The server has read the first piece when it has answered a request that came after it. */
        assert_answer(&p, GET("/between"), "HTTP/1.1 200 ");
        client_send(fd, rest);
        char *answer = read_to_end(fd);
        assert_whole_refusal(answer, body);
        free(answer);
        (void)close(fd);
    }
    assert_true(refused_for(&admin, "chunk") == sizeof(body) - 1);
    stop(&p);
    process_release(&p);
    target_release(&target);
}

/* One upload waits for its second half while another one, and answers in chunks, come by. */
static void test_uploads_at_the_same_time_are_looked_at_apart(void **state)
{
    struct process p;
    struct target target;
    (void)state;
    target_start(&target);
    (void)start_front(&p, &target, "num-threads: 1\n");
    int good = client_connect(&p), bad = client_connect(&p);
    client_send(good, POST(CHUNKED) "5\r\nhel");
    client_send(bad, POST(CHUNKED) "5\r\nhel");
    assert_answer(&p, GET("/between"), "HTTP/1.1 200 ");
    client_send(good, "lo\r\n3\r\nab");
    client_send(bad, "lo3\r\nab");
    char *answer = read_to_end(bad);
    assert_whole_refusal(answer, "");
    free(answer);
    client_send(good, "c\r\n0\r\nX-Trailer: y\r\n\r\n");
    answer = client_read_answer(good);
    assert_contains(answer, "HTTP/1.1 200 ");
    assert_int_equal(target_count(&target), 2);
    assert_int_equal(target.requests->body_bytes, 8);
    assert_memory_equal(target.requests->body, "helloabc", 8);
    free(answer);
    (void)close(good);
    (void)close(bad);
    stop(&p);
    process_release(&p);
    target_release(&target);
}

static void test_body_that_was_asked_for_is_looked_at_too(void **state)
{
    struct process p;
    struct target target;
    (void)state;
    target_start(&target);
    (void)start_front(&p, &target, "");
    int fd = client_connect(&p);
    client_send(fd, POST(CHUNKED LINE("Expect: 100-continue")));
    free(client_read_until(fd, "100 Continue\r\n\r\n"));
    client_send(fd, "5xyz\r\nhello\r\n0\r\n\r\n");
    char *answer = read_to_end(fd);
    assert_whole_refusal(answer, "");
    free(answer);
    (void)close(fd);
    assert_int_equal(target_count(&target), 0);
    stop(&p);
    process_release(&p);
    target_release(&target);
}

/* A good request, and a bad one after it. */
static void test_refusal_comes_after_the_answer_before_it(void **state)
{
    struct process p;
    (void)state;
    start(&p, FRONT HELLO);
    int fd = client_connect(&p);
    client_send(fd, GET("/") POST(CHUNKED CHUNKED));
    char *answers = read_to_end(fd);
    char *second = strstr(answers + 1, "HTTP/1.1 ");
    assert_int_equal(strncmp(answers, "HTTP/1.1 200 ", 13), 0);
    assert_non_null(second);
    assert_whole_refusal(second, "");
    free(answers);
    (void)close(fd);
    stop(&p);
    process_release(&p);
}

/* ---- accepted requests ---- */

static void test_requests_that_only_look_odd_are_served(void **state)
{
    static const char *const odd[] = {
        "\r\n" GET("/"),
        LINE("GET / HTTP/1.0") "\r\n",
        LINE("GET / HTTP/1.9") TO_A "\r\n",
        LINE("GET / HTTP/1.1") LINE("Host:") "\r\n",
        LINE("GET / HTTP/1.1") LINE("hOsT: \t a.test:8080 \t") "\r\n",
        LINE("GET / HTTP/1.1") LINE("Host: [::1]:80") "\r\n",
        LINE("GET http://a.test/ HTTP/1.1") TO_A "\r\n",
        LINE("GET HTTP://A.TEST:80 HTTP/1.1") TO_A "\r\n",
        LINE("OPTIONS * HTTP/1.1") TO_A "\r\n",
        LINE("BREW /pot HTTP/1.1") TO_A "\r\n",
        LINE("GET /caf\xc3\xa9?a|b{c} HTTP/1.1") TO_A LINE("X:") LINE("Y: \xe9\t\x80") "\r\n",
        POST(LINE("Content-Length: 5") LINE("Content-Length: 5")) "hello",
        POST(LINE("Content-Length: 5, 05")) "hello",
        POST(LINE("Content-Length: 0005")) "hello",
        POST(LINE("Transfer-Encoding:\tChunked ")) "5\r\nhello\r\n0\r\n\r\n",
        POST(CHUNKED) "5;a=\"b;c\"\r\nhello\r\n0\r\nX: y\r\n\r\n",
        POST(CHUNKED) "5  \r\nhello\r\n000\r\n\r\n",
    };
    struct process p;
    (void)state;
    start(&p, FRONT HELLO);
    struct process admin = admin_of(&p);
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        int fd = client_connect(&p);
        client_send(fd, odd[i]);
        char *answer = client_read_answer(fd);
        if (answer == NULL || strncmp(answer, "HTTP/1.1 200 ", 13) != 0)
            fail_msg("%s\n\nwas answered:\n%s", odd[i], answer);
        free(answer);
        (void)close(fd);
    }
    char *metrics = admin_call(&admin, "GET", "/metrics", "", NULL);
    for (const char *at = metrics;
         (at = strstr(at, "\nlastcall_requests_refused_total{")) != NULL;) {
        at = strchr(at, '}');
        assert_int_equal(strncmp(at, "} 0\n", 4), 0);
    }
    free(metrics);
    stop(&p);
    process_release(&p);
}

/* The answer to `first` and then `rest`, which comes when the server has read `first`. */
static char *answer_to_pieces(const struct process *p, const char *first, const char *rest)
{
    int fd = client_connect(p);

    client_send(fd, first);
    assert_answer(p, GET("/between"), "HTTP/1.1 200 ");
    client_send(fd, rest);
    char *answer = read_to_end(fd);
    (void)close(fd);
    return answer;
}

static void test_bare_lf_reaches_the_upstream_as_cr_lf(void **state)
{
    static const char text[] = BARE("GET /bare HTTP/1.1") BARE("Host: a.test") BARE("X: y") "\n";
    struct process p;
    struct target target;
    (void)state;
    target_start(&target);
    struct process admin = start_front(&p, &target, "");
    for (size_t cut = 1; cut < sizeof(text) - 1; cut++) {
        char first[sizeof(text)] = "";
        memcpy(first, text, cut);
        char *answer = answer_to_pieces(&p, first, text + cut);
        assert_contains(answer, "HTTP/1.1 200 ");
        free(answer);
        const char *head = target.requests->head;
        assert_int_equal(strncmp(head, "GET /bare HTTP/1.1\r\n", 20), 0);
        assert_contains(head, "\r\nX: y\r\n");
        assert_int_equal(count_in(head, "\n"), count_in(head, "\r\n"));
    }
    assert_true(refused_for(&admin, "line-end") == 0);
    stop(&p);
    process_release(&p);
    target_release(&target);
}

/* For a server in front, what follows may be a part of the same request. */
static void test_nothing_is_taken_that_follows_bare_lf(void **state)
{
    static const char *const followers[] = {
        SECOND, BARE("GET /second HTTP/1.1") BARE("Host: a") "\n", "\r\n\r\n"};
    struct process p;
    struct target target;
    (void)state;
    target_start(&target);
    (void)start_front(&p, &target, "");
    for (unsigned i = 0; i < sizeof(followers) / sizeof(followers[0]); i++) {
        char text[256];
        (void)snprintf(text, sizeof(text), "%s%s",
                       BARE("GET /first HTTP/1.1") BARE("Host: a.test")
                           BARE("Connection: keep-alive") "\n",
                       followers[i]);
        int fd = client_connect(&p);
        client_send(fd, text);
        char *answer = read_to_end(fd);
        assert_int_equal(strncmp(answer, "HTTP/1.1 200 ", 13), 0);
        assert_contains(answer, "\r\nConnection: close\r\n");
        assert_int_equal(count_in(answer, "HTTP/1.1 "), 1);
        free(answer);
        (void)close(fd);
    }
    assert_int_equal(target_count(&target), 3);
    assert_contains(target.requests->head, "GET /first ");
    stop(&p);
    process_release(&p);
    target_release(&target);
}

static void test_admin_listener_takes_no_bare_lf(void **state)
{
    struct process p;
    (void)state;
    start(&p, FRONT HELLO);
    struct process admin = admin_of(&p);
    int fd = client_connect(&admin);
    client_send(fd, BARE("GET /metrics HTTP/1.1") BARE("Host: localhost") "\n");
    char *answer = read_to_end(fd);
    assert_contains(answer, "HTTP/1.1 400 ");
    free(answer);
    (void)close(fd);
    stop(&p);
    process_release(&p);
}

static void test_equal_lengths_reach_the_upstream_as_one(void **state)
{
    struct process p;
    struct target target;
    (void)state;
    target_start(&target);
    (void)start_front(&p, &target, "");
    assert_answer(&p, POST(LINE("Content-Length: 05, 5") LINE("Content-Length: 5")) "hello",
                  "HTTP/1.1 200 ");
    assert_int_equal(target_count(&target), 1);
    char *head = target.requests->head;
    for (char *at = head; *at != '\0'; at++)
        *at |= *at >= 'A' && *at <= 'Z' ? 0x20 : 0;
    assert_int_equal(count_in(head, "content-length:"), 1);
    assert_contains(head, "\r\ncontent-length: 5\r\n");
    stop(&p);
    process_release(&p);
    target_release(&target);
}

static void test_absolute_target_is_routed_by_its_path_and_host(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "hosts:\n"
                     "  a.test: {paths: {/: {redirect: 'http://to/a'}, /deep: {redirect: "
                     "'http://to/a-deep'}}}\n"
                     "  'b.test:8080': {paths: {/: {redirect: 'http://to/b'}}}\n");
    static const struct {
        const char *request, *place;
    } cases[] = {
        {LINE("GET http://a.test/deep/er?x HTTP/1.1") TO_A "\r\n", "http://to/a-deep/er?x\r\n"},
        {LINE("GET http://a.test HTTP/1.1") TO_A "\r\n", "http://to/a/\r\n"},
        {LINE("GET http://a.test?x HTTP/1.1") TO_A "\r\n", "http://to/a/?x\r\n"},
        {LINE("GET http://b.test:8080/y HTTP/1.1") LINE("Host: b.test:8080") "\r\n",
         "http://to/b/y\r\n"},
        {LINE("GET http://b.test:8080/y HTTP/1.1") LINE("Host:") "\r\n", "http://to/b/y\r\n"},
        {LINE("GET http://b.test:8080/y HTTP/1.0") "\r\n", "http://to/b/y\r\n"},
        {LINE("POST http://b.test:8080?z HTTP/1.0") LINE("Content-Length: 5") "\r\nhello",
         "http://to/b/?z\r\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_answer(&p, cases[i].request, cases[i].place);
    stop(&p);
    process_release(&p);
}

/* ---- all ---- */

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_refused_requests_are_answered_counted_and_not_handed_on),
        TEST(test_they_are_with_bytes_left_in_the_kernel),
        TEST(test_refused_requests_are_in_the_access_log),
        TEST(test_too_many_or_too_long_fields_are_answered_431),
        TEST(test_trailer_fields_are_bounded_by_their_bytes),
        TEST(test_chunk_is_refused_wherever_its_bytes_are_cut),
        TEST(test_uploads_at_the_same_time_are_looked_at_apart),
        TEST(test_body_that_was_asked_for_is_looked_at_too),
        TEST(test_refusal_comes_after_the_answer_before_it),
        TEST(test_requests_that_only_look_odd_are_served),
        TEST(test_bare_lf_reaches_the_upstream_as_cr_lf),
        TEST(test_nothing_is_taken_that_follows_bare_lf),
        TEST(test_admin_listener_takes_no_bare_lf),
        TEST(test_equal_lengths_reach_the_upstream_as_one),
        TEST(test_absolute_target_is_routed_by_its_path_and_host),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 600); /* a hang is a failure */
    return cmocka_run_group_tests_name("refused", tests, with_config_set_up, remove_directory);
}

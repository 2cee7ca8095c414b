/* Which heads and chunked bodies of HTTP/1 requests are taken, and why the others are refused. Each
 * head passes libh2o's parser first, as in the server. */

#include "strict_head.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "replaced.h"
#include "strict_chunks.h"

#define HOST "Host: a.test\r\n"

/* For heads that libh2o's parser refuses by itself. */
#define UNPARSED (REFUSAL_COUNT + 1)

static const char *const labels[] = {
#define LABEL(id, label, status, reason, text) [REFUSAL_##id] = label,
    REFUSALS(LABEL)
#undef LABEL
        [REFUSAL_NONE] = "taken",
    [UNPARSED] = "not parsed",
};

struct looked {
    struct strict_head head;
    struct phr_header headers[100];
    unsigned verdict;
};

static void look_at(struct looked *looked, const char *text, size_t len)
{
    struct strict_head *head = &looked->head;

    memset(looked, 0, sizeof(*looked));
    head->bytes = text;
    head->headers = looked->headers;
    head->header_count = sizeof(looked->headers) / sizeof(looked->headers[0]);
    int parsed = library.phr_parse_request(text, len, &head->method, &head->method_len, &head->path,
                                           &head->path_len, &head->minor_version, head->headers,
                                           &head->header_count, 0);
    assert_int_not_equal(parsed, -2);
    looked->verdict = UNPARSED;
    if (parsed < 0)
        return;
    head->len = (size_t)parsed;
    looked->verdict = strict_head_check(head);
}

static void assert_verdict(const char *text, size_t len, unsigned want)
{
    struct looked looked;

    look_at(&looked, text, len);
    if (looked.verdict != want)
        fail_msg("%s instead of %s:\n%s", labels[looked.verdict], labels[want], text);
}

#define VERDICT(text, want) assert_verdict(text, sizeof(text) - 1, want)
#define TAKEN(text) VERDICT(text, REFUSAL_NONE)
#define REFUSED(text, id) VERDICT(text, REFUSAL_##id)
#define GET(fields) "GET / HTTP/1.1\r\n" fields "\r\n"
#define POST(fields) "POST / HTTP/1.1\r\n" HOST fields "\r\n"
#define TO(target, host) "GET " target " HTTP/1.1\r\nHost: " host "\r\n\r\n"

static void assert_text(const char *text, size_t len, const char *want)
{
    assert_non_null(text);
    assert_int_equal(len, strlen(want));
    assert_memory_equal(text, want, len);
}

/* ---- line ends and fields ---- */

static void test_each_line_ends_with_cr_lf(void **state)
{
    (void)state;
    TAKEN(GET(HOST));
    TAKEN("\r\n" GET(HOST)); /* RFC 9112 2.2: an old client's line end after a body */
    REFUSED("\n" GET(HOST), LINE_END);
    REFUSED("GET / HTTP/1.1\nHost: a\r\n\r\n", LINE_END);
    REFUSED("GET / HTTP/1.1\r\nHost: a\n\r\n", LINE_END);
    REFUSED("GET / HTTP/1.1\r\nHost: a\r\n\n", LINE_END);
    VERDICT(GET(HOST "X: a\rb\r\n"), UNPARSED);
    VERDICT(GET(HOST "X: a\r\r\n"), UNPARSED);
}

/* A line of a head that has no CR. */
#define BARE(text) text "\n"
#define BARE_HEAD BARE("GET / HTTP/1.1") BARE("Host: a")

static void test_each_line_may_end_with_lf_alone(void **state)
{
    struct looked looked;
    (void)state;
    const char text[] = BARE_HEAD BARE("X: b ") BARE("Content-Length: 0") "\n";
    look_at(&looked, text, sizeof(text) - 1);
    assert_int_equal(looked.verdict, REFUSAL_NONE);
    assert_true(looked.head.has_bare_lf);
    assert_int_equal(looked.head.len, sizeof(text) - 1);
    assert_text(looked.head.host, looked.head.host_len, "a");
    assert_text(looked.headers[1].value, looked.headers[1].value_len, "b");
    const char usual[] = GET(HOST);
    look_at(&looked, usual, sizeof(usual) - 1);
    assert_false(looked.head.has_bare_lf);
    TAKEN("GET / HTTP/1.0\n\n");
    TAKEN("POST / HTTP/1.0\nContent-Length: 0, 00\n\n");
    TAKEN("GET http://a/ HTTP/1.1\nHost: a\n\n");
}

static void test_line_ends_are_not_mixed(void **state)
{
    (void)state;
    REFUSED(BARE("GET / HTTP/1.1") BARE("Host: a") "\r\n", LINE_END);
    REFUSED(BARE("GET / HTTP/1.1") "Host: a\r\n" BARE("X: b") "\n", LINE_END);
    REFUSED(BARE("GET / HTTP/1.1") BARE("Host: a") "X: b\r\n\n", LINE_END);
    REFUSED("GET / HTTP/1.1\r\n" BARE("Host: a") BARE("X: b") "\n", LINE_END);
    REFUSED("GET / HTTP/1.0\r\n\n", LINE_END);
    REFUSED("GET / HTTP/1.0\n\r\n", LINE_END);
    REFUSED("\r\n" BARE_HEAD "\n", LINE_END);
    REFUSED("\n" BARE_HEAD "\n", LINE_END);
    REFUSED(BARE_HEAD BARE("X: a\r") "\r\n", LINE_END); /* the same as CR LF */
    VERDICT(BARE_HEAD BARE("X: a\rb") "\n", UNPARSED);
    VERDICT(BARE_HEAD BARE("\rX: a") "\n", UNPARSED);
    VERDICT(BARE_HEAD "\r\r\n\n", UNPARSED);
}

/* Then a server that looks for CR LF would see the end of the body elsewhere. */
static void test_bare_lf_announces_no_body_and_no_upgrade(void **state)
{
    (void)state;
    REFUSED(BARE_HEAD BARE("Content-Length: 5") "\nhello", LINE_END);
    REFUSED(BARE_HEAD BARE("Content-Length: 5") BARE("Content-Length: 5") "\nhello", LINE_END);
    REFUSED(BARE_HEAD BARE("Content-Length: 0") BARE("Content-Length: 5") "\nhello", LENGTH);
    REFUSED(BARE_HEAD BARE("Transfer-Encoding: chunked") "\n0\r\n\r\n", LINE_END);
    REFUSED(BARE_HEAD BARE("Transfer-Encoding: x") "\n", CODING);
    REFUSED(BARE_HEAD BARE("upGRADE: websocket") BARE("Connection: upgrade") "\n", LINE_END);
    REFUSED(BARE_HEAD BARE("X: a") BARE(" Content-Length: 5") "\nhello", FOLDED);
    REFUSED(BARE("GET / HTTP/1.1") "\n", HOST);
}

/* The library looks for the end of a head in two ways; the second one if it had a part before. */
static void test_bare_lf_ends_a_head_at_one_place(void **state)
{
    static const char *const texts[] = {BARE_HEAD "\n", "GET / HTTP/1.0\n\n",
                                        BARE_HEAD "\nGET / HTTP/1.0\n\n"};
    const size_t lengths[] = {sizeof(BARE_HEAD "\n") - 1, sizeof("GET / HTTP/1.0\n\n") - 1,
                              sizeof(BARE_HEAD "\n") - 1};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        for (size_t len = 1; len <= strlen(texts[i]); len++)
            for (size_t before = 0; before < len && before < lengths[i]; before++) {
                struct strict_head head;
                struct phr_header headers[4];
                size_t count = 4;
                int parsed = library.phr_parse_request(
                    texts[i], len, &head.method, &head.method_len, &head.path, &head.path_len,
                    &head.minor_version, headers, &count, before);
                assert_int_equal(parsed, len < lengths[i] ? -2 : (int)lengths[i]);
            }
}

static void test_fields_have_the_form_of_fields(void **state)
{
    (void)state;
    REFUSED(GET(HOST "X: a\r\n b\r\n"), FOLDED);
    REFUSED(GET(HOST "X: a\r\n\tContent-Length: 3\r\n"), FOLDED);
    VERDICT(GET(" X: a\r\n" HOST), UNPARSED);
    VERDICT(GET(HOST "X : a\r\n"), UNPARSED);
    VERDICT(GET(HOST "X Y: a\r\n"), UNPARSED);
    VERDICT(GET(HOST ": a\r\n"), UNPARSED);
    VERDICT(GET(HOST "X\r\n"), UNPARSED);
    VERDICT(GET(HOST "X: a\0b\r\n"), UNPARSED);
    VERDICT(GET(HOST "X: a\x01\r\n"), UNPARSED);
    VERDICT(GET(HOST "X: a\x7f\r\n"), UNPARSED);
    TAKEN(GET(HOST "X:\r\nY: \xc3\xa9\t!\"#\r\n"));
}

static void test_blanks_around_a_value_are_none_of_it(void **state)
{
    struct looked looked;
    (void)state;
    const char text[] = GET("Host: \t a.test \t\r\nX: a b \r\n");
    look_at(&looked, text, sizeof(text) - 1);
    assert_int_equal(looked.verdict, REFUSAL_NONE);
    assert_text(looked.head.host, looked.head.host_len, "a.test");
    assert_text(looked.headers[1].value, looked.headers[1].value_len, "a b");
}

/* ---- the request line ---- */

static void test_method_is_a_token(void **state)
{
    (void)state;
    TAKEN("BREW!#$%&'*+-.^_`|~ / HTTP/1.1\r\n" HOST "\r\n");
    REFUSED("GE:T / HTTP/1.1\r\n" HOST "\r\n", METHOD);
    REFUSED("G\xc3\xa9T / HTTP/1.1\r\n" HOST "\r\n", METHOD);
    REFUSED("{} / HTTP/1.1\r\n" HOST "\r\n", METHOD);
    REFUSED(" / HTTP/1.1\r\n" HOST "\r\n", METHOD);
    REFUSED("CONNECT a.test:80 HTTP/1.1\r\n" HOST "\r\n", CONNECT);
    VERDICT("GET\t/ HTTP/1.1\r\n" HOST "\r\n", UNPARSED);
}

static void test_version_is_one_of_http_1(void **state)
{
    (void)state;
    TAKEN("GET / HTTP/1.0\r\n\r\n");
    TAKEN("GET / HTTP/1.9\r\n" HOST "\r\n");
    VERDICT("GET / HTTP/2.0\r\n" HOST "\r\n", UNPARSED);
    VERDICT("GET / HTTP/0.9\r\n" HOST "\r\n", UNPARSED);
    VERDICT("GET / HTTP/1.10\r\n" HOST "\r\n", UNPARSED);
    VERDICT("GET / http/1.1\r\n" HOST "\r\n", UNPARSED);
    VERDICT("GET /x HTTP/1.1 HTTP/1.1\r\n" HOST "\r\n", UNPARSED);
    VERDICT("GET /\r\n" HOST "\r\n", UNPARSED);
}

static void test_target_has_one_of_three_forms(void **state)
{
    (void)state;
    TAKEN(TO("/a/../b//c?d=e?f", "a"));
    TAKEN(TO("/caf\xc3\xa9|{}\"<>\\^`", "a")); /* as browsers have sent them */
    TAKEN("OPTIONS * HTTP/1.1\r\n" HOST "\r\n");
    REFUSED(TO("*", "a"), TARGET);
    REFUSED("OPTIONS *x HTTP/1.1\r\n" HOST "\r\n", TARGET);
    REFUSED(TO("a", "a"), TARGET);
    REFUSED(TO("?a", "a"), TARGET);
    REFUSED(TO("/a#b", "a"), TARGET);
    REFUSED(TO("/a%00.html", "a"), TARGET);
    TAKEN(TO("/a%0%20%2500", "a"));
    VERDICT(TO("/a\0b", "a"), UNPARSED);
    VERDICT(TO("/a\x01", "a"), UNPARSED);
    VERDICT(TO("/a\x7f", "a"), UNPARSED);
}

static void assert_absolute(const char *target, const char *host, const char *authority,
                            const char *path)
{
    struct looked looked;
    char text[512];

    int len = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, host);
    look_at(&looked, text, (size_t)len);
    if (looked.verdict != REFUSAL_NONE)
        fail_msg("%s: %s", labels[looked.verdict], text);
    assert_text(looked.head.authority, looked.head.authority_len, authority);
    assert_text(looked.head.path, looked.head.path_len, path);
}

static void test_absolute_target_is_taken_apart(void **state)
{
    (void)state;
    assert_absolute("http://a.test/x?y", "a.test", "a.test", "/x?y");
    assert_absolute("HTTP://A.test:8080/", "a.TEST:8080", "A.test:8080", "/");
    assert_absolute("http://a.test", "a.test", "a.test", "");
    assert_absolute("http://a.test?q", "a.test", "a.test", "?q");
    assert_absolute("http://a.test:80/", "a.test", "a.test:80", "/");
    assert_absolute("http://a.test/", "a.test:80", "a.test", "/");
    assert_absolute("https://a.test:443/", "a.test:", "a.test:443", "/");
    assert_absolute("http://[::1]:99/", "[::1]:99", "[::1]:99", "/");
    assert_absolute("http://a.test/x", "", "a.test", "/x"); /* an empty Host names none */
    TAKEN("GET http://a.test/ HTTP/1.0\r\n\r\n");
}

static void test_absolute_target_agrees_with_the_host(void **state)
{
    (void)state;
    REFUSED(TO("http://a.test/", "b.test"), HOST);
    REFUSED(TO("http://a.test/", "a.test:81"), HOST);
    REFUSED(TO("http://a.test:443/", "a.test"), HOST);
    REFUSED("GET http://a.test/ HTTP/1.1\r\n\r\n", HOST);
    REFUSED(TO("http:///x", "a.test"), TARGET);
    REFUSED(TO("http://", "a.test"), TARGET);
    REFUSED(TO("http://user@a.test/", "a.test"), TARGET);
    REFUSED(TO("ftp://a.test/", "a.test"), TARGET);
    REFUSED(TO("a.test:80", "a.test"), TARGET);
}

/* ---- the Host ---- */

static void test_host_is_there_once_and_names_a_host(void **state)
{
    (void)state;
    REFUSED(GET("X: y\r\n"), HOST);
    REFUSED(GET("Host: a\r\nHost: b\r\n"), HOST);
    REFUSED(GET("Host: a\r\nhOST: a\r\n"), HOST);
    REFUSED("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", HOST);
    TAKEN(GET("Host:\r\n")); /* RFC 9110 7.2: the target has no authority */
    static const char *const good[] = {
        "a",  "A-1_b.test", "a.test.", "127.0.0.1", "[::1]",        "[2001:db8::192.0.2.1]:80",
        "a:", "a:80",       "a:65535", "a%20b",     "!$&'()*+,;=~", "xn--caf-dma.test"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (!strict_head_is_host(good[i], strlen(good[i])))
            fail_msg("refused: %s", good[i]);
    static const char *const bad[] = {"",      "a b",     "a/b",         "a@b",     "a\\b",
                                      "a?b",   "a#b",     "a:b",         "a:65536", "a:99999999999",
                                      ":80",   "a:80:80", "[::1",        "[]",      "[::1]x",
                                      "[g]",   "::1",     "a%",          "a%2",     "a%2g",
                                      "\"a\"", "<a>",     "caf\xc3\xa9", "a|b",     "a, b"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (strict_head_is_host(bad[i], strlen(bad[i])))
            fail_msg("taken: %s", bad[i]);
    char longest[263];
    memset(longest, 'a', sizeof(longest));
    assert_true(strict_head_is_host(longest, 261));
    assert_false(strict_head_is_host(longest, 262));
}

/* ---- the length of the body ---- */

static void assert_length(const char *text, size_t len, const char *want)
{
    struct looked looked;
    size_t found = 0;

    look_at(&looked, text, len);
    if (looked.verdict != REFUSAL_NONE)
        fail_msg("%s: %s", labels[looked.verdict], text);
    for (size_t i = 0; i < looked.head.header_count; i++)
        if (looked.headers[i].name_len == 14) {
            assert_text(looked.headers[i].value, looked.headers[i].value_len, want);
            found++;
        }
    assert_int_equal(found, 1);
}

#define LENGTH(fields, want) assert_length(POST(fields), sizeof(POST(fields)) - 1, want)

static void test_lengths_that_agree_are_one(void **state)
{
    (void)state;
    LENGTH("Content-Length: 5\r\n", "5");
    LENGTH("Content-Length: 0\r\n", "0");
    LENGTH("Content-Length: 000\r\n", "0");
    LENGTH("Content-Length: 0000000000000000000000000000000005\r\n", "5");
    LENGTH("Content-Length: 9223372036854775807\r\n", "9223372036854775807");
    LENGTH("Content-Length: 5\r\nX: y\r\nContent-Length: 5\r\nZ: z\r\n", "5");
    LENGTH("Content-Length: 5, 5\r\n", "5");
    LENGTH("Content-Length: 5\t,5\r\nContent-length: 05\r\n", "5");
}

static void test_lengths_that_are_invalid_or_disagree_are_refused(void **state)
{
    (void)state;
    REFUSED(POST("Content-Length: 5\r\nContent-Length: 0\r\n"), LENGTH);
    REFUSED(POST("Content-Length: 0\r\nContent-Length: 38\r\n"), LENGTH);
    REFUSED(POST("Content-Length: 5, 6\r\n"), LENGTH);
    REFUSED(POST("Content-Length: 5,\r\n"), LENGTH);
    REFUSED(POST("Content-Length: ,5\r\n"), LENGTH);
    REFUSED(POST("Content-Length: 5 5\r\n"), LENGTH);
    REFUSED(POST("Content-Length:\r\n"), LENGTH);
    REFUSED(POST("Content-Length: +5\r\n"), LENGTH);
    REFUSED(POST("Content-Length: -1\r\n"), LENGTH);
    REFUSED(POST("Content-Length: 0x5\r\n"), LENGTH);
    REFUSED(POST("Content-Length: 5.0\r\n"), LENGTH);
    REFUSED(POST("Content-Length: five\r\n"), LENGTH);
    REFUSED(POST("Content-Length: 9223372036854775808\r\n"), LENGTH);
    REFUSED(POST("Content-Length: 18446744073709551621\r\n"), LENGTH);
}

static void test_coding_is_chunked_and_alone(void **state)
{
    struct looked looked;
    (void)state;
    const char chunked[] = POST("Transfer-Encoding: \tChunked \r\n");
    look_at(&looked, chunked, sizeof(chunked) - 1);
    assert_int_equal(looked.verdict, REFUSAL_NONE);
    assert_true(looked.head.is_chunked);
    REFUSED(POST("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"), CODING);
    REFUSED(POST("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n"), CODING);
    REFUSED(POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), CODING);
    REFUSED(POST("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"), CODING);
    REFUSED(POST("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), CODING);
    REFUSED(POST("Transfer-Encoding: chunked, chunked\r\n"), CODING);
    REFUSED(POST("Transfer-Encoding: gzip, chunked\r\n"), CODING);
    REFUSED(POST("Transfer-Encoding: xchunked\r\n"), CODING);
    REFUSED(POST("Transfer-Encoding: chunked;x\r\n"), CODING);
    REFUSED(POST("Transfer-Encoding: \"chunked\"\r\n"), CODING);
    REFUSED(POST("Transfer-Encoding: identity\r\n"), CODING);
    REFUSED(POST("Transfer-Encoding:\r\n"), CODING);
    REFUSED("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", CODING);
    VERDICT(POST("Transfer-Encoding: \x0b"
                 "chunked\r\n"),
            UNPARSED);
}

/* ---- chunks ---- */

#define TRAILER_MOST 1000

/* In one piece, in two cut anywhere, and byte by byte. */
static void assert_chunks(const char *text, size_t len, unsigned want)
{
    for (size_t cut = 0; cut <= len; cut++) {
        struct strict_chunks chunks = {.trailer_left = TRAILER_MOST};
        unsigned verdict = strict_chunks_check(&chunks, text, cut);
        if (verdict == REFUSAL_NONE)
            verdict = strict_chunks_check(&chunks, text + cut, len - cut);
        if (verdict != want)
            fail_msg("%s instead of %s, cut at %zu:\n%s", labels[verdict], labels[want], cut, text);
    }
    struct strict_chunks chunks = {.trailer_left = TRAILER_MOST};
    unsigned verdict = REFUSAL_NONE;
    for (size_t i = 0; i < len && verdict == REFUSAL_NONE; i++)
        verdict = strict_chunks_check(&chunks, text + i, 1);
    assert_int_equal(verdict, want);
}

#define CHUNKS(text, want) assert_chunks(text, sizeof(text) - 1, want)

static void test_chunks_that_every_server_reads_alike_are_taken(void **state)
{
    (void)state;
    CHUNKS("5\r\nhello\r\n0\r\n\r\n", REFUSAL_NONE);
    CHUNKS("0\r\n\r\n", REFUSAL_NONE);
    CHUNKS("0000000000000005\r\nhello\r\n000\r\n\r\n", REFUSAL_NONE);
    CHUNKS("aB\r\n", REFUSAL_NONE);
    CHUNKS("5 \t\r\nhello\r\n0 \r\n\r\n", REFUSAL_NONE); /* padded, as old clients do */
    CHUNKS("5;a=b; c=\"d;e\"\r\nhello\r\n0;x\r\n\r\n", REFUSAL_NONE);
    CHUNKS("5 ; a\r\nhello\r\n0\r\nA: b\r\nC:\r\n\r\n", REFUSAL_NONE);
    CHUNKS("1\r\n\n\r\n1\r\n\r\r\n0\r\n\r\n", REFUSAL_NONE); /* data may be anything */
    CHUNKS("0\r\n\r\nGET / HTTP/1.1\n\n", REFUSAL_NONE); /* what follows is not part of the body */
}

static void test_chunks_that_servers_read_differently_are_refused(void **state)
{
    (void)state;
    CHUNKS("5xyz\r\nhello\r\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS("0x5\r\nhello\r\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS(" 5\r\nhello\r\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS("5 5\r\nhello\r\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS("+5\r\nhello\r\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS("\r\nhello\r\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS(";a\r\nhello\r\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS("5\nhello\r\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS("5\r\rhello\r\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS("5\r\nhello\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS("5\r\nhello\r\r\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS("5\r\nhelloXX0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS("2;\nxx\r\n45\r\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS("2;a\rb\r\nxx\r\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS("2;a\0\r\nxx\r\n0\r\n\r\n", REFUSAL_CHUNK);
    CHUNKS("8000000000000000\r\n", REFUSAL_CHUNK);
    CHUNKS("ffffffffffffffff\r\n", REFUSAL_CHUNK);
    CHUNKS("10000000000000005\r\n", REFUSAL_CHUNK);
    CHUNKS("00000000000000005\r\n", REFUSAL_CHUNK); /* 17 digits: libh2o reads no more than 16 */
    CHUNKS("0\n\n", REFUSAL_CHUNK);
}

static void test_trailer_fields_have_the_form_of_fields(void **state)
{
    (void)state;
    CHUNKS("0\r\nA: b\n\r\n", REFUSAL_TRAILER);
    CHUNKS("0\r\nA : b\r\n\r\n", REFUSAL_TRAILER);
    CHUNKS("0\r\n A: b\r\n\r\n", REFUSAL_TRAILER);
    CHUNKS("0\r\nA: b\r\n c\r\n\r\n", REFUSAL_TRAILER);
    CHUNKS("0\r\nA\r\n\r\n", REFUSAL_TRAILER);
    CHUNKS("0\r\n: b\r\n\r\n", REFUSAL_TRAILER);
    CHUNKS("0\r\nA: b\0\r\n\r\n", REFUSAL_TRAILER);
    CHUNKS("0\r\nA: b\r\rC: d\r\n\r\n", REFUSAL_TRAILER);
    CHUNKS("0\r\n\n", REFUSAL_TRAILER);
    CHUNKS("0\r\n\r\r\n", REFUSAL_TRAILER);
}

static void test_lines_of_chunks_and_trailers_have_a_longest_length(void **state)
{
    char text[STRICT_CHUNKS_LINE_MAX];
    struct strict_chunks size = {0}, trailer = {.trailer_left = TRAILER_MOST};
    (void)state;
    memset(text, 'a', sizeof(text));
    memcpy(text, "1;", 2);
    assert_int_equal(strict_chunks_check(&size, text, STRICT_CHUNKS_LINE_MAX), REFUSAL_NONE);
    assert_int_equal(strict_chunks_check(&size, text + 2, 1), REFUSAL_CHUNK);
    memcpy(text, "0\r\nA:", 5);
    assert_int_equal(strict_chunks_check(&trailer, text, 3 + TRAILER_MOST), REFUSAL_NONE);
    assert_int_equal(strict_chunks_check(&trailer, "a", 1), REFUSAL_TOO_LARGE);
}

static void test_trailer_fields_are_as_many_as_their_bytes_allow(void **state)
{
    struct strict_chunks chunks = {.trailer_left = 5 * 1000 + 2};
    (void)state;
    assert_int_equal(strict_chunks_check(&chunks, "0\r\n", 3), REFUSAL_NONE);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(strict_chunks_check(&chunks, "a:b\r\n", 5), REFUSAL_NONE);
    struct strict_chunks one_more = chunks;
    assert_int_equal(strict_chunks_check(&one_more, "a:b", 3), REFUSAL_TOO_LARGE);
    assert_int_equal(strict_chunks_check(&chunks, "\r\n", 2), REFUSAL_NONE);
}

/* ---- all ---- */

static int set_up(void **state)
{
    char error[REPLACED_ERROR_SIZE];
    (void)state;
    return replaced_init(error, sizeof(error)) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_line_ends_with_cr_lf),
        cmocka_unit_test(test_each_line_may_end_with_lf_alone),
        cmocka_unit_test(test_line_ends_are_not_mixed),
        cmocka_unit_test(test_bare_lf_announces_no_body_and_no_upgrade),
        cmocka_unit_test(test_bare_lf_ends_a_head_at_one_place),
        cmocka_unit_test(test_fields_have_the_form_of_fields),
        cmocka_unit_test(test_blanks_around_a_value_are_none_of_it),
        cmocka_unit_test(test_method_is_a_token),
        cmocka_unit_test(test_version_is_one_of_http_1),
        cmocka_unit_test(test_target_has_one_of_three_forms),
        cmocka_unit_test(test_absolute_target_is_taken_apart),
        cmocka_unit_test(test_absolute_target_agrees_with_the_host),
        cmocka_unit_test(test_host_is_there_once_and_names_a_host),
        cmocka_unit_test(test_lengths_that_agree_are_one),
        cmocka_unit_test(test_lengths_that_are_invalid_or_disagree_are_refused),
        cmocka_unit_test(test_coding_is_chunked_and_alone),
        cmocka_unit_test(test_chunks_that_every_server_reads_alike_are_taken),
        cmocka_unit_test(test_chunks_that_servers_read_differently_are_refused),
        cmocka_unit_test(test_trailer_fields_have_the_form_of_fields),
        cmocka_unit_test(test_lines_of_chunks_and_trailers_have_a_longest_length),
        cmocka_unit_test(test_trailer_fields_are_as_many_as_their_bytes_allow),
    };
    return cmocka_run_group_tests_name("strict_head", tests, set_up, NULL);
}

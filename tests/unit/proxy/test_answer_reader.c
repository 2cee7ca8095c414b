/* The reader of upstreams' answers: what is an answer, where it ends, and what is none. Every
 * answer is read as a whole and byte by byte, and both have to come to the same. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "answer_head.h"
#include "answer_reader.h"
#include "library.h"

#define OK "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))
#define ROOM ((size_t)256 * 1024)

/* What became of the bytes. */
enum verdict { WHOLE, PART, REFUSED };

struct reading {
    enum verdict verdict;
    bool keeps; /* the connection is good for another request */
    int status;
    char body[ROOM];
    size_t size;
    const char *fault;
};

enum kind { TO_GET, TO_HEAD, TO_UPGRADE };

static bool read_heads(struct answer_reader *reader, const char *bytes, size_t size, size_t *at,
                       struct reading *reading)
{
    static struct answer_fields fields;

    for (;;) {
        ssize_t head = answer_reader_head(reader, bytes + *at, size - *at, &fields);
        if (head < 0)
            reading->verdict = REFUSED;
        if (head <= 0)
            return false;
        *at += (size_t)head;
        reading->status = fields.status;
        if (!answer_is_interim(fields.status))
            return true;
    }
}

/* `piece` bytes at a time; then the connection ends, `in_order` or by a reset. */
static void read_answer(struct reading *reading, enum kind kind, const char *bytes, size_t size,
                        size_t piece, bool in_order)
{
    struct answer_reader reader;
    size_t come = 0, at = 0;
    bool has_head = false;

    memset(reading, 0, offsetof(struct reading, body));
    reading->size = 0;
    reading->verdict = PART;
    answer_reader_init(&reader, kind == TO_HEAD, kind == TO_UPGRADE);
    while (come < size && reading->verdict == PART && !reader.is_whole) {
        size_t n = size - come < piece ? size - come : piece;
        come += n;
        if (!has_head && !read_heads(&reader, bytes, come, &at, reading))
            continue;
        has_head = true;
        memcpy(reading->body + reading->size, bytes + at, come - at);
        ssize_t decoded = answer_reader_body(&reader, reading->body + reading->size, come - at);
        at = come;
        if (decoded < 0)
            reading->verdict = REFUSED;
        else
            reading->size += (size_t)decoded;
    }
    if (reading->verdict == PART && has_head && answer_reader_end(&reader, in_order))
        reading->verdict = WHOLE;
    reading->keeps = reading->verdict == WHOLE && reader.may_keep && !reader.has_excess;
    reading->fault = reader.fault;
}

struct answer_case {
    const char *bytes;
    enum kind kind;
    enum verdict verdict;
    const char *body; /* NULL: none */
    bool keeps;
};

static void check(const struct answer_case *c, size_t piece)
{
    static struct reading reading;
    const char *body = c->body != NULL ? c->body : "";

    read_answer(&reading, c->kind, c->bytes, strlen(c->bytes), piece, true);
    if (reading.verdict != c->verdict)
        fail_msg("%s: verdict %d, not %d (%s)", c->bytes, (int)reading.verdict, (int)c->verdict,
                 reading.fault != NULL ? reading.fault : "no fault");
    if (c->verdict == REFUSED)
        assert_non_null(reading.fault);
    if (c->verdict != WHOLE)
        return;
    if (reading.size != strlen(body) || memcmp(reading.body, body, reading.size) != 0)
        fail_msg("%s: body %.*s", c->bytes, (int)reading.size, reading.body);
    /* Byte by byte, the bytes after the end are still in the kernel. */
    if (piece > 1 && reading.keeps != c->keeps)
        fail_msg("%s: the connection is %skept", c->bytes, reading.keeps ? "" : "not ");
}

static void check_all(const struct answer_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        check(&cases[i], ROOM);
        check(&cases[i], 1);
    }
}

static void test_where_answers_end(void **state)
{
    static const struct answer_case cases[] = {
        {OK "Content-Length: 3\r\n\r\nabc", TO_GET, WHOLE, "abc", true},
        {OK "Content-Length: 0\r\n\r\n", TO_GET, WHOLE, NULL, true},
        {OK "Content-Length: 3\r\n\r\nabcd", TO_GET, WHOLE, "abc", false},
        {OK "Content-Length: 3\r\n\r\nab", TO_GET, PART, NULL, false},
        {CHUNKED "3\r\nabc\r\n0\r\n\r\n", TO_GET, WHOLE, "abc", true},
        {CHUNKED "3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n", TO_GET, WHOLE,
         "abc0123456789", true},
        {CHUNKED "0\r\n\r\n", TO_GET, WHOLE, NULL, true},
        {CHUNKED "0\r\n\r\nmore", TO_GET, WHOLE, NULL, false},
        {CHUNKED "3\r\nabc\r\n", TO_GET, PART, NULL, false},
        {CHUNKED "3\r\nabc\r\n0\r\n", TO_GET, PART, NULL, false},
        {OK "transfer-encoding: CHUNKED\r\n\r\n1\r\nx\r\n0\r\n\r\n", TO_GET, WHOLE, "x", true},
        {OK "\r\nall", TO_GET, WHOLE, "all", false},
        {OK "Transfer-Encoding: identity\r\n\r\nall", TO_GET, WHOLE, "all", false},
        {"HTTP/1.0 200 OK\r\n\r\nall", TO_GET, WHOLE, "all", false},
        {OK "Content-Length: 3\r\n", TO_GET, PART, NULL, false},
        {"", TO_GET, PART, NULL, false},
    };
    (void)state;
    check_all(cases, COUNT(cases));
}

static void test_answers_that_have_no_body(void **state)
{
    static const struct answer_case cases[] = {
        {OK "Content-Length: 3\r\n\r\n", TO_HEAD, WHOLE, NULL, true},
        {OK "Content-Length: 3\r\n\r\nabc", TO_HEAD, WHOLE, NULL, false},
        {CHUNKED, TO_HEAD, WHOLE, NULL, true},
        {OK "\r\n", TO_HEAD, WHOLE, NULL, true},
        {"HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", TO_GET, WHOLE, NULL, true},
        {"HTTP/1.1 304 No\r\nContent-Length: 3\r\n\r\nabc", TO_GET, WHOLE, NULL, false},
        {"HTTP/1.1 205 No\r\n\r\nabc", TO_GET, WHOLE, "abc", false},
    };
    (void)state;
    check_all(cases, COUNT(cases));
}

static void test_which_connections_are_kept(void **state)
{
    static const struct answer_case cases[] = {
        {OK "Connection: close\r\nContent-Length: 0\r\n\r\n", TO_GET, WHOLE, NULL, false},
        {OK "Connection: x, Close\r\nContent-Length: 0\r\n\r\n", TO_GET, WHOLE, NULL, false},
        {OK "Connection: keep-alive\r\nContent-Length: 0\r\n\r\n", TO_GET, WHOLE, NULL, true},
        {OK "Connection: keep-alive\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", TO_GET,
         WHOLE, NULL, false},
        {OK "Connection: x-hop\r\nContent-Length: 0\r\n\r\n", TO_GET, WHOLE, NULL, true},
        {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", TO_GET, WHOLE, NULL, false},
        {"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", TO_GET, WHOLE,
         NULL, true},
        {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
         "0\r\n\r\n",
         TO_GET, WHOLE, NULL, false},
    };
    (void)state;
    check_all(cases, COUNT(cases));
}

static void test_what_is_ambiguous_is_refused(void **state)
{
    static const char *const fields[] = {
        "Transfer-Encoding: foo",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding:",
        "Content-Length: -5",
        "Content-Length: +3",
        "Content-Length: 3, 3",
        "Content-Length:",
        "Content-Length: 3abc",
        "Content-Length: 0x3",
        "Content-Length: 99999999999999999999999",
        "Content-Length: 9223372036854775808",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "X: a\r\n b",
        " X: a",
        "X : a",
        "no colon",
        "X: a\rb",
    };
    char bytes[256];
    (void)state;
    for (size_t i = 0; i < COUNT(fields); i++) {
        (void)snprintf(bytes, sizeof(bytes), OK "%s\r\n\r\n3\r\nabc\r\n0\r\n\r\n", fields[i]);
        check_all(&(struct answer_case){bytes, TO_GET, REFUSED, NULL, false}, 1);
    }
}

static void test_heads_that_are_none(void **state)
{
    static const struct answer_case cases[] = {
        {"HTTP/1.1 099 Low\r\n\r\n", TO_GET, REFUSED, NULL, false},
        {"HTTP/1.1 1000 High\r\n\r\n", TO_GET, REFUSED, NULL, false},
        {"HTTP/2 200 OK\r\n\r\n", TO_GET, REFUSED, NULL, false},
        {"SSH-2.0-OpenSSH_9.2\r\n", TO_GET, REFUSED, NULL, false},
        {"\x15\x03\x01\x02", TO_GET, REFUSED, NULL, false},
        {"HTTP/1.1 101 Switching\r\n\r\n", TO_GET, REFUSED, NULL, false},
    };
    (void)state;
    check_all(cases, COUNT(cases));
}

static void test_chunks_that_are_none(void **state)
{
    static const struct answer_case cases[] = {
        {CHUNKED "zz\r\n", TO_GET, REFUSED, NULL, false},
        {CHUNKED "3zz\r\nabc\r\n", TO_GET, REFUSED, NULL, false},
        {CHUNKED "3\nabc\r\n0\r\n\r\n", TO_GET, REFUSED, NULL, false},
        {CHUNKED "3\r\nabcd\r\n0\r\n\r\n", TO_GET, REFUSED, NULL, false},
        {CHUNKED "-3\r\nabc\r\n", TO_GET, REFUSED, NULL, false},
        {CHUNKED "fffffffffffffffff\r\nabc", TO_GET, REFUSED, NULL, false},
        {CHUNKED "0\r\nno colon\r\n\r\n", TO_GET, REFUSED, NULL, false},
        {CHUNKED "\r\n", TO_GET, REFUSED, NULL, false},
    };
    (void)state;
    check_all(cases, COUNT(cases));
}

static void test_interim_answers_are_passed_over_and_counted(void **state)
{
    static char many[ROOM];
    static const struct answer_case cases[] = {
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nX: y\r\n\r\n" OK
         "Content-Length: 2\r\n\r\nok",
         TO_GET, WHOLE, "ok", true},
        {"HTTP/1.1 100 Continue\r\n\r\n", TO_GET, PART, NULL, false},
        {"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\nframes", TO_UPGRADE, WHOLE, NULL,
         false},
    };
    (void)state;
    check_all(cases, COUNT(cases));
    for (unsigned i = 0; i <= ANSWER_INTERIMS_MAX; i++)
        (void)strcat(many, "HTTP/1.1 100 Continue\r\n\r\n");
    check_all(&(struct answer_case){many, TO_GET, REFUSED, NULL, false}, 1);
    many[strlen(many) - strlen("HTTP/1.1 100 Continue\r\n\r\n")] = '\0';
    check_all(&(struct answer_case){many, TO_GET, PART, NULL, false}, 1);
}

/* A proxy passes them on: each has its own status and fields, and its own size. */
static void test_an_interim_answer_is_read_like_a_final_one(void **state)
{
    static const char hint[] = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX: y\r\n\r\n";
    static const char both[] =
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX: y\r\n\r\n" OK "Content-Length: 0\r\n\r\n";
    static struct answer_fields fields;
    struct answer_reader reader;
    (void)state;
    answer_reader_init(&reader, false, false);
    assert_int_equal(answer_reader_head(&reader, both, strlen(hint) - 1, &fields), 0);
    assert_int_equal(answer_reader_head(&reader, both, strlen(both), &fields), strlen(hint));
    assert_int_equal(fields.status, 103);
    assert_int_equal(fields.reason_len, strlen("Early Hints"));
    assert_int_equal(fields.count, 2);
    assert_memory_equal(fields.fields[0].value, "</a>", fields.fields[0].value_len);
    assert_memory_equal(fields.fields[1].name, "X", fields.fields[1].name_len);
    assert_false(reader.is_whole);
    assert_int_equal(
        answer_reader_head(&reader, both + strlen(hint), strlen(both) - strlen(hint), &fields),
        strlen(both) - strlen(hint));
    assert_int_equal(fields.status, 200);
    assert_true(reader.is_whole);
}

static void test_a_reset_is_no_end(void **state)
{
    static struct reading reading;
    static const char bytes[] = OK "\r\nhalf";
    (void)state;
    read_answer(&reading, TO_GET, bytes, strlen(bytes), ROOM, false);
    assert_int_equal(reading.verdict, PART);
    static const char whole[] = OK "Content-Length: 4\r\n\r\nfull";
    read_answer(&reading, TO_GET, whole, strlen(whole), ROOM, false);
    assert_int_equal(reading.verdict, WHOLE);
}

static void test_a_head_has_its_limits(void **state)
{
    static struct reading reading;
    static char bytes[ROOM];
    (void)state;
    (void)strcpy(bytes, OK);
    for (unsigned i = 0; i < ANSWER_FIELDS_MAX; i++)
        (void)strcat(bytes, "X: y\r\n");
    size_t size = strlen(bytes);
    (void)strcpy(bytes + size, "\r\n");
    read_answer(&reading, TO_GET, bytes, size + 2, ROOM, true);
    assert_int_equal(reading.verdict, WHOLE);
    (void)strcpy(bytes + size, "X: y\r\n\r\n");
    read_answer(&reading, TO_GET, bytes, strlen(bytes), ROOM, true);
    assert_int_equal(reading.verdict, REFUSED);
    assert_string_equal(reading.fault, "the upstream sent a head with more than 200 fields");

    (void)strcpy(bytes, OK "X: ");
    memset(bytes + strlen(OK "X: "), 'a', ROOM - strlen(OK "X: "));
    read_answer(&reading, TO_GET, bytes, ANSWER_HEAD_MAX, ROOM, true);
    assert_int_equal(reading.verdict, PART);
    read_answer(&reading, TO_GET, bytes, ANSWER_HEAD_MAX + 1, ROOM, true);
    assert_int_equal(reading.verdict, REFUSED);
}

static void test_trailer_fields_have_their_limit(void **state)
{
    static struct reading reading;
    static char bytes[ROOM];
    (void)state;
    size_t size = strlen(strcpy(bytes, CHUNKED "1\r\nx\r\n0\r\n"));
    while (size < ANSWER_TRAILER_MAX + 1024)
        size += strlen(strcpy(bytes + size, "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"));
    read_answer(&reading, TO_GET, bytes, size, 4096, true);
    assert_int_equal(reading.verdict, REFUSED);
}

static int set_up(void **state)
{
    char error[REPLACED_ERROR_SIZE];

    (void)state;
    return replaced_init(error, sizeof(error)) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_where_answers_end),
        cmocka_unit_test(test_answers_that_have_no_body),
        cmocka_unit_test(test_which_connections_are_kept),
        cmocka_unit_test(test_what_is_ambiguous_is_refused),
        cmocka_unit_test(test_heads_that_are_none),
        cmocka_unit_test(test_chunks_that_are_none),
        cmocka_unit_test(test_interim_answers_are_passed_over_and_counted),
        cmocka_unit_test(test_an_interim_answer_is_read_like_a_final_one),
        cmocka_unit_test(test_a_reset_is_no_end),
        cmocka_unit_test(test_a_head_has_its_limits),
        cmocka_unit_test(test_trailer_fields_have_their_limit),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}

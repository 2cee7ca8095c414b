/* The reader of FastCGI answers: what is an answer, where it ends, and what is none. Every answer
 * is read as a whole, byte by byte, and in two pieces that are cut everywhere; all have to come to
 * the same. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "answer_head.h"
#include "fcgi_reader.h"

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))
#define ROOM ((size_t)512 * 1024)
#define TEXT "Content-Type: text/plain\r\n"

enum { STDOUT = FCGI_TYPE_STDOUT, STDERR = FCGI_TYPE_STDERR, END = FCGI_TYPE_END_REQUEST };

/* ---- what the application sends ---- */

static struct {
    char bytes[ROOM];
    size_t size;
} sent;

static void add_header(unsigned version, unsigned type, unsigned id, size_t content,
                       unsigned padding)
{
    const unsigned char header[FCGI_RECORD_HEADER] = {
        (unsigned char)version, (unsigned char)type,           (unsigned char)(id >> 8),
        (unsigned char)id,      (unsigned char)(content >> 8), (unsigned char)content,
        (unsigned char)padding};

    assert_true(sent.size + sizeof(header) + content + padding <= ROOM);
    memcpy(sent.bytes + sent.size, header, sizeof(header));
    sent.size += sizeof(header);
}

static void add_bytes(const char *bytes, size_t size)
{
    memcpy(sent.bytes + sent.size, bytes, size);
    sent.size += size;
}

static void add_padded(unsigned type, const char *content, size_t size, unsigned padding)
{
    static const char dots[255] = "................";

    add_header(1, type, FCGI_REQUEST_ID, size, padding);
    add_bytes(content, size);
    add_bytes(dots, padding);
}

static void add(unsigned type, const char *text)
{
    add_padded(type, text, strlen(text), 0);
}

static void add_end(unsigned app_status, unsigned protocol_status)
{
    const char body[8] = {0, 0, 0, (char)app_status, (char)protocol_status};

    add_padded(END, body, sizeof(body), 0);
}

/* ---- how it is read ---- */

enum verdict { WHOLE, PART, REFUSED };

struct reading {
    enum verdict verdict;
    enum fcgi_failure failure;
    bool keeps; /* the connection is good for another request */
    int status;
    size_t size;
    size_t fields;
    const char *fault;
    char lines[4096];
    char body[ROOM];
};

static void on_line(void *data, const char *line, size_t size)
{
    struct reading *reading = data;
    size_t at = strlen(reading->lines);

    assert_in_range(size, 1, FCGI_LINE_MAX);
    (void)snprintf(reading->lines + at, sizeof(reading->lines) - at, "%.*s|", (int)size, line);
}

/* `size` bytes have come, of which `*head` are of a head so far. Returns false if it is over. */
static bool take(struct fcgi_reader *reader, struct reading *reading, const char *bytes,
                 size_t size)
{
    static struct answer_fields fields;
    char *piece = malloc(size + 1); /* of its own, for the sanitizer */

    assert_non_null(piece);
    memcpy(piece, bytes, size);
    size_t n = fcgi_reader_unframe(reader, piece, size);
    assert_true(n <= size);
    memcpy(reading->body + reading->size, piece, n);
    free(piece);
    if (!reader->has_head) {
        reading->size += n;
        ssize_t head = fcgi_reader_head(reader, reading->body, reading->size, &fields);
        if (head <= 0)
            return head == 0;
        reading->status = fields.status;
        reading->fields = fields.count;
        n = reading->size - (size_t)head;
        memmove(reading->body, reading->body + head, n);
        reading->size = 0;
    }
    ssize_t taken = fcgi_reader_body(reader, n);
    if (taken < 0)
        return false;
    reading->size += (size_t)taken;
    return !reader->is_whole;
}

/* The first `first` bytes at once, then `piece` at a time; then the connection ends. */
static const struct reading *read_sent(bool to_head, size_t first, size_t piece)
{
    static struct reading reading;
    struct fcgi_reader reader;

    memset(&reading, 0, offsetof(struct reading, body));
    fcgi_reader_init(&reader, to_head, on_line, &reading);
    for (size_t at = 0, n = first; at < sent.size; at += n, n = piece) {
        if (n > sent.size - at)
            n = sent.size - at;
        if (n > 0 && !take(&reader, &reading, sent.bytes + at, n))
            break;
    }
    reading.verdict = reader.fault != NULL                                ? REFUSED
                      : reader.has_head && fcgi_reader_end(&reader, true) ? WHOLE
                                                                          : PART;
    reading.failure = reader.failure;
    reading.fault = reader.fault;
    reading.keeps = reader.is_whole && fcgi_reader_may_keep(&reader);
    return &reading;
}

struct want {
    enum verdict verdict;
    const char *body;
    bool keeps;
    enum fcgi_failure failure;
};

static void check(const struct want *want, bool to_head, size_t first, size_t piece)
{
    const struct reading *reading = read_sent(to_head, first, piece);
    const char *body = want->body != NULL ? want->body : "";

    if (reading->verdict != want->verdict || reading->failure != want->failure)
        fail_msg("pieces %zu, %zu: verdict %d, failure %d (%s)", first, piece,
                 (int)reading->verdict, (int)reading->failure,
                 reading->fault != NULL ? reading->fault : "no fault");
    if (want->verdict == REFUSED)
        assert_non_null(reading->fault);
    if (want->verdict != WHOLE)
        return;
    if (reading->size != strlen(body) || memcmp(reading->body, body, reading->size) != 0)
        fail_msg("pieces %zu, %zu: body %.*s", first, piece, (int)reading->size, reading->body);
    /* In pieces, the bytes after the end may still be in the kernel. */
    if (want->keeps || (first == sent.size && reading->keeps))
        assert_int_equal(reading->keeps, want->keeps);
}

static void expect_to(bool to_head, struct want want)
{
    check(&want, to_head, sent.size, 1);
    check(&want, to_head, 1, 1);
    for (size_t cut = 0; cut < sent.size; cut++)
        check(&want, to_head, cut, sent.size);
    sent.size = 0;
}

static void expect(struct want want)
{
    expect_to(false, want);
}

static void expect_refused(enum fcgi_failure failure)
{
    expect((struct want){REFUSED, NULL, false, failure});
}

static void expect_whole(const char *body, bool keeps)
{
    expect((struct want){WHOLE, body, keeps, FCGI_NONE});
}

static int set_up(void **state)
{
    (void)state;
    sent.size = 0;
    return 0;
}

/* ---- ends ---- */

static void test_an_answer_in_records(void **state)
{
    (void)state;
    add(STDOUT, TEXT "\r\nall");
    add(STDOUT, "");
    add_end(0, 0);
    expect_whole("all", true);
    add(STDOUT, "Content-Ty");
    add_padded(STDOUT, "pe: text/plain\n\na", 17, 7);
    add_padded(STDOUT, "l", 1, 255);
    add_padded(STDERR, "word\n", 5, 3);
    add(STDOUT, "l");
    add_padded(END, "\0\0\0\0\0\0\0\0", 8, 8);
    expect_whole("all", true);
}

static void test_every_cut_answer_is_a_part(void **state)
{
    (void)state;
    add(STDOUT, TEXT "\r\nal");
    add_padded(STDOUT, "l", 1, 2);
    add_end(0, 0);
    size_t whole = sent.size;
    for (size_t size = 0; size < whole; size++) {
        sent.size = size;
        assert_int_equal(read_sent(false, size, 1)->verdict, PART);
    }
}

static void test_the_end_of_stdout_or_the_length_completes_it(void **state)
{
    (void)state;
    add(STDOUT, TEXT "\r\nall");
    add(STDOUT, "");
    expect_whole("all", false);
    add(STDOUT, TEXT "Content-Length: 3\r\n\r\nall");
    expect_whole("all", false);
    add(STDOUT, TEXT "Content-Length: 3\r\n\r\nal");
    add(STDOUT, "");
    expect((struct want){PART, NULL, false, FCGI_NONE});
}

static void test_a_reset_after_the_end_of_stdout_is_a_cut(void **state)
{
    static struct reading reading;
    struct fcgi_reader reader;
    (void)state;
    fcgi_reader_init(&reader, false, on_line, &reading);
    add(STDOUT, TEXT "\r\nall");
    add(STDOUT, "");
    assert_true(take(&reader, &reading, sent.bytes, sent.size));
    assert_true(fcgi_reader_end(&reader, true));
    assert_false(fcgi_reader_end(&reader, false));
}

/* What looked like the end of FCGI_STDOUT was not: more follows, and is cut. */
static void test_a_cut_after_an_empty_record_is_a_cut(void **state)
{
    (void)state;
    add(STDOUT, TEXT "\r\nall");
    add(STDOUT, "");
    size_t whole = sent.size;
    add(STDOUT, "more");
    for (size_t size = whole + 1; size < whole + FCGI_RECORD_HEADER + 4; size++) {
        static struct reading reading;
        struct fcgi_reader reader;
        memset(&reading, 0, sizeof(reading));
        fcgi_reader_init(&reader, false, on_line, &reading);
        assert_true(take(&reader, &reading, sent.bytes, size));
        assert_false(fcgi_reader_end(&reader, true));
    }
}

static void test_an_empty_record_in_between_is_no_end(void **state)
{
    (void)state;
    add(STDOUT, "");
    add(STDOUT, TEXT "\r\n");
    add(STDOUT, "");
    add(STDOUT, "half");
    expect((struct want){PART, NULL, false, FCGI_NONE});
}

static void test_a_length_is_held(void **state)
{
    (void)state;
    add(STDOUT, TEXT "Content-Length: 4\r\n\r\nal");
    add(STDOUT, "l");
    add_end(0, 0);
    expect_refused(FCGI_CUT);
    add(STDOUT, TEXT "Content-Length: 3\r\n\r\nal");
    add(STDOUT, "l and more");
    add(STDOUT, "and more");
    add_end(0, 0);
    expect_whole("all", true);
}

static void test_no_body_where_none_may_be(void **state)
{
    static const char *const heads[] = {"Status: 204 No\n\n", "Status: 304\nContent-Length: 9\n\n"};
    (void)state;
    for (size_t i = 0; i < COUNT(heads); i++) {
        add(STDOUT, heads[i]);
        add(STDOUT, "A BODY");
        add_end(0, 0);
        expect_whole("", true);
    }
    add(STDOUT, TEXT "Content-Length: 100\r\n\r\nA BODY");
    add_end(1, 0);
    expect_to(true, (struct want){WHOLE, "", true, FCGI_NONE});
    add(STDOUT, TEXT "\r\nA BO");
    expect_to(true, (struct want){WHOLE, "", false, FCGI_NONE});
}

/* An application that never stops: the connection is given up. */
static void test_too_much_of_no_body_ends_the_reading(void **state)
{
    static char much[FCGI_RECORD_MAX];
    struct fcgi_reader reader;
    struct reading *reading = calloc(1, sizeof(*reading));
    size_t records = 0;
    (void)state;
    assert_non_null(reading);
    fcgi_reader_init(&reader, true, on_line, reading);
    add(STDOUT, "X: y\n\n");
    assert_true(take(&reader, reading, sent.bytes, sent.size));
    sent.size = 0;
    add_padded(STDOUT, much, sizeof(much), 0);
    while (take(&reader, reading, sent.bytes, sent.size))
        assert_in_range(++records, 1, FCGI_EXCESS_MAX / FCGI_RECORD_MAX + 1);
    assert_true(reader.is_whole);
    assert_false(fcgi_reader_may_keep(&reader));
    assert_int_equal(reading->size, 0);
    free(reading);
}

/* ---- faults ---- */

static void test_records_that_are_none(void **state)
{
    static const struct {
        unsigned version, type, id;
        size_t content;
    } headers[] = {
        {0, STDOUT, 1, 0}, {2, STDOUT, 1, 0},   {'H', STDOUT, 1, 0}, {1, STDOUT, 0, 0},
        {1, STDOUT, 2, 0}, {1, STDOUT, 257, 0}, {1, STDERR, 0, 0},   {1, 0, 1, 0},
        {1, 1, 1, 8},      {1, 2, 1, 0},        {1, 4, 1, 0},        {1, 5, 1, 0},
        {1, 8, 1, 0},      {1, 10, 0, 0},       {1, 11, 0, 8},       {1, 255, 1, 0},
        {1, END, 0, 8},    {1, END, 1, 0},      {1, END, 1, 7},      {1, END, 1, 9},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(headers); i++) {
        add_header(headers[i].version, headers[i].type, headers[i].id, headers[i].content, 0);
        add_bytes("\0\0\0\0\0\0\0\0", 9 < headers[i].content ? 9 : headers[i].content);
        expect_refused(FCGI_MALFORMED);
        add(STDOUT, TEXT "\r\nhalf");
        add_header(headers[i].version, headers[i].type, headers[i].id, headers[i].content, 0);
        add_bytes("\0\0\0\0\0\0\0\0", headers[i].content < 8 ? headers[i].content : 8);
        expect_refused(FCGI_MALFORMED);
        /* After the end of the body it costs the connection only. */
        add(STDOUT, TEXT "Content-Length: 3\r\n\r\nall");
        add_header(headers[i].version, headers[i].type, headers[i].id, headers[i].content, 0);
        expect_whole("all", false);
    }
}

static void test_bytes_after_the_end_cost_the_connection(void **state)
{
    (void)state;
    add(STDOUT, TEXT "\r\nall");
    add_end(0, 0);
    add(STDOUT, "X:\n\nforged");
    expect_whole("all", false);
}

static void test_statuses_of_the_end(void **state)
{
    (void)state;
    add_end(0, 2);
    expect_refused(FCGI_OVERLOADED);
    add_end(0, 1);
    expect_refused(FCGI_ENDED);
    add_end(0, 3);
    expect_refused(FCGI_ENDED);
    add_end(0, 4);
    expect_refused(FCGI_MALFORMED);
    add_end(0, 0);
    expect_refused(FCGI_ENDED);
    add(STDOUT, TEXT);
    add_end(0, 0);
    expect_refused(FCGI_ENDED);
    add(STDOUT, TEXT "\r\nhalf");
    add_end(0, 3);
    expect_refused(FCGI_CUT);
    add(STDOUT, TEXT "\r\nhalf");
    add_end(1, 0);
    expect_refused(FCGI_CUT);
    add(STDOUT, TEXT "\r\nhalf");
    add(STDOUT, "");
    add_end(255, 0);
    expect_refused(FCGI_CUT);
    add(STDOUT, TEXT "Content-Length: 3\r\n\r\nall");
    add_end(1, 0);
    expect_whole("all", true);
}

/* ---- heads ---- */

static const struct reading *read_head(const char *head)
{
    sent.size = 0;
    add(STDOUT, head);
    add(STDOUT, "");
    return read_sent(false, sent.size, 1);
}

static void test_an_empty_head_in_pieces(void **state)
{
    (void)state;
    add(STDOUT, "\r\n");
    add(STDOUT, "all");
    add_end(0, 0);
    expect_whole("all", true);
    add(STDOUT, "\nall");
    add_end(0, 0);
    expect_whole("all", true);
}

static void test_what_a_head_says(void **state)
{
    static const struct {
        const char *head;
        int status;
        size_t fields;
    } heads[] = {
        {TEXT "\r\n", 200, 1},
        {"\n", 200, 0},
        {"Location: http://else.test/\n\n", 302, 1},
        {"Location: /here\n\n", 302, 1},
        {"Location: /new\nStatus: 201 Created\n\n", 201, 1},
        {"status: 404\r\nX: y\r\n\r\n", 404, 1},
        {"X: y\nSTATUS: 404 Not Found\nZ:\n\n", 404, 2},
        {"Status: 999 \n\n", 999, 0},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(heads); i++) {
        const struct reading *reading = read_head(heads[i].head);
        if (reading->verdict != WHOLE || reading->status != heads[i].status ||
            reading->fields != heads[i].fields)
            fail_msg("%s: verdict %d, status %d, %zu fields", heads[i].head, (int)reading->verdict,
                     reading->status, reading->fields);
    }
}

static void test_heads_that_are_none(void **state)
{
    static const char *const heads[] = {
        "no head at all\r\n\r\n",
        "Status: 099 Low\r\n\r\n",
        "Status: 100 Continue\r\n\r\n",
        "Status: 101 Switching\r\n\r\n",
        "Status: 000\r\n\r\n",
        "Status: 20\r\n\r\n",
        "Status: 2000\r\n\r\n",
        "Status: 2o0\r\n\r\n",
        "Status:\r\n\r\n",
        "Status: 200\nStatus: 200\n\n",
        TEXT " folded\r\n\r\n",
        " folded: first\r\n\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n\r\nall",
        "Content-Length: -3\r\n\r\nall",
        "Content-Length: 3, 3\r\n\r\nall",
        "Content-Length:\r\n\r\nall",
        "Content-Length: 18446744073709551614\r\n\r\nall",
        "Content-Length: 9223372036854775808\r\n\r\nall",
        "X : y\r\n\r\n",
        "X: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    };
    (void)state;
    for (size_t i = 0; i < COUNT(heads); i++) {
        add(STDOUT, heads[i]);
        expect_refused(FCGI_MALFORMED);
    }
}

static void test_a_head_has_its_limits(void **state)
{
    static char fields[(ANSWER_FIELDS_MAX + 1) * 5 + 3], bytes[ANSWER_HEAD_MAX + 1];
    (void)state;
    for (unsigned i = 0; i < ANSWER_FIELDS_MAX; i++)
        (void)strcat(fields, "X: y\n");
    size_t size = strlen(fields);
    (void)strcpy(fields + size, "\n");
    assert_int_equal(read_head(fields)->verdict, WHOLE);
    (void)strcpy(fields + size, "X: y\n\n");
    assert_int_equal(read_head(fields)->verdict, REFUSED);

    memset(bytes, 'a', sizeof(bytes));
    memcpy(bytes, "X: ", 3);
    sent.size = 0;
    add_padded(STDOUT, bytes, 1000, 0);
    add_padded(STDOUT, bytes + 1000, ANSWER_HEAD_MAX - 1000, 0);
    assert_int_equal(read_sent(false, sent.size, 1)->verdict, PART);
    add(STDOUT, "a");
    assert_int_equal(read_sent(false, sent.size, 1)->verdict, REFUSED);
    assert_int_equal(read_sent(false, 0, 4096)->verdict, REFUSED);
}

/* ---- FCGI_STDERR ---- */

static void test_words_become_lines(void **state)
{
    static char much[FCGI_LINE_MAX * 2 + 10];
    (void)state;
    for (size_t piece = 1; piece < 40; piece++) {
        sent.size = 0;
        add(STDERR, "one\ntw");
        add(STDERR, "o\r\n\n\r\nthree");
        add(STDERR, "");
        add(STDERR, "four\n");
        assert_string_equal(read_sent(false, piece, piece)->lines, "one|tw|o|three|four|");
    }
    sent.size = 0;
    memset(much, 'x', sizeof(much));
    add_padded(STDERR, much, sizeof(much), 0);
    const struct reading *reading = read_sent(false, sent.size, 1);
    assert_int_equal(strlen(reading->lines), sizeof(much) + 3);
    assert_int_equal(reading->lines[FCGI_LINE_MAX], '|');
}

#define TEST(f) cmocka_unit_test_setup(f, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_an_answer_in_records),
        TEST(test_every_cut_answer_is_a_part),
        TEST(test_the_end_of_stdout_or_the_length_completes_it),
        TEST(test_a_reset_after_the_end_of_stdout_is_a_cut),
        TEST(test_a_cut_after_an_empty_record_is_a_cut),
        TEST(test_an_empty_record_in_between_is_no_end),
        TEST(test_a_length_is_held),
        TEST(test_no_body_where_none_may_be),
        TEST(test_too_much_of_no_body_ends_the_reading),
        TEST(test_records_that_are_none),
        TEST(test_bytes_after_the_end_cost_the_connection),
        TEST(test_statuses_of_the_end),
        TEST(test_an_empty_head_in_pieces),
        TEST(test_what_a_head_says),
        TEST(test_heads_that_are_none),
        TEST(test_a_head_has_its_limits),
        TEST(test_words_become_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

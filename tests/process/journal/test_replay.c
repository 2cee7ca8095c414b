/* Unfinished requests are sent again by the real binary, to a server in this process that keeps all
 * that it gets. LASTCALL_RUNS says how often a replay is killed: 5 times that (5 by default). */

#include "archive_made.h"
#include "tool.h"
#include "process.h"
#include "target.h"

#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "directory.h"
#include "expect.h"
#include "dispositions.h"
#include "skip.h"

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static struct target target;

static char *read_file(const char *path)
{
    size_t size = 4 << 20;
    char *text = calloc(1, size);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_non_null(text);
    if (fd < 0)
        return text;
    for (size_t n = 0; n < size - 1;) {
        ssize_t got = read(fd, text + n, size - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    (void)close(fd);
    return text;
}

static char *done_of(const char *path)
{
    char name[200];
    (void)snprintf(name, sizeof(name), "%s.done", path);
    return read_file(name);
}

/* How many lines have both texts. */
static unsigned count_lines(const char *text, const char *one, const char *two)
{
    unsigned n = 0;
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        n += memmem(text, length, one, strlen(one)) != NULL &&
             memmem(text, length, two, strlen(two)) != NULL;
        text += length + (text[length] == '\n');
    }
    return n;
}

static enum disposition_outcome outcome_of(const char *path, unsigned n)
{
    char error[DISPOSITIONS_ERROR_SIZE], id[UNFINISHED_ID_SIZE];
    struct dispositions *dispositions;
    assert_int_equal(dispositions_open(path, false, &dispositions, error), 0);
    const struct disposition *disposition = dispositions_find(dispositions, made_id(id, n));
    enum disposition_outcome outcome =
        disposition != NULL ? disposition->outcome : DISPOSITION_NONE;
    dispositions_close(dispositions);
    return outcome;
}

static void add(const char *path, unsigned n, const char *method, const char *where,
                enum unfinished_class class)
{
    struct unfinished request;
    made_request(&request, n, method, where, "body");
    request.class = class;
    made_append(path, &request);
}

/* ---- byte for byte ---- */

/* The headers that a replay writes itself are left out; the rest keeps its order. */
static char *received_headers(const char *head)
{
    static const char *const own[] = {
        "Host:", "Content-Length:", "Idempotency-Key:", "Lastcall-Replay:"};
    char *text = calloc(1, strlen(head) + 1);
    assert_non_null(text);
    for (const char *at = strstr(head, "\r\n") + 2; *at != '\r'; at = strstr(at, "\r\n") + 2) {
        bool is_own = false;
        for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
            is_own |= strncmp(at, own[i], strlen(own[i])) == 0;
        if (!is_own)
            (void)strncat(text, at, (size_t)(strstr(at, "\r\n") + 2 - at));
    }
    return text;
}

struct shape {
    const char *method, *path, *body;
    size_t body_bytes;
    const char *headers; /* as they must arrive */
};

static const struct shape shapes[] = {
    {"POST", "/orders?x=1&y=%2F%00", "{\"a\":1}", 7,
     "content-type: application/json\r\naccept: text/html\r\nuser-agent: curl/1\r\n"},
    {"PUT",
     "/b%C3%BCcher/b\xc3\xbc"
     "cher/;v=1,'\"",
     "\0\1\2\377\r\n\r\n\0", 9, "x-a: 1\r\nx-a: 2\r\nx-b:\r\n"},
    {"PATCH", "/latin1/\xe4\xf6", "", 0, "x-latin: \xe4\xf6\xfc\r\nexpires: 0\r\n"},
    {"DELETE", "//a/../b/./c", "", 0, "accept-encoding: gzip, br\r\n"},
    {"DELETE", "/with-body", "gone", 4, "content-type: text/plain\r\n"},
    {"GET", "/plain", "", 0, ""},
    {"GET", "/with-body", "why not", 7, "x-sp: a  b\tc\r\n"},
    {"HEAD", "/head", "", 0, "range: bytes=0-1\r\n"},
    {"OPTIONS", "*", "", 0, "origin: http://a\r\n"},
    {"PROPFIND", "/dav/", "<x/>", 4, "depth: 1\r\ncookie: a=b; c=\"d\"\r\ncookie: e=f\r\n"},
};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static void add_shape(const char *path, unsigned n, const struct shape *shape)
{
    struct unfinished request;
    made_request(&request, n, shape->method, shape->path, "");
    free(request.body.base);
    request.body.base = malloc(shape->body_bytes + 1);
    memcpy(request.body.base, shape->body, shape->body_bytes + 1);
    request.body.len = request.body_bytes = shape->body_bytes;
    for (const char *at = shape->headers; *at != '\0'; at = strstr(at, "\r\n") + 2) {
        char name[64], value[256];
        size_t colon = strcspn(at, ":"), end = strcspn(at, "\r");
        size_t from = colon + 1 < end ? colon + 2 : end;
        (void)snprintf(name, sizeof(name), "%.*s", (int)colon, at);
        (void)snprintf(value, sizeof(value), "%.*s", (int)(end - from), at + from);
        made_header(&request, name, value);
    }
    /* Of the connection that is gone. */
    made_header(&request, "connection", "keep-alive, X-Hop");
    made_header(&request, "x-hop", "1");
    made_header(&request, "te", "trailers");
    made_header(&request, "transfer-encoding", "chunked");
    made_header(&request, "upgrade", "h2c");
    made_append(path, &request);
}

static void expect_shape(unsigned n, const struct shape *shape)
{
    char id[UNFINISHED_ID_SIZE], line[256];
    const struct target_request *got = target_find(&target, made_id(id, n));
    assert_non_null(got);
    (void)snprintf(line, sizeof(line), "%s %s HTTP/1.1\r\n", shape->method, shape->path);
    assert_memory_equal(got->head, line, strlen(line));
    char *headers = received_headers(got->head);
    assert_string_equal(headers, shape->headers);
    free(headers);
    assert_contains(got->head, "\r\nHost: shop.example\r\n");
    assert_int_equal(got->attempt, 1);
    assert_int_equal(got->body_bytes, shape->body_bytes);
    assert_memory_equal(got->body, shape->body, shape->body_bytes);
    assert_int_equal(target_count_key(&target, id), 1);
}

static void test_requests_arrive_byte_for_byte(void **state)
{
    struct tool command;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    for (unsigned i = 0; i < SHAPES; i++)
        add_shape(path, i, &shapes[i]);
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", target.url));
    assert_contains(command.text, "10 of 10 settled, 0 parked, 0 left");
    for (unsigned i = 0; i < SHAPES; i++)
        expect_shape(i, &shapes[i]);
    tool_release(&command);
    /* Settled is settled. */
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", target.url));
    assert_contains(command.text, "0 of 0 settled");
    assert_contains(command.text, "skipped: 10 already settled");
    assert_int_equal(target_count(&target), SHAPES);
    tool_release(&command);
}

static void test_large_binary_body_arrives_whole(void **state)
{
    struct tool command;
    struct unfinished request;
    char id[UNFINISHED_ID_SIZE];
    const size_t size = 3 << 20;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    made_request(&request, 1, "PUT", "/large", "");
    free(request.body.base);
    char *body = malloc(size);
    for (size_t i = 0; i < size; i++)
        body[i] = (char)(i * 2654435761u >> 13);
    request.body = (struct unfinished_text){malloc(size + 1), size};
    memcpy(request.body.base, body, size);
    request.body_bytes = size;
    made_append(path, &request);
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", target.url));
    const struct target_request *got = target_find(&target, made_id(id, 1));
    assert_non_null(got);
    assert_int_equal(got->body_bytes, size);
    assert_memory_equal(got->body, body, size);
    free(body);
    tool_release(&command);
}

static void test_redacted_headers_are_not_sent_and_can_be_given(void **state)
{
    struct tool command;
    struct unfinished request;
    char id[UNFINISHED_ID_SIZE];
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    made_request(&request, 1, "PUT", "/a", "x");
    made_header(&request, "authorization", "hmac-sha256:0123");
    request.headers[0].redacted = true;
    made_header(&request, "x-tenant", "one");
    made_header(&request, "idempotency-key", "the-clients-own");
    made_append(path, &request);
    add(path, 2, "PUT", "/b", UNFINISHED_CLASS_IDEMPOTENT);
    tool_run(&command, 0,
             ARGS("replay", "--from", path, "--to", target.url, "--header",
                  "Authorization: Bearer new", "--header", "X-Tenant: two", "--host", "inside"));
    const struct target_request *got = target_find(&target, "the-clients-own");
    assert_non_null(got);
    assert_null(strstr(got->head, "hmac-sha256"));
    assert_contains(got->head, "\r\nAuthorization: Bearer new\r\n");
    assert_contains(got->head, "\r\nX-Tenant: two\r\n");
    assert_contains(got->head, "\r\nHost: inside\r\n");
    assert_null(strstr(got->head, "x-tenant"));
    assert_non_null(target_find(&target, made_id(id, 2)));
    tool_release(&command);
}

/* ---- which ---- */

static void test_what_may_have_run_is_sent_only_on_request(void **state)
{
    struct tool command;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    add(path, 1, "POST", "/a", UNFINISHED_CLASS_NEVER_STARTED);
    add(path, 2, "PUT", "/b", UNFINISHED_CLASS_IDEMPOTENT);
    add(path, 3, "POST", "/c", UNFINISHED_CLASS_MAY_HAVE_RUN);
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", target.url));
    assert_contains(command.text, "2 of 2 settled");
    assert_contains(command.text, "skipped: 1 may have run (--include-may-have-run sends them)");
    assert_int_equal(outcome_of(path, 3), DISPOSITION_NONE);
    tool_release(&command);
    tool_run(&command, 0,
             ARGS("replay", "--from", path, "--to", target.url, "--include-may-have-run"));
    assert_int_equal(outcome_of(path, 3), DISPOSITION_SETTLED);
    assert_int_equal(target_count(&target), 3);
    tool_release(&command);
}

static void expect_only(const char *path, const char *one, const char *two, const char *want)
{
    struct tool command;
    char ids[256] = "";
    tool_run(&command, 0,
             two != NULL ? ARGS("replay", "--from", path, "--dry-run", "--only", one, "--only", two)
                         : ARGS("replay", "--from", path, "--dry-run", "--only", one));
    for (const char *at = command.text; (at = strstr(at, "send 0000000")) != NULL; at++)
        (void)strncat(ids, at + strlen("send 0000000"), 1);
    assert_string_equal(ids, want);
    tool_release(&command);
}

static void test_only_chooses_by_method_path_reason_and_class(void **state)
{
    struct unfinished request;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    add(path, 1, "PUT", "/orders/1?a=b", UNFINISHED_CLASS_IDEMPOTENT);
    add(path, 2, "DELETE", "/orders/2", UNFINISHED_CLASS_IDEMPOTENT);
    add(path, 3, "POST", "/carts/3", UNFINISHED_CLASS_NEVER_STARTED);
    add(path, 4, "POST", "/orders", UNFINISHED_CLASS_MAY_HAVE_RUN);
    made_request(&request, 5, "PUT", "/orders/5", "x");
    request.reason = UNFINISHED_REASON_CRASHED;
    made_append(path, &request);
    expect_only(path, "PUT", NULL, "15");
    expect_only(path, "PUT", "DELETE", "125");
    expect_only(path, "/orders/*", NULL, "125");
    expect_only(path, "/orders/?", NULL, "125"); /* without its query, too */
    expect_only(path, "*a=b", NULL, "1");
    expect_only(path, "/orders", NULL, ""); /* that one may have run */
    expect_only(path, "reason:crashed", NULL, "5");
    expect_only(path, "reason:crashed", "reason:deadline", "1235");
    expect_only(path, "class:never-started", NULL, "3");
    expect_only(path, "class:may-have-run", NULL, "4"); /* that is to ask for it */
    expect_only(path, "PUT", "reason:crashed", "5");
    expect_only(path, "POST", "/orders*", "");
    assert_int_equal(target_count(&target), 0);
}

static void test_dry_run_sends_nothing_and_notes_nothing(void **state)
{
    struct tool command;
    struct unfinished request;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    made_archive(path, 3);
    made_request(&request, 9, "PUT", "/big", "");
    request.gap = UNFINISHED_GAP_BODY_TOO_LARGE;
    free(request.body.base);
    request.body = (struct unfinished_text){NULL, 0};
    request.body_bytes = 77;
    made_append(path, &request);
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", target.url, "--dry-run"));
    assert_contains(command.text, "PUT shop.example/orders/2 (idempotent, deadline)");
    assert_contains(command.text, "/big (idempotent, deadline): body-too-large");
    assert_contains(command.text, "3 would be sent to http://127.0.0.1:");
    assert_int_equal(target_count(&target), 0);
    assert_int_equal(access(in_directory("unfinished-20260101.ndjson.done"), F_OK), -1);
    assert_int_equal(access(in_directory("unfinished-20260101.ndjson.lock"), F_OK), -1);
    tool_release(&command);
}

static void test_old_requests_are_left_alone(void **state)
{
    struct tool command;
    struct unfinished request;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    made_archive(path, 2);
    made_request(&request, 5, "PUT", "/old", "x");
    request.began_ms -= 7200 * 1000;
    made_append(path, &request);
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", target.url, "--max-age", "1h"));
    assert_contains(command.text, "2 of 2 settled");
    assert_contains(command.text, "skipped: 1 older than --max-age");
    tool_release(&command);
}

static void test_incomplete_ones_are_parked_and_never_sent(void **state)
{
    struct tool command;
    struct unfinished request;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    made_archive(path, 1);
    made_request(&request, 5, "PUT", "/big", "");
    free(request.body.base);
    request.body = (struct unfinished_text){NULL, 0};
    request.body_bytes = 77;
    request.gap = UNFINISHED_GAP_BODY_TOO_LARGE;
    made_append(path, &request);
    /* What would end the request line is not sent either. */
    add(path, 6, "PUT", "/a HTTP/1.1\r\nX-Evil: 1\r\n", UNFINISHED_CLASS_IDEMPOTENT);
    tool_run(&command, 1,
             ARGS("replay", "--from", path, "--to", target.url, "--include-may-have-run"));
    assert_contains(command.text, "1 of 3 settled, 2 parked, 0 left");
    assert_int_equal(target_count(&target), 1);
    assert_int_equal(outcome_of(path, 5), DISPOSITION_PARKED);
    assert_int_equal(outcome_of(path, 6), DISPOSITION_PARKED);
    char *done = done_of(path);
    assert_int_equal(count_lines(done, "\"parked\"", "body-too-large"), 1);
    free(done);
    tool_release(&command);
}

static void test_garbage_is_named_and_passed_over(void **state)
{
    struct tool command;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    made_archive(path, 2);
    FILE *file = fopen(path, "a");
    assert_non_null(file);
    (void)fputs("this is no request\n{\"schema\": 1}\n", file);
    (void)fclose(file);
    add(path, 7, "PUT", "/after", UNFINISHED_CLASS_IDEMPOTENT);
    file = fopen(in_directory("unfinished-20260101.ndjson.done"), "w");
    assert_non_null(file);
    (void)fputs("rubbish\n{\"id\":\"torn", file); /* its writer was killed */
    (void)fclose(file);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", target.url));
    assert_contains(command.text, "3 of 3 settled");
    assert_int_equal(count_lines(command.text, "not a request", ": byte "), 2);
    assert_contains(command.text, ".done: 1 invalid line, the first at byte 0");
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(outcome_of(path, i), DISPOSITION_SETTLED);
    assert_int_equal(outcome_of(path, 7), DISPOSITION_SETTLED);
    tool_release(&command);
}

/* A user who may write to the folder must not make root write elsewhere. */
static void test_link_instead_of_the_marks_is_refused(void **state)
{
    struct tool command;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    made_archive(path, 1);
    for (unsigned i = 0; i < 2; i++) {
        char name[200];
        (void)snprintf(name, sizeof(name), "%s.%s", path, i == 0 ? "lock" : "done");
        assert_int_equal(symlink("/dev/null", name), 0);
        tool_run(&command, 66, ARGS("replay", "--from", path, "--to", target.url));
        assert_contains(command.text, "cannot open ");
        tool_release(&command);
        assert_int_equal(unlink(name), 0);
    }
    assert_int_equal(target_count(&target), 0);
}

static void test_folder_is_all_its_files(void **state)
{
    struct tool command;
    (void)state;
    add(in_directory("unfinished-20260101.ndjson"), 1, "PUT", "/a", UNFINISHED_CLASS_IDEMPOTENT);
    add(in_directory("unfinished-20260102.ndjson"), 2, "PUT", "/b", UNFINISHED_CLASS_IDEMPOTENT);
    add(in_directory("other.ndjson"), 3, "PUT", "/c", UNFINISHED_CLASS_IDEMPOTENT);
    tool_run(&command, 0,
             ARGS("replay", "--from", directory, "--to", target.url, "--concurrency", "1"));
    assert_contains(command.text, "2 of 2 settled");
    assert_int_equal(outcome_of(in_directory("unfinished-20260101.ndjson"), 1),
                     DISPOSITION_SETTLED);
    assert_int_equal(outcome_of(in_directory("unfinished-20260102.ndjson"), 2),
                     DISPOSITION_SETTLED);
    tool_release(&command);
}

/* ---- what the answer means ---- */

static void test_refusals_are_parked_with_their_answer(void **state)
{
    struct tool command;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    add(path, 1, "PUT", "/status/404", UNFINISHED_CLASS_IDEMPOTENT);
    add(path, 2, "PUT", "/status/302", UNFINISHED_CLASS_IDEMPOTENT);
    add(path, 3, "PUT", "/status/204", UNFINISHED_CLASS_IDEMPOTENT);
    tool_run(&command, 1, ARGS("replay", "--from", path, "--to", target.url));
    assert_contains(command.text, "1 of 3 settled, 2 parked, 0 left");
    char *done = done_of(path);
    assert_int_equal(count_lines(done, "\"parked\",", "\"status\":404,\"attempt\":1"), 1);
    assert_int_equal(count_lines(done, "\"parked\",", "\"answer\":\"the answer.\\n\""), 2);
    free(done);
    tool_release(&command);
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", target.url));
    assert_contains(command.text, "skipped: 2 parked before");
    assert_int_equal(target_count(&target), 3);
    tool_release(&command);
    tool_run(&command, 1, ARGS("replay", "--from", path, "--to", target.url, "--include-parked"));
    assert_int_equal(target_count(&target), 5);
    tool_release(&command);
}

static void test_failures_are_tried_again_later_and_later(void **state)
{
    struct tool command;
    char id[UNFINISHED_ID_SIZE];
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    add(path, 1, "PUT", "/flaky/2/x", UNFINISHED_CLASS_IDEMPOTENT);
    add(path, 2, "PUT", "/drop/1/x", UNFINISHED_CLASS_IDEMPOTENT);
    uint64_t from_ns = clock_now_ns();
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", target.url));
    /* 500 and 1000 ms, less a quarter */
    assert_true(clock_now_ns() - from_ns > 1100 * NS_PER_MS);
    assert_contains(command.text, "2 of 2 settled, 0 parked, 0 left; 5 attempts, 3 failed");
    assert_int_equal(target_count_key(&target, made_id(id, 1)), 3);
    assert_int_equal(target_find(&target, id)->attempt, 3);
    char *done = done_of(path);
    assert_int_equal(count_lines(done, "\"failed\",", "\"not_before\":\""), 3);
    assert_int_equal(count_lines(done, "\"failed\",", "\"status\":503,"), 2);
    assert_int_equal(count_lines(done, "\"settled\",", "\"attempt\":3"), 1);
    free(done);
    tool_release(&command);
}

static void test_attempts_end_and_go_on_in_the_next_run(void **state)
{
    struct tool command;
    char id[UNFINISHED_ID_SIZE];
    const char *path = in_directory("unfinished-20260101.ndjson");
    static const char *const again[] = {"429", "408", "425", "500", "503"};
    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        char where[32];
        (void)snprintf(where, sizeof(where), "/status/%s", again[i]);
        add(path, i, "PUT", where, UNFINISHED_CLASS_IDEMPOTENT);
    }
    for (unsigned run = 1; run <= 2; run++) {
        tool_run(&command, 1,
                 ARGS("replay", "--from", path, "--to", target.url, "--max-attempts", "1"));
        assert_contains(command.text, "0 of 5 settled, 0 parked, 5 left");
        assert_contains(command.text, "to continue, run the same command again");
        tool_release(&command);
        for (unsigned i = 0; i < 5; i++) {
            assert_int_equal(outcome_of(path, i), DISPOSITION_FAILED);
            assert_int_equal(target_find(&target, made_id(id, i))->attempt, run);
        }
    }
}

static void test_target_that_is_away_costs_no_attempts(void **state)
{
    struct tool command;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    made_archive(path, 20);
    target_close(&target);
    tool_run(&command, 69,
             ARGS("replay", "--from", path, "--to", target.url, "--max-attempts", "2"));
    assert_contains(command.text, "0 of 20 settled, 0 parked, 20 left");
    assert_contains(command.text, "Couldn't connect");
    char *done = done_of(path);
    assert_string_equal(done, "");
    free(done);
    tool_release(&command);
    /* It comes back while a run waits for it. */
    tool_start(&command, ARGS("replay", "--from", path, "--to", target.url));
    (void)poll(NULL, 0, 300);
    target_start_again(&target);
    assert_int_equal(tool_wait(&command), 0);
    assert_contains(command.text, "20 of 20 settled");
    tool_release(&command);
}

static void test_rate_is_kept(void **state)
{
    struct tool command;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    made_archive(path, 11);
    uint64_t from_ns = clock_now_ns();
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", target.url, "--max-rate", "20"));
    assert_true(clock_now_ns() - from_ns >= 490 * NS_PER_MS); /* ten gaps of 50 ms */
    tool_release(&command);
}

static void test_https_target_has_to_be_vouched_for(void **state)
{
    struct tool command;
    struct process server;
    char make[512], certificate[160], key[160], url[64];
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    (void)snprintf(certificate, sizeof(certificate), "%s/cert.pem", directory);
    (void)snprintf(key, sizeof(key), "%s/key.pem", directory);
    (void)snprintf(make, sizeof(make),
                   "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 "
                   "-subj /CN=test -addext subjectAltName=IP:127.0.0.1 -keyout %s -out %s "
                   "2>/dev/null",
                   key, certificate);
    if (system(make) != 0)
        skip_test("needs openssl (apt-get install openssl)");
    process_start(&server, "tls:127.0.0.1:0",
                  ARGS("--threads", "1", "--cert", certificate, "--key", key));
    (void)snprintf(url, sizeof(url), "https://127.0.0.1:%u", server.port);
    add(path, 1, "PUT", "/hello", UNFINISHED_CLASS_IDEMPOTENT);
    tool_run(&command, 69, ARGS("replay", "--from", path, "--to", url, "--max-attempts", "1"));
    assert_contains(command.text, "peer certificate");
    assert_contains(command.text, "0 of 1 settled, 0 parked, 1 left");
    tool_release(&command);
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", url, "--cacert", certificate));
    tool_release(&command);
    process_signal(&server, SIGTERM);
    process_expect(&server, 20000, 0);
    process_release(&server);
}

static void test_target_may_be_a_unix_socket(void **state)
{
    struct tool command;
    struct process server;
    char listen[200];
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    (void)snprintf(listen, sizeof(listen), "unix:%s/s", directory);
    process_start(&server, listen, ARGS("--threads", "1"));
    add(path, 1, "PUT", "/hello", UNFINISHED_CLASS_IDEMPOTENT);
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", listen));
    assert_contains(command.text, "1 of 1 settled");
    tool_release(&command);
    process_signal(&server, SIGTERM);
    process_expect(&server, 20000, 0);
    process_release(&server);
}

/* ---- interrupted, killed, and two at once ---- */

static void test_interrupt_finishes_what_is_under_way(void **state)
{
    struct tool command;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    made_archive(path, 50);
    target_hold(&target, true);
    tool_start(&command, ARGS("replay", "--from", path, "--to", target.url, "--concurrency", "3"));
    target_wait(&target, 3);
    assert_int_equal(kill(command.pid, SIGINT), 0);
    tool_wait_text(&command, "stopping: "); /* before the answers come: else more are sent */
    target_hold(&target, false);
    assert_int_equal(tool_wait(&command), 130);
    assert_contains(command.text, "to continue, run the same command again");
    char *done = done_of(path);
    assert_int_equal(count_lines(done, "\"settled\"", ""), target_count(&target));
    free(done);
    tool_release(&command);
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", target.url));
    assert_int_equal(target_count(&target), 50); /* each once */
    tool_release(&command);
}

static void test_second_replayer_of_a_file_names_the_first(void **state)
{
    struct tool first, second;
    char holder[64];
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    made_archive(path, 10);
    target_hold(&target, true);
    tool_start(&first, ARGS("replay", "--from", path, "--to", target.url));
    target_wait(&target, 1);
    tool_run(&second, 75, ARGS("replay", "--from", path, "--to", target.url));
    (void)snprintf(holder, sizeof(holder), "is in use by process %d", first.pid);
    assert_contains(second.text, holder);
    tool_release(&second);
    /* Of a folder the other files are done. */
    add(in_directory("unfinished-20260102.ndjson"), 77, "PUT", "/b", UNFINISHED_CLASS_IDEMPOTENT);
    tool_start(&second, ARGS("replay", "--from", directory, "--to", target.url));
    target_wait(&target, 5); /* four of the first, and that one */
    target_hold(&target, false);
    assert_int_equal(tool_wait(&second), 75);
    assert_contains(second.text, "skipped: ");
    assert_contains(second.text, "1 of 1 settled");
    assert_int_equal(tool_wait(&first), 0);
    tool_release(&first);
    assert_int_equal(target_count(&target), 11);
    tool_release(&second);
}

static unsigned kills(void)
{
    const char *text = getenv("LASTCALL_RUNS");
    return 5 * (text != NULL ? (unsigned)strtoul(text, NULL, 10) : 5);
}

/* Every request arrived, and what arrived twice is known by its key. */
static void expect_all_arrived(unsigned count)
{
    size_t total = 0;
    for (unsigned i = 0; i < count; i++) {
        char id[UNFINISHED_ID_SIZE], body[32];
        const struct target_request *got = target_find(&target, made_id(id, i));
        size_t times = target_count_key(&target, id);
        if (got == NULL)
            fail_msg("request %u never arrived", i);
        (void)snprintf(body, sizeof(body), "order %u", i);
        assert_int_equal(got->body_bytes, strlen(body));
        assert_memory_equal(got->body, body, strlen(body));
        total += times;
    }
    assert_int_equal(total, target_count(&target));
}

static void test_killed_replays_settle_each_request_once(void **state)
{
    const char *path = in_directory("unfinished-20260101.ndjson");
    struct tool command;
    size_t seen = 0;
    (void)state;
    made_archive(path, 1000);
    for (unsigned i = 0; i < kills(); i++) {
        size_t last = seen + 1 + (unsigned)random() % 8;
        target_hold_from(&target, last); /* else it may finish before the signal */
        tool_start(&command, ARGS("replay", "--from", path, "--to", target.url));
        target_wait(&target, last);
        (void)kill(command.pid, SIGKILL);
        assert_int_equal(tool_wait(&command), 128 + SIGKILL);
        tool_release(&command);
        target_hold_from(&target, 0);
        seen = target_count(&target);
    }
    tool_run(&command, 0, ARGS("replay", "--from", path, "--to", target.url));
    char *done = done_of(path);
    for (unsigned i = 0; i < 1000; i++) {
        char id[UNFINISHED_ID_SIZE];
        assert_int_equal(count_lines(done, made_id(id, i), "\"settled\""), 1);
    }
    free(done);
    expect_all_arrived(1000);
    print_message("killed %u times: 1000 settled once each, %zu sent twice\n", kills(),
                  target_count(&target) - 1000);
    tool_release(&command);
}

/* ---- lastcall unfinished ---- */

static void test_unfinished_lists_counts_and_shows(void **state)
{
    struct tool command;
    const char *path = in_directory("unfinished-20260101.ndjson");
    (void)state;
    add(path, 1, "PUT", "/status/404", UNFINISHED_CLASS_IDEMPOTENT);
    add(path, 2, "PUT", "/fine\x1b[2J", UNFINISHED_CLASS_NEVER_STARTED);
    add(path, 3, "POST", "/pay", UNFINISHED_CLASS_MAY_HAVE_RUN);
    add(path, 4, "PUT", "/fine", UNFINISHED_CLASS_IDEMPOTENT);
    tool_run(&command, 1, ARGS("replay", "--from", path, "--to", target.url));
    tool_release(&command);

    tool_run(&command, 0, ARGS("unfinished", "--from", directory));
    assert_int_equal(count_lines(command.text, "parked", "/status/404"), 1);
    assert_int_equal(count_lines(command.text, "parked", "/fine?[2J"), 1); /* no cursor moves */
    assert_int_equal(count_lines(command.text, "open", "POST shop.example/pay (may-have-run"), 1);
    assert_int_equal(count_lines(command.text, "settled", "answer 200, attempt 1"), 1);
    tool_release(&command);

    tool_run(&command, 0, ARGS("unfinished", "--from", path, "--count"));
    assert_string_equal(command.text,
                        "4 requests: 1 open, 1 settled, 2 parked, 0 failed, 0 queued; to be sent: "
                        "0 never-started, 0 idempotent, 1 may-have-run\n");
    tool_release(&command);

    tool_run(&command, 0, ARGS("unfinished", "--from", path, "--show", "00000001"));
    assert_contains(command.text, "parked at 20");
    assert_contains(command.text, "answer: \"the answer.\\n\"");
    assert_contains(command.text, "\nbody\n");
    tool_release(&command);
    tool_run(&command, 1, ARGS("unfinished", "--from", path, "--show", "ffffffff"));
    tool_release(&command);

    tool_run(&command, 0, ARGS("unfinished", "--from", path, "--json"));
    json_t *first = json_loads(command.text, JSON_DISABLE_EOF_CHECK, NULL);
    assert_non_null(first);
    assert_string_equal(json_string_value(json_object_get(first, "path")), "/status/404");
    assert_int_equal(
        json_integer_value(json_object_get(json_object_get(first, "became"), "status")), 404);
    json_decref(first);
    tool_release(&command);
}

static void test_wrong_usage_is_one_line(void **state)
{
    const char *const *const wrong[] = {
        ARGS("replay"),
        ARGS("replay", "--from", "/nowhere"),
        ARGS("replay", "--from", "x", "--to", "ftp://h"),
        ARGS("replay", "--from", "x", "--to", "http://h/path"),
        ARGS("replay", "--from", "x", "--to", "http://h", "--only", "class:none"),
        ARGS("replay", "--from", "x", "--to", "http://h", "--concurrency", "0"),
        ARGS("replay", "--from", "x", "--to", "http://h", "--header", "no"),
        ARGS("replay", "--from", "redis://:s3cret@h", "--to", "http://h"),
        ARGS("replay", "--from", "rediss://:s3cret@h?stream=x&ca-file=/nowhere", "--to",
             "http://h"),
        ARGS("replay", "--from", "x", "--to", "http://h", "--claim-after", "1s"),
        ARGS("replay", "--nonsense"),
        ARGS("unfinished", "--show", "ab"),
        ARGS("unfinished", "--from", "rediss://:s3cret@h?stream=x&ca-file=/nowhere"),
    };
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct tool command;
        tool_run(&command, 64, wrong[i]);
        assert_int_equal(count_lines(command.text, "lastcall ", ""), 1);
        assert_null(strstr(command.text, "s3cret"));
        tool_release(&command);
    }
    struct tool command;
    tool_run(&command, 66, ARGS("replay", "--from", "/nowhere", "--to", "http://h"));
    assert_contains(command.text, "cannot read /nowhere: No such file or directory");
    tool_release(&command);
}

static int make_target(void **state)
{
    (void)state;
    target_start(&target);
    return 0;
}

static int clean_up(void **state)
{
    char command[160];
    (void)tool_kill_left(state);
    (void)process_kill_left(state);
    target_release(&target);
    (void)snprintf(command, sizeof(command), "rm -rf %s/*", directory);
    return system(command);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_target, clean_up)
    static const struct CMUnitTest tests[] = {
        TEST(test_requests_arrive_byte_for_byte),
        TEST(test_large_binary_body_arrives_whole),
        TEST(test_redacted_headers_are_not_sent_and_can_be_given),
        TEST(test_what_may_have_run_is_sent_only_on_request),
        TEST(test_only_chooses_by_method_path_reason_and_class),
        TEST(test_dry_run_sends_nothing_and_notes_nothing),
        TEST(test_old_requests_are_left_alone),
        TEST(test_incomplete_ones_are_parked_and_never_sent),
        TEST(test_garbage_is_named_and_passed_over),
        TEST(test_link_instead_of_the_marks_is_refused),
        TEST(test_folder_is_all_its_files),
        TEST(test_refusals_are_parked_with_their_answer),
        TEST(test_failures_are_tried_again_later_and_later),
        TEST(test_attempts_end_and_go_on_in_the_next_run),
        TEST(test_target_that_is_away_costs_no_attempts),
        TEST(test_rate_is_kept),
        TEST(test_https_target_has_to_be_vouched_for),
        TEST(test_target_may_be_a_unix_socket),
        TEST(test_interrupt_finishes_what_is_under_way),
        TEST(test_second_replayer_of_a_file_names_the_first),
        TEST(test_killed_replays_settle_each_request_once),
        TEST(test_unfinished_lists_counts_and_shows),
        TEST(test_wrong_usage_is_one_line),
    };
    (void)alarm(300);
    return cmocka_run_group_tests_name("replay", tests, make_directory_in_memory, remove_directory);
}

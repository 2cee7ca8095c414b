/* The process stands still for longer than any time-out, as with SIGSTOP, in a container that is
 * paused, or in a virtual machine that is moved. When it goes on, whom it waits for has the time
 * that was left: nothing ends that nobody could have continued. */

#include "with_upstream.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "h2_by_hand.h"

#define LIMIT_MS 20000
/* The pause is what is tested, so it takes its time, once for all tests. Seconds. */
#define TIME_OUT "10"
#define PAUSE 12
#define REPLY "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define LONG_BYTES 20000000

/* What was begun before the pause. */
static struct {
    struct fixture *f;
    int head, kept, upload, script, reader;
    int h2_preface, h2_head;
    struct h2_bytes h2_block;
} b;

static void write_script(const char *name, const char *text)
{
    FILE *file = fopen(in_directory(name), "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(in_directory(name), 0755), 0);
}

static void start(void **state)
{
    char text[2048];

    assert_int_equal(mkdir(in_directory("cgi"), 0755), 0);
    (void)snprintf(text, sizeof(text),
                   "#!/bin/sh\nuntil [ -e %s ]; do sleep 0.05; done\n"
                   "printf 'Content-Type: text/plain\\n\\nwaited'\n",
                   in_directory("gate"));
    write_script("cgi/waits", text);
    (void)snprintf(text, sizeof(text),
                   "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n"
                   "head -c %d /dev/zero\n",
                   LONG_BYTES);
    write_script("cgi/long", text);
    (void)snprintf(text, sizeof(text),
                   "user: %s\n"
                   "http1-request-timeout: " TIME_OUT "\n"
                   "http2-idle-timeout: " TIME_OUT "\n"
                   "proxy.timeout.io: " TIME_OUT "000\n"
                   "progress: {window: " TIME_OUT "s, head: " TIME_OUT "s}\n"
                   "hosts: {default: {paths: {/: {proxy.reverse.url: \"http://127.0.0.1:@/\"}, "
                   "/sleep: {handler: sleep}, /hello: {handler: hello}, "
                   "/cgi: {handler.cgi: {path: %s, timeout: " TIME_OUT "s, write-timeout: " TIME_OUT
                   "s}}}}}\n",
                   own_user_name(), in_directory("cgi"));
    assert_int_equal(fixture_start(state, text), 0);
    b.f = *state;
}

/* All but the last byte of a header block's frame. */
static void begin_h2_head(void)
{
    struct h2_bytes *block = &b.h2_block;
    static struct h2_bytes frame;

    b.h2_head = h2_connect(&b.f->front, false);
    h2_send_get(b.h2_head, 1, "/hello"); /* so that it is certain that the session has begun */
    assert_int_equal(h2_await_status(b.h2_head, 1), 200);
    h2_add_head(block, "GET", "/hello");
    h2_add_frame(&frame, H2_HEADERS, H2_END_STREAM | H2_END_HEADERS, 3, block->bytes, block->size);
    h2_send(b.h2_head, frame.bytes, frame.size - 1);
    block->bytes[0] = frame.bytes[frame.size - 1];
    block->size = 1;
    client_wait_taken(b.h2_head);
}

static int pause_process(void **state)
{
    const struct process *front;

    if (make_directory(state) != 0)
        return -1;
    start(state);
    front = &b.f->front;
    b.kept = client_connect(front);
    client_send(b.kept, GET("/hello"));
    client_expect(b.kept, "200 OK");
    b.upload = client_begin(front);
    b.script = client_connect(front);
    client_send(b.script, GET("/cgi/waits"));
    b.reader = client_connect(front);
    client_send(b.reader, "GET /cgi/long HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    b.h2_preface = client_connect(front);
    client_send(b.h2_preface, "PRI * HTTP/2.0\r\n");
    client_wait_taken(b.h2_preface);
    begin_h2_head();
    ask(b.f, ANSWER_HTTP11, false);
    take_request(b.f);
    b.head = client_connect(front);
    client_send(b.head, "GET /hello HTTP/1.1\r\n");
    client_wait_taken(b.head);

    process_signal(&b.f->front, SIGSTOP);
    (void)sleep(PAUSE);
    process_signal(&b.f->front, SIGCONT);
    return 0;
}

static void test_a_header_may_go_on(void **state)
{
    (void)state;
    client_send(b.head, "Host: test\r\n\r\n");
    client_expect(b.head, "200 OK");
    (void)close(b.head);
}

static void test_a_body_may_go_on(void **state)
{
    (void)state;
    client_end(b.upload);
}

static void test_a_kept_connection_is_kept(void **state)
{
    (void)state;
    client_send(b.kept, GET("/hello"));
    client_expect(b.kept, "200 OK");
    (void)close(b.kept);
}

static void test_an_upstream_may_still_answer(void **state)
{
    (void)state;
    assert_int_equal(send(b.f->upstream, REPLY, strlen(REPLY), MSG_NOSIGNAL), strlen(REPLY));
    expect_status(b.f, 200);
}

static void test_a_session_of_http2_may_begin(void **state)
{
    (void)state;
    client_send(b.h2_preface, "\r\nSM\r\n\r\n");
    h2_send_frame(b.h2_preface, H2_SETTINGS, 0, 0, NULL, 0);
    h2_send_get(b.h2_preface, 1, "/hello");
    assert_int_equal(h2_await_status(b.h2_preface, 1), 200);
    (void)close(b.h2_preface);
}

static void test_a_header_of_http2_may_go_on(void **state)
{
    (void)state;
    h2_send(b.h2_head, b.h2_block.bytes, 1);
    assert_int_equal(h2_await_status(b.h2_head, 3), 200);
    (void)close(b.h2_head);
}

static void test_a_script_may_still_answer(void **state)
{
    FILE *gate = fopen(in_directory("gate"), "w");

    (void)state;
    assert_non_null(gate);
    (void)fclose(gate);
    client_expect(b.script, "waited");
    (void)close(b.script);
}

static void test_a_client_may_still_read(void **state)
{
    static char bytes[65536];
    size_t count = 0;
    ssize_t n;

    (void)state;
    while ((n = client_recv(b.reader, bytes, sizeof(bytes), 0)) > 0)
        count += (size_t)n;
    assert_int_equal(n, 0);
    assert_true(count > LONG_BYTES);
    (void)close(b.reader);
}

static int end(void **state)
{
    *state = b.f;
    if (fixture_tear_down(state) != 0)
        return -1;
    return remove_directory(state);
}

int main(void)
{
    /* In an order in which the quick ones come first: no more than the time-out may pass. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_header_may_go_on),
        cmocka_unit_test(test_a_body_may_go_on),
        cmocka_unit_test(test_a_kept_connection_is_kept),
        cmocka_unit_test(test_an_upstream_may_still_answer),
        cmocka_unit_test(test_a_session_of_http2_may_begin),
        cmocka_unit_test(test_a_header_of_http2_may_go_on),
        cmocka_unit_test(test_a_script_may_still_answer),
        cmocka_unit_test(test_a_client_may_still_read),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("paused", tests, pause_process, end);
}

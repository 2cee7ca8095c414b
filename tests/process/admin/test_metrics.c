/* /metrics of the real process: its counts agree with those of the clients, to the last one. */

#include "admin_client.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "certificate.h"
#include "directory.h"
#include "expect.h"
#include "loadgen.h"
#include "skip.h"

#define LIMIT_MS 30000
#define ARGS(...) ((const char *const[]){"--threads", "2", "--admin", address, __VA_ARGS__, NULL})

static char address[128];

static char *metrics_of(const struct process *admin)
{
    char *answer = admin_call(admin, "GET", "/metrics", "", NULL);
    assert_contains(answer, "HTTP/1.1 200 ");
    char *text = strdup(strstr(answer, "\r\n\r\n") + 4);
    free(answer);
    return text;
}

/* The value of the one line that begins with `name`, labels and all. */
static double value_in(const char *text, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = text; line != NULL && *line != '\0';) {
        if (strncmp(line, name, n) == 0 && line[n] == ' ')
            return strtod(line + n + 1, NULL);
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    fail_msg("no %s in:\n%s", name, text);
    return -1;
}

static double value_of(const struct process *admin, const char *name)
{
    char *text = metrics_of(admin);
    double value = value_in(text, name);
    free(text);
    return value;
}

/* The server counts an answer a moment after its last byte. */
static void wait_for(const struct process *admin, const char *name, double want)
{
    uint64_t until_ns = now_ns() + 15000 * NS_PER_MS;
    double value;

    while ((value = value_of(admin, name)) != want)
        if (now_ns() > until_ns)
            fail_msg("%s is %g, not %g", name, value, want);
}

static void wait_until_quiet(const struct process *admin)
{
    wait_for(admin, "lastcall_requests_in_flight", 0);
    wait_for(admin, "lastcall_connections{state=\"active\"}", 0);
    wait_for(admin, "lastcall_connections{state=\"idle\"}", 0);
    wait_for(admin, "lastcall_connections{state=\"lingering\"}", 0);
}

static void run(const struct process *p, struct load_options load, struct load_result *result)
{
    load.address = load.tls ? strchr(p->address, ':') + 1 : p->address;
    load.connections = load.connections > 0 ? load.connections : 8;
    load.duration_ms = load.duration_ms > 0 ? load.duration_ms : 20000;
    load.patience_ms = 20000;
    assert_int_equal(load_run(&load, result), 0);
    assert_int_equal(result->lost + result->waiting + result->refused, 0);
}

/* ---- agreement ---- */

static void test_requests_and_connections_agree_with_the_client(void **state)
{
    static const enum load_protocol protocols[] = {LOAD_HTTP1_CLOSE, LOAD_HTTP1_KEEPALIVE,
                                                   LOAD_HTTP2};
    struct process p, admin;
    struct load_result result;
    uint64_t answered = 0, connects = 0;
    (void)state;
    process_start(&p, NULL, ARGS("--workers", "4"));
    admin = admin_of(&p);
    for (size_t i = 0; i < 3; i++) {
        /* New connections come one at a time: of several, some would be there at the end without a
         * request for them, accepted by us and not counted by the client. */
        run(&p,
            (struct load_options){.protocol = protocols[i],
                                  .connections = protocols[i] == LOAD_HTTP1_CLOSE ? 1 : 8,
                                  .streams = 5,
                                  .max_requests = 2000},
            &result);
        answered += result.answered_2xx;
        connects += result.connects;
    }
    wait_until_quiet(&admin);
    char *text = metrics_of(&admin);
    assert_true(answered >= 6000);
    assert_int_equal(
        (uint64_t)value_in(text, "lastcall_requests_total{route=\"inline\",status=\"2xx\"}"),
        answered);
    assert_int_equal(
        (uint64_t)value_in(text, "lastcall_request_duration_seconds_count{route=\"inline\"}"),
        answered);
    assert_int_equal(
        (uint64_t)value_in(
            text, "lastcall_request_duration_seconds_bucket{route=\"inline\",le=\"+Inf\"}"),
        answered);
    assert_int_equal((uint64_t)value_in(text, "lastcall_connections_accepted_total"), connects);
    assert_int_equal((uint64_t)value_in(text, "lastcall_pool_jobs_total"), 0);
    assert_int_equal((uint64_t)value_in(text, "lastcall_requests_shed_total"), 0);
    free(text);
    json_t *status = admin_status(&admin);
    assert_int_equal((uint64_t)admin_number(status, "requests.answered"), answered);
    json_decref(status);
    process_release(&p);
}

static void test_what_is_shed_agrees_with_the_client(void **state)
{
    struct process p, admin;
    struct load_result result;
    (void)state;
    process_start(&p, NULL, ARGS("--workers", "1", "--queue", "1"));
    admin = admin_of(&p);
    run(&p,
        (struct load_options){.protocol = LOAD_HTTP1_KEEPALIVE,
                              .path = "/sleep?ms=5",
                              .body_bytes = 100,
                              .max_requests = 400},
        &result);
    wait_until_quiet(&admin);
    char *text = metrics_of(&admin);
    assert_true(result.answered_503 > 0 && result.answered_2xx > 0);
    assert_int_equal((uint64_t)value_in(text, "lastcall_requests_shed_total"), result.answered_503);
    assert_int_equal((uint64_t)value_in(text, "lastcall_pool_refused_total"), result.answered_503);
    assert_int_equal(
        (uint64_t)value_in(text, "lastcall_requests_total{route=\"pool\",status=\"5xx\"}"),
        result.answered_503);
    assert_int_equal(
        (uint64_t)value_in(text, "lastcall_requests_total{route=\"pool\",status=\"2xx\"}"),
        result.answered_2xx);
    assert_int_equal((uint64_t)value_in(text, "lastcall_pool_jobs_total"), result.answered_2xx);
    assert_int_equal((uint64_t)value_in(text, "lastcall_pool_wait_seconds_count"),
                     result.answered_2xx);
    assert_int_equal((uint64_t)value_in(text, "lastcall_request_body_bytes"), 0);
    free(text);
    process_release(&p);
}

static void test_kinds_of_route_are_told_apart(void **state)
{
    struct process upstream, p, admin;
    struct load_result result;
    FILE *file = fopen(in_directory("page.txt"), "w");
    char url[ADDRESS_SIZE + 16];
    (void)state;
    assert_non_null(file);
    (void)fputs("a page\n", file);
    (void)fclose(file);
    process_start(&upstream, NULL, (const char *const[]){"--admin", "off", NULL});
    (void)snprintf(url, sizeof(url), "http://%s/", upstream.address);
    process_start(&p, NULL, ARGS("--root", directory, "--proxy", url));
    admin = admin_of(&p);
    run(&p,
        (struct load_options){
            .protocol = LOAD_HTTP1_KEEPALIVE, .path = "/files/page.txt", .max_requests = 300},
        &result);
    uint64_t files = result.answered_2xx;
    run(&p,
        (struct load_options){
            .protocol = LOAD_HTTP1_KEEPALIVE, .path = "/hello", .max_requests = 200},
        &result);
    uint64_t proxied = result.answered_2xx;
    assert_answer(&p, GET("/files/none"), " 404 ");
    assert_answer(&p, GET("/sleep?ms=x"), " 400 ");
    wait_until_quiet(&admin);
    char *text = metrics_of(&admin);
    assert_int_equal(
        (uint64_t)value_in(text, "lastcall_requests_total{route=\"file\",status=\"2xx\"}"), files);
    assert_int_equal(
        (uint64_t)value_in(text, "lastcall_requests_total{route=\"file\",status=\"4xx\"}"), 1);
    assert_int_equal(
        (uint64_t)value_in(text, "lastcall_requests_total{route=\"proxy\",status=\"2xx\"}"),
        proxied);
    assert_int_equal(
        (uint64_t)value_in(text, "lastcall_requests_total{route=\"proxy\",status=\"4xx\"}"), 1);
    free(text);
    (void)unlink(in_directory("page.txt"));
    process_release(&p);
    process_release(&upstream);
}

static void test_handshakes_agree_with_the_client(void **state)
{
    const char *certificate = in_directory("cert"), *key = in_directory("key");
    struct process p, admin;
    struct load_result result;
    (void)state;
    certificate_write(key, certificate);
    process_start(&p, "tls:127.0.0.1:0", ARGS("--cert", certificate, "--key", key));
    admin = admin_of(&p);
    /* One at a time: of several, some would be left in the middle of a handshake at the end. */
    run(&p,
        (struct load_options){
            .protocol = LOAD_HTTP1_CLOSE, .tls = true, .max_requests = 50, .connections = 1},
        &result);
    struct process plain = p;
    (void)snprintf(plain.address, sizeof(plain.address), "%s", strchr(p.address, ':') + 1);
    int fd = client_connect(&plain); /* connects and closes: no handshake */
    (void)close(fd);
    fd = client_connect(&plain);
    client_send(fd, GET("/hello"));
    char *answer = client_read_until(fd, NULL);
    free(answer);
    (void)close(fd);
    wait_for(&admin, "lastcall_connections_accepted_total", (double)result.connects + 2);
    wait_until_quiet(&admin);
    assert_int_equal((uint64_t)value_of(&admin, "lastcall_tls_handshakes_total{result=\"ok\"}"),
                     result.connects);
    assert_int_equal((uint64_t)value_of(&admin, "lastcall_tls_handshakes_total{result=\"failed\"}"),
                     1);
    (void)unlink(certificate);
    (void)unlink(key);
    process_release(&p);
}

/* ---- what goes wrong ---- */

static void test_what_is_under_way_is_shown(void **state)
{
    struct process p, admin;
    (void)state;
    process_start(&p, NULL, ARGS("--workers", "4"));
    admin = admin_of(&p);
    int fd = client_connect(&p), idle = client_connect(&p);
    client_send(fd, "POST /sleep?ms=60000 HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello");
    wait_for(&admin, "lastcall_pool_workers_busy", 1);
    wait_for(&admin, "lastcall_connections{state=\"active\"}", 1);
    wait_for(&admin, "lastcall_connections{state=\"idle\"}", 1);
    assert_int_equal((int)value_of(&admin, "lastcall_requests_in_flight"), 1);
    assert_int_equal((int)value_of(&admin, "lastcall_request_body_bytes"), 5);
    (void)close(fd);
    (void)close(idle);
    wait_until_quiet(&admin);
    wait_for(&admin, "lastcall_request_body_bytes", 0);
    process_release(&p);
}

static void test_answers_that_the_client_leaves_are_aborted(void **state)
{
    struct process p, admin;
    (void)state;
    process_start(&p, NULL, ARGS("--workers", "4"));
    admin = admin_of(&p);
    int fd = client_connect(&p);
    client_send(fd, GET("/stream?kb=1000&ms=60000"));
    char *begun = client_read_until(fd, "\r\n\r\n");
    free(begun);
    (void)close(fd);
    wait_until_quiet(&admin);
    char *text = metrics_of(&admin);
    assert_int_equal((int)value_in(text, "lastcall_requests_aborted_total{route=\"inline\"}"), 1);
    assert_int_equal(
        (int)value_in(text, "lastcall_requests_total{route=\"inline\",status=\"2xx\"}"), 0);
    assert_int_equal(
        (int)value_in(text, "lastcall_request_duration_seconds_count{route=\"inline\"}"), 0);
    free(text);
    process_release(&p);
}

static void test_errors_before_any_handler_are_counted_too(void **state)
{
    struct process p, admin;
    (void)state;
    process_start(&p, NULL, ARGS("--workers", "4"));
    admin = admin_of(&p);
    assert_answer(&p, "POST /sleep HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999999\r\n\r\n",
                  " 413 ");
    wait_for(&admin, "lastcall_requests_total{route=\"other\",status=\"4xx\"}", 1);
    process_release(&p);
}

static void test_streams_that_the_client_resets_are_counted(void **state)
{
    /* HTTP/2: the preface, SETTINGS, HEADERS of GET /sleep?ms=60000, RST_STREAM(CANCEL). */
    static const char bytes[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                "\0\0\0\4\0\0\0\0\0"
                                "\0\0\x16\1\5\0\0\0\1"
                                "\x82\x86\x41\1t\x04\x0f/sleep?ms=60000"
                                "\0\0\4\3\0\0\0\0\1\0\0\0\x08";
    struct process p, admin;
    char head[sizeof(bytes)];
    (void)state;
    process_start(&p, NULL, ARGS("--workers", "4"));
    admin = admin_of(&p);
    memcpy(head, bytes, sizeof(bytes));
    int fd = client_connect(&p);
    size_t reset = 13, whole = sizeof(bytes) - 1;
    assert_int_equal(send(fd, head, whole - reset, MSG_NOSIGNAL), (ssize_t)(whole - reset));
    wait_for(&admin, "lastcall_requests_in_flight", 1);
    assert_int_equal(send(fd, head + whole - reset, reset, MSG_NOSIGNAL), (ssize_t)reset);
    wait_for(&admin, "lastcall_requests_in_flight", 0);
    assert_int_equal((int)value_of(&admin, "lastcall_http2_resets_total"), 1);
    (void)close(fd);
    process_release(&p);
}

/* ---- times ---- */

static void test_durations_are_no_shorter_than_they_were(void **state)
{
    static const char name[] = "lastcall_request_duration_seconds";
    struct process p, admin;
    char key[128];
    double before = 0;
    (void)state;
    process_start(&p, NULL, ARGS("--workers", "1"));
    admin = admin_of(&p);
    int fds[2];
    for (unsigned i = 0; i < 2; i++) { /* the second waits for the first */
        fds[i] = client_connect(&p);
        client_send(fds[i], GET("/sleep?ms=300"));
    }
    for (unsigned i = 0; i < 2; i++) {
        client_expect(fds[i], " 200 OK");
        (void)close(fds[i]);
    }
    wait_until_quiet(&admin);
    char *text = metrics_of(&admin);
    (void)snprintf(key, sizeof(key), "%s_bucket{route=\"pool\",le=\"0.256\"}", name);
    assert_int_equal((int)value_in(text, key), 0);
    assert_true(value_in(text, "lastcall_request_duration_seconds_sum{route=\"pool\"}") > 0.59);
    for (unsigned ms = 1; ms <= 65536; ms *= 2) {
        (void)snprintf(key, sizeof(key), "%s_bucket{route=\"pool\",le=\"%g\"}", name, ms / 1e3);
        double value = value_in(text, key);
        assert_true(value >= before);
        before = value;
    }
    assert_int_equal((int)value_in(text, "lastcall_pool_wait_seconds_count"), 2);
    assert_true(value_in(text, "lastcall_pool_wait_seconds_sum") > 0);
    free(text);
    process_release(&p);
}

static void test_drain_shows_its_phase_and_how_long_each_took(void **state)
{
    struct process p, admin;
    (void)state;
    process_start(&p, NULL, ARGS("--lame-duck", "200ms", "--deadline", "60s"));
    admin = admin_of(&p);
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=60000"));
    wait_for(&admin, "lastcall_pool_workers_busy", 1);
    assert_int_equal((int)value_of(&admin, "lastcall_drain_phase{phase=\"running\"}"), 1);
    admin_order(&admin, "/drain", "{}", 202, "true");
    wait_for(&admin, "lastcall_drain_phase{phase=\"draining\"}", 1);
    char *text = metrics_of(&admin);
    static const char *const others[] = {"running", "lame-duck", "closing", "aborting", "done"};
    for (size_t i = 0; i < 5; i++) {
        char key[64];
        (void)snprintf(key, sizeof(key), "lastcall_drain_phase{phase=\"%s\"}", others[i]);
        assert_int_equal((int)value_in(text, key), 0);
    }
    assert_true(value_in(text, "lastcall_drain_phase_duration_seconds{phase=\"lame-duck\"}") >=
                0.2);
    assert_true(value_in(text, "lastcall_drain_phase_duration_seconds{phase=\"closing\"}") > 0);
    assert_true(value_in(text, "lastcall_drain_phase_duration_seconds{phase=\"draining\"}") > 0);
    assert_true(value_in(text, "lastcall_drain_phase_duration_seconds{phase=\"aborting\"}") == 0);
    assert_int_equal((int)value_in(text, "lastcall_listeners"), 0);
    assert_int_equal((int)value_in(text, "lastcall_requests_in_flight"), 1);
    free(text);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_process_is_described(void **state)
{
    struct process p, admin;
    (void)state;
    time_t before = time(NULL);
    process_start(&p, NULL, ARGS("--workers", "3", "--queue", "9", "--max-connections", "50"));
    admin = admin_of(&p);
    char *text = metrics_of(&admin);
    double started = value_in(text, "process_start_time_seconds");
    assert_true(started >= (double)before && started <= (double)time(NULL));
    assert_contains(text, "lastcall_build_info{version=\"" LASTCALL_VERSION "\",");
    assert_int_equal((int)value_in(text, "lastcall_event_loops"), 2);
    assert_int_equal((int)value_in(text, "lastcall_pool_workers"), 3);
    assert_int_equal((int)value_in(text, "lastcall_pool_queue_limit"), 9);
    assert_int_equal((int)value_in(text, "lastcall_connections_limit"), 50);
    assert_int_equal((int)value_in(text, "lastcall_listeners"), 1);
    assert_int_equal((int)value_in(text, "lastcall_stalls_total"), 0);
    assert_true(value_in(text, "process_max_fds") > 0);
    free(text);
    process_release(&p);
}

static void test_promtool_finds_nothing_to_say(void **state)
{
    struct process p, admin;
    const char *file = in_directory("metrics");
    char command[256];
    (void)state;
    if (system("command -v promtool >/dev/null 2>&1") != 0)
        skip_test("needs promtool (apt-get install prometheus)");
    process_start(&p, NULL, ARGS("--workers", "4"));
    admin = admin_of(&p);
    assert_answer(&p, GET("/hello"), " 200 ");
    char *text = metrics_of(&admin);
    FILE *out = fopen(file, "w");
    assert_non_null(out);
    (void)fputs(text, out);
    (void)fclose(out);
    (void)snprintf(command, sizeof(command), "promtool check metrics < %s", file);
    assert_int_equal(system(command), 0);
    (void)unlink(file);
    free(text);
    process_release(&p);
}

static int set_up(void **state)
{
    if (make_directory(state) != 0)
        return -1;
    (void)snprintf(address, sizeof(address), "unix:%s/admin.sock", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)unlink(address + 5);
    return rmdir(directory);
}

#define claim(f) cmocka_unit_test_teardown(f, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_requests_and_connections_agree_with_the_client),
        claim(test_what_is_shed_agrees_with_the_client),
        claim(test_kinds_of_route_are_told_apart),
        claim(test_handshakes_agree_with_the_client),
        claim(test_what_is_under_way_is_shown),
        claim(test_answers_that_the_client_leaves_are_aborted),
        claim(test_errors_before_any_handler_are_counted_too),
        claim(test_streams_that_the_client_resets_are_counted),
        claim(test_durations_are_no_shorter_than_they_were),
        claim(test_drain_shows_its_phase_and_how_long_each_took),
        claim(test_process_is_described),
        claim(test_promtool_finds_nothing_to_say),
    };
    return cmocka_run_group_tests_name("metrics", tests, set_up, tear_down);
}

/* Drains of the real process that no signal starts: a file that appears, a heartbeat that stops, a
 * pipe whose other side closes; and the messages to its service manager. */

#include "process.h"

#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
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

#include "as_manager.h"
#include "directory.h"
#include "expect.h"

#define LIMIT_MS 20000
#define ARGS(...) ((const char *const[]){"--threads", "1", __VA_ARGS__, NULL})

static void touch(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(futimens(fd, NULL), 0);
    (void)close(fd);
}

/* ---- when-exists ---- */

/* A request that is in flight when the file appears is answered. */
static void test_file_that_appears_drains(void **state)
{
    struct process p;
    const char *file = in_directory("go");
    (void)state;
    process_start(&p, NULL, ARGS("--when-exists", file));
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=300"));
    for (unsigned i = 0; i < 3; i++)
        assert_serves(&p);
    touch(file);
    process_wait_log(&p, "when-exists: ");
    assert_contains(p.log, file);
    client_expect(fd, " 200 OK");
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    (void)unlink(file);
    process_release(&p);
}

static void test_path_in_a_folder_that_is_not_there_yet(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--when-exists", in_directory("a/b/c")));
    assert_serves(&p);
    assert_int_equal(mkdir(in_directory("a"), 0755), 0);
    assert_serves(&p);
    assert_int_equal(mkdir(in_directory("a/b"), 0755), 0);
    /* The folder goes, and comes again under the same name. */
    assert_int_equal(rmdir(in_directory("a/b")), 0);
    assert_int_equal(mkdir(in_directory("a/b"), 0755), 0);
    assert_serves(&p);
    assert_int_equal(mkdir(in_directory("a/b/c"), 0755), 0); /* a directory will do */
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "when-exists: ");
    (void)rmdir(in_directory("a/b/c"));
    (void)rmdir(in_directory("a/b"));
    (void)rmdir(in_directory("a"));
    process_release(&p);
}

/* As a mounted ConfigMap changes: the folder that holds the file is a link, and that is replaced.
 */
static void test_file_that_comes_with_a_replaced_link(void **state)
{
    struct process p;
    (void)state;
    assert_int_equal(mkdir(in_directory("map"), 0755), 0);
    assert_int_equal(mkdir(in_directory("map/one"), 0755), 0);
    assert_int_equal(mkdir(in_directory("map/two"), 0755), 0);
    touch(in_directory("map/two/drain"));
    assert_int_equal(symlink("one", in_directory("map/data")), 0);
    assert_int_equal(symlink("data/drain", in_directory("map/drain")), 0);
    process_start(&p, NULL, ARGS("--when-exists", in_directory("map/drain")));
    assert_serves(&p);
    assert_int_equal(symlink("two", in_directory("map/new")), 0);
    assert_int_equal(rename(in_directory("map/new"), in_directory("map/data")), 0);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "when-exists: ");
    process_release(&p);
}

static void test_file_that_is_there_already_drains_at_once(void **state)
{
    struct process p;
    const char *file = in_directory("there");
    (void)state;
    touch(file);
    process_start(&p, NULL, ARGS("--when-exists", file));
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "when-exists: ");
    (void)unlink(file);
    process_release(&p);
}

/* ---- when-stale ---- */

static bool drains_when_it_stops(void *arg)
{
    struct process p;
    const char *beat = in_directory("beat");
    bool in_time = true;
    (void)arg;
    touch(beat);
    uint64_t begun_ns = now_ns(), last_ns = begun_ns;
    process_start(&p, NULL, ARGS("--when-stale", beat, "--stale-after", "2s"));
    /* As long as it beats, whatever time it claims: a clock may be set. */
    for (int i = 0; in_time && last_ns - begun_ns < 2300 * NS_PER_MS; i++) {
        const struct timespec times[2] = {{.tv_sec = 1000 + i}, {.tv_sec = 1000000000 - i}};
        uint64_t before_ns = last_ns;
        last_ns = now_ns(); /* before the beat, which may come late */
        assert_int_equal(utimensat(AT_FDCWD, beat, times, 0), 0);
        in_time = is_in_time(before_ns, 1700);
        (void)poll(NULL, 0, 20);
    }
    bool gone = process_is_gone(&p);
    in_time = in_time && is_in_time(last_ns, 1700);
    if (in_time) {
        assert_false(gone);
        process_expect(&p, LIMIT_MS, 0);
        assert_contains(p.log, "when-stale: ");
        assert_true(p.exited_ns - last_ns > 1700 * NS_PER_MS); /* not before its time */
    }
    process_release(&p);
    return in_time;
}

static void test_heartbeat_that_stops_drains(void **state)
{
    (void)state;
    repeat_until_in_time(drains_when_it_stops, NULL);
}

/* It is waited for; once it has been seen, its absence is no life. */
static void test_heartbeat_that_is_not_there_yet_and_vanishes(void **state)
{
    struct process p;
    const char *beat = in_directory("late");
    (void)state;
    process_start(&p, NULL, ARGS("--when-stale", beat, "--stale-after", "200ms"));
    (void)poll(NULL, 0, 500); /* more than that */
    assert_serves(&p);
    for (unsigned i = 0; i < 20 && !process_is_gone(&p); i++) { /* until a look has seen it */
        touch(beat);
        (void)poll(NULL, 0, 100);
        assert_int_equal(unlink(beat), 0);
        (void)poll(NULL, 0, 500);
    }
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "when-stale: ");
    process_release(&p);
}

/* ---- when-closed ---- */

static void test_pipe_that_closes_drains(void **state)
{
    struct process p;
    char number[16];
    int ends[2];
    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(fcntl(ends[0], F_SETFD, 0), 0);
    (void)snprintf(number, sizeof(number), "%d", ends[0]);
    process_start(&p, NULL, ARGS("--when-closed", number));
    (void)close(ends[0]);
    assert_int_equal(write(ends[1], "still here", 10), 10);
    assert_serves(&p);
    (void)close(ends[1]);
    process_expect(&p, LIMIT_MS, 0);
    assert_contains(p.log, "when-closed: descriptor ");
    process_release(&p);
}

static void test_descriptor_that_is_not_open_is_refused(void **state)
{
    struct process p;
    (void)state;
    process_spawn(&p, ARGS("--when-closed", "77"));
    process_expect(&p, LIMIT_MS, 64);
    assert_contains(p.log, "--when-closed 77: want the number of an open descriptor");
    process_release(&p);
}

/* ---- several ---- */

static void test_first_trigger_wins_and_the_others_are_noted(void **state)
{
    struct process p;
    json_error_t error;
    const char *file = in_directory("both"), *report = in_directory("report.json");
    (void)state;
    process_start(&p, NULL, ARGS("--when-exists", file, "--report", report));
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=60000"));
    for (unsigned i = 0; i < 3; i++)
        assert_serves(&p);
    touch(file);
    process_wait_log(&p, "when-exists: ");
    /* The first joins the drain that the file began. Two of one kind could become one on the way;
     * of two kinds the lower is taken first. */
    process_signal(&p, SIGINT);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 4);
    json_t *root = json_load_file(report, 0, &error);
    assert_non_null(root);
    json_t *triggers = json_object_get(root, "triggers");
    assert_int_equal(json_array_size(triggers), 3);
    assert_string_equal(json_string_value(json_object_get(json_array_get(triggers, 0), "name")),
                        "when-exists");
    assert_string_equal(json_string_value(json_object_get(json_array_get(triggers, 1), "name")),
                        "SIGINT");
    json_decref(root);
    (void)close(fd);
    (void)unlink(file);
    process_release(&p);
}

/* ---- messages to the service manager ---- */

static void expect_told(int fd, const char *want, const char *never)
{
    char text[1024];
    ssize_t n = client_recv(fd, text, sizeof(text) - 1, 0);

    if (n <= 0)
        fail_msg("the manager got no message instead of %s", want);
    text[n] = '\0';
    assert_contains(text, want);
    if (strstr(text, never) != NULL)
        fail_msg("`%s` too early: %s", never, text);
}

static void test_manager_is_told_in_order(void **state)
{
    struct process p;
    char text[1024];
    ssize_t n, last = 0;
    (void)state;
    int manager = listen_as_manager(in_directory("notify"));
    process_start(&p, NULL, ARGS("--lame-duck", "300ms"));
    (void)unsetenv("NOTIFY_SOCKET");
    expect_told(manager, "READY=1", "STOPPING");
    process_signal(&p, SIGTERM);
    expect_told(manager, "STATUS=lame duck for 300ms", "STOPPING"); /* it may be called off */
    expect_told(manager, "STOPPING=1", "EXTEND");
    process_expect(&p, LIMIT_MS, 0);
    while ((n = recv(manager, text, sizeof(text) - 1, MSG_DONTWAIT)) > 0)
        last = n;
    text[last] = '\0';
    assert_contains(text, "STATUS=drained, exit status 0");
    (void)close(manager);
    process_release(&p);
}

/* One request of two ends; the other never does, and gets no more time for that. */
static void test_more_time_is_requested_only_while_requests_finish(void **state)
{
    struct process p;
    char text[1024];
    unsigned told = 0, extended = 0;
    ssize_t n;
    (void)state;
    int manager = listen_as_manager(in_directory("notify"));
    process_start(&p, NULL, ARGS("--deadline", "3500ms"));
    (void)unsetenv("NOTIFY_SOCKET");
    int ends = client_begin(&p), never = client_connect(&p);
    client_send(never, GET("/sleep?ms=60000"));
    for (unsigned i = 0; i < 3; i++) { /* they are over, and counted, when they are closed */
        int over = client_connect(&p);
        client_send(over, "GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        char *answer = client_read_until(over, NULL);
        assert_contains(answer, " 200 OK");
        free(answer);
        (void)close(over);
    }
    process_signal(&p, SIGTERM);
    for (int flags = 0; (n = recv(manager, text, sizeof(text) - 1, flags)) > 0;) {
        text[n] = '\0';
        told += strstr(text, "STATUS=draining: ") != NULL;
        extended += strstr(text, "EXTEND_TIMEOUT_USEC=") != NULL;
        if (told == 0 || flags != 0)
            continue;
        client_end(ends); /* the drain has begun */
        process_expect(&p, LIMIT_MS, 3);
        flags = MSG_DONTWAIT;
    }
    assert_true(told >= 2);
    assert_int_equal(extended, 1);
    (void)close(never);
    (void)close(manager);
    process_release(&p);
}

/* ---- what a balancer, and logrotate, ask ---- */

static const char *write_conf(const char *text)
{
    const char *path = in_directory("operate.conf");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file,
                  "listen: {host: 127.0.0.1, port: 0}\nnum-threads: 1\nuser: %s\n%s"
                  "hosts:\n  default:\n    paths:\n      /ready: {handler: ready}\n"
                  "      /live: {handler: live}\n      /hello: {handler: hello}\n",
                  own_user_name(), text);
    (void)fclose(file);
    return path;
}

/* Not ready, and still there: balancers notice before a connection is refused. */
static void test_readiness_goes_before_the_listeners(void **state)
{
    struct process p;
    (void)state;
    const char *conf = write_conf("drain: {lame-duck: 1s}\n");
    process_start_configured(&p, (const char *const[]){"-c", conf, NULL});
    assert_answer(&p, GET("/ready"), "HTTP/1.1 200 ");
    assert_answer(&p, GET("/live"), "HTTP/1.1 200 ");
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "lame duck for 1s");
    assert_answer(&p, GET("/ready"), "HTTP/1.1 503 ");
    assert_answer(&p, GET("/live"), "HTTP/1.1 200 ");
    assert_answer(&p, GET("/hello"), "HTTP/1.1 200 ");
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static char *read_file(const char *path)
{
    char *text = calloc(1, 65536);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_non_null(text);
    assert_true(fd >= 0);
    assert_true(read(fd, text, 65535) >= 0);
    (void)close(fd);
    return text;
}

static void test_logs_are_opened_again(void **state)
{
    struct process p;
    char logs[512];
    (void)state;
    (void)snprintf(logs, sizeof(logs), "access-log: %s\n", in_directory("access.log"));
    const char *conf = write_conf(logs);
    process_start_configured(&p, (const char *const[]){"-c", conf, NULL});
    assert_answer(&p, GET("/hello?one"), "HTTP/1.1 200 ");
    assert_int_equal(rename(in_directory("access.log"), in_directory("access.log.1")), 0);
    int fd = client_connect(&p);
    client_send(fd, GET("/hello?two") GET("/hello?behind")); /* to the one that was moved away */
    for (unsigned i = 0; i < 2; i++) /* a request is logged before the next one is read */
        free(client_read_answer(fd));
    (void)close(fd);
    process_signal(&p, SIGUSR1);
    process_wait_log(&p, "opened 1 log file again");
    assert_answer(&p, GET("/hello?three"), "HTTP/1.1 200 ");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    char *before = read_file(in_directory("access.log.1")),
         *after = read_file(in_directory("access.log"));
    assert_contains(before, "/hello?one");
    assert_contains(before, "/hello?two");
    assert_contains(after, "/hello?three");
    assert_null(strstr(after, "/hello?two"));
    free(before);
    free(after);
    process_release(&p);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    static const struct CMUnitTest tests[] = {
        TEST(test_file_that_appears_drains),
        TEST(test_path_in_a_folder_that_is_not_there_yet),
        TEST(test_file_that_comes_with_a_replaced_link),
        TEST(test_file_that_is_there_already_drains_at_once),
        TEST(test_heartbeat_that_stops_drains),
        TEST(test_heartbeat_that_is_not_there_yet_and_vanishes),
        TEST(test_pipe_that_closes_drains),
        TEST(test_descriptor_that_is_not_open_is_refused),
        TEST(test_first_trigger_wins_and_the_others_are_noted),
        TEST(test_manager_is_told_in_order),
        TEST(test_more_time_is_requested_only_while_requests_finish),
        TEST(test_readiness_goes_before_the_listeners),
        TEST(test_logs_are_opened_again),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("triggers", tests, make_directory, remove_directory);
}

/* The real process with a configuration file: what the directives of h2o's main program and our own
 * do. */

#include "with_config.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "skip.h"

/* ---- listen ---- */

static void test_listen_takes_a_port_or_a_mapping(void **state)
{
    struct process p;
    (void)state;
    start(&p, "listen: 0\n" HELLO);
    assert_non_null(strstr(p.address, "0.0.0.0:"));
    assert_answer(&p, GET("/"), "Hello World");
    process_release(&p);
    start(&p, "listen: {port: 0, host: 127.0.0.1, type: tcp}\nlisten: {port: 0, host: '::1'}\n"
              "listen: {port: @/l.sock, type: unix}\n" HELLO);
    struct process v4 = listener(&p, 0), v6 = listener(&p, 1), local = listener(&p, 2);
    assert_int_equal(strncmp(v4.address, "127.0.0.1:", 10), 0);
    assert_int_equal(strncmp(v6.address, "[::1]:", 6), 0);
    assert_string_equal(local.address, expanded("unix:@/l.sock"));
    assert_answer(&v4, GET("/"), "Hello World");
    assert_answer(&v6, GET("/"), "Hello World");
    assert_answer(&local, GET("/"), "Hello World");
    stop(&p);
    assert_false(is_there("l.sock"));
    process_release(&p);
}

static void test_unix_socket_has_the_owner_and_mode_that_are_given(void **state)
{
    struct process p;
    struct stat st;
    const struct passwd *nobody = getpwnam("nobody");
    bool root = geteuid() == 0 && nobody != NULL;
    char text[256];
    (void)state;
    (void)snprintf(text, sizeof(text),
                   "listen: {port: @/m.sock, type: unix, permission: 640%s}\n" HELLO,
                   root ? ", owner: nobody" : "");
    start(&p, text);
    assert_int_equal(lstat(in_directory("m.sock"), &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0640);
    if (root) {
        assert_int_equal(st.st_uid, nobody->pw_uid);
        assert_int_equal(st.st_gid, nobody->pw_gid); /* the default */
    }
    assert_answer(&p, GET("/"), "Hello World");
    process_release(&p);
    if (!root)
        return;
    start(&p, "listen: {port: @/m.sock, type: unix, owner: nobody, group: root}\n" HELLO);
    assert_int_equal(lstat(in_directory("m.sock"), &st), 0);
    assert_int_equal(st.st_uid, nobody->pw_uid);
    assert_int_equal(st.st_gid, 0);
    process_release(&p);
}

static void test_global_listener_serves_every_host(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "hosts:\n" HOST("a.test", "") HOST("b.test", "") HOST("'*.c.test'", ""));
    assert_answer(&p, GET_FROM("a.test", "/"), "x-host: a.test\r\n");
    assert_answer(&p, GET_FROM("b.test", "/"), "x-host: b.test\r\n");
    assert_answer(&p, GET_FROM("x.c.test", "/"), "x-host: '*.c.test'\r\n");
    assert_answer(&p, GET_FROM("unknown.test", "/"), "x-host: a.test\r\n");
    process_release(&p);
}

static void test_hosts_may_share_an_address_of_theirs(void **state)
{
    struct process p;
    (void)state;
    start(&p, "hosts:\n" HOST("a.test", "    " LISTEN) HOST("b.test", "    " LISTEN)
                  HOST("c.test", "    listen: {type: unix, port: @/c.sock}\n"));
    struct process shared = listener(&p, 0), alone = listener(&p, 1);
    assert_answer(&shared, GET_FROM("a.test", "/"), "x-host: a.test\r\n");
    assert_answer(&shared, GET_FROM("b.test", "/"), "x-host: b.test\r\n");
    assert_answer(&shared, GET_FROM("c.test", "/"),
                  "x-host: a.test\r\n"); /* not there: the first */
    assert_answer(&alone, GET_FROM("c.test", "/"), "x-host: c.test\r\n");
    assert_answer(&alone, GET_FROM("a.test", "/"), "x-host: c.test\r\n");
    process_release(&p);
}

static void test_global_address_that_a_host_names_too_stays_global(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "hosts:\n" HOST("a.test", "") HOST("b.test", "    " LISTEN));
    assert_answer(&p, GET_FROM("a.test", "/"), "x-host: a.test\r\n");
    assert_answer(&p, GET_FROM("b.test", "/"), "x-host: b.test\r\n");
    stop(&p);
    assert_null(strstr(strstr(p.log, "listening on ") + 1, "listening on ")); /* one socket */
    process_release(&p);
}

/* ---- the process ---- */

static void test_max_connections_holds_others_back(void **state)
{
    struct process p;
    char byte;
    (void)state;
    start(&p, LISTEN "max-connections: 1\nnum-threads: 1\n" HELLO);
    int first = client_connect(&p);
    client_send(first, GET("/"));
    client_expect(first, "Hello World");
    int second = client_connect(&p);
    client_send(second, GET("/"));
    for (unsigned i = 0; i < 3; i++) { /* turns of the one loop, in which it is not looked at */
        client_send(first, GET("/"));
        client_expect(first, "Hello World");
    }
    client_send(first, "GET / HTTP/1.1\r\n"); /* or it would idle, and give way */
    assert_int_equal(recv(second, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    (void)close(first);
    client_expect(second, "Hello World");
    (void)close(second);
    process_release(&p);
}

static void test_pid_file_is_there_while_it_runs(void **state)
{
    struct process p;
    char pid[32];
    (void)state;
    /* A loop may answer before the file is written; a drain begins after it. */
    start(&p, LISTEN "pid-file: @/pid\ndrain: {lame-duck: 1m}\n" HELLO);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "SIGTERM received");
    char *text = read_file(in_directory("pid"));
    (void)snprintf(pid, sizeof(pid), "%ld\n", (long)p.pid);
    assert_string_equal(text, pid);
    free(text);
    process_signal(&p, SIGTERM);
    (void)process_wait(&p, LIMIT_MS);
    assert_false(is_there("pid"));
    process_release(&p);
}

static void test_files_of_root_are_opened_before_it_is_given_up(void **state)
{
    struct process p;
    char pid[32];
    (void)state;
    skip_unless_root();
    assert_int_equal(mkdir(in_directory("of-root"), 0755), 0);
    start(&p, LISTEN "pid-file: @/of-root/pid\naccess-log: @/of-root/access\n"
                     "drain: {lame-duck: 1m}\n" HELLO);
    assert_answer(&p, GET("/"), "Hello World");
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "SIGTERM received");
    char *text = read_file(in_directory("of-root/pid"));
    (void)snprintf(pid, sizeof(pid), "%ld\n", (long)p.pid);
    assert_string_equal(text, pid);
    free(text);
    process_signal(&p, SIGTERM);
    (void)process_wait(&p, LIMIT_MS);
    text = read_file(in_directory("of-root/pid"));
    assert_string_equal(text, ""); /* the user nobody may not remove it */
    free(text);
    text = read_file(in_directory("of-root/access"));
    assert_contains(text, "GET / HTTP/1.1");
    free(text);
    process_release(&p);
    assert_ends(
        ARGS("-c", write_file("x.conf", LISTEN "drain: {report: @/of-root/report}\n" HELLO)), 78, 1,
        "error: cannot write the report to @/of-root/report: user nobody may not ");
}

static void test_error_log_takes_over_from_standard_error(void **state)
{
    struct process p;
    (void)state;
    assert_int_equal(mkfifo(in_directory("error-log"), 0600), 0);
    int fifo = open(in_directory("error-log"), O_RDWR | O_NONBLOCK | O_CLOEXEC);
    assert_true(fifo >= 0);
    process_spawn(&p, ARGS("-c", write_file("x.conf", LISTEN "error-log: @/error-log\n" HELLO)));
    int standard_error = p.log_fd;
    p.log_fd = fifo;
    process_wait_log(&p, "listening on ");
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "drained in ");
    process_expect(&p, LIMIT_MS, 0);
    char byte;
    assert_int_equal(read(standard_error, &byte, 1), 0);
    (void)close(standard_error);
    process_release(&p);
    /* A plain file is made, and appended to. */
    (void)write_file("plain-log", "before\n");
    process_spawn(&p, ARGS("-c", write_file("x.conf", LISTEN "error-log: @/plain-log\n"
                                                             "pid-file: @/none/pid\n" HELLO)));
    process_expect(&p, LIMIT_MS,
                   geteuid() == 0 ? 78 : 69); /* before, or when it is to be written */
    assert_int_equal(p.log_bytes, 0);
    char *text = read_file(in_directory("plain-log"));
    assert_int_equal(strncmp(text, "before\n", 7), 0);
    assert_contains(text, "error: cannot start: ");
    free(text);
    process_release(&p);
}

static void assert_runs_as(const struct process *p, const char *name)
{
    char path[64], ids[128];
    const struct passwd *user = getpwnam(name);
    assert_non_null(user);
    (void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)p->pid);
    char *status = read_file(path);
    (void)snprintf(ids, sizeof(ids), "\nUid:\t%u\t%u\t%u\t%u\n", user->pw_uid, user->pw_uid,
                   user->pw_uid, user->pw_uid);
    assert_contains(status, ids);
    (void)snprintf(ids, sizeof(ids), "\nGid:\t%u\t%u\t%u\t%u\n", user->pw_gid, user->pw_gid,
                   user->pw_gid, user->pw_gid);
    assert_contains(status, ids);
    if (user->pw_uid != 0) {
        assert_contains(status, "\nCapPrm:\t0000000000000000\n");
        assert_contains(status, "\nCapEff:\t0000000000000000\n");
    }
    free(status);
}

static void test_root_becomes_nobody_or_the_named_user(void **state)
{
    struct process p;
    (void)state;
    skip_unless_root();
    if (getpwnam("nobody") == NULL || getpwnam("daemon") == NULL)
        skip_test("needs the users nobody and daemon");
    start(&p, LISTEN HELLO);
    assert_runs_as(&p, "nobody");
    process_release(&p);
    start(&p, LISTEN "user: daemon\n" HELLO);
    assert_runs_as(&p, "daemon");
    process_release(&p);
    start(&p, LISTEN "user: root\n" HELLO);
    assert_runs_as(&p, "root");
    process_release(&p);
    start_with(&p, LISTEN "user: root\n" HELLO, ARGS("--user", "daemon"));
    assert_runs_as(&p, "daemon");
    process_release(&p);
    process_start(&p, NULL, NULL); /* without a configuration it does not change its user */
    assert_runs_as(&p, "root");
    process_release(&p);
}

static void test_drain_as_nobody_warns_of_nothing(void **state)
{
    struct process p;
    (void)state;
    skip_unless_root();
    start(&p, LISTEN
          "listen: {host: '::1', port: 0}\nlisten: {type: unix, port: @/n.sock}\n"
          "listen: {host: 127.0.0.2, port: 0, " SSL("a") "}\n"
                                                         "drain: {report: @/report-n}\n" HELLO);
    assert_runs_as(&p, "nobody");
    assert_answer(&p, GET("/"), "Hello World");
    stop(&p);
    assert_contains(p.log, "drained in ");
    assert_lacks(p.log, "warning");
    assert_true(is_there("report-n"));
    process_release(&p);
}

/* ---- what the file says, and what flags say ---- */

static void test_drain_is_as_the_file_says(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "drain: {deadline: 7s, report: @/report}\n" HELLO);
    stop(&p);
    assert_contains(p.log, "draining, 0 requests in flight on 0 connections, deadline 7s");
    process_release(&p);
    char *report = read_file(in_directory("report"));
    json_t *parsed = json_loads(report, 0, NULL);
    assert_non_null(parsed);
    json_decref(parsed);
    free(report);
}

static void test_deadline_of_the_file_ends_the_drain(void **state)
{
    struct process p;
    (void)state;
    start(&p, "drain: {deadline: 50ms}\nnum-threads: 1\n" PATH("handler: sleep"));
    int fd = client_connect(&p);
    client_send(fd, GET("/?ms=60000"));
    for (unsigned i = 0; i < 3; i++) /* turns of the one loop: it is in a worker */
        assert_answer(&p, GET("/?ms=0"), "200 OK");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "deadline 50ms");
    assert_contains(p.log, "unfinished: GET /?ms=60000");
    (void)close(fd);
    process_release(&p);
}

static void test_pool_is_as_the_file_says(void **state)
{
    struct process p;
    struct pollfd fds[3];
    (void)state;
    start(&p, "pool: {workers: 1, queue: 1}\n" PATH("handler: sleep"));
    for (unsigned i = 0; i < 3; i++) {
        fds[i] = (struct pollfd){.fd = client_connect(&p), .events = POLLIN};
        client_send(fds[i].fd, GET("/?ms=60000"));
    }
    /* The worker and the queue hold one each: the answer that comes now is a refusal. */
    assert_true(poll(fds, 3, LIMIT_MS) > 0);
    for (unsigned i = 0; i < 3; i++) {
        if ((fds[i].revents & POLLIN) != 0) {
            client_expect(fds[i].fd, "HTTP/1.1 503 ");
        }
        (void)close(fds[i].fd);
    }
    process_release(&p);
}

/* The bodies of all requests that a worker runs or that wait for one, together. */
static void test_bodies_have_no_more_memory_than_the_file_says(void **state)
{
    static const char head[] =
        "POST /?ms=60000 HTTP/1.1\r\nHost: test\r\nContent-Length: 700000\r\n\r\n";
    static char body[700000];
    struct process p;
    struct pollfd fds[2];
    (void)state;
    memset(body, 'x', sizeof(body) - 1);
    start(&p, "pool: {max-bodies: 1MB}\n" PATH("handler: sleep"));
    for (unsigned i = 0; i < 2; i++) {
        fds[i] = (struct pollfd){.fd = client_connect(&p), .events = POLLIN};
        client_send(fds[i].fd, head);
        client_send(fds[i].fd, body);
        client_send(fds[i].fd, "x");
    }
    assert_int_equal(poll(fds, 2, LIMIT_MS), 1); /* one of them has the room */
    struct pollfd *refused = (fds[0].revents & POLLIN) != 0 ? &fds[0] : &fds[1];
    char *answer = client_read_answer(refused->fd);
    assert_contains(answer, "HTTP/1.1 503 ");
    assert_contains(answer, "fill the memory");
    free(answer);
    for (unsigned i = 0; i < 2; i++)
        (void)close(fds[i].fd);
    process_release(&p);
}

static void test_flags_override_the_file(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, "drain: {deadline: 7s}\n" LISTEN HELLO, ARGS("--deadline", "3s"));
    stop(&p);
    assert_contains(p.log, "deadline 3s");
    process_release(&p);
    /* But its value has to be valid. */
    assert_ends(
        ARGS("--deadline", "3s", "-c", write_file("x.conf", LISTEN "drain: {deadline: x}\n" HELLO)),
        78, 1, "@/x.conf:2:19: drain: drain.deadline x: want a duration");
}

static void test_listen_flag_replaces_the_listeners_of_the_file(void **state)
{
    struct process p;
    (void)state;
    start_with(&p,
               "listen: {type: unix, port: @/f.sock}\nhosts:\n" HOST(
                   "a.test", "    listen: {type: unix, port: @/g.sock}\n") HOST("b.test", ""),
               ARGS("--listen", "127.0.0.1:0"));
    assert_int_equal(strncmp(p.address, "127.0.0.1:", 10), 0);
    assert_answer(&p, GET_FROM("a.test", "/"), "x-host: a.test\r\n");
    assert_answer(&p, GET_FROM("b.test", "/"), "x-host: b.test\r\n");
    assert_false(is_there("f.sock"));
    assert_false(is_there("g.sock"));
    process_release(&p);
    start_with(&p, HELLO, ARGS("--listen", "127.0.0.1:0")); /* and stands in for them */
    assert_answer(&p, GET("/"), "Hello World");
    process_release(&p);
}

static void test_directive_given_twice_counts_as_given_last(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "drain: {deadline: 7s}\ndrain: {linger: 1s}\ndrain: {deadline: 4s}\n" HELLO);
    stop(&p);
    assert_contains(p.log, "deadline 4s");
    process_release(&p);
}

/* ---- handlers ---- */

static void test_handlers_of_our_own_can_be_anywhere(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "hosts:\n  default:\n    paths:\n      /h: {handler: hello}\n"
                     "      /s: {handler: sleep}\n      /t: {handler: stream}\n");
    assert_answer(&p, GET("/h"), "Hello World");
    assert_answer(&p, "POST /s?ms=1 HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello",
                  "\r\n\r\n5\n");
    assert_answer(&p, GET("/t?kb=3&ms=1"), "\r\nContent-Length: 3072\r\n");
    assert_answer(&p, GET("/other"), " 404 ");
    process_release(&p);
}

static void assert_body_is_answered(const struct process *p, size_t bytes, const char *want)
{
    char head[128];
    int fd = client_connect(p);
    (void)snprintf(head, sizeof(head), "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %zu\r\n\r\n",
                   bytes);
    client_send(fd, head);
    char *body = malloc(bytes + 1);
    memset(body, 'x', bytes);
    for (size_t sent = 0; sent < bytes;) { /* refused ones need not be taken */
        ssize_t n = send(fd, body + sent, bytes - sent, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    free(body);
    client_expect(fd, want);
    (void)close(fd);
}

static void test_body_limit_is_16_mib_or_what_is_given(void **state)
{
    struct process p;
    (void)state;
    start(&p, PATH("handler: sleep"));
    assert_body_is_answered(&p, 16 << 20, "\r\n\r\n16777216\n");
    int fd = client_connect(&p); /* its header is enough */
    client_send(fd, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 16777217\r\n\r\n");
    char *answer = client_read_until(fd, "\r\n\r\n");
    assert_contains(answer, "HTTP/1.1 413 ");
    free(answer);
    (void)close(fd);
    process_release(&p);
    start(&p, "limit-request-body: 10\n" PATH("handler: sleep"));
    assert_body_is_answered(&p, 10, "\r\n\r\n10\n");
    assert_body_is_answered(&p, 11, "HTTP/1.1 413 ");
    process_release(&p);
}

static void test_status_page_has_our_block(void **state)
{
    struct process p;
    (void)state;
    start(&p, "num-threads: 2\nmax-connections: 50\n" PATH("status: ON"));
    int fd = client_connect(&p);
    client_send(fd, "GET /json HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    char *answer = client_read_until(fd, NULL);
    (void)close(fd);
    assert_contains(answer, "HTTP/1.1 200 ");
    const char *begin = strchr(strstr(answer, "\r\n\r\n"), '{');
    assert_non_null(begin);
    json_t *status = json_loads(begin, JSON_DISABLE_EOF_CHECK, NULL);
    if (status == NULL)
        fail_msg("no JSON: %s", answer);
    assert_int_equal(json_integer_value(json_object_get(status, "worker-threads")), 2);
    assert_int_equal(json_integer_value(json_object_get(status, "max-connections")), 50);
    assert_int_equal(json_integer_value(json_object_get(status, "listeners")), 1);
    assert_int_equal(json_integer_value(json_object_get(status, "connections")), 1);
    assert_non_null(json_object_get(status, "server-version"));
    assert_non_null(json_object_get(status, "uptime"));
    json_decref(status);
    free(answer);
    process_release(&p);
}

static void test_included_file_is_found_from_the_working_directory(void **state)
{
    struct process p;
    char before[4096];
    (void)state;
    (void)write_file("hosts.inc", "default: {paths: !file paths.inc}\n");
    (void)write_file("paths.inc", "/: {handler: hello}\n");
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(expanded("@")), 0);
    start(&p, LISTEN "hosts: !file hosts.inc\n");
    assert_int_equal(chdir(before), 0);
    assert_answer(&p, GET("/"), "Hello World");
    process_release(&p);
}

static void test_server_name_and_access_log(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "server-name: 'who asks'\naccess-log: @/access-2\n" HELLO);
    assert_answer(&p, GET("/a"), "\r\nServer: who asks\r\n");
    stop(&p);
    process_release(&p);
    char *log = read_file(in_directory("access-2"));
    assert_contains(log, "127.0.0.1 - - [");
    assert_contains(log, "] \"GET /a HTTP/1.1\" 200 12 \"-\" \"-\"\n");
    free(log);
    start(&p, LISTEN HELLO);
    assert_answer(&p, GET("/"), "\r\nServer: lastcall\r\n");
    process_release(&p);
}

static void test_merged_and_aliased_parts_are_served(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "hosts:\n  a.test: &a\n    paths: {/: {handler: hello}}\n  b.test:\n"
                     "    <<: *a\n    header.set: 'x-host: b'\n");
    assert_answer(&p, GET_FROM("b.test", "/"), "x-host: b\r\n");
    assert_answer(&p, GET_FROM("a.test", "/"), "Hello World");
    process_release(&p);
}

/* ---- all ---- */

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_listen_takes_a_port_or_a_mapping),
        TEST(test_unix_socket_has_the_owner_and_mode_that_are_given),
        TEST(test_global_listener_serves_every_host),
        TEST(test_hosts_may_share_an_address_of_theirs),
        TEST(test_global_address_that_a_host_names_too_stays_global),
        TEST(test_max_connections_holds_others_back),
        TEST(test_pid_file_is_there_while_it_runs),
        TEST(test_files_of_root_are_opened_before_it_is_given_up),
        TEST(test_error_log_takes_over_from_standard_error),
        TEST(test_root_becomes_nobody_or_the_named_user),
        TEST(test_drain_as_nobody_warns_of_nothing),
        TEST(test_drain_is_as_the_file_says),
        TEST(test_deadline_of_the_file_ends_the_drain),
        TEST(test_pool_is_as_the_file_says),
        TEST(test_bodies_have_no_more_memory_than_the_file_says),
        TEST(test_flags_override_the_file),
        TEST(test_listen_flag_replaces_the_listeners_of_the_file),
        TEST(test_directive_given_twice_counts_as_given_last),
        TEST(test_handlers_of_our_own_can_be_anywhere),
        TEST(test_body_limit_is_16_mib_or_what_is_given),
        TEST(test_status_page_has_our_block),
        TEST(test_included_file_is_found_from_the_working_directory),
        TEST(test_server_name_and_access_log),
        TEST(test_merged_and_aliased_parts_are_served),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 600); /* a hang is a failure */
    return cmocka_run_group_tests_name("config", tests, with_config_set_up, remove_directory);
}

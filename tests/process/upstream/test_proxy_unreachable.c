/* An upstream that cannot be reached: its name is not found, it has no route, it comes and goes.
 * The upstream is played by the test, the front is the real process. */

#include "with_fault.h"

#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "loopback.h"
#include "skip.h"

#define TWO "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define URL(url) "hosts: {default: {paths: {/: {proxy.reverse.url: \"" url "\"}}}}\n"
#define PLAIN URL("http://127.0.0.1:@/")
#define HASTY_HERE "proxy.timeout.connect: 400"
#define HASTY HASTY_HERE "\n"

/* ---- names and routes, in a network of their own ---- */

static void bind_over(const char *name, const char *path)
{
    if (mount(in_directory(name), path, NULL, MS_BIND, NULL) != 0)
        _exit(99);
}

/* A loopback and nothing else, a file for names, and a name server that is not there. */
static void enter_network(void)
{
    struct ifreq loopback = {.ifr_name = "lo"};

    if (unshare(CLONE_NEWNS | CLONE_NEWNET) != 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        _exit(99);
    bind_over("resolv.conf", "/etc/resolv.conf");
    bind_over("nsswitch.conf", "/etc/nsswitch.conf");
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    loopback.ifr_flags = IFF_UP | IFF_RUNNING;
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &loopback) != 0)
        _exit(99);
    (void)close(fd);
}

/* The name server does not answer; its socket lives as long as the front. */
static void enter_network_of_a_silent_server(void)
{
    const struct sockaddr_in here = {
        .sin_family = AF_INET, .sin_port = htons(53), .sin_addr = {htonl(INADDR_LOOPBACK)}};

    enter_network();
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&here, sizeof(here)) != 0)
        _exit(99);
}

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(in_directory(name), "we");

    assert_non_null(file);
    (void)fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* The front listens on a Unix socket, which is reached from outside of its network. */
static void expect_fault_in_network(void (*enter)(void), const char *url, const struct fault *fault)
{
    struct fixture fixture = {.listener = -1, .upstream = -1, .client = -1}, *f = &fixture;
    char conf[1024];

    (void)snprintf(conf, sizeof(conf),
                   "user: %s\nlisten: {port: %s, type: unix}\nnum-threads: 1\n" HASTY
                   "hosts: {default: {paths: {/: {proxy.reverse.url: \"%s\"}}}}\n",
                   own_user_name(), in_directory("front.sock"), url);
    write_text("conf", conf);
    write_text("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    write_text("nsswitch.conf", "hosts: files dns\n");
    process_in_child = enter;
    process_start_configured(&f->front,
                             (const char *const[]){"--conf", in_directory("conf"), NULL});
    process_in_child = NULL;
    expect_fault(f, NULL, fault);
}

static void skip_without_namespaces(void)
{
    int status = 0;

    skip_unless_root();
    pid_t child = fork();
    if (child == 0)
        _exit(unshare(CLONE_NEWNS | CLONE_NEWNET) == 0 ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0)
        skip_test("no namespaces");
}

static void test_an_upstream_whose_name_is_not_found(void **state)
{
    static const struct fault faults[] = {
        {"has no name server", NULL, 0, NULL, 502, "name resolution", "look-up", "lookup", NULL},
        {"has a silent name server", NULL, 0, NULL, 504,
         "the name of the upstream could not be looked up in time", "connect", "connect-time",
         NULL},
    };
    (void)state;
    skip_without_namespaces();
    expect_fault_in_network(enter_network, "http://upstream.test:1/", &faults[0]);
    expect_fault_in_network(enter_network_of_a_silent_server, "http://upstream.test:1/",
                            &faults[1]);
}

static void test_an_upstream_without_a_route(void **state)
{
    static const struct fault fault = {"has no route",           NULL,      0,         NULL, 502,
                                       "Network is unreachable", "connect", "connect", NULL};
    (void)state;
    skip_without_namespaces();
    expect_fault_in_network(enter_network, "http://10.1.2.3:1/", &fault);
}

/* ---- it comes and goes ---- */

static void answer_ok(struct fixture *f)
{
    struct answer answer;

    ask(f, ANSWER_HTTP11, false);
    take_request(f);
    client_send(f->upstream, TWO);
    assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_WHOLE);
    assert_int_equal(answer.status, 200);
    answer_release(&answer);
    hang_up(f);
}

/* Its connections may linger on the port. */
static void reuse_address(int fd)
{
    const int on = 1;

    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
}

static void listen_again(struct fixture *f, const struct sockaddr_in *address)
{
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    reuse_address(f->listener);
    assert_int_equal(bind(f->listener, (const struct sockaddr *)address, sizeof(*address)), 0);
    assert_int_equal(listen(f->listener, 16), 0);
}

static void test_an_upstream_that_comes_and_goes(void **state)
{
    static const struct fault fault = {"is gone", NULL,      0,         NULL, 502,
                                       "refused", "connect", "connect", NULL};
    struct fixture *f = *state;
    struct process admin = admin_of(&f->front);
    struct sockaddr_in address;
    socklen_t len = sizeof(address);

    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&address, &len), 0);
    reuse_address(f->listener);
    for (unsigned i = 1; i <= 5; i++) {
        answer_ok(f);
        (void)close(f->listener);
        end_upstream(f, CLOSE);
        ask(f, ANSWER_HTTP11, false);
        expect_answer(f, ANSWER_HTTP11, &fault);
        hang_up(f);
        expect_counts(&admin, &fault, i);
        listen_again(f, &address);
    }
    answer_ok(f);
}

/* ---- a Unix socket whose backlog is full ---- */

#define FILLERS_MOST 8

static int fillers[FILLERS_MOST];
static unsigned filler_count;

static struct sockaddr_un socket_here(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = in_directory("full.sock");

    assert_true(strlen(path) < sizeof(address.sun_path));
    (void)strcpy(address.sun_path, path);
    return address;
}

/* Connect until the kernel takes no more. */
static void fill_backlog(void)
{
    const struct sockaddr_un address = socket_here();

    for (filler_count = 0; filler_count < FILLERS_MOST; filler_count++) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        fillers[filler_count] = fd;
        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
            assert_int_equal(errno, EAGAIN);
            (void)close(fd);
            return;
        }
    }
    fail_msg("%u connections do not fill a backlog of 0", filler_count);
}

static void empty_backlog(struct fixture *f)
{
    for (unsigned i = 0; i < filler_count; i++) {
        int fd = accept(f->listener, NULL, NULL);
        assert_true(fd >= 0);
        (void)close(fd);
        (void)close(fillers[i]);
    }
}

static int set_up_full_socket(void **state)
{
    const struct sockaddr_un address = socket_here();
    uint16_t port;
    struct fixture *f = fixture_begin(state, &port);
    char conf[1024];

    (void)close(f->listener);
    (void)unlink(address.sun_path);
    f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->listener, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(f->listener, 0), 0);
    fill_backlog();
    (void)snprintf(conf, sizeof(conf),
                   "user: %s\nlisten: {host: 127.0.0.1, port: 0}\nnum-threads: 1\n"
                   "hosts:\n  default:\n    paths:\n"
                   "      /: {proxy.reverse.url: \"http://[unix:%s]/\"}\n"
                   "      /hasty: {proxy.reverse.url: \"http://[unix:%s]/\", " HASTY_HERE "}\n"
                   "      /fastcgi: {fastcgi.connect: {port: %s, type: unix}}\n",
                   own_user_name(), address.sun_path, address.sun_path, address.sun_path);
    write_text("conf", conf);
    process_start_configured(&f->front,
                             (const char *const[]){"--conf", in_directory("conf"), NULL});
    return 0;
}

/* As TCP would wait. */
static void test_a_connect_waits_while_the_backlog_of_a_unix_socket_is_full(void **state)
{
    struct fixture *f = *state;
    struct pollfd answered;
    struct answer answer;

    ask(f, ANSWER_HTTP11, false);
    answered = (struct pollfd){.fd = f->client, .events = POLLIN};
    assert_int_equal(poll(&answered, 1, 300), 0);
    empty_backlog(f);
    take_request(f);
    client_send(f->upstream, TWO);
    assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_WHOLE);
    assert_int_equal(answer.status, 200);
    answer_release(&answer);
}

static void test_a_fastcgi_connect_waits_as_well(void **state)
{
    struct fixture *f = *state;
    struct pollfd answered;

    ask_for(f, ANSWER_HTTP11, false, "/fastcgi");
    answered = (struct pollfd){.fd = f->client, .events = POLLIN};
    assert_int_equal(poll(&answered, 1, 300), 0);
    hang_up(f);
    empty_backlog(f);
    take_connection(f); /* the front does not see that its client has gone */
}

static void test_a_full_backlog_is_504_when_the_time_is_over(void **state)
{
    static const struct fault fault = {"has a full backlog",
                                       NULL,
                                       0,
                                       NULL,
                                       504,
                                       "the upstream did not accept the connection in time",
                                       "connect",
                                       "connect-time",
                                       NULL};
    struct fixture *f = *state;
    struct process admin = admin_of(&f->front);

    ask_for(f, ANSWER_HTTP11, false, "/hasty");
    expect_answer(f, ANSWER_HTTP11, &fault);
    expect_line(f, &fault);
    expect_counts(&admin, &fault, 1);
}

/* ---- the line, for machines ---- */

static json_t *line_of(const struct process *front, const char *event)
{
    const char *at = strstr(front->log, event);
    json_error_t error;

    assert_non_null(at);
    while (at > front->log && at[-1] != '\n')
        at--;
    json_t *line = json_loadb(at, strcspn(at, "\n"), 0, &error);
    assert_non_null(line);
    return line;
}

static void test_the_line_in_json(void **state)
{
    struct process front;
    char conf[512], name[64];
    unsigned port = free_port(), closed = free_port();
    (void)state;
    (void)snprintf(
        conf, sizeof(conf),
        "listen: {host: 127.0.0.1, port: %u}\nnum-threads: 1\n" URL("http://127.0.0.1:%u/"), port,
        closed);
    write_text("conf", conf);
    process_spawn(&front, (const char *const[]){"--conf", in_directory("conf"), "--log-format",
                                                "json", NULL});
    process_wait_log(&front, "\"listening");
    front.port = (uint16_t)port;
    assert_answer(&front, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n", " 502 ");
    process_wait_log(&front, "upstream-failed");
    json_t *line = line_of(&front, "upstream-failed");
    (void)snprintf(name, sizeof(name), "http://127.0.0.1:%u", closed);
    assert_string_equal(json_string_value(json_object_get(line, "event")), "upstream-failed");
    assert_string_equal(json_string_value(json_object_get(line, "upstream")), name);
    assert_string_equal(json_string_value(json_object_get(line, "phase")), "connect");
    assert_string_equal(json_string_value(json_object_get(line, "cause")), "Connection refused");
    assert_true(json_is_integer(json_object_get(line, "age_ms")));
    assert_int_equal(json_integer_value(json_object_get(line, "left_out")), 0);
    json_decref(line);
    process_release(&front);
}

static int set_up(void **state)
{
    return fixture_start(state, PLAIN);
}

#define ALONE(f) cmocka_unit_test_teardown(f, process_kill_left)
#define FULL(f) cmocka_unit_test_setup_teardown(f, set_up_full_socket, fixture_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALONE(test_an_upstream_whose_name_is_not_found),
        ALONE(test_an_upstream_without_a_route),
        cmocka_unit_test_setup_teardown(test_an_upstream_that_comes_and_goes, set_up,
                                        fixture_tear_down),
        FULL(test_a_connect_waits_while_the_backlog_of_a_unix_socket_is_full),
        FULL(test_a_fastcgi_connect_waits_as_well),
        FULL(test_a_full_backlog_is_504_when_the_time_is_over),
        ALONE(test_the_line_in_json),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

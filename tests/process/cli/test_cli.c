/* The commands that go to a running server: against the real one, and, for what a real one does not
 * do, against fake_admin.py. */

#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "command.h"
#include "directory.h"
#include "expect.h"
#include "process.h"
#include "skip.h"

#define LIMIT_MS 20000
#define CMD(...) ((const char *const[]){NULL, __VA_ARGS__, NULL})
#define ARGS(...) ((const char *const[]){"--threads", "1", __VA_ARGS__, NULL})

static bool own_run; /* /run is this test's alone */

/* ---- what the commands talk to ---- */

/* A server with its admin socket in the directory. */
struct subject {
    struct process p;
    const char *socket;
    int client; /* with a request in flight; -1: none */
};

static void start(struct subject *subject, const char *request, const char *const *extra)
{
    const char *args[24] = {"--threads", "1", "--admin"};
    char admin[160];
    size_t n = 4;

    subject->socket = in_directory("admin.sock");
    (void)snprintf(admin, sizeof(admin), "unix:%s", subject->socket);
    args[3] = admin;
    for (; extra != NULL && *extra != NULL; extra++)
        args[n++] = *extra;
    process_start(&subject->p, NULL, args);
    process_wait_log(&subject->p, "admin on ");
    subject->client = -1;
    if (request != NULL) {
        subject->client = client_connect(&subject->p);
        client_send(subject->client, request);
    }
}

/* The request is given up with its client. */
static void hang_up(struct subject *subject)
{
    (void)close(subject->client);
    subject->client = -1;
}

static void stop(struct subject *subject, int want)
{
    process_expect(&subject->p, LIMIT_MS, want);
    if (subject->client >= 0)
        (void)close(subject->client);
    process_release(&subject->p);
}

/* Wait until the server itself reports that many requests in flight, and lists them: its list may
 * be some time older than the number. */
static void wait_in_flight(const struct subject *subject, int want)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    for (json_int_t seen = -1, listed = -1; seen != want || listed != want;) {
        struct command c;
        command_run(&c, 0, CMD("status", "--json", "--socket", subject->socket));
        json_t *status = json_loads(c.out, 0, NULL);
        assert_non_null(status);
        seen =
            json_integer_value(json_object_get(json_object_get(status, "requests"), "in_flight"));
        listed = (json_int_t)json_array_size(json_object_get(status, "oldest"));
        json_decref(status);
        command_release(&c);
        if (now_ns() > until_ns)
            fail_msg("%d requests in flight, %d listed, not %d", (int)seen, (int)listed, want);
    }
}

/* The fake ones, all in one process: where each listens. */
#define FAKES                                                                                      \
    "drain:0", "drain:3", "mute", "silent", "closes", "garbage", "page", "404", "500", "schema",   \
        "401", "403"
static struct command fakes;

static void start_fakes(void)
{
    command_start(&fakes,
                  (const char *const[]){"python3", LASTCALL_SUPPORT_FOLDER "/peers/fake_admin.py",
                                        directory, FAKES, NULL});
    (void)command_wait_output(&fakes, 0, "listening\n");
}

/* ---- status ---- */

static void test_status_is_half_a_page(void **state)
{
    struct subject s;
    struct command c;
    (void)state;
    start(&s, GET("/sleep?ms=60000"), NULL);
    wait_in_flight(&s, 1);
    command_run(&c, 0, CMD("status", "--socket", s.socket));
    assert_contains(c.out, ": running, ready, live\n");
    assert_contains(c.out, "listens on    127.0.0.1:");
    assert_contains(c.out, "requests      1 in flight, ");
    assert_contains(c.out, "connections   1 open of ");
    assert_contains(c.out, "workers       1 of ");
    assert_contains(c.out, "GET test/sleep?ms=60000");
    assert_lacks(c.out, "drain");
    assert_lacks(c.out, "\033");
    assert_string_equal(c.err, "");
    command_release(&c);
    command_run(&c, 0, CMD("top", "--once", "--socket", s.socket));
    assert_contains(c.out, "GET test/sleep?ms=60000");
    assert_lacks(c.out, "\033");
    command_release(&c);
    process_signal(&s.p, SIGKILL);
    stop(&s, 128 + SIGKILL);
}

static void test_status_and_top_show_the_upstreams(void **state)
{
    static const char *const commands[][3] = {{"status", NULL}, {"top", "--once", NULL}};
    struct subject s;
    struct command c;
    (void)state;
    start(&s, NULL,
          (const char *const[]){"--proxy", "http://127.0.0.1:9", "--proxy", "http://127.0.0.1:7",
                                NULL});
    for (size_t i = 0; i < 2; i++) {
        const char *argv[6] = {NULL};
        size_t n = 1;
        for (size_t k = 0; commands[i][k] != NULL; k++)
            argv[n++] = commands[i][k];
        argv[n++] = "--socket";
        argv[n] = s.socket;
        command_run(&c, 0, argv);
        assert_contains(c.out, "  STATE           UPSTREAM\n");
        assert_contains(c.out, "  up              default/  http://127.0.0.1:9\n");
        assert_contains(c.out, "  up              default/  http://127.0.0.1:7\n");
        command_release(&c);
    }
    process_signal(&s.p, SIGKILL);
    stop(&s, 128 + SIGKILL);
}

static void test_status_as_json_is_the_servers(void **state)
{
    struct subject s;
    struct command c;
    (void)state;
    start(&s, NULL, NULL);
    command_run(&c, 0, CMD("status", "--json", "--socket", s.socket));
    json_t *status = json_loads(c.out, 0, NULL);
    assert_non_null(status);
    assert_int_equal(json_integer_value(json_object_get(status, "schema")), 1);
    assert_int_equal(json_integer_value(json_object_get(status, "pid")), s.p.pid);
    assert_string_equal(json_string_value(json_object_get(status, "phase")), "running");
    json_decref(status);
    command_release(&c);
    process_signal(&s.p, SIGTERM);
    stop(&s, 0);
}

/* Bytes that a client has chosen are shown, and do nothing. */
static void test_paths_cannot_reach_the_terminal(void **state)
{
    struct command c;
    const char *at = in_directory("drain:3");
    (void)state;
    command_run(&c, 0, CMD("status", "--socket", at));
    assert_contains(c.out, "GET localhost/?[2J?[31m");
    assert_lacks(c.out, "\033");
    command_release(&c);
    command_run(&c, 3, CMD("drain", "--wait", "--socket", at));
    assert_contains(c.out, "last seen in flight: GET localhost/?[2J?[31m");
    assert_lacks(c.out, "\033");
    command_release(&c);
}

/* ---- drain ---- */

static void test_drain_begins_it_and_leaves(void **state)
{
    struct subject s;
    struct command c;
    (void)state;
    start(&s, NULL, NULL);
    command_run(&c, 0, CMD("drain", "--socket", s.socket, "--reason", "the node moves"));
    assert_contains(c.out, "admin.sock: draining\n");
    command_release(&c);
    process_wait_log(&s.p, "the node moves");
    stop(&s, 0);
}

static void test_wait_ends_with_0_when_all_was_answered(void **state)
{
    struct subject s;
    struct command c;
    (void)state;
    start(&s, GET("/sleep?ms=3000"), NULL);
    wait_in_flight(&s, 1);
    command_run(&c, 0, CMD("drain", "--wait", "--socket", s.socket));
    assert_contains(c.out, "draining: 1 in flight, 1 connection, ");
    assert_contains(c.out, "s left\n");
    assert_contains(c.out, "drained in ");
    assert_contains(c.out, ": 1 answered, ");
    assert_lacks(c.out, "\r");
    assert_string_equal(c.err, "");
    command_release(&c);
    client_expect(s.client, " 200 OK");
    stop(&s, 0);
}

static void test_wait_ends_with_3_at_the_deadline(void **state)
{
    struct subject s;
    struct command c;
    (void)state;
    start(&s, GET("/sleep?ms=60000"), NULL);
    wait_in_flight(&s, 1);
    command_run(&c, 3, CMD("drain", "--wait", "--deadline", "700ms", "--socket", s.socket));
    process_wait_log(&s.p, ", deadline 700ms"); /* and not the one of the server */
    assert_contains(c.out, "the deadline passed, after ");
    assert_contains(c.out, "last seen in flight: GET test/sleep?ms=60000 from 127.0.0.1:");
    command_release(&c);
    stop(&s, 3);
}

static void test_wait_ends_with_4_when_it_was_forced(void **state)
{
    struct subject s;
    struct command c;
    (void)state;
    start(&s, GET("/sleep?ms=60000"), NULL);
    wait_in_flight(&s, 1);
    command_start(&c, CMD("drain", "--wait", "--socket", s.socket));
    (void)command_wait_output(&c, 0, "draining: 1 in flight");
    process_signal(&s.p, SIGINT); /* joins; two of one kind could become one on the way */
    process_signal(&s.p, SIGTERM);
    command_expect(&c, 4);
    assert_contains(c.out, "cut short by a second signal, after ");
    command_release(&c);
    stop(&s, 4);
}

static void test_second_order_joins_the_drain(void **state)
{
    struct subject s;
    struct command c;
    (void)state;
    start(&s, GET("/sleep?ms=5000"), NULL);
    wait_in_flight(&s, 1);
    process_signal(&s.p, SIGTERM);
    process_wait_log(&s.p, "listeners closed");
    command_run(&c, 0, CMD("drain", "--socket", s.socket));
    assert_contains(c.out, ": already draining\n");
    assert_string_equal(c.err, "");
    command_release(&c);
    command_run(&c, 0, CMD("drain", "--wait", "--deadline", "1ms", "--socket", s.socket));
    assert_contains(c.err, "a drain was already under way; its deadline is unchanged");
    assert_contains(c.out, "drained in ");
    command_release(&c);
    stop(&s, 0);
}

static void test_order_that_the_server_cannot_read(void **state)
{
    struct subject s;
    struct command c;
    char long_reason[5000];
    (void)state;
    memset(long_reason, 'x', sizeof(long_reason) - 1);
    long_reason[sizeof(long_reason) - 1] = '\0';
    start(&s, NULL, NULL);
    command_run(&c, 64, CMD("drain", "--reason", long_reason, "--socket", s.socket));
    command_release(&c);
    process_signal(&s.p, SIGTERM);
    stop(&s, 0);
}

static void test_interrupted_wait_leaves_the_drain_running(void **state)
{
    struct subject s;
    struct command c;
    (void)state;
    start(&s, GET("/sleep?ms=60000"), NULL);
    wait_in_flight(&s, 1);
    command_start(&c, CMD("drain", "--wait", "--socket", s.socket));
    (void)command_wait_output(&c, 0, "draining: 1 in flight");
    assert_int_equal(kill(c.pid, SIGINT), 0);
    command_expect(&c, 130);
    assert_contains(c.err, "the drain goes on");
    command_release(&c);
    assert_false(process_is_gone(&s.p));
    hang_up(&s);
    stop(&s, 0);
}

static void test_server_that_says_nothing_of_its_end(void **state)
{
    struct command c;
    const char *at = in_directory("mute");
    (void)state;
    command_run(&c, 69, CMD("drain", "--wait", "--socket", at));
    assert_contains(c.err, "the server exited without reporting its exit status");
    command_release(&c);
}

/* ---- undrain ---- */

static void test_drain_is_called_off_in_its_lame_duck_time(void **state)
{
    struct subject s;
    struct command c, waiting;
    (void)state;
    start(&s, NULL, ARGS("--lame-duck", "60s"));
    command_run(&c, 1, CMD("undrain", "--socket", s.socket));
    assert_contains(c.err, "lastcall undrain: ");
    command_release(&c);
    command_start(&waiting, CMD("drain", "--wait", "--socket", s.socket));
    (void)command_wait_output(&waiting, 0, "lame-duck: 0 in flight");
    command_run(&c, 0, CMD("status", "--socket", s.socket));
    assert_contains(c.out, ": lame-duck, not ready, live\n");
    assert_contains(c.out, "it can be called off");
    assert_contains(c.out, "the listeners close in ");
    command_release(&c);
    command_run(&c, 0, CMD("undrain", "--socket", s.socket));
    assert_contains(c.out, "serving again");
    command_release(&c);
    command_expect(&waiting, 75);
    assert_contains(waiting.err, "the drain was called off");
    command_release(&waiting);
    command_run(&c, 0, CMD("status", "--socket", s.socket));
    assert_contains(c.out, ": running, ready, live\n");
    command_release(&c);
    process_signal(&s.p, SIGKILL);
    stop(&s, 128 + SIGKILL);
}

static void test_undrain_past_the_point_of_no_return_is_refused(void **state)
{
    struct subject s;
    struct command c;
    (void)state;
    start(&s, GET("/sleep?ms=60000"), NULL);
    wait_in_flight(&s, 1);
    process_signal(&s.p, SIGTERM);
    process_wait_log(&s.p, "listeners closed");
    command_run(&c, 1, CMD("undrain", "--socket", s.socket));
    assert_contains(c.err, "lastcall undrain: ");
    command_release(&c);
    command_run(&c, 0, CMD("status", "--socket", s.socket));
    assert_contains(c.out, "drain         begun by SIGTERM");
    assert_contains(c.out, "past the point of no return");
    command_release(&c);
    process_signal(&s.p, SIGKILL);
    stop(&s, 128 + SIGKILL);
}

/* ---- on a terminal ---- */

static void test_bar_on_a_terminal(void **state)
{
    struct subject s;
    struct command c;
    (void)state;
    start(&s, GET("/sleep?ms=3000"), NULL);
    wait_in_flight(&s, 1);
    command_start_on_terminal(&c, 90, 24, CMD("drain", "--wait", "--socket", s.socket));
    size_t seen = command_wait_output(&c, 0, "draining  [");
    (void)command_wait_output(&c, 0, "] 1 in flight, 1 connection, ");
    (void)command_wait_output(&c, seen, "\r\033[Kdraining  ["); /* and changes */
    command_expect(&c, 0);
    assert_contains(c.out, "\r\033[Kdrained in ");
    command_release(&c);
    stop(&s, 0);
}

static void test_bar_is_as_wide_as_the_terminal_has_become(void **state)
{
    struct command c;
    const struct winsize narrow = {.ws_col = 40, .ws_row = 24};
    const char *at = in_directory("drain:0");
    (void)state;
    command_start_on_terminal(&c, 100, 24, CMD("drain", "--wait", "--socket", at));
    size_t seen = command_wait_output(&c, 0, "closing   [------------");
    assert_int_equal(ioctl(c.out_fd, TIOCSWINSZ, &narrow), 0);
    (void)command_wait_output(&c, seen, "draining: 1 in flight, 1 connection");
    command_expect(&c, 0);
    command_release(&c);
}

static void test_interrupt_key_leaves_the_drain_running(void **state)
{
    struct subject s;
    struct command c;
    (void)state;
    start(&s, GET("/sleep?ms=60000"), NULL);
    wait_in_flight(&s, 1);
    command_start_on_terminal(&c, 90, 24, CMD("drain", "--wait", "--socket", s.socket));
    (void)command_wait_output(&c, 0, "draining  [");
    assert_int_equal(write(c.out_fd, "\003", 1), 1);
    command_expect(&c, 130);
    assert_contains(c.out, "\r\nlastcall drain: the drain goes on");
    command_release(&c);
    hang_up(&s);
    stop(&s, 0);
}

/* The keys' side of a terminal, as the next program would find it. */
static void get_keys(const struct command *c, struct termios *ret_keys)
{
    assert_int_equal(tcgetattr(c->out_fd, ret_keys), 0);
}

static void start_top(struct command *c, const struct subject *s, struct termios *ret_before)
{
    /* The shell holds the terminal open, as a user's does, so the test sees its settings
     * afterwards. */
    const char *binary = getenv("LASTCALL_BINARY");
    command_start_on_terminal(
        c, 90, 24,
        (const char *const[]){
            "sh", "-c",
            "stty -a >/dev/null; echo before; read go; \"$0\" top --socket \"$1\"; "
            "echo \"ended: $?\"; read go",
            binary != NULL ? binary : "build/release/lastcall", s->socket, NULL});
    (void)command_wait_output(c, 0, "before");
    get_keys(c, ret_before);
    assert_int_equal(write(c->out_fd, "\n", 1), 1);
}

static void assert_restored(struct command *c, const struct termios *before, const char *ended)
{
    struct termios after;

    (void)command_wait_output(c, 0, ended);
    get_keys(c, &after);
    assert_int_equal(after.c_lflag, before->c_lflag);
    assert_contains(c->out, "\033[?25h\033[?1049l");
    assert_int_equal(write(c->out_fd, "\n", 1), 1);
    command_expect(c, 0);
    command_release(c);
}

static void test_top_follows_and_q_quits(void **state)
{
    struct subject s;
    struct command c;
    struct termios before, during;
    const struct winsize narrow = {.ws_col = 60, .ws_row = 10};
    (void)state;
    start(&s, GET("/sleep?ms=60000"), NULL);
    start_top(&c, &s, &before);
    size_t seen = command_wait_output(&c, 0, "\033[?1049h");
    seen = command_wait_output(&c, seen > 8 ? seen - 8 : 0, "GET test/sleep?ms=60000");
    get_keys(&c, &during);
    assert_int_equal(during.c_lflag & (tcflag_t)(ICANON | ECHO), 0);
    assert_contains(c.out, "127.0.0.1:");
    assert_int_equal(ioctl(c.out_fd, TIOCSWINSZ, &narrow), 0);
    (void)command_wait_output(&c, seen, "     AGE  STATE       REQUEST"); /* PEER has no room */
    assert_int_equal(write(c.out_fd, "q", 1), 1);
    assert_restored(&c, &before, "ended: 0");
    process_signal(&s.p, SIGKILL);
    stop(&s, 128 + SIGKILL);
}

static void test_top_restores_the_terminal_at_an_interrupt(void **state)
{
    struct subject s;
    struct command c;
    struct termios before;
    (void)state;
    start(&s, NULL, NULL);
    start_top(&c, &s, &before);
    (void)command_wait_output(&c, 0, "no request is in flight");
    /* The shell is interrupted, too, and says nothing more; what is left is what it finds. */
    assert_int_equal(write(c.out_fd, "\003", 1), 1);
    (void)command_wait_output(&c, 0, "\033[?25h\033[?1049l");
    command_expect(&c, 128 + SIGINT);
    command_release(&c);
    process_signal(&s.p, SIGTERM);
    stop(&s, 0);
}

static void test_top_says_how_the_server_ended(void **state)
{
    struct subject s;
    struct command c;
    struct termios before;
    (void)state;
    start(&s, NULL, NULL);
    start_top(&c, &s, &before);
    (void)command_wait_output(&c, 0, "no request is in flight");
    process_signal(&s.p, SIGTERM);
    (void)command_wait_output(&c, 0, "\033[?1049ldrained in ");
    assert_restored(&c, &before, "ended: 0");
    stop(&s, 0);
}

static void test_top_without_a_terminal_is_refused(void **state)
{
    struct command c;
    (void)state;
    command_run(&c, 64, CMD("top", "--socket", in_directory("any")));
    assert_contains(c.err, "not a terminal; --once prints one frame");
    command_release(&c);
}

/* ---- over TCP ---- */

static void test_orders_over_tcp_want_the_secret(void **state)
{
    struct process p;
    struct command c;
    char url[160];
    const char *token = in_directory("token"), *wrong = in_directory("wrong");
    (void)state;
    FILE *file = fopen(token, "w");
    assert_non_null(file);
    (void)fputs("correct-horse\nnot this\n", file);
    (void)fclose(file);
    file = fopen(wrong, "w");
    assert_non_null(file);
    (void)fputs("battery-staple\n", file);
    (void)fclose(file);
    assert_int_equal(chmod(token, 0600), 0);
    process_start(&p, NULL, ARGS("--admin", "127.0.0.1:0", "--admin-token-file", token));
    process_wait_log(&p, "admin on ");
    const char *at = strstr(p.log, "admin on ") + strlen("admin on ");
    (void)snprintf(url, sizeof(url), "http://%.*s/", (int)strcspn(at, "\n"), at);
    /* Whatever the environment says: there is no proxy between an operator and a server. */
    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    command_run(&c, 0, CMD("status", "--admin", url));
    command_release(&c);
    (void)unsetenv("http_proxy");
    command_run(&c, 0, CMD("status", "--admin", url + strlen("http://"))); /* as people type */
    command_release(&c);
    command_run(&c, 77, CMD("drain", "--admin", url));
    assert_contains(c.err, "give the secret with --token-file");
    command_release(&c);
    command_run(&c, 77, CMD("drain", "--wait", "--admin", url, "--token-file", wrong));
    assert_contains(c.err, "lastcall drain: http://127.0.0.1:");
    assert_lacks(c.err, "battery");
    command_release(&c);
    command_run(&c, 0, CMD("drain", "--wait", "--admin", url, "--token-file", token));
    assert_contains(c.out, "drained in ");
    command_release(&c);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
    command_run(&c, 69, CMD("status", "--admin", url));
    assert_contains(c.err, "connection refused");
    command_release(&c);
}

/* ---- which server ---- */

static void test_default_socket_is_the_only_one(void **state)
{
    struct process one, two;
    struct command c;
    (void)state;
    if (!own_run)
        skip_test("needs a mount namespace of its own");
    command_run(&c, 69, CMD("status"));
    assert_contains(c.err, "no running server has its admin socket in /run/lastcall");
    command_release(&c);
    process_start(&one, NULL, ARGS("--admin-name", "first"));
    command_run(&c, 0, CMD("status"));
    command_release(&c);
    process_start(&two, NULL, ARGS("--admin-name", "second"));
    process_wait_log(&two, "admin on ");
    command_run(&c, 64, CMD("drain"));
    assert_contains(c.err, "2 servers are running; name one of them:\n");
    assert_contains(c.err, "    --socket /run/lastcall/second.sock    (process ");
    assert_contains(c.err, two.address);
    command_release(&c);
    process_signal(&one, SIGKILL); /* its socket remains, and must not disturb */
    process_expect(&one, LIMIT_MS, 128 + SIGKILL);
    command_run(&c, 0, CMD("drain"));
    assert_contains(c.out, "/run/lastcall/second.sock: draining");
    command_release(&c);
    process_expect(&two, LIMIT_MS, 0);
    process_release(&one);
    process_release(&two);
}

/* The folder of the program may be closed to others. */
static const char *copy_program(void)
{
    char command[4600];
    const char *binary = getenv("LASTCALL_BINARY");

    if (binary == NULL)
        binary = "build/release/lastcall";
    (void)snprintf(command, sizeof(command), "cp -- '%s' '%s-cli' '%s'", binary, binary, directory);
    assert_int_equal(system(command), 0);
    return in_directory("lastcall");
}

static void test_socket_of_another_user_is_refused(void **state)
{
    struct subject s;
    struct command c;
    (void)state;
    skip_unless_root();
    start(&s, NULL, NULL);
    assert_int_equal(chmod(directory, 0755), 0);
    command_run_as_nobody(
        &c, 77, (const char *const[]){copy_program(), "status", "--socket", s.socket, NULL});
    assert_contains(c.err, "admin.sock: permission denied: the socket is for root and the user");
    command_release(&c);
    process_signal(&s.p, SIGTERM);
    stop(&s, 0);
}

/* ---- what goes wrong ---- */

static void test_no_server(void **state)
{
    struct subject s;
    struct command c;
    (void)state;
    command_run(&c, 69, CMD("drain", "--wait", "--socket", in_directory("nowhere")));
    assert_contains(c.err, "nowhere: no such socket; the server may have exited");
    command_release(&c);
    command_run(&c, 69, CMD("status", "--socket", in_directory("closes")));
    assert_contains(c.err, "the connection closed before the answer was complete");
    command_release(&c);
    start(&s, NULL, NULL);
    process_signal(&s.p, SIGKILL);
    process_expect(&s.p, LIMIT_MS, 128 + SIGKILL);
    command_run(&c, 69, CMD("undrain", "--socket", s.socket)); /* the socket stays */
    assert_contains(c.err, "connection refused; the server may have exited");
    command_release(&c);
    stop(&s, 128 + SIGKILL);
}

static void test_what_is_no_admin_listener(void **state)
{
    static const struct {
        const char *mode;
        int status;
        const char *says;
    } rows[] = {
        {"garbage", 76, "not an admin listener"},
        {"page", 76, "not an admin listener"},
        {"404", 76, "not an admin listener: it answers with status 404"},
        {"500", 76, "not an admin listener: it answers with status 500"},
        {"schema", 76, "its status has schema 2, but this lastcall knows only schema 1"},
        {"401", 77, "orders want a token; give the secret with --token-file"},
        {"403", 77, "orders are not taken here"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct command c;
        const char *at = in_directory(rows[i].mode);
        command_run(&c, rows[i].status, CMD("status", "--socket", at));
        assert_contains(c.err, rows[i].says);
        assert_string_equal(c.out, "");
        command_release(&c);
        command_run(&c, rows[i].status, CMD("drain", "--wait", "--socket", at));
        assert_contains(c.err, rows[i].says);
        assert_string_equal(c.out, "");
        command_release(&c);
    }
}

/* Asked before all other tests: it takes ten seconds. */
static struct command stuck;

static void test_server_that_never_answers(void **state)
{
    (void)state;
    command_expect(&stuck, 69);
    assert_contains(stuck.err, "silent: no answer within 10s: the server is stuck, or this is not");
}

static void test_wrong_usage(void **state)
{
    static const struct {
        const char *args[5];
        int status;
        const char *says;
    } rows[] = {
        {{"drain", "--deadline", "soon"}, 64, "--deadline soon: want a duration"},
        {{"drain", "--reason", "\377"}, 64, "--reason: want text in UTF-8"},
        {{"drain", "now"}, 64, "now: not an option; see lastcall drain --help"},
        {{"status", "--colour"}, 64, "--colour: no such option; see lastcall status --help"},
        {{"top", "--once", "--socket"}, 64, "--socket: wants a value"},
        {{"status", "--socket", "a", "--admin", "b"}, 64, "give only one of these"},
        {{"status", "--admin", "ftp://localhost"}, 64, "want a URL such as http://127.0.0.1:9090"},
        {{"status", "--token-file", "/nowhere/at/all"}, 66, "cannot read it: No such file"},
        {{"status", "--token-file", "/dev/null"}, 66, "its first line, the secret, is empty"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct command c;
        const char *argv[7] = {NULL};
        for (size_t n = 0; n < 5; n++)
            argv[n + 1] = rows[i].args[n];
        command_run(&c, rows[i].status, argv);
        assert_contains(c.err, rows[i].says);
        assert_string_equal(c.out, "");
        command_release(&c);
    }
}

static void test_help_names_the_commands_and_their_options(void **state)
{
    static const char *const names[] = {"drain", "undrain", "status", "top"};
    struct command c, whole;
    (void)state;
    command_run(&whole, 0, CMD("--help"));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char line[64];
        (void)snprintf(line, sizeof(line), "\n  %s  ", names[i]);
        assert_contains(whole.out, line);
        command_run(&c, 0, CMD(names[i], "--help"));
        assert_contains(c.out, "Usage: lastcall ");
        assert_contains(c.out, "  --socket PATH ");
        assert_contains(c.out, "  --admin URL ");
        assert_contains(c.out, "  --token-file FILE ");
        command_release(&c);
    }
    command_release(&whole);
}

/* ---- all ---- */

static int set_up(void **state)
{
    if (make_directory(state) != 0)
        return -1;
    (void)setenv("LC_ALL", "C.UTF-8", 1);
    (void)unsetenv("XDG_RUNTIME_DIR");
    /* Servers of others, and what killed ones left, are out of sight. */
    own_run = unshare(CLONE_NEWNS) == 0 &&
              mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
              mount("none", "/run", "tmpfs", 0, "mode=755") == 0;
    start_fakes();
    command_start(&stuck, CMD("status", "--socket", in_directory("silent")));
    return 0;
}

static int tear_down(void **state)
{
    command_release(&fakes);
    command_release(&stuck);
    return remove_directory(state);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    static const struct CMUnitTest tests[] = {
        TEST(test_status_is_half_a_page),
        TEST(test_status_and_top_show_the_upstreams),
        TEST(test_status_as_json_is_the_servers),
        TEST(test_paths_cannot_reach_the_terminal),
        TEST(test_drain_begins_it_and_leaves),
        TEST(test_wait_ends_with_0_when_all_was_answered),
        TEST(test_wait_ends_with_3_at_the_deadline),
        TEST(test_wait_ends_with_4_when_it_was_forced),
        TEST(test_second_order_joins_the_drain),
        TEST(test_order_that_the_server_cannot_read),
        TEST(test_interrupted_wait_leaves_the_drain_running),
        TEST(test_server_that_says_nothing_of_its_end),
        TEST(test_drain_is_called_off_in_its_lame_duck_time),
        TEST(test_undrain_past_the_point_of_no_return_is_refused),
        TEST(test_bar_on_a_terminal),
        TEST(test_bar_is_as_wide_as_the_terminal_has_become),
        TEST(test_interrupt_key_leaves_the_drain_running),
        TEST(test_top_follows_and_q_quits),
        TEST(test_top_restores_the_terminal_at_an_interrupt),
        TEST(test_top_says_how_the_server_ended),
        TEST(test_top_without_a_terminal_is_refused),
        TEST(test_orders_over_tcp_want_the_secret),
        TEST(test_default_socket_is_the_only_one),
        TEST(test_socket_of_another_user_is_refused),
        TEST(test_no_server),
        TEST(test_what_is_no_admin_listener),
        TEST(test_wrong_usage),
        TEST(test_help_names_the_commands_and_their_options),
        TEST(test_server_that_never_answers),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("cli", tests, set_up, tear_down);
}

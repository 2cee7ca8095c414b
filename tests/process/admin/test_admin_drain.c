/* Drains over the admin listener: how to order one, until when it can be called off, what the
 * listener shows of it to its end, and that observers do not hold it up. */

#include "admin_client.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "loadgen.h"

#define LIMIT_MS 30000
#define ARGS(...) ((const char *const[]){"--threads", "2", "--admin", address, __VA_ARGS__, NULL})

static char directory[] = "/tmp/lastcall-admdrain-XXXXXX";
static char address[128], report_path[128];

/* A request that runs in a worker, and will for `ms`. */
static int begin_sleep(const struct process *p, const struct process *admin, unsigned ms)
{
    char request[96];
    int fd = client_connect(p);

    (void)snprintf(request, sizeof(request), GET("/sleep?ms=%u"), ms);
    client_send(fd, request);
    admin_wait_number(admin, "pool.running", 1);
    return fd;
}

static void assert_answered(int fd)
{
    client_expect(fd, " 200 OK");
    (void)close(fd);
}

/* ---- readiness ---- */

/* Can a client connect? Before the server refuses connections, the balancer must have seen that it
 * is not ready. */
static bool is_refused(const struct process *p)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(un.sun_path, sizeof(un.sun_path), "%s", p->address + 5);
    bool refused = connect(fd, (struct sockaddr *)&un, sizeof(un)) != 0;
    (void)close(fd);
    return refused;
}

static void test_readyz_is_503_before_the_first_connection_is_refused(void **state)
{
    struct process p, admin;
    char listen[128];
    (void)state;
    (void)snprintf(listen, sizeof(listen), "unix:%s/web.sock", directory);
    for (unsigned i = 0; i < 5; i++) {
        process_start(&p, listen, ARGS("--deadline", "60s"));
        admin = admin_of(&p);
        int fd = begin_sleep(&p, &admin, 60000);
        admin_order(&admin, "/drain", NULL, 202, "true");
        while (!is_refused(&p))
            ;
        admin_expect(&admin, "GET", "/readyz", "", NULL, 503, "\r\n\r\ndraining\n");
        process_signal(&p, SIGKILL);
        process_expect(&p, LIMIT_MS, 128 + SIGKILL);
        (void)close(fd);
        process_release(&p);
    }
    (void)unlink(listen + 5);
}

static void test_in_lame_duck_it_is_not_ready_and_still_serves(void **state)
{
    struct process p, admin;
    (void)state;
    process_start(&p, NULL, ARGS("--lame-duck", "60s"));
    admin = admin_of(&p);
    admin_order(&admin, "/drain", "{}", 202, "{\"began\":true}");
    admin_wait_text(&admin, "phase", "lame-duck");
    admin_expect(&admin, "GET", "/readyz", "", NULL, 503, "draining");
    admin_expect(&admin, "GET", "/livez", "", NULL, 200, "live");
    int fd = client_connect(&p);
    client_send(fd, GET("/hello"));
    assert_answered(fd);
    admin_wait_number(&admin, "drain.answered", 1); /* counted a moment after the answer */
    json_t *status = admin_status(&admin);
    assert_true(json_is_false(admin_at(status, "ready")));
    assert_true(json_is_true(admin_at(status, "drain.can_be_called_off")));
    assert_true(admin_number(status, "drain.lame_duck_left_ms") > 0);
    assert_true(json_is_null(admin_at(status, "drain.left_ms")));
    assert_int_equal((int)admin_number(status, "drain.answered"), 1);
    json_decref(status);
    process_release(&p);
}

/* ---- undrain ---- */

struct load {
    struct load_options options;
    struct load_result result;
    int err;
    pthread_t thread;
    atomic_bool is_enough; /* the load ends */
};

static bool is_enough(void *arg)
{
    struct load *load = arg;
    return atomic_load(&load->is_enough);
}

static void *run_load(void *arg)
{
    struct load *load = arg;
    load->err = load_run(&load->options, &load->result);
    return NULL;
}

static void test_undrain_in_lame_duck_loses_nothing(void **state)
{
    struct process p, admin;
    (void)state;
    process_start(&p, NULL, ARGS("--lame-duck", "60s", "--report", report_path));
    admin = admin_of(&p);
    struct load load = {.options = {.address = p.address,
                                    .protocol = LOAD_HTTP1_KEEPALIVE,
                                    .connections = 16,
                                    .duration_ms = 60000,
                                    .patience_ms = 30000,
                                    .is_enough = is_enough,
                                    .is_enough_arg = &load}};
    assert_int_equal(pthread_create(&load.thread, NULL, run_load, &load), 0);
    admin_wait_number(&admin, "requests.answered", 100);
    admin_order(&admin, "/drain", "{\"reason\": \"a mistake\"}", 202, "true");
    admin_wait_text(&admin, "phase", "lame-duck");
    admin_wait_number(&admin, "drain.answered", 100);
    admin_order(&admin, "/undrain", NULL, 200, "{\"undrained\":true}");
    admin_wait_text(&admin, "phase", "running");
    admin_expect(&admin, "GET", "/readyz", "", NULL, 200, "ready");
    json_t *status = admin_status(&admin);
    assert_true(json_is_null(admin_at(status, "drain")));
    double answered = admin_number(status, "requests.answered");
    json_decref(status);
    admin_order(&admin, "/undrain", "{}", 409, "\"not-draining\"");
    /* Connections are kept again; one that is opened when the load ends counts as refused. */
    admin_wait_number(&admin, "requests.answered", answered + 500);
    atomic_store(&load.is_enough, true);
    assert_int_equal(pthread_join(load.thread, NULL), 0);
    assert_int_equal(load.err, 0);
    assert_int_equal(load.result.lost, 0);
    assert_int_equal(load.result.refused, 0);
    assert_int_equal(load.result.waiting, 0);
    assert_int_equal(load.result.answered_2xx, load.result.answered);
    assert_true(load.result.closes_announced > 0); /* it was in the middle of it */
    process_wait_log(&p, "drain called off");
    process_release(&p);
}

static void test_undrain_is_refused_once_the_listeners_close(void **state)
{
    struct process p, admin;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "60s"));
    admin = admin_of(&p);
    int fd = client_begin(&p);
    admin_order(&admin, "/drain", "{}", 202, "true");
    admin_wait_text(&admin, "phase", "draining");
    admin_order(&admin, "/undrain", "{}", 409, "\"past-no-return\"");
    json_t *status = admin_status(&admin);
    assert_true(json_is_false(admin_at(status, "drain.can_be_called_off")));
    json_decref(status);
    client_end(fd); /* and it goes on as if there had been no request */
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* ---- the order ---- */

static json_t *read_report(void)
{
    json_t *report = json_load_file(report_path, 0, NULL);
    assert_non_null(report);
    (void)unlink(report_path);
    return report;
}

static void test_drain_has_its_own_deadline_and_a_reason(void **state)
{
    struct process p, admin;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "60s", "--report", report_path));
    admin = admin_of(&p);
    int fd = begin_sleep(&p, &admin, 60000);
    admin_order(&admin, "/drain", "{\"deadline\": \"150ms\", \"reason\": \"roll out \\u00fc\"}",
                202, "true");
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "admin: roll out \xc3\xbc: draining");
    json_t *report = read_report();
    assert_string_equal(admin_text(report, "triggers.0.name"), "admin");
    assert_string_equal(admin_text(report, "triggers.0.detail"), "roll out \xc3\xbc");
    assert_string_equal(admin_text(report, "unfinished.0.path"), "/sleep?ms=60000");
    assert_int_equal((int)admin_number(report, "exit_status"), 3);
    json_decref(report);
    (void)close(fd);
    process_release(&p);
}

static void test_of_two_drains_the_first_wins_and_the_other_is_noted(void **state)
{
    struct process p, admin;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "60s", "--report", report_path));
    admin = admin_of(&p);
    int fd = begin_sleep(&p, &admin, 60000);
    admin_order(&admin, "/drain", "{\"deadline\": \"50s\", \"reason\": \"one\"}", 202,
                "{\"began\":true}");
    admin_order(&admin, "/drain", "{\"deadline\": \"0\", \"reason\": \"two\"}", 202,
                "{\"began\":false}");
    json_t *status = admin_status(&admin);
    assert_int_equal((int)admin_number(status, "drain.deadline_ms"), 50000);
    assert_string_equal(admin_text(status, "drain.triggers.0.detail"), "one");
    assert_string_equal(admin_text(status, "drain.triggers.1.detail"), "two");
    assert_int_equal((int)admin_number(status, "drain.began_with.in_flight"), 1);
    assert_int_equal((int)admin_number(status, "drain.began_with.connections"), 1);
    json_decref(status);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    json_t *report = read_report();
    assert_string_equal(admin_text(report, "triggers.0.detail"), "one");
    assert_string_equal(admin_text(report, "triggers.1.detail"), "two");
    json_decref(report);
    process_release(&p);
}

/* ---- the stream ---- */

static int watch(const struct process *admin)
{
    int fd = client_connect(admin);
    client_send(fd, GET("/events"));
    char *first = client_read_until(fd, "\n\n");
    assert_contains(first, "\"phase\":\"running\"");
    free(first);
    return fd;
}

/* The data of the next event after *at, which moves on; NULL: there is none. */
static json_t *next_event(char **at)
{
    static const char mark[] = "event: status\ndata: ";
    char *begin = strstr(*at, mark), *end;

    if (begin == NULL || (end = strstr(begin, "\n\n")) == NULL)
        return NULL;
    *end = '\0';
    *at = end + 1;
    json_t *event = json_loads(begin + sizeof(mark) - 1, 0, NULL);
    assert_non_null(event);
    return event;
}

/* The phases in the order in which they came, each once. */
static void follow(char *stream, char *ret_phases, size_t size, json_t **ret_last)
{
    json_t *event;
    char *at = stream;

    ret_phases[0] = '\0';
    *ret_last = NULL;
    while ((event = next_event(&at)) != NULL) {
        const char *phase = admin_text(event, "phase");
        size_t n = strlen(ret_phases), length = strlen(phase);
        if (n < length || strcmp(ret_phases + n - length, phase) != 0)
            (void)snprintf(ret_phases + n, size - n, "%s%s", n > 0 ? " " : "", phase);
        json_decref(*ret_last);
        *ret_last = event;
    }
    assert_non_null(*ret_last);
}

static void test_events_show_a_drain_to_its_end(void **state)
{
    struct process p, admin;
    char phases[256];
    json_t *last;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "60s", "--lame-duck", "300ms"));
    admin = admin_of(&p);
    int events = watch(&admin);
    int fd = client_begin(&p);
    admin_order(&admin, "/drain", "{}", 202, "true");
    char *begun = client_read_until(events, "\"phase\":\"draining\""), *stream;
    client_end(fd);
    char *rest = client_read_until(events, "\r\n0\r\n\r\n"); /* the server ends the stream itself */
    assert_contains(rest, "\r\n0\r\n\r\n");
    assert_true(asprintf(&stream, "%s%s", begun, rest) > 0);
    free(begun);
    free(rest);
    process_expect(&p, LIMIT_MS, 0);
    follow(stream, phases, sizeof(phases), &last);
    /* CLOSING may be over before the stream reports it. */
    if (strcmp(phases, "lame-duck closing draining done") != 0 &&
        strcmp(phases, "lame-duck draining done") != 0 &&
        strcmp(phases, "running lame-duck closing draining done") != 0 &&
        strcmp(phases, "running lame-duck draining done") != 0)
        fail_msg("the phases were: %s", phases);
    assert_int_equal((int)admin_number(last, "exit_status"), 0);
    assert_int_equal((int)admin_number(last, "requests.in_flight"), 0);
    assert_int_equal((int)admin_number(last, "drain.answered"), 1);
    assert_string_equal(admin_text(last, "drain.phases.3.phase"), "done");
    json_decref(last);
    free(stream);
    (void)close(events);
    process_release(&p);
}

static void test_events_end_with_the_exit_status_of_a_drain_that_failed(void **state)
{
    struct process p, admin;
    char phases[256];
    json_t *last;
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "60s"));
    admin = admin_of(&p);
    int events = watch(&admin);
    int fd = begin_sleep(&p, &admin, 60000);
    admin_order(&admin, "/drain", "{\"deadline\": \"400ms\"}", 202, "true");
    char *stream = client_read_until(events, NULL);
    process_expect(&p, LIMIT_MS, 3);
    follow(stream, phases, sizeof(phases), &last);
    assert_contains(phases, "draining");
    assert_string_equal(admin_text(last, "phase"), "done");
    assert_int_equal((int)admin_number(last, "exit_status"), 3);
    assert_string_equal(admin_text(last, "drain.phases.2.phase"), "aborting");
    assert_int_equal((int)admin_number(last, "requests.given_up"), 1); /* cut at the end */
    json_decref(last);
    free(stream);
    (void)close(fd);
    (void)close(events);
    process_release(&p);
}

/* ---- the drain does not wait for observers ---- */

static void test_clients_that_never_read_hold_nothing(void **state)
{
    struct process p, admin;
    int fds[40];
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "60s"));
    admin = admin_of(&p);
    int fd = begin_sleep(&p, &admin, 2000); /* first: later the admin thread has much to do */
    for (unsigned i = 0; i < 40; i++) {
        fds[i] = client_connect(&admin);
        if (i < 8) {
            client_send(fds[i], GET("/events"));
        } else { /* as many questions as the kernel takes, until the answers fill it */
            int size = 4096;
            (void)setsockopt(fds[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
            while (send(fds[i], GET("/metrics"), strlen(GET("/metrics")),
                        MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
                ;
        }
    }
    admin_order(&admin, "/drain", "{}", 202, "true"); /* it answers, and so does the server */
    assert_answered(fd);
    process_expect(&p, LIMIT_MS, 0);
    for (unsigned i = 0; i < 40; i++)
        (void)close(fds[i]);
    process_release(&p);
}

static void test_idle_clients_hold_nothing(void **state)
{
    struct process p, admin;
    int fds[30];
    (void)state;
    process_start(&p, NULL, ARGS("--deadline", "60s"));
    admin = admin_of(&p);
    for (unsigned i = 0; i < 30; i++) {
        fds[i] = client_connect(&admin);
        if (i % 3 == 1)
            client_send(fds[i], "GET /sta");
        if (i % 3 == 2)
            client_send(fds[i], "POST /drain HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{");
    }
    admin_expect(&admin, "GET", "/livez", "", NULL, 200, "live");
    process_signal(&p, SIGTERM);
    process_expect(&p, 5000, 0); /* the library would wait ten seconds for each */
    for (unsigned i = 0; i < 30; i++)
        (void)close(fds[i]);
    process_release(&p);
}

static int make_directory(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    (void)snprintf(address, sizeof(address), "unix:%s/admin.sock", directory);
    (void)snprintf(report_path, sizeof(report_path), "%s/report.json", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    (void)unlink(address + 5);
    (void)unlink(report_path);
    return rmdir(directory);
}

#define claim(f) cmocka_unit_test_teardown(f, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_readyz_is_503_before_the_first_connection_is_refused),
        claim(test_in_lame_duck_it_is_not_ready_and_still_serves),
        claim(test_undrain_in_lame_duck_loses_nothing),
        claim(test_undrain_is_refused_once_the_listeners_close),
        claim(test_drain_has_its_own_deadline_and_a_reason),
        claim(test_of_two_drains_the_first_wins_and_the_other_is_noted),
        claim(test_events_show_a_drain_to_its_end),
        claim(test_events_end_with_the_exit_status_of_a_drain_that_failed),
        claim(test_clients_that_never_read_hold_nothing),
        claim(test_idle_clients_hold_nothing),
    };
    return cmocka_run_group_tests_name("admin_drain", tests, make_directory, remove_directory);
}

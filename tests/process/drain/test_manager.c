/* The real process and its service manager: its messages, their order, and its requests. The
 * manager is the test: the other end of $NOTIFY_SOCKET, and of the system bus. */

#include "process.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "as_manager.h"
#include "budget.h"
#include "clock.h"
#include "directory.h"
#include "expect.h"

#ifdef LASTCALL_SYSTEMD
#include <systemd/sd-bus.h>
#endif

#define LIMIT_MS 30000
#define ARGS(...) ((const char *const[]){"--threads", "1", __VA_ARGS__, NULL})

/* With room for all messages that the test does not read at once. */
static int listen_with_room(void)
{
    const int room = 1 << 20;
    int fd = listen_as_manager(in_directory("notify"));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    return fd;
}

static void forget_manager(void)
{
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("DBUS_SYSTEM_BUS_ADDRESS");
}

/* ---- messages to the manager ---- */

#define TOLD_MAX 500

struct told {
    char *texts[TOLD_MAX];
    unsigned count;
};

static void read_all(int manager, struct told *told)
{
    char text[1024];
    ssize_t n;
    while (told->count < TOLD_MAX &&
           (n = recv(manager, text, sizeof(text) - 1, MSG_DONTWAIT)) > 0) {
        text[n] = '\0';
        told->texts[told->count++] = strdup(text);
    }
}

/* The first one from `from` on that says `what`; TOLD_MAX: none. */
static unsigned find(const struct told *told, unsigned from, const char *what)
{
    for (unsigned i = from; i < told->count; i++)
        if (strstr(told->texts[i], what) != NULL)
            return i;
    return TOLD_MAX;
}

static void release_told(struct told *told)
{
    for (unsigned i = 0; i < told->count; i++)
        free(told->texts[i]);
}

static void collect(struct process *p, int manager, struct told *told)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    while (!process_is_gone(p) && now_ns() < until_ns) {
        struct pollfd polled = {.fd = manager, .events = POLLIN};
        (void)poll(&polled, 1, 20);
        read_all(manager, told);
    }
}

/* All of it in one drain: a lame duck, requests that end one after the other, and a last one. */
static void test_manager_is_told_everything_in_order(void **state)
{
    struct process p;
    struct told told = {0};
    int fds[3];
    (void)state;
    int manager = listen_with_room();
    assert_int_equal(setenv("WATCHDOG_USEC", "200000", 1), 0);
    process_start(&p, NULL, ARGS("--lame-duck", "500ms", "--deadline", "60s"));
    forget_manager();
    for (unsigned i = 0; i < 3; i++)
        fds[i] = client_connect(&p);
    client_send(fds[0], GET("/sleep?ms=900"));
    client_send(fds[1], GET("/sleep?ms=1700"));
    client_send(fds[2], GET("/sleep?ms=2700"));
    for (unsigned i = 0; i < 3; i++)
        assert_serves(&p);
    process_signal(&p, SIGTERM);
    collect(&p, manager, &told);
    process_expect(&p, LIMIT_MS, 0);
    read_all(manager, &told);

    unsigned ready = find(&told, 0, "READY=1");
    unsigned lame = find(&told, 0, "STATUS=lame duck for 500ms");
    unsigned stopping = find(&told, 0, "STOPPING=1");
    unsigned draining = find(&told, 0, "STATUS=draining: ");
    unsigned extend = find(&told, 0, "EXTEND_TIMEOUT_USEC=");
    unsigned drained = find(&told, 0, "STATUS=drained, exit status 0");
    for (unsigned i = 0; i < told.count; i++)
        if (strstr(told.texts[i], "WATCHDOG=1") == NULL)
            print_message("%3u %s\n", i, told.texts[i]);
    assert_true(ready < lame && lame < stopping && stopping < draining && draining < drained);
    assert_true(draining <= extend && extend < drained && drained < told.count);
    for (unsigned i = drained + 1; i < told.count; i++) /* the last message, but for a beat */
        assert_string_equal(told.texts[i], "WATCHDOG=1");
    assert_int_equal(find(&told, ready + 1, "READY=1"), TOLD_MAX);
    assert_int_equal(find(&told, stopping + 1, "STOPPING=1"), TOLD_MAX);
    /* Signs of life: while it serves, while it is a lame duck, and in the drain. */
    assert_true(find(&told, 0, "WATCHDOG=1") < lame);
    assert_true(find(&told, lame, "WATCHDOG=1") < stopping);
    assert_true(find(&told, draining, "WATCHDOG=1") < drained);
    for (unsigned i = 0; i < 3; i++)
        (void)close(fds[i]);
    (void)close(manager);
    release_told(&told);
    process_release(&p);
}

/* Its queue has room for some, and is full soon. */
static void test_manager_that_reads_nothing_holds_nothing_up(void **state)
{
    struct process p;
    (void)state;
    int manager = listen_with_room();
    assert_int_equal(setenv("WATCHDOG_USEC", "20000", 1), 0);
    process_start(&p, NULL, ARGS("--lame-duck", "500ms"));
    forget_manager();
    (void)poll(NULL, 0, 1000);
    int fd = client_connect(&p);
    client_send(fd, GET("/sleep?ms=1000"));
    assert_serves(&p);
    process_signal(&p, SIGTERM);
    client_expect(fd, " 200 OK");
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    (void)close(manager);
    process_release(&p);
}

/* ---- the budget ---- */

static void test_budget_is_lame_duck_and_the_longest_deadline_and_linger(void **state)
{
    struct drain_config drain = {.lame_duck_ns = 5 * NS_PER_S,
                                 .deadline_ns = 10 * NS_PER_S,
                                 .class_ns = {[DRAIN_TUNNEL] = 2 * NS_PER_S}};
    struct budget_tail tail = {.linger_ns = 2 * NS_PER_S};
    char text[512];
    (void)state;
    assert_int_equal(budget_needed_ns(&drain, &tail), 17 * NS_PER_S);
    drain.class_ns[DRAIN_UPLOAD] = 30 * NS_PER_S;
    assert_int_equal(budget_needed_ns(&drain, &tail), 37 * NS_PER_S);
    assert_false(budget_text(&drain, &tail, 37 * NS_PER_S, "the limit", text, sizeof(text)));
    assert_true(budget_text(&drain, &tail, 37 * NS_PER_S - 1, "the limit", text, sizeof(text)));
    assert_contains(text, "a stop may take 37s (lame-duck 5s + deadline 30s + linger 2s)");
    assert_contains(text, "the limit is 37s");
    assert_contains(text, "lower drain.deadline");
    tail.app_grace_ns = 5 * NS_PER_S;
    assert_true(budget_text(&drain, &tail, 41 * NS_PER_S, "the limit", text, sizeof(text)));
    assert_contains(text, "take 42s (lame-duck 5s + deadline 30s + linger 2s + the application's "
                          "grace 5s)");
}

static void test_budget_that_is_too_small_is_logged(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--grace-budget", "11s"));
    process_wait_log(&p, "a stop may take 12s (lame-duck 0 + deadline 10s + linger 2s), and the "
                         "grace budget is 11s");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
    process_start(&p, NULL, ARGS("--grace-budget", "12s"));
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_lacks(p.log, "a stop may take");
    process_release(&p);
}

/* ---- the system bus ---- */

#ifdef LASTCALL_SYSTEMD

/* A bus whose only peer is the manager. */
struct bus {
    int listener, stop_fd;
    bool silent; /* it takes the connection, and says nothing */
    uint64_t stop_us;
    atomic_uint asked; /* for the property */
    pthread_t thread;
};

static int on_call(sd_bus_message *m, void *arg, sd_bus_error *error)
{
    struct bus *bus = arg;
    uint32_t pid;
    (void)error;
    if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus", "Hello"))
        return sd_bus_reply_method_return(m, "s", ":1.1");
    if (sd_bus_message_is_method_call(m, "org.freedesktop.systemd1.Manager", "GetUnitByPID")) {
        if (sd_bus_message_read(m, "u", &pid) < 0 || pid == 0)
            return 0;
        return sd_bus_reply_method_return(m, "o", "/org/freedesktop/systemd1/unit/web_2eservice");
    }
    if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", "Get")) {
        atomic_fetch_add(&bus->asked, 1);
        return sd_bus_reply_method_return(m, "v", "t", bus->stop_us);
    }
    return 0;
}

static void serve_connection(struct bus *bus, int fd)
{
    sd_bus *peer = NULL;
    const sd_id128_t id = SD_ID128_MAKE(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16);
    struct pollfd fds[] = {{.fd = bus->stop_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};

    if (!bus->silent && sd_bus_new(&peer) >= 0 && sd_bus_set_fd(peer, fd, fd) >= 0 &&
        sd_bus_set_server(peer, 1, id) >= 0 && sd_bus_add_filter(peer, NULL, on_call, bus) >= 0 &&
        sd_bus_start(peer) >= 0) {
        for (;;) {
            int n = sd_bus_process(peer, NULL);
            if (n < 0)
                break;
            if (n > 0)
                continue;
            (void)poll(fds, 2, 50); /* sd-bus may also wait for its own time */
            if (fds[0].revents != 0)
                break;
        }
    } else {
        (void)poll(fds, 1, -1);
    }
    if (peer != NULL)
        sd_bus_close_unref(peer); /* closes fd */
    else
        (void)close(fd);
}

static void *bus_thread(void *arg)
{
    struct bus *bus = arg;
    struct pollfd fds[] = {{.fd = bus->stop_fd, .events = POLLIN},
                           {.fd = bus->listener, .events = POLLIN}};
    for (;;) {
        (void)poll(fds, 2, -1);
        if (fds[0].revents != 0)
            return NULL;
        int fd = accept4(bus->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0)
            serve_connection(bus, fd);
    }
}

static void start_bus(struct bus *bus)
{
    struct sockaddr_un here = {.sun_family = AF_UNIX};
    char address[160];
    bus->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(bus->listener >= 0);
    (void)snprintf(here.sun_path, sizeof(here.sun_path), "%s/bus", directory);
    (void)unlink(here.sun_path);
    assert_int_equal(bind(bus->listener, (struct sockaddr *)&here, sizeof(here)), 0);
    assert_int_equal(listen(bus->listener, 4), 0);
    (void)snprintf(address, sizeof(address), "unix:path=%s", here.sun_path);
    assert_int_equal(setenv("DBUS_SYSTEM_BUS_ADDRESS", address, 1), 0);
    bus->stop_fd = eventfd(0, EFD_CLOEXEC);
    assert_int_equal(pthread_create(&bus->thread, NULL, bus_thread, bus), 0);
}

static void stop_bus(struct bus *bus)
{
    const uint64_t one = 1;
    assert_int_equal(write(bus->stop_fd, &one, sizeof(one)), sizeof(one));
    assert_int_equal(pthread_join(bus->thread, NULL), 0);
    (void)close(bus->stop_fd);
    (void)close(bus->listener);
}

/* Start the process with that bus, wait for its request, and end it. */
static void run_with_bus(struct bus *bus, struct process *p, const char *want)
{
    int manager = listen_with_room();
    start_bus(bus);
    process_start(p, NULL, ARGS("--deadline", "10s"));
    forget_manager();
    if (want != NULL)
        process_wait_log(p, want);
    uint64_t until_ns = now_ns() + 10000 * NS_PER_MS;
    while (!bus->silent && atomic_load(&bus->asked) == 0 && now_ns() < until_ns)
        (void)poll(NULL, 0, 5);
    assert_serves(p);
    process_signal(p, SIGTERM);
    process_expect(p, LIMIT_MS, 0);
    (void)close(manager);
    stop_bus(bus);
}

static void test_stop_timeout_of_the_unit_is_compared(void **state)
{
    struct process p;
    struct bus bus = {.stop_us = 5000000};
    (void)state;
    run_with_bus(&bus, &p,
                 "a stop may take 12s (lame-duck 0 + deadline 10s + linger 2s), and "
                 "TimeoutStopSec= is 5s");
    process_release(&p);
}

static void test_stop_timeout_that_is_enough_is_not_spoken_of(void **state)
{
    static const uint64_t enough[] = {12000000, UINT64_MAX};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct process p;
        struct bus bus = {.stop_us = enough[i]};
        run_with_bus(&bus, &p, NULL);
        assert_int_equal(atomic_load(&bus.asked), 1);
        assert_lacks(p.log, "a stop may take");
        process_release(&p);
    }
}

/* It serves, and ends, as if there were none. */
static void test_bus_that_says_nothing_holds_nothing_up(void **state)
{
    struct process p;
    struct bus bus = {.silent = true};
    (void)state;
    run_with_bus(&bus, &p, NULL);
    assert_lacks(p.log, "a stop may take");
    process_release(&p);
}

#endif

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    static const struct CMUnitTest tests[] = {
        TEST(test_manager_is_told_everything_in_order),
        TEST(test_manager_that_reads_nothing_holds_nothing_up),
        TEST(test_budget_is_lame_duck_and_the_longest_deadline_and_linger),
        TEST(test_budget_that_is_too_small_is_logged),
#ifdef LASTCALL_SYSTEMD
        TEST(test_stop_timeout_of_the_unit_is_compared),
        TEST(test_stop_timeout_that_is_enough_is_not_spoken_of),
        TEST(test_bus_that_says_nothing_holds_nothing_up),
#endif
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("manager", tests, make_directory, remove_directory);
}

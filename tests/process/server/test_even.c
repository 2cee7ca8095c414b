/* Connections and loops: the loops take even parts of those that stay, and no connection waits for
 * a loop that does not come. See even note, server/driver/accept.c. */

#include "process.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "fault.h"
#include "loadgen.h"
#include "skip.h"

#define PATIENCE_MS 60000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* ---- connections that stay ---- */

#define MANY 200

/* A connection whose request was answered. */
static int connect_and_ask(const struct process *p)
{
    int fd = client_connect(p);

    client_send(fd, GET("/hello"));
    client_expect(fd, "200 OK");
    return fd;
}

static void close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        (void)close(fds[i]);
}

/* ---- the parts, seen from outside ---- */

struct sockets {
    unsigned long inodes[2 * MANY];
    size_t count;
};

/* The server's side of the established connections, by proc(5), net/tcp. */
static struct sockets list_connections(const struct process *p)
{
    struct sockets list = {.count = 0};
    char line[512];
    FILE *file = fopen("/proc/net/tcp", "r");

    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL && list.count < 2 * MANY) {
        unsigned port, state;
        unsigned long inode;
        if (sscanf(line, "%*u: %*x:%x %*x:%*x %x %*x:%*x %*x:%*x %*x %*u %*u %lu", &port, &state,
                   &inode) == 3 &&
            port == p->port && state == 1)
            list.inodes[list.count++] = inode;
    }
    (void)fclose(file);
    return list;
}

static unsigned is_in(const struct sockets *list, unsigned long inode)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->inodes[i] == inode)
            return 1;
    return 0;
}

/* How many of them does this descriptor of the process wait for? More than 0 only if it is the
 * epoll(7) descriptor of a loop. */
static unsigned count_part(const struct process *p, const char *fd, const struct sockets *list)
{
    char path[64], line[512];
    unsigned part = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/fdinfo/%.16s", p->pid, fd);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        const char *inode = strstr(line, " ino:");
        if (strncmp(line, "tfd:", 4) == 0 && inode != NULL)
            part += is_in(list, strtoul(inode + strlen(" ino:"), NULL, 16));
    }
    if (file != NULL)
        (void)fclose(file);
    return part;
}

struct parts {
    unsigned all, largest;
};

static struct parts look_at_parts(const struct process *p)
{
    const struct sockets list = list_connections(p);
    struct parts parts = {0};
    struct dirent *entry;
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/fdinfo", p->pid);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        unsigned part = count_part(p, entry->d_name, &list);
        parts.all += part;
        parts.largest = part > parts.largest ? part : parts.largest;
    }
    (void)closedir(dir);
    return parts;
}

/* A loop may register its last connection a moment after it has answered. */
static unsigned largest_part_of(const struct process *p, unsigned all)
{
    const uint64_t until_ns = now_ns() + PATIENCE_MS * NS_PER_MS;
    struct parts parts;

    while ((parts = look_at_parts(p)).all != all) {
        if (now_ns() > until_ns)
            fail_msg("the loops have %u connections, not %u", parts.all, all);
        (void)poll(NULL, 0, 5);
    }
    return parts.largest;
}

/* ---- even parts ---- */

/* On one processor the loop that is awake comes first each time; on several it is a race, in which
 * the parts may become even by chance. */
static void use_one_processor(void)
{
    cpu_set_t all, one;

    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof(all), &all) != 0)
        return;
    for (size_t i = 0; i < CPU_SETSIZE && CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    (void)sched_setaffinity(0, sizeof(one), &one);
}

/* Longer than the tick in which a loop looks away, and the one after it, in which it takes some
 * anyway. */
#define PACE_MS 3

/* A loop takes one more while it has at most P + P / 8 + 4, where P is its part of those that are
 * open: at most 61 of 200, where P is 50. That bound is not hard: if the others do not get the
 * processor for a tick, the loop takes what comes then. The rest is for that. Loops that never look
 * away have 94 and more. */
#define LARGEST_PART (61 + 14)

/* The connections stay for as long as it takes to make all of them, and to count. */
static const char *write_patient_conf(void)
{
    const char *path = in_directory("patient.conf");
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    (void)fprintf(file,
                  "user: %s\nhttp1-request-timeout: 300\n"
                  "hosts: {default: {paths: {/hello: {handler: hello}}}}\n",
                  own_user_name());
    assert_int_equal(fclose(file), 0);
    return path;
}

static void test_loops_take_even_parts(void **state)
{
    struct process p;
    int fds[MANY];

    (void)state;
    if (process_runs_under_valgrind())
        skip_test("valgrind: a turn takes longer than a tick");
    process_in_child = use_one_processor;
    process_start(&p, NULL, ARGS("--threads", "4", "-c", write_patient_conf()));
    process_in_child = NULL;
    for (size_t i = 0; i < MANY; i++) {
        fds[i] = connect_and_ask(&p);
        (void)poll(NULL, 0, PACE_MS);
    }
    unsigned largest = largest_part_of(&p, MANY);
    close_all(fds, MANY);
    process_release(&p);
    print_message("the largest part: %u of %u\n", largest, MANY);
    assert_in_range(largest, MANY / 4, LARGEST_PART);
}

/* ---- nobody waits ---- */

/* For an answer; less than the ten seconds after which idle connections are closed, which makes a
 * loop less ahead. */
#define SLOWEST_MS 5000

static void test_no_connection_waits_for_a_loop_that_is_stuck(void **state)
{
    struct fault_hold stuck;
    struct process p;
    int fds[40]; /* from the tenth on, a loop that has all of them is ahead */

    (void)state;
    process_start(&p, NULL, ARGS("--threads", "2"));
    if (!fault_hold_thread(&stuck, p.pid, "loop-1")) {
        process_release(&p);
        skip_test("needs ptrace(2)");
    }
    uint64_t slowest_ns = 0;
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        uint64_t begun_ns = now_ns();
        fds[i] = connect_and_ask(&p);
        uint64_t took_ns = now_ns() - begun_ns;
        slowest_ns = took_ns > slowest_ns ? took_ns : slowest_ns;
    }
    fault_let_go(&stuck);
    close_all(fds, sizeof(fds) / sizeof(fds[0]));
    process_release(&p);
    print_message("the slowest answer: %.1f ms\n", (double)slowest_ns / 1e6);
    assert_true(slowest_ns < SLOWEST_MS * NS_PER_MS);
}

/* Downloads, so that each turn of the loop that serves them takes milliseconds. */
#define BIG_BYTES (16U << 20)

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DOWNLOADS 12 /* each piece takes longer */
#else
#define DOWNLOADS 48
#endif
/* An answer takes a few turns; it took for ever. */
#define LONG_TURNS_MS 30000

static sem_t downloading;
static _Atomic bool downloaded_enough;

/* Again and again, on one connection. */
static void *download(void *server)
{
    static _Thread_local char bytes[1 << 16];
    int fd = client_connect(server);

    for (bool first = true; !downloaded_enough; first = false) {
        client_send(fd, GET("/files/big"));
        for (size_t left = BIG_BYTES; left > 0 && !downloaded_enough;) {
            ssize_t n = recv(fd, bytes, left < sizeof(bytes) ? left : sizeof(bytes), 0);
            if (n <= 0)
                break;
            left -= (size_t)n; /* the head is taken for a part of it: that is near enough */
        }
        if (first)
            (void)sem_post(&downloading);
    }
    (void)close(fd);
    return NULL;
}

static void make_big_file(void)
{
    FILE *big = fopen(in_directory("big"), "w");

    assert_non_null(big);
    assert_int_equal(ftruncate(fileno(big), BIG_BYTES), 0);
    (void)fclose(big);
}

static void test_no_connection_waits_though_the_other_loop_has_long_turns(void **state)
{
    struct fault_hold stuck;
    struct process p;
    pthread_t threads[DOWNLOADS];

    (void)state;
    make_big_file();
    process_start(&p, NULL, ARGS("--threads", "2", "--root", in_directory(".")));
    if (!fault_hold_thread(&stuck, p.pid, "loop-1")) {
        process_release(&p);
        skip_test("needs ptrace(2)");
    }
    assert_int_equal(sem_init(&downloading, 0, 0), 0);
    for (size_t i = 0; i < DOWNLOADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, download, &p), 0);
    for (size_t i = 0; i < DOWNLOADS; i++)
        assert_int_equal(sem_wait(&downloading), 0);
    uint64_t slowest_ns = 0;
    for (size_t i = 0; i < 5; i++) {
        uint64_t begun_ns = now_ns();
        (void)close(connect_and_ask(&p));
        uint64_t took_ns = now_ns() - begun_ns;
        slowest_ns = took_ns > slowest_ns ? took_ns : slowest_ns;
    }
    downloaded_enough = true;
    for (size_t i = 0; i < DOWNLOADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    fault_let_go(&stuck);
    process_release(&p);
    print_message("the slowest answer: %.1f ms\n", (double)slowest_ns / 1e6);
    assert_true(slowest_ns < LONG_TURNS_MS * NS_PER_MS);
}

static void test_each_of_many_short_connections_is_answered_soon(void **state)
{
    struct process p;
    struct load_result result;
    struct load_options load = {.protocol = LOAD_HTTP1_CLOSE,
                                .connections = 64,
                                .max_requests = 2000,
                                .duration_ms = PATIENCE_MS,
                                .patience_ms = PATIENCE_MS};

    (void)state;
    process_start(&p, NULL, ARGS("--threads", "4"));
    load.address = p.address;
    assert_int_equal(load_run(&load, &result), 0);
    process_release(&p);
    print_message("the slowest answer: %llu us\n", (unsigned long long)result.latency_max_us);
    assert_int_equal(result.answered_2xx, load.max_requests);
    assert_true(result.latency_max_us < SLOWEST_MS * 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_loops_take_even_parts, process_kill_left),
        cmocka_unit_test_teardown(test_no_connection_waits_for_a_loop_that_is_stuck,
                                  process_kill_left),
        cmocka_unit_test_teardown(test_no_connection_waits_though_the_other_loop_has_long_turns,
                                  process_kill_left),
        cmocka_unit_test_teardown(test_each_of_many_short_connections_is_answered_soon,
                                  process_kill_left),
    };
    return cmocka_run_group_tests_name("even", tests, make_directory, remove_directory);
}

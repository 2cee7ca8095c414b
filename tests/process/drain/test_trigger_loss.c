/* Triggers that are no signals, on a server under load: each drains it with nothing lost, and none
 * fires when it should not.
 *
 * LASTCALL_RUNS: each trigger so many times for each shape of load (1), and as many times 1.5
 * seconds in which nothing must happen: 40 make a minute. What it prints of reaction times is what
 * this machine had at that moment; only bounds that no machine misses are asserted. */

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
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "loadgen.h"

#define CONNECTIONS 32
#define LIMIT_MS 60000
#define QUIET_MS 1500
#define ARGS(...)                                                                                  \
    ((const char *const[]){"--threads", "2", "--deadline", "60s", "--idle-grace", "10s",           \
                           __VA_ARGS__, NULL})

static unsigned runs(void)
{
    const char *text = getenv("LASTCALL_RUNS");
    long n = text != NULL ? strtol(text, NULL, 10) : 1;
    return n >= 1 && n <= 10000 ? (unsigned)n : 1;
}

static void touch(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(futimens(fd, NULL), 0);
    (void)close(fd);
}

/* ---- a heart that beats beside the load ---- */

struct heart {
    char path[160];
    bool claims_times; /* it lies about the time: the clock is set, forth and back */
    pthread_t thread;
    atomic_bool stops;
    /* read when the thread is joined: */
    uint64_t last_ns;    /* of the last beat */
    uint64_t longest_ns; /* between two, where the machine is busy */
};

static void *beat(void *arg)
{
    struct heart *heart = arg;
    for (long i = 0; !atomic_load(&heart->stops); i++) {
        const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1000000000 + i % 7 * 86400}};
        uint64_t begun_ns = now_ns(); /* before the beat, which may come late */
        if (i > 0 && begun_ns - heart->last_ns > heart->longest_ns)
            heart->longest_ns = begun_ns - heart->last_ns;
        heart->last_ns = begun_ns;
        (void)utimensat(AT_FDCWD, heart->path, heart->claims_times ? times : NULL, 0);
        (void)poll(NULL, 0, 20);
    }
    return NULL;
}

static void start_heart(struct heart *heart, const char *path)
{
    touch(path);
    (void)snprintf(heart->path, sizeof(heart->path), "%s", path);
    assert_int_equal(pthread_create(&heart->thread, NULL, beat, heart), 0);
}

static void stop_heart(struct heart *heart)
{
    atomic_store(&heart->stops, true);
    assert_int_equal(pthread_join(heart->thread, NULL), 0);
}

/* ---- each trigger, under load ---- */

struct pull {
    const char *file; /* made */
    struct heart *heart;
    int fd; /* closed */
    const char *link, *target;
};

static void pull(void *arg)
{
    struct pull *p = arg;
    char new[200];
    if (p->heart != NULL)
        stop_heart(p->heart);
    if (p->file != NULL)
        touch(p->file);
    if (p->fd >= 0)
        (void)close(p->fd);
    if (p->link != NULL) {
        (void)snprintf(new, sizeof(new), "%s.new", p->link);
        assert_int_equal(symlink(p->target, new), 0);
        assert_int_equal(rename(new, p->link), 0);
    }
}

/* Load the server, pull the trigger in the middle, and lose nothing. Returns how long the first
 * answer that announced the end, or refused connect, was in coming: no less than the reaction. */
static void run_load(struct process *p, enum load_protocol protocol, struct pull *trigger,
                     const char *name)
{
    struct load_result result;
    struct load_options load = {.address = p->address,
                                .protocol = protocol,
                                .streams = 8,
                                .connections = CONNECTIONS,
                                .duration_ms = LIMIT_MS,
                                .patience_ms = LIMIT_MS,
                                .signal_after_ms = 200,
                                .signal_after_answers = 2 * CONNECTIONS,
                                .on_signal = pull,
                                .on_signal_arg = trigger,
                                .server_is_gone = is_gone,
                                .server_is_gone_arg = p};

    assert_int_equal(load_run(&load, &result), 0);
    process_expect(p, LIMIT_MS, 0);
    if (result.lost != 0 || result.waiting != 0)
        fail_msg("%s: %llu lost of %llu, %llu waiting; first: %s; log:\n%s", name,
                 (unsigned long long)result.lost, (unsigned long long)result.sent,
                 (unsigned long long)result.waiting, result.first_loss, p->log);
    assert_true(result.answered > CONNECTIONS);
    assert_int_equal(result.answered_2xx, result.answered);
    assert_int_equal(count_in(p->log, name), 1);
    print_message("%s: 0 of %llu lost; gone %.0f ms after the trigger\n", name,
                  (unsigned long long)result.sent,
                  (double)(result.gone_ns - result.signal_ns) / 1e6);
}

static const enum load_protocol protocols[] = {LOAD_HTTP1_CLOSE, LOAD_HTTP1_KEEPALIVE, LOAD_HTTP2};
#define PROTOCOLS (sizeof(protocols) / sizeof(protocols[0]))

static void test_nothing_is_lost_when_a_file_appears(void **state)
{
    (void)state;
    for (unsigned run = 0; run < runs() * PROTOCOLS; run++) {
        struct process p;
        struct pull trigger = {.file = in_directory("go"), .fd = -1};
        (void)unlink(trigger.file);
        process_start(&p, NULL, ARGS("--when-exists", trigger.file));
        run_load(&p, protocols[run % PROTOCOLS], &trigger, "when-exists: ");
        process_release(&p);
    }
}

static void test_nothing_is_lost_when_a_heartbeat_stops(void **state)
{
    (void)state;
    for (unsigned run = 0; run < runs() * PROTOCOLS; run++) {
        struct process p;
        struct heart heart = {0};
        struct pull trigger = {.heart = &heart, .fd = -1};
        start_heart(&heart, in_directory("beat"));
        process_start(&p, NULL, ARGS("--when-stale", heart.path, "--stale-after", "1500ms"));
        run_load(&p, protocols[run % PROTOCOLS], &trigger, "when-stale: ");
        process_release(&p);
    }
}

static void test_nothing_is_lost_when_a_pipe_closes(void **state)
{
    (void)state;
    for (unsigned run = 0; run < runs() * PROTOCOLS; run++) {
        struct process p;
        int ends[2];
        char number[16];
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_int_equal(fcntl(ends[0], F_SETFD, 0), 0);
        (void)snprintf(number, sizeof(number), "%d", ends[0]);
        struct pull trigger = {.fd = ends[1]};
        process_start(&p, NULL, ARGS("--when-closed", number));
        (void)close(ends[0]);
        run_load(&p, protocols[run % PROTOCOLS], &trigger, "when-closed: ");
        process_release(&p);
    }
}

/* ---- how soon ---- */

/* Until the line is in the log, on an idle server. */
static double reaction_ms(struct process *p, struct pull *trigger, const char *name)
{
    uint64_t begun_ns = now_ns();
    pull(trigger);
    process_wait_log(p, name);
    double ms = (double)(now_ns() - begun_ns) / 1e6;
    process_expect(p, LIMIT_MS, 0);
    return ms;
}

static void test_file_is_noticed_where_the_kernel_tells(void **state)
{
    double most = 0;
    (void)state;
    for (unsigned run = 0; run < 3 * runs(); run++) {
        struct process p;
        struct pull trigger = {.file = in_directory("soon"), .fd = -1};
        (void)unlink(trigger.file);
        process_start(&p, NULL, ARGS("--when-exists", trigger.file));
        (void)poll(NULL, 0, 50); /* it has looked, and waits */
        double ms = reaction_ms(&p, &trigger, "when-exists: ");
        most = ms > most ? ms : most;
        process_release(&p);
    }
    print_message("when-exists, inotify: at most %.1f ms in %u runs\n", most, 3 * runs());
    assert_true(most < 10000);
}

/* The kernel watches the folder that the link led to; that the link now leads to another one
 * happens in a folder above, of which it does not tell: as with many mounted volumes. */
static void test_file_is_noticed_where_the_kernel_does_not_tell(void **state)
{
    double most = 0;
    (void)state;
    assert_int_equal(mkdir(in_directory("one"), 0755), 0);
    assert_int_equal(mkdir(in_directory("two"), 0755), 0);
    touch(in_directory("two/drain"));
    for (unsigned run = 0; run < runs(); run++) {
        struct process p;
        char link[160];
        (void)snprintf(link, sizeof(link), "%s", in_directory("volume"));
        (void)unlink(link);
        assert_int_equal(symlink("one", link), 0);
        struct pull trigger = {.fd = -1, .link = link, .target = "two"};
        process_start(&p, NULL, ARGS("--when-exists", in_directory("volume/drain")));
        (void)poll(NULL, 0, (int)(100 + run % 10 * 97)); /* somewhere between two looks */
        double ms = reaction_ms(&p, &trigger, "when-exists: ");
        most = ms > most ? ms : most;
        process_release(&p);
    }
    print_message("when-exists, polling every second: at most %.0f ms in %u runs\n", most, runs());
    assert_true(most < 10000);
}

static void test_stale_heartbeat_is_noticed_in_its_time(void **state)
{
    double least = 1e9, most = 0;
    (void)state;
    for (unsigned run = 0; run < runs(); run++) {
        struct process p;
        struct heart heart = {0};
        start_heart(&heart, in_directory("stale"));
        process_start(&p, NULL, ARGS("--when-stale", heart.path, "--stale-after", "800ms"));
        (void)poll(NULL, 0, (int)(100 + run % 10 * 37));
        stop_heart(&heart);
        process_wait_log(&p, "when-stale: ");
        double ms = (double)(now_ns() - heart.last_ns) / 1e6;
        process_expect(&p, LIMIT_MS, 0);
        if (heart.longest_ns < 100 * NS_PER_MS) /* else a late beat may be taken for none */
            least = ms < least ? ms : least;
        most = ms > most ? ms : most;
        process_release(&p);
    }
    print_message("when-stale after 800 ms, looked at every 200: %.0f to %.0f ms in %u runs\n",
                  least, most, runs());
    assert_true(least >= 590); /* a beat is seen up to a look late, never early, so this is: */
    assert_true(most < 10000);
}

/* ---- never falsely ---- */

/* Files come and go beside the one that is waited for, and its folder is touched. */
struct storm {
    pthread_t thread;
    atomic_bool stops;
    uint64_t gusts;
};

static void *blow(void *arg)
{
    struct storm *storm = arg;
    char a[160], b[160];
    (void)snprintf(a, sizeof(a), "%s/storm/a", directory);
    (void)snprintf(b, sizeof(b), "%s/storm/waited-for.tmp", directory);
    for (; !atomic_load(&storm->stops); storm->gusts++) {
        int fd = open(a, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (fd >= 0)
            (void)close(fd);
        (void)rename(a, b);
        (void)unlink(b);
        (void)utimensat(AT_FDCWD, directory, NULL, 0);
        if (storm->gusts % 64 == 0)
            (void)poll(NULL, 0, 1);
    }
    return NULL;
}

struct quiet {
    struct process *p;
    int pipe;
    bool fired;
};

static void end_quiet(void *arg)
{
    struct quiet *quiet = arg;
    /* Whatever has fired is in the log by now. */
    quiet->fired = process_is_gone(quiet->p);
    process_signal(quiet->p, SIGTERM);
}

static bool quiet_is_over(void *arg)
{
    struct quiet *quiet = arg;
    (void)!write(quiet->pipe, "still here", 10); /* what is written says nothing */
    return process_is_gone(quiet->p);
}

static void test_no_trigger_fires_falsely_under_load(void **state)
{
    struct process p;
    struct heart heart = {.claims_times = true};
    struct storm storm = {0};
    struct load_result result;
    char number[16];
    int ends[2];
    (void)state;
    assert_int_equal(mkdir(in_directory("storm"), 0755), 0);
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(fcntl(ends[0], F_SETFD, 0), 0);
    (void)snprintf(number, sizeof(number), "%d", ends[0]);
    start_heart(&heart, in_directory("lying"));
    assert_int_equal(pthread_create(&storm.thread, NULL, blow, &storm), 0);
    process_start(&p, NULL,
                  ARGS("--when-exists", in_directory("storm/waited-for"), "--when-stale",
                       heart.path, "--stale-after", "5s", "--when-closed", number));
    (void)close(ends[0]);
    struct quiet quiet = {.p = &p, .pipe = ends[1]};
    struct load_options load = {.address = p.address,
                                .protocol = LOAD_HTTP1_KEEPALIVE,
                                .connections = CONNECTIONS,
                                .pause_ms = 2,
                                .duration_ms = runs() * QUIET_MS + LIMIT_MS,
                                .patience_ms = LIMIT_MS,
                                .signal_after_ms = runs() * QUIET_MS,
                                .on_signal = end_quiet,
                                .on_signal_arg = &quiet,
                                .server_is_gone = quiet_is_over,
                                .server_is_gone_arg = &quiet};
    assert_int_equal(load_run(&load, &result), 0);
    atomic_store(&storm.stops, true);
    assert_int_equal(pthread_join(storm.thread, NULL), 0);
    stop_heart(&heart);
    process_expect(&p, LIMIT_MS, 0);
    print_message("%.0f s of load, %llu answers, %llu gusts: nothing fired\n",
                  (double)runs() * QUIET_MS / 1000, (unsigned long long)result.answered,
                  (unsigned long long)storm.gusts);
    assert_false(quiet.fired);
    assert_int_equal(result.lost, 0);
    assert_int_equal(count_in(p.log, "when-"), 0);
    assert_int_equal(count_in(p.log, "SIGTERM received"), 1);
    (void)close(ends[1]);
    process_release(&p);
}

/* A path that stat(2) cannot reach: the server logs that once, however often it tries, and notices
 * when it can. (A loop of links, since root may read everything.) */
static void test_unreadable_path_is_logged_once_and_fires_when_it_can_be_read(void **state)
{
    struct process p;
    char link[160];
    (void)state;
    (void)snprintf(link, sizeof(link), "%s", in_directory("loop"));
    assert_int_equal(symlink("loop", link), 0);
    process_start(&p, NULL,
                  ARGS("--when-exists", in_directory("loop/drain"), "--when-stale",
                       in_directory("loop/beat"), "--stale-after", "100ms"));
    process_wait_log(&p, "loop/drain: Too many levels of symbolic links");
    process_wait_log(&p, "loop/beat: Too many levels of symbolic links");
    (void)poll(NULL, 0, (int)(runs() < 10 ? 700 : 20000)); /* it is looked at 40 times a second */
    assert_false(process_is_gone(&p));
    assert_int_equal(mkdir(in_directory("real"), 0755), 0);
    touch(in_directory("real/drain"));
    assert_int_equal(unlink(link), 0);
    assert_int_equal(symlink("real", link), 0);
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(count_in(p.log, "cannot look at"), 2);
    assert_int_equal(count_in(p.log, "when-exists: "), 1);
    process_release(&p);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    static const struct CMUnitTest tests[] = {
        TEST(test_nothing_is_lost_when_a_file_appears),
        TEST(test_nothing_is_lost_when_a_heartbeat_stops),
        TEST(test_nothing_is_lost_when_a_pipe_closes),
        TEST(test_file_is_noticed_where_the_kernel_tells),
        TEST(test_file_is_noticed_where_the_kernel_does_not_tell),
        TEST(test_stale_heartbeat_is_noticed_in_its_time),
        TEST(test_no_trigger_fires_falsely_under_load),
        TEST(test_unreadable_path_is_logged_once_and_fires_when_it_can_be_read),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    (void)alarm((process_runs_under_valgrind() ? 1200 : 240) + runs() * 60);
    return cmocka_run_group_tests_name("trigger_loss", tests, make_directory, remove_directory);
}

/* Ended, at a random instant, under full POST load: what became of each request that was sent? It
 * was answered, or refused, or never taken (a reset before the answer: the kernel had bytes of it
 * that the process had not read), or it is in the archive. LASTCALL_RUNS scales the rounds. */

#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "archive_reader.h"
#include "directory.h"
#include "fault.h"
#include "loadgen.h"
#include "skip.h"

#define CONNECTIONS 64
#define THREADS 2
#define BODY_BYTES 1024
#define LARGE_BODY_BYTES (512 << 10)
#define ROOM (16 << 20) /* less than CONNECTIONS large bodies */
#define NUMBER "x-number"
#define REQUESTS_MAX 2000000
#define MORE_ROUNDS 20 /* at most, where none has met a request in flight */

/* What ends it. */
enum end { BY_SIGKILL, BY_FAULT_IN_HANDLER, BY_ABORT_IN_LOOP, BY_OOM, BY_NO_ADDRESSES };

static char dir[64];
static size_t body_bytes = BODY_BYTES;
static unsigned char fates[REQUESTS_MAX]; /* by number: 1 + enum load_outcome; then ARCHIVED too */
#define ARCHIVED 0x80

struct toll {
    uint64_t answered, refused, unsent, reset, archived, torn, missing;
    unsigned rounds;
};

static unsigned rounds(unsigned usual)
{
    const char *text = getenv("LASTCALL_RUNS");
    long n = text != NULL ? strtol(text, NULL, 10) : 0;
    return n >= 1 && n <= 10000 ? (unsigned)n : usual;
}

static void remove_dir(void)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    char path[512];

    while (d != NULL && (entry = readdir(d)) != NULL) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        (void)unlink(path);
    }
    if (d != NULL)
        (void)closedir(d);
    (void)rmdir(dir);
}

static int clean(void **state)
{
    (void)process_kill_left(state);
    fault_clean();
    remove_dir();
    return 0;
}

static void on_outcome(void *arg, uint64_t number, int status, enum load_outcome outcome)
{
    (void)arg;
    (void)status;
    if (number < REQUESTS_MAX)
        fates[number] = (unsigned char)(1 + outcome);
}

/* ---- the archive ---- */

static uint64_t number_of(const struct unfinished *u)
{
    for (size_t i = 0; i < u->header_count; i++)
        if (strcmp(u->headers[i].name.base, NUMBER) == 0)
            return strtoull(u->headers[i].value.base, NULL, 16);
    fail_msg("a request of the archive has no number");
    return 0;
}

static void check_request(const struct unfinished *u)
{
    assert_string_equal(u->method.base, "POST");
    assert_int_equal(u->reason, UNFINISHED_REASON_CRASHED);
    assert_int_equal(u->body_bytes, body_bytes);
    /* A record that runs out of room may leave bodies out, but marks each such request. */
    assert_true(u->gap == UNFINISHED_GAP_NONE || body_bytes > BODY_BYTES);
    assert_int_equal(u->sha256[0] != '\0', u->gap != UNFINISHED_GAP_NONE);
    assert_int_equal(u->body.len, u->gap == UNFINISHED_GAP_NONE ? body_bytes : 0);
    for (size_t i = 0; i < u->body.len; i++)
        assert_int_equal(u->body.base[i], 'x');
}

/* Mark what is in the archive, and begin a new one. */
static uint64_t read_archive(void)
{
    struct archive_reader *reader;
    struct archive_item item;
    uint64_t count = 0;
    char path[512] = "";
    int found;

    assert_int_equal(archive_reader_open(dir, &reader), 0);
    while ((found = archive_reader_next(reader, &item)) == 1) {
        if (item.why[0] != '\0')
            fail_msg("%s at %llu: %s", item.path, (unsigned long long)item.offset, item.why);
        check_request(&item.request);
        uint64_t number = number_of(&item.request);
        assert_true(number < REQUESTS_MAX);
        if ((fates[number] & ARCHIVED) != 0)
            fail_msg("request %llu is in the archive twice", (unsigned long long)number);
        fates[number] |= ARCHIVED;
        (void)snprintf(path, sizeof(path), "%s", item.path);
        count++;
    }
    assert_int_equal(found, 0);
    archive_reader_close(reader);
    if (path[0] != '\0')
        assert_int_equal(unlink(path), 0);
    return count;
}

/* ---- a round ---- */

struct killer {
    struct process process;
    enum end end;
    bool can; /* this machine lets us */
};

static void kill_it(void *arg)
{
    struct killer *killer = arg;
    pid_t pid = killer->process.pid;

    killer->can = true;
    if (killer->end == BY_FAULT_IN_HANDLER)
        killer->can = fault_in_thread(pid, "worker", false);
    else if (killer->end == BY_ABORT_IN_LOOP)
        killer->can = fault_in_thread(pid, "loop", true);
    if (!killer->can || killer->end == BY_SIGKILL)
        process_signal(&killer->process, SIGKILL);
}

static bool holds = true; /* journal.hold */

static void start(struct process *p)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/conf", dir);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file,
                  "listen: {host: 127.0.0.1, port: 0}\n"
                  "num-threads: %d\n"
                  "pool: {workers: 8}\n"
                  "user: %s\n"
                  "journal: {dir: %s, hold: %s, max-inflight-bytes: 8MB}\n"
                  "hosts: {default: {paths: {/: {handler: sleep}}}}\n",
                  THREADS, own_user_name(), dir, holds ? "ON" : "OFF");
    assert_int_equal(fclose(file), 0);
    const char *const args[] = {"--conf", path, NULL};
    process_start_configured(p, args);
}

static void count_fates(struct toll *toll)
{
    for (size_t i = 0; i < REQUESTS_MAX; i++) {
        unsigned char fate = fates[i];
        if (fate == 0)
            continue;
        switch ((fate & ~ARCHIVED) - 1) {
        case LOAD_OUTCOME_ANSWERED:
            toll->answered++; /* it may be in the archive, too: at least once */
            break;
        case LOAD_OUTCOME_REFUSED:
            toll->refused++;
            break;
        case LOAD_OUTCOME_UNSENT:
            toll->unsent++;
            break;
        case LOAD_OUTCOME_RESET:
            /* The kernel resets a connection whose bytes the process has not read: it did not take
             * that request. */
            toll->reset++;
            break;
        default:
            if ((fate & ARCHIVED) == 0)
                toll->missing++;
        }
    }
}

/* These come by themselves once there is load. */
static bool is_limit(enum end end)
{
    return end == BY_OOM || end == BY_NO_ADDRESSES;
}

/* With a slow handler the queue is never empty. A fast one is killed at every step of a request,
 * now and then with nothing in flight. */
static void run_round(struct killer *killer, bool fast, unsigned after_ms, struct toll *toll)
{
    struct load_result result;
    struct load_options load = {.protocol = LOAD_HTTP1_KEEPALIVE,
                                .connections = CONNECTIONS,
                                .path = fast ? "/sleep?ms=0" : "/sleep?ms=1",
                                .body_bytes = body_bytes,
                                .duration_ms = 15000,
                                .patience_ms = 10000,
                                .signal_after_ms = after_ms,
                                .signal_after_answers = CONNECTIONS,
                                .on_signal = kill_it,
                                .on_signal_arg = killer,
                                .number_header = NUMBER,
                                .on_outcome = on_outcome};

    memset(fates, 0, sizeof(fates));
    start(&killer->process);
    load.address = killer->process.address;
    load.server_pid = killer->process.pid;
    if (is_limit(killer->end)) {
        load.on_signal = NULL;
        killer->can = killer->end == BY_OOM ? fault_limit_memory(killer->process.pid, ROOM)
                                            : fault_limit_addresses(killer->process.pid, ROOM);
        if (!killer->can)
            process_signal(&killer->process, SIGKILL);
    }
    assert_int_equal(load_run(&load, &result), 0);
    assert_int_not_equal(process_wait(&killer->process, 30000), 0);
    fault_clean();
    process_release(&killer->process);
    if (!killer->can)
        return;

    start(&killer->process);
    toll->torn += strstr(killer->process.log, " torn") != NULL;
    process_signal(&killer->process, SIGTERM);
    process_expect(&killer->process, 30000, 0);
    process_release(&killer->process);
    toll->archived += read_archive();
    count_fates(toll);
}

/* A round may end while nothing is in flight: on a slow machine the loops have answered all that
 * they read, and the rest is still unread. Such a round shows nothing, so more are played. */
static bool wants_more(const struct toll *toll, enum end end, unsigned count)
{
    if (toll->rounds < count)
        return true;
    return !is_limit(end) && toll->archived == 0 && toll->rounds < count + MORE_ROUNDS;
}

/* At least `count` rounds. Returns false where the machine does not allow this end. */
static bool end_many(const char *name, enum end end, unsigned count, struct toll *ret_toll)
{
    struct killer killer = {.end = end};
    struct toll toll = {0};
    unsigned seed = (unsigned)getpid();

    for (; wants_more(&toll, end, count); toll.rounds++) {
        run_round(&killer, toll.rounds % 2, 20 + (unsigned)rand_r(&seed) % 60, &toll);
        if (!killer.can)
            return false;
    }
    print_message("%s, %u rounds: %llu answered, %llu refused, %llu reset before they were read, "
                  "%llu unsent, %llu archived, %llu rounds with a torn slot, %llu missing\n",
                  name, toll.rounds, (unsigned long long)toll.answered,
                  (unsigned long long)toll.refused, (unsigned long long)toll.reset,
                  (unsigned long long)toll.unsent, (unsigned long long)toll.archived,
                  (unsigned long long)toll.torn, (unsigned long long)toll.missing);
    assert_true(is_limit(end) || toll.answered >= (uint64_t)CONNECTIONS * toll.rounds);
    assert_true(is_limit(end) || toll.archived > 0);
    *ret_toll = toll;
    return true;
}

static void expect_none_missing(const char *name, enum end end, unsigned count)
{
    struct toll toll;

    if (!end_many(name, end, count, &toll))
        skip_test(end == BY_OOM ? "needs a memory cgroup of its own" : "needs ptrace(2)");
    assert_int_equal(toll.missing, 0);
}

static void test_killed_under_post_load_forgets_nothing(void **state)
{
    (void)state;
    expect_none_missing("SIGKILL", BY_SIGKILL, rounds(20));
}

static void test_a_fault_in_a_handlers_thread_forgets_nothing(void **state)
{
    (void)state;
    expect_none_missing("a fault on a worker", BY_FAULT_IN_HANDLER, (rounds(20) + 3) / 4);
}

static void test_an_abort_in_a_loop_forgets_nothing(void **state)
{
    (void)state;
    expect_none_missing("abort(3) in a loop", BY_ABORT_IN_LOOP, (rounds(20) + 3) / 4);
}

static void test_the_oom_killer_forgets_nothing(void **state)
{
    (void)state;
    body_bytes = LARGE_BODY_BYTES;
    expect_none_missing("the OOM killer", BY_OOM, (rounds(20) + 9) / 10);
}

/* Without a cgroup of memory this is the nearest: malloc(3) fails, and libh2o calls abort(3). */
static void test_running_out_of_addresses_forgets_nothing(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    skip_test("the run time of a sanitizer hangs when there are no more addresses");
#endif
    body_bytes = 8 * LARGE_BODY_BYTES; /* malloc(3) has addresses to spare */
    expect_none_missing("no more addresses", BY_NO_ADDRESSES, (rounds(20) + 9) / 10);
}

/* What docs/journal.md says of it: one a loop, which no handler has seen. */
static void test_without_hold_at_most_one_request_a_loop_is_missing(void **state)
{
    struct toll toll;

    (void)state;
    holds = false;
    (void)end_many("SIGKILL without journal.hold", BY_SIGKILL, (rounds(20) + 1) / 2, &toll);
    assert_true(toll.missing <= (uint64_t)toll.rounds * THREADS);
}

static int make_dir(void **state)
{
    (void)state;
    holds = true;
    body_bytes = BODY_BYTES;
    (void)snprintf(dir, sizeof(dir), "%s/lastcall-kill-XXXXXX", memory_folder());
    return mkdtemp(dir) != NULL ? 0 : -1;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, clean)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_killed_under_post_load_forgets_nothing),
        TEST(test_a_fault_in_a_handlers_thread_forgets_nothing),
        TEST(test_an_abort_in_a_loop_forgets_nothing),
        TEST(test_the_oom_killer_forgets_nothing),
        TEST(test_running_out_of_addresses_forgets_nothing),
        TEST(test_without_hold_at_most_one_request_a_loop_is_missing),
    };

    (void)alarm(300 + rounds(20) * 60);
    return cmocka_run_group_tests_name("kill", tests, NULL, NULL);
}

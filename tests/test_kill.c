/* Killed, at a random instant, under full POST load: what became of each request that was sent? It
 * was answered, or refused, or it is in the archive. LASTCALL_RUNS scales the rounds. */

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
#include "loadgen.h"

#define CONNECTIONS 64
#define THREADS 2
#define BODY_BYTES 1024
#define NUMBER "x-number"
#define REQUESTS_MAX 2000000

static char dir[64];
static unsigned char fates[REQUESTS_MAX]; /* by number: 1 + enum load_outcome; then ARCHIVED too */
#define ARCHIVED 0x80

struct toll {
    uint64_t answered, refused, unsent, reset, archived, torn, missing;
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

static int make_dir(void **state)
{
    (void)state;
    (void)strcpy(dir, "/tmp/lastcall-kill-XXXXXX");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static int clean(void **state)
{
    (void)process_kill_left(state);
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
    assert_int_equal(u->gap, UNFINISHED_GAP_NONE);
    assert_int_equal(u->body.len, BODY_BYTES);
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
    int signo;
};

static void kill_it(void *arg)
{
    struct killer *killer = arg;
    process_signal(&killer->process, killer->signo);
}

static bool holds; /* journal.hold */

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
                  "user: root\n"
                  "journal: {dir: %s, hold: %s, max-inflight-bytes: 8MB}\n"
                  "hosts: {default: {paths: {/: {handler: sleep}}}}\n",
                  THREADS, dir, holds ? "ON" : "OFF");
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
            /* The kernel resets a connection whose bytes the process has not read: it was never
             * taken. */
            toll->reset++;
            break;
        default:
            if ((fate & ARCHIVED) == 0) {
                toll->missing++;
                print_message("missing %zu: %d\n", i, fate - 1);
            }
        }
    }
}

static void run_round(struct killer *killer, const char *path, int signo, unsigned after_ms,
                      int want_status, struct toll *toll)
{
    struct load_result result;
    struct load_options load = {.protocol = LOAD_HTTP1_KEEPALIVE,
                                .connections = CONNECTIONS,
                                .path = path,
                                .body_bytes = BODY_BYTES,
                                .duration_ms = 30000,
                                .patience_ms = 30000,
                                .signal_after_ms = after_ms,
                                .signal_after_answers = CONNECTIONS,
                                .on_signal = kill_it,
                                .on_signal_arg = killer,
                                .number_header = NUMBER,
                                .on_outcome = on_outcome};

    memset(fates, 0, sizeof(fates));
    start(&killer->process);
    killer->signo = signo;
    load.address = killer->process.address;
    load.server_pid = killer->process.pid;
    assert_int_equal(load_run(&load, &result), 0);
    assert_int_equal(process_wait(&killer->process, 30000), want_status);
    process_release(&killer->process);

    start(&killer->process);
    if (strstr(killer->process.log, " torn") != NULL)
        toll->torn++;
    process_signal(&killer->process, SIGTERM);
    process_expect(&killer->process, 30000, 0);
    toll->archived += read_archive();
    uint64_t missing = toll->missing;
    count_fates(toll);
    if (toll->missing > missing && getenv("LASTCALL_VERBOSE") != NULL)
        print_message("round missing %llu: %s\n", (unsigned long long)(toll->missing - missing),
                      killer->process.log);
    process_release(&killer->process);
}

static void kill_many(const char *name, const char *path, int signo, unsigned count)
{
    static struct killer killer;
    struct toll toll = {0};
    unsigned seed = (unsigned)getpid();

    for (unsigned i = 0; i < count; i++)
        run_round(&killer, path, signo, 20 + (unsigned)rand_r(&seed) % 60, 128 + signo, &toll);
    print_message("%s, %u rounds: %llu answered, %llu refused, %llu reset unread, %llu unsent, "
                  "%llu archived, %llu rounds with a torn slot, %llu missing\n",
                  name, count, (unsigned long long)toll.answered, (unsigned long long)toll.refused,
                  (unsigned long long)toll.reset, (unsigned long long)toll.unsent,
                  (unsigned long long)toll.archived, (unsigned long long)toll.torn,
                  (unsigned long long)toll.missing);
    assert_true(toll.answered > CONNECTIONS * count);
    assert_true(toll.archived > 0);
    assert_int_equal(toll.missing, 0);
}

static void test_killed_under_post_load_forgets_nothing(void **state)
{
    (void)state;
    kill_many("SIGKILL", "/sleep?ms=0", SIGKILL, rounds(20));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed_under_post_load_forgets_nothing, make_dir,
                                        clean),
    };

    (void)alarm(60 + rounds(20) * 30);
    return cmocka_run_group_tests_name("kill", tests, NULL, NULL);
}

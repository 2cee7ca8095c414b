/* A server is killed and none has started since: what it had taken is in its record, and
 * `lastcall unfinished` and `lastcall replay` find it there. */

#include "process.h"

#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "clock.h"
#include "command.h"
#include "directory.h"
#include "expect.h"
#include "journal_format.h"
#include "leftovers.h"
#include "target.h"
#include "skip.h"
#include "with_journal.h"

#define LIMIT_MS 20000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define CMD(...) ((const char *const[]){NULL, __VA_ARGS__, NULL})
#define TEST(f) cmocka_unit_test_setup_teardown(f, with_journal_set_up, process_kill_left)

static void start(struct process *p)
{
    process_start(p, NULL,
                  ARGS("--threads", "1", "--admin", admin_address, "--journal-dir", journal,
                       "--workers", "4"));
}

static int clients[8];
static unsigned client_count;

static unsigned count_running(const char *path)
{
    static struct journal_unit unit;
    unsigned n = 0;
    FILE *f = fopen(path, "rb");

    assert_non_null(f);
    assert_int_equal(fseek(f, JOURNAL_HEADER_BYTES, SEEK_SET), 0);
    while (fread(&unit, sizeof(unit), 1, f) == 1)
        n += atomic_load(&unit.commit) > JOURNAL_WRITING &&
             atomic_load(&unit.state) == JOURNAL_RUNNING;
    (void)fclose(f);
    return n;
}

/* Until `n` handlers run, and the record says so: the worker writes that a moment after the pool
 * has counted its handler. The record alone does not tell: it also says "running" before a request
 * is queued. */
static void wait_running_on_record(struct process *p, unsigned n)
{
    const struct process admin = admin_of(p);
    const uint64_t until_ns = clock_now_ns() + LIMIT_MS * NS_PER_MS;
    const struct timespec moment = {.tv_nsec = 5 * NS_PER_MS};
    char path[256];

    admin_wait_number(&admin, "pool.running", n);
    (void)snprintf(path, sizeof(path), "%s/inflight.%d", journal, (int)p->pid);
    while (count_running(path) < n) { /* a file reports no change, so it is polled */
        assert_true(clock_now_ns() < until_ns);
        (void)nanosleep(&moment, NULL);
    }
}

/* One request on record, in a handler that does not return. */
static void take_one(struct process *p, const char *method, unsigned n)
{
    char request[160];
    int fd = client_connect(p);

    (void)snprintf(
        request, sizeof(request),
        "%s /sleep?ms=60000&n=%u HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello", method,
        n);
    client_send(fd, request);
    wait_running_on_record(p, n);
    clients[client_count++] = fd; /* stays open: a close would cancel the handler */
}

static void end_by_kill(struct process *p)
{
    process_signal(p, SIGKILL);
    process_expect(p, LIMIT_MS, 128 + SIGKILL);
    process_release(p);
    while (client_count > 0)
        (void)close(clients[--client_count]);
    char socket[160];
    (void)snprintf(socket, sizeof(socket), "%s", admin_address + strlen("unix:"));
    (void)unlink(socket);
}

static void test_unfinished_reads_the_record_of_a_killed_server(void **state)
{
    struct process p;
    struct command c;
    (void)state;
    start(&p);
    take_one(&p, "PUT", 1);
    take_one(&p, "POST", 2);
    command_run(&c, 0, CMD("unfinished", "--from", journal, "--count"));
    assert_contains(c.out, "0 requests: "); /* they are in flight */
    command_release(&c);
    end_by_kill(&p);

    command_run(&c, 0, CMD("unfinished", "--from", journal));
    assert_contains(c.out, "PUT test/sleep?ms=60000&n=1 (idempotent, crashed)");
    assert_contains(c.out, "POST test/sleep?ms=60000&n=2 (may-have-run, crashed)");
    assert_contains(c.err, "2 requests: 2 open, ");
    assert_contains(c.err, "; to be sent: 0 never-started, 1 idempotent, 1 may-have-run; "
                           "2 not archived yet: the process was killed (the next start or a "
                           "replay archives them)\n");
    char id[33];
    (void)snprintf(id, sizeof(id), "%.32s", c.out);
    command_release(&c);

    command_run(&c, 0, CMD("unfinished", "--from", journal, "--show", id));
    assert_contains(c.out, "; not archived yet, process ");
    assert_contains(c.out, "\nhello\n");
    command_release(&c);
    command_run(&c, 0, CMD("unfinished", "--from", journal, "--json"));
    assert_contains(c.out, "\"on_record_of\":");
    command_release(&c);
    assert_int_equal(count_records(), 1); /* nothing is changed */
}

static void test_replay_archives_the_record_of_a_killed_server_and_sends_it(void **state)
{
    struct process p;
    struct command c;
    struct target target;
    (void)state;
    start(&p);
    take_one(&p, "PUT", 1);
    take_one(&p, "POST", 2);
    end_by_kill(&p);
    target_start(&target);

    command_run(&c, 0, CMD("replay", "--from", journal, "--to", target.url, "--dry-run"));
    assert_contains(c.err, "2 more not archived yet: the process was killed ");
    command_release(&c);
    assert_int_equal(count_records(), 1); /* nothing is changed */
    assert_int_equal(target_count(&target), 0);

    command_run(&c, 0, CMD("replay", "--from", journal, "--to", target.url));
    assert_contains(c.err, "2 requests archived to ");
    assert_contains(c.out, "1 of 1 settled, 0 parked, 0 left; ");
    command_release(&c);
    assert_int_equal(target_count(&target), 1);
    assert_int_equal(target.requests->body_bytes, 5);
    assert_memory_equal(target.requests->body, "hello", 5);
    assert_int_equal(count_records(), 0);

    command_run(&c, 0, CMD("unfinished", "--from", journal));
    assert_contains(c.err, "2 requests: 1 open, 1 settled, ");
    assert_lacks(c.err, "not archived yet");
    command_release(&c);
    /* And the next start has nothing to move. */
    start(&p);
    assert_lacks(p.log, "archived to ");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
    target_close(&target);
    target_release(&target);
}

static void test_a_living_server_beside_a_killed_one_keeps_its_requests(void **state)
{
    struct process killed, living;
    struct command c;
    (void)state;
    start(&killed);
    take_one(&killed, "PUT", 1);
    end_by_kill(&killed);
    /* It takes the folder over, and is in it. */
    start(&living);
    process_wait_log(&living, "1 request archived to ");
    take_one(&living, "PUT", 1);
    command_run(&c, 0, CMD("unfinished", "--from", journal));
    assert_contains(c.err, "1 request: 1 open, ");
    command_release(&c);
    assert_int_equal(count_records(), 1);
    end_by_kill(&living);
    command_run(&c, 0, CMD("unfinished", "--from", journal));
    assert_contains(c.err, "2 requests: 2 open, ");
    assert_contains(c.err, "; 1 not archived yet: the process was killed (the next start or a "
                           "replay archives it)");
    command_release(&c);
}

/* A move that was cut short has left a line, and the slot: it is one request. */
static void test_what_is_in_record_and_archive_is_archived(void **state)
{
    struct process p;
    struct command c;
    char path[256], copy[256], command[600];
    (void)state;
    start(&p);
    take_one(&p, "PUT", 1);
    (void)snprintf(path, sizeof(path), "%s/inflight.%d", journal, p.pid);
    (void)snprintf(copy, sizeof(copy), "%s/kept", directory);
    end_by_kill(&p);
    (void)snprintf(command, sizeof(command), "cp %s %s", path, copy);
    assert_int_equal(system(command), 0);
    start(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
    assert_int_equal(rename(copy, path), 0);
    command_run(&c, 0, CMD("unfinished", "--from", journal));
    assert_contains(c.err, "1 request: 1 open, ");
    assert_lacks(c.err, "not archived yet");
    command_release(&c);
}

static unsigned bad;

static void count_bad(void *arg, const char *place, uint64_t offset, const char *why)
{
    (void)arg;
    (void)place;
    (void)offset;
    assert_string_not_equal(why, "");
    bad++;
}

static void test_what_is_no_record_is_named_and_never_waited_for(void **state)
{
    struct leftovers leftovers;
    char path[256];
    (void)state;
    (void)snprintf(path, sizeof(path), "%s/inflight.1", journal);
    assert_int_equal(mkfifo(path, 0600), 0);
    (void)snprintf(path, sizeof(path), "%s/inflight.2", journal);
    assert_int_equal(symlink("/nowhere", path), 0);
    (void)snprintf(path, sizeof(path), "%s/inflight.3", journal);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, "no record", 9), 9);
    (void)close(fd);
    (void)snprintf(path, sizeof(path), "%s/inflight.4.new", journal); /* never finished */
    (void)close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    bad = 0;
    assert_int_equal(leftovers_read(journal, count_bad, NULL, &leftovers), 0);
    assert_int_equal(leftovers.count, 0);
    assert_int_equal(bad, 3);
    leftovers_release(&leftovers);
    assert_true(leftovers_read("/nowhere", NULL, NULL, &leftovers) < 0);
    leftovers_release(&leftovers);
}

/* What root archives, the server's user goes on with. */
static void test_a_replay_by_root_leaves_files_of_the_folders_owner(void **state)
{
    struct process p;
    struct command c;
    struct target target;
    struct stat st;
    char path[256];
    const struct passwd *nobody = getpwnam("nobody");
    (void)state;
    skip_unless_root();
    if (nobody == NULL)
        skip_test("needs a user nobody");
    start(&p);
    take_one(&p, "PUT", 1);
    end_by_kill(&p);
    assert_int_equal(chown(journal, nobody->pw_uid, nobody->pw_gid), 0);
    DIR *d = opendir(journal);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        (void)snprintf(path, sizeof(path), "%s/%.64s", journal, entry->d_name);
        if (entry->d_name[0] != '.')
            assert_int_equal(chown(path, nobody->pw_uid, nobody->pw_gid), 0);
    }
    (void)closedir(d);
    target_start(&target);
    command_run(&c, 0, CMD("replay", "--from", journal, "--to", target.url));
    assert_contains(c.out, "1 of 1 settled");
    command_release(&c);
    target_close(&target);
    target_release(&target);
    unsigned files = 0;
    d = opendir(journal);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        (void)snprintf(path, sizeof(path), "%s/%.64s", journal, entry->d_name);
        if (entry->d_name[0] == '.')
            continue;
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_uid, nobody->pw_uid);
        files += strstr(path, ".ndjson") != NULL;
    }
    (void)closedir(d);
    assert_int_equal(files, 3); /* the archive, its marks and their lock */
}

/* The user nobody has to reach its folder. */
static int make_open_directory(void **state)
{
    return make_directory_in_memory(state) != 0 || chmod(directory, 0755) != 0 ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_unfinished_reads_the_record_of_a_killed_server),
        TEST(test_replay_archives_the_record_of_a_killed_server_and_sends_it),
        TEST(test_a_living_server_beside_a_killed_one_keeps_its_requests),
        TEST(test_what_is_in_record_and_archive_is_archived),
        TEST(test_what_is_no_record_is_named_and_never_waited_for),
        TEST(test_a_replay_by_root_leaves_files_of_the_folders_owner),
    };
    return cmocka_run_group_tests_name("killed", tests, make_open_directory, remove_directory);
}

/* What a killed process leaves in the folder of the journal: leftovers.h reads it where it is,
 * journal_recover() moves it. And what a journal refuses to begin with. */

#include "journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "archive_reader.h"
#include "clock.h"
#include "exit_status.h"
#include "expect.h"
#include "journal_format.h"
#include "leftovers.h"

#define UNITS 64

static char dir[64];

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "%s/lastcall-left-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    char path[400];

    (void)state;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        if (unlink(path) != 0)
            (void)rmdir(path);
    }
    if (d != NULL)
        (void)closedir(d);
    return rmdir(dir);
}

/* ---- records ---- */

static struct journal_config config(void)
{
    return (struct journal_config){.dir = dir,
                                   .methods = "*",
                                   .redact = "",
                                   .max_body = 1 << 20,
                                   .max_inflight_bytes = UNITS * JOURNAL_UNIT_BYTES,
                                   .partitions = 1};
}

static struct journal *open_journal(void)
{
    const struct journal_config c = config();
    struct journal *journal = NULL;
    char error[JOURNAL_ERROR_SIZE] = "";

    if (journal_open(&c, &journal, error) != 0)
        fail_msg("%s", error);
    return journal;
}

static void put(struct journal *journal, const char *method, const char *path,
                const struct sockaddr *peer)
{
    struct journal_part *part = journal_part(journal, 0);
    static char authority[] = "a.example";
    const struct journal_request request = {.method = {(char *)(uintptr_t)method, strlen(method)},
                                            .authority = {authority, strlen(authority)},
                                            .path = {(char *)(uintptr_t)path, strlen(path)},
                                            .peer = peer,
                                            .began_ns = clock_now_ns(),
                                            .body_bytes = 2};

    assert_non_null(journal_begin(part, &request));
    journal_commit(part, "ab");
}

static char *in_folder(const char *name, char path[400])
{
    (void)snprintf(path, 400, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const void *bytes, size_t size)
{
    char path[400];
    int fd = open(in_folder(name, path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    assert_int_equal(close(fd), 0);
}

static bool exists(const char *name)
{
    char path[400];
    return access(in_folder(name, path), F_OK) == 0;
}

/* The bytes of the journal's file, as SIGKILL would leave them now; malloc(3)ed. */
static uint8_t *snapshot(const struct journal *journal, size_t *ret_size)
{
    struct stat st;
    int fd = open(journal_path(journal), O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    uint8_t *bytes = malloc((size_t)st.st_size);
    assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
    (void)close(fd);
    *ret_size = (size_t)st.st_size;
    return bytes;
}

/* Leave the journal's present content under another name, without an owner. */
static void leave_dead(const struct journal *journal, const char *name)
{
    size_t size;
    uint8_t *bytes = snapshot(journal, &size);

    write_file(name, bytes, size);
    free(bytes);
}

/* Break the content of the first slot. */
static void leave_damaged(const struct journal *journal, const char *name)
{
    size_t size;
    uint8_t *bytes = snapshot(journal, &size);

    bytes[JOURNAL_HEADER_BYTES + offsetof(struct journal_unit, payload)] ^= 1;
    write_file(name, bytes, size);
    free(bytes);
}

/* End it without emptying the folder. */
static void end(struct journal *journal)
{
    (void)unlink(journal_path(journal));
    journal_destroy(journal);
}

/* ---- leftovers ---- */

struct bads {
    unsigned count;
    char last[200];
};

static void on_bad(void *arg, const char *place, uint64_t offset, const char *why)
{
    struct bads *bads = arg;

    bads->count++;
    (void)snprintf(bads->last, sizeof(bads->last), "%s:%llu: %s", place, (unsigned long long)offset,
                   why);
}

static void test_requests_of_a_dead_process_are_read_and_stay(void **state)
{
    const struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
    const struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct journal *journal = open_journal();
    struct leftovers leftovers;
    struct bads bads = {0};
    size_t before, after;

    (void)state;
    put(journal, "PUT", "/a", (const void *)&v6);
    put(journal, "POST", "/b", (const void *)&local);
    for (unsigned i = 0; i < 20; i++)
        put(journal, "POST", "/more", NULL);
    leave_dead(journal, "inflight.4711");
    uint8_t *bytes = snapshot(journal, &before);
    assert_int_equal(leftovers_read(dir, on_bad, &bads, &leftovers), 0);
    assert_int_equal(bads.count, 0);
    assert_int_equal(leftovers.records, 1); /* its own is skipped: the owner is alive */
    assert_int_equal(leftovers.count, 22);
    assert_contains(leftovers.items[0].place, "inflight.4711");
    assert_string_equal(leftovers.items[0].request.client, "[::]:80");
    assert_int_equal(leftovers.items[0].request.reason, UNFINISHED_REASON_CRASHED);
    assert_int_equal(leftovers.items[0].request.class, UNFINISHED_CLASS_IDEMPOTENT);
    assert_string_equal(leftovers.items[1].request.client, "unix");
    assert_int_equal(leftovers.items[1].request.class, UNFINISHED_CLASS_MAY_HAVE_RUN);
    assert_string_equal(leftovers.items[21].request.client, "?");
    leftovers_release(&leftovers);
    uint8_t *again = snapshot(journal, &after);
    assert_int_equal(before, after);
    assert_memory_equal(bytes, again, before);
    free(bytes);
    free(again);
    end(journal);
}

static void test_what_is_not_a_request_is_named(void **state)
{
    struct journal *journal = open_journal();
    char path[400], garbage[5000];
    struct leftovers leftovers;
    struct bads bads = {0};

    (void)state;
    memset(garbage, 'g', sizeof(garbage));
    put(journal, "PUT", "/broken", NULL);
    put(journal, "PUT", "/good", NULL);
    leave_damaged(journal, "inflight.1");
    assert_int_equal(leftovers_read(dir, on_bad, &bads, &leftovers), 0);
    assert_int_equal(leftovers.count, 1);
    assert_int_equal(bads.count, 1);
    assert_contains(bads.last, "fails its checksum");
    leftovers_release(&leftovers);

    write_file("inflight.1", garbage, sizeof(garbage));
    write_file("inflight.2", "", 0);
    write_file("inflight.3.new", garbage, sizeof(garbage));
    bads.count = 0;
    assert_int_equal(leftovers_read(dir, on_bad, &bads, &leftovers), 0);
    assert_int_equal(bads.count, 1);
    assert_contains(bads.last, "inflight.1:0: it does not begin as an in-flight record does");
    assert_int_equal(mkfifo(in_folder("inflight.4", path), 0600), 0);
    assert_int_equal(symlink("nowhere", in_folder("inflight.5", path)), 0);
    bads.count = 0;
    assert_int_equal(leftovers_read(dir, on_bad, &bads, &leftovers), 0);
    assert_int_equal(bads.count, 3);
    assert_contains(bads.last, "inflight.5:0: not a regular file");
    assert_int_equal(leftovers_read(dir, NULL, NULL, &leftovers), 0);
    leftovers_release(&leftovers);
    end(journal);
}

static void test_a_folder_that_is_not_there_is_an_error(void **state)
{
    struct leftovers leftovers;
    uint64_t archived;

    (void)state;
    assert_int_equal(leftovers_read("/nowhere", NULL, NULL, &leftovers), -ENOENT);
    assert_int_equal(journal_recover("/nowhere", &archived), -ENOENT);
}

/* ---- recovering ---- */

static unsigned count_archived(void)
{
    struct archive_reader *reader;
    struct archive_item item;
    unsigned count = 0;
    int found;

    assert_int_equal(archive_reader_open(dir, &reader), 0);
    while ((found = archive_reader_next(reader, &item)) == 1)
        count += item.why[0] == '\0';
    assert_int_equal(found, 0);
    archive_reader_close(reader);
    return count;
}

static unsigned count_names(const char *beginning)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    unsigned count = 0;

    assert_non_null(d);
    while ((entry = readdir(d)) != NULL)
        count += strncmp(entry->d_name, beginning, strlen(beginning)) == 0;
    (void)closedir(d);
    return count;
}

static void test_recovering_moves_each_request_once(void **state)
{
    struct journal *journal = open_journal();
    uint64_t archived = 99;

    (void)state;
    put(journal, "PUT", "/a", NULL);
    put(journal, "PUT", "/b", NULL);
    leave_dead(journal, "inflight.4711");
    leave_dead(journal, "inflight.4712"); /* the same ids: cut short before it was removed */
    end(journal);
    assert_int_equal(journal_recover(dir, &archived), 0);
    assert_int_equal(archived, 2);
    assert_int_equal(count_archived(), 2);
    assert_int_equal(count_names("inflight."), 0);
    assert_int_equal(journal_recover(dir, &archived), 0);
    assert_int_equal(archived, 0);
}

static void test_recovering_keeps_what_is_damaged_and_leaves_what_is_foreign(void **state)
{
    struct journal *journal = open_journal();
    char path[400];
    uint64_t archived;

    (void)state;
    put(journal, "PUT", "/broken", NULL);
    put(journal, "PUT", "/good", NULL);
    leave_damaged(journal, "inflight.1");
    end(journal);
    write_file("inflight.2", "garbage", 7);
    write_file("inflight.3", "", 0);
    write_file("inflight.4.new", "never finished", 14);
    write_file("inflight-other", "x", 1);
    assert_int_equal(mkfifo(in_folder("inflight.5", path), 0600), 0);
    assert_int_equal(symlink("inflight.2", in_folder("inflight.6", path)), 0);
    assert_int_equal(journal_recover(dir, &archived), 0);
    assert_int_equal(archived, 1);
    assert_false(exists("inflight.1"));
    assert_int_equal(count_names("damaged-inflight."), 1);
    assert_false(exists("inflight.4.new"));
    assert_true(exists("inflight.2") && exists("inflight.3") && exists("inflight-other") &&
                exists("inflight.5") && exists("inflight.6"));
}

static void test_the_record_of_a_living_process_is_not_recovered(void **state)
{
    struct journal *journal = open_journal();
    uint64_t archived = 99;

    (void)state;
    put(journal, "PUT", "/a", NULL);
    assert_int_equal(journal_recover(dir, &archived), 0);
    assert_int_equal(archived, 0);
    assert_int_equal(access(journal_path(journal), F_OK), 0);
    end(journal);
}

/* ---- what a journal refuses ---- */

static void expect_refusal(const struct journal_config *c, int status, const char *want)
{
    struct journal *journal = NULL;
    char error[JOURNAL_ERROR_SIZE] = "";

    assert_int_equal(journal_open(c, &journal, error), status);
    assert_null(journal);
    assert_contains(error, want);
}

static void test_wrong_lists_are_refused(void **state)
{
    struct journal_config c = config();
    char many[400] = "", error[JOURNAL_ERROR_SIZE];

    (void)state;
    for (unsigned i = 0; i < 65; i++)
        (void)strcat(many, "A,");
    c.methods = many;
    expect_refusal(&c, EXIT_STATUS_CONFIG, "journal.methods: want at most 64");
    assert_int_equal(journal_check(&c, error), EXIT_STATUS_CONFIG);
    c = config();
    c.paths = "/good, bad";
    expect_refusal(&c, EXIT_STATUS_CONFIG, "journal.paths: bad must begin with a /");
    c = config();
    c.max_inflight_bytes = JOURNAL_UNIT_BYTES;
    expect_refusal(&c, EXIT_STATUS_CONFIG, "1 loops want at least");
    c = config();
    assert_int_equal(journal_check(&c, error), 0);
}

static void test_a_wrong_folder_is_refused(void **state)
{
    struct journal_config c = config();
    char path[400];

    (void)state;
    write_file("file", "x", 1);
    c.dir = in_folder("file", path);
    expect_refusal(&c, EXIT_STATUS_CONFIG, "not a directory");
    c.dir = in_folder("missing", path);
    expect_refusal(&c, EXIT_STATUS_CONFIG, "(create the folder");
    assert_int_equal(chmod(dir, 0777), 0);
    c = config();
    expect_refusal(&c, EXIT_STATUS_CONFIG, "others may write there");
    assert_int_equal(chmod(dir, 0700), 0);
}

static void test_a_wrong_key_is_refused(void **state)
{
    struct journal_config c = config();
    char path[400];

    (void)state;
    c.redact = "Cookie"; /* upper case, as in the configuration */
    write_file("redact.key", "too short", 9);
    expect_refusal(&c, EXIT_STATUS_CONFIG, "is not a key of 32 bytes");
    assert_int_equal(unlink(in_folder("redact.key", path)), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_refusal(&c, EXIT_STATUS_CONFIG, "is not a key of 32 bytes");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(in_folder("redact.key.new", path), 0700), 0);
    expect_refusal(&c, EXIT_STATUS_CONFIG, "cannot read or create the key");
}

int main(void)
{
#define claim(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        claim(test_requests_of_a_dead_process_are_read_and_stay),
        claim(test_what_is_not_a_request_is_named),
        claim(test_a_folder_that_is_not_there_is_an_error),
        claim(test_recovering_moves_each_request_once),
        claim(test_recovering_keeps_what_is_damaged_and_leaves_what_is_foreign),
        claim(test_the_record_of_a_living_process_is_not_recovered),
        claim(test_wrong_lists_are_refused),
        claim(test_a_wrong_folder_is_refused),
        claim(test_a_wrong_key_is_refused),
    };
    return cmocka_run_group_tests_name("leftovers", tests, NULL, NULL);
}

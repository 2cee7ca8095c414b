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
#include <unistd.h>

#include <arpa/inet.h>
#include <cmocka.h>

#include "archive_reader.h"
#include "clock.h"
#include "directory.h"
#include "journal_format.h"
#include "log.h"
#include "record.h"

#define UNITS 64 /* in a partition; the least there may be */

static char dir[64];
static struct journal *journal;
static struct journal_part *part;

static struct journal_config config(void)
{
    return (struct journal_config){.dir = dir,
                                   .methods = "POST, PUT",
                                   .redact = "authorization",
                                   .max_body = 1 << 20,
                                   .max_inflight_bytes = 2 * UNITS * JOURNAL_UNIT_BYTES,
                                   .partitions = 2};
}

static void open_with(const struct journal_config *c)
{
    char error[JOURNAL_ERROR_SIZE] = "";
    if (journal_open(c, &journal, error) != 0)
        fail_msg("%s", error);
    part = journal_part(journal, 1);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "%s/lastcall-journal-XXXXXX", memory_folder());
    if (mkdtemp(dir) == NULL)
        return -1;
    const struct journal_config c = config();
    open_with(&c);
    return 0;
}

static int tear_down(void **state)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    char path[400];

    (void)state;
    journal_leave(journal);
    journal_destroy(journal);
    journal = NULL;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        (void)unlink(path);
    }
    if (d != NULL)
        (void)closedir(d);
    return rmdir(dir);
}

/* ---- slots ---- */

static struct journal_slot *begin(const char *path, size_t body_bytes)
{
    static const struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = 0x3412};
    static char post[] = "POST", authority[] = "a.example";
    char *copy = (char *)(uintptr_t)path;
    const struct journal_request request = {.method = {post, 4},
                                            .authority = {authority, 9},
                                            .path = {copy, strlen(path)},
                                            .peer = (const void *)&peer,
                                            .began_ns = clock_now_ns(),
                                            .body_bytes = body_bytes};
    return journal_begin(part, &request);
}

static struct journal_slot *record(const char *path, const char *body, size_t body_bytes)
{
    struct journal_slot *slot = begin(path, body_bytes);
    if (slot == NULL)
        return NULL;
    journal_add_header(part, "x-a", 3, "1", 1);
    journal_add_header(part, "authorization", 13, "secret", 6);
    journal_commit(part, body);
    return slot;
}

/* The file as a process that is killed now would leave it; malloc(3)ed. */
static uint8_t *snapshot(size_t *ret_size)
{
    char path[400];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/inflight.%ld", dir, (long)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    *ret_size = (size_t)st.st_size;
    uint8_t *bytes = malloc(*ret_size);
    assert_int_equal(read(fd, bytes, *ret_size), st.st_size);
    (void)close(fd);
    return bytes;
}

struct tally {
    unsigned requests, torn, damaged;
    struct record_item last; /* its request is not kept */
    char path[64];           /* of the last request */
};

static void walk(const uint8_t *bytes, size_t size, struct tally *ret_tally)
{
    char why[UNFINISHED_WHY_SIZE];
    struct record r;
    struct record_item item;
    uint32_t index = 0;
    int found;

    memset(ret_tally, 0, sizeof(*ret_tally));
    assert_int_equal(record_open(bytes, size, &r, why), 0);
    while ((found = record_next(&r, &index, &item)) == 1) {
        ret_tally->requests += item.kind == RECORD_REQUEST;
        ret_tally->torn += item.kind == RECORD_TORN;
        ret_tally->damaged += item.kind == RECORD_DAMAGED;
        if (item.kind == RECORD_REQUEST)
            (void)snprintf(ret_tally->path, sizeof(ret_tally->path), "%s", item.request.path.base);
        else
            assert_string_not_equal(item.why, "");
        ret_tally->last = item;
        unfinished_release(&item.request);
    }
    assert_int_equal(found, 0);
}

static void walk_now(struct tally *ret_tally)
{
    size_t size;
    uint8_t *bytes = snapshot(&size);
    walk(bytes, size, ret_tally);
    free(bytes);
}

/* ---- tests ---- */

static void test_a_slot_reads_back_as_it_was_written(void **state)
{
    char why[UNFINISHED_WHY_SIZE], body[20000];
    struct record r;
    struct record_item item;
    uint32_t index = 0;
    size_t size;

    (void)state;
    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (char)(i * 7);
    struct journal_slot *slot = record("/p?q=1", body, sizeof(body));
    uint8_t *bytes = snapshot(&size);
    assert_int_equal(record_open(bytes, size, &r, why), 0);
    assert_int_equal(record_next(&r, &index, &item), 1);
    const struct unfinished *u = &item.request;
    assert_int_equal(item.kind, RECORD_REQUEST);
    assert_int_equal(item.offset, JOURNAL_HEADER_BYTES + UNITS * JOURNAL_UNIT_BYTES);
    assert_string_equal(u->method.base, "POST");
    assert_string_equal(u->authority.base, "a.example");
    assert_string_equal(u->path.base, "/p?q=1");
    assert_string_equal(u->client, "0.0.0.0:4660");
    assert_int_equal(u->header_count, 2);
    assert_string_equal(u->headers[0].value.base, "1");
    assert_true(u->headers[1].redacted);
    assert_int_equal(strncmp(u->headers[1].value.base, "hmac-sha256:", 12), 0);
    assert_int_equal(u->body.len, sizeof(body));
    assert_memory_equal(u->body.base, body, sizeof(body));
    assert_int_equal(u->state, UNFINISHED_STATE_RUNNING);
    unfinished_release(&item.request);
    assert_int_equal(record_next(&r, &index, &item), 0);
    free(bytes);
    journal_free(part, slot);
}

static void test_states_and_freeing_are_seen_at_once(void **state)
{
    struct tally tally;
    char why[UNFINISHED_WHY_SIZE];
    static const enum unfinished_state want[] = {UNFINISHED_STATE_QUEUED, UNFINISHED_STATE_RUNNING,
                                                 UNFINISHED_STATE_RESPONDING};

    (void)state;
    struct journal_slot *slot = record("/", "x", 1);
    for (unsigned i = 0; i < 3; i++) {
        struct record r;
        struct record_item item;
        uint32_t index = 0;
        size_t size;
        if (i == 0)
            journal_set_queued(slot);
        else if (i == 1)
            journal_mark_running(part, slot);
        else
            journal_set_responding(slot);
        uint8_t *bytes = snapshot(&size);
        assert_int_equal(record_open(bytes, size, &r, why), 0);
        assert_int_equal(record_next(&r, &index, &item), 1);
        assert_int_equal(item.request.state, want[i]);
        unfinished_release(&item.request);
        free(bytes);
    }
    journal_free(part, slot);
    walk_now(&tally);
    assert_int_equal(tally.requests + tally.torn + tally.damaged, 0);
}

static void test_a_slot_that_is_being_written_is_torn(void **state)
{
    struct tally tally;

    (void)state;
    /* A unit that has held a whole request before: nothing of that may come back. */
    journal_free(part, record("/before", "abc", 3));
    struct journal_slot *slot = begin("/torn", 3);
    walk_now(&tally);
    assert_int_equal(tally.torn, 1);
    assert_int_equal(tally.requests, 0);
    journal_add_header(part, "x-a", 3, "1", 1);
    walk_now(&tally);
    assert_int_equal(tally.torn, 1);
    journal_commit(part, "abc");
    walk_now(&tally);
    assert_int_equal(tally.torn, 0);
    assert_string_equal(tally.path, "/torn");
    journal_free(part, slot);
}

/* Every bit of a slot of two units, and of the header. */
static void test_every_flipped_bit_is_noticed(void **state)
{
    struct tally tally;
    size_t size;
    char why[UNFINISHED_WHY_SIZE], body[4200];
    struct record r;

    (void)state;
    memset(body, 'b', sizeof(body));
    struct journal_slot *slot = record("/flip", body, sizeof(body));
    struct journal_slot *other = record("/other", "", 0);
    uint8_t *bytes = snapshot(&size);
    struct journal_unit *head = (void *)(bytes + JOURNAL_HEADER_BYTES + UNITS * JOURNAL_UNIT_BYTES);

    for (size_t bit = 0; bit < 8 * offsetof(struct journal_header, checksum); bit += 3) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(record_open(bytes, size, &r, why), -EBADMSG);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (unsigned unit = 0; unit < 2; unit++) {
        uint8_t *at = (void *)&head[unit];
        size_t used = offsetof(struct journal_unit, payload) + head[unit].bytes;
        for (size_t bit = 0; bit < 8 * used; bit++) {
            size_t byte = bit / 8;
            bool is_state = byte >= offsetof(struct journal_unit, state) &&
                            byte < offsetof(struct journal_unit, check);
            bool is_unused = unit == 0 ? byte >= offsetof(struct journal_unit, check) &&
                                             byte < offsetof(struct journal_unit, serial)
                                       : is_state;
            at[byte] ^= (uint8_t)(1 << bit % 8);
            walk(bytes, size, &tally);
            /* A continuation's commit makes it a head, of which nothing holds. */
            unsigned whole = is_state || is_unused || (unit == 1 && byte < 8) ? 2 : 1;
            if (tally.requests != whole || tally.requests + tally.damaged < 2)
                fail_msg("unit %u, byte %zu, bit %zu: %u requests, %u damaged", unit, byte, bit % 8,
                         tally.requests, tally.damaged);
            at[byte] ^= (uint8_t)(1 << bit % 8);
        }
    }
    free(bytes);
    journal_free(part, slot);
    journal_free(part, other);
}

static void test_a_truncated_record_gives_what_it_has(void **state)
{
    struct tally tally;
    size_t size;
    struct record r;
    char why[UNFINISHED_WHY_SIZE];

    (void)state;
    struct journal_slot *one = record("/one", "1", 1), *two = record("/two", "2", 1);
    uint8_t *bytes = snapshot(&size);
    size_t second = JOURNAL_HEADER_BYTES + (UNITS + 1) * JOURNAL_UNIT_BYTES;

    for (size_t n = 0; n < JOURNAL_HEADER_BYTES; n += 101)
        assert_int_equal(record_open(bytes, n, &r, why), -EBADMSG);
    for (size_t n = second - 8; n < second + JOURNAL_UNIT_BYTES; n += 7) {
        walk(bytes, n, &tally);
        assert_int_equal(tally.damaged, 1);
        assert_int_equal(tally.last.offset, n);
        assert_int_equal(tally.requests, n >= second ? 1 : 0);
    }
    free(bytes);
    journal_free(part, one);
    journal_free(part, two);
}

static void test_a_chain_in_circles_is_damaged(void **state)
{
    struct tally tally;
    char body[10000];
    size_t size;

    (void)state;
    memset(body, 'c', sizeof(body));
    struct journal_slot *slot = record("/chain", body, sizeof(body));
    uint8_t *bytes = snapshot(&size);
    struct journal_unit *head = (void *)(bytes + JOURNAL_HEADER_BYTES + UNITS * JOURNAL_UNIT_BYTES);
    head[2].next = head[0].self;
    walk(bytes, size, &tally);
    assert_int_equal(tally.damaged, 1);
    head[2].next = UINT32_MAX - 1;
    walk(bytes, size, &tally);
    assert_int_equal(tally.damaged, 1);
    free(bytes);
    journal_free(part, slot);
}

/* First without room for bodies, then without room at all; and all of it comes back. */
static void test_requests_that_do_not_fit_are_counted(void **state)
{
    struct journal_slot *slots[2 * UNITS];
    struct journal_stats stats;
    struct tally tally;
    char body[12000];

    (void)state;
    memset(body, 'r', sizeof(body));
    for (unsigned turn = 0; turn < 3; turn++) {
        size_t n = 0;
        while (n < 2 * UNITS && (slots[n] = record("/fill", body, sizeof(body))) != NULL)
            n++;
        assert_true(n < UNITS);
        journal_get_stats(journal, &stats);
        assert_int_equal(stats.slots_used, n);
        assert_int_equal(stats.units_used, UNITS);
        assert_true(stats.incomplete > 0);
        assert_int_equal(stats.unrecorded, turn + 1);
        walk_now(&tally);
        assert_int_equal(tally.requests, n);
        assert_int_equal(tally.damaged + tally.torn, 0);
        while (n > 0)
            journal_free(part, slots[--n]);
        journal_get_stats(journal, &stats);
        assert_int_equal(stats.units_used + stats.slots_used, 0);
    }
}

static void test_headers_that_are_too_large_leave_the_rest(void **state)
{
    char why[UNFINISHED_WHY_SIZE], value[40000], path[3000];
    struct record r;
    struct record_item item;
    struct journal_stats stats;
    uint32_t index = 0;
    size_t size;

    (void)state;
    memset(value, 'v', sizeof(value));
    memset(path, 'p', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    struct journal_slot *slot = begin(path, 3);
    journal_add_header(part, "a", 1, value, sizeof(value));
    journal_add_header(part, "b", 1, value, sizeof(value));
    journal_commit(part, "abc");
    uint8_t *bytes = snapshot(&size);
    assert_int_equal(record_open(bytes, size, &r, why), 0);
    assert_int_equal(record_next(&r, &index, &item), 1);
    assert_int_equal(item.kind, RECORD_REQUEST);
    assert_int_equal(item.request.gap, UNFINISHED_GAP_HEADERS_TOO_LARGE);
    assert_int_equal(item.request.header_count, 0);
    assert_int_equal(item.request.body_bytes, 3);
    assert_string_equal(item.request.sha256,
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(item.request.path.len, 1024);
    unfinished_release(&item.request);
    free(bytes);
    journal_free(part, slot);
    journal_get_stats(journal, &stats);
    assert_int_equal(stats.units_used, 0);
}

static int by_text(const void *a, const void *b)
{
    return memcmp(a, b, 33);
}

static void test_ids_are_unique(void **state)
{
    enum { ROUNDS = 40, EACH = 50 };
    static char ids[ROUNDS * EACH][33];
    size_t count = 0;

    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct journal_slot *slots[EACH];
        struct record r;
        struct record_item item;
        uint32_t index = 0;
        char why[UNFINISHED_WHY_SIZE];
        size_t size;
        for (unsigned i = 0; i < EACH; i++)
            slots[i] = record("/", "", 0);
        uint8_t *bytes = snapshot(&size);
        assert_int_equal(record_open(bytes, size, &r, why), 0);
        while (record_next(&r, &index, &item) == 1) {
            memcpy(ids[count++], item.request.id, 33);
            unfinished_release(&item.request);
        }
        free(bytes);
        for (unsigned i = 0; i < EACH; i++)
            journal_free(part, slots[i]);
    }
    assert_int_equal(count, ROUNDS * EACH);
    qsort(ids, count, sizeof(ids[0]), by_text);
    for (size_t i = 1; i < count; i++)
        assert_string_not_equal(ids[i - 1], ids[i]);
}

static bool wants(const char *method, const char *path)
{
    return journal_wants(part, method, strlen(method), path, strlen(path));
}

static void test_methods_and_paths_say_what_is_wanted(void **state)
{
    struct journal_config c = config();

    (void)state;
    assert_true(wants("POST", "/x"));
    assert_true(wants("PUT", "/x"));
    assert_false(wants("GET", "/x"));
    assert_false(wants("POS", "/x"));
    journal_leave(journal);
    journal_destroy(journal);
    c.methods = "*";
    c.paths = "/orders, /v?/pay, *.cgi";
    open_with(&c);
    assert_true(wants("GET", "/orders/1?x"));
    assert_true(wants("GET", "/v2/pay"));
    assert_true(wants("GET", "/a/b.cgi?q"));
    assert_false(wants("GET", "/order"));
    assert_false(wants("GET", "/x?.cgi"));
    assert_false(wants("GET", "/v22/pay"));
}

static void copy_as(const char *name)
{
    char path[400];
    size_t size;
    uint8_t *bytes = snapshot(&size);
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    (void)fclose(file);
    free(bytes);
}

static size_t count_archived(void)
{
    struct archive_reader *reader;
    struct archive_item item;
    size_t count = 0;

    assert_int_equal(archive_reader_open(dir, &reader), 0);
    while (archive_reader_next(reader, &item) == 1) {
        assert_string_equal(item.why, "");
        count++;
    }
    archive_reader_close(reader);
    return count;
}

static void test_a_start_archives_the_dead_and_spares_the_living(void **state)
{
    struct journal *second;
    char error[JOURNAL_ERROR_SIZE] = "", path[400];
    struct journal_stats stats;
    const struct journal_config c = config();

    (void)state;
    struct journal_slot *slot = record("/a", "x", 1);
    copy_as("inflight.4711"); /* it is not locked: its owner is dead */
    assert_int_equal(journal_open(&c, &second, error), 0);
    assert_int_equal(count_archived(), 1);
    journal_get_stats(second, &stats);
    assert_int_equal(stats.archived, 1);
    (void)snprintf(path, sizeof(path), "%s/inflight.4711", dir);
    assert_int_not_equal(access(path, F_OK), 0);
    /* The living one has our name; the second took the next. */
    (void)snprintf(path, sizeof(path), "%s/inflight.%ld.1", dir, (long)getpid());
    assert_int_equal(access(path, F_OK), 0);
    journal_leave(second);
    journal_destroy(second);
    assert_int_not_equal(access(path, F_OK), 0);
    /* It comes once more: the process that moved it was killed before it freed it. */
    copy_as("inflight.4712");
    assert_int_equal(journal_open(&c, &second, error), 0);
    assert_int_equal(count_archived(), 1);
    journal_leave(second);
    journal_destroy(second);
    journal_free(part, slot);
}

static void test_a_damaged_record_is_kept(void **state)
{
    struct journal *second;
    char error[JOURNAL_ERROR_SIZE] = "", path[400];
    const struct journal_config c = config();
    bool kept = false;
    struct dirent *entry;

    (void)state;
    struct journal_slot *slot = record("/a", "x", 1), *other = record("/b", "x", 1);
    copy_as("inflight.4711");
    (void)snprintf(path, sizeof(path), "%s/inflight.4711", dir);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "!", 1, JOURNAL_HEADER_BYTES + UNITS * JOURNAL_UNIT_BYTES + 60), 1);
    (void)close(fd);
    assert_int_equal(journal_open(&c, &second, error), 0);
    assert_int_equal(count_archived(), 1);
    DIR *d = opendir(dir);
    while ((entry = readdir(d)) != NULL)
        kept |= strncmp(entry->d_name, "damaged-inflight.", 17) == 0;
    (void)closedir(d);
    assert_true(kept);
    journal_leave(second);
    journal_destroy(second);
    journal_free(part, slot);
    journal_free(part, other);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_slot_reads_back_as_it_was_written),
        TEST(test_states_and_freeing_are_seen_at_once),
        TEST(test_a_slot_that_is_being_written_is_torn),
        TEST(test_every_flipped_bit_is_noticed),
        TEST(test_a_truncated_record_gives_what_it_has),
        TEST(test_a_chain_in_circles_is_damaged),
        TEST(test_requests_that_do_not_fit_are_counted),
        TEST(test_headers_that_are_too_large_leave_the_rest),
        TEST(test_ids_are_unique),
        TEST(test_methods_and_paths_say_what_is_wanted),
        TEST(test_a_start_archives_the_dead_and_spares_the_living),
        TEST(test_a_damaged_record_is_kept),
    };

    log_init(LOG_FORMAT_TEXT, true);
    (void)alarm(300);
    return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}

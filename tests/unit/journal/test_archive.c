#include "archive.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "archive_reader.h"
#include "clock.h"
#include "directory.h"
#include "journal.h"
#include "log.h"

#define REQUESTS 3

static char dir[64];
static uint8_t *image; /* of a record with REQUESTS requests, never changed */
static size_t image_bytes;

/* ---- a record ---- */

static void record(struct journal_part *part, unsigned n)
{
    static char post[] = "POST", host[] = "h", body[] = "line\n\0\xff";
    char path[32];
    int len = snprintf(path, sizeof(path), "/%u", n);
    const struct journal_request request = {.method = {post, 4},
                                            .authority = {host, 1},
                                            .path = {path, (size_t)len},
                                            .began_ns = clock_now_ns(),
                                            .body_bytes = 7};
    assert_non_null(journal_begin(part, &request));
    journal_commit(part, body);
}

/* What a process with `count` requests leaves when it is killed; malloc(3)ed. */
static uint8_t *make_image(const char *where, unsigned count, size_t *ret_size)
{
    struct journal *journal;
    char error[JOURNAL_ERROR_SIZE], path[400];
    struct stat st;
    const struct journal_config config = {.dir = where,
                                          .methods = "*",
                                          .redact = "",
                                          .max_body = 1000,
                                          .max_inflight_bytes = 64 * JOURNAL_UNIT_BYTES,
                                          .partitions = 1};

    assert_int_equal(journal_open(&config, &journal, error), 0);
    for (unsigned i = 0; i < count; i++)
        record(journal_part(journal, 0), i);
    (void)snprintf(path, sizeof(path), "%s/inflight.%ld", where, (long)getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    *ret_size = (size_t)st.st_size;
    uint8_t *bytes = malloc(*ret_size);
    assert_int_equal(read(fd, bytes, *ret_size), st.st_size);
    (void)close(fd);
    (void)unlink(path);
    journal_destroy(journal);
    return bytes;
}

static void empty_dir(void)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    char path[400];

    while (d != NULL && (entry = readdir(d)) != NULL) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        if (unlink(path) != 0)
            (void)rmdir(path);
    }
    if (d != NULL)
        (void)closedir(d);
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "%s/lastcall-archive-XXXXXX", memory_folder());
    if (mkdtemp(dir) == NULL)
        return -1;
    image = make_image(dir, REQUESTS, &image_bytes);
    empty_dir();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    empty_dir();
    free(image);
    return rmdir(dir);
}

static uint8_t *copy_image(void)
{
    uint8_t *bytes = malloc(image_bytes);
    memcpy(bytes, image, image_bytes);
    return bytes;
}

static struct archive_move move_of(uint8_t *bytes)
{
    return (struct archive_move){.dir = dir,
                                 .bytes = bytes,
                                 .size = image_bytes,
                                 .reason = UNFINISHED_REASON_CRASHED,
                                 .until_ns = CLOCK_NEVER,
                                 .may_be_there = true};
}

/* ---- the day's file ---- */

static char *day_path(void)
{
    static char path[128];
    char name[64];
    time_t now = time(NULL);
    struct tm tm;

    (void)strftime(name, sizeof(name), "unfinished-%Y%m%d.ndjson", gmtime_r(&now, &tm));
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void write_file(const char *path, const char *bytes, size_t n)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static char *read_file(const char *path, size_t *ret_size)
{
    static char bytes[1 << 20];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    *ret_size = fread(bytes, 1, sizeof(bytes) - 1, file);
    bytes[*ret_size] = '\0';
    (void)fclose(file);
    return bytes;
}

/* Every request once, and no garbage. */
static void expect_each_once(unsigned count)
{
    struct archive_reader *reader;
    struct archive_item item;
    unsigned seen[256] = {0}, n = 0;
    int found;

    assert_int_equal(archive_reader_open(dir, &reader), 0);
    while ((found = archive_reader_next(reader, &item)) == 1) {
        assert_string_equal(item.why, "");
        assert_int_equal(item.request.body.len, 7);
        seen[strtoul(item.request.path.base + 1, NULL, 10)]++;
        n++;
    }
    assert_int_equal(found, 0);
    archive_reader_close(reader);
    assert_int_equal(n, count);
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(seen[i], 1);
}

/* ---- lines ---- */

static struct unfinished_text text(const char *base, size_t len)
{
    return (struct unfinished_text){(char *)(uintptr_t)base, len};
}

static void expect_same(const struct unfinished *u)
{
    struct unfinished back;
    char why[UNFINISHED_WHY_SIZE];
    char *line = unfinished_line(u);

    assert_non_null(line);
    assert_null(strchr(line, '\n'));
    if (unfinished_parse(line, strlen(line), &back, why) != 0)
        fail_msg("%s: %s", why, line);
    assert_int_equal(back.path.len, u->path.len);
    assert_memory_equal(back.path.base, u->path.base, u->path.len);
    assert_int_equal(back.header_count, u->header_count);
    for (size_t i = 0; i < u->header_count; i++) {
        assert_int_equal(back.headers[i].value.len, u->headers[i].value.len);
        assert_memory_equal(back.headers[i].value.base, u->headers[i].value.base,
                            u->headers[i].value.len);
        assert_int_equal(back.headers[i].redacted, u->headers[i].redacted);
    }
    assert_int_equal(back.body.len, u->body.len);
    if (u->body.len > 0)
        assert_memory_equal(back.body.base, u->body.base, u->body.len);
    assert_int_equal(back.began_ms, u->began_ms);
    char *again = unfinished_line(&back);
    assert_string_equal(again, line);
    free(again);
    free(line);
    unfinished_release(&back);
}

static struct unfinished sample(struct unfinished_header *headers)
{
    headers[0] = (struct unfinished_header){text("x-a", 3), text("1", 1), false};
    headers[1] = (struct unfinished_header){text("cookie", 6), text("hmac-sha256:00", 14), true};
    return (struct unfinished){.id = "0193a1b2c3d4e5f60718293a4b5c6d7e",
                               .class = UNFINISHED_CLASS_MAY_HAVE_RUN,
                               .state = UNFINISHED_STATE_RUNNING,
                               .server = "lastcall/0",
                               .began_ms = 1764108000123,
                               .archived_ms = 1764108010123,
                               .age_ms = 10000,
                               .client = "127.0.0.1:1",
                               .scheme = "http",
                               .method = text("POST", 4),
                               .authority = text("a", 1),
                               .path = text("/p", 2),
                               .headers = headers,
                               .header_count = 2,
                               .body = text("", 0)};
}

static void test_any_bytes_survive_a_line(void **state)
{
    struct unfinished_header headers[2];
    char bytes[64];
    unsigned seed = 1;

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        struct unfinished u = sample(headers);
        size_t n = (size_t)rand_r(&seed) % sizeof(bytes);
        for (size_t j = 0; j < n; j++) /* now ASCII, now UTF-8, now anything */
            bytes[j] = (char)(i % 3 == 0 ? rand_r(&seed) % 128 : rand_r(&seed));
        if (i % 3 == 1 && n >= 4)
            memcpy(bytes, "\xc3\xbc\xe2\x82", 4);
        u.path = i % 2 ? text(bytes, n) : u.path;
        headers[0].value = i % 5 == 0 ? text(bytes, n) : headers[0].value;
        u.body = text(bytes, n);
        u.body_bytes = n;
        expect_same(&u);
    }
}

static void test_no_part_of_a_line_passes_for_one(void **state)
{
    struct unfinished_header headers[2];
    struct unfinished u = sample(headers), back;
    char why[UNFINISHED_WHY_SIZE];
    char *line = unfinished_line(&u);

    (void)state;
    for (size_t n = 0; n < strlen(line); n++) {
        assert_int_equal(unfinished_parse(line, n, &back, why), -EBADMSG);
        assert_string_not_equal(why, "");
    }
    free(line);
}

static void test_invalid_lines_are_named(void **state)
{
    static const struct {
        const char *from, *to, *why;
    } cases[] = {
        {"\"schema\":1", "\"schema\":2", "schema is not 1"},
        {"0193a1b2", "0193A1B2", "id is not 32 hex digits"},
        {"\"running\"", "\"runnin\"", "state has an unknown value"},
        {"\"class\":", "\"clas\":", "class is missing"},
        {"\"age_ms\":10000.0", "\"age_ms\":\"1\"", "age_ms is of another type"},
        {"00.123Z", "00.123", "began is not a time"},
        {"[\"x-a\",\"1\"]", "[\"x-a\"]", "a header is not a name and a value"},
        {"[\"x-a\",\"1\"]", "[\"x-a\",1]", "a header's value is not a text"},
        {"\"body_bytes\":0", "\"body_bytes\":1", "body has 0 bytes and body_bytes says 1"},
        {"\"body\":\"\"", "\"bode\":\"\"", "it has neither a body nor a reason for its absence"},
        {"\"body\":\"\"", "\"body_base64\":\"=abc\"", "body_base64 is not base64"},
        {"\"body\":\"\"", "\"body_base64\":\"ab\"", "body_base64 is not base64"},
        {"\"path\":\"/p\"", "\"latin1\":true,\"path\":\"\\u20ac\"", "path is not Latin-1"},
    };
    struct unfinished_header headers[2];
    struct unfinished u = sample(headers), back;
    char why[UNFINISHED_WHY_SIZE], changed[2048];
    char *line = unfinished_line(&u);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *at = strstr(line, cases[i].from);
        if (at == NULL)
            fail_msg("no %s in %s", cases[i].from, line);
        (void)snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(at - line), line, cases[i].to,
                       at + strlen(cases[i].from));
        assert_int_equal(unfinished_parse(changed, strlen(changed), &back, why), -EBADMSG);
        assert_string_equal(why, cases[i].why);
    }
    free(line);
}

/* ---- the reader ---- */

static void test_the_reader_names_garbage_and_goes_on(void **state)
{
    struct unfinished_header headers[2];
    struct unfinished u = sample(headers);
    struct archive_reader *reader;
    struct archive_item item;
    char *line = unfinished_line(&u), path[128], bytes[8192];
    size_t len = strlen(line);

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/unfinished-20200102.ndjson", dir);
    int n = snprintf(bytes, sizeof(bytes), "%s\ngarbage\n%s\n%.50s", line, line, line);
    write_file(path, bytes, (size_t)n);
    (void)snprintf(path, sizeof(path), "%s/unfinished-20200101.ndjson", dir);
    write_file(path, line, len); /* whole, but for the newline */
    (void)snprintf(path, sizeof(path), "%s/unfinished-20200103.ndjson.done", dir);
    write_file(path, "x", 1);

    assert_int_equal(archive_reader_open(dir, &reader), 0);
    assert_int_equal(archive_reader_next(reader, &item), 1);
    assert_non_null(strstr(item.path, "20200101"));
    assert_int_equal(archive_reader_next(reader, &item), 1);
    assert_string_equal(item.why, "");
    assert_int_equal(archive_reader_next(reader, &item), 1);
    assert_string_not_equal(item.why, "");
    assert_int_equal(item.offset, len + 1);
    assert_string_equal(item.line, "garbage");
    assert_int_equal(archive_reader_next(reader, &item), 1);
    assert_int_equal(item.offset, len + 9);
    assert_string_equal(item.line, line);
    assert_int_equal(archive_reader_next(reader, &item), 0); /* the rest is being written */
    archive_reader_close(reader);
    assert_int_equal(archive_reader_open("/nowhere", &reader), -ENOENT);
    free(line);
}

/* ---- moves ---- */

static void test_a_move_frees_what_it_has_written(void **state)
{
    struct archive_moved moved;
    uint8_t *bytes = copy_image();
    struct archive_move move = move_of(bytes);

    (void)state;
    assert_int_equal(archive_move(&move, &moved), 0);
    assert_int_equal(moved.count, REQUESTS);
    assert_int_equal(moved.left, 0);
    assert_string_equal(moved.path, day_path());
    expect_each_once(REQUESTS);
    assert_int_equal(archive_move(&move, &moved), 0);
    assert_int_equal(moved.count, 0);
    assert_string_equal(moved.path, "");
    expect_each_once(REQUESTS);
    free(bytes);
}

/* A writer can be killed after each byte that it appends, and after each slot that it frees; the
 * record is whole then, or has some slots less. */
static void test_a_move_cut_short_anywhere_is_taken_up(void **state)
{
    struct archive_moved moved;
    uint8_t *bytes = copy_image();
    struct archive_move move = move_of(bytes);
    static const char before[] = "what a day may have had before\n";
    size_t size;

    (void)state;
    assert_int_equal(archive_move(&move, &moved), 0);
    char *whole = strdup(read_file(day_path(), &size));
    for (size_t n = 0; n <= size; n++) {
        memcpy(bytes, image, image_bytes);
        write_file(day_path(), whole, n);
        assert_int_equal(archive_move(&move, &moved), 0);
        expect_each_once(REQUESTS);
    }
    for (unsigned freed = 0; freed < 1 << REQUESTS; freed++) {
        memcpy(bytes, image, image_bytes);
        write_file(day_path(), whole, size);
        for (unsigned i = 0; i < REQUESTS; i++)
            if ((freed >> i & 1) != 0)
                memset(bytes + JOURNAL_HEADER_BYTES + i * JOURNAL_UNIT_BYTES, 0, 8);
        assert_int_equal(archive_move(&move, &moved), 0);
        assert_int_equal(moved.count, 0);
        expect_each_once(REQUESTS);
    }
    /* What is no line of ours stays. */
    write_file(day_path(), before, sizeof(before) - 1);
    memcpy(bytes, image, image_bytes);
    assert_int_equal(archive_move(&move, &moved), 0);
    assert_int_equal(strncmp(read_file(day_path(), &size), before, sizeof(before) - 1), 0);
    free(whole);
    free(bytes);
}

static void test_a_move_that_is_out_of_time_leaves_the_rest(void **state)
{
    struct archive_moved moved;
    uint8_t *bytes = copy_image();
    struct archive_move move = move_of(bytes);

    (void)state;
    move.until_ns = clock_now_ns();
    assert_int_equal(archive_move(&move, &moved), -ETIMEDOUT);
    assert_int_equal(moved.left, REQUESTS);
    assert_int_equal(moved.count, 0);
    move.until_ns = CLOCK_NEVER;
    assert_int_equal(archive_move(&move, &moved), 0);
    expect_each_once(REQUESTS);
    free(bytes);
}

static void test_a_file_that_cannot_be_written_leaves_the_record(void **state)
{
    struct archive_moved moved;
    uint8_t *bytes = copy_image();
    struct archive_move move = move_of(bytes);

    (void)state;
    assert_int_equal(mkdir(day_path(), 0700), 0);
    assert_int_not_equal(archive_move(&move, &moved), 0);
    assert_int_equal(moved.left, REQUESTS);
    assert_memory_equal(bytes, image, image_bytes);
    assert_int_equal(rmdir(day_path()), 0);
    assert_int_equal(symlink("/etc/passwd", day_path()), 0);
    assert_int_not_equal(archive_move(&move, &moved), 0);
    assert_int_equal(moved.left, REQUESTS);
    free(bytes);
}

static void test_skipped_partitions_stay(void **state)
{
    static const bool skip[1] = {true};
    struct archive_moved moved;
    uint8_t *bytes = copy_image();
    struct archive_move move = move_of(bytes);

    (void)state;
    move.skip = skip;
    assert_int_equal(archive_move(&move, &moved), 0);
    assert_memory_equal(bytes, image, image_bytes);
    free(bytes);
}

static void test_one_process_at_a_time_has_the_lock(void **state)
{
    int one, two;

    (void)state;
    assert_int_equal(archive_lock(dir, CLOCK_NEVER, &one), 0);
    assert_int_equal(archive_lock(dir, clock_now_ns() + 20 * NS_PER_MS, &two), -ETIMEDOUT);
    (void)close(one);
    assert_int_equal(archive_lock(dir, CLOCK_NEVER, &two), 0);
    (void)close(two);
}

#define MOVERS 8
#define EACH 25

/* Each moves its own records, all into one file, as fast as it can. */
static void test_many_processes_share_one_file(void **state)
{
    uint8_t *images[MOVERS];
    size_t size;
    pid_t children[MOVERS];
    struct archive_reader *reader;
    struct archive_item item;
    unsigned n = 0;
    int status;

    (void)state;
    for (unsigned i = 0; i < MOVERS; i++)
        images[i] = make_image(dir, EACH, &size);
    for (unsigned i = 0; i < MOVERS; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            struct archive_moved *moved = malloc(sizeof(*moved));
            int lock;
            struct archive_move move = move_of(images[i]);
            bool failed = archive_lock(dir, CLOCK_NEVER, &lock) != 0 ||
                          archive_move(&move, moved) != 0 || moved->count != EACH;
            _exit(failed);
        }
    }
    for (unsigned i = 0; i < MOVERS; i++) {
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
        free(images[i]);
    }
    assert_int_equal(archive_reader_open(dir, &reader), 0);
    while (archive_reader_next(reader, &item) == 1) {
        assert_string_equal(item.why, "");
        n++;
    }
    archive_reader_close(reader);
    assert_int_equal(n, MOVERS * EACH);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_any_bytes_survive_a_line),
        TEST(test_no_part_of_a_line_passes_for_one),
        TEST(test_invalid_lines_are_named),
        TEST(test_the_reader_names_garbage_and_goes_on),
        TEST(test_a_move_frees_what_it_has_written),
        TEST(test_a_move_cut_short_anywhere_is_taken_up),
        TEST(test_a_move_that_is_out_of_time_leaves_the_rest),
        TEST(test_a_file_that_cannot_be_written_leaves_the_record),
        TEST(test_skipped_partitions_stay),
        TEST(test_one_process_at_a_time_has_the_lock),
        TEST(test_many_processes_share_one_file),
    };

    log_init(LOG_FORMAT_TEXT, true);
    (void)alarm(300);
    return cmocka_run_group_tests_name("archive", tests, NULL, NULL);
}

/* The in-flight record and the archive of the real process: their content at the deadline, at a
 * forced stop and after a crash, byte for byte; and a folder that cannot be used. */

#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "archive_reader.h"
#include "directory.h"
#include "expect.h"
#include "loadgen.h"
#include "skip.h"

#define LIMIT_MS 30000

static char dir[64];
static char conf_path[96];
static bool mounted;

/* ---- the folder and the file ---- */

static bool has_file(const char *prefix, char *ret_name)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    bool found = false;

    assert_non_null(d);
    while (!found && (entry = readdir(d)) != NULL)
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0) {
            found = true;
            if (ret_name != NULL)
                (void)snprintf(ret_name, 300, "%s", entry->d_name);
        }
    (void)closedir(d);
    return found;
}

/* The server's own record is inflight.PID, and may begin as any other one. */
static bool exists(const char *name)
{
    char path[400];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static int make_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof(dir), "%s/lastcall-unfinished-XXXXXX", memory_folder());
    if (mkdtemp(dir) == NULL)
        return -1;
    (void)snprintf(conf_path, sizeof(conf_path), "%s.conf", dir);
    return 0;
}

static int clean(void **state)
{
    char path[400], name[300];

    (void)process_kill_left(state);
    if (mounted)
        (void)umount2(dir, MNT_DETACH);
    mounted = false;
    (void)chmod(dir, 0700);
    while (has_file("inflight", name) || has_file("unfinished-", name) ||
           has_file("redact", name) || has_file("archive", name) || has_file("damaged", name) ||
           has_file("fill", name)) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        if (unlink(path) != 0)
            return -1;
    }
    (void)unlink(conf_path);
    return rmdir(dir);
}

/* `journal` follows the folder in `journal: {}`. */
static void write_conf(const char *journal)
{
    FILE *file = fopen(conf_path, "w");

    assert_non_null(file);
    (void)fprintf(file,
                  "listen: {host: 127.0.0.1, port: 0}\n"
                  "num-threads: 2\n"
                  "user: %s\n"
                  "pool: {workers: 2}\n"
                  "drain: {deadline: 100ms}\n"
                  "journal: {dir: %s, max-inflight-bytes: 4MB%s}\n"
                  "hosts: {default: {paths: {/: {handler: sleep}}}}\n",
                  own_user_name(), dir, journal);
    assert_int_equal(fclose(file), 0);
}

static void start(struct process *p, const char *journal)
{
    const char *const args[] = {"--conf", conf_path, NULL};
    write_conf(journal);
    process_start_configured(p, args);
}

/* Start, which is to fail, with `status` and `line` in the log. */
static void expect_refused(const char *journal, int status, const char *line)
{
    const char *const args[] = {"--conf", conf_path, NULL};
    struct process p;

    write_conf(journal);
    process_spawn(&p, args);
    process_expect(&p, LIMIT_MS, status);
    if (strstr(p.log, line) == NULL)
        fail_msg("no `%s` in the log:\n%s", line, p.log);
    process_release(&p);
}

/* ---- requests ---- */

struct request {
    const char *method, *path, *headers; /* lines with \r\n */
    const char *body;
    size_t body_bytes;
};

static int send_request(const struct process *p, const struct request *r)
{
    char head[4096];
    int fd = client_connect(p);
    int n = snprintf(head, sizeof(head),
                     "%s %s HTTP/1.1\r\nHost: shop.example\r\nContent-Length: %zu\r\n%s\r\n",
                     r->method, r->path, r->body_bytes, r->headers);

    assert_int_equal(send(fd, head, (size_t)n, MSG_NOSIGNAL), n);
    for (size_t at = 0; at < r->body_bytes;) {
        ssize_t done = send(fd, r->body + at, r->body_bytes - at, MSG_NOSIGNAL);
        assert_true(done > 0);
        at += (size_t)done;
    }
    return fd;
}

/* How often `text` stands in the record that is there. */
static size_t count_on_record(const char *text)
{
    char name[300], path[400];
    size_t room = 5 << 20, count = 0;
    char *bytes = malloc(room), *at = bytes;

    assert_true(has_file("inflight.", name));
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t n = read(fd, bytes, room);
    (void)close(fd);
    while (n > 0 && (at = memmem(at, (size_t)(bytes + n - at), text, strlen(text))) != NULL) {
        at++;
        count++;
    }
    free(bytes);
    return count;
}

static void wait_on_record(const char *path)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    while (count_on_record(path) == 0) {
        assert_true(now_ns() < until_ns);
        (void)usleep(1000); /* writes through a mapping raise no file event */
    }
}

#define ITEMS_MAX 64

struct items {
    struct unfinished items[ITEMS_MAX];
    size_t count;
};

static void read_archive(struct items *ret_items)
{
    struct archive_reader *reader;
    struct archive_item item;
    int found;

    ret_items->count = 0;
    assert_int_equal(archive_reader_open(dir, &reader), 0);
    while ((found = archive_reader_next(reader, &item)) == 1) {
        assert_string_equal(item.why, "");
        assert_true(ret_items->count < ITEMS_MAX);
        char why[UNFINISHED_WHY_SIZE];
        assert_int_equal(
            unfinished_parse(item.line, item.len, &ret_items->items[ret_items->count++], why), 0);
    }
    assert_int_equal(found, 0);
    archive_reader_close(reader);
}

static void release_items(struct items *items)
{
    for (size_t i = 0; i < items->count; i++)
        unfinished_release(&items->items[i]);
}

static const struct unfinished *item_of(const struct items *items, const char *path)
{
    for (size_t i = 0; i < items->count; i++)
        if (strcmp(items->items[i].path.base, path) == 0)
            return &items->items[i];
    fail_msg("%s is not in the archive", path);
    return NULL;
}

static const struct unfinished_header *header_of(const struct unfinished *u, const char *name)
{
    for (size_t i = 0; i < u->header_count; i++)
        if (strcmp(u->headers[i].name.base, name) == 0)
            return &u->headers[i];
    return NULL;
}

static void assert_body(const struct unfinished *u, const char *bytes, size_t len)
{
    assert_int_equal(u->body_bytes, len);
    assert_int_equal(u->body.len, len);
    assert_memory_equal(u->body.base, bytes, len);
}

/* ---- tests ---- */

static void fill(char *bytes, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)rand_r(&seed);
}

static void test_what_hangs_at_the_deadline_is_archived_byte_for_byte(void **state)
{
    static char binary[300000];
    static const char text[] = "{\"grüße\": 1}";
    const struct request requests[] = {
        {"POST", "/a?ms=60000", "X-Bytes: \xe9\xff\r\nx-two: 1\r\nx-two: 2\r\n", binary,
         sizeof(binary)},
        {"PUT", "/b?ms=60000", "content-type: application/json\r\n", text, sizeof(text) - 1},
        {"POST", "/c?ms=60000", "", binary, 4096},
        {"PATCH", "/d?ms=60000", "", "", 0},
    };
    int fds[4];
    struct process p;
    static struct items items;

    (void)state;
    fill(binary, sizeof(binary), 7);
    start(&p, "");
    for (size_t i = 0; i < 4; i++) { /* two run, two wait for a worker, in this order */
        fds[i] = send_request(&p, &requests[i]);
        wait_on_record(requests[i].path);
    }
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "4 requests archived to ");
    read_archive(&items);
    assert_int_equal(items.count, 4);
    for (size_t i = 0; i < 4; i++) {
        const struct unfinished *u = item_of(&items, requests[i].path);
        assert_string_equal(u->method.base, requests[i].method);
        assert_string_equal(u->authority.base, "shop.example");
        assert_string_equal(u->scheme, "http");
        assert_int_equal(u->reason, UNFINISHED_REASON_DEADLINE);
        assert_int_equal(strncmp(u->client, "127.0.0.1:", 10), 0);
        assert_body(u, requests[i].body, requests[i].body_bytes);
        (void)close(fds[i]);
    }
    const struct unfinished *a = item_of(&items, "/a?ms=60000");
    assert_string_equal(header_of(a, "x-bytes")->value.base, "\xe9\xff");
    assert_int_equal(a->header_count, 3);
    assert_string_equal(a->headers[1].value.base, "1");
    assert_string_equal(a->headers[2].value.base, "2");
    assert_int_equal(a->state, UNFINISHED_STATE_RUNNING);
    assert_int_equal(a->class, UNFINISHED_CLASS_MAY_HAVE_RUN);
    assert_int_equal(item_of(&items, "/b?ms=60000")->class, UNFINISHED_CLASS_IDEMPOTENT);
    assert_int_equal(item_of(&items, "/c?ms=60000")->state, UNFINISHED_STATE_QUEUED);
    assert_int_equal(item_of(&items, "/d?ms=60000")->class, UNFINISHED_CLASS_NEVER_STARTED);
    assert_false(has_file("inflight.", NULL));
    release_items(&items);
    process_release(&p);
}

static void test_a_forced_stop_archives_too_and_the_report_says_so(void **state)
{
    struct process p;
    static struct items items;
    const struct request request = {"POST", "/hang?ms=60000", "", "x", 1};
    char report[128], line[4096] = "";

    (void)state;
    (void)snprintf(report, sizeof(report), "%s.report", dir);
    write_conf("");
    const char *const args[] = {"--conf", conf_path, "--deadline", "60s", "--report", report, NULL};
    process_start_configured(&p, args);
    int fd = send_request(&p, &request);
    wait_on_record(request.path);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "draining");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 4);
    read_archive(&items);
    assert_int_equal(items.count, 1);
    assert_int_equal(items.items[0].reason, UNFINISHED_REASON_FORCED);
    FILE *file = fopen(report, "r");
    assert_non_null(file);
    size_t n = fread(line, 1, sizeof(line) - 1, file);
    (void)fclose(file);
    line[n] = '\0';
    assert_contains(line, "\"archived\": 1");
    assert_contains(line, "unfinished-");
    assert_int_equal(unlink(report), 0);
    (void)close(fd);
    release_items(&items);
    process_release(&p);
}

static void test_secrets_are_neither_on_record_nor_in_the_archive(void **state)
{
    struct process p;
    static struct items items;
    const struct request request = {
        "POST", "/hang?ms=60000",
        "Authorization: Bearer open-sesame\r\nCookie: id=open-sesame\r\nX-Key: open-sesame\r\n", "",
        0};
    char name[300], path[400];
    char *bytes = malloc(5 << 20);

    (void)state;
    start(&p, ", redact: [authorization, COOKIE, x-key]");
    int fd = send_request(&p, &request);
    wait_on_record(request.path);
    assert_true(has_file("inflight.", name));
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    int record = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(record, bytes, 5 << 20);
    assert_true(n > 0);
    assert_null(memmem(bytes, (size_t)n, "open-sesame", 11));
    (void)close(record);
    process_signal(&p, SIGKILL);
    process_expect(&p, LIMIT_MS, 128 + SIGKILL);
    process_release(&p);
    start(&p, "");
    read_archive(&items);
    assert_int_equal(items.count, 1);
    const struct unfinished_header *a = header_of(&items.items[0], "authorization");
    assert_true(a->redacted);
    assert_int_equal(strncmp(a->value.base, "hmac-sha256:", 12), 0);
    assert_int_equal(a->value.len, 12 + 64);
    assert_true(header_of(&items.items[0], "x-key")->redacted);
    assert_string_not_equal(header_of(&items.items[0], "cookie")->value.base, a->value.base);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    (void)close(fd);
    free(bytes);
    release_items(&items);
    process_release(&p);
}

static void test_a_body_over_the_limit_is_archived_by_its_digest(void **state)
{
    struct process p;
    static struct items items;
    static char body[100000];
    const struct request request = {"POST", "/hang?ms=60000", "", body, sizeof(body)};
    uint8_t digest[32];
    char hex[65];

    (void)state;
    fill(body, sizeof(body), 3);
    start(&p, ", max-body: 64KB");
    int fd = send_request(&p, &request);
    wait_on_record(request.path);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    read_archive(&items);
    assert_int_equal(items.count, 1);
    assert_int_equal(items.items[0].gap, UNFINISHED_GAP_BODY_TOO_LARGE);
    assert_int_equal(items.items[0].body_bytes, sizeof(body));
    assert_int_equal(EVP_Digest(body, sizeof(body), digest, NULL, EVP_sha256(), NULL), 1);
    for (size_t i = 0; i < 32; i++)
        (void)sprintf(hex + 2 * i, "%02x", digest[i]);
    assert_string_equal(items.items[0].sha256, hex);
    (void)close(fd);
    release_items(&items);
    process_release(&p);
}

static void test_only_the_configured_routes_are_on_record(void **state)
{
    struct process p;
    static struct items items;
    const struct request requests[] = {{"GET", "/orders/1?ms=60000", "", "", 0},
                                       {"POST", "/other?ms=60000", "", "", 0},
                                       {"POST", "/orders/2?ms=60000", "", "", 0},
                                       {"POST", "/x/pay?ms=60000", "", "", 0}};
    int fds[4];

    (void)state;
    start(&p, ", methods: [POST], paths: [/orders, '*/pay'], sync: msync");
    for (size_t i = 0; i < 4; i++)
        fds[i] = send_request(&p, &requests[i]);
    wait_on_record(requests[2].path);
    wait_on_record(requests[3].path);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    read_archive(&items);
    assert_int_equal(items.count, 2);
    (void)item_of(&items, "/orders/2?ms=60000");
    (void)item_of(&items, "/x/pay?ms=60000");
    for (size_t i = 0; i < 4; i++)
        (void)close(fds[i]);
    release_items(&items);
    process_release(&p);
}

#define STREAMS 5

/* Killed once all streams are on record, and their bodies, which follow the paths. */
static bool kill_when_recorded(void *arg)
{
    struct process *p = arg;

    if (process_is_gone(p))
        return true;
    if (count_on_record("/h2?ms=60000") == STREAMS)
        process_signal(p, SIGKILL);
    return false;
}

static void test_streams_are_archived_like_requests(void **state)
{
    struct process p;
    static struct items items;
    struct load_result result;
    size_t queued = 0;

    (void)state;
    start(&p, "");
    struct load_options load = {.address = p.address,
                                .protocol = LOAD_HTTP2,
                                .connections = 1,
                                .streams = STREAMS,
                                .path = "/h2?ms=60000",
                                .body_bytes = 3000,
                                .max_requests = STREAMS,
                                .duration_ms = LIMIT_MS,
                                .server_is_gone = kill_when_recorded,
                                .server_is_gone_arg = &p};
    assert_int_equal(load_run(&load, &result), 0);
    process_expect(&p, LIMIT_MS, 128 + SIGKILL);
    process_release(&p);
    start(&p, "");
    read_archive(&items);
    /* The path of the last one may have been there before the rest of it. */
    assert_in_range(items.count, STREAMS - 1, STREAMS);
    for (size_t i = 0; i < items.count; i++) {
        queued += items.items[i].class == UNFINISHED_CLASS_NEVER_STARTED;
        assert_int_equal(items.items[i].body.len, 3000);
    }
    assert_in_range(queued, 2, STREAMS); /* there are two workers */
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    release_items(&items);
    process_release(&p);
}

#define CUT 3 /* two run, one waits */

static bool term_when_recorded(void *arg)
{
    static pid_t told; /* once is enough: the second signal forces */
    struct process *p = arg;

    if (process_is_gone(p))
        return true;
    if (told != p->pid && count_on_record("/cut?ms=60000") == CUT) {
        told = p->pid;
        process_signal(p, SIGTERM);
    }
    return false;
}

/* A limit of the server's own ends them, and the drain is over before its deadline. */
static void test_streams_that_a_limit_cuts_are_archived(void **state)
{
    struct process p;
    static struct items items;
    struct load_result result;
    const char *const args[] = {"--conf", conf_path, "--deadline", "60s", NULL};

    (void)state;
    write_conf("");
    FILE *file = fopen(conf_path, "a");
    (void)fprintf(file, "http2-graceful-shutdown-timeout: 1\n");
    assert_int_equal(fclose(file), 0);
    process_start_configured(&p, args);
    struct load_options load = {.address = p.address,
                                .protocol = LOAD_HTTP2,
                                .connections = 1,
                                .streams = CUT,
                                .path = "/cut?ms=60000",
                                .body_bytes = 100,
                                .max_requests = CUT,
                                .duration_ms = LIMIT_MS,
                                .server_is_gone = term_when_recorded,
                                .server_is_gone_arg = &p};
    assert_int_equal(load_run(&load, &result), 0);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "3 requests archived to ");
    read_archive(&items);
    assert_int_equal(items.count, CUT);
    assert_int_equal(items.items[0].reason, UNFINISHED_REASON_DEADLINE);
    assert_int_equal(items.items[0].body.len, 100);
    assert_false(has_file("inflight", NULL));
    release_items(&items);
    process_release(&p);
}

static void test_a_clean_exit_leaves_no_record_and_no_archive(void **state)
{
    struct process p;
    const struct request request = {"POST", "/quick?ms=1", "", "x", 1};

    (void)state;
    start(&p, "");
    int fd = send_request(&p, &request);
    char *answer = client_read_answer(fd);
    assert_non_null(answer);
    free(answer);
    (void)close(fd);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_false(has_file("inflight", NULL));
    assert_false(has_file("unfinished", NULL));
    process_release(&p);
}

static void test_two_servers_share_a_folder(void **state)
{
    struct process one, two;
    static struct items items;
    const struct request request = {"POST", "/hang?ms=60000", "", "x", 1};

    (void)state;
    start(&one, "");
    int fd = send_request(&one, &request);
    wait_on_record(request.path);
    start(&two, ""); /* it leaves the record of the living alone */
    read_archive(&items);
    assert_int_equal(items.count, 0);
    process_signal(&one, SIGKILL);
    process_expect(&one, LIMIT_MS, 128 + SIGKILL);
    process_release(&one);
    start(&one, "");
    read_archive(&items);
    assert_int_equal(items.count, 1);
    release_items(&items);
    process_signal(&one, SIGTERM);
    process_signal(&two, SIGTERM);
    process_expect(&one, LIMIT_MS, 0);
    process_expect(&two, LIMIT_MS, 0);
    assert_false(has_file("inflight", NULL));
    (void)close(fd);
    process_release(&one);
    process_release(&two);
}

#define HANGING 20
#define KILLS 30

/* A start that is killed while it moves what another one left, at one instant after the other. */
static void test_killed_while_it_archives_nothing_is_lost_or_doubled(void **state)
{
    static char body[60000];
    static char paths[HANGING][32];
    int fds[HANGING];
    struct process p;
    static struct items items;
    const char *const args[] = {"--conf", conf_path, NULL};

    (void)state;
    fill(body, sizeof(body), 5);
    start(&p, "");
    for (size_t i = 0; i < HANGING; i++) {
        (void)snprintf(paths[i], sizeof(paths[i]), "/%zu?ms=60000", i);
        const struct request request = {"POST", paths[i], "", body, sizeof(body)};
        fds[i] = send_request(&p, &request);
        wait_on_record(paths[i]);
    }
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "draining");
    process_signal(&p, SIGKILL); /* perhaps in the middle of the move at the deadline */
    process_expect(&p, LIMIT_MS, 128 + SIGKILL);
    process_release(&p);
    for (unsigned i = 0; i < KILLS; i++) {
        process_spawn(&p, args);
        (void)usleep(i * 1500); /* not to wait for anything: to be somewhere else each time */
        process_signal(&p, SIGKILL);
        process_expect(&p, LIMIT_MS, 128 + SIGKILL);
        process_release(&p);
    }
    start(&p, "");
    read_archive(&items);
    assert_int_equal(items.count, HANGING);
    for (size_t i = 0; i < HANGING; i++) {
        assert_body(item_of(&items, paths[i]), body, sizeof(body));
        (void)close(fds[i]);
    }
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_false(has_file("inflight", NULL));
    release_items(&items);
    process_release(&p);
}

static void test_foreign_files_are_left_alone_and_named(void **state)
{
    static const char *const names[] = {"inflight.7", "inflight.old", "inflight.8.new"};
    struct process p;
    char path[400];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        FILE *file = fopen(path, "w");
        (void)fprintf(file, "%5000s", "no record");
        (void)fclose(file);
    }
    start(&p, "");
    assert_contains(p.log, "inflight.7 is left alone: it does not begin as an in-flight");
    assert_contains(p.log, "inflight.old is left alone: not the name of a record");
    assert_true(exists("inflight.7"));
    assert_true(exists("inflight.old"));
    assert_false(exists("inflight.8.new")); /* a start that was killed leaves such */
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_a_folder_that_cannot_be_used_is_refused(void **state)
{
    char kept[64];

    (void)state;
    (void)strcpy(kept, dir);
    assert_int_equal(chmod(dir, 0770), 0);
    expect_refused("", 78, "others may write there");
    assert_int_equal(chmod(dir, 0700), 0);
    (void)strcpy(dir, "/nowhere/journal");
    expect_refused("", 78, "No such file or directory (create the folder");
    (void)strcpy(dir, "/dev/null");
    expect_refused("", 78, "not a directory");
    (void)strcpy(dir, "/sys/kernel"); /* root's, and not even root makes a file there */
    expect_refused("", 78, "cannot keep the in-flight record in /sys/kernel: ");
    (void)strcpy(dir, kept);
    if (geteuid() == 0) {
        assert_int_equal(chown(dir, 65534, 65534), 0);
        expect_refused("", 78, "it belongs to user 65534");
        assert_int_equal(chown(dir, 0, 0), 0);
    }
    expect_refused(", paths: [orders]", 78, "journal.paths: orders must begin with a /");
    expect_refused(", max-body: 1TB", 78, "want a size");
    expect_refused(", sync: often", 78, "want none or msync");
}

static void mount_small(const char *size)
{
    char options[64];
    (void)snprintf(options, sizeof(options), "mode=0700,size=%s", size);
    mounted = mount("tmpfs", dir, "tmpfs", 0, options) == 0;
    if (!mounted)
        skip_test("needs the right to mount a file system");
}

static void test_a_full_disk_is_refused_at_the_start(void **state)
{
    (void)state;
    mount_small("1m");
    expect_refused("", 69, "no room for an in-flight record of 4 MiB");
    assert_false(has_file("inflight", NULL));
}

static void fill_disk(void)
{
    char path[400];
    static const char bytes[4096];
    (void)snprintf(path, sizeof(path), "%s/fill", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, bytes, sizeof(bytes)) > 0)
        ;
    (void)close(fd);
}

static void test_a_disk_that_is_full_at_the_deadline_keeps_the_record(void **state)
{
    struct process p;
    static struct items items;
    const struct request request = {"POST", "/hang?ms=60000", "", "x", 1};
    char path[400];

    (void)state;
    mount_small("5m");
    start(&p, "");
    int fd = send_request(&p, &request);
    wait_on_record(request.path);
    fill_disk();
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3); /* the same as with it */
    assert_contains(p.log, "error: cannot archive 1 request: No space left on device");
    process_release(&p);
    assert_true(has_file("inflight.", NULL));
    read_archive(&items);
    assert_int_equal(items.count, 0);
    (void)snprintf(path, sizeof(path), "%s/fill", dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mount(NULL, dir, NULL, MS_REMOUNT, "size=16m"), 0);
    start(&p, "");
    read_archive(&items);
    assert_int_equal(items.count, 1);
    assert_string_equal(items.items[0].path.base, request.path);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    (void)close(fd);
    release_items(&items);
    process_release(&p);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, clean)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_hangs_at_the_deadline_is_archived_byte_for_byte),
        TEST(test_a_forced_stop_archives_too_and_the_report_says_so),
        TEST(test_secrets_are_neither_on_record_nor_in_the_archive),
        TEST(test_a_body_over_the_limit_is_archived_by_its_digest),
        TEST(test_only_the_configured_routes_are_on_record),
        TEST(test_streams_are_archived_like_requests),
        TEST(test_streams_that_a_limit_cuts_are_archived),
        TEST(test_a_clean_exit_leaves_no_record_and_no_archive),
        TEST(test_two_servers_share_a_folder),
        TEST(test_killed_while_it_archives_nothing_is_lost_or_doubled),
        TEST(test_foreign_files_are_left_alone_and_named),
        TEST(test_a_folder_that_cannot_be_used_is_refused),
        TEST(test_a_full_disk_is_refused_at_the_start),
        TEST(test_a_disk_that_is_full_at_the_deadline_keeps_the_record),
    };

    (void)alarm(600);
    return cmocka_run_group_tests_name("unfinished", tests, NULL, NULL);
}

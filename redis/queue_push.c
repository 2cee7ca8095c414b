#include "queue_push.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "archive_reader.h"
#include "clock.h"
#include "dispositions.h"

#define CALL_NS (2 * NS_PER_S) /* for one batch, connecting included */
#define BATCH 32
#define BATCH_BYTES (4u << 20)
#define SEEN_S "86400"

/* XADD before SET: if Redis is full, the id is not remembered. */
static const char *const push_script =
    "if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end "
    "if ARGV[3] == '0' then "
    "redis.call('XADD', KEYS[1], '*', 'id', ARGV[1], 'request', ARGV[2]) "
    "else redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'id', ARGV[1], 'request', "
    "ARGV[2]) end "
    "redis.call('SET', KEYS[2], '1', 'EX', ARGV[4]) return 1";

static int fail(struct queue_push *push, int err, const char *what, const char *why)
{
    if (push->error[0] == '\0')
        (void)snprintf(push->error, sizeof(push->error), "%s%s%s", what,
                       what[0] != '\0' ? ": " : "", why);
    return err;
}

/* ---- one batch ---- */

struct batch {
    char ids[BATCH][UNFINISHED_ID_SIZE];
    size_t count;
    size_t bytes;
};

static int connect_if_needed(struct queue_push *push, uint64_t until_ns)
{
    char error[REDIS_ERROR_SIZE];

    if (push->redis != NULL)
        return 0;
    int err = redis_open(push->url, push->cancel_fd, until_ns, &push->redis, error);
    return err == 0 ? 0 : fail(push, err, "", error);
}

static int lose(struct queue_push *push, int err)
{
    (void)fail(push, err, "", redis_error(push->redis));
    redis_close(push->redis);
    push->redis = NULL;
    return err;
}

static int send_line(struct queue_push *push, struct batch *batch, const struct archive_item *item)
{
    char seen[600], maxlen[24];
    const char *argv[] = {"EVAL",           push_script, "2",    push->stream, seen,
                          item->request.id, item->line,  maxlen, SEEN_S};
    size_t lengths[sizeof(argv) / sizeof(argv[0])];

    (void)snprintf(seen, sizeof(seen), "%s:seen:%s", push->stream, item->request.id);
    (void)snprintf(maxlen, sizeof(maxlen), "%llu", (unsigned long long)push->maxlen);
    for (size_t i = 0; i < sizeof(argv) / sizeof(argv[0]); i++)
        lengths[i] = argv[i] == item->line ? item->len : strlen(argv[i]);
    int err = redis_send(push->redis, sizeof(argv) / sizeof(argv[0]), argv, lengths);
    if (err != 0)
        return lose(push, err);
    memcpy(batch->ids[batch->count++], item->request.id, UNFINISHED_ID_SIZE);
    batch->bytes += item->len;
    return 0;
}

/* Add dispositions for the requests that Redis has confirmed. Returns the first failure after all
 * answers. */
static int finish_batch(struct queue_push *push, struct batch *batch,
                        struct dispositions *dispositions, uint64_t until_ns)
{
    int err = 0;

    for (size_t i = 0; i < batch->count; i++) {
        struct disposition disposition = {
            .outcome = DISPOSITION_QUEUED, .at_ms = clock_wall_ms(), .answer = push->stream};
        struct redis_reply *reply = NULL;
        int failed = redis_take(push->redis, until_ns, &reply);
        redis_reply_free(reply);
        if (failed != 0 && failed != -EREMOTEIO) {
            err = lose(push, failed);
            break;
        }
        if (failed != 0) {
            err = fail(push, failed, "", redis_error(push->redis));
            continue;
        }
        memcpy(disposition.id, batch->ids[i], sizeof(disposition.id));
        failed = dispositions_add(dispositions, &disposition);
        push->pushed += failed == 0;
        if (failed != 0)
            err = fail(push, failed, "dispositions", strerrordesc_np(-failed));
    }
    batch->count = batch->bytes = 0;
    int unwritten = dispositions_flush(dispositions);
    if (unwritten != 0)
        err = fail(push, unwritten, "cannot write the dispositions", strerrordesc_np(-unwritten));
    return err;
}

/* ---- one file ---- */

static int read_failed(struct queue_push *push, const char *path, int err)
{
    return fail(push, err, path, strerrordesc_np(-err));
}

static bool is_open(const struct dispositions *dispositions, const struct archive_item *item)
{
    return item->why[0] == '\0' && dispositions_find(dispositions, item->request.id) == NULL;
}

static int push_lines(struct queue_push *push, const char *path, struct archive_reader *reader,
                      struct dispositions *dispositions)
{
    struct batch batch = {.count = 0};
    struct archive_item item;
    uint64_t until_ns = 0;
    int err = 0, found;

    while (err == 0 && (found = archive_reader_next(reader, &item)) != 0) {
        if (found < 0)
            return read_failed(push, path, found);
        if (!is_open(dispositions, &item))
            continue;
        if (batch.count == 0)
            until_ns = clock_now_ns() + CALL_NS;
        err = connect_if_needed(push, until_ns);
        if (err == 0)
            err = send_line(push, &batch, &item);
        if (err == 0 && (batch.count == BATCH || batch.bytes > BATCH_BYTES))
            err = finish_batch(push, &batch, dispositions, until_ns);
    }
    return err == 0 && batch.count > 0 ? finish_batch(push, &batch, dispositions, until_ns) : err;
}

/* Without the lock, so that a file with nothing to do gets no lock file beside it. */
static int has_open(struct queue_push *push, const char *path, bool *ret_has)
{
    struct archive_reader *reader = NULL;
    struct archive_item item;
    struct dispositions *dispositions = NULL;
    char error[DISPOSITIONS_ERROR_SIZE];
    int found;

    *ret_has = false;
    int err = dispositions_open(path, false, &dispositions, error);
    if (err != 0)
        return fail(push, err, "", error);
    err = archive_reader_open(path, &reader);
    while (err == 0 && !*ret_has && (found = archive_reader_next(reader, &item)) != 0) {
        err = found < 0 ? found : 0;
        *ret_has = found > 0 && is_open(dispositions, &item);
    }
    archive_reader_close(reader);
    dispositions_close(dispositions);
    return err == 0 || err == -ENOENT ? 0 : read_failed(push, path, err);
}

static int push_file(struct queue_push *push, const char *path)
{
    struct archive_reader *reader = NULL;
    struct dispositions *dispositions = NULL;
    char error[DISPOSITIONS_ERROR_SIZE];
    bool has = false;

    int err = has_open(push, path, &has);
    if (err != 0 || !has)
        return err;
    err = dispositions_open(path, true, &dispositions, error);
    if (err != 0)
        return fail(push, err, "", error);
    err = archive_reader_open(path, &reader);
    if (err == 0)
        err = push_lines(push, path, reader, dispositions);
    else
        err = read_failed(push, path, err);
    archive_reader_close(reader);
    dispositions_close(dispositions);
    return err;
}

/* ---- all of them ---- */

static int is_day_file(const struct dirent *entry)
{
    return archive_is_day_file(entry->d_name);
}

int queue_push(struct queue_push *push)
{
    struct dirent **entries;
    int n = scandir(push->dir, &entries, is_day_file, alphasort), err = 0;

    push->pushed = 0;
    push->error[0] = '\0';
    if (n < 0)
        return read_failed(push, push->dir, -errno);
    for (int i = 0; i < n; i++) {
        char *path = NULL;
        /* A busy file does not delay the others; an unreachable Redis does. */
        if ((err == 0 || err == -EBUSY) &&
            asprintf(&path, "%s/%s", push->dir, entries[i]->d_name) >= 0) {
            int failed = push_file(push, path);
            err = failed != 0 ? failed : err;
            free(path);
        }
        free(entries[i]);
    }
    free(entries);
    return err;
}

/* FNV-1a over the names, sizes and times of the files. */
static uint64_t mix(uint64_t hash, const void *bytes, size_t n)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ at[i]) * UINT64_C(1099511628211);
    return hash;
}

uint64_t queue_fingerprint(const char *dir)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    struct dirent **entries;
    int n = scandir(dir, &entries, is_day_file, alphasort);

    for (int i = 0; i < n; i++) {
        struct stat st;
        char *path = NULL;
        if (asprintf(&path, "%s/%s", dir, entries[i]->d_name) >= 0) {
            if (stat(path, &st) == 0) {
                hash = mix(hash, entries[i]->d_name, strlen(entries[i]->d_name));
                hash = mix(hash, &st.st_size, sizeof(st.st_size));
                hash = mix(hash, &st.st_mtim, sizeof(st.st_mtim));
            }
            free(path);
        }
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return hash;
}

#include "unfinished_walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "archive_reader.h"
#include "clock.h"
#include "file.h"
#include "leftovers.h"
#include "redis.h"
#include "replay_exit.h"

#define CALL_NS (10 * NS_PER_S)

static int fail(int status, const char *place, const char *why)
{
    (void)fprintf(stderr, "lastcall unfinished: cannot read %s: %s\n", place, why);
    return status;
}

/* ---- files ---- */

/* Open the dispositions of the file that `line` is in, if it is a new file. */
static int follow_file(const struct archive_item *line, char **file,
                       struct dispositions **dispositions)
{
    char error[DISPOSITIONS_ERROR_SIZE];

    if (*file != NULL && strcmp(*file, line->path) == 0)
        return 0;
    free(*file);
    dispositions_close(*dispositions);
    *dispositions = NULL;
    *file = strdup(line->path);
    if (*file == NULL)
        return fail(REPLAY_EXIT_NOINPUT, line->path, "out of memory");
    if (dispositions_open(*file, false, dispositions, error) == 0)
        return 0;
    (void)fprintf(stderr, "lastcall unfinished: %s\n", error);
    return REPLAY_EXIT_NOINPUT;
}

static int walk_archive(const char *path, unfinished_visit *visit, void *arg, size_t *ret_garbage)
{
    struct archive_reader *reader;
    struct archive_item line;
    struct dispositions *dispositions = NULL;
    char *file = NULL;
    int status = 0, found = archive_reader_open(path, &reader);

    if (found != 0)
        return fail(REPLAY_EXIT_NOINPUT, path, strerrordesc_np(-found));
    while (status == 0 && (found = archive_reader_next(reader, &line)) > 0) {
        if (line.why[0] != '\0') {
            (void)fprintf(stderr, "%s: byte %llu: not a request: %s\n", line.path,
                          (unsigned long long)line.offset, line.why);
            (*ret_garbage)++;
            continue;
        }
        status = follow_file(&line, &file, &dispositions);
        if (status == 0) {
            const struct unfinished_entry entry = {
                .request = &line.request,
                .disposition = dispositions_find(dispositions, line.request.id),
                .line = line.line,
                .len = line.len,
                .place = line.path};
            visit(arg, &entry);
        }
    }
    if (status == 0 && found < 0)
        status = fail(REPLAY_EXIT_NOINPUT, path, strerrordesc_np(-found));
    archive_reader_close(reader);
    dispositions_close(dispositions);
    free(file);
    return status;
}

/* ---- records of processes that have ended ---- */

/* A request may be in the archive and still in a record (leftovers.h): the archive counts. */
struct both {
    struct leftovers leftovers;
    unfinished_visit *visit;
    void *arg;
};

static void visit_archived(void *arg, const struct unfinished_entry *entry)
{
    struct both *both = arg;

    for (size_t i = 0; i < both->leftovers.count; i++) {
        struct leftover *leftover = &both->leftovers.items[i];
        if (strcmp(leftover->request.id, entry->request->id) == 0)
            leftover->pid = 0;
    }
    both->visit(both->arg, entry);
}

static int visit_leftovers(const struct both *both)
{
    for (size_t i = 0; i < both->leftovers.count; i++) {
        const struct leftover *leftover = &both->leftovers.items[i];
        if (leftover->pid == 0)
            continue;
        char *line = unfinished_line(&leftover->request);
        if (line == NULL)
            return fail(REPLAY_EXIT_NOINPUT, leftover->place, "out of memory");
        const struct unfinished_entry entry = {.request = &leftover->request,
                                               .line = line,
                                               .len = strlen(line),
                                               .place = leftover->place,
                                               .pid = leftover->pid};
        both->visit(both->arg, &entry);
        free(line);
    }
    return 0;
}

static void report_garbage(void *arg, const char *place, uint64_t offset, const char *why)
{
    size_t *garbage = arg;

    (void)fprintf(stderr, "%s: byte %llu: not a request: %s\n", place, (unsigned long long)offset,
                  why);
    (*garbage)++;
}

int unfinished_walk_path(const char *path, unfinished_visit *visit, void *arg, size_t *ret_garbage)
{
    struct both both = {.visit = visit, .arg = arg};
    struct stat st;

    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return walk_archive(path, visit, arg, ret_garbage);
    int err = leftovers_read(path, report_garbage, ret_garbage, &both.leftovers);
    int status = err != 0 ? fail(REPLAY_EXIT_NOINPUT, path, file_error_text(err))
                          : walk_archive(path, visit_archived, &both, ret_garbage);
    if (status == 0)
        status = visit_leftovers(&both);
    leftovers_release(&both.leftovers);
    return status;
}

/* ---- streams ---- */

static const char *field(const struct redis_reply *fields, const char *name, size_t *ret_length)
{
    for (size_t i = 0; i + 1 < redis_reply_count(fields); i += 2) {
        const char *key = redis_reply_text(redis_reply_at(fields, i), NULL);
        if (key != NULL && strcmp(key, name) == 0)
            return redis_reply_text(redis_reply_at(fields, i + 1), ret_length);
    }
    return NULL;
}

static void visit_entry(const char *stream, const char *id, const struct redis_reply *fields,
                        unfinished_visit *visit, void *arg, size_t *ret_garbage)
{
    struct unfinished request = {.id = ""};
    char why[UNFINISHED_WHY_SIZE] = "it has no field `request`";
    size_t length = 0;
    const char *line = field(fields, "request", &length), *status = field(fields, "status", NULL);
    struct disposition disposition = {.outcome = DISPOSITION_PARKED,
                                      .answer = field(fields, "answer", NULL)};

    if (line == NULL || unfinished_parse(line, length, &request, why) != 0) {
        (void)fprintf(stderr, "stream %s: entry %s: not a request: %s\n", stream, id, why);
        (*ret_garbage)++;
        return;
    }
    disposition.status = status != NULL ? (int)strtol(status, NULL, 10) : 0;
    const struct unfinished_entry entry = {
        .request = &request,
        .disposition = field(fields, "outcome", NULL) != NULL ? &disposition : NULL,
        .line = line,
        .len = length,
        .place = stream};
    visit(arg, &entry);
    unfinished_release(&request);
}

static int walk_stream(struct redis *redis, const char *stream, unfinished_visit *visit, void *arg,
                       size_t *ret_garbage)
{
    char from[64] = "-";

    for (;;) {
        const char *argv[] = {"XRANGE", stream, from, "+", "COUNT", "32"};
        struct redis_reply *reply = NULL;
        if (redis_call(redis, clock_now_ns() + CALL_NS, 6, argv, NULL, &reply) != 0)
            return fail(REPLAY_EXIT_AWAY, stream, redis_error(redis));
        size_t count = redis_reply_count(reply);
        for (size_t i = 0; i < count; i++) {
            const struct redis_reply *entry = redis_reply_at(reply, i);
            const char *id = redis_reply_text(redis_reply_at(entry, 0), NULL);
            visit_entry(stream, id != NULL ? id : "?", redis_reply_at(entry, 1), visit, arg,
                        ret_garbage);
            (void)snprintf(from, sizeof(from), "(%s", id != NULL ? id : "");
        }
        redis_reply_free(reply);
        if (count == 0)
            return 0;
    }
}

int unfinished_walk_redis(const struct redis_url *url, unfinished_visit *visit, void *arg,
                          size_t *ret_garbage)
{
    char error[REDIS_ERROR_SIZE], place[REDIS_URL_SIZE], parked[512];
    struct redis *redis;

    if (redis_open(url, -1, clock_now_ns() + CALL_NS, &redis, error) != 0)
        return fail(REPLAY_EXIT_AWAY, redis_url_text(url, place), error);
    (void)snprintf(parked, sizeof(parked), "%s:parked", url->stream);
    int status = walk_stream(redis, url->stream, visit, arg, ret_garbage);
    if (status == 0)
        status = walk_stream(redis, parked, visit, arg, ret_garbage);
    redis_close(redis);
    return status;
}

#include "unfinished_walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive_reader.h"
#include "clock.h"
#include "redis.h"
#include "replay_p.h"

#define CALL_NS (10 * NS_PER_S)

static int fail(int status, const char *place, const char *why)
{
    (void)fprintf(stderr, "lastcall unfinished: cannot read %s: %s\n", place, why);
    return status;
}

/* ---- files ---- */

/* The marks of the file that `line` is in, which are read when the file begins. */
static int follow_file(const struct archive_item *line, char **file, struct marks **marks)
{
    char error[MARKS_ERROR_SIZE];

    if (*file != NULL && strcmp(*file, line->path) == 0)
        return 0;
    free(*file);
    marks_close(*marks);
    *marks = NULL;
    *file = strdup(line->path);
    if (*file == NULL)
        return fail(REPLAY_EXIT_NOINPUT, line->path, "no memory");
    if (marks_open(*file, false, marks, error) == 0)
        return 0;
    (void)fprintf(stderr, "lastcall unfinished: %s\n", error);
    return REPLAY_EXIT_NOINPUT;
}

int unfinished_walk_path(const char *path, unfinished_visit *visit, void *arg, size_t *ret_garbage)
{
    struct archive_reader *reader;
    struct archive_item line;
    struct marks *marks = NULL;
    char *file = NULL;
    int status = 0, found = archive_reader_open(path, &reader);

    if (found != 0)
        return fail(REPLAY_EXIT_NOINPUT, path, strerrordesc_np(-found));
    while (status == 0 && (found = archive_reader_next(reader, &line)) > 0) {
        if (line.why[0] != '\0') {
            (void)fprintf(stderr, "%s: byte %llu: no request: %s\n", line.path,
                          (unsigned long long)line.offset, line.why);
            (*ret_garbage)++;
            continue;
        }
        status = follow_file(&line, &file, &marks);
        if (status == 0) {
            const struct unfinished_entry entry = {.request = &line.request,
                                                   .mark = marks_find(marks, line.request.id),
                                                   .line = line.line,
                                                   .len = line.len,
                                                   .place = line.path};
            visit(arg, &entry);
        }
    }
    if (status == 0 && found < 0)
        status = fail(REPLAY_EXIT_NOINPUT, path, strerrordesc_np(-found));
    archive_reader_close(reader);
    marks_close(marks);
    free(file);
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
    struct mark mark = {.outcome = MARK_PARKED, .answer = field(fields, "answer", NULL)};

    if (line == NULL || unfinished_parse(line, length, &request, why) != 0) {
        (void)fprintf(stderr, "stream %s: entry %s: no request: %s\n", stream, id, why);
        (*ret_garbage)++;
        return;
    }
    mark.status = status != NULL ? (int)strtol(status, NULL, 10) : 0;
    const struct unfinished_entry entry = {.request = &request,
                                           .mark = field(fields, "outcome", NULL) != NULL ? &mark
                                                                                          : NULL,
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

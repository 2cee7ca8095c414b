#include "replay_stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A stream is shared by any number of replayers through the consumer group `lastcall`. An entry
 * that was handed to one of them is its own until it is acknowledged, or has not been touched for
 * --claim-after: then its replayer is taken for dead and XAUTOCLAIM hands it on. What is settled is
 * acknowledged and deleted, what is parked moves to the stream NAME:parked, so the stream holds
 * what is still open.
 *
 * Each decision is one script, which looks whether the entry is still pending: of two who think
 * they have it, one decides. What is there when the run begins is what it deals with. */

#define PAGE "32" /* entries a call, where none is taken */
#define TAKE "4"  /* and where they are: what is taken and not sent yet is nobody else's */

enum stage { STAGE_CLAIM, STAGE_NEW, STAGE_END };

struct redis_source {
    struct replay_source source;
    struct replay_stream stream;
    char claim_after_ms[24];
    char last[REPLAY_ENTRY_SIZE]; /* the newest entry when the run began */
    enum stage stage;
    char cursor[48];           /* of XAUTOCLAIM, or of the range that a dry run walks */
    struct redis_reply *reply; /* that entries are taken from */
    const struct redis_reply *entries;
    size_t at;
};

static struct redis_source *self(struct replay_source *source)
{
    return (struct redis_source *)(void *)source;
}

/* ---- decisions ---- */

static int decide(struct replay_source *source, struct replay_item *item, const struct mark *mark)
{
    struct redis_source *r = self(source);

    if (mark->outcome == MARK_FAILED)
        return 1; /* it stays ours, and pending */
    if (mark->outcome == MARK_SETTLED)
        return replay_stream_settle(&r->stream, item->entry);
    char *line = unfinished_line(&item->request);
    if (line == NULL)
        return replay_stream_fail(&r->stream, "no memory");
    int done = replay_stream_park(&r->stream, item->entry, item->request.id, line, strlen(line),
                                  mark->status, mark->answer != NULL ? mark->answer : "");
    free(line);
    return done;
}

static int begin(struct replay_source *source, struct replay_item *item)
{
    struct redis_source *r = self(source);
    int n = replay_stream_begin(&r->stream, item->entry);

    if (n <= 0)
        return n;
    item->attempt = (unsigned)n;
    return 1;
}

static int flush(struct replay_source *source)
{
    (void)source; /* each decision was made when its script had run */
    return 0;
}

static void give_back(struct replay_source *source, struct replay_item *item)
{
    (void)replay_stream_release(&self(source)->stream,
                                item->entry); /* if not, it is claimed some time later */
}

/* ---- entries ---- */

static const char *field(const struct redis_reply *entry, const char *name, size_t *ret_length)
{
    const struct redis_reply *fields = redis_reply_at(entry, 1);

    for (size_t i = 0; i + 1 < redis_reply_count(fields); i += 2) {
        const char *key = redis_reply_text(redis_reply_at(fields, i), NULL);
        if (key != NULL && strcmp(key, name) == 0)
            return redis_reply_text(redis_reply_at(fields, i + 1), ret_length);
    }
    return NULL;
}

/* 0 and *ret_request; -EBADMSG and why it is none; -ENOMEM. */
static int parse_entry(const struct redis_reply *entry, struct unfinished *ret_request, char *why)
{
    size_t length = 0;
    const char *line = field(entry, "request", &length);

    if (line == NULL) {
        (void)snprintf(why, UNFINISHED_WHY_SIZE, "it has no field `request`");
        return -EBADMSG;
    }
    return unfinished_parse(line, length, ret_request, why);
}

/* The ids of a stream are `MILLISECONDS-NUMBER`. */
static bool is_beyond(const char *entry, const char *last)
{
    unsigned long long ms[2] = {0}, number[2] = {0};

    (void)sscanf(entry, "%llu-%llu", &ms[0], &number[0]);
    (void)sscanf(last, "%llu-%llu", &ms[1], &number[1]);
    return ms[0] > ms[1] || (ms[0] == ms[1] && number[0] > number[1]);
}

static void take_page(struct redis_source *r, struct redis_reply *reply,
                      const struct redis_reply *entries)
{
    redis_reply_free(r->reply);
    r->reply = reply;
    r->entries = entries;
    r->at = 0;
}

static int claim_page(struct redis_source *r)
{
    struct redis_reply *reply = NULL;
    int err = ASK(&r->stream, &reply, "XAUTOCLAIM", r->stream.url->stream, REPLAY_GROUP,
                  r->stream.consumer, r->claim_after_ms, r->cursor, "COUNT", TAKE);

    if (err != 0)
        return err;
    const char *cursor = redis_reply_text(redis_reply_at(reply, 0), NULL);
    (void)snprintf(r->cursor, sizeof(r->cursor), "%s", cursor != NULL ? cursor : "0-0");
    if (strcmp(r->cursor, "0-0") == 0)
        r->stage = STAGE_NEW;
    take_page(r, reply, redis_reply_at(reply, 1));
    return 0;
}

static int new_page(struct redis_source *r)
{
    struct redis_reply *reply = NULL;
    int err = ASK(&r->stream, &reply, "XREADGROUP", "GROUP", REPLAY_GROUP, r->stream.consumer,
                  "COUNT", TAKE, "STREAMS", r->stream.url->stream, ">");

    if (err != 0)
        return err;
    const struct redis_reply *entries = redis_reply_at(redis_reply_at(reply, 0), 1);
    if (redis_reply_count(entries) == 0)
        r->stage = STAGE_END;
    take_page(r, reply, entries);
    return 0;
}

/* Without taking it out of the stream, for a survey. */
static int range_page(struct redis_source *r)
{
    struct redis_reply *reply = NULL;
    char from[64];

    (void)snprintf(from, sizeof(from), "%s%s", r->cursor[0] != '\0' ? "(" : "-", r->cursor);
    int err = ASK(&r->stream, &reply, "XRANGE", r->stream.url->stream, from, "+", "COUNT", PAGE);
    if (err == 0)
        take_page(r, reply, reply);
    return err;
}

static int take_entry(struct redis_source *r, int (*page)(struct redis_source *),
                      const struct redis_reply **ret_entry)
{
    const struct redis_reply *entry = redis_reply_at(r->entries, r->at);

    if (entry == NULL) {
        int err = page(r);
        entry = err == 0 ? redis_reply_at(r->entries, r->at) : NULL;
        if (entry == NULL)
            return err;
    }
    r->at++;
    *ret_entry = entry;
    return 1;
}

static int next_in_range(struct redis_source *r, const struct redis_reply **ret_entry,
                         const char **ret_id)
{
    int found = take_entry(r, range_page, ret_entry);

    if (found <= 0)
        return found;
    *ret_id = redis_reply_text(redis_reply_at(*ret_entry, 0), NULL);
    if (*ret_id == NULL || is_beyond(*ret_id, r->last))
        return 0;
    (void)snprintf(r->cursor, sizeof(r->cursor), "%s", *ret_id);
    return 1;
}

static void start_over(struct redis_source *r, const char *cursor)
{
    take_page(r, NULL, NULL);
    (void)snprintf(r->cursor, sizeof(r->cursor), "%s", cursor);
}

static int survey(struct replay_source *source, size_t *ret_count)
{
    struct redis_source *r = self(source);
    const struct redis_reply *entry;
    const char *id;
    int found;

    *ret_count = 0;
    start_over(r, "");
    while ((found = next_in_range(r, &entry, &id)) > 0) {
        struct unfinished request;
        char why[UNFINISHED_WHY_SIZE];
        int err = parse_entry(entry, &request, why);
        if (err == -ENOMEM)
            return replay_stream_fail(&r->stream, "no memory");
        if (err != 0) {
            (void)fprintf(stderr, "stream %s: entry %s: no request: %s\n", r->stream.url->stream,
                          id, why);
            source->garbage++;
            continue;
        }
        enum replay_verdict verdict =
            replay_judge_request(source->filter, &request, NULL, marks_now_ms());
        source->left_alone[verdict]++;
        *ret_count += verdict == REPLAY_SEND;
        unfinished_release(&request);
    }
    start_over(r, source->dry_run ? "" : "0-0");
    return found;
}

/* ---- one by one ---- */

/* 1 and *ret_item; 0: nothing to send in this one. */
static int make_item(struct redis_source *r, const struct redis_reply *entry, const char *id,
                     struct replay_item **ret_item)
{
    struct replay_source *source = &r->source;
    struct replay_item *item = calloc(1, sizeof(*item));
    char why[UNFINISHED_WHY_SIZE] = "no memory";
    int err = item != NULL ? parse_entry(entry, &item->request, why) : -ENOMEM;
    const char *unfit = err == -EBADMSG ? why : NULL;

    if (err == -ENOMEM) {
        free(item);
        return replay_stream_fail(&r->stream, "no memory");
    }
    enum replay_verdict verdict = REPLAY_SEND;
    if (unfit == NULL)
        verdict = replay_judge_request(source->filter, &item->request, NULL, marks_now_ms());
    if (unfit == NULL && verdict == REPLAY_SEND && !source->dry_run)
        unfit = replay_cannot_send(&item->request);
    if (unfit == NULL && verdict == REPLAY_SEND) {
        (void)snprintf(item->entry, sizeof(item->entry), "%s", id);
        *ret_item = item;
        return 1;
    }
    if (source->dry_run) {
        err = 0;
    } else if (unfit != NULL) {
        size_t length = 0;
        const char *line = field(entry, "request", &length), *name = field(entry, "id", NULL);
        err = replay_stream_park(&r->stream, id, name != NULL ? name : "", line != NULL ? line : "",
                                 length, 0, unfit);
        source->parked += err > 0;
    } else {
        err = replay_stream_release(&r->stream, id);
    }
    replay_item_free(item);
    return err < 0 ? err : 0;
}

static int next_entry(struct redis_source *r, const struct redis_reply **ret_entry,
                      const char **ret_id)
{
    if (r->source.dry_run)
        return next_in_range(r, ret_entry, ret_id);
    while (r->stage != STAGE_END || redis_reply_at(r->entries, r->at) != NULL) {
        int found = take_entry(r, r->stage == STAGE_CLAIM ? claim_page : new_page, ret_entry);
        if (found < 0)
            return found;
        *ret_id = found > 0 ? redis_reply_text(redis_reply_at(*ret_entry, 0), NULL) : NULL;
        if (*ret_id == NULL) /* an empty page, or a nil: deleted while it was pending */
            continue;
        if (!is_beyond(*ret_id, r->last))
            return 1;
        int err = replay_stream_release(&r->stream, *ret_id); /* of the next run */
        if (err < 0)
            return err;
        r->stage = STAGE_END;
    }
    return 0;
}

static int next(struct replay_source *source, struct replay_item **ret_item)
{
    struct redis_source *r = self(source);
    const struct redis_reply *entry;
    const char *id;

    for (;;) {
        int found = next_entry(r, &entry, &id);
        if (found <= 0)
            return found;
        found = make_item(r, entry, id, ret_item);
        if (found != 0)
            return found;
    }
}

static size_t elsewhere(struct replay_source *source)
{
    return source->dry_run ? 0 : replay_stream_elsewhere(&self(source)->stream);
}

/* What was taken and, since the run was cut short, is not going to be sent. */
static void release_rest(struct redis_source *r)
{
    const struct redis_reply *entry;

    while (r->stream.redis != NULL && (entry = redis_reply_at(r->entries, r->at++)) != NULL) {
        const char *id = redis_reply_text(redis_reply_at(entry, 0), NULL);
        if (id != NULL)
            (void)replay_stream_release(&r->stream, id);
    }
}

static void close_source(struct replay_source *source)
{
    struct redis_source *r = self(source);

    if (!source->dry_run)
        release_rest(r);
    if (!source->dry_run && r->last[0] != '\0')
        replay_stream_tidy(&r->stream);
    redis_reply_free(r->reply);
    redis_close(r->stream.redis);
    free(r);
}

static const struct replay_source_ops ops = {survey, next,      begin,     decide,
                                             flush,  give_back, elsewhere, close_source};

/* ---- opening ---- */

bool replay_is_redis(const char *from)
{
    return strncmp(from, "redis:", 6) == 0 || strncmp(from, "rediss:", 7) == 0 ||
           strncmp(from, "unix:", 5) == 0;
}

int replay_redis_open(const struct redis_url *url, const struct replay_filter *filter, bool dry_run,
                      uint64_t claim_after_ns, struct replay_source **ret_source, char *error)
{
    struct redis_source *r = calloc(1, sizeof(*r));

    if (r == NULL)
        return REPLAY_EXIT_AWAY;
    r->source.ops = &ops;
    r->source.unit = "request";
    r->source.filter = filter;
    r->source.dry_run = dry_run;
    replay_stream_init(&r->stream, url, r->source.error);
    (void)snprintf(r->claim_after_ms, sizeof(r->claim_after_ms), "%llu",
                   (unsigned long long)(claim_after_ns / NS_PER_MS));
    int err = replay_stream_find_last(&r->stream, r->last);
    if (err == 0 && r->last[0] == '\0')
        r->stage = STAGE_END;
    else if (err == 0 && !dry_run)
        err = replay_stream_make_group(&r->stream);
    if (err != 0) {
        (void)snprintf(error, REPLAY_ERROR_SIZE, "%s", r->source.error);
        r->last[0] = '\0'; /* there is nothing to tidy up */
        close_source(&r->source);
        return REPLAY_EXIT_AWAY;
    }
    *ret_source = &r->source;
    return 0;
}

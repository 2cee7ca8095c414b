#include "replay_redis.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "replay_exit.h"
#include "replay_stream.h"

/* Any number of replayers share a stream through the consumer group `lastcall`. Redis gives each
 * entry to one of them. If a replayer has not touched an entry for --claim-after, it counts as dead
 * and XAUTOCLAIM gives the entry to another. A settled entry is acknowledged and deleted, a parked
 * one moves to the stream NAME:parked, so the stream holds the open requests.
 *
 * A run handles the entries that were in the stream when it began.
 *
 * Lost replies. Redis may hand out entries, and the connection may be lost before their reply is
 * here. They are pending for this consumer then, and only --claim-after brings them back. So after
 * a call that may have lost a reply, its page is dropped, and the consumer's own history is read:
 * XREADGROUP with an id returns what is pending for this consumer with greater ids. That id is
 * `received`, the last one that has arrived. Redis hands out ids in increasing order, first those
 * that are claimed, then the new ones. So entries that are in flight, wait for another try or were
 * given back have no greater id and are not read twice. Greater ids are the lost entries, and those
 * of the dropped page. The stage goes on once the history is empty.
 *
 * A Redis that has restarted with older data hands out entries again. Such a page does not begin
 * beyond `received`, and it is kept: where Redis has forgotten a hand-out, it has forgotten every
 * later one, too, so none was lost. */

#define PAGE "32" /* entries that one XRANGE reads */
#define TAKE "4"  /* entries that one call takes; few, because other replayers cannot have them */

enum stage { STAGE_CLAIM, STAGE_NEW, STAGE_END };

struct redis_source {
    struct replay_source source;
    struct replay_stream stream;
    char claim_after_ms[24];
    char last[REPLAY_ENTRY_SIZE];     /* the newest entry when the run began */
    char received[REPLAY_ENTRY_SIZE]; /* the last one that has arrived */
    bool missed;                      /* some beyond it may be ours; see the note on lost replies */
    enum stage stage;
    char cursor[48];           /* of XAUTOCLAIM or XRANGE */
    struct redis_reply *reply; /* owns `entries` */
    const struct redis_reply *entries;
    size_t at;
};

static struct redis_source *self(struct replay_source *source)
{
    return (struct redis_source *)(void *)source;
}

/* ---- outcomes ---- */

static int decide(struct replay_source *source, struct replay_item *item,
                  const struct disposition *disposition)
{
    struct redis_source *r = self(source);

    if (disposition->outcome == DISPOSITION_FAILED)
        return 1; /* the entry stays pending, and ours */
    if (disposition->outcome == DISPOSITION_SETTLED)
        return replay_stream_settle(&r->stream, item->entry);
    char *line = unfinished_line(&item->request);
    if (line == NULL)
        return replay_stream_fail(&r->stream, "out of memory");
    int done = replay_stream_park(&r->stream, item->entry, item->request.id, line, strlen(line),
                                  disposition->status,
                                  disposition->answer != NULL ? disposition->answer : "");
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
    (void)source; /* each script is durable when it returns */
    return 0;
}

static void give_back(struct replay_source *source, struct replay_item *item)
{
    /* After a failure another replayer claims it later. */
    (void)replay_stream_release(&self(source)->stream, item->entry);
}

/* ---- entries ---- */

/* NULL: a nil, which XAUTOCLAIM of Redis 6.2 returns for a deleted entry. */
static const char *id_of(const struct redis_reply *entry)
{
    return redis_reply_text(redis_reply_at(entry, 0), NULL);
}

/* The history still names those. */
static bool is_deleted(const struct redis_reply *entry)
{
    return redis_reply_is_nil(redis_reply_at(entry, 1));
}

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

/* 0 and *ret_request; -EBADMSG and why; -ENOMEM. */
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

/* Ids have the form `MILLISECONDS-NUMBER`. */
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

/* A page that Redis has just handed out; see the note on lost replies. */
static void take_handed_out(struct redis_source *r, struct redis_reply *reply,
                            const struct redis_reply *entries)
{
    const char *first = id_of(redis_reply_at(entries, 0));

    r->missed = r->stream.lost_reply && (first == NULL || is_beyond(first, r->received));
    if (!r->missed) {
        take_page(r, reply, entries);
        return;
    }
    redis_reply_free(reply);
    take_page(r, NULL, NULL);
}

static int claim_page(struct redis_source *r)
{
    struct redis_reply *reply = NULL;
    int err = REPLAY_ASK(&r->stream, &reply, "XAUTOCLAIM", r->stream.url->stream, REPLAY_GROUP,
                         r->stream.consumer, r->claim_after_ms, r->cursor, "COUNT", TAKE);

    if (err != 0)
        return err;
    const char *cursor = redis_reply_text(redis_reply_at(reply, 0), NULL);
    (void)snprintf(r->cursor, sizeof(r->cursor), "%s", cursor != NULL ? cursor : "0-0");
    if (strcmp(r->cursor, "0-0") == 0)
        r->stage = STAGE_NEW;
    take_handed_out(r, reply, redis_reply_at(reply, 1));
    return 0;
}

/* `from` is ">" for new entries, or an id: then the entries that are ours and beyond it. */
static int read_group(struct redis_source *r, const char *from, struct redis_reply **ret_reply,
                      const struct redis_reply **ret_entries)
{
    int err = REPLAY_ASK(&r->stream, ret_reply, "XREADGROUP", "GROUP", REPLAY_GROUP,
                         r->stream.consumer, "COUNT", TAKE, "STREAMS", r->stream.url->stream, from);

    if (err == 0)
        *ret_entries = redis_reply_at(redis_reply_at(*ret_reply, 0), 1);
    return err;
}

static int new_page(struct redis_source *r)
{
    struct redis_reply *reply = NULL;
    const struct redis_reply *entries;
    int err = read_group(r, ">", &reply, &entries);

    if (err != 0)
        return err;
    if (redis_reply_count(entries) == 0)
        r->stage = STAGE_END;
    take_handed_out(r, reply, entries);
    return 0;
}

/* A page of the history. It changes nothing, so its own reply may be lost. */
static int missed_page(struct redis_source *r)
{
    struct redis_reply *reply = NULL;
    const struct redis_reply *entries;
    int err = read_group(r, r->received, &reply, &entries);

    if (err != 0)
        return err;
    r->missed = redis_reply_count(entries) > 0;
    take_page(r, reply, entries);
    return 0;
}

static int next_page(struct redis_source *r)
{
    if (r->missed)
        return missed_page(r);
    return r->stage == STAGE_CLAIM ? claim_page(r) : new_page(r);
}

/* For a survey or a dry run: reads entries and takes none. */
static int range_page(struct redis_source *r)
{
    struct redis_reply *reply = NULL;
    char from[64];

    (void)snprintf(from, sizeof(from), "%s%s", r->cursor[0] != '\0' ? "(" : "-", r->cursor);
    int err =
        REPLAY_ASK(&r->stream, &reply, "XRANGE", r->stream.url->stream, from, "+", "COUNT", PAGE);
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
            return err < 0 ? err : 0;
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
    *ret_id = id_of(*ret_entry);
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
            return replay_stream_fail(&r->stream, "out of memory");
        if (err != 0) {
            (void)fprintf(stderr, "stream %s: entry %s: not a request: %s\n", r->stream.url->stream,
                          id, why);
            source->garbage++;
            continue;
        }
        enum replay_verdict verdict =
            replay_judge_request(source->filter, &request, NULL, clock_wall_ms());
        source->skipped[verdict]++;
        *ret_count += verdict == REPLAY_SEND;
        unfinished_release(&request);
    }
    start_over(r, source->dry_run ? "" : "0-0");
    return found;
}

/* ---- one by one ---- */

/* 1 and *ret_item; 0: this entry is not to be sent. */
static int make_item(struct redis_source *r, const struct redis_reply *entry, const char *id,
                     struct replay_item **ret_item)
{
    struct replay_source *source = &r->source;
    struct replay_item *item = calloc(1, sizeof(*item));
    char why[UNFINISHED_WHY_SIZE] = "out of memory";
    int err = item != NULL ? parse_entry(entry, &item->request, why) : -ENOMEM;
    const char *unfit = err == -EBADMSG ? why : NULL;

    if (err == -ENOMEM) {
        free(item);
        return replay_stream_fail(&r->stream, "out of memory");
    }
    enum replay_verdict verdict = REPLAY_SEND;
    if (unfit == NULL)
        verdict = replay_judge_request(source->filter, &item->request, NULL, clock_wall_ms());
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

static bool has_more(const struct redis_source *r)
{
    return r->stage != STAGE_END || r->missed || redis_reply_at(r->entries, r->at) != NULL;
}

static int next_entry(struct redis_source *r, const struct redis_reply **ret_entry,
                      const char **ret_id)
{
    if (r->source.dry_run)
        return next_in_range(r, ret_entry, ret_id);
    while (has_more(r)) {
        int found = take_entry(r, next_page, ret_entry);
        if (found < 0)
            return found;
        *ret_id = found > 0 ? id_of(*ret_entry) : NULL;
        if (*ret_id == NULL) /* no entry here, or a nil */
            continue;
        (void)snprintf(r->received, sizeof(r->received), "%s", *ret_id);
        int err = 0;
        if (is_deleted(*ret_entry)) {
            err = replay_stream_settle(&r->stream, *ret_id);
        } else if (is_beyond(*ret_id, r->last)) { /* newer than this run */
            err = replay_stream_release(&r->stream, *ret_id);
            r->stage = STAGE_END;
        } else {
            return 1;
        }
        if (err < 0)
            return err;
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

/* Return the entries that an interrupted run has taken and will not send. */
static void release_rest(struct redis_source *r)
{
    const struct redis_reply *entry;

    while (r->stream.redis != NULL && (r->missed || redis_reply_at(r->entries, r->at) != NULL)) {
        int found = take_entry(r, missed_page, &entry);
        if (found < 0)
            return;
        const char *id = found > 0 ? id_of(entry) : NULL;
        if (id == NULL)
            continue;
        (void)snprintf(r->received, sizeof(r->received), "%s", id);
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
    (void)strcpy(r->received, "0-0");
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
        r->last[0] = '\0'; /* skips replay_stream_tidy() */
        close_source(&r->source);
        return REPLAY_EXIT_AWAY;
    }
    *ret_source = &r->source;
    return 0;
}

#include "replay_p.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "redis.h"

/* A stream is shared by any number of replayers through the consumer group `lastcall`. An entry
 * that was handed to one of them is its own until it is acknowledged, or has not been touched for
 * --claim-after: then its replayer is taken for dead and XAUTOCLAIM hands it on. What is settled is
 * acknowledged and deleted, what is parked moves to the stream NAME:parked, so the stream holds
 * what is still open.
 *
 * Each decision is one script, which looks whether the entry is still pending: of two who think
 * they have it, one decides. What is there when the run begins is what it deals with. */

#define GROUP "lastcall"
#define PAGE "32" /* entries a call, where none is taken */
#define TAKE "4"  /* and where they are: what is taken and not sent yet is nobody else's */
#define CALL_NS (5 * NS_PER_S)
#define PATIENCE_NS (10 * NS_PER_S) /* with a Redis that went away */
#define RETRY_MS 200
#define NAME_SIZE 512
#define RELEASED_IDLE_MS "86400000" /* looks untouched for a day: anyone may claim it */

static const char *const begin_script =
    "local p = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1) "
    "if #p == 0 or p[1][2] ~= ARGV[2] then return 0 end "
    "redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'JUSTID') "
    "local n = redis.pcall('HINCRBY', KEYS[2], ARGV[3], 1) "
    "if type(n) == 'number' then return n end " /* full: it can wait, the request cannot */
    "return (tonumber(redis.call('HGET', KEYS[2], ARGV[3]) or '0') or 0) + 1";
static const char *const settle_script =
    "if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end "
    "redis.call('XDEL', KEYS[1], ARGV[2]) redis.call('HDEL', KEYS[2], ARGV[2]) return 1";
/* It is added first: where there is no room for it, nothing has changed. */
static const char *const park_script =
    "local p = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) "
    "if #p == 0 then return 0 end "
    "redis.call('XADD', KEYS[3], '*', 'id', ARGV[3], 'request', ARGV[4], 'outcome', 'parked', "
    "'status', ARGV[5], 'answer', ARGV[6], 'at', ARGV[7]) "
    "redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) redis.call('XDEL', KEYS[1], ARGV[2]) "
    "redis.call('HDEL', KEYS[2], ARGV[2]) return 1";
static const char *const release_script =
    "local p = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1) "
    "if #p == 0 or p[1][2] ~= ARGV[2] then return 0 end "
    "redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'IDLE', ARGV[4], 'JUSTID') "
    "return 1";
/* Replayers of the past that have nothing left. */
static const char *const tidy_script =
    "for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do "
    "local f = {} for i = 1, #c, 2 do f[c[i]] = c[i + 1] end "
    "if f.pending == 0 and (f.idle > 3600000 or f.name == ARGV[2]) and "
    "string.sub(f.name, 1, 7) == 'replay-' then "
    "redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], f.name) end end return 1";

enum stage { STAGE_CLAIM, STAGE_NEW, STAGE_END };

struct redis_source {
    struct replay_source source;
    const struct redis_url *url;
    struct redis *redis; /* NULL: not connected */
    char attempts[NAME_SIZE], parked[NAME_SIZE];
    char consumer[128];
    char claim_after_ms[24];
    char last[48]; /* the newest entry when the run began */
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

/* ---- asking ---- */

static int fail(struct redis_source *r, const char *why)
{
    char place[REDIS_URL_SIZE];

    (void)snprintf(r->source.error, sizeof(r->source.error), "stream %.200s in %s: %s",
                   r->url->stream, redis_url_text(r->url, place), why);
    return -EIO;
}

static int try_once(struct redis_source *r, size_t argc, const char *const *argv,
                    const size_t *lengths, struct redis_reply **ret_reply, char *error)
{
    uint64_t until_ns = clock_now_ns() + CALL_NS;
    int err = r->redis != NULL ? 0 : redis_open(r->url, -1, until_ns, &r->redis, error);

    if (err != 0)
        return err;
    err = redis_call(r->redis, until_ns, argc, argv, lengths, ret_reply);
    if (err != 0)
        (void)snprintf(error, REDIS_ERROR_SIZE, "%s", redis_error(r->redis));
    if (err != 0 && err != -EREMOTEIO) {
        redis_close(r->redis);
        r->redis = NULL;
    }
    return err;
}

/* A Redis that is away for a moment is waited for; a word of its own, such as that it is full, is
 * an answer. */
static int ask(struct redis_source *r, size_t argc, const char *const *argv, const size_t *lengths,
               struct redis_reply **ret_reply)
{
    char error[REDIS_ERROR_SIZE] = "";
    uint64_t until_ns = clock_now_ns() + PATIENCE_NS;
    int err;

    for (;;) {
        err = try_once(r, argc, argv, lengths, ret_reply, error);
        bool loading = err == -EREMOTEIO && strncmp(error, "LOADING", 7) == 0;
        if (err == 0 || err == -ENOTSUP || (err == -EREMOTEIO && !loading) ||
            clock_now_ns() >= until_ns)
            break;
        (void)poll(NULL, 0, RETRY_MS);
    }
    return err == 0 ? 0 : fail(r, error);
}

#define ASK(r, ret_reply, ...)                                                                     \
    ask(r, sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *),                           \
        (const char *const[]){__VA_ARGS__}, NULL, ret_reply)

/* For commands whose answer is a number. */
static int ask_number(struct redis_source *r, size_t argc, const char *const *argv,
                      const size_t *lengths)
{
    struct redis_reply *reply = NULL;
    int err = ask(r, argc, argv, lengths, &reply);
    long long number = redis_reply_integer(reply);

    redis_reply_free(reply);
    return err != 0 ? err : number < 1000000 ? (int)number : 1000000;
}

#define NUMBER(r, ...)                                                                             \
    ask_number(r, sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *),                    \
               (const char *const[]){__VA_ARGS__}, NULL)

/* ---- decisions ---- */

static int release_entry(struct redis_source *r, const char *entry)
{
    return NUMBER(r, "EVAL", release_script, "1", r->url->stream, GROUP, r->consumer, entry,
                  RELEASED_IDLE_MS);
}

static int park_entry(struct redis_source *r, const char *entry, const char *id,
                      const char *request, size_t request_bytes, int status, const char *answer)
{
    char number[16], at[UNFINISHED_TIME_SIZE];
    const char *argv[] = {"EVAL", park_script, "3", r->url->stream, r->attempts, r->parked,
                          GROUP,  entry,       id,  request,        number,      answer,
                          at};
    size_t lengths[sizeof(argv) / sizeof(argv[0])];

    (void)snprintf(number, sizeof(number), "%d", status);
    (void)unfinished_format_time(marks_now_ms(), at);
    for (size_t i = 0; i < sizeof(argv) / sizeof(argv[0]); i++)
        lengths[i] = argv[i] == request ? request_bytes : strlen(argv[i]);
    return ask_number(r, sizeof(argv) / sizeof(argv[0]), argv, lengths);
}

static int decide(struct replay_source *source, struct replay_item *item, const struct mark *mark)
{
    struct redis_source *r = self(source);

    if (mark->outcome == MARK_FAILED)
        return 1; /* it stays ours, and pending */
    if (mark->outcome == MARK_SETTLED)
        return NUMBER(r, "EVAL", settle_script, "2", r->url->stream, r->attempts, GROUP,
                      item->entry);
    char *line = unfinished_line(&item->request);
    if (line == NULL)
        return fail(r, "no memory");
    int done = park_entry(r, item->entry, item->request.id, line, strlen(line), mark->status,
                          mark->answer != NULL ? mark->answer : "");
    free(line);
    return done;
}

static int begin(struct replay_source *source, struct replay_item *item)
{
    struct redis_source *r = self(source);
    int n = NUMBER(r, "EVAL", begin_script, "2", r->url->stream, r->attempts, GROUP, r->consumer,
                   item->entry);

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
    (void)release_entry(self(source), item->entry); /* if not, it is claimed some time later */
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
    int err = ASK(r, &reply, "XAUTOCLAIM", r->url->stream, GROUP, r->consumer, r->claim_after_ms,
                  r->cursor, "COUNT", TAKE);

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
    int err = ASK(r, &reply, "XREADGROUP", "GROUP", GROUP, r->consumer, "COUNT", TAKE, "STREAMS",
                  r->url->stream, ">");

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
    int err = ASK(r, &reply, "XRANGE", r->url->stream, from, "+", "COUNT", PAGE);
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
            return fail(r, "no memory");
        if (err != 0) {
            (void)fprintf(stderr, "stream %s: entry %s: no request: %s\n", r->url->stream, id, why);
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
        return fail(r, "no memory");
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
        err =
            park_entry(r, id, name != NULL ? name : "", line != NULL ? line : "", length, 0, unfit);
        source->parked += err > 0;
    } else {
        err = release_entry(r, id);
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
        int err = release_entry(r, *ret_id); /* of the next run */
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
    struct redis_source *r = self(source);
    struct redis_reply *reply = NULL;
    size_t others = 0;

    if (source->dry_run || ASK(r, &reply, "XPENDING", r->url->stream, GROUP) != 0)
        return 0;
    const struct redis_reply *consumers = redis_reply_at(reply, 3);
    for (size_t i = 0; i < redis_reply_count(consumers); i++) {
        const struct redis_reply *pair = redis_reply_at(consumers, i);
        const char *name = redis_reply_text(redis_reply_at(pair, 0), NULL);
        const char *count = redis_reply_text(redis_reply_at(pair, 1), NULL);
        if (name != NULL && count != NULL && strcmp(name, r->consumer) != 0)
            others += strtoul(count, NULL, 10);
    }
    redis_reply_free(reply);
    return others;
}

/* What was taken and, since the run was cut short, is not going to be sent. */
static void release_rest(struct redis_source *r)
{
    const struct redis_reply *entry;

    while (r->redis != NULL && (entry = redis_reply_at(r->entries, r->at++)) != NULL) {
        const char *id = redis_reply_text(redis_reply_at(entry, 0), NULL);
        if (id != NULL)
            (void)release_entry(r, id);
    }
}

static void close_source(struct replay_source *source)
{
    struct redis_source *r = self(source);

    if (!source->dry_run)
        release_rest(r);
    if (r->redis != NULL && !source->dry_run && r->last[0] != '\0')
        (void)NUMBER(r, "EVAL", tidy_script, "1", r->url->stream, GROUP, r->consumer);
    redis_reply_free(r->reply);
    redis_close(r->redis);
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

/* The newest entry; "": the stream is not there, or empty. */
static int find_last(struct redis_source *r)
{
    struct redis_reply *reply = NULL;
    int err = ASK(r, &reply, "XREVRANGE", r->url->stream, "+", "-", "COUNT", "1");
    const char *last = redis_reply_text(redis_reply_at(redis_reply_at(reply, 0), 0), NULL);

    if (err == 0)
        (void)snprintf(r->last, sizeof(r->last), "%s", last != NULL ? last : "");
    redis_reply_free(reply);
    return err;
}

/* Looked for first: XGROUP CREATE is refused by a Redis that is full, even where it is there. */
static int make_group(struct redis_source *r)
{
    struct redis_reply *reply = NULL;
    bool is_there = false;
    int err = ASK(r, &reply, "XINFO", "GROUPS", r->url->stream);

    for (size_t i = 0; i < redis_reply_count(reply); i++) {
        const char *name = redis_reply_text(redis_reply_at(redis_reply_at(reply, i), 1), NULL);
        is_there |= name != NULL && strcmp(name, GROUP) == 0;
    }
    redis_reply_free(reply);
    reply = NULL;
    if (err != 0 || is_there)
        return err;
    err = ASK(r, &reply, "XGROUP", "CREATE", r->url->stream, GROUP, "0");
    redis_reply_free(reply);
    /* Another one may have been faster. */
    return err != 0 && strstr(r->source.error, "BUSYGROUP") != NULL ? 0 : err;
}

static void name_streams(struct redis_source *r)
{
    const char *stream = r->url->stream;
    size_t n = strlen(stream), tail = strlen(":parked");
    bool is_parked = n >= tail && strcmp(stream + n - tail, ":parked") == 0;
    char host[64] = "";

    (void)gethostname(host, sizeof(host) - 1);
    (void)snprintf(r->consumer, sizeof(r->consumer), "replay-%s-%ld-%llx", host, (long)getpid(),
                   (unsigned long long)clock_now_ns());
    (void)snprintf(r->attempts, sizeof(r->attempts), "%s:attempts", stream);
    (void)snprintf(r->parked, sizeof(r->parked), "%s%s", stream, is_parked ? "" : ":parked");
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
    r->url = url;
    name_streams(r);
    (void)snprintf(r->claim_after_ms, sizeof(r->claim_after_ms), "%llu",
                   (unsigned long long)(claim_after_ns / NS_PER_MS));
    int err = find_last(r);
    if (err == 0 && r->last[0] == '\0')
        r->stage = STAGE_END;
    else if (err == 0 && !dry_run)
        err = make_group(r);
    if (err != 0) {
        (void)snprintf(error, REPLAY_ERROR_SIZE, "%s", r->source.error);
        r->last[0] = '\0'; /* there is nothing to tidy up */
        close_source(&r->source);
        return REPLAY_EXIT_AWAY;
    }
    *ret_source = &r->source;
    return 0;
}

#include "replay_stream.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"

/* Each outcome is one Lua script that first checks whether the entry is still pending: if two
 * replayers believe that they hold an entry, only one of them succeeds. */

#define CALL_NS (5 * NS_PER_S)
#define PATIENCE_NS (10 * NS_PER_S) /* how long a call retries while Redis is away */
#define RETRY_MS 200
#define RELEASED_IDLE_MS "86400000" /* a day of idle time, so that any replayer may claim it */

static const char *const begin_script =
    "local p = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], ARGV[3], 1) "
    "if #p == 0 or p[1][2] ~= ARGV[2] then return 0 end "
    "redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[3], 'JUSTID') "
    "local n = redis.pcall('HINCRBY', KEYS[2], ARGV[3], 1) "
    "if type(n) == 'number' then return n end " /* out of memory: send without counting */
    "return (tonumber(redis.call('HGET', KEYS[2], ARGV[3]) or '0') or 0) + 1";
static const char *const settle_script =
    "if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end "
    "redis.call('XDEL', KEYS[1], ARGV[2]) redis.call('HDEL', KEYS[2], ARGV[2]) return 1";
/* XADD comes first: if Redis is out of memory, nothing has changed. */
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
/* Deletes consumers that hold no entry: ours, and those that have been idle for an hour. */
static const char *const tidy_script =
    "for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do "
    "local f = {} for i = 1, #c, 2 do f[c[i]] = c[i + 1] end "
    "if f.pending == 0 and (f.idle > 3600000 or f.name == ARGV[2]) and "
    "string.sub(f.name, 1, 7) == 'replay-' then "
    "redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], f.name) end end return 1";

/* ---- commands ---- */

int replay_stream_fail(struct replay_stream *r, const char *why)
{
    char place[REDIS_URL_SIZE];

    (void)snprintf(r->error, REPLAY_ERROR_SIZE, "stream %.200s in %s: %s", r->url->stream,
                   redis_url_text(r->url, place), why);
    return -EIO;
}

static int try_once(struct replay_stream *r, size_t argc, const char *const *argv,
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
        r->lost_reply = true;
    }
    return err;
}

/* Retries while Redis cannot be reached or is loading. Any other error reply, such as OOM, is
 * final. */
int replay_stream_ask(struct replay_stream *r, size_t argc, const char *const *argv,
                      const size_t *lengths, struct redis_reply **ret_reply)
{
    char error[REDIS_ERROR_SIZE] = "";
    uint64_t until_ns = clock_now_ns() + PATIENCE_NS;
    int err;

    r->lost_reply = false;
    for (;;) {
        err = try_once(r, argc, argv, lengths, ret_reply, error);
        bool loading = err == -EREMOTEIO && strncmp(error, "LOADING", 7) == 0;
        if (err == 0 || err == -ENOTSUP || (err == -EREMOTEIO && !loading) ||
            clock_now_ns() >= until_ns)
            break;
        (void)poll(NULL, 0, RETRY_MS);
    }
    return err == 0 ? 0 : replay_stream_fail(r, error);
}

/* For commands whose answer is a number. */
static int ask_number(struct replay_stream *r, size_t argc, const char *const *argv,
                      const size_t *lengths)
{
    struct redis_reply *reply = NULL;
    int err = replay_stream_ask(r, argc, argv, lengths, &reply);
    long long number = redis_reply_integer(reply);

    redis_reply_free(reply);
    return err != 0 ? err : number < 1000000 ? (int)number : 1000000;
}

#define NUMBER(r, ...)                                                                             \
    ask_number(r, sizeof((const char *[]){__VA_ARGS__}) / sizeof(const char *),                    \
               (const char *const[]){__VA_ARGS__}, NULL)

/* ---- outcomes ---- */

int replay_stream_release(struct replay_stream *r, const char *entry)
{
    return NUMBER(r, "EVAL", release_script, "1", r->url->stream, REPLAY_GROUP, r->consumer, entry,
                  RELEASED_IDLE_MS);
}

/* A script whose reply was lost may have decided, and finds nothing to do when it is run again. It
 * is counted as ours: if another replayer has decided meanwhile, the entry is decided as well. */
static int ours(const struct replay_stream *r, int number)
{
    return number == 0 && r->lost_reply ? 1 : number;
}

int replay_stream_park(struct replay_stream *r, const char *entry, const char *id,
                       const char *request, size_t request_bytes, int status, const char *answer)
{
    char number[16], at[UNFINISHED_TIME_SIZE];
    const char *argv[] = {
        "EVAL", park_script, "3",     r->url->stream, r->attempts, r->parked, REPLAY_GROUP,
        entry,  id,          request, number,         answer,      at};
    size_t lengths[sizeof(argv) / sizeof(argv[0])];

    (void)snprintf(number, sizeof(number), "%d", status);
    (void)unfinished_format_time(clock_wall_ms(), at);
    for (size_t i = 0; i < sizeof(argv) / sizeof(argv[0]); i++)
        lengths[i] = argv[i] == request ? request_bytes : strlen(argv[i]);
    return ours(r, ask_number(r, sizeof(argv) / sizeof(argv[0]), argv, lengths));
}

int replay_stream_settle(struct replay_stream *r, const char *entry)
{
    int number =
        NUMBER(r, "EVAL", settle_script, "2", r->url->stream, r->attempts, REPLAY_GROUP, entry);

    return ours(r, number);
}

int replay_stream_begin(struct replay_stream *r, const char *entry)
{
    return NUMBER(r, "EVAL", begin_script, "2", r->url->stream, r->attempts, REPLAY_GROUP,
                  r->consumer, entry);
}

void replay_stream_tidy(struct replay_stream *r)
{
    if (r->redis != NULL)
        (void)NUMBER(r, "EVAL", tidy_script, "1", r->url->stream, REPLAY_GROUP, r->consumer);
}

size_t replay_stream_elsewhere(struct replay_stream *r)
{
    struct redis_reply *reply = NULL;
    size_t others = 0;

    if (REPLAY_ASK(r, &reply, "XPENDING", r->url->stream, REPLAY_GROUP) != 0)
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

/* ---- opening ---- */

int replay_stream_find_last(struct replay_stream *r, char last[REPLAY_ENTRY_SIZE])
{
    struct redis_reply *reply = NULL;
    int err = REPLAY_ASK(r, &reply, "XREVRANGE", r->url->stream, "+", "-", "COUNT", "1");
    const char *newest = redis_reply_text(redis_reply_at(redis_reply_at(reply, 0), 0), NULL);

    if (err == 0)
        (void)snprintf(last, REPLAY_ENTRY_SIZE, "%s", newest != NULL ? newest : "");
    redis_reply_free(reply);
    return err;
}

/* XINFO comes first: a Redis that is out of memory refuses XGROUP CREATE even if the group exists.
 */
int replay_stream_make_group(struct replay_stream *r)
{
    struct redis_reply *reply = NULL;
    bool is_there = false;
    int err = REPLAY_ASK(r, &reply, "XINFO", "GROUPS", r->url->stream);

    for (size_t i = 0; i < redis_reply_count(reply); i++) {
        const char *name = redis_reply_text(redis_reply_at(redis_reply_at(reply, i), 1), NULL);
        is_there |= name != NULL && strcmp(name, REPLAY_GROUP) == 0;
    }
    redis_reply_free(reply);
    reply = NULL;
    if (err != 0 || is_there)
        return err;
    err = REPLAY_ASK(r, &reply, "XGROUP", "CREATE", r->url->stream, REPLAY_GROUP, "0");
    redis_reply_free(reply);
    /* Another replayer may have created it meanwhile. */
    return err != 0 && strstr(r->error, "BUSYGROUP") != NULL ? 0 : err;
}

void replay_stream_init(struct replay_stream *r, const struct redis_url *url, char *error)
{
    const char *stream = url->stream;
    size_t n = strlen(stream), tail = strlen(":parked");
    bool is_parked = n >= tail && strcmp(stream + n - tail, ":parked") == 0;
    char host[64] = "";

    *r = (struct replay_stream){.url = url, .error = error};
    (void)gethostname(host, sizeof(host) - 1);
    (void)snprintf(r->consumer, sizeof(r->consumer), "replay-%s-%ld-%llx", host, (long)getpid(),
                   (unsigned long long)clock_now_ns());
    (void)snprintf(r->attempts, sizeof(r->attempts), "%s:attempts", stream);
    (void)snprintf(r->parked, sizeof(r->parked), "%s%s", stream, is_parked ? "" : ":parked");
}

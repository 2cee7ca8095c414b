#include "registration.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "log.h"
#include "redis.h"
#include "redis_thread.h"

#define CALL_NS (2 * NS_PER_S) /* for Redis to answer, connecting included */
#define LEAVE_NS (100 * NS_PER_MS)
#define ID_SIZE 17
#define HOST_SIZE 256

static const struct redis_backoff backoff = {.first_ns = 250 * NS_PER_MS, .most_ns = 5 * NS_PER_S};

/* Both scripts compare and act in one step: between a GET and a SET of ours another process could
 * write the key. The first one sets the key unless another process holds it. ARGV[3] is "1" for a
 * process that just started: the key is then left over from one that did not withdraw. */
static const char *const set_script = "local v = redis.call('GET', KEYS[1]) "
                                      "if v and v ~= ARGV[1] and ARGV[3] ~= '1' then return 0 end "
                                      "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1";
static const char *const delete_script =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

struct registration {
    /* immutable after registration_start */
    struct redis_url url;
    char *key, *address, *value;
    char ttl_ms[24];
    uint64_t ttl_ns;
    uint64_t call_ns;
    struct redis_thread thread;
    /* the thread's own */
    struct redis *redis; /* NULL: not connected */
    bool fresh;          /* not set yet: a value in Redis is left over from another process */
    bool registered_said, taken_said;
    /* thread.mu */
    bool handed_over;
    bool begun;      /* the process serves, and has no successor */
    bool ready;      /* its phase is RUNNING */
    bool wanted;     /* both */
    bool held;       /* our value is in Redis, or may be */
    bool away;       /* the last call failed: logged, and being retried */
    uint64_t due_ns; /* when the next call is due */
};

/* ---- the texts ---- */

struct names {
    char host[HOST_SIZE];
    char port[8];
    char id[ID_SIZE];
    const char *address;
};

static const char *name_of(const struct names *names, char letter)
{
    switch (letter) {
    case 'h':
        return names->host;
    case 'p':
        return names->port[0] != '\0' ? names->port : NULL;
    case 'i':
        return names->id;
    case 'a':
        return names->address;
    case '%':
        return "%";
    default:
        return NULL;
    }
}

/* Expand the template. Returns NULL, and the letter after the % that is unknown. */
static char *expand(const char *template, const struct names *names, char *ret_letter)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    *ret_letter = '\0';
    if (out == NULL)
        return NULL;
    for (const char *at = template; *at != '\0'; at++) {
        if (*at != '%') {
            (void)fputc(*at, out);
            continue;
        }
        const char *name = name_of(names, *++at);
        if (name == NULL) {
            *ret_letter = *at != '\0' ? *at : ' ';
            (void)fclose(out);
            free(text);
            return NULL;
        }
        (void)fputs(name, out);
    }
    return fclose(out) == 0 ? text : NULL;
}

static char *value_as_json(const struct names *names)
{
    char wall[CLOCK_TEXT_SIZE + 8];
    json_t *value = json_pack("{s:o, s:s, s:o, s:i, s:s}", "address", log_json_text(names->address),
                              "id", names->id, "host", log_json_text(names->host), "pid",
                              (int)getpid(), "since", clock_format_wall(wall));
    char *text = value != NULL ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    return text;
}

static int fail_template(char *error, const char *setting, const char *template, char letter)
{
    if (letter == '\0')
        return -ENOMEM;
    if (letter == 'p')
        (void)snprintf(error, REGISTRATION_ERROR_SIZE,
                       "register.redis.%s %s: no TCP listener has a port for %%p: name the address",
                       setting, template);
    else
        (void)snprintf(error, REGISTRATION_ERROR_SIZE,
                       "register.redis.%s %s: %%%c is unknown; want %%h, %%p, %%i%s or %%%%",
                       setting, template, letter, strcmp(setting, "value") == 0 ? ", %a" : "");
    return -EINVAL;
}

static int expand_all(struct registration *r, const struct registration_config *config, char *error)
{
    struct names names = {.address = NULL};
    uint64_t id = 0;
    char letter;

    if (getrandom(&id, sizeof(id), 0) != sizeof(id))
        return -errno;
    (void)snprintf(names.id, sizeof(names.id), "%016llx", (unsigned long long)id);
    if (gethostname(names.host, sizeof(names.host) - 1) != 0)
        return -errno;
    if (config->port != 0)
        (void)snprintf(names.port, sizeof(names.port), "%u", (unsigned)config->port & 0xffff);
    if ((r->key = expand(config->key, &names, &letter)) == NULL)
        return fail_template(error, "key", config->key, letter);
    if ((r->address = expand(config->address, &names, &letter)) == NULL)
        return fail_template(error, "address", config->address, letter);
    names.address = r->address;
    if (config->value == NULL)
        r->value = value_as_json(&names);
    else if ((r->value = expand(config->value, &names, &letter)) == NULL)
        return fail_template(error, "value", config->value, letter);
    return r->value != NULL ? 0 : -ENOMEM;
}

static int set_up(struct registration *r, const struct registration_config *config, char *error)
{
    (void)snprintf(error, REGISTRATION_ERROR_SIZE, "registration: no memory");
    int err = redis_url_read(&r->url, config->url, config->password_file, "register.redis", error,
                             REGISTRATION_ERROR_SIZE);
    if (err != 0)
        return err;
    if (r->url.stream != NULL) {
        (void)snprintf(error, REGISTRATION_ERROR_SIZE,
                       "register.redis.url: a registration has no stream");
        return -EINVAL;
    }
    if (!redis_is_built()) {
        (void)snprintf(error, REGISTRATION_ERROR_SIZE,
                       "register.redis: this lastcall was built without hiredis "
                       "(apt-get install libhiredis-dev, and build again)");
        return -ENOTSUP;
    }
    r->ttl_ns = config->ttl_ns;
    r->call_ns = config->ttl_ns / 3 < CALL_NS ? config->ttl_ns / 3 : CALL_NS;
    (void)snprintf(r->ttl_ms, sizeof(r->ttl_ms), "%llu",
                   (unsigned long long)(config->ttl_ns / NS_PER_MS));
    return expand_all(r, config, error);
}

int registration_create(const struct registration_config *config,
                        struct registration **ret_registration, char error[REGISTRATION_ERROR_SIZE])
{
    struct registration *r = calloc(1, sizeof(*r));

    if (r == NULL)
        return -ENOMEM;
    r->fresh = r->ready = true;
    int err = redis_thread_init(&r->thread, backoff);
    if (err == 0)
        err = set_up(r, config, error);
    if (err != 0) {
        registration_destroy(r);
        return err;
    }
    *ret_registration = r;
    return 0;
}

void registration_destroy(struct registration *registration)
{
    struct registration *r = registration;

    if (r == NULL)
        return;
    redis_thread_release(&r->thread);
    redis_close(r->redis);
    redis_url_release(&r->url);
    free(r->key);
    free(r->address);
    free(r->value);
    free(r);
}

/* ---- the calls, without the lock ---- */

static int call(struct registration *r, const char *script, const char *third, bool *ret_done,
                char error[REDIS_ERROR_SIZE])
{
    const char *argv[] = {"EVAL", script, "1", r->key, r->value, r->ttl_ms, third};
    struct redis_reply *reply = NULL;
    uint64_t until_ns = clock_now_ns() + r->call_ns;
    int err =
        r->redis != NULL ? 0 : redis_open(&r->url, r->thread.cancel_fd, until_ns, &r->redis, error);

    if (err != 0)
        return err;
    err = redis_call(r->redis, until_ns, sizeof(argv) / sizeof(argv[0]), argv, NULL, &reply);
    if (err != 0)
        (void)snprintf(error, REDIS_ERROR_SIZE, "%s", redis_error(r->redis));
    if (err != 0 && err != -EREMOTEIO) {
        redis_close(r->redis);
        r->redis = NULL;
    }
    *ret_done = redis_reply_integer(reply) == 1;
    redis_reply_free(reply);
    return err;
}

/* The other side may have closed an idle connection: connect again, this is not an outage. */
static int call_again(struct registration *r, const char *script, const char *third, bool *ret_done,
                      char error[REDIS_ERROR_SIZE])
{
    bool was_open = r->redis != NULL;
    int err = call(r, script, third, ret_done, error);
    return err != 0 && was_open && r->redis == NULL && err != -ETIMEDOUT
               ? call(r, script, third, ret_done, error)
               : err;
}

static void say_failure(const struct registration *r, bool wanted, const char *error)
{
    char place[REDIS_URL_SIZE];

    log_line(LOG_LEVEL_WARN, "registry-away",
             json_pack("{s:s, s:o, s:s}", "registry", redis_url_text(&r->url, place), "key",
                       log_json_text(r->key), "error", error),
             "cannot %s %s in %s: %s (it will be tried again; logged once)",
             wanted ? "register as" : "withdraw", r->key, place, error);
}

static void say_success(struct registration *r, bool wanted, bool done)
{
    char place[REDIS_URL_SIZE], ttl[CLOCK_TEXT_SIZE];

    (void)redis_url_text(&r->url, place);
    if (wanted && !done) {
        if (!r->taken_said)
            log_line(LOG_LEVEL_WARN, "registry-taken",
                     json_pack("{s:s, s:o}", "registry", place, "key", log_json_text(r->key)),
                     "%s in %s is held by another process, a successor or one with the same key: "
                     "it is left alone",
                     r->key, place);
        r->taken_said = true;
        r->registered_said = false;
        return;
    }
    r->taken_said = false;
    if (wanted && !r->registered_said)
        log_line(LOG_LEVEL_INFO, "registered",
                 json_pack("{s:s, s:o, s:o, s:I}", "registry", place, "key", log_json_text(r->key),
                           "address", log_json_text(r->address), "ttl_ms",
                           (json_int_t)(r->ttl_ns / NS_PER_MS)),
                 "registered %s as %s in %s, for %s at a time", r->address, r->key, place,
                 clock_format_duration(r->ttl_ns, ttl));
    if (!wanted)
        log_line(LOG_LEVEL_INFO, "withdrawn",
                 json_pack("{s:s, s:o}", "registry", place, "key", log_json_text(r->key)),
                 done ? "withdrew %s from %s" : "%s in %s belongs to another process: left alone",
                 r->key, place);
    r->registered_said = wanted;
}

/* ---- the thread ---- */

/* One call, for what was wanted when it began. Called with the lock, which it releases while it
 * waits. */
static void act_locked(struct registration *r, bool wanted)
{
    char error[REDIS_ERROR_SIZE] = "";
    bool done = false;

    r->held |= wanted; /* even if the answer gets lost */
    redis_thread_unlock(&r->thread);
    int err = call_again(r, wanted ? set_script : delete_script, wanted && r->fresh ? "1" : "0",
                         &done, error);
    redis_thread_lock(&r->thread);
    if (err == -ECANCELED || r->thread.stops)
        return;
    uint64_t now_ns = clock_now_ns();
    if (err != 0) {
        if (!r->away)
            say_failure(r, wanted, error);
        r->away = true;
        r->registered_said = false;
        r->due_ns = now_ns + redis_thread_back_off_locked(&r->thread);
    } else {
        say_success(r, wanted, done);
        r->away = false;
        redis_thread_recover_locked(&r->thread);
        r->fresh &= !wanted;
        r->held = wanted;
        r->due_ns = wanted ? now_ns + r->ttl_ns / 3 : CLOCK_NEVER;
    }
    r->held &= !r->handed_over; /* it may have been handed over meanwhile */
    if (r->wanted != wanted)    /* it may have changed meanwhile */
        r->due_ns = r->away ? r->due_ns : now_ns;
    redis_thread_wake_locked(&r->thread);
}

/* Returns when the next one is due. */
static uint64_t turn_locked(void *arg)
{
    struct registration *r = arg;

    if (!r->wanted && !r->held)
        return CLOCK_NEVER;
    if (clock_now_ns() >= r->due_ns)
        act_locked(r, r->wanted);
    return !r->wanted && !r->held ? CLOCK_NEVER : r->due_ns;
}

static void decide_locked(struct registration *r)
{
    bool wanted = r->begun && r->ready;

    if (r->wanted == wanted)
        return;
    r->wanted = wanted;
    r->due_ns = clock_now_ns();
    redis_thread_wake_locked(&r->thread);
}

static void set_ready(struct registration *r, bool ready)
{
    redis_thread_lock(&r->thread);
    r->ready = ready;
    decide_locked(r);
    redis_thread_unlock(&r->thread);
}

void registration_begin(struct registration *registration)
{
    if (registration == NULL)
        return;
    redis_thread_lock(&registration->thread);
    registration->begun = true;
    decide_locked(registration);
    redis_thread_unlock(&registration->thread);
}

void registration_hand_over(struct registration *registration)
{
    if (registration == NULL)
        return;
    redis_thread_lock(&registration->thread);
    registration->begun = registration->held = false; /* do not delete the successor's key */
    registration->handed_over = true;
    decide_locked(registration);
    redis_thread_unlock(&registration->thread);
}

static void on_step(void *arg, enum coord_phase phase)
{
    set_ready(arg, phase == PHASE_RUNNING);
}

int registration_start(struct registration *registration, struct coord *coord)
{
    struct registration *r = registration;
    int err = redis_thread_start(&r->thread, "register", turn_locked, r);

    if (err == 0)
        coord_on_step(coord, on_step, r);
    return err;
}

void registration_leave(struct registration *registration)
{
    struct registration *r = registration;
    uint64_t until_ns = clock_now_ns() + LEAVE_NS;
    char ttl[CLOCK_TEXT_SIZE];

    if (r == NULL || !r->thread.started)
        return;
    set_ready(r, false);
    redis_thread_lock(&r->thread);
    while (r->held && !r->away && redis_thread_wait_locked(&r->thread, until_ns))
        ;
    bool held = r->held;
    redis_thread_unlock(&r->thread);
    if (held)
        log_line(LOG_LEVEL_WARN, "not-withdrawn", json_pack("{s:o}", "key", log_json_text(r->key)),
                 "%s could not be withdrawn: it expires by itself within %s", r->key,
                 clock_format_duration(r->ttl_ns, ttl));
}

void registration_stop(struct registration *registration)
{
    if (registration != NULL)
        redis_thread_stop(&registration->thread);
}

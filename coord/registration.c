#include "registration.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "log.h"
#include "redis.h"

#define CALL_NS (2 * NS_PER_S) /* for Redis to answer, connecting included */
#define RETRY_FIRST_NS (250 * NS_PER_MS)
#define RETRY_MOST_NS (5 * NS_PER_S)
#define LEAVE_NS (100 * NS_PER_MS)
#define ID_SIZE 17
#define HOST_SIZE 256

/* Both compare and act in one step: between a GET and a SET of ours another process may come.
 * Set it unless another one holds it; ARGV[3] is "1" for a process that just started: what it finds
 * was left by one that did not withdraw. */
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
    pthread_t thread;
    int cancel_fd; /* eventfd: readable once it is over */
    /* main thread */
    bool started;
    /* the thread's own */
    struct redis *redis; /* NULL: not connected */
    bool fresh;          /* never set so far: what is there was left by another process */
    bool registered_said, taken_said;
    uint64_t retry_ns;
    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t changed;
    bool handed_over;
    bool begun;  /* the process serves, and nobody has followed it */
    bool ready;  /* as of its phase */
    bool wanted; /* both */
    bool held;   /* our value is there, or may be */
    bool away;   /* the last call failed: said, and being retried */
    bool over;
    uint64_t due_ns; /* the next call */
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

/* The template with its names in it. Returns NULL, and the letter behind the % that has no name. */
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
                       "register.redis.%s %s: %%%c is nothing; want %%h, %%p, %%i%s or %%%%",
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

static void init_lock(struct registration *r)
{
    (void)pthread_mutex_init(&r->mu, NULL);
    clock_cond_init(&r->changed);
}

int registration_create(const struct registration_config *config,
                        struct registration **ret_registration, char error[REGISTRATION_ERROR_SIZE])
{
    struct registration *r = calloc(1, sizeof(*r));

    if (r == NULL)
        return -ENOMEM;
    init_lock(r);
    r->fresh = r->ready = true;
    r->retry_ns = RETRY_FIRST_NS;
    r->cancel_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int err = r->cancel_fd < 0 ? -errno : set_up(r, config, error);
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
    if (r->cancel_fd >= 0)
        (void)close(r->cancel_fd);
    (void)pthread_cond_destroy(&r->changed);
    (void)pthread_mutex_destroy(&r->mu);
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
    int err = r->redis != NULL ? 0 : redis_open(&r->url, r->cancel_fd, until_ns, &r->redis, error);

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

/* A connection that idled may have been closed by the other side: that is no outage. */
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
             "cannot %s %s in %s: %s (it is tried again; said once)",
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
                 done ? "withdrew %s from %s" : "%s in %s is not ours any more: left alone", r->key,
                 place);
    r->registered_said = wanted;
}

/* ---- the thread ---- */

static void lock(struct registration *r)
{
    int err = pthread_mutex_lock(&r->mu);
    assert(err == 0);
    (void)err;
}

static void unlock(struct registration *r)
{
    int err = pthread_mutex_unlock(&r->mu);
    assert(err == 0);
    (void)err;
}

/* One call, for what was wanted when it began. Holds the lock, but not while it waits. */
static void act_locked(struct registration *r, bool wanted)
{
    char error[REDIS_ERROR_SIZE] = "";
    bool done = false;

    r->held |= wanted; /* also when the answer gets lost */
    unlock(r);
    int err = call_again(r, wanted ? set_script : delete_script, wanted && r->fresh ? "1" : "0",
                         &done, error);
    lock(r);
    if (err == -ECANCELED || r->over)
        return;
    uint64_t now_ns = clock_now_ns();
    if (err != 0) {
        if (!r->away)
            say_failure(r, wanted, error);
        r->away = true;
        r->registered_said = false;
        r->due_ns = now_ns + r->retry_ns;
        r->retry_ns = 2 * r->retry_ns < RETRY_MOST_NS ? 2 * r->retry_ns : RETRY_MOST_NS;
    } else {
        say_success(r, wanted, done);
        r->away = false;
        r->retry_ns = RETRY_FIRST_NS;
        r->fresh &= !wanted;
        r->held = wanted;
        r->due_ns = wanted ? now_ns + r->ttl_ns / 3 : CLOCK_NEVER;
    }
    r->held &= !r->handed_over; /* meanwhile */
    if (r->wanted != wanted)    /* likewise */
        r->due_ns = r->away ? r->due_ns : now_ns;
    (void)pthread_cond_broadcast(&r->changed);
}

static void *registration_thread(void *arg)
{
    struct registration *r = arg;

    (void)pthread_setname_np(pthread_self(), "register");
    lock(r);
    while (!r->over) {
        if (!r->wanted && !r->held) {
            (void)pthread_cond_wait(&r->changed, &r->mu);
        } else if (clock_now_ns() < r->due_ns) {
            struct timespec until = clock_timespec(r->due_ns);
            (void)pthread_cond_timedwait(&r->changed, &r->mu, &until);
        } else {
            act_locked(r, r->wanted);
        }
    }
    unlock(r);
    return NULL;
}

static void decide_locked(struct registration *r)
{
    bool wanted = r->begun && r->ready;

    if (r->wanted == wanted)
        return;
    r->wanted = wanted;
    r->due_ns = clock_now_ns();
    (void)pthread_cond_broadcast(&r->changed);
}

static void set_ready(struct registration *r, bool ready)
{
    lock(r);
    r->ready = ready;
    decide_locked(r);
    unlock(r);
}

void registration_begin(struct registration *registration)
{
    if (registration == NULL)
        return;
    lock(registration);
    registration->begun = true;
    decide_locked(registration);
    unlock(registration);
}

void registration_hand_over(struct registration *registration)
{
    if (registration == NULL)
        return;
    lock(registration);
    registration->begun = registration->held = false; /* nothing of ours is to be withdrawn */
    registration->handed_over = true;
    decide_locked(registration);
    unlock(registration);
}

static void on_step(void *arg, enum coord_phase phase)
{
    set_ready(arg, phase == PHASE_RUNNING);
}

int registration_start(struct registration *registration, struct coord *coord)
{
    struct registration *r = registration;
    sigset_t all, before;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    int err = pthread_create(&r->thread, NULL, registration_thread, r);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err != 0)
        return -err;
    r->started = true;
    coord_on_step(coord, on_step, r);
    return 0;
}

void registration_leave(struct registration *registration)
{
    struct registration *r = registration;
    struct timespec until = clock_timespec(clock_now_ns() + LEAVE_NS);
    char ttl[CLOCK_TEXT_SIZE];
    int err = 0;

    if (r == NULL || !r->started)
        return;
    set_ready(r, false);
    lock(r);
    while (r->held && !r->away && err == 0)
        err = pthread_cond_timedwait(&r->changed, &r->mu, &until);
    bool held = r->held;
    unlock(r);
    if (held)
        log_line(LOG_LEVEL_WARN, "not-withdrawn", json_pack("{s:o}", "key", log_json_text(r->key)),
                 "%s could not be withdrawn: it expires by itself within %s", r->key,
                 clock_format_duration(r->ttl_ns, ttl));
}

void registration_stop(struct registration *registration)
{
    struct registration *r = registration;
    const uint64_t one = 1;

    if (r == NULL || !r->started)
        return;
    lock(r);
    r->over = true;
    (void)pthread_cond_broadcast(&r->changed);
    unlock(r);
    (void)!write(r->cancel_fd, &one, sizeof(one));
    (void)pthread_join(r->thread, NULL);
    r->started = false;
}

#include "upstream_health.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Health note. The fields of a member are written under the lock, and read without it by every
 * loop for every request. Each atomic is one fact, and no other memory is published with it, so
 * relaxed is enough: a loop that reads an old value chooses as it would have chosen a moment
 * before, and a request that goes to a member that has just gone is sent on to the next one.
 * What needs two facts at once (a trial, the last member that is up) is decided under the lock. */

#define SHARE_LEAST (HEALTH_WHOLE / 16)

struct member {
    /* atomic: see health note */
    _Atomic uint64_t ejected_until_ns; /* 0: it is not ejected */
    _Atomic uint64_t slow_since_ns;    /* 0: it has not come back yet */
    _Atomic uint64_t ejections;
    _Atomic unsigned failures; /* in a row */
    _Atomic bool is_down;
    /* mu */
    health_trial trial;       /* that is under way, the latest one if there are several */
    health_trial last_trial;  /* that was given out */
    health_trial first_trial; /* of this ejection */
    uint64_t tried_ns;        /* the last trial, or the ejection */
    unsigned times;           /* that it was ejected without staying up in between */
    uint64_t length_ns;       /* of the last ejection */
    unsigned run;             /* checks in a row with the last outcome; 0: none yet */
    bool was_good;            /* that outcome */
};

struct health {
    struct health_rules rules; /* immutable */
    size_t count;
    pthread_mutex_t mu;
    struct member members[];
};

#define GET(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define SET(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)

struct health *health_create(size_t count, const struct health_rules *rules)
{
    struct health *health = calloc(1, sizeof(*health) + count * sizeof(health->members[0]));

    if (health == NULL)
        return NULL;
    health->rules = *rules;
    health->count = count;
    (void)pthread_mutex_init(&health->mu, NULL);
    return health;
}

void health_destroy(struct health *health)
{
    if (health == NULL)
        return;
    (void)pthread_mutex_destroy(&health->mu);
    free(health);
}

/* ---- questions ---- */

const char *health_state_name(enum health_state state)
{
    static const char *const names[] = {
        [HEALTH_UP] = "up", [HEALTH_EJECTED] = "ejected", [HEALTH_DOWN] = "down"};
    return names[state];
}

static enum health_state state_of(const struct member *member)
{
    return GET(member->is_down)                 ? HEALTH_DOWN
           : GET(member->ejected_until_ns) != 0 ? HEALTH_EJECTED
                                                : HEALTH_UP;
}

enum health_state health_state(const struct health *health, size_t i)
{
    return state_of(&health->members[i]);
}

uint64_t health_ejected_until_ns(const struct health *health, size_t i)
{
    return GET(health->members[i].ejected_until_ns);
}

uint64_t health_ejections(const struct health *health, size_t i)
{
    return GET(health->members[i].ejections);
}

unsigned health_share(const struct health *health, size_t i, uint64_t now_ns)
{
    uint64_t since_ns = GET(health->members[i].slow_since_ns), whole_ns;

    whole_ns = health->rules.slow_start_ns;
    if (since_ns == 0 || whole_ns == 0 || now_ns >= since_ns + whole_ns)
        return HEALTH_WHOLE;
    uint64_t passed_ns = now_ns > since_ns ? now_ns - since_ns : 0;
    unsigned share = (unsigned)((double)passed_ns / (double)whole_ns * HEALTH_WHOLE);
    return share > SHARE_LEAST ? share : SHARE_LEAST;
}

/* ---- trials ---- */

/* mu held. Those that try it as a last resort need not wait for each other: one may hang. */
static bool may_try_locked(const struct member *member, uint64_t now_ns, bool is_last_resort)
{
    if (state_of(member) != HEALTH_EJECTED)
        return false;
    return (member->trial == HEALTH_NO_TRIAL && now_ns >= GET(member->ejected_until_ns)) ||
           (is_last_resort && now_ns >= member->tried_ns + HEALTH_TRIALS_APART_NS);
}

health_trial health_take_trial(struct health *health, size_t i, uint64_t now_ns,
                               bool is_last_resort)
{
    struct member *member = &health->members[i];
    health_trial trial = HEALTH_NO_TRIAL;

    if (state_of(member) != HEALTH_EJECTED ||
        (!is_last_resort && now_ns < GET(member->ejected_until_ns)))
        return HEALTH_NO_TRIAL; /* most calls, without the lock */
    (void)pthread_mutex_lock(&health->mu);
    if (may_try_locked(member, now_ns, is_last_resort)) {
        trial = member->trial = ++member->last_trial;
        member->tried_ns = now_ns;
    }
    (void)pthread_mutex_unlock(&health->mu);
    return trial;
}

bool health_has_trial(struct health *health)
{
    bool has = false;

    (void)pthread_mutex_lock(&health->mu);
    for (size_t i = 0; i < health->count; i++)
        has |= health->members[i].trial != HEALTH_NO_TRIAL;
    (void)pthread_mutex_unlock(&health->mu);
    return has;
}

void health_drop_trial(struct health *health, size_t i, health_trial trial)
{
    struct member *member = &health->members[i];

    (void)pthread_mutex_lock(&health->mu);
    if (member->trial == trial)
        member->trial = HEALTH_NO_TRIAL;
    (void)pthread_mutex_unlock(&health->mu);
}

/* ---- requests ---- */

static bool is_last_locked(const struct health *health, size_t i)
{
    for (size_t k = 0; k < health->count; k++)
        if (k != i && state_of(&health->members[k]) == HEALTH_UP)
            return false;
    return state_of(&health->members[i]) == HEALTH_UP;
}

static void come_back_locked(struct member *member, uint64_t now_ns)
{
    SET(member->ejected_until_ns, 0);
    SET(member->failures, 0);
    SET(member->slow_since_ns, now_ns);
    member->trial = HEALTH_NO_TRIAL;
}

/* An answer to a request that was sent before the ejection says nothing about now. */
bool health_succeeded(struct health *health, size_t i, health_trial trial, uint64_t now_ns)
{
    struct member *member = &health->members[i];
    bool is_back = false;

    if (GET(member->failures) == 0)
        return false; /* almost always */
    (void)pthread_mutex_lock(&health->mu);
    if (GET(member->ejected_until_ns) == 0) {
        SET(member->failures, 0);
    } else if (trial != HEALTH_NO_TRIAL) {
        come_back_locked(member, now_ns);
        is_back = true;
    }
    (void)pthread_mutex_unlock(&health->mu);
    return is_back;
}

/* Twice as long each time. */
static uint64_t eject_locked(const struct health_rules *rules, struct member *member,
                             uint64_t now_ns)
{
    uint64_t length_ns = rules->eject_ns, back_ns = GET(member->slow_since_ns);

    if (GET(member->ejected_until_ns) == 0 && now_ns >= back_ns + member->length_ns)
        member->times = 0;
    for (unsigned n = 0; n < member->times && length_ns < rules->eject_most_ns; n++)
        length_ns *= 2;
    if (length_ns > rules->eject_most_ns)
        length_ns = rules->eject_most_ns;
    member->times++;
    member->length_ns = length_ns;
    member->tried_ns = now_ns;
    member->trial = HEALTH_NO_TRIAL;
    member->first_trial = member->last_trial + 1;
    SET(member->ejected_until_ns, now_ns + length_ns);
    SET(member->ejections, GET(member->ejections) + 1);
    return length_ns;
}

/* mu held. Requests that were sent before the ejection fail for a while, and say nothing new; no
 * more does a trial of the ejection before this one. */
static bool is_to_eject_locked(const struct health *health, size_t i, health_trial trial,
                               bool is_gone)
{
    const struct member *member = &health->members[i];

    if (GET(member->ejected_until_ns) != 0)
        return trial != HEALTH_NO_TRIAL && trial >= member->first_trial;
    return GET(member->failures) >= health->rules.failures &&
           (is_gone || !is_last_locked(health, i));
}

uint64_t health_failed(struct health *health, size_t i, health_trial trial, bool is_gone,
                       uint64_t now_ns)
{
    struct member *member = &health->members[i];
    const struct health_rules *rules = &health->rules;
    uint64_t length_ns = 0;

    if (rules->failures == 0)
        return 0;
    (void)pthread_mutex_lock(&health->mu);
    if (GET(member->failures) < rules->failures)
        SET(member->failures, GET(member->failures) + 1);
    if (is_to_eject_locked(health, i, trial, is_gone))
        length_ns = eject_locked(rules, member, now_ns);
    (void)pthread_mutex_unlock(&health->mu);
    return length_ns;
}

/* ---- checks ---- */

bool health_checked(struct health *health, size_t i, bool is_good, uint64_t now_ns)
{
    struct member *member = &health->members[i];
    unsigned enough = is_good ? health->rules.rise : health->rules.fall;

    (void)pthread_mutex_lock(&health->mu);
    bool was_down = GET(member->is_down);
    if (member->run == 0)
        enough = 1;
    if (member->run == 0 || member->was_good != is_good)
        member->run = 0;
    if (member->run < UINT16_MAX)
        member->run++;
    member->was_good = is_good;
    bool changes = was_down == is_good && member->run >= enough;
    if (changes) {
        SET(member->is_down, !is_good);
        if (is_good) /* checks that have succeeded one after the other say more than a trial */
            come_back_locked(member, now_ns);
    }
    (void)pthread_mutex_unlock(&health->mu);
    return changes;
}

#include "kept.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "clock.h"
#include "exchange_p.h"
#include "loop.h"
#include "server_state.h"

#define SLOTS_LEAST 64
#define SLOTS_MOST (1U << 20)
#define NO_SLOT UINT32_MAX

struct kept_slot {
    struct job *job; /* NULL: free */
    uint32_t generation;
    uint32_t next_free;
};

struct kept {
    pthread_mutex_t mu;
    /* mu */
    pthread_cond_t let_go;
    struct kept_slot *slots;
    uint32_t size;
    uint32_t first_free;
    uint32_t first_generation;
    unsigned held;
    bool closed;
};

struct kept *kept_create(void)
{
    static _Atomic uint32_t servers;
    struct kept *kept = calloc(1, sizeof(*kept));

    if (kept == NULL)
        return NULL;
    (void)pthread_mutex_init(&kept->mu, NULL);
    clock_cond_init(&kept->let_go);
    kept->first_free = NO_SLOT;
    /* A token of another server of this process, also of one that has ended, is none of this one's:
     * multiples of the golden ratio lie far apart. */
    kept->first_generation =
        atomic_fetch_add_explicit(&servers, 1, memory_order_relaxed) * UINT32_C(0x9e3779b1);
    return kept;
}

void kept_destroy(struct kept *kept)
{
    if (kept == NULL)
        return;
    (void)pthread_cond_destroy(&kept->let_go);
    (void)pthread_mutex_destroy(&kept->mu);
    free(kept->slots);
    free(kept);
}

static struct kept *kept_of(const struct job *job)
{
    return job->loop->server->kept;
}

static struct kept *lock(struct kept *kept)
{
    (void)pthread_mutex_lock(&kept->mu);
    return kept;
}

static void unlock(struct kept *kept)
{
    (void)pthread_mutex_unlock(&kept->mu);
}

/* ---- slots ---- */

static bool grow_locked(struct kept *kept)
{
    uint32_t size = kept->size == 0 ? SLOTS_LEAST : kept->size * 2;
    struct kept_slot *slots =
        size <= SLOTS_MOST ? realloc(kept->slots, size * sizeof(*slots)) : NULL;

    if (slots == NULL)
        return false;
    for (uint32_t i = size; i-- > kept->size;) {
        slots[i] =
            (struct kept_slot){.generation = kept->first_generation, .next_free = kept->first_free};
        kept->first_free = i;
    }
    kept->slots = slots;
    kept->size = size;
    return true;
}

/* The token; 0: there is no room. */
static uint64_t add_locked(struct kept *kept, struct job *job)
{
    if (kept->first_free == NO_SLOT && !grow_locked(kept))
        return 0;
    uint32_t index = kept->first_free;
    struct kept_slot *slot = &kept->slots[index];
    kept->first_free = slot->next_free;
    slot->job = job;
    return (uint64_t)slot->generation << 32 | (index + 1);
}

/* NULL: the token is not valid, or not any more. */
static struct job *find_locked(const struct kept *kept, uint64_t token)
{
    uint32_t index = (uint32_t)token - 1; /* 0 becomes the largest */

    if (index >= kept->size || kept->slots[index].generation != (uint32_t)(token >> 32))
        return NULL;
    return kept->slots[index].job;
}

static void remove_locked(struct kept *kept, const struct job *job)
{
    uint32_t index = (uint32_t)atomic_load(&job->token) - 1;
    struct kept_slot *slot = &kept->slots[index];

    slot->job = NULL;
    slot->generation++;
    slot->next_free = kept->first_free;
    kept->first_free = index;
}

/* ---- the handler's side ---- */

uint64_t exchange_keep(struct exchange *exchange)
{
    struct job *job = job_of_exchange(exchange);
    struct kept *kept = lock(kept_of(job));
    uint64_t token = atomic_load(&job->token);

    if (token == 0 && !kept->closed) {
        token = add_locked(kept, job);
        job->hold = HOLD_HANDLER;
        atomic_store(&job->token, token);
        /* What came before the loop could see the token; see wait note and drain note. */
        if (job_cancelled(job) != 0)
            job->notes |= KEPT_NOTE_CANCELLED;
        if (atomic_load(&job->loop->server->lame_duck))
            job->notes |= KEPT_NOTE_DRAINING;
    }
    unlock(kept);
    return token;
}

/* Nobody holds it. */
static void let_go_locked(struct kept *kept, struct job *job)
{
    job->hold = HOLD_FREE;
    if (job->notes != 0)
        job_tell(job, NEWS_LET_GO);
    (void)pthread_cond_broadcast(&kept->let_go);
}

void kept_release(struct job *job)
{
    struct kept *kept = lock(kept_of(job));

    if (job->hold == HOLD_HANDLER) /* else it has finished it already */
        let_go_locked(kept, job);
    unlock(kept);
}

/* ---- the side of those who hold it later ---- */

int exchange_hold(struct server *server, uint64_t token, struct exchange **ret_exchange)
{
    if (server->kept == NULL) /* it has not been started */
        return EXCHANGE_GONE;
    struct kept *kept = lock(server->kept);
    struct job *job = kept->closed ? NULL : find_locked(kept, token);
    int result = job == NULL ? EXCHANGE_GONE : job->hold == HOLD_FREE ? 0 : -EBUSY;

    if (result == 0) {
        job->hold = HOLD_TAKEN;
        kept->held++;
        *ret_exchange = &job->exchange;
    }
    unlock(kept);
    return result;
}

void exchange_let_go(struct exchange *exchange)
{
    struct job *job = job_of_exchange(exchange);
    struct kept *kept = lock(kept_of(job));

    kept->held--;
    let_go_locked(kept, job);
    unlock(kept);
}

void exchange_finish(struct exchange *exchange)
{
    struct job *job = job_of_exchange(exchange);

    job_end_hook(job);
    struct kept *kept = lock(kept_of(job));
    remove_locked(kept, job);
    kept->held -= job->hold == HOLD_TAKEN;
    job->hold = HOLD_DONE;
    (void)pthread_cond_broadcast(&kept->let_go);
    job_tell(job, NEWS_FINISHED);
    unlock(kept);
}

void exchange_on_kept(struct exchange *exchange, void (*told)(uint64_t token, int what, void *arg),
                      void *arg)
{
    struct job *job = job_of_exchange(exchange);
    struct kept *kept = lock(kept_of(job));

    job->told = told;
    job->told_arg = arg;
    unlock(kept);
}

int kept_close(struct kept *kept, uint64_t deadline_ns)
{
    struct timespec until = clock_timespec(deadline_ns);
    int err = 0;

    lock(kept);
    kept->closed = true;
    while (kept->held > 0 && err == 0)
        err = pthread_cond_timedwait(&kept->let_go, &kept->mu, &until);
    bool is_held = kept->held > 0;
    unlock(kept);
    return is_held ? -EBUSY : 0;
}

/* ---- the loop's side ---- */

static void call(const struct job *job, unsigned notes,
                 void (*told)(uint64_t token, int what, void *arg), void *arg)
{
    uint64_t token = atomic_load(&job->token);

    if (told == NULL)
        return;
    if (notes & KEPT_NOTE_DRAINING)
        told(token, EXCHANGE_DRAINING, arg);
    if (notes & KEPT_NOTE_ROOM)
        told(token, 0, arg);
    if (notes & KEPT_NOTE_CANCELLED)
        told(token, job_cancelled(job), arg);
}

void kept_tell(struct job *job, unsigned notes)
{
    struct kept *kept = lock(kept_of(job));
    void (*told)(uint64_t token, int what, void *arg) = job->told;
    void *arg = job->told_arg;

    job->notes |= notes;
    /* Without a function the notes stay, for the one that a later holder sets. */
    bool now = job->hold == HOLD_FREE && told != NULL;
    notes = job->notes;
    if (now)
        job->notes = 0;
    unlock(kept);
    if (now)
        call(job, notes, told, arg);
}

void kept_tell_left(struct job *job)
{
    kept_tell(job, 0);
}

bool kept_reclaim(struct job *job)
{
    struct kept *kept = lock(kept_of(job));
    bool is_free = job->hold == HOLD_FREE;

    if (is_free) {
        remove_locked(kept, job);
        job->hold = HOLD_DONE;
    } else {
        job->notes |= KEPT_NOTE_GONE;
    }
    unlock(kept);
    return is_free;
}

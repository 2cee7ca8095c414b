#include "cancels.h"

#include <pthread.h>
#include <stdlib.h>

#include "exchange_p.h"
#include "loop.h"
#include "server_state.h"
#include "thread.h"

/* A hook is a function that waits to be called. It stands outside of its job, because a job may end
 * while its hook waits or runs: a request that is kept and that no thread holds has no thread that
 * could take the hook back.
 *
 * Hook note. The holder sets `has_hook` and then looks whether the request is cancelled; the loop
 * cancels it and then looks at `has_hook`. All four are sequentially consistent, so at least one
 * sees the other. Both act under `mu`, where the first takes the hook, so it is called once. */

enum hook_state { HOOK_SET, HOOK_QUEUED, HOOK_RUNS };

struct cancel_hook {
    void (*call)(void *arg);
    void *arg;
    /* mu */
    enum hook_state state;
    struct job *job;          /* NULL: it has ended, or taken the hook back */
    struct cancel_hook *next; /* in the queue */
};

struct cancels {
    pthread_mutex_t mu;
    /* mu */
    pthread_cond_t changed; /* the queue, `stopping`, or a hook has returned */
    struct cancel_hook *first, **last;
    pthread_t thread;
    bool started, stopping;
};

struct cancels *cancels_create(void)
{
    struct cancels *cancels = calloc(1, sizeof(*cancels));

    if (cancels == NULL)
        return NULL;
    (void)pthread_mutex_init(&cancels->mu, NULL);
    (void)pthread_cond_init(&cancels->changed, NULL);
    cancels->last = &cancels->first;
    return cancels;
}

/* ---- the thread ---- */

static struct cancel_hook *pop_locked(struct cancels *cancels)
{
    struct cancel_hook *hook = cancels->first;

    cancels->first = hook->next;
    if (cancels->first == NULL)
        cancels->last = &cancels->first;
    return hook;
}

static void run_first_locked(struct cancels *cancels)
{
    struct cancel_hook *hook = pop_locked(cancels);

    hook->state = HOOK_RUNS;
    (void)pthread_mutex_unlock(&cancels->mu);
    hook->call(hook->arg);
    (void)pthread_mutex_lock(&cancels->mu);
    if (hook->job != NULL)
        hook->job->hook = NULL;
    free(hook);
    (void)pthread_cond_broadcast(&cancels->changed);
}

static void *cancels_main(void *arg)
{
    struct cancels *cancels = arg;

    (void)pthread_mutex_lock(&cancels->mu);
    while (!cancels->stopping || cancels->first != NULL) {
        if (cancels->first != NULL)
            run_first_locked(cancels);
        else
            (void)pthread_cond_wait(&cancels->changed, &cancels->mu);
    }
    (void)pthread_mutex_unlock(&cancels->mu);
    return NULL;
}

static int start_locked(struct cancels *cancels)
{
    if (cancels->started)
        return 0;
    int err = thread_start(&cancels->thread, "cancels", cancels_main, cancels);
    cancels->started = err == 0;
    return err;
}

void cancels_destroy(struct cancels *cancels)
{
    if (cancels == NULL)
        return;
    (void)pthread_mutex_lock(&cancels->mu);
    cancels->stopping = true;
    (void)pthread_cond_broadcast(&cancels->changed);
    (void)pthread_mutex_unlock(&cancels->mu);
    if (cancels->started)
        (void)pthread_join(cancels->thread, NULL);
    (void)pthread_cond_destroy(&cancels->changed);
    (void)pthread_mutex_destroy(&cancels->mu);
    free(cancels);
}

/* ---- the loop's side ---- */

void cancels_call(struct cancels *cancels, struct job *job)
{
    if (!atomic_load(&job->has_hook)) /* see hook note */
        return;
    (void)pthread_mutex_lock(&cancels->mu);
    struct cancel_hook *hook = job->hook;
    if (hook != NULL && hook->state == HOOK_SET) {
        hook->state = HOOK_QUEUED;
        hook->next = NULL;
        *cancels->last = hook;
        cancels->last = &hook->next;
        (void)pthread_cond_broadcast(&cancels->changed);
    }
    (void)pthread_mutex_unlock(&cancels->mu);
}

/* ---- the holder's side ---- */

static void remove_locked(struct cancels *cancels, const struct cancel_hook *hook)
{
    struct cancel_hook **at = &cancels->first;

    while (*at != hook)
        at = &(*at)->next;
    *at = hook->next;
    if (*at == NULL)
        cancels->last = at;
}

/* On return no hook of the job's is set, waits or runs. */
static void take_back_locked(struct cancels *cancels, struct job *job)
{
    while (job->hook != NULL && job->hook->state == HOOK_RUNS)
        (void)pthread_cond_wait(&cancels->changed, &cancels->mu);
    if (job->hook == NULL)
        return;
    if (job->hook->state == HOOK_QUEUED)
        remove_locked(cancels, job->hook);
    free(job->hook);
    job->hook = NULL;
}

static int set_locked(struct cancels *cancels, struct job *job, void (*cancel)(void *arg),
                      void *arg)
{
    int err = start_locked(cancels);
    if (err != 0)
        return err;
    job->hook = malloc(sizeof(*job->hook));
    if (job->hook == NULL)
        return -ENOMEM;
    *job->hook = (struct cancel_hook){.call = cancel, .arg = arg, .job = job};
    return 0;
}

int exchange_on_cancel(struct exchange *exchange, void (*cancel)(void *arg), void *arg)
{
    struct job *job = job_of_exchange(exchange);
    struct cancels *cancels = job->loop->server->cancels;
    bool is_late = false;
    int err = 0;

    (void)pthread_mutex_lock(&cancels->mu);
    take_back_locked(cancels, job);
    atomic_store(&job->has_hook, cancel != NULL);
    is_late = cancel != NULL && job_cancelled(job) != 0; /* see hook note */
    if (cancel != NULL && !is_late)
        err = set_locked(cancels, job, cancel, arg);
    (void)pthread_mutex_unlock(&cancels->mu);
    if (is_late)
        cancel(arg);
    return err;
}

void job_end_hook(struct job *job)
{
    struct exchange *exchange = &job->exchange;

    /* relaxed: only the holder sets it */
    if (atomic_load_explicit(&job->has_hook, memory_order_relaxed))
        (void)exchange_on_cancel(exchange, NULL, NULL);
}

void job_forget_hook(struct job *job)
{
    struct cancels *cancels = job->loop->server->cancels;

    if (!atomic_load(&job->has_hook))
        return;
    (void)pthread_mutex_lock(&cancels->mu);
    if (job->hook != NULL) {
        job->hook->job = NULL;
        if (job->hook->state == HOOK_SET)
            free(job->hook);
        job->hook = NULL;
    }
    (void)pthread_mutex_unlock(&cancels->mu);
}

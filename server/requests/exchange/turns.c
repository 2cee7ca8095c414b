#include "turns.h"

#include <pthread.h>
#include <stdlib.h>

#include "job_p.h"
#include "loop.h"
#include "server_state.h"

struct turns {
    /* immutable */
    unsigned most;
    uint64_t waiting_most;
    pthread_mutex_t mu;
    /* mu */
    unsigned running;
    uint64_t waiting;
    struct job *first, **last;
};

struct turns *turns_create(unsigned most, uint64_t waiting_most)
{
    struct turns *turns = calloc(1, sizeof(*turns));

    if (turns == NULL)
        return NULL;
    turns->most = most;
    turns->waiting_most = waiting_most;
    turns->last = &turns->first;
    (void)pthread_mutex_init(&turns->mu, NULL);
    return turns;
}

void turns_destroy(struct turns *turns)
{
    if (turns == NULL)
        return;
    (void)pthread_mutex_destroy(&turns->mu);
    free(turns);
}

static void append_locked(struct turns *turns, struct job *job)
{
    job->waits_turn = true;
    job->next_turn = NULL;
    *turns->last = job;
    turns->last = &job->next_turn;
    turns->waiting++;
}

static void remove_locked(struct turns *turns, struct job *job)
{
    struct job **at = &turns->first;

    while (*at != job)
        at = &(*at)->next_turn;
    *at = job->next_turn;
    if (*at == NULL)
        turns->last = at;
    job->waits_turn = false;
    turns->waiting--;
}

enum turn turns_enter(struct turns *turns, struct job *job)
{
    enum turn turn = TURN_NOW;

    (void)pthread_mutex_lock(&turns->mu);
    if (turns->running < turns->most) {
        turns->running++;
    } else if (turns->waiting < turns->waiting_most) {
        append_locked(turns, job);
        turn = TURN_LATER;
    } else {
        turn = TURN_NEVER;
    }
    (void)pthread_mutex_unlock(&turns->mu);
    return turn;
}

bool turns_forget(struct turns *turns, struct job *job)
{
    (void)pthread_mutex_lock(&turns->mu);
    bool waited = job->waits_turn;
    if (waited)
        remove_locked(turns, job);
    (void)pthread_mutex_unlock(&turns->mu);
    return waited;
}

/* The next job, which takes over the turn of the one that ends; NULL: none waits. */
static struct job *next(struct turns *turns)
{
    (void)pthread_mutex_lock(&turns->mu);
    struct job *job = turns->first;
    if (job != NULL)
        remove_locked(turns, job);
    else
        turns->running--;
    (void)pthread_mutex_unlock(&turns->mu);
    return job;
}

/* Its request may have gone meanwhile: then its run() returns at once. Its client's share of the
 * pool stays out of it, as it may have ended with the connection.
 *
 * It is due: it has a place in the pool's queue even if that is full. For it has waited in a list
 * with a bound of its own, and there are at most `most` of such jobs in the queue. If it could be
 * refused, nobody would be left to call the next one, where no other handler of the route runs, and
 * a queue that is full for a moment would shed all that wait. And no job is dropped for it, whose
 * own turn would end inside this call. */
void turns_leave(struct turns *turns)
{
    struct job *job;

    while ((job = next(turns)) != NULL) {
        job->pool_job.due = true;
        if (pool_submit(job->loop->server->pool, &job->pool_job) == 0)
            return;
        job->dropped = "the server ends\n"; /* the pool takes no job any more */
        job_tell(job, NEWS_RETURNED);
    }
}

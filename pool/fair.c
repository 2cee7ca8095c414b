#include "fair.h"

#include <stdlib.h>

#include "clock.h"
#include "require.h"

#define SINGLES_IN_A_ROW 3
#define KEEP_NS NS_PER_S

void fair_init(struct fair *fair, unsigned workers)
{
    *fair = (struct fair){.crowd_most = workers - workers / 4};
    fair->single_tail = &fair->single;
}

size_t fair_queued(const struct fair *fair)
{
    return fair->singles + fair->crowded;
}

static size_t quarter(size_t most)
{
    return most >= 4 ? most / 4 : 1;
}

bool fair_may_queue(const struct fair *fair, const struct pool_share *share, size_t most)
{
    return share == NULL || share->waiting < quarter(most) || fair_queued(fair) == share->waiting;
}

static void append(struct fair *fair, struct pool_share *share)
{
    share->next = NULL;
    if (fair->last != NULL)
        fair->last->next = share;
    else
        fair->first = share;
    fair->last = share;
    share->listed = true;
}

static struct pool_share *take_first(struct fair *fair)
{
    struct pool_share *share = fair->first;

    fair->first = share->next;
    if (fair->first == NULL)
        fair->last = NULL;
    share->listed = false;
    return share;
}

static void push_crowd(struct fair *fair, struct pool_job *job)
{
    struct pool_share *share = job->share;

    if (share->queued++ == 0)
        share->tail = &share->head;
    *share->tail = job;
    share->tail = &job->next;
    fair->crowded++;
    if (!share->listed)
        append(fair, share);
}

static void push_single(struct fair *fair, struct pool_job *job)
{
    *fair->single_tail = job;
    fair->single_tail = &job->next;
    fair->singles++;
    if (fair->crowded > 0 && job->came_ns != 0) /* see keep note */
        fair->kept_until_ns = job->came_ns + KEEP_NS;
}

void fair_push(struct fair *fair, struct pool_job *job)
{
    job->next = NULL;
    job->crowded = job->share != NULL && job->share->held > 0;
    fair->brief += job->brief;
    if (job->share != NULL) {
        job->share->held++;
        job->share->waiting++;
    }
    if (job->crowded)
        push_crowd(fair, job);
    else
        push_single(fair, job);
}

/* The ring has every client with a queued job of a crowd, and the numbers add up. */
static bool is_consistent(const struct fair *fair)
{
    size_t crowded = 0;

    for (const struct pool_share *at = fair->first; at != NULL; at = at->next) {
        if (!at->listed || at->queued == 0 || (at->next == NULL && at != fair->last))
            return false;
        crowded += at->queued;
    }
    return crowded == fair->crowded;
}

/* How many more jobs of crowds may start. */
static size_t crowd_room(const struct fair *fair, uint64_t now_ns)
{
    if (now_ns >= fair->kept_until_ns)
        return SIZE_MAX;
    return fair->crowd_running < fair->crowd_most ? fair->crowd_most - fair->crowd_running : 0;
}

size_t fair_ready(const struct fair *fair, uint64_t now_ns)
{
    size_t room = crowd_room(fair, now_ns);
    return fair->singles + (fair->crowded < room ? fair->crowded : room);
}

static struct pool_job *pop_single(struct fair *fair)
{
    struct pool_job *job = fair->single;

    REQUIRE(job != NULL && (job->share == NULL || job->share->waiting > 0));
    fair->single = job->next;
    if (fair->single == NULL)
        fair->single_tail = &fair->single;
    fair->singles--;
    fair->brief -= job->brief;
    if (job->share != NULL)
        job->share->waiting--;
    return job;
}

static struct pool_job *pop_crowd(struct fair *fair)
{
    struct pool_share *share = take_first(fair);
    struct pool_job *job = share->head;

    REQUIRE(share->queued > 0 && share->waiting >= share->queued);
    share->head = job->next;
    share->queued--;
    share->waiting--;
    fair->crowded--;
    fair->brief -= job->brief;
    fair->crowd_running++;
    if (share->queued > 0)
        append(fair, share);
    return job;
}

struct pool_job *fair_pop(struct fair *fair, uint64_t now_ns)
{
    bool crowd = fair->crowded > 0 && crowd_room(fair, now_ns) > 0;

    ASSERT(is_consistent(fair));

    if (fair->singles > 0 && (!crowd || fair->singles_in_a_row < SINGLES_IN_A_ROW)) {
        fair->singles_in_a_row = crowd ? fair->singles_in_a_row + 1 : 0;
        return pop_single(fair);
    }
    if (!crowd)
        return NULL;
    fair->singles_in_a_row = 0;
    return pop_crowd(fair);
}

void fair_end(struct fair *fair, struct pool_share *share, bool crowded)
{
    REQUIRE(!crowded || fair->crowd_running > 0);
    if (crowded)
        fair->crowd_running--;
    if (share == NULL)
        return;
    REQUIRE(share->held > 0);
    share->held--;
    if (share->held == 0 && share->released)
        free(share);
}

static struct pool_share *largest(const struct fair *fair)
{
    struct pool_share *largest = NULL;

    for (struct pool_share *at = fair->first; at != NULL; at = at->next)
        if (largest == NULL || at->queued > largest->queued)
            largest = at;
    return largest;
}

static void unlist(struct fair *fair, struct pool_share *share)
{
    struct pool_share **at = &fair->first, *before = NULL;

    while (*at != share) {
        before = *at;
        at = &(*at)->next;
    }
    *at = share->next;
    if (fair->last == share)
        fair->last = before;
    share->listed = false;
}

struct pool_job *fair_displace(struct fair *fair, const struct pool_share *share, size_t most)
{
    struct pool_share *from = largest(fair);

    if (from == NULL || from == share || from->waiting <= quarter(most) ||
        (share != NULL && share->waiting >= quarter(most)))
        return NULL;
    struct pool_job **at = &from->head;
    while ((*at)->next != NULL)
        at = &(*at)->next;
    struct pool_job *job = *at;
    if (job->dropped == NULL)
        return NULL;
    *at = NULL;
    from->tail = at;
    from->queued--;
    from->waiting--;
    fair->crowded--;
    fair->brief -= job->brief;
    fair->crowd_running++; /* fair_end() subtracts it again */
    if (from->queued == 0)
        unlist(fair, from);
    return job;
}

#ifndef LASTCALL_FAIR_H
#define LASTCALL_FAIR_H

/* The pool's queue: which job a worker takes next, and which job is dropped when the queue is full.
 * It has no lock and no thread of its own; its caller holds the pool's `mu`.
 *
 * A job is single if its client has no other job in the pool, else it is one of a crowd.
 *
 *     singles     one list, first in, first out
 *     crowds      a ring of clients, each with a list of its own; each client in turn gives one job
 *
 * Three single jobs run for each job of a crowd. So a client with one request waits for other
 * single requests, and not for the hundred that another client has sent at once; and the crowds
 * still move.
 *
 * Keep note. A worker that runs a crowd's job is not free for a single job until that job has
 * ended. So for a second after a single job came while crowds waited, crowds leave a quarter of the
 * workers free (rounded down: with fewer than four workers, none). If only one client uses the
 * pool, no single job comes, and that client has all workers.
 *
 * Quarter note. One client may fill the queue while it is alone. When another client finds the
 * queue full, the newest job of the largest crowd is dropped, if that crowd has more than a quarter
 * of the queue. And while others wait, a client that has a quarter of the queue is refused. */

#include "pool.h"

struct pool_share {
    struct pool_job *head, **tail; /* its jobs that wait in its crowd, oldest first */
    size_t queued;                 /* their number */
    size_t waiting;                /* and with a job that waits as a single one */
    size_t held;                   /* and with the jobs that run */
    struct pool_share *next;       /* in the ring */
    bool listed;
    bool released; /* its owner has gone: the call that takes out the last job frees it */
};

struct fair {
    struct pool_job *single, **single_tail;
    size_t singles;
    struct pool_share *first, *last; /* the ring: the next client, and the last one */
    size_t crowded;                  /* waiting jobs of crowds */
    size_t brief;                    /* waiting jobs that are expected to be short */
    size_t crowd_running;
    size_t crowd_most; /* while workers are kept for single jobs */
    unsigned singles_in_a_row;
    uint64_t kept_until_ns;
};

void fair_init(struct fair *fair, unsigned workers);
size_t fair_queued(const struct fair *fair);
/* May the client with this share (NULL: unknown) queue one more job, in a queue of `most`? */
bool fair_may_queue(const struct fair *fair, const struct pool_share *share, size_t most);
void fair_push(struct fair *fair, struct pool_job *job);
/* How many jobs may be taken now. */
size_t fair_ready(const struct fair *fair, uint64_t now_ns);
/* Take the next job out of the queue; NULL: none may be taken now. */
struct pool_job *fair_pop(struct fair *fair, uint64_t now_ns);
/* A job has ended; `share` and `crowded` are the job's fields. */
void fair_end(struct fair *fair, struct pool_share *share, bool crowded);
/* Take out the job that is dropped for one of `share`, from a crowd with more than a quarter of
 * `most`. NULL: no crowd has. The caller calls fair_end() for it. */
struct pool_job *fair_displace(struct fair *fair, const struct pool_share *share, size_t most);

#endif

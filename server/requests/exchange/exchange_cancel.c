#include <unistd.h>

#include "cancels.h"
#include "exchange_p.h"
#include "futex.h"
#include "kept.h"
#include "loop.h"
#include "server_state.h"
#include "wakeup.h"

/* A request that is cancelled, and how its holder learns of it: it asks, it sleeps and is woken, it
 * polls a descriptor, or a function of its own is called.
 *
 * Wait note. The holder reads `word`, then looks at its news (`why`, room in its stream, the
 * drain), and sleeps while the word is as it was. The loop publishes the news, then changes the
 * word, then wakes. So the holder sees the news, or the word has changed, or the wake-up reaches
 * it. Another thread may hold the exchange the next time; a wake-up that comes late makes it look
 * once more.
 *
 * Drain note. A drain that begins wakes only those that wait for it. The holder sets
 * `waits_for_drain` and then reads the server's `lame_duck`; that flag is set before the loops are
 * ordered to wake the holders, and a loop then reads `waits_for_drain`. All are sequentially
 * consistent, so the holder sees the drain, or the loop wakes it. */

void job_wake(struct job *job)
{
    (void)atomic_fetch_add(&job->word, 1);
    futex_wake(&job->word);
}

/* The descriptor is the holder's to make, and this loop's to close, with the job. */
static void ring(struct job *job)
{
    int fd = atomic_load(&job->cancel_fd);
    if (fd >= 0)
        wakeup_ring(fd);
}

void job_cancel(struct job *job, int why)
{
    int before = atomic_load_explicit(&job->why, memory_order_relaxed); /* this loop writes it */

    if (before != 0 && (before != WHY_END_OF_INPUT || why == WHY_END_OF_INPUT))
        return;
    atomic_store(&job->why, why);
    job_wake(job);
    if (job_is_kept(job))
        kept_tell(job, KEPT_NOTE_CANCELLED);
    if (before != 0) /* the holder has been told by these two */
        return;
    ring(job);
    cancels_call(job->loop->server->cancels, job);
}

/* It stores the descriptor and then looks whether the request is cancelled; job_cancel() does the
 * same in the other order. */
int exchange_cancel_fd(struct exchange *exchange)
{
    struct job *job = job_of_exchange(exchange);
    int fd = atomic_load(&job->cancel_fd);

    if (fd >= 0)
        return fd;
    fd = wakeup_open();
    if (fd < 0)
        return fd;
    atomic_store(&job->cancel_fd, fd);
    if (job_cancelled(job) != 0)
        wakeup_ring(fd);
    return fd;
}

/* Moves the requests in flight to the archive when a drain is cut short.
 *
 * The move has its own thread, because a disk may need more time than is left, and a thread that
 * waits for a disk cannot be ended. The coordinator then goes on without it, and the process ends;
 * the next start finishes the move (move note, archive.h). A program that has the server as a
 * library lives on, and the thread with it. So of the coordinator and the thread, the last one that
 * uses the job frees it. The last one that uses the journal frees that. */

#include "journal_p.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archive.h"
#include "clock.h"
#include "log.h"
#include "thread.h"

/* ---- the coordinator's move ---- */

struct move_job {
    struct journal *journal;
    enum unfinished_reason reason;
    uint64_t until_ns;
    bool skip[JOURNAL_PARTITIONS_MAX];
    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t over;
    bool is_over, is_left;
    int err;
    struct archive_moved moved;
};

static void free_job(struct move_job *job)
{
    (void)pthread_cond_destroy(&job->over);
    (void)pthread_mutex_destroy(&job->mu);
    free(job);
}

static struct move_job *make_job(struct journal *journal, enum unfinished_reason reason,
                                 bool loops_are_quiet, uint64_t until_ns)
{
    struct move_job *job = calloc(1, sizeof(*job));

    if (job == NULL)
        return NULL;
    job->journal = journal;
    job->reason = reason;
    job->until_ns = until_ns;
    (void)pthread_mutex_init(&job->mu, NULL);
    clock_cond_init(&job->over);
    /* acquire: pairs with journal_freeze(); the loop of a partition that is not frozen still writes
     */
    for (unsigned i = 0; i < journal->part_count; i++)
        job->skip[i] = !loops_are_quiet &&
                       !atomic_load_explicit(&journal->parts[i].frozen, memory_order_acquire);
    return job;
}

/* Two fifths of the time are for the flush; the lines that were written before that leave the
 * record. */
static uint64_t write_until_ns(uint64_t until_ns)
{
    uint64_t now_ns = clock_now_ns();
    return now_ns < until_ns ? now_ns + (until_ns - now_ns) / 5 * 3 : until_ns;
}

static int move_now(struct move_job *job, struct archive_moved *ret_moved)
{
    struct journal *journal = job->journal;
    int lock_fd;
    const struct archive_move move = {.dir = journal->dir,
                                      .bytes = journal->map,
                                      .size = journal->map_bytes,
                                      .skip = job->skip,
                                      .reason = job->reason,
                                      .until_ns = write_until_ns(job->until_ns)};

    int err = archive_lock(journal->dir, job->until_ns, &lock_fd);
    if (err != 0)
        return err;
    err = archive_move(&move, ret_moved);
    (void)close(lock_fd);
    return err;
}

/* Returns whether the owner has left the job to us. */
static bool move(struct move_job *job)
{
    struct archive_moved *moved = calloc(1, sizeof(*moved));
    int err = moved != NULL ? move_now(job, moved) : -ENOMEM;

    (void)pthread_mutex_lock(&job->mu);
    job->is_over = true;
    job->err = err;
    if (moved != NULL)
        job->moved = *moved;
    bool is_left = job->is_left;
    (void)pthread_cond_signal(&job->over);
    (void)pthread_mutex_unlock(&job->mu);
    free(moved);
    return is_left;
}

static void *move_thread(void *arg)
{
    struct move_job *job = arg;

    if (move(job)) {
        journal_drop(job->journal);
        free_job(job);
    }
    return NULL;
}

/* Returns whether the move has ended in time. */
static bool await(struct move_job *job)
{
    struct timespec until = clock_timespec(job->until_ns);
    int err = 0;

    (void)pthread_mutex_lock(&job->mu);
    while (!job->is_over && err == 0)
        err = pthread_cond_timedwait(&job->over, &job->mu, &until);
    bool is_over = job->is_over;
    if (!is_over) { /* relaxed: the mutex hands it over */
        job->is_left = true;
        (void)atomic_fetch_add_explicit(&job->journal->users, 1, memory_order_relaxed);
    }
    (void)pthread_mutex_unlock(&job->mu);
    return is_over;
}

static void log_left(const struct journal *journal, uint64_t left, int err)
{
    log_line(LOG_LEVEL_ERROR, "archive-failed",
             json_pack("{s:I, s:s}", "left", (json_int_t)left, "path", journal->path),
             "cannot archive %" PRIu64 " request%s: %s (on record in %s, and the next start "
             "archives them)",
             left, left == 1 ? "" : "s",
             err == 0            ? "its loop did not stop"
             : err == -ETIMEDOUT ? "there was no time left"
                                 : strerrordesc_np(-err),
             journal->path);
}

void journal_archive(struct journal *journal, enum unfinished_reason reason, bool loops_are_quiet,
                     uint64_t until_ns, struct journal_archived *ret_archived)
{
    struct move_job *job = make_job(journal, reason, loops_are_quiet, until_ns);
    pthread_t thread;
    int err = job == NULL ? -ENOMEM : 0;
    bool is_over = false;

    memset(ret_archived, 0, sizeof(*ret_archived));
    if (job != NULL) {
        err = thread_start(&thread, "archive", move_thread, job);
        if (err != 0) { /* no thread: move here, however long the disk takes */
            (void)move(job);
            is_over = true;
        } else {
            is_over = await(job);
            (void)(is_over ? pthread_join(thread, NULL) : pthread_detach(thread));
        }
        err = is_over ? job->err : -ETIMEDOUT;
    }
    if (is_over) {
        ret_archived->count = job->moved.count;
        if (job->moved.count > 0)
            memcpy(ret_archived->path, job->moved.path, sizeof(ret_archived->path));
        journal_count(&journal->archived, job->moved.count);
        free_job(job);
    }
    ret_archived->left = journal_count_left(journal);
    if (ret_archived->left > 0)
        log_left(journal, ret_archived->left, err);
}

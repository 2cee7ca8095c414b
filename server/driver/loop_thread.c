#include "loop_thread.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>

#include "accept.h"
#include "clock.h"
#include "close_listeners.h"
#include "deadline_cut.h"
#include "freeze.h"
#include "give_way.h"
#include "hand_off_take.h"
#include "hold.h"
#include "hooks.h"
#include "idle_close.h"
#include "job.h"
#include "journal.h"
#include "leave.h"
#include "make_room.h"
#include "mends.h"
#include "progress.h"
#include "proxy_loop.h"
#include "server_state.h"

/* What the thread of a loop does: one h2o context, one event loop, all that belongs to its
 * connections. The pool has the threads, and the stack that this runs on. */

static void end_turn(struct loop *loop)
{
    if (loop->handlers.turn_ns == 0)
        return;
    count_add(&loop->metrics.waits[loop_wait_bucket(loop->handlers.turn_ns)], 1);
    count_add(&loop->metrics.waited_ns, loop->handlers.turn_ns);
    loop->handlers.turn_ns = 0;
}

static void run_loop(struct loop *loop)
{
    bool thawed = false;

    while (!(loop->want.exit && h2o_linklist_is_empty(&loop->conns))) {
        doors_before_wait(loop);
        (void)h2o_evloop_run(loop->evloop, INT32_MAX);
        end_turn(loop);
        accept_end_turn(loop);
        give_way_look(loop);
        h2o_filecache_clear(loop->ctx.filecache); /* an open file is good for one turn */
        /* Between turns nothing of libh2o is on the stack. */
        if (loop->want.give_up && !loop->frozen) {
            loop->want.give_up = false;
            deadline_cut_due(loop,
                             atomic_load_explicit(&loop->server->given_up, memory_order_relaxed));
        }
        if (loop->want.list) {
            loop->want.list = false;
            freeze_list(loop);
        }
        if (loop->frozen && !thawed) {
            thawed = true;
            freeze_stay(loop);
        }
        if (loop->want.exit && !loop->frozen && !h2o_linklist_is_empty(&loop->conns)) {
            /* ORDER_EXIT with connections open: the start of the server failed half-way. */
            thawed = true;
            freeze_without_list(loop);
        }
    }
}

/* ---- life ---- */

/* On the loop's own thread: the library's socket buffers, and the chunks that it keeps for the next
 * ones, belong to the thread that makes the socket. */
static int set_up(struct loop *loop)
{
    struct server *server = loop->server;
    size_t listeners = server->listeners.count;

    loop->evloop = h2o_evloop_create();
    LSAN_DISABLED(h2o_context_init(&loop->ctx, loop->evloop, &server->globalconf));
    doors_open(loop);
    int err = fine_open(loop);
    if (err != 0)
        return err;
    loop->listeners = calloc(listeners, sizeof(*loop->listeners));
    if (loop->listeners == NULL)
        return -ENOMEM;
    loop->accepting.paused = true;
    for (size_t i = 0; i < listeners; i++) {
        err = accept_open(loop, i);
        if (err != 0)
            return err;
    }
    return hand_off_take_begin(loop);
}

/* Called on each thread that begins to drive the loop. */
static void driven(void *arg)
{
    struct loop *loop = arg;

    loop->owner = thread_self_id();
    give_way_driven(loop);
    between_calls_use(&loop->between_calls);
    ERR_clear_error(); /* of the handlers that this thread has run */
}

static void left(void *arg)
{
    (void)arg;
    between_calls_use(NULL);
}

static void body(void *arg)
{
    struct loop *loop = arg;
    struct server *server = loop->server;

    int err = set_up(loop);
    (void)pthread_mutex_lock(&server->mu);
    loop->start.error = err;
    loop->start.is_set_up = true;
    (void)pthread_cond_broadcast(&server->listed);
    while (!server->may_run) /* until all are: see loop_start() */
        (void)pthread_cond_wait(&server->listed, &server->mu);
    (void)pthread_mutex_unlock(&server->mu);
    if (err == 0)
        run_loop(loop);
    fine_close(loop);
    (void)pthread_mutex_lock(&server->mu);
    server->threads_left--;
    (void)pthread_cond_broadcast(&server->listed);
    (void)pthread_mutex_unlock(&server->mu);
}

int loop_init(struct loop *loop, struct server *server, unsigned index)
{
    loop->server = server;
    loop->hooks = &loop_hooks;
    loop->index = index;
    loop->record.part = server->journal != NULL ? journal_part(server->journal, index) : NULL;
    h2o_linklist_init_anchor(&loop->conns);
    h2o_linklist_init_anchor(&loop->bodies.arriving);
    h2o_linklist_init_anchor(&loop->fine.timers);
    h2o_linklist_init_anchor(&loop->inflight);
    h2o_linklist_init_anchor(&loop->leave.waiting);
    h2o_linklist_init_anchor(&loop->leave.asked);
    h2o_linklist_init_anchor(&loop->jobs.abandoned);
    h2o_linklist_init_anchor(&loop->hold.requests);
    return doors_init(&loop->doors);
}

int loop_start(struct loop *loop)
{
    const struct pool_loop what = {.body = body, .driven = driven, .left = left, .arg = loop};
    int err = pool_start_loop(loop->server->pool, loop->index, &what);

    if (err != 0)
        return err;
    /* One loop after the other, and none serves meanwhile: handlers of the library keep lists of
     * the contexts, without locks. */
    (void)pthread_mutex_lock(&loop->server->mu);
    while (!loop->start.is_set_up)
        (void)pthread_cond_wait(&loop->server->listed, &loop->server->mu);
    (void)pthread_mutex_unlock(&loop->server->mu);
    return 0;
}

void loop_release(struct loop *loop)
{
    if (loop->evloop == NULL)
        return;
    driven(loop);
    job_finish_all(loop); /* abandoned jobs; their handlers have ended */
    accept_leave_all(loop);
    hand_off_take_end(loop, false);
    close_listeners_stop(loop);
    idle_close_stop(loop);
    leave_stop(loop);
    progress_stop(loop);
    accept_stop(loop);
    make_room_stop(loop);
    hold_stop(loop);
    job_memory_release(loop);
    proxy_loop_release(loop);
    loop_ticks_release(loop);
    h2o_socket_close(loop->doors.sock);
    left_over_context(&loop->ctx);
    coord_requests_release(&loop->listing.list);
    free(loop->listeners);
    left(loop);
}

void loop_destroy(struct loop *loop)
{
    if (loop->evloop == NULL)
        return;
        /* The library does not dispose of a handler that file.custom-handler holds. Its timers stay
         * linked, and h2o_evloop_destroy() would fail on them. */
#ifndef __clang_analyzer__ /* it takes the links of a list for independent of each other */
    while (!h2o_linklist_is_empty(&loop->evloop->_timeouts))
        h2o_linklist_unlink(loop->evloop->_timeouts.next);
#endif
    left_over_evloop(loop->evloop);
}

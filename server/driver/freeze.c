#include "freeze.h"

#include "accept.h"
#include "close_listeners.h"
#include "conn.h"
#include "hand_off_take.h"
#include "hold.h"
#include "idle_close.h"
#include "job.h"
#include "leave.h"
#include "list.h"
#include "make_room.h"
#include "onrecord.h"
#include "progress.h"
#include "request.h"
#include "server_state.h"

/* A loop that stops answering, at the last deadline or a second signal, and lists what it leaves
 * unanswered. */

void freeze_list(struct loop *loop)
{
    struct server *server = loop->server;
    struct coord_requests list = {0};

    list_requests(loop, &list);
    if (loop->frozen)
        list_unread(loop, &list);
    (void)pthread_mutex_lock(&server->mu);
    coord_requests_release(&loop->listing.list);
    loop->listing.list = list;
    loop->listing.ready = true;
    loop->listing.is_frozen = loop->frozen;
    (void)pthread_cond_broadcast(&server->listed);
    (void)pthread_mutex_unlock(&server->mu);
}

static void cut_all(struct loop *loop)
{
    inflight_mark_resets(loop);
    for (h2o_linklist_t *node = loop->conns.next, *next; node != &loop->conns; node = next) {
        struct conn *conn = container_of(node, struct conn, link);
        next = node->next;
        if (conn->tunnel != NULL)
            conn->tunnel->kind->cut(conn->tunnel);
        else
            conn_cut(conn);
    }
    job_give_up_all(loop);
    hold_give_up_all(loop);
}

/* Timers and sockets of the loop that could still touch a connection. */
static void stop_parts(struct loop *loop)
{
    accept_leave_all(loop);
    close_listeners_stop(loop);
    accept_stop(loop);
    make_room_stop(loop);
    hand_off_take_end(loop, false);
    idle_close_stop(loop);
    progress_stop(loop);
    hold_stop(loop);
}

void freeze_stay(struct loop *loop)
{
    doors_shut(loop);
    job_disown_all(loop); /* before the list, or it could show a job as queued that then runs */
    if (loop->record.part != NULL)
        job_settle_states(loop);
    onrecord_freeze(loop);
    leave_freeze(loop);
    freeze_list(loop);
    bool stopped = false;
    for (;;) {
        /* Not before ORDER_STOP_JOBS: a worker that gets free would begin a job that another loop
         * has not disowned yet. See op_list_requests(), for_coord.c. */
        if (loop->want.stop_jobs && !stopped) {
            stopped = true;
            job_cancel_all(loop);
        }
        if (loop->want.cut || loop->want.exit)
            break;
        unsigned orders = doors_wait(loop);
        if (orders & ORDER_PING)
            count_add(&loop->watched.pongs, 1);
        loop->want.stop_jobs |= (orders & ORDER_STOP_JOBS) != 0;
        loop->want.cut |= (orders & ORDER_CUT) != 0;
        loop->want.exit |= (orders & ORDER_EXIT) != 0;
    }
    stop_parts(loop);
    cut_all(loop);
    doors_open(loop);
}

void freeze_without_list(struct loop *loop)
{
    loop->frozen = true;
    idle_close_stop(loop);
    leave_stop(loop);
    progress_stop(loop);
    hold_stop(loop);
    cut_all(loop);
}

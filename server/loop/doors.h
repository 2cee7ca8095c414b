#ifndef LASTCALL_DOORS_H
#define LASTCALL_DOORS_H

/* How other threads reach a loop: orders, and jobs that are done. See doors note, doors.c. */

#include <stdatomic.h>

#include "h2o_api.h"

struct loop;

/* Several orders at once are carried out in the order of orders.c; each is idempotent.
 */
enum loop_order {
    ORDER_LAME_DUCK = 1 << 0,       /* look at server->lame_duck */
    ORDER_CLOSING = 1 << 1,         /* measure round trips, ignore the connection limit */
    ORDER_LEAVE_LISTENERS = 1 << 2, /* stop accepting; the loop that closes goes on */
    ORDER_CLOSE_LISTENERS = 1 << 3, /* the others have left; to the closing loop only */
    ORDER_FINISH = 1 << 4,          /* from now on: GOAWAY, report when quiet */
    ORDER_RELEASE_IDLE = 1 << 5,
    ORDER_RESUME_ACCEPT = 1 << 6, /* below the connection limit again */
    ORDER_LIST = 1 << 7,          /* make the list of requests */
    ORDER_FREEZE = 1 << 8,        /* stop answering, then make the list */
    ORDER_CUT = 1 << 9,           /* close every connection; only after ORDER_FREEZE */
    ORDER_EXIT = 1 << 10,         /* leave the thread */
    ORDER_PING = 1 << 11,         /* count one in `pongs`; see watchdog.c */
    ORDER_GIVE_UP = 1 << 12,      /* look at server->given_up */
    ORDER_RELEASE_HELD = 1 << 13, /* the application answers: requests that wait for it go on */
    ORDER_HAND_OVER = 1 << 14,    /* a successor takes the connections that idle */
    ORDER_STOP_JOBS = 1 << 15,    /* raise the cancel flags; only after ORDER_FREEZE */
    ORDER_SHOW_IDLE = 1 << 16,    /* make_room.c: which connections idle longest? */
    ORDER_MAKE_ROOM = 1 << 17,    /* make_room.c: close some of them */
    ORDER_LEAVE = 1 << 18,        /* ask tunnels and event streams to end */
};

/* A job that is done, as the loop's stack holds it. */
struct done_link {
    struct done_link *next;
};

struct doors {
    int fd;             /* eventfd; immutable after start */
    h2o_socket_t *sock; /* owner loop: on `fd` */
    /* atomic: set by any thread with release, taken by the owner with acquire; see doors note */
    _Atomic unsigned orders;
    _Atomic(struct done_link *) done;
    _Atomic bool awake; /* written by the owner, read by workers; see awake note */
};

/* Errors: 0; a negative errno. */
int doors_init(struct doors *doors);

/* Have the loop's hooks called when an order or a job comes in.     Thread: owner loop only. */
void doors_open(struct loop *loop);

/* Stop calling them; orders still come in.     Thread: owner loop only. */
void doors_shut(struct loop *loop);

/* While they are shut: wait until one comes, and take the orders.
 * Thread: owner loop only.     Blocks: yes. */
unsigned doors_wait(struct loop *loop);

/* Thread: any.     Blocks: never. */
void loop_order(struct loop *loop, unsigned orders);

/* Give a job that is done to its loop.     Thread: any.     Blocks: never. */
void loop_push_done(struct loop *loop, struct done_link *link);

/* Take all jobs that are done, the first one first; NULL: there is none.
 * Thread: owner loop only. */
struct done_link *loop_take_done(struct loop *loop);

/* The loop will call doors_before_wait() soon, so workers need not wake it.
 * Thread: owner loop only. */
void doors_stay_awake(struct loop *loop);

/* Before the loop waits for events: take what came in since doors_stay_awake().
 * Thread: owner loop only, between two turns. */
void doors_before_wait(struct loop *loop);

/* A count went down: if the coordinator waits for zero, and this loop has reached it, tell it.
 * Thread: owner loop only. */
void loop_note_change(struct loop *loop);

#endif

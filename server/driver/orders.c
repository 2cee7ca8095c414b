#include "orders.h"

#include "accept.h"
#include "clock.h"
#include "close_listeners.h"
#include "hand_off.h"
#include "hold.h"
#include "idle_close.h"
#include "job.h"
#include "leave.h"
#include "loop.h"
#include "make_room.h"
#include "server_state.h"

/* What a loop does when an order comes in. */

static void set_say_close(struct loop *loop, bool on)
{
    loop->say_close = on;
    loop->ctx.shutdown_requested = on; /* for requests parsed later; request.c has the others */
    if (on)
        job_tell_of_drain(loop);
}

static void begin_handing_over(struct loop *loop)
{
    loop->handing = loop->server->successor.conns_fd >= 0;
    if (loop->handing && hand_off_idle(loop))
        idle_close_look_soon(loop);
}

static void begin_draining(struct loop *loop)
{
    loop->draining = true;
    loop->draining_since_ns = clock_now_ns();
    loop->idle_close.h2_spread_ns =
        atomic_load_explicit(&loop->server->spread_ns, memory_order_relaxed);
    idle_close_look_soon(loop);
    loop_note_change(loop); /* what changed before was not poked for; see poke note, coord.c */
}

static void begin_releasing(struct loop *loop)
{
    loop->released = true;
    loop->idle_close.released_since_ns = loop_now_ns(loop);
    loop->idle_close.h1_spread_ns =
        atomic_load_explicit(&loop->server->release_spread_ns, memory_order_relaxed);
    idle_close_look_soon(loop);
}

/* The orders of the drain, in the order of its phases. */
static void drain(struct loop *loop, unsigned orders)
{
    /* First, while no client was told to close: those that idle now will not notice. */
    if (orders & ORDER_HAND_OVER)
        begin_handing_over(loop);
    if (orders & ORDER_LAME_DUCK)
        set_say_close(loop, atomic_load_explicit(&loop->server->lame_duck, memory_order_relaxed));
    if (orders & ORDER_CLOSING)
        close_listeners_begin(loop);
    if (orders & ORDER_LEAVE_LISTENERS)
        close_listeners_leave(loop);
    if (orders & ORDER_CLOSE_LISTENERS)
        close_listeners_now(loop);
    if (orders & ORDER_FINISH)
        begin_draining(loop);
    if (orders & ORDER_RELEASE_IDLE)
        begin_releasing(loop);
    if (orders & ORDER_LEAVE)
        leave_begin(loop,
                    atomic_load_explicit(&loop->server->leave_spread_ns, memory_order_relaxed),
                    atomic_load_explicit(&loop->server->leave_moment_ns, memory_order_relaxed));
}

/* These wait for the end of the turn, when nothing of libh2o is on the stack: see loop_thread.c. */
static void note_wanted(struct loop *loop, unsigned orders)
{
    loop->want.give_up |= (orders & ORDER_GIVE_UP) != 0;
    loop->want.list |= (orders & ORDER_LIST) != 0;
    loop->frozen |= (orders & ORDER_FREEZE) != 0;
    loop->want.stop_jobs |= (orders & ORDER_STOP_JOBS) != 0;
    loop->want.cut |= (orders & ORDER_CUT) != 0;
    loop->want.exit |= (orders & ORDER_EXIT) != 0;
}

void orders_carry_out(struct loop *loop, unsigned orders)
{
    drain(loop, orders);
    if ((orders & ORDER_RESUME_ACCEPT) && loop->accepting.paused && !loop->frozen)
        accept_resume(loop);
    if ((orders & ORDER_SHOW_IDLE) && !loop->frozen)
        make_room_show(loop);
    if (orders & ORDER_MAKE_ROOM)
        make_room_do(loop);
    if (orders & ORDER_PING)
        count_add(&loop->watched.pongs, 1);
    if ((orders & ORDER_RELEASE_HELD) && !loop->frozen)
        hold_release_all(loop);
    note_wanted(loop, orders);
    job_finish_all(loop);
    loop_note_change(loop); /* an abandoned job may have been the last thing that is waited for */
}

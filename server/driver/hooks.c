#include "hooks.h"

#include "bodies.h"
#include "calm.h"
#include "conn.h"
#include "deferred_read.h"
#include "idle_close.h"
#include "linger.h"
#include "mends.h"
#include "orders.h"
#include "progress.h"
#include "tls_close.h"

/* Which files have something to do when a lower one reports an event. */

static void conn_opened(struct conn *conn)
{
    progress_begin(conn->loop);
}

static void conn_closed(struct conn *conn)
{
    tls_close_end(conn);
    calm_end(conn);
    deferred_read_end(conn);
    bodies_end(conn);
    strict_forget(conn);
}

const struct loop_hooks loop_hooks = {
    .woken = orders_carry_out,
    .conn_opened = conn_opened,
    .conn_closed = conn_closed,
    .conn_linger = linger_begin,
    .conn_stop_lingering = linger_end,
    .request_ended = idle_close_look_soon,
};

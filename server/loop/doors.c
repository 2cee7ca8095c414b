#include "doors.h"

#include <poll.h>

#include "loop.h"
#include "server_state.h"
#include "wakeup.h"

/* The doors of a loop.
 *
 * Doors note. Orders and jobs that are done come in from other threads in the same way: put the
 * thing where the loop looks (fetch_or, or a push onto the stack, both release), then write the
 * eventfd. The loop reads the eventfd first and takes the things second (exchange, acquire). So a
 * thing that was put before the loop took is taken, and one that was put after has its own write
 * to the eventfd still to be read: the loop wakes again. Nothing can be forgotten.
 *
 * Awake note. A loop that submits jobs is awake, and takes those that are done before it sleeps
 * again; to write the eventfd for these would cost each side a system call. The loop clears `awake`
 * and then looks at the stack; a worker pushes its job and then reads `awake`. All four are
 * sequentially consistent: either the worker sees that it has to write, or the loop sees the job.
 */

int doors_init(struct doors *doors)
{
    doors->fd = wakeup_open();
    return doors->fd < 0 ? doors->fd : 0;
}

static unsigned take_orders(struct loop *loop)
{
    wakeup_drain(loop->doors.fd); /* before taking; see doors note */
    /* acquire: pairs with the release in loop_order */
    return atomic_exchange_explicit(&loop->doors.orders, 0, memory_order_acquire);
}

static void on_wake(h2o_socket_t *sock, const char *err)
{
    struct loop *loop = sock->data;

    if (err == NULL)
        loop->hooks->woken(loop, take_orders(loop));
}

void doors_open(struct loop *loop)
{
    if (loop->doors.sock == NULL) {
        loop->doors.sock =
            h2o_evloop_socket_create(loop->evloop, loop->doors.fd, H2O_SOCKET_FLAG_DONT_READ);
        loop->doors.sock->data = loop;
    }
    h2o_socket_read_start(loop->doors.sock, on_wake);
}

void doors_shut(struct loop *loop)
{
    h2o_socket_read_stop(loop->doors.sock);
}

unsigned doors_wait(struct loop *loop)
{
    struct pollfd door = {.fd = loop->doors.fd, .events = POLLIN};

    (void)poll(&door, 1, -1);
    return take_orders(loop);
}

void loop_order(struct loop *loop, unsigned orders)
{
    /* release: pairs with the acquire in take_orders; see doors note */
    (void)atomic_fetch_or_explicit(&loop->doors.orders, orders, memory_order_release);
    wakeup_ring(loop->doors.fd);
}

void loop_push_done(struct loop *loop, struct done_link *link)
{
    struct done_link *head = atomic_load_explicit(&loop->doors.done, memory_order_relaxed);

    do
        link->next = head;
    while (!atomic_compare_exchange_weak(&loop->doors.done, &head, link)); /* see awake note */
    /* The thread that finds the stack empty wakes the loop; the others know that it will come. So a
     * loop under load is woken once for many jobs. */
    if (head == NULL && !atomic_load(&loop->doors.awake))
        loop_order(loop, 0);
}

void doors_stay_awake(struct loop *loop)
{
    /* relaxed: a worker that reads the old value writes the eventfd, and that does no harm */
    atomic_store_explicit(&loop->doors.awake, true, memory_order_relaxed);
}

void doors_before_wait(struct loop *loop)
{
    while (atomic_load_explicit(&loop->doors.awake, memory_order_relaxed)) {
        atomic_store(&loop->doors.awake, false); /* see awake note */
        if (atomic_load(&loop->doors.done) != NULL)
            loop->hooks->woken(loop, 0);
    }
}

struct done_link *loop_take_done(struct loop *loop)
{
    /* acquire: pairs with the release in loop_push_done */
    struct done_link *stack =
        atomic_exchange_explicit(&loop->doors.done, NULL, memory_order_acquire);
    struct done_link *queue = NULL;

    while (stack != NULL) {
        struct done_link *next = stack->next;
        stack->next = queue;
        queue = stack;
        stack = next;
    }
    return queue;
}

void loop_note_change(struct loop *loop)
{
    if (loop->draining && count_get(&loop->counts.active) == 0 &&
        count_get(&loop->counts.connections) == 0)
        coord_poke(loop->server->coord);
}

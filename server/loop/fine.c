#include "fine.h"

#include <errno.h>
#include <sys/timerfd.h>

#include "clock.h"
#include "loop.h"

/* The fine timers of a loop share one timerfd(2), which is made with the loop: at the end of a
 * drain there may be no descriptor left, and no time for it. The list is sorted by time. The
 * descriptor is set to the first one, or to one that was first and has been cleared: that costs one
 * turn of the loop without anything due, and no system call for each timer that is cleared. */

static void arm(struct loop *loop, uint64_t due_ns)
{
    const struct itimerspec at = {.it_value = clock_timespec(due_ns)};

    /* This also takes back the expiry that made the descriptor readable, so nobody reads it. */
    (void)timerfd_settime(h2o_socket_get_fd(loop->fine.sock), TFD_TIMER_ABSTIME, &at, NULL);
    loop->fine.armed_ns = due_ns;
}

static struct fine_timer *first(const struct loop *loop)
{
    return container_of(loop->fine.timers.next, struct fine_timer, link);
}

static void on_expiry(h2o_socket_t *sock, const char *err)
{
    struct loop *loop = sock->data;
    uint64_t now_ns = clock_now_ns();

    if (err != NULL)
        return;
    while (!h2o_linklist_is_empty(&loop->fine.timers) && first(loop)->due_ns <= now_ns) {
        struct fine_timer *timer = first(loop);
        h2o_linklist_unlink(&timer->link);
        timer->cb(timer); /* may set timers, this one too; those are due later than `now_ns` */
    }
    if (h2o_linklist_is_empty(&loop->fine.timers))
        arm(loop, 0); /* disarmed: timerfd_settime(2) */
    else if (loop->fine.armed_ns <= now_ns)
        arm(loop, first(loop)->due_ns);
}

int fine_open(struct loop *loop)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

    if (fd < 0)
        return -errno;
    loop->fine.sock = h2o_evloop_socket_create(loop->evloop, fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->fine.sock->data = loop;
    h2o_socket_read_start(loop->fine.sock, on_expiry);
    return 0;
}

void fine_set(struct loop *loop, struct fine_timer *timer, uint64_t due_ns)
{
    h2o_linklist_t *after = loop->fine.timers.prev;

    assert_owner(loop);
    fine_clear(timer);
    timer->due_ns = due_ns;
    /* From the end: most timers are due after those that were set before. */
    while (after != &loop->fine.timers &&
           container_of(after, struct fine_timer, link)->due_ns > due_ns)
        after = after->prev;
    h2o_linklist_insert(after->next, &timer->link);
    if (loop->fine.armed_ns == 0 || due_ns < loop->fine.armed_ns)
        arm(loop, due_ns);
}

void fine_clear(struct fine_timer *timer)
{
    if (h2o_linklist_is_linked(&timer->link))
        h2o_linklist_unlink(&timer->link);
}

void fine_close(struct loop *loop)
{
    if (loop->fine.sock != NULL)
        h2o_socket_close(loop->fine.sock);
    loop->fine.sock = NULL;
}

#include "loadgen_p.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

/* One run: create every slot, wait for sockets and timers, and know when it is over:
 *
 *     begins requests ---- duration, max_requests or the server's exit ---> stopped
 *     stopped ------------ every slot retired, deadline, or the server gone
 *                          and nothing outstanding ------------------------> over
 *
 * A slot that has nothing to do any more retires by itself; once `stopped` is set, one sweep tells
 * those that rest. */

#define GONE_CHECK_NS (5 * LOAD_NS_PER_MS)
#define EVENTS_MAX 256
#define NEVER UINT64_MAX

uint64_t load_clock_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* can not fail */
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

bool load_may_begin(const struct load *l)
{
    return !l->stopped;
}

/* --- timers: a binary heap of slots, the nearest due time at index 1 --- */

static void heap_place(struct load *l, size_t index, struct load_conn *c)
{
    l->heap[index] = c;
    c->heap_index = index;
}

static void heap_up(struct load *l, size_t index, struct load_conn *c)
{
    for (; index > 1 && l->heap[index / 2]->due_ns > c->due_ns; index /= 2)
        heap_place(l, index, l->heap[index / 2]);
    heap_place(l, index, c);
}

static void heap_down(struct load *l, size_t index, struct load_conn *c)
{
    for (size_t child = 2 * index; child <= l->heap_len; child = 2 * index) {
        if (child < l->heap_len && l->heap[child + 1]->due_ns < l->heap[child]->due_ns)
            child++;
        if (l->heap[child]->due_ns >= c->due_ns)
            break;
        heap_place(l, index, l->heap[child]);
        index = child;
    }
    heap_place(l, index, c);
}

void load_timer_clear(struct load_conn *c)
{
    struct load *l = c->load;
    size_t hole = c->heap_index;

    if (hole == 0)
        return;
    c->heap_index = 0;
    struct load_conn *last = l->heap[l->heap_len--];
    if (last == c)
        return;
    heap_up(l, hole, last);
    heap_down(l, last->heap_index, last);
}

void load_timer_set(struct load_conn *c, uint64_t due_ns)
{
    if (c->heap_index != 0 && c->due_ns == due_ns)
        return;
    load_timer_clear(c);
    c->due_ns = due_ns;
    heap_up(c->load, ++c->load->heap_len, c);
}

/* --- the run --- */

static void load_stop_if_due(struct load *l)
{
    if (l->now_ns >= l->stop_ns || l->gone)
        l->stopped = true;
    if (!l->stopped || l->swept)
        return;
    l->swept = true;
    for (unsigned i = 0; i < l->options->connections; i++)
        load_conn_settle(&l->conns[i]);
}

static void load_tick(struct load *l)
{
    const struct load_options *o = l->options;

    l->now_ns = load_clock_ns();
    if (l->now_ns >= l->signal_due_ns) {
        l->signal_due_ns = NEVER;
        l->result->signal_ns = l->now_ns;
        o->on_signal(o->on_signal_arg);
    }
    if (!l->gone && l->now_ns >= l->gone_check_ns) {
        l->gone_check_ns = l->now_ns + GONE_CHECK_NS;
        l->gone = o->server_is_gone(o->server_is_gone_arg);
    }
    load_stop_if_due(l);
    while (l->heap_len > 0 && l->heap[1]->due_ns <= l->now_ns && l->error == 0) {
        struct load_conn *c = l->heap[1];
        load_timer_clear(c);
        load_conn_settle(c);
    }
}

static bool load_is_over(const struct load *l)
{
    return l->error != 0 || l->retired == l->options->connections ||
           (l->gone && l->outstanding == 0) || l->now_ns >= l->deadline_ns;
}

static int load_timeout_ms(const struct load *l)
{
    uint64_t due = l->stopped ? l->deadline_ns : l->stop_ns;

    if (l->signal_due_ns < due)
        due = l->signal_due_ns;
    if (!l->gone && l->gone_check_ns < due)
        due = l->gone_check_ns;
    if (l->heap_len > 0 && l->heap[1]->due_ns < due)
        due = l->heap[1]->due_ns;
    if (due <= l->now_ns)
        return 0;
    uint64_t ms = (due - l->now_ns + LOAD_NS_PER_MS - 1) / LOAD_NS_PER_MS;
    return ms < 60000 ? (int)ms : 60000;
}

static void load_loop(struct load *l)
{
    struct epoll_event events[EVENTS_MAX];

    for (unsigned i = 0; i < l->options->connections && l->error == 0; i++)
        load_conn_settle(&l->conns[i]);
    for (load_tick(l); !load_is_over(l); load_tick(l)) {
        int n = epoll_wait(l->epoll_fd, events, EVENTS_MAX, load_timeout_ms(l));
        if (n < 0 && errno != EINTR)
            l->error = -errno;
        l->now_ns = load_clock_ns();
        for (int i = 0; i < n && l->error == 0; i++)
            load_conn_event(events[i].data.ptr, events[i].events);
    }
}

static void load_set_times(struct load *l)
{
    const struct load_options *o = l->options;

    l->start_ns = l->now_ns = load_clock_ns();
    l->stop_ns = l->start_ns + o->duration_ms * LOAD_NS_PER_MS;
    l->deadline_ns = l->stop_ns + o->patience_ms * LOAD_NS_PER_MS;
    l->signal_due_ns =
        o->on_signal != NULL ? l->start_ns + o->signal_after_ms * LOAD_NS_PER_MS : NEVER;
    l->gone_check_ns = o->server_is_gone != NULL ? l->start_ns : NEVER;
}

static int load_create_conns(struct load *l)
{
    const struct load_options *o = l->options;
    unsigned width = o->protocol == LOAD_HTTP2 && o->streams > 1 ? o->streams : 1;

    l->conns = calloc(o->connections, sizeof(*l->conns));
    l->rings = calloc((size_t)o->connections * width, sizeof(*l->rings));
    l->heap = calloc((size_t)o->connections + 1, sizeof(*l->heap)); /* [0] is not used */
    if (l->conns == NULL || l->rings == NULL || l->heap == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < o->connections; i++) {
        struct load_conn *c = &l->conns[i];
        c->load = l;
        c->number = i + 1;
        c->width = c->resting = width;
        c->rest_due_ns = l->rings + (size_t)i * width;
        c->fd = -1;
        int r = l->wire->create(c);
        if (r != 0)
            return r;
    }
    return 0;
}

static int load_create(const struct load_options *options, struct load_result *result,
                       struct load **ret_load)
{
    struct load *l = calloc(1, sizeof(*l));

    if (l == NULL)
        return -ENOMEM;
    *ret_load = l; /* half-built on failure; load_destroy() takes it */
    l->epoll_fd = -1;
    l->result = result;
    int r = load_options_apply(l, options);
    if (r == 0)
        r = l->wire->prepare(l);
    if (r == 0)
        r = load_create_conns(l);
    if (r != 0)
        return r;
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return l->epoll_fd < 0 ? -errno : 0;
}

static void load_destroy(struct load *l)
{
    if (l == NULL)
        return;
    for (unsigned i = 0; l->conns != NULL && i < l->options->connections; i++)
        l->wire->destroy(&l->conns[i]);
    if (l->epoll_fd >= 0)
        (void)close(l->epoll_fd);
    free(l->heap);
    free(l->rings);
    free(l->conns);
    free(l->request);
    free(l);
}

int load_run(const struct load_options *options, struct load_result *ret_result)
{
    struct load_result result = {0};
    struct load *l = NULL;

    int r = load_create(options, &result, &l);
    if (r == 0) {
        load_set_times(l);
        load_loop(l);
        for (unsigned i = 0; i < options->connections; i++)
            load_conn_wind_up(&l->conns[i]);
        load_count_finish(l);
        r = l->error;
    }
    if (r == 0)
        *ret_result = result;
    load_destroy(l);
    return r;
}

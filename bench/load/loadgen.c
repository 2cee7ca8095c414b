#include "loadgen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "loadgen_conn.h"
#include "loadgen_count.h"
#include "loadgen_crowd.h"
#include "loadgen_open.h"
#include "loadgen_options.h"
#include "loadgen_timer.h"
#include "loadgen_tls.h"
#include "loadgen_watch.h"

/* A run: create every slot, gather the crowd, wait for sockets and timers until the end:
 *
 *     begins requests ---- duration, max_requests or the server's exit ---> stopped
 *     stopped ------------ every slot has retired (and no process is watched),
 *                          the deadline, or the server has exited and no
 *                          request is outstanding -------------------------> over
 *
 * A slot retires when it has nothing more to do. When `stopped` is set, one sweep settles the slots
 * that rest. */

#define CHECK_NS (5 * NS_PER_MS)
#define EVENTS_MAX 256
#define NEVER UINT64_MAX

static void load_stop_at(struct load *l, uint64_t stop_ns)
{
    l->stop_ns = stop_ns;
    l->deadline_ns = stop_ns + l->options->patience_ms * NS_PER_MS;
}

static void load_stop_if_due(struct load *l)
{
    if (l->now_ns >= l->stop_ns || l->gone) {
        load_open_take_arrivals(l);
        l->stopped = true;
    }
    if (!l->stopped || l->swept)
        return;
    l->swept = true;
    for (unsigned i = 0; i < l->options->connections; i++)
        load_conn_settle(&l->conns[i]);
}

/* No timer is needed for signal_after_answers: each answer wakes the loop. */
static uint64_t load_signal_due_ns(const struct load *l)
{
    return l->result->answered >= l->options->signal_after_answers ? l->signal_due_ns : NEVER;
}

static void load_assign_arrivals(struct load *l)
{
    struct load_conn *c;

    if (l->stopped)
        return;
    load_open_take_arrivals(l);
    while (!l->stopped && l->error == 0 && (c = load_open_assign(l)) != NULL)
        load_conn_settle(c);
    load_open_stop_if_done(l);
}

static void load_tick(struct load *l)
{
    const struct load_options *o = l->options;

    l->now_ns = clock_now_ns();
    if (l->now_ns >= load_signal_due_ns(l)) {
        l->signal_due_ns = NEVER;
        l->result->signal_ns = l->now_ns;
        o->on_signal(o->on_signal_arg);
    }
    if (!l->gone && l->now_ns >= l->check_ns) {
        l->check_ns = l->now_ns + CHECK_NS;
        if (load_watch_poll(l))
            load_watch_gone(l);
        if (l->now_ns < l->stop_ns && o->is_enough != NULL && o->is_enough(o->is_enough_arg))
            load_stop_at(l, l->now_ns);
    }
    load_stop_if_due(l);
    while (l->heap_len > 0 && l->heap[1]->due_ns <= l->now_ns && l->error == 0) {
        struct load_conn *c = l->heap[1];
        load_timer_clear(c);
        load_conn_due(c);
    }
    load_assign_arrivals(l);
}

static bool load_is_over(const struct load *l)
{
    if (l->error != 0 || l->now_ns >= l->deadline_ns)
        return true;
    if (l->gone)
        return l->outstanding == 0;
    return l->retired == l->options->connections && l->options->server_pid == 0;
}

static uint64_t load_due_ns(const struct load *l)
{
    uint64_t due = !l->stopped ? l->stop_ns : l->swept ? l->deadline_ns : l->now_ns;
    uint64_t arrival_ns = load_open_due_ns(l);

    if (arrival_ns < due)
        due = arrival_ns;
    if (load_signal_due_ns(l) < due)
        due = load_signal_due_ns(l);
    if (!l->gone && l->check_ns < due)
        due = l->check_ns;
    if (l->heap_len > 0 && l->heap[1]->due_ns < due)
        due = l->heap[1]->due_ns;
    return due;
}

/* In nanoseconds: with a time-out in milliseconds an open loop would send in bursts. */
static int load_wait(struct load *l, struct epoll_event *events, uint64_t due)
{
    uint64_t ns = due > l->now_ns ? due - l->now_ns : 0;
    struct timespec timeout = clock_timespec(ns);

    int n = epoll_pwait2(l->epoll_fd, events, EVENTS_MAX, &timeout, NULL);
    if (n < 0 && errno == ENOSYS) /* before Linux 5.11 */
        n = epoll_wait(l->epoll_fd, events, EVENTS_MAX, clock_poll_ms(0, ns));
    if (n < 0 && errno != EINTR)
        l->error = -errno;
    l->now_ns = clock_now_ns();
    return n;
}

static void load_event(struct load *l, const struct epoll_event *event)
{
    if (event->data.ptr == l)
        load_watch_gone(l);
    else
        load_conn_event(event->data.ptr, event->events);
}

static void load_set_times(struct load *l)
{
    const struct load_options *o = l->options;

    l->start_ns = l->now_ns = l->result->start_ns = clock_now_ns();
    load_stop_at(l, l->start_ns + o->duration_ms * NS_PER_MS);
    l->signal_due_ns = o->on_signal != NULL ? l->start_ns + o->signal_after_ms * NS_PER_MS : NEVER;
    bool polls = o->server_is_gone != NULL || o->is_enough != NULL ||
                 (o->server_pid > 0 && l->server_pidfd < 0);
    l->check_ns = polls ? l->start_ns : NEVER;
}

static void load_turn(struct load *l, uint64_t due_ns)
{
    struct epoll_event events[EVENTS_MAX];
    int n = load_wait(l, events, due_ns);

    for (int i = 0; i < n && l->error == 0; i++)
        load_event(l, &events[i]);
}

/* The crowd connects before the load begins, within `patience_ms`. */
static void load_gather(struct load *l)
{
    uint64_t deadline_ns = l->now_ns + l->options->patience_ms * NS_PER_MS;

    for (load_crowd_gather(l); !load_crowd_is_gathered(l); load_crowd_gather(l)) {
        if (l->gone || l->error != 0 || l->now_ns >= deadline_ns)
            return;
        load_turn(l, deadline_ns);
    }
}

static void load_loop(struct load *l)
{
    for (unsigned i = 0; i < l->options->connections && l->error == 0; i++)
        load_conn_settle(&l->conns[i]);
    for (load_tick(l); !load_is_over(l); load_tick(l))
        load_turn(l, load_due_ns(l));
}

static int load_create_conns(struct load *l)
{
    const struct load_options *o = l->options;
    unsigned width = o->protocol == LOAD_HTTP2             ? o->streams
                     : o->protocol == LOAD_HTTP1_KEEPALIVE ? o->pipeline
                                                           : 1;

    width = width > 1 ? width : 1;
    l->conns_len = o->connections + o->idle + o->silent;
    l->crowd_next = o->connections;
    l->conns = calloc(l->conns_len, sizeof(*l->conns));
    l->rings = calloc((size_t)o->connections * width + o->idle + o->silent, sizeof(*l->rings));
    l->heap = calloc((size_t)o->connections + 1, sizeof(*l->heap)); /* [0] is not used */
    if (l->conns == NULL || l->rings == NULL || l->heap == NULL)
        return -ENOMEM;
    uint64_t *ring = l->rings;
    for (unsigned i = 0; i < l->conns_len; i++) {
        struct load_conn *c = &l->conns[i];
        c->load = l;
        c->number = i + 1;
        c->role = i < o->connections             ? LOAD_ROLE_CLIENT
                  : i < o->connections + o->idle ? LOAD_ROLE_IDLE
                                                 : LOAD_ROLE_SILENT;
        c->width = c->resting = c->role == LOAD_ROLE_CLIENT ? width : 1;
        c->rest_due_ns = ring;
        ring += c->width;
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
    *ret_load = l; /* load_destroy() accepts it half-built */
    l->crowd = &load_crowd_hooks;
    l->epoll_fd = l->server_pidfd = -1;
    l->result = result;
    if (options->timeline != NULL)
        memset(options->timeline, 0, sizeof(*options->timeline));
    if (options->latencies != NULL)
        memset(options->latencies, 0, sizeof(*options->latencies));
    int r = load_options_apply(l, options);
    if (r == 0)
        r = l->wire->prepare(l);
    if (r == 0)
        r = load_create_conns(l);
    if (r == 0)
        r = load_open_create(l);
    if (r == 0)
        r = load_tls_create(l);
    if (r != 0)
        return r;
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return l->epoll_fd < 0 ? -errno : load_watch_open(l);
}

static void load_destroy(struct load *l)
{
    if (l == NULL)
        return;
    for (unsigned i = 0; l->conns != NULL && i < l->conns_len; i++)
        l->wire->destroy(&l->conns[i]);
    load_watch_close(l);
    load_open_destroy(l);
    load_tls_destroy(l);
    if (l->epoll_fd >= 0)
        (void)close(l->epoll_fd);
    free(l->heap);
    free(l->rings);
    free(l->conns);
    if (l->wire != NULL)
        l->wire->forget(l);
    free(l);
}

int load_run(const struct load_options *options, struct load_result *ret_result)
{
    struct load_result result = {0};
    struct load *l = NULL;

    int r = load_create(options, &result, &l);
    if (r == 0) {
        l->now_ns = clock_now_ns();
        load_gather(l);
        load_set_times(l);
        load_loop(l);
        for (unsigned i = 0; i < options->connections; i++)
            load_conn_wind_up(&l->conns[i]);
        for (unsigned i = options->connections; i < l->conns_len; i++)
            load_crowd_wind_up(&l->conns[i]);
        load_count_finish(l);
        r = l->error;
    }
    if (r == 0)
        *ret_result = result;
    load_destroy(l);
    return r;
}

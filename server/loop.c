#include "server_p.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "log.h"

/* A loop thread: one h2o context, one event loop, all that belongs to its connections.
 *
 * Doors note. Orders and finished jobs come in from other threads in the same way: put the thing
 * where the loop looks (fetch_or, or a push onto the stack, both release), then write the eventfd.
 * The loop reads the eventfd first and takes the things second (exchange, acquire). So a thing that
 * was put before the loop took is taken, and one that was put after has its own write to the
 * eventfd still to be read: the loop comes by again. A thing can not be left lying.
 *
 * Closing the listeners. Every loop accepts from its own dup(2) of each listener. The coordinator
 * keeps newcomers out (listener_stop_newcomers) and orders ORDER_CLOSING; loop 0, the closing loop,
 * then watches the accept queues. When they have been empty for the settle time it orders the
 * others to leave; the last one to leave orders the closing loop to accept until EAGAIN and close.
 * The queue goes away with its last descriptor, so this must be one loop's doing, and the last
 * one's.
 *
 * The settle time is two round trips of the slowest peer seen, at least a millisecond: a client
 * that got our SYN-ACK believes it is connected, and its ACK, with its request behind it, is on the
 * way. */

#define ACCEPTS_A_TURN 16
#define SETTLE_MIN_NS (1 * NS_PER_MS)
#define SETTLE_UNKNOWN_NS (100 * NS_PER_MS)
#define RTT_SAMPLES 1024

static bool is_closing_loop(const struct loop *loop)
{
    return loop->index == 0;
}

/* ---- time ---- */

static bool tick_exists(const struct loop *loop, size_t tick)
{
    return loop->ticks[tick].timeout != 0;
}

void loop_tick(struct loop *loop, enum loop_tick tick, h2o_timeout_entry_t *entry)
{
    static const uint64_t ms[TICK_COUNT] = {1, 10, 100};

    if (!tick_exists(loop, tick))
        h2o_timeout_init(loop->evloop, &loop->ticks[tick], ms[tick]);
    h2o_timeout_link(loop->evloop, &loop->ticks[tick], entry);
}

uint64_t loop_now_ns(struct loop *loop)
{
    /* The library reads its clock once a turn, in milliseconds: as long as it shows the same one,
     * our last look at ours is young enough. */
    if (loop->now_of_turn != h2o_now(loop->evloop)) {
        loop->now_of_turn = h2o_now(loop->evloop);
        loop->now_ns = clock_now_ns();
    }
    return loop->now_ns;
}

/* ---- accepting ---- */

#define RTT_EVERY_NS (1 * NS_PER_MS)
#define RTT_WINDOW_NS (60 * NS_PER_S)

/* Keep the longest round trip of the peers: how long a handshake under way may take is asked when
 * the listeners close, and there may be no other connection to ask by then. */
static void note_rtt(struct loop *loop, int fd)
{
    uint64_t rtt_ns = listener_peer_rtt_ns(fd), now_ns = loop_now_ns(loop);

    /* relaxed: one writer; the closing loop reads an estimate */
    uint64_t longest_ns = atomic_load_explicit(&loop->max_rtt_ns, memory_order_relaxed);
    if (now_ns - loop->rtt_window_ns > RTT_WINDOW_NS) { /* a peer of long ago does not count */
        longest_ns = loop->rtt_window_max_ns;
        loop->rtt_window_ns = now_ns;
        loop->rtt_window_max_ns = 0;
    }
    if (rtt_ns > loop->rtt_window_max_ns)
        loop->rtt_window_max_ns = rtt_ns;
    if (rtt_ns > longest_ns)
        longest_ns = rtt_ns;
    atomic_store_explicit(&loop->max_rtt_ns, longest_ns, memory_order_relaxed);
}

/* One system call a connection would be too many under a storm of them; one a millisecond is not.
 */
static bool wants_rtt(struct loop *loop)
{
    uint64_t now_ns = loop_now_ns(loop);
    if (!loop->closing && now_ns - loop->rtt_sampled_ns < RTT_EVERY_NS)
        return false;
    loop->rtt_sampled_ns = now_ns;
    return true;
}

static void pause_accepting(struct loop *loop)
{
    loop->accept_paused = true;
    for (size_t i = 0; i < loop->server->listeners.count; i++)
        if (loop->listeners[i].sock != NULL)
            h2o_socket_read_stop(loop->listeners[i].sock);
}

static void on_listener(h2o_socket_t *sock, const char *err);

static void resume_accepting(struct loop *loop)
{
    loop->accept_paused = false;
    for (size_t i = 0; i < loop->server->listeners.count; i++)
        /* `stays` says something once the close has begun: then others accept there. */
        if (loop->listeners[i].sock != NULL &&
            !(loop->closing && loop->server->listeners.items[i].stays))
            h2o_socket_read_start(loop->listeners[i].sock, on_listener);
}

static void on_retry_accept(h2o_timeout_entry_t *entry)
{
    struct loop *loop = container_of(entry, struct loop, retry_accept_timer);
    resume_accepting(loop);
}

/* Out of descriptors or memory: the connection stays in the kernel's queue, try again soon. */
static void accept_later(struct loop *loop, int err)
{
    static _Atomic bool said; /* relaxed: saying it twice would do no harm */
    if (!atomic_exchange_explicit(&said, true, memory_order_relaxed))
        log_line(
            LOG_LEVEL_WARN, "accept-failed", NULL,
            "cannot accept a connection: %s (it waits and is tried again; raise the limit with "
            "ulimit -n, or set --max-connections; said once)",
            strerrordesc_np(err));
    if (!loop->accept_paused)
        pause_accepting(loop);
    loop->retry_accept_timer.cb = on_retry_accept;
    if (!h2o_timeout_is_linked(&loop->retry_accept_timer))
        loop_tick(loop, TICK_10_MS, &loop->retry_accept_timer);
}

enum accept_end { ACCEPT_MORE, ACCEPT_DRY, ACCEPT_STUCK };

static enum accept_end accept_one(struct loop_listener *ll)
{
    struct loop *loop = ll->loop;
    bool is_tcp = ll->listener->family != AF_UNIX;

    if (!conn_admit(loop))
        return ACCEPT_STUCK;
    for (;;) {
        h2o_socket_t *sock = h2o_evloop_socket_accept(ll->sock);
        if (sock != NULL) {
            if (is_tcp && wants_rtt(loop))
                note_rtt(loop, h2o_socket_get_fd(sock));
            conn_open(ll, sock);
            return ACCEPT_MORE;
        }
        int err = errno;
        /* accept(2): errors of the connection itself, which is gone, come in place of it. */
        if (err == EINTR || err == ECONNABORTED || err == EPROTO || err == ENETDOWN ||
            err == ENOPROTOOPT || err == EHOSTDOWN || err == ENONET || err == EHOSTUNREACH ||
            err == EOPNOTSUPP || err == ENETUNREACH || err == ETIMEDOUT || err == EPERM) {
            count_add(&loop->metrics.accept_errors, 1);
            continue;
        }
        conn_unadmit(loop);
        /* EINVAL: a Unix-domain listener after shutdown(2), with an empty queue. */
        if (err == EAGAIN || err == EINVAL)
            return ACCEPT_DRY;
        count_add(&loop->metrics.accept_errors, 1);
        accept_later(loop, err);
        return ACCEPT_STUCK;
    }
}

static void on_listener(h2o_socket_t *sock, const char *err)
{
    struct loop_listener *ll = sock->data;

    if (err != NULL)
        return;
    for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
        enum accept_end end = accept_one(ll);
        if (end == ACCEPT_STUCK)
            pause_accepting(ll->loop);
        /* Once shut down, a Unix-domain listener is readable for good: only the close needs it. */
        if (end == ACCEPT_DRY && ll->loop->closing && ll->listener->family == AF_UNIX)
            h2o_socket_read_stop(sock);
        if (end != ACCEPT_MORE)
            return;
    }
}

/* ---- closing the listeners ---- */

static void leave_listener(struct loop_listener *ll)
{
    if (ll->sock == NULL)
        return;
    h2o_socket_close(ll->sock);
    ll->sock = NULL;
}

static void leave_listeners(struct loop *loop)
{
    struct server *server = loop->server;

    if (is_closing_loop(loop))
        return;
    for (size_t i = 0; i < server->listeners.count; i++)
        leave_listener(&loop->listeners[i]);
    pass_end_taking(loop, false);
    /* acq_rel: the closing loop must come after every other loop's last accept */
    if (atomic_fetch_sub_explicit(&server->loops_accepting, 1, memory_order_acq_rel) == 2)
        loop_order(&server->loops[0], ORDER_CLOSE_LISTENERS);
}

static void on_settle(h2o_timeout_entry_t *entry);

static void settle_again(struct loop *loop)
{
    loop->settle_timer.cb = on_settle;
    if (!h2o_timeout_is_linked(&loop->settle_timer))
        loop_tick(loop, TICK_1_MS, &loop->settle_timer);
}

static bool all_are_local(const struct server *server)
{
    for (size_t i = 0; i < server->listeners.count; i++)
        if (!server->listeners.items[i].is_local && !server->listeners.items[i].stays)
            return false;
    return true;
}

static bool all_stay(const struct server *server)
{
    for (size_t i = 0; i < server->listeners.count; i++)
        if (!server->listeners.items[i].stays)
            return false;
    return true;
}

static uint64_t settle_time_ns(struct server *server)
{
    uint64_t longest_ns = 0;

    if (all_stay(server)) /* nothing closes */
        return 0;
    for (unsigned i = 0; i < server->options->threads; i++) {
        uint64_t rtt_ns = atomic_load_explicit(&server->loops[i].max_rtt_ns, memory_order_relaxed);
        if (rtt_ns > longest_ns)
            longest_ns = rtt_ns;
    }
    uint64_t settle_ns = 2 * longest_ns;
    if (longest_ns == 0 && !all_are_local(server))
        settle_ns = SETTLE_UNKNOWN_NS; /* nobody has come yet, so nobody knows how far they are */
    if (settle_ns < SETTLE_MIN_NS)
        settle_ns = SETTLE_MIN_NS;
    return settle_ns < server->options->settle_max_ns ? settle_ns : server->options->settle_max_ns;
}

static bool queues_are_empty(const struct server *server)
{
    for (size_t i = 0; i < server->listeners.count; i++)
        if (!server->listeners.items[i].stays &&
            listener_queue_length(&server->listeners.items[i]) > 0)
            return false;
    return true;
}

static void settle(struct loop *loop)
{
    struct server *server = loop->server;
    uint64_t now_ns = clock_now_ns();

    if (!queues_are_empty(server))
        loop->settle_quiet_since_ns = now_ns;
    if (now_ns - loop->settle_quiet_since_ns < settle_time_ns(server) &&
        now_ns - loop->settle_began_ns < server->options->settle_max_ns) {
        settle_again(loop);
        return;
    }
    if (server->options->threads == 1) {
        loop_order(loop, ORDER_CLOSE_LISTENERS);
        return;
    }
    for (unsigned i = 1; i < server->options->threads; i++)
        loop_order(&server->loops[i], ORDER_LEAVE_LISTENERS);
}

static void on_settle(h2o_timeout_entry_t *entry)
{
    settle(container_of(entry, struct loop, settle_timer));
}

static void begin_closing(struct loop *loop)
{
    unsigned samples = 0;

    if (loop->closing)
        return;
    loop->closing = true;
    for (h2o_linklist_t *node = loop->conns.prev; node != &loop->conns && samples < RTT_SAMPLES;
         node = node->prev, samples++) {
        struct conn *conn = container_of(node, struct conn, link);
        if (conn->is_tcp && conn->sock != NULL)
            note_rtt(loop, h2o_socket_get_fd(conn->sock));
    }
    if (loop->accept_paused && !h2o_timeout_is_linked(&loop->retry_accept_timer))
        resume_accepting(loop);
    if (is_closing_loop(loop)) {
        loop->settle_began_ns = loop->settle_quiet_since_ns = clock_now_ns();
        settle(loop);
    }
}

static void close_listeners(struct loop *loop);

static void on_retry_close(h2o_timeout_entry_t *entry)
{
    close_listeners(container_of(entry, struct loop, settle_timer));
}

static void close_listeners(struct loop *loop)
{
    struct server *server = loop->server;

    pass_end_taking(loop, true);
    for (size_t i = 0; i < server->listeners.count; i++) {
        struct loop_listener *ll = &loop->listeners[i];
        enum accept_end end = ACCEPT_MORE;
        if (ll->sock == NULL)
            continue;
        while (end == ACCEPT_MORE && !ll->listener->stays)
            end = accept_one(ll);
        if (end == ACCEPT_STUCK) { /* no descriptor left: they are freed as answers end */
            loop->settle_timer.cb = on_retry_close;
            if (!h2o_timeout_is_linked(&loop->settle_timer))
                loop_tick(loop, TICK_1_MS, &loop->settle_timer);
            continue;
        }
        leave_listener(ll);
        (void)pthread_mutex_lock(&server->mu); /* see server_offer() */
        listener_close(ll->listener);
        (void)pthread_mutex_unlock(&server->mu);
        /* release: pairs with the acquire in op_census; whoever sees the last one closed sees the
         * connections that came in through it counted */
        atomic_fetch_sub_explicit(&server->listeners_open, 1, memory_order_release);
    }
    if (atomic_load_explicit(&server->listeners_open, memory_order_relaxed) == 0)
        coord_poke(server->coord);
}

/* ---- the doors ---- */

void loop_order(struct loop *loop, unsigned orders)
{
    uint64_t one = 1;

    /* release: pairs with the acquire in on_wake; see doors note */
    (void)atomic_fetch_or_explicit(&loop->orders, orders, memory_order_release);
    /* A full counter (EAGAIN) is readable too: the loop wakes all the same. */
    (void)!write(loop->wake_fd, &one, sizeof(one));
}

void loop_note_change(struct loop *loop)
{
    if (loop->draining && count_get(&loop->counts.active) == 0 &&
        count_get(&loop->counts.connections) == 0)
        coord_poke(loop->server->coord);
}

static void set_say_close(struct loop *loop, bool on)
{
    loop->say_close = on;
    loop->ctx.shutdown_requested = on; /* for requests parsed from now on; gate.c has the others */
}

static void carry_out(struct loop *loop, unsigned orders)
{
    /* First, while nobody has been told to close: who idles now will not notice. */
    if (orders & ORDER_HAND_OVER) {
        loop->handing = loop->server->successor.conns_fd >= 0;
        if (loop->handing && pass_idle(loop))
            letgo_look_soon(loop);
    }
    if (orders & ORDER_LAME_DUCK)
        set_say_close(loop, atomic_load_explicit(&loop->server->lame_duck, memory_order_relaxed));
    if (orders & ORDER_CLOSING)
        begin_closing(loop);
    if (orders & ORDER_LEAVE_LISTENERS)
        leave_listeners(loop);
    if (orders & ORDER_CLOSE_LISTENERS)
        close_listeners(loop);
    if (orders & ORDER_FINISH) {
        loop->draining = true;
        loop->draining_since_ns = clock_now_ns();
        loop->spread_ns = atomic_load_explicit(&loop->server->spread_ns, memory_order_relaxed);
        letgo_look_soon(loop);
        loop_note_change(loop); /* what changed before was not poked for; see poke note, coord.c */
    }
    if (orders & ORDER_RELEASE_IDLE) {
        loop->released = true;
        loop->released_since_ns = loop_now_ns(loop);
        loop->release_spread_ns =
            atomic_load_explicit(&loop->server->release_spread_ns, memory_order_relaxed);
        letgo_look_soon(loop);
    }
    if ((orders & ORDER_RESUME_ACCEPT) && loop->accept_paused && !loop->frozen)
        resume_accepting(loop);
    if (orders & ORDER_PING)
        count_add(&loop->pongs, 1);
    if ((orders & ORDER_LET_GO_ON) && !loop->frozen)
        hold_let_go_on(loop);
    /* These wait for the end of the turn: see run_loop(). */
    loop->want_give_up |= (orders & ORDER_GIVE_UP) != 0;
    loop->want_list |= (orders & ORDER_LIST) != 0;
    loop->frozen |= (orders & ORDER_FREEZE) != 0;
    loop->want_stop_jobs |= (orders & ORDER_STOP_JOBS) != 0;
    loop->want_cut |= (orders & ORDER_CUT) != 0;
    loop->want_exit |= (orders & ORDER_EXIT) != 0;
}

static void on_wake(h2o_socket_t *sock, const char *err)
{
    struct loop *loop = sock->data;
    uint64_t count;

    if (err != NULL)
        return;
    (void)!read(loop->wake_fd, &count, sizeof(count)); /* before taking; see doors note */
    /* acquire: pairs with the release in loop_order */
    carry_out(loop, atomic_exchange_explicit(&loop->orders, 0, memory_order_acquire));
    job_finish_all(loop);
}

/* ---- the thread ---- */

static void make_list(struct loop *loop)
{
    struct server *server = loop->server;
    struct coord_requests list = {0};

    inflight_list(loop, &list);
    if (loop->frozen)
        inflight_list_unread(loop, &list);
    (void)pthread_mutex_lock(&server->mu);
    coord_requests_release(&loop->list);
    loop->list = list;
    loop->list_ready = true;
    loop->list_frozen = loop->frozen;
    (void)pthread_cond_broadcast(&server->listed);
    (void)pthread_mutex_unlock(&server->mu);
}

static void cut_all(struct loop *loop)
{
    inflight_mark_resets(loop);
    for (h2o_linklist_t *node = loop->conns.next, *next; node != &loop->conns; node = next) {
        next = node->next;
        conn_cut(container_of(node, struct conn, link));
    }
    job_give_up_all(loop);
    hold_give_up_all(loop);
}

/* Frozen: no socket is touched, so no answer leaves. The list that is made now is the truth: what
 * is not on it has been handed to the kernel whole. */
static void stay_frozen(struct loop *loop)
{
    h2o_socket_read_stop(loop->wake_sock);
    job_disown_all(loop); /* before the list, or it could say queued of a job that then runs */
    onrecord_freeze(loop);
    make_list(loop);
    bool stopped = false;
    for (;;) {
        uint64_t count;
        /* Not before: a worker that is free again would begin what waits for another loop, and is
         * still that loop's. See op_list_requests(), server.c. */
        if (loop->want_stop_jobs && !stopped) {
            stopped = true;
            job_cancel_all(loop);
        }
        if (loop->want_cut || loop->want_exit)
            break;
        struct pollfd door = {.fd = loop->wake_fd, .events = POLLIN};
        (void)poll(&door, 1, -1);
        (void)!read(loop->wake_fd, &count, sizeof(count));
        unsigned orders = atomic_exchange_explicit(&loop->orders, 0, memory_order_acquire);
        if (orders & ORDER_PING)
            count_add(&loop->pongs, 1);
        loop->want_stop_jobs |= (orders & ORDER_STOP_JOBS) != 0;
        loop->want_cut |= (orders & ORDER_CUT) != 0;
        loop->want_exit |= (orders & ORDER_EXIT) != 0;
    }
    for (size_t i = 0; i < loop->server->listeners.count; i++)
        leave_listener(&loop->listeners[i]);
    h2o_timeout_unlink(&loop->settle_timer);
    h2o_timeout_unlink(&loop->retry_accept_timer);
    pass_end_taking(loop, false);
    letgo_stop(loop);
    hold_stop(loop);
    cut_all(loop);
    h2o_socket_read_start(loop->wake_sock, on_wake);
}

static void run_loop(struct loop *loop)
{
    bool thawed = false;

    while (!(loop->want_exit && h2o_linklist_is_empty(&loop->conns))) {
        (void)h2o_evloop_run(loop->evloop, INT32_MAX);
        h2o_filecache_clear(loop->ctx.filecache); /* an open file is good for one turn */
        /* Between turns nothing of libh2o is on the stack. */
        if (loop->want_give_up && !loop->frozen) {
            loop->want_give_up = false;
            giveup_due(loop, atomic_load_explicit(&loop->server->given_up, memory_order_relaxed));
        }
        if (loop->want_list) {
            loop->want_list = false;
            make_list(loop);
        }
        if (loop->frozen && !thawed) {
            thawed = true;
            stay_frozen(loop);
        }
        if (loop->want_exit && !loop->frozen && !h2o_linklist_is_empty(&loop->conns)) {
            /* Asked to leave with connections open: the start of the server failed half-way. */
            loop->frozen = thawed = true;
            letgo_stop(loop);
            hold_stop(loop);
            cut_all(loop);
        }
    }
}

/* ---- life ---- */

static int open_listener(struct loop *loop, size_t i)
{
    struct loop_listener *ll = &loop->listeners[i];
    int fd = fcntl(loop->server->listeners.items[i].fd, F_DUPFD_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    ll->loop = loop;
    ll->listener = &loop->server->listeners.items[i];
    ll->accept_ctx.ctx = &loop->ctx;
    ll->accept_ctx.hosts =
        ll->listener->hosts != NULL ? ll->listener->hosts : loop->server->globalconf.hosts;
    ll->accept_ctx.ssl_ctx = ll->listener->tls != NULL ? tls_context(ll->listener->tls) : NULL;
    ll->accept_ctx.expect_proxy_line = ll->listener->expects_proxy_line;
    ll->sock = h2o_evloop_socket_create(loop->evloop, fd, H2O_SOCKET_FLAG_DONT_READ);
    ll->sock->data = ll; /* ORDER_RESUME_ACCEPT opens the doors, see server_open() */
    return 0;
}

/* On the loop's own thread: the library's socket buffers, and the chunks that it keeps for the next
 * ones, belong to the thread that makes the socket. */
static int set_up(struct loop *loop)
{
    struct server *server = loop->server;
    size_t listeners = server->listeners.count;

    loop->evloop = h2o_evloop_create();
    IN_LIBRARY_FOR_GOOD(h2o_context_init(&loop->ctx, loop->evloop, &server->globalconf));
    loop->wake_sock =
        h2o_evloop_socket_create(loop->evloop, loop->wake_fd, H2O_SOCKET_FLAG_DONT_READ);
    loop->wake_sock->data = loop;
    h2o_socket_read_start(loop->wake_sock, on_wake);
    loop->listeners = calloc(listeners, sizeof(*loop->listeners));
    if (loop->listeners == NULL)
        return -ENOMEM;
    loop->accept_paused = true;
    for (size_t i = 0; i < listeners; i++) {
        int err = open_listener(loop, i);
        if (err != 0)
            return err;
    }
    return pass_begin_taking(loop);
}

static void release(struct loop *loop);

static void *loop_thread(void *arg)
{
    struct loop *loop = arg;
    struct server *server = loop->server;
    char name[16];

    (void)snprintf(name, sizeof(name), "loop-%u", loop->index);
    (void)pthread_setname_np(pthread_self(), name);
    loop->owner = pthread_self();
    int err = set_up(loop);
    (void)pthread_mutex_lock(&server->mu);
    loop->set_up_error = err;
    loop->is_set_up = true;
    (void)pthread_cond_broadcast(&server->listed);
    while (!server->may_run) /* until all are: see loop_start() */
        (void)pthread_cond_wait(&server->listed, &server->mu);
    (void)pthread_mutex_unlock(&server->mu);
    if (err == 0)
        run_loop(loop);
    /* A socket's empty buffer lies in the thread-local memory of the thread that made it. */
    if (loop->linger_sock != NULL)
        h2o_socket_close(loop->linger_sock);
    (void)pthread_mutex_lock(&server->mu);
    server->threads_left--;
    (void)pthread_cond_broadcast(&server->listed);
    while (!loop->may_release)
        (void)pthread_cond_wait(&server->listed, &server->mu);
    (void)pthread_mutex_unlock(&server->mu);
    release(loop);
    return NULL;
}

int loop_init(struct loop *loop, struct server *server, unsigned index)
{
    loop->server = server;
    loop->index = index;
    loop->journal = server->journal != NULL ? journal_part(server->journal, index) : NULL;
    h2o_linklist_init_anchor(&loop->conns);
    h2o_linklist_init_anchor(&loop->lingering_fresh);
    h2o_linklist_init_anchor(&loop->inflight);
    h2o_linklist_init_anchor(&loop->abandoned);
    h2o_linklist_init_anchor(&loop->held);
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (loop->wake_fd < 0)
        return -errno;
    return 0;
}

int loop_start(struct loop *loop)
{
    sigset_t all, before;

    /* A signal is for the signal thread alone, also one that nobody has thought of. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    int err = pthread_create(&loop->thread, NULL, loop_thread, loop);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err != 0)
        return -err;
    /* One after the other, and nobody serves meanwhile: handlers of the library keep lists of the
     * contexts, and have no locks. */
    (void)pthread_mutex_lock(&loop->server->mu);
    while (!loop->is_set_up)
        (void)pthread_cond_wait(&loop->server->listed, &loop->server->mu);
    (void)pthread_mutex_unlock(&loop->server->mu);
    return 0;
}

static void release(struct loop *loop)
{
    if (loop->evloop == NULL)
        return;
    job_finish_all(loop); /* abandoned ones; their handlers have ended, the pool is gone */
    for (size_t i = 0; loop->listeners != NULL && i < loop->server->listeners.count; i++)
        leave_listener(&loop->listeners[i]);
    pass_end_taking(loop, false);
    h2o_timeout_unlink(&loop->settle_timer);
    h2o_timeout_unlink(&loop->letgo_timer);
    h2o_timeout_unlink(&loop->retry_accept_timer);
    h2o_timeout_unlink(&loop->hold_timer);
    for (size_t i = 0; i < TICK_COUNT; i++)
        if (tick_exists(loop, i))
            h2o_timeout_dispose(loop->evloop, &loop->ticks[i]);
    h2o_socket_close(loop->wake_sock);
    h2o_context_dispose(&loop->ctx);
    coord_requests_release(&loop->list);
    free(loop->listeners);
}

void loop_release(struct loop *loop)
{
    (void)pthread_mutex_lock(&loop->server->mu);
    loop->may_release = true;
    (void)pthread_cond_broadcast(&loop->server->listed);
    (void)pthread_mutex_unlock(&loop->server->mu);
    (void)pthread_join(loop->thread, NULL);
}

void loop_destroy(struct loop *loop)
{
    if (loop->evloop == NULL)
        return;
    /* The library does not dispose of a handler that file.custom-handler holds, and so leaves its
     * timers behind, over which it then stumbles. */
    while (!h2o_linklist_is_empty(&loop->evloop->_timeouts))
        h2o_linklist_unlink(loop->evloop->_timeouts.next);
    h2o_evloop_destroy(loop->evloop);
}

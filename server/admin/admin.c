#include "admin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "admin_p.h"
#include "admin_share.h"
#include "log.h"
#include "mends.h"
#include "thread.h"
#include "wakeup.h"

/* The thread of the admin listener, and its end.
 *
 * The last status. At the step into DONE the coordinator wakes this thread, which sends the last
 * status to the watchers of /events and sets `last_sent`. Meanwhile main is about to end the
 * process; admin_leave() waits for `last_sent`, but only if there are watchers, and never longer
 * than ADMIN_LEAVE_MS.
 *
 * The answer to an order. A server without a request ends some 2 ms after POST /drain, which may be
 * sooner than this thread writes the 202. So admin_leave() waits, for the same time at most, until
 * no request waits for its answer (`asked`). The thread counts it before it begins the drain, and
 * the coordinator's lock hands the count over.
 *
 * Rest. After a restart the successor answers here, but clients that connected to this process just
 * before must get their answers: admin_leave() waits, for the same time at most, until no accepted
 * connection waits for one. */

/* ---- the thread ---- */

/* The thread closes the descriptor when it ends; other threads may still call this. */
static void wake(struct admin *admin)
{
    (void)pthread_mutex_lock(&admin->mu);
    if (!admin->closed)
        wakeup_ring(admin->wake_fd);
    (void)pthread_mutex_unlock(&admin->mu);
}

static void on_wake(h2o_socket_t *sock, const char *err)
{
    struct admin *admin = sock->data;

    if (err != NULL)
        return;
    wakeup_drain(admin->wake_fd);
    if (!admin_wants_exit(admin))
        admin_share_look(admin);
    admin_accept_where_due(admin);
    admin_events_step(admin);
    admin_look_whether_at_rest(admin); /* after that: with a successor nothing is accepted */
}

/* Runs on the coordinator's thread, which may be about to end the process: without watchers the
 * admin thread is not woken to compete with it for the processor. A new watcher is counted first
 * and reads the status second; a step is written first and reads the count second. Both the status
 * and the step are under the coordinator's lock, so at least one side sees the other. */
static void on_step(void *arg, enum coord_phase phase)
{
    struct admin *admin = arg;

    if (phase == PHASE_CLOSING || /* see admin_share_look() */
        atomic_load_explicit(&admin->watchers, memory_order_relaxed) > 0)
        wake(admin);
}

static void configure(struct admin *admin)
{
    h2o_globalconf_t *conf = &admin->globalconf;

    h2o_config_init(conf);
    conf->server_name = (h2o_iovec_t){H2O_STRLIT("lastcall")};
    conf->http1.upgrade_to_http2 = 0; /* pipelined requests would arrive as many requests at once */
    admin_api_register(admin);
}

static void set_up(struct admin *admin)
{
    h2o_linklist_init_anchor(&admin->streams);
    admin->evloop = h2o_evloop_create();
    LSAN_DISABLED(configure(admin));
    LSAN_DISABLED(h2o_context_init(&admin->ctx, admin->evloop, &admin->globalconf));
    admin->accept_ctx = (h2o_accept_ctx_t){.ctx = &admin->ctx, .hosts = admin->globalconf.hosts};
    admin->wake_sock =
        h2o_evloop_socket_create(admin->evloop, admin->wake_fd, H2O_SOCKET_FLAG_DONT_READ);
    admin->wake_sock->data = admin;
    h2o_socket_read_start(admin->wake_sock, on_wake);
    admin_conns_init(admin);
}

static void release(struct admin *admin)
{
    admin_events_stop(admin);
    admin_share_stop(admin);
    h2o_socket_close(admin->wake_sock);
    admin_conns_release(admin);
    left_over_context(&admin->ctx);
    left_over_config(&admin->globalconf, NULL);
    left_over_evloop(admin->evloop);
    coord_requests_release(&admin->oldest.list);
    free(admin->unfinished);
}

static void *admin_thread(void *arg)
{
    struct admin *admin = arg;

    set_up(admin);
    while (!admin_wants_exit(admin))
        (void)h2o_evloop_run(admin->evloop, INT32_MAX);
    admin_conns_cut(admin);
    while (admin->conn_count > 0)
        (void)h2o_evloop_run(admin->evloop, INT32_MAX);
    (void)pthread_mutex_lock(&admin->mu);
    admin->closed = true;
    (void)pthread_mutex_unlock(&admin->mu);
    release(admin);
    left_over_thread();
    (void)pthread_mutex_lock(&admin->mu);
    admin->ended = true;
    (void)pthread_cond_signal(&admin->told);
    (void)pthread_mutex_unlock(&admin->mu);
    return NULL;
}

/* ---- life ---- */

static int duplicate_listeners(struct admin *admin)
{
    admin->accepting = calloc(admin->listeners.count, sizeof(*admin->accepting));
    if (admin->accepting == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < admin->listeners.count; i++) {
        struct admin_listener *from = &admin->accepting[i];
        from->admin = admin;
        from->is_unix = admin->listeners.items[i].family == AF_UNIX;
        from->fd = fcntl(admin->listeners.items[i].fd, F_DUPFD_CLOEXEC, 0);
        if (from->fd < 0)
            return -errno;
    }
    return 0;
}

int admin_start(struct admin *admin, struct pool *pool, struct coord *coord)
{
    if (admin == NULL)
        return 0;
    admin->pool = pool;
    admin->coord = coord;
    int err = duplicate_listeners(admin);
    if (err != 0)
        return err;
    coord_on_step(coord, on_step, admin);
    err = thread_start(&admin->thread, "admin", admin_thread, admin);
    if (err != 0)
        return err;
    admin->runs = true;
    for (size_t i = 0; i < admin->listeners.count; i++)
        log_line(LOG_LEVEL_INFO, "admin",
                 json_pack("{s:s}", "address", admin->listeners.items[i].name), "admin on %s",
                 admin->listeners.items[i].name);
    return 0;
}

void admin_set_restarter(struct admin *admin, struct restarter *restarter)
{
    if (admin != NULL)
        atomic_store_explicit(&admin->restarter, restarter, memory_order_release);
}

void admin_accept(struct admin *admin)
{
    if (admin == NULL)
        return;
    (void)pthread_mutex_lock(&admin->mu); /* admin_leave() may read it by now */
    for (size_t i = 0; i < admin->listeners.count; i++)
        admin->listeners.items[i].stays = false; /* this process removes its file */
    (void)pthread_mutex_unlock(&admin->mu);
    /* release: pairs with the acquire in admin_resume_accepting() */
    atomic_store_explicit(&admin->accepts, true, memory_order_release);
    wake(admin);
    admin_share_settle(admin);
}

bool admin_offer(struct admin *admin, size_t i, struct message *ret_message)
{
    struct inherited item;

    if (admin == NULL || i >= admin->listeners.count)
        return false;
    (void)pthread_mutex_lock(&admin->mu); /* a stop may be closing it; hence the duplicate, too */
    listener_describe(&admin->listeners.items[i], &item);
    (void)pthread_mutex_unlock(&admin->mu);
    inherit_put(&item, ret_message);
    return true;
}

bool admin_is_inherited(const struct admin *admin, size_t i)
{
    return admin != NULL && i < admin->listeners.count && admin->listeners.items[i].is_inherited;
}

size_t admin_ids(const struct admin *admin, uint64_t *ids, size_t room)
{
    size_t n = 0;

    for (; admin != NULL && n < admin->listeners.count && n < room; n++)
        ids[n] = admin->listeners.items[n].id;
    return n;
}

void admin_followed(struct admin *admin, const uint64_t *taken, size_t count)
{
    if (admin == NULL)
        return;
    (void)pthread_mutex_lock(&admin->mu); /* admin_leave() reads it */
    for (size_t i = 0; i < admin->listeners.count; i++)
        for (size_t j = 0; j < count; j++)
            admin->listeners.items[i].stays |= admin->listeners.items[i].id == taken[j];
    (void)pthread_mutex_unlock(&admin->mu);
    /* release: pairs with the acquire in admin_resume_accepting() */
    atomic_store_explicit(&admin->followed, true, memory_order_release);
    wake(admin);
}

/* `is_done` points to a field under mu. */
static void wait_for(struct admin *admin, const bool *is_done, const struct timespec *until)
{
    int err = 0;

    (void)pthread_mutex_lock(&admin->mu);
    while (!*is_done && err == 0)
        err = pthread_cond_timedwait(&admin->told, &admin->mu, until);
    (void)pthread_mutex_unlock(&admin->mu);
}

void admin_leave(struct admin *admin)
{
    if (admin == NULL)
        return;
    (void)pthread_mutex_lock(&admin->mu);
    for (size_t i = 0; i < admin->listeners.count; i++) {
        admin->listeners.items[i].stays |= admin->is_lent;
        listener_close(
            &admin->listeners.items[i]); /* and remove its file; the thread has a duplicate */
    }
    admin->leaves = true;
    (void)pthread_mutex_unlock(&admin->mu);
    if (!admin->runs)
        return;
    struct timespec until = clock_timespec(clock_now_ns() + ADMIN_LEAVE_MS * NS_PER_MS);
    /* acquire: pairs with the release in admin_followed() */
    if (atomic_load_explicit(&admin->followed, memory_order_acquire) ||
        atomic_load_explicit(&admin->asked, memory_order_relaxed) > 0) {
        wake(admin);
        wait_for(admin, &admin->rests, &until);
    }
    if (atomic_load_explicit(&admin->watchers, memory_order_relaxed) > 0)
        wait_for(admin, &admin->last_sent, &until);
}

int admin_stop(struct admin *admin, uint64_t deadline_ns)
{
    struct timespec until = clock_timespec(deadline_ns);

    if (admin == NULL || !admin->runs)
        return 0;
    atomic_store_explicit(&admin->want_exit, true, memory_order_release);
    wake(admin);
    wait_for(admin, &admin->ended, &until);
    (void)pthread_mutex_lock(&admin->mu);
    bool ended = admin->ended;
    (void)pthread_mutex_unlock(&admin->mu);
    if (!ended)
        return -EBUSY;
    (void)pthread_join(admin->thread, NULL);
    admin->runs = false;
    return 0;
}

void admin_destroy(struct admin *admin)
{
    if (admin == NULL)
        return;
    admin_share_give_up(admin);
    listener_list_release(&admin->listeners);
    free(admin->accepting);
    (void)pthread_cond_destroy(&admin->told);
    (void)pthread_mutex_destroy(&admin->mu);
    free(admin);
}

#include "server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cancels.h"
#include "config_tree.h"
#include "kept.h"
#include "limit.h"
#include "listener.h"
#include "log.h"
#include "logfiles.h"
#include "loop.h"
#include "loop_thread.h"
#include "mends.h"
#include "server_state.h"
#include "trust.h"
#include "user_place.h"
#include "watchdog.h"

/* The loops as one server: start, stop and end. server_setup.c prepares it, for_coord.c drains it.
 */

int server_port(const struct server *server)
{
    for (size_t i = 0; i < server->listeners.count; i++) {
        struct sockaddr_storage bound = {0};
        socklen_t length = sizeof(bound);
        if (getsockname(server->listeners.items[i].fd, (struct sockaddr *)&bound, &length) != 0)
            continue;
        if (bound.ss_family == AF_INET)
            return ntohs(((const struct sockaddr_in *)(const void *)&bound)->sin_port);
        if (bound.ss_family == AF_INET6)
            return ntohs(((const struct sockaddr_in6 *)(const void *)&bound)->sin6_port);
    }
    return 0;
}

static void let_run(struct server *server)
{
    (void)pthread_mutex_lock(&server->mu);
    server->may_run = true;
    (void)pthread_cond_broadcast(&server->listed);
    (void)pthread_mutex_unlock(&server->mu);
}

void server_attach_journal(struct server *server, struct journal *journal)
{
    server->journal = journal;
}

static int start_loop(struct server *server, struct loop *loop)
{
    (void)pthread_mutex_lock(&server->mu);
    server->threads_left++;
    (void)pthread_mutex_unlock(&server->mu);
    int err = loop_start(loop);
    if (err == 0) {
        server->started++;
        return loop->start.error;
    }
    (void)pthread_mutex_lock(&server->mu);
    server->threads_left--;
    (void)pthread_mutex_unlock(&server->mu);
    return err;
}

int server_start(struct server *server, struct pool *pool, struct coord *coord)
{
    unsigned loops = (unsigned)server->config.threads;
    int err = 0;

    server->pool = pool;
    server->coord = coord;
    /* calloc(3) does not align: the counts have their own cache lines. */
    server->loops = aligned_alloc(_Alignof(struct loop), loops * sizeof(*server->loops));
    server->cancels = cancels_create();
    server->kept = kept_create();
    if (server->loops == NULL || server->cancels == NULL || server->kept == NULL)
        return -ENOMEM;
    memset(server->loops, 0, loops * sizeof(*server->loops));
    if (server->config.stall_ns > 0)
        err = watchdog_create(server, server->config.stall_ns, &server->watchdog);
    for (unsigned i = 0; i < loops && err == 0; i++)
        err = loop_init(&server->loops[i], server, i);
    if (err != 0)
        return err;
    atomic_store(&server->listeners_open, (unsigned)server->listeners.count);
    atomic_store(&server->loops_accepting, loops);
    for (unsigned i = 0; i < loops && err == 0; i++)
        err = start_loop(server, &server->loops[i]);
    if (err != 0)
        return err;
    let_run(server); /* they do not accept yet: see server_open() */
    return server->watchdog != NULL ? watchdog_start(server->watchdog) : 0;
}

static void order_all(struct server *server, unsigned orders)
{
    for (unsigned i = 0; i < server->started; i++)
        loop_order(&server->loops[i], orders);
}

void server_open(struct server *server)
{
    order_all(server, ORDER_RESUME_ACCEPT);
    for (size_t i = 0; i < server->listeners.count; i++)
        log_line(LOG_LEVEL_INFO, "listening",
                 json_pack("{s:s}", "address", server->listeners.items[i].name), "listening on %s",
                 server->listeners.items[i].name);
}

int server_stop(struct server *server, uint64_t deadline_ns)
{
    struct timespec until = clock_timespec(deadline_ns);
    int err = 0;

    if (watchdog_stop(server->watchdog, deadline_ns) != 0)
        return -EBUSY;
    order_all(server, ORDER_EXIT);
    let_run(server); /* the start may have failed half-way */
    (void)pthread_mutex_lock(&server->mu);
    while (server->threads_left > 0 && err == 0)
        err = pthread_cond_timedwait(&server->listed, &server->mu, &until);
    unsigned left = server->threads_left;
    (void)pthread_mutex_unlock(&server->mu);
    return left > 0 ? -EBUSY : server->kept != NULL ? kept_close(server->kept, deadline_ns) : 0;
}

void server_close_listeners(struct server *server)
{
    (void)pthread_mutex_lock(&server->mu); /* see accept_dry_and_close() */
    for (size_t i = 0; i < server->listeners.count; i++) {
        struct listener *listener = &server->listeners.items[i];
        /* A loop may have its own descriptor still; another process is not disturbed. */
        if (listener->fd >= 0 && !listener->is_held && !listener->stays)
            (void)shutdown(listener->fd, SHUT_RDWR);
        listener_close(listener);
    }
    (void)pthread_mutex_unlock(&server->mu);
}

void server_destroy(struct server *server)
{
    if (server == NULL)
        return;
    /* The last one first: the library's status page forgets its loops in that order only. */
    for (unsigned i = server->started; i-- > 0;)
        loop_release(&server->loops[i]);
    cancels_destroy(server->cancels);
    kept_destroy(server->kept);
    user_places_release(server);
    /* The library gives all paths one logger for duration-stats, and would free it for each. */
    if (server->tree == NULL || yoml_get(server->tree, "duration-stats") == NULL)
        left_over_config(&server->globalconf, "main");
    for (unsigned i = 0; i < server->started; i++)
        loop_destroy(&server->loops[i]);
    watchdog_destroy(server->watchdog);
    free(server->loops);
    listener_list_release(&server->listeners);
    trust_destroy(server->trust);
    tickets_free(server->tickets);
    tree_free(server->tree);
    logfiles_free(server->logfiles);
    (void)pthread_cond_destroy(&server->listed);
    (void)pthread_mutex_destroy(&server->list_mu);
    (void)pthread_mutex_destroy(&server->mu);
    free(server);
}

void server_end_thread(void *server)
{
    (void)server;
    left_over_thread();
}

/* ---- what others ask ---- */

struct logfiles *server_logfiles(struct server *server)
{
    return server->logfiles;
}

bool server_is_moving(struct server *server)
{
    return server->watchdog == NULL || watchdog_is_moving(server->watchdog);
}

uint64_t server_stalls(struct server *server)
{
    return server->watchdog != NULL ? watchdog_count(server->watchdog) : 0;
}

uint64_t server_shed(struct server *server)
{
    uint64_t shed = 0;
    for (unsigned i = 0; i < server->started; i++)
        shed += count_get(&server->loops[i].counts.shed);
    return shed;
}

#include <stdio.h>

#include "clock.h"
#include "log.h"
#include "lc_server_p.h"

/* What every file of the library may ask of a server. */

struct lc_routes *lc_routes_of(lc_server *server)
{
    return server->routes;
}

const struct scope *lc_scope_of(const lc_server *server)
{
    return &server->scope;
}

struct server *lc_running_server(lc_server *server)
{
    (void)pthread_mutex_lock(&server->mu);
    struct server *running =
        server->stage == LC_RUNS || server->stage == LC_OVER ? server->process.server : NULL;
    (void)pthread_mutex_unlock(&server->mu);
    return running;
}

bool lc_is_started(const lc_server *server)
{
    lc_server *locked = (lc_server *)(uintptr_t)server;

    (void)pthread_mutex_lock(&locked->mu);
    bool started = server->stage != LC_SETUP;
    (void)pthread_mutex_unlock(&locked->mu);
    return started;
}

bool lc_may_register(const lc_server *server)
{
    lc_server *locked = (lc_server *)(uintptr_t)server;

    (void)pthread_mutex_lock(&locked->mu);
    bool may = server->stage == LC_SETUP ||
               (server->in_module && pthread_equal(server->module_thread, pthread_self()));
    (void)pthread_mutex_unlock(&locked->mu);
    return may;
}

int lc_setup_failed(lc_server *server, int result, const char *format, ...)
{
    va_list args;

    (void)pthread_mutex_lock(&server->mu);
    if (server->failed == LC_OK) {
        server->failed = result;
        va_start(args, format);
        (void)vsnprintf(server->error, sizeof(server->error), format, args);
        va_end(args);
    }
    (void)pthread_mutex_unlock(&server->mu);
    return result;
}

uint64_t lc_until_ns(int64_t ms)
{
    const int64_t longest = INT64_C(100) * 365 * 24 * 3600 * 1000;

    return ms < 0 || ms > longest ? CLOCK_NEVER : clock_now_ns() + (uint64_t)ms * NS_PER_MS;
}

bool lc_is_of(const lc_server *server, atomic_bool *said, const char *function)
{
    if (scope_get() != &server->scope && !lc_thread_holds())
        return false;
    if (!atomic_exchange_explicit(said, true, memory_order_relaxed))
        log_line(LOG_LEVEL_ERROR, "waits-for-itself", NULL,
                 "%s(): this thread holds a request or belongs to the server, and would wait for "
                 "its own end; lc_drain() begins a drain and returns (lastcall says this once)",
                 function);
    return true;
}

bool lc_has_coord(lc_server *server)
{
    (void)pthread_mutex_lock(&server->mu);
    bool has = server->coord != NULL;
    (void)pthread_mutex_unlock(&server->mu);
    return has;
}

struct coord *lc_borrow_coord(lc_server *server)
{
    (void)pthread_mutex_lock(&server->mu);
    struct coord *coord = server->coord;
    server->coord_borrowed += coord != NULL;
    (void)pthread_mutex_unlock(&server->mu);
    return coord;
}

void lc_return_coord(lc_server *server)
{
    (void)pthread_mutex_lock(&server->mu);
    if (--server->coord_borrowed == 0)
        (void)pthread_cond_broadcast(&server->changed);
    (void)pthread_mutex_unlock(&server->mu);
}

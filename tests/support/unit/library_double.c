/* The server of the library's public functions, for tests that have none: it registers, and never
 * starts. */

#include <stdio.h>
#include <stdlib.h>

#include "fake_exchange.h"
#include "lc_p.h"
#include "library_double.h"
#include "user_route.h"

struct lc_server {
    struct lc_routes *routes;
    bool is_started;
    struct server *running;
    int failed;
    char error[512];
    char paths[512];
};

lc_server *lc_new_abi(unsigned abi)
{
    lc_server *server = calloc(1, sizeof(*server));

    (void)abi;
    server->routes = lc_routes_create(server);
    return server;
}

int lc_free(lc_server *server)
{
    lc_routes_destroy(server->routes);
    free(server);
    return 0;
}

const char *lc_errmsg(const lc_server *server)
{
    return server->error;
}

bool lc_may_register(const lc_server *server)
{
    return !server->is_started;
}

struct lc_routes *lc_routes_of(lc_server *server)
{
    return server->routes;
}

const struct scope *lc_scope_of(const lc_server *server)
{
    (void)server;
    return NULL;
}

struct server *lc_running_server(lc_server *server)
{
    return server->running;
}

bool lc_is_started(const lc_server *server)
{
    return server->is_started;
}

int lc_setup_failed(lc_server *server, int result, const char *format, ...)
{
    va_list args;

    if (server->failed == 0) {
        server->failed = result;
        va_start(args, format);
        (void)vsnprintf(server->error, sizeof(server->error), format, args);
        va_end(args);
    }
    return result;
}

int lc_add_to_path(lc_server *server, const char *path, const char *name, const char *value)
{
    (void)snprintf(server->paths, sizeof(server->paths), "%s %s %s", path, name, value);
    return 0;
}

void double_start(lc_server *server, struct server *running)
{
    server->is_started = true;
    server->running = running;
}

const char *double_path(const lc_server *server)
{
    return server->paths;
}

/* ---- in place of the server's ---- */

static struct fake *kept;

void fake_can_be_held(struct fake *fake)
{
    kept = fake;
}

int exchange_hold(struct server *server, uint64_t token, struct exchange **ret_exchange)
{
    (void)server;
    if (kept == NULL || token != FAKE_TOKEN)
        return EXCHANGE_GONE;
    if (kept->hold_result == 0)
        *ret_exchange = &kept->exchange;
    return kept->hold_result;
}

void exchange_let_go(struct exchange *exchange)
{
    fake_of_exchange(exchange)->let_go++;
}

void exchange_finish(struct exchange *exchange)
{
    fake_of_exchange(exchange)->finished++;
    kept = NULL;
}

void exchange_on_kept(struct exchange *exchange, void (*told)(uint64_t token, int what, void *arg),
                      void *arg)
{
    fake_of_exchange(exchange)->told = told;
    fake_of_exchange(exchange)->told_arg = arg;
}

void user_route_serve(struct server *server, const struct mux *mux)
{
    (void)server, (void)mux;
}

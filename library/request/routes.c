#include "request_p.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "thread.h"

/* What a program registers before it starts: routes, names, middleware, what each worker has. */

#define WRITE_TIMEOUT_MS 30000

struct lc_routes *lc_routes_create(lc_server *server)
{
    struct lc_routes *routes = calloc(1, sizeof(*routes));

    if (routes == NULL)
        return NULL;
    routes->server = server;
    routes->end = &routes->first;
    routes->middleware_end = &routes->middleware;
    routes->mux = mux_create();
    if (routes->mux == NULL) {
        free(routes);
        return NULL;
    }
    return routes;
}

static NOT_LOOKED_INTO void call_free_user(lc_server *server, const char *pattern,
                                           void (*free_user)(void *user), void *user)
{
    struct lc_called called;

    if (free_user == NULL)
        return;
    lc_called_begin(&called, server, "free_user() of route", pattern != NULL ? pattern : "");
    LC_NOTHING_PASSES();
    free_user(user);
    lc_called_end(&called);
}

static void destroy_route(struct lc_route *route)
{
    call_free_user(route->routes->server, route->pattern, route->free_user, route->user);
    free(route->pattern);
    free(route);
}

static void destroy_named(void *route)
{
    destroy_route(route);
}

static void destroy_list(struct lc_route *list)
{
    for (struct lc_route *route = list, *next; route != NULL; route = next) {
        next = route->next;
        destroy_route(route);
    }
}

void lc_routes_destroy(struct lc_routes *routes)
{
    if (routes == NULL)
        return;
    lc_own_destroy(routes->own);
    destroy_list(routes->first);
    tdestroy(routes->named, destroy_named);
    for (struct lc_middleware *i = routes->middleware, *next; i != NULL; i = next) {
        next = i->next;
        free(i->prefix);
        free(i);
    }
    trust_destroy(routes->trust);
    mux_destroy(routes->mux);
    free(routes);
}

bool lc_routes_any(const struct lc_routes *routes)
{
    return routes->first != NULL || routes->named != NULL || routes->middleware != NULL;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct lc_route *)a)->pattern, ((const struct lc_route *)b)->pattern);
}

const struct user_route *lc_routes_named(const struct lc_routes *routes, const char *name)
{
    const struct lc_route key = {.pattern = (char *)(uintptr_t)name};
    struct lc_route *const *found = tfind(&key, &routes->named, compare_names);

    return found != NULL ? &(*found)->user_route : NULL;
}

int lc_routes_trust(struct lc_routes *routes, const char *list)
{
    char error[TRUST_ERROR_SIZE];
    struct trust *trust = trust_create(list, error);

    if (trust == NULL)
        return lc_setup_failed(routes->server, *error != '\0' ? LC_E_ARG : -ENOMEM, "%s",
                               *error != '\0' ? error : "no memory");
    trust_destroy(routes->trust);
    routes->trust = trust;
    return 0;
}

int lc_routes_attach(struct lc_routes *routes, struct server *server)
{
    if (routes->own != NULL) {
        int err = lc_own_try(routes->own);
        if (err != 0)
            return lc_setup_failed(routes->server, LC_E_CONFIG,
                                   "lc_each_worker(): begin has returned NULL");
    }
    if (routes->first != NULL)
        user_route_serve(server, routes->mux);
    return 0;
}

/* ---- routes ---- */

/* The caller may have been built with an older header: its structure is shorter. */
static int read_options(const struct lc_route_options *options, struct lc_route_options *ret)
{
    static const struct lc_route_options init = LC_ROUTE_OPTIONS_INIT;

    *ret = init;
    if (options == NULL)
        return 0;
    if (options->size < offsetof(struct lc_route_options, free_user) + sizeof(options->free_user))
        return LC_E_ARG;
    memcpy(ret, options, options->size < sizeof(*ret) ? options->size : sizeof(*ret));
    bool is_good = ret->timeout_ms >= 0 && ret->timeout_ms <= LC_LONGEST_MS &&
                   ret->write_timeout_ms >= 0 && ret->write_timeout_ms <= LC_LONGEST_MS &&
                   ret->max_body >= 0 && (ret->flags & ~(LC_INLINE | LC_RECORD)) == 0 &&
                   ((ret->flags & LC_INLINE) == 0 || ret->max_running == 0);
    return is_good ? 0 : LC_E_ARG;
}

static struct lc_route *make_route(struct lc_routes *routes, const char *pattern,
                                   lc_handler handler, void *user,
                                   const struct lc_route_options *options)
{
    struct lc_route *route = calloc(1, sizeof(*route));

    if (route == NULL)
        return NULL;
    route->pattern = strdup(pattern);
    if (route->pattern == NULL) {
        free(route);
        return NULL;
    }
    route->routes = routes;
    route->handler = handler;
    route->user = user;
    route->user_route = (struct user_route){
        .handler = lc_run_route,
        .user = route,
        .timeout_ms = options->timeout_ms,
        .write_timeout_ms =
            options->write_timeout_ms > 0 ? options->write_timeout_ms : WRITE_TIMEOUT_MS,
        .max_body = options->max_body,
        .max_running = options->max_running,
        .max_waiting = options->max_waiting,
        .on_loop = (options->flags & LC_INLINE) != 0,
        .is_recorded = (options->flags & LC_RECORD) != 0,
    };
    return route;
}

static int add_route(lc_server *server, const char *pattern, lc_handler handler, void *user,
                     const struct lc_route_options *options)
{
    static atomic_bool said;
    char error[MUX_ERROR];

    if (!lc_may_register(server) && lc_say_late(server, &said, "lc_handle"))
        return lc_setup_failed(server, LC_E_STATE, "lc_handle(\"%.200s\"): the server has started",
                               pattern != NULL ? pattern : "");
    if (pattern == NULL || handler == NULL)
        return lc_setup_failed(server, LC_E_ARG, "lc_handle(): no %s",
                               pattern == NULL ? "pattern" : "handler");
    struct lc_routes *routes = lc_routes_of(server);
    struct lc_route *route = make_route(routes, pattern, handler, user, options);
    if (route == NULL)
        return lc_setup_failed(server, -ENOMEM, "no memory");
    int err = mux_add(routes->mux, pattern, &route->user_route, error);
    if (err != 0) {
        destroy_route(route);
        return err == -EINVAL ? lc_setup_failed(server, LC_E_ARG, "%s", error)
                              : lc_setup_failed(server, err, "no memory");
    }
    route->free_user = options->free_user; /* from now on it is ours */
    *routes->end = route;
    routes->end = &route->next;
    return 0;
}

int lc_handle_with(lc_server *server, const char *pattern, lc_handler handler, void *user,
                   const struct lc_route_options *options)
{
    struct lc_route_options copy;
    int err = read_options(options, &copy);

    if (server == NULL)
        err = LC_E_ARG;
    else if (err != 0)
        err = lc_setup_failed(server, err,
                              "lc_handle_with(\"%.200s\"): options: begin with "
                              "LC_ROUTE_OPTIONS_INIT; no number is negative, no flag unknown, no "
                              "max_running with LC_INLINE",
                              pattern != NULL ? pattern : "");
    else
        err = add_route(server, pattern, handler, user, &copy);
    if (err != 0)
        call_free_user(server, pattern, copy.free_user, user);
    return err;
}

int lc_handle(lc_server *server, const char *pattern, lc_handler handler, void *user)
{
    return lc_handle_with(server, pattern, handler, user, NULL);
}

/* ---- the rest ---- */

int lc_use(lc_server *server, const char *prefix, lc_handler middleware, void *user)
{
    if (server == NULL)
        return LC_E_ARG;
    if (LC_IS_TOO_LATE(server))
        return lc_setup_failed(server, LC_E_STATE, "lc_use(): the server has started");
    if (prefix == NULL || *prefix != '/' || middleware == NULL ||
        prefix[strcspn(prefix, "{}?#% ")] != '\0')
        return lc_setup_failed(server, LC_E_ARG,
                               "lc_use(\"%.200s\"): want a path that begins with /, without "
                               "parameters, and a function",
                               prefix != NULL ? prefix : "");
    struct lc_routes *routes = lc_routes_of(server);
    struct lc_middleware *more = calloc(1, sizeof(*more));
    if (more == NULL || (more->prefix = strdup(prefix)) == NULL) {
        free(more);
        return lc_setup_failed(server, -ENOMEM, "no memory");
    }
    more->handler = middleware;
    more->user = user;
    *routes->middleware_end = more;
    routes->middleware_end = &more->next;
    return 0;
}

int lc_name(lc_server *server, const char *name, lc_handler handler, void *user)
{
    static const struct lc_route_options options = LC_ROUTE_OPTIONS_INIT;

    if (server == NULL)
        return LC_E_ARG;
    if (LC_IS_TOO_LATE(server))
        return lc_setup_failed(server, LC_E_STATE, "lc_name(): the server has started");
    if (name == NULL || *name == '\0' || handler == NULL)
        return lc_setup_failed(server, LC_E_ARG, "lc_name(): no %s",
                               handler == NULL ? "handler" : "name");
    struct lc_routes *routes = lc_routes_of(server);
    if (lc_routes_named(routes, name) != NULL)
        return lc_setup_failed(server, LC_E_ARG, "lc_name(\"%.200s\"): there is one already", name);
    struct lc_route *route = make_route(routes, name, handler, user, &options);
    if (route == NULL || tsearch(route, &routes->named, compare_names) == NULL) {
        if (route != NULL)
            destroy_route(route);
        return lc_setup_failed(server, -ENOMEM, "no memory");
    }
    return 0;
}

int lc_each_worker(lc_server *server, void *(*begin)(unsigned worker, void *user),
                   void (*end)(void *own, void *user), void *user)
{
    if (server == NULL)
        return LC_E_ARG;
    if (LC_IS_TOO_LATE(server))
        return lc_setup_failed(server, LC_E_STATE, "lc_each_worker(): the server has started");
    if (begin == NULL)
        return lc_setup_failed(server, LC_E_ARG, "lc_each_worker(): no function begin");
    struct lc_routes *routes = lc_routes_of(server);
    if (routes->own != NULL)
        return lc_setup_failed(server, LC_E_STATE, "lc_each_worker(): it was called before");
    int err = lc_own_create(routes, begin, end, user);
    return err == 0 ? 0
                    : lc_setup_failed(server, err, "lc_each_worker(): no memory, or no thread key");
}

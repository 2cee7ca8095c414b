#include "server_p.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "routes.h"

/* The loops as one server, and the coordinator's view of it. */

#define FILES_RESERVED 32       /* for what is neither a connection nor a loop's */
#define FILES_A_LOOP 8          /* epoll, eventfd, timer, queue, and its listeners beside them */
#define LIST_PATIENCE_MS 250    /* for the loops to make their lists: see coord_server_ops */
#define BODY_LARGEST (16 << 20) /* limit-request-body; bodies are held in memory */

/* ---- limits ---- */

/* Each connection may need two descriptors while it lingers; take what the system gives. */
static uint64_t connection_limit(const struct server_config *config)
{
    struct rlimit files = {.rlim_cur = 1024, .rlim_max = 1024};

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
        (void)getrlimit(RLIMIT_NOFILE, &files);
    }
    uint64_t reserved = FILES_RESERVED + config->loops * (FILES_A_LOOP + config->listen_count);
    uint64_t fit = files.rlim_cur > 2 * reserved ? files.rlim_cur - reserved : files.rlim_cur / 2;
    if (config->max_connections == 0)
        return fit;
    if (config->max_connections > fit)
        log_line(LOG_LEVEL_WARN, "limit-files", NULL,
                 "--max-connections %llu is more than the limit on open files allows; using %llu "
                 "(raise it with ulimit -n)",
                 (unsigned long long)config->max_connections, (unsigned long long)fit);
    return config->max_connections < fit ? config->max_connections : fit;
}

/* ---- life ---- */

static int check_root(const char *root, char *error, size_t error_size)
{
    struct stat st;
    const char *cause = NULL;

    if (root == NULL)
        return 0;
    if (stat(root, &st) != 0)
        cause = strerrordesc_np(errno);
    else if (!S_ISDIR(st.st_mode))
        cause = "not a directory";
    else if (access(root, R_OK | X_OK) != 0)
        cause = strerrordesc_np(errno);
    if (cause == NULL)
        return 0;
    (void)snprintf(error, error_size, "cannot serve files from %s: %s", root, cause);
    return COORD_EXIT_CONFIG;
}

static void configure_h2o(struct server *server)
{
    h2o_globalconf_t *conf = &server->globalconf;

    h2o_config_init(conf);
    conf->server_name = (h2o_iovec_t){H2O_STRLIT("lastcall")};
    conf->max_request_entity_size = BODY_LARGEST;
    h2o_hostconf_t *host =
        h2o_config_register_host(conf, (h2o_iovec_t){H2O_STRLIT("default")}, 65535);
    routes_register(host, server->config.root);
}

/* All that speak TLS share one certificate. */
static int create_tls(struct server *server, char *error, size_t error_size)
{
    const struct server_config *config = &server->config;
    const char *tls = NULL;

    for (size_t i = 0; i < config->listen_count && tls == NULL; i++)
        if (strncmp(config->listen[i], "tls:", 4) == 0)
            tls = config->listen[i];
    if (config->cert == NULL && config->key == NULL && tls == NULL)
        return 0;
    if (config->cert == NULL || config->key == NULL || tls == NULL) {
        if (tls != NULL)
            (void)snprintf(error, error_size, "cannot listen on %s: TLS wants --cert and --key",
                           tls);
        else
            (void)snprintf(error, error_size,
                           "--cert and --key want each other and a --listen "
                           "tls:ADDR that uses them");
        return COORD_EXIT_USAGE;
    }
    server->tls = tls_create(config->cert, config->key, error, error_size);
    return server->tls != NULL ? 0 : COORD_EXIT_CONFIG;
}

int server_create(const struct server_config *config, char *error, size_t error_size,
                  struct server **ret_server)
{
    int status = check_root(config->root, error, error_size);
    if (status != 0)
        return status;
    struct server *server = calloc(1, sizeof(*server));
    if (server == NULL) {
        (void)snprintf(error, error_size, "no memory to start");
        return COORD_EXIT_UNAVAILABLE;
    }
    server->config = *config;
    (void)pthread_mutex_init(&server->mu, NULL);
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&server->listed, &attr);
    (void)pthread_condattr_destroy(&attr);
    configure_h2o(server);
    server->max_connections = connection_limit(config);
    status = create_tls(server, error, error_size);
    if (status != 0) {
        server_destroy(server);
        return status;
    }
    for (size_t i = 0; i < config->listen_count; i++) {
        int err = listener_open(&server->listeners, config->listen[i], error, error_size);
        if (err != 0) {
            server_destroy(server);
            return err == -EINVAL ? COORD_EXIT_USAGE : COORD_EXIT_UNAVAILABLE;
        }
    }
    *ret_server = server;
    return 0;
}

int server_start(struct server *server, struct pool *pool, struct coord *coord)
{
    unsigned loops = server->config.loops;
    int err = 0;

    server->pool = pool;
    server->coord = coord;
    server->loops = calloc(loops, sizeof(*server->loops));
    if (server->loops == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < loops && err == 0; i++)
        err = loop_init(&server->loops[i], server, i);
    if (err != 0)
        return err;
    atomic_store(&server->listeners_open, (unsigned)server->listeners.count);
    atomic_store(&server->loops_accepting, loops);
    for (unsigned i = 0; i < loops && err == 0; i++) {
        (void)pthread_mutex_lock(&server->mu);
        server->threads_left++;
        (void)pthread_mutex_unlock(&server->mu);
        err = loop_start(&server->loops[i]);
        if (err == 0) {
            server->started++;
        } else {
            (void)pthread_mutex_lock(&server->mu);
            server->threads_left--;
            (void)pthread_mutex_unlock(&server->mu);
        }
    }
    if (err != 0)
        return err;
    for (size_t i = 0; i < server->listeners.count; i++)
        log_line(LOG_LEVEL_INFO, "listening",
                 json_pack("{s:s}", "address", server->listeners.items[i].name), "listening on %s",
                 server->listeners.items[i].name);
    return 0;
}

static void order_all(struct server *server, unsigned orders)
{
    for (unsigned i = 0; i < server->started; i++)
        loop_order(&server->loops[i], orders);
}

int server_stop(struct server *server, uint64_t deadline_ns)
{
    struct timespec until = clock_timespec(deadline_ns);
    int err = 0;

    order_all(server, ORDER_EXIT);
    (void)pthread_mutex_lock(&server->mu);
    while (server->threads_left > 0 && err == 0)
        err = pthread_cond_timedwait(&server->listed, &server->mu, &until);
    unsigned left = server->threads_left;
    (void)pthread_mutex_unlock(&server->mu);
    if (left > 0)
        return -EBUSY;
    for (unsigned i = 0; i < server->started; i++)
        (void)pthread_join(server->loops[i].thread, NULL);
    server->started = 0;
    return 0;
}

void server_destroy(struct server *server)
{
    if (server == NULL)
        return;
    for (unsigned i = 0; server->loops != NULL && i < server->config.loops; i++)
        loop_release(&server->loops[i]);
    free(server->loops);
    listener_list_release(&server->listeners);
    h2o_config_dispose(&server->globalconf);
    SSL_CTX_free(server->tls);
    (void)pthread_cond_destroy(&server->listed);
    (void)pthread_mutex_destroy(&server->mu);
    free(server);
}

/* ---- the coordinator's callbacks ---- */

static void op_lame_duck(void *data, bool on)
{
    struct server *server = data;
    atomic_store_explicit(&server->lame_duck, on, memory_order_relaxed);
    order_all(server, ORDER_LAME_DUCK);
}

static void op_close_listeners(void *data)
{
    struct server *server = data;

    for (size_t i = 0; i < server->listeners.count; i++) {
        struct listener *listener = &server->listeners.items[i];
        int err = listener_stop_newcomers(listener);
        if (err != 0)
            log_line(LOG_LEVEL_WARN, "filter-failed", NULL,
                     "cannot keep newcomers from %s while it closes: %s (a connection that arrives "
                     "in this instant may be reset)",
                     listener->name, strerrordesc_np(-err));
    }
    order_all(server, ORDER_CLOSING);
}

static void op_finish(void *data)
{
    order_all(data, ORDER_FINISH);
}

static void op_release_idle(void *data)
{
    order_all(data, ORDER_RELEASE_IDLE);
}

static int by_age(const void *a, const void *b)
{
    const struct coord_request *x = a, *y = b;
    return x->age_ns < y->age_ns ? 1 : x->age_ns > y->age_ns ? -1 : 0;
}

/* Move the items of `from` behind those of `to`. */
static void take_list(struct coord_requests *to, struct coord_requests *from)
{
    to->left_out += from->left_out;
    if (from->count > 0) {
        struct coord_request *grown =
            realloc(to->items, (to->count + from->count) * sizeof(*grown));
        if (grown == NULL) {
            to->left_out += from->count;
            from->left_out = 0;
            coord_requests_release(from);
            return;
        }
        to->items = grown;
        memcpy(&grown[to->count], from->items, from->count * sizeof(*grown));
        to->count += from->count;
    }
    free(from->items);
    memset(from, 0, sizeof(*from));
}

/* A list that was asked for earlier and comes late must not pass for the frozen one. */
static bool has_listed_locked(const struct loop *loop, bool freeze)
{
    return loop->list_ready && (loop->list_frozen || !freeze);
}

static bool all_listed_locked(const struct server *server, bool freeze)
{
    for (unsigned i = 0; i < server->started; i++)
        if (!has_listed_locked(&server->loops[i], freeze))
            return false;
    return true;
}

static void op_list_requests(void *data, bool freeze, struct coord_requests *ret_list)
{
    struct server *server = data;
    struct timespec until = clock_timespec(clock_now_ns() + LIST_PATIENCE_MS * NS_PER_MS);
    int err = 0;

    (void)pthread_mutex_lock(&server->mu);
    for (unsigned i = 0; i < server->started; i++)
        server->loops[i].list_ready = false;
    (void)pthread_mutex_unlock(&server->mu);
    order_all(server, freeze ? ORDER_FREEZE : ORDER_LIST);

    (void)pthread_mutex_lock(&server->mu);
    while (!all_listed_locked(server, freeze) && err == 0)
        err = pthread_cond_timedwait(&server->listed, &server->mu, &until);
    for (unsigned i = 0; i < server->started; i++) {
        struct loop *loop = &server->loops[i];
        if (has_listed_locked(loop, freeze)) {
            take_list(ret_list, &loop->list);
        } else if (freeze) {
            uint64_t unknown = count_get(&loop->counts.active);
            ret_list->left_out += unknown;
            log_line(LOG_LEVEL_WARN, "loop-silent", NULL,
                     "loop %u did not list its requests in %d ms: %llu of them are not named", i,
                     LIST_PATIENCE_MS, (unsigned long long)unknown);
        }
    }
    (void)pthread_mutex_unlock(&server->mu);
    if (ret_list->count > 1)
        qsort(ret_list->items, ret_list->count, sizeof(*ret_list->items), by_age);
}

static void op_cut(void *data)
{
    order_all(data, ORDER_CUT);
}

static void op_census(void *data, struct coord_census *ret_census)
{
    struct server *server = data;

    /* acquire, and first: pairs with the release in close_listeners */
    ret_census->listeners = atomic_load_explicit(&server->listeners_open, memory_order_acquire);
    for (unsigned i = 0; i < server->started; i++) {
        struct loop_counts *counts = &server->loops[i].counts;
        ret_census->active += count_get(&counts->active);
        ret_census->connections += count_get(&counts->connections);
        ret_census->lingering += count_get(&counts->lingering);
        ret_census->answered += count_get(&counts->answered);
        ret_census->accepted += count_get(&counts->accepted);
        ret_census->idle_released += count_get(&counts->idle_released);
    }
}

const struct coord_server_ops server_ops = {
    .lame_duck = op_lame_duck,
    .close_listeners = op_close_listeners,
    .finish = op_finish,
    .release_idle = op_release_idle,
    .list_requests = op_list_requests,
    .cut = op_cut,
    .census = op_census,
};

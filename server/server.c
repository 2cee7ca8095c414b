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

#include "config.h"
#include "config_tree.h"
#include "log.h"

/* The loops as one server, and the coordinator's view of it. */

#define FILES_RESERVED 32       /* for what is neither a connection nor a loop's */
#define FILES_A_LOOP 8          /* epoll, eventfd, timer, queue, and its listeners beside them */
#define LIST_PATIENCE_MS 250    /* for the loops to make their lists: see coord_server_ops */
#define BODY_LARGEST (16 << 20) /* limit-request-body; bodies are held in memory */

/* ---- limits ---- */

/* Each connection may need two descriptors while it lingers, or while a request of it is handed on;
 * take what the system gives. */
static uint64_t connection_limit(const struct server *server)
{
    const struct options *options = server->options;
    struct rlimit files = {.rlim_cur = 1024, .rlim_max = 1024};

    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
        (void)getrlimit(RLIMIT_NOFILE, &files);
    }
    uint64_t reserved =
        FILES_RESERVED + options->threads * (FILES_A_LOOP + server->listeners.count);
    uint64_t fit = files.rlim_cur > 2 * reserved ? files.rlim_cur - reserved : files.rlim_cur / 2;
    if (options->max_connections == 0)
        return fit;
    if (options->max_connections > fit)
        log_line(LOG_LEVEL_WARN, "limit-files", NULL,
                 "max-connections %llu is more than the limit on open files allows; using %llu "
                 "(raise it with ulimit -n)",
                 (unsigned long long)options->max_connections, (unsigned long long)fit);
    return options->max_connections < fit ? options->max_connections : fit;
}

/* ---- life ---- */

static int fail(int status, const char *error)
{
    log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "%s", error);
    return status;
}

static int check_root(const char *root)
{
    char error[512];
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
    (void)snprintf(error, sizeof(error), "cannot serve files from %s: %s", root, cause);
    return fail(COORD_EXIT_CONFIG, error);
}

/* The flags' certificate, read for each listener of theirs that speaks TLS. */
static int add_flag_tls(struct server *server, size_t from)
{
    const struct options *options = server->options;
    const struct tls_certificate certificate = {.certificate_file = options->cert,
                                                .key_file = options->key};
    char error[512];

    for (size_t i = from; i < server->listeners.count; i++) {
        struct listener *listener = &server->listeners.items[i];
        listener->tls = tls_new();
        if (listener->tls == NULL ||
            tls_add(listener->tls, &certificate, error, sizeof(error)) != TLS_NO_FAULT)
            return fail(COORD_EXIT_CONFIG, listener->tls != NULL ? error : "no memory for TLS");
    }
    return 0;
}

static int check_flag_tls(const struct options *options)
{
    const char *tls = NULL;
    char error[512];

    for (size_t i = 0; i < options->listen_count && tls == NULL; i++)
        if (strncmp(options->listen[i], "tls:", 4) == 0)
            tls = options->listen[i];
    if ((options->cert == NULL) == (tls == NULL) && (options->key == NULL) == (tls == NULL))
        return 0;
    if (tls == NULL)
        return fail(COORD_EXIT_USAGE, "--cert and --key want each other and a --listen tls:ADDR "
                                      "that uses them");
    (void)snprintf(error, sizeof(error), "cannot listen on %s: TLS wants --cert and --key", tls);
    return fail(COORD_EXIT_USAGE, error);
}

/* Nobody has named an address, and a service manager gave us sockets: those are it. */
static bool serves_what_it_was_given(const struct server *server)
{
    return server->options->inheritance != NULL &&
           inherit_left_over(server->options->inheritance, true) != NULL &&
           server->options->listen_count == 0 && server->listeners.count == 0;
}

/* --listen, in place of what a file may say. */
static int open_flag_listeners(struct server *server)
{
    struct options *options = server->options;
    char error[512];

    if (serves_what_it_was_given(server))
        return listener_open_inherited(&server->listeners) == 0
                   ? 0
                   : fail(COORD_EXIT_UNAVAILABLE, "no memory to start");
    if (options->listen_count == 0) {
        if (options->conf != NULL || server->listeners.count > 0)
            return 0;
        options->listen[options->listen_count++] = "127.0.0.1:8080";
    }
    listener_list_release(&server->listeners);
    for (size_t i = 0; i < options->listen_count; i++) {
        size_t before = server->listeners.count;
        int err = listener_open(&server->listeners, options->listen[i], error, sizeof(error));
        if (err != 0)
            return fail(err == -EINVAL ? COORD_EXIT_USAGE : COORD_EXIT_UNAVAILABLE, error);
        int status = strncmp(options->listen[i], "tls:", 4) == 0 ? add_flag_tls(server, before) : 0;
        if (status != 0)
            return status;
    }
    return 0;
}

/* Also of what a predecessor gave us nothing is kept that we do not use: it closes that itself. */
int server_settle_inheritance(struct server *server)
{
    struct inheritance *inheritance = server->options->inheritance;
    char error[512];

    for (size_t i = 0; i < server->listeners.count; i++)
        server->listeners.items[i].id = handover_socket_id(server->listeners.items[i].fd);
    if (inheritance == NULL)
        return 0;
    const struct inherited *left = inherit_left_over(inheritance, true);
    if (left != NULL) {
        (void)snprintf(
            error, sizeof(error),
            "a listening socket for %s was passed to this process, and the configuration "
            "does not listen there: add it, or take it out of the socket unit",
            left->name);
        return fail(COORD_EXIT_CONFIG, error);
    }
    inherit_release(inheritance);
    return 0;
}

static int set_up_tickets(struct server *server)
{
    static const struct tickets_config usual = {
        .cache = true, .tickets = true, .lifetime = TICKETS_LIFETIME};
    char error[256];
    bool any = false;

    for (size_t i = 0; i < server->listeners.count; i++)
        any |= server->listeners.items[i].tls != NULL;
    if (any && server->tickets == NULL &&
        (server->tickets = tickets_new(&usual, error, sizeof(error))) == NULL)
        return fail(COORD_EXIT_CONFIG, error);
    for (size_t i = 0; i < server->listeners.count; i++)
        if (server->listeners.items[i].tls != NULL)
            tickets_apply(server->tickets, server->listeners.items[i].tls);
    return 0;
}

static int configure(struct server *server)
{
    struct options *options = server->options;
    h2o_globalconf_t *conf = &server->globalconf;

    h2o_config_init(conf);
    conf->server_name = (h2o_iovec_t){H2O_STRLIT("lastcall")};
    if (!options->stands_in_for_h2o)
        conf->max_request_entity_size = BODY_LARGEST;
    int status = check_root(options->root);
    server->listeners.inheritance = options->inheritance;
    if (status == 0)
        status = check_flag_tls(options);
    if (status == 0)
        status = config_apply(server);
    if (status == 0)
        status = hold_check(server);
    if (status == 0 && !options->test)
        status = open_flag_listeners(server);
    if (status == 0)
        status = set_up_tickets(server);
    /* Purged in every turn of a loop: what it saves is opening a file for each of many streams. */
    conf->filecache.capacity = conf->http2.max_concurrent_requests_per_connection * 2;
    server->max_connections = connection_limit(server);
    return status;
}

int server_create(struct options *options, struct server **ret_server)
{
    struct server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return fail(COORD_EXIT_UNAVAILABLE, "no memory to start");
    server->options = options;
    peek_init();
    farewell_init();
    server->launched = time(NULL);
    server->successor.conns_fd = -1;
    (void)pthread_mutex_init(&server->mu, NULL);
    (void)pthread_mutex_init(&server->list_mu, NULL);
    clock_cond_init(&server->listed);
    int status = configure(server);
    if (status != 0) {
        server_destroy(server);
        return status;
    }
    *ret_server = server;
    return 0;
}

void server_prepare_unprivileged(struct server *server)
{
    /* Without it the drain tries what an ordinary user may do, and says so where that fails. */
    if (geteuid() == 0)
        (void)listener_list_prepare(&server->listeners);
}

int server_port(const struct server *server)
{
    for (size_t i = 0; i < server->listeners.count; i++) {
        struct sockaddr_storage bound;
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

int server_start(struct server *server, struct pool *pool, struct coord *coord)
{
    unsigned loops = (unsigned)server->options->threads;
    int err = 0;

    server->pool = pool;
    server->coord = coord;
    /* calloc(3) does not align for the counts, which have cache lines of their own. */
    server->loops = aligned_alloc(_Alignof(struct loop), loops * sizeof(*server->loops));
    if (server->loops == NULL)
        return -ENOMEM;
    memset(server->loops, 0, loops * sizeof(*server->loops));
    if (server->options->stall_ns > 0)
        err = stall_create(server, server->options->stall_ns, &server->stall);
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
            err = server->loops[i].set_up_error;
        } else {
            (void)pthread_mutex_lock(&server->mu);
            server->threads_left--;
            (void)pthread_mutex_unlock(&server->mu);
        }
    }
    if (err != 0)
        return err;
    let_run(server); /* they do not accept yet: see server_open() */
    return server->stall != NULL ? stall_start(server->stall) : 0;
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

/* ---- succession ---- */

size_t server_listener_count(const struct server *server)
{
    return server->listeners.count;
}

bool server_offer_ticket_key(struct server *server, size_t i, struct handover_message *ret_message)
{
    return server->tickets != NULL && tickets_offer_key(server->tickets, i, ret_message);
}

void server_take_ticket_key(struct server *server, const struct handover_message *message)
{
    if (server->tickets != NULL)
        tickets_take_key(server->tickets, message);
}

bool server_offer(struct server *server, size_t i, struct handover_message *ret_message)
{
    struct inherited item;

    if (i >= server->listeners.count)
        return false;
    (void)pthread_mutex_lock(&server->mu); /* a stop may be closing it */
    listener_describe(&server->listeners.items[i], &item);
    (void)pthread_mutex_unlock(&server->mu);
    inherit_put(&item, ret_message);
    return true;
}

bool server_is_inherited(const struct server *server, size_t i)
{
    return server->listeners.items[i].is_inherited;
}

void server_describe(const struct server *server, const uint64_t *more, size_t more_count,
                     struct handover_message *message)
{
    uint64_t taken[HANDOVER_IDS_MAX], welcome[HANDOVER_IDS_MAX];
    size_t taken_count = 0, welcome_count = 0;

    for (size_t i = 0; i < server->listeners.count && i < HANDOVER_IDS_MAX; i++) {
        const struct listener *listener = &server->listeners.items[i];
        taken[taken_count++] = listener->id;
        if (listener->tls == NULL && !listener->expects_proxy_line)
            welcome[welcome_count++] = listener->id;
    }
    for (size_t i = 0; i < more_count && taken_count < HANDOVER_IDS_MAX; i++)
        taken[taken_count++] = more[i];
    handover_put(message, HANDOVER_TAKEN, taken, taken_count * sizeof(taken[0]));
    handover_put(message, HANDOVER_WELCOME, welcome, welcome_count * sizeof(welcome[0]));
}

void server_followed(struct server *server, const uint64_t *taken, size_t taken_count,
                     const uint64_t *welcome, size_t welcome_count, int conns_fd)
{
    memcpy(server->successor.taken, taken, taken_count * sizeof(*taken));
    memcpy(server->successor.welcome, welcome, welcome_count * sizeof(*welcome));
    server->successor.taken_count = taken_count;
    server->successor.welcome_count = welcome_count;
    server->successor.conns_fd = conns_fd;
}

static bool is_among(const uint64_t *ids, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

int server_stop(struct server *server, uint64_t deadline_ns)
{
    struct timespec until = clock_timespec(deadline_ns);
    int err = 0;

    if (stall_stop(server->stall, deadline_ns) != 0)
        return -EBUSY;
    order_all(server, ORDER_EXIT);
    let_run(server); /* the start may have failed half-way */
    (void)pthread_mutex_lock(&server->mu);
    while (server->threads_left > 0 && err == 0)
        err = pthread_cond_timedwait(&server->listed, &server->mu, &until);
    unsigned left = server->threads_left;
    (void)pthread_mutex_unlock(&server->mu);
    return left > 0 ? -EBUSY : 0;
}

void server_destroy(struct server *server)
{
    if (server == NULL)
        return;
    /* The last one first: the library's status page forgets its loops in that order only. */
    for (unsigned i = server->started; i-- > 0;)
        loop_release(&server->loops[i]);
    /* The library gives all paths one logger for duration-stats, and would free it for each. */
    if (server->tree == NULL || yoml_get(server->tree, "duration-stats") == NULL)
        h2o_config_dispose(&server->globalconf);
    for (unsigned i = 0; i < server->started; i++)
        loop_destroy(&server->loops[i]);
    stall_destroy(server->stall);
    free(server->loops);
    listener_list_release(&server->listeners);
    tickets_free(server->tickets);
    tree_free(server->tree);
    (void)pthread_cond_destroy(&server->listed);
    (void)pthread_mutex_destroy(&server->list_mu);
    (void)pthread_mutex_destroy(&server->mu);
    free(server);
}

/* ---- what others ask ---- */

bool server_is_moving(struct server *server)
{
    return server->stall == NULL || stall_is_moving(server->stall);
}

uint64_t server_stalls(struct server *server)
{
    return server->stall != NULL ? stall_count(server->stall) : 0;
}

/* ---- the coordinator's callbacks ---- */

static void op_lame_duck(void *data, bool on)
{
    struct server *server = data;
    atomic_store_explicit(&server->lame_duck, on, memory_order_relaxed);
    order_all(server, ORDER_LAME_DUCK);
}

static void keep_newcomers_out(struct listener *listener)
{
    int err = listener_stop_newcomers(listener);

    if (err != 0)
        log_line(LOG_LEVEL_WARN, "filter-failed", NULL,
                 "cannot keep newcomers from %s while it closes: %s (a connection that arrives "
                 "in this instant may be reset)",
                 listener->name, strerrordesc_np(-err));
}

static void op_close_listeners(void *data)
{
    struct server *server = data;
    struct coord_status status;

    coord_get_status(server->coord, &status); /* that does not change once a drain was asked for */
    for (size_t i = 0; i < server->listeners.count; i++) {
        struct listener *listener = &server->listeners.items[i];
        /* What somebody else goes on with is never filtered, shut down or unlinked: only left. */
        listener->stays = listener->is_held || (listener->is_inherited && status.stands_by);
        if (!listener->stays)
            keep_newcomers_out(listener);
    }
    order_all(server, ORDER_CLOSING);
}

static void op_hand_over(void *data)
{
    struct server *server = data;

    for (size_t i = 0; i < server->listeners.count; i++) {
        struct listener *listener = &server->listeners.items[i];
        listener->stays =
            listener->is_held ||
            is_among(server->successor.taken, server->successor.taken_count, listener->id);
        listener->welcomed =
            is_among(server->successor.welcome, server->successor.welcome_count, listener->id);
        if (!listener->stays)
            keep_newcomers_out(listener);
    }
    atomic_store_explicit(&server->handed_over, true, memory_order_relaxed);
    atomic_store_explicit(&server->lame_duck, true, memory_order_relaxed);
    order_all(server, ORDER_HAND_OVER | ORDER_LAME_DUCK | ORDER_CLOSING);
}

static void op_finish(void *data, uint64_t spread_ns)
{
    struct server *server = data;
    atomic_store_explicit(&server->spread_ns, spread_ns, memory_order_relaxed);
    order_all(server, ORDER_FINISH);
}

static void op_release_idle(void *data, uint64_t spread_ns)
{
    struct server *server = data;
    atomic_store_explicit(&server->release_spread_ns, spread_ns, memory_order_relaxed);
    order_all(server, ORDER_RELEASE_IDLE);
}

static void op_give_up(void *data, unsigned classes)
{
    struct server *server = data;
    atomic_store_explicit(&server->given_up, classes, memory_order_relaxed);
    order_all(server, ORDER_GIVE_UP);
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

    (void)pthread_mutex_lock(&server->list_mu); /* one at a time: the loops have one list each */
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
            /* What has arrived there and was not read, nobody has counted: so each of its
             * connections may have a request. */
            uint64_t unknown = count_get(&loop->counts.active);
            uint64_t connections = count_get(&loop->counts.connections);
            if (unknown < connections)
                unknown = connections;
            ret_list->left_out += unknown;
            log_line(LOG_LEVEL_WARN, "loop-silent", NULL,
                     "loop %u did not list its requests in %d ms: up to %llu are not named", i,
                     LIST_PATIENCE_MS, (unsigned long long)unknown);
        }
    }
    (void)pthread_mutex_unlock(&server->mu);
    (void)pthread_mutex_unlock(&server->list_mu);
    /* Each loop that has listed has disowned its jobs before: a worker that a cancelled handler
     * sets free finds only requests that it leaves alone. */
    if (freeze)
        order_all(server, ORDER_STOP_JOBS);
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
        ret_census->given_up += count_get(&counts->given_up);
        ret_census->handed_over += count_get(&counts->handed_over);
    }
}

uint64_t server_shed(struct server *server)
{
    uint64_t shed = 0;
    for (unsigned i = 0; i < server->started; i++)
        shed += count_get(&server->loops[i].counts.shed);
    return shed;
}

const struct coord_server_ops server_ops = {
    .lame_duck = op_lame_duck,
    .close_listeners = op_close_listeners,
    .hand_over = op_hand_over,
    .finish = op_finish,
    .release_idle = op_release_idle,
    .give_up = op_give_up,
    .list_requests = op_list_requests,
    .cut = op_cut,
    .census = op_census,
};

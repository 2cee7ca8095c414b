#include "admin.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "admin_p.h"
#include "log.h"

/* The sockets and the thread.
 *
 * Bounds. No more than ADMIN_CONNS_MAX connections are open at a time. A new one beyond that pushes
 * out the one that has been silent longest, rather than to wait behind it: whoever fills the
 * listener with connections that do nothing must not keep a probe from its answer.
 *
 * Farewell. At the step into DONE the coordinator wakes this thread, which sends the last status
 * and says so in `farewell_said`; meanwhile main is on its way out and waits for that in
 * admin_leave(), but only if somebody watches, and never longer than ADMIN_FAREWELL_MS.
 *
 * Rest. Behind a restart the successor answers here, and whoever asked this process in its last
 * instants must not meet silence in place of it: main waits, as long at most, until each connection
 * that was accepted has its answer. */

#define USUAL_FOLDER "lastcall"
#define RETRY_MS 100
#define TOKEN_LONGEST 4096

/* ---- opening ---- */

static int fail(int status, const char *error)
{
    log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "%s", error);
    return status;
}

/* The folder `parent`/lastcall, made if it is not there. It must be ours, or whoever owns it could
 * put something else in our socket's place. */
static bool usable_folder(const char *parent, mode_t mode, char *folder, size_t size)
{
    struct stat st;
    int n = snprintf(folder, size, "%s/" USUAL_FOLDER, parent);

    if (n < 0 || (size_t)n >= size)
        return false;
    (void)mkdir(folder, mode);
    return lstat(folder, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
           (st.st_mode & (S_IWGRP | S_IWOTH)) == 0 && access(folder, W_OK | X_OK) == 0;
}

/* NAME: the port of the first listener that has one; else what a Unix socket's file is called. */
static void usual_name(const struct options *options, const struct server *server, char *name,
                       size_t size)
{
    const struct listener_list *list = &server->listeners;

    (void)snprintf(name, size, "%s",
                   options->admin_name != NULL ? options->admin_name : "lastcall");
    for (size_t i = 0; i < list->count && options->admin_name == NULL; i++) {
        if (list->items[i].family == AF_UNIX)
            continue;
        (void)snprintf(name, size, "%s", strrchr(list->items[i].name, ':') + 1);
        return;
    }
    if (options->admin_name != NULL || list->count == 0)
        return;
    const char *slash = strrchr(list->items[0].name, '/');
    const char *file = slash != NULL ? slash + 1 : list->items[0].name;
    size_t n = strlen(file);
    if (n > 5 && strcmp(file + n - 5, ".sock") == 0)
        n -= 5;
    (void)snprintf(name, size, "%.*s", (int)(n < OPTIONS_NAME_MAX ? n : OPTIONS_NAME_MAX), file);
}

/* For root its handing over to the user that it becomes; nobody else can do so. */
static int open_unix(struct admin *admin, const char *text, char *error, size_t error_size)
{
    const struct listener_how how = {.mode = 0600,
                                     .owner = geteuid() == 0 ? admin->options->user : NULL};
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (strlen(text + 5) >= sizeof(address.sun_path)) {
        (void)snprintf(error, error_size, "cannot listen on %s: the path must have 1 to %zu bytes",
                       text, sizeof(address.sun_path) - 1);
        return -EINVAL;
    }
    (void)strcpy(address.sun_path, text + 5);
    return listener_open_address(&admin->listeners, text, (const struct sockaddr *)&address,
                                 sizeof(address), &how, error, error_size);
}

/* A predecessor has opened it, who may have had rights that we have not. */
static bool is_passed_on(const struct admin *admin, const char *folder, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s.sock", folder, name);

    return admin->listeners.inheritance != NULL && n > 0 && (size_t)n < sizeof(address.sun_path) &&
           inherit_find(admin->listeners.inheritance, (const struct sockaddr *)&address,
                        sizeof(address), false) != NULL;
}

static bool find_passed_on(const struct admin *admin, const char *runtime, const char *name,
                           char *folder, size_t size)
{
    (void)snprintf(folder, size, "/run/" USUAL_FOLDER);
    if (is_passed_on(admin, folder, name))
        return true;
    (void)snprintf(folder, size, "%s/" USUAL_FOLDER, runtime != NULL ? runtime : "");
    return is_passed_on(admin, folder, name);
}

/* False: there is none, and the log says why. */
static bool open_usual(struct admin *admin)
{
    const char *runtime = getenv("XDG_RUNTIME_DIR");
    char folder[sizeof(((struct sockaddr_un *)NULL)->sun_path)], name[OPTIONS_NAME_MAX + 1];
    char text[sizeof(folder) + sizeof(name) + 16], error[512];

    usual_name(admin->options, admin->server, name, sizeof(name));
    if (!find_passed_on(admin, runtime, name, folder, sizeof(folder)) &&
        !usable_folder("/run", 0755, folder, sizeof(folder)) &&
        !(runtime != NULL && runtime[0] == '/' &&
          usable_folder(runtime, 0700, folder, sizeof(folder)))) {
        log_line(LOG_LEVEL_INFO, "no-admin", NULL,
                 "no admin listener: neither /run/" USUAL_FOLDER
                 " nor $XDG_RUNTIME_DIR/" USUAL_FOLDER
                 " can be had (--admin ADDR sets another address, --admin off means it)");
        return false;
    }
    (void)snprintf(text, sizeof(text), "unix:%s/%s.sock", folder, name);
    int err = open_unix(admin, text, error, sizeof(error));
    if (err == 0)
        return true;
    log_line(LOG_LEVEL_INFO, "no-admin", NULL,
             "no admin listener: %s %s (--admin-name NAME sets another)", text,
             err == -EADDRINUSE ? "belongs to another process" : strerrordesc_np(-err));
    return false;
}

/* The secret itself is not kept. */
static int read_token(struct admin *admin, const char *path)
{
    char line[TOKEN_LONGEST], error[TOKEN_LONGEST];
    FILE *file = fopen(path, "re");
    bool got = file != NULL && fgets(line, sizeof(line), file) != NULL;
    int err = errno;

    if (file != NULL)
        (void)fclose(file);
    size_t n = got ? strcspn(line, "\r\n") : 0;
    if (n == 0 || n == sizeof(line) - 1) {
        (void)snprintf(error, sizeof(error), "cannot use the admin token file %s: %s", path,
                       file == NULL ? strerrordesc_np(err)
                       : n == 0     ? "its first line is empty"
                                    : "its first line is too long");
        return fail(COORD_EXIT_CONFIG, error);
    }
    admin->has_token = EVP_Digest(line, n, admin->token, NULL, EVP_sha256(), NULL) == 1;
    OPENSSL_cleanse(line, sizeof(line));
    return admin->has_token ? 0 : fail(COORD_EXIT_UNAVAILABLE, "OpenSSL has no SHA-256");
}

static int open_sockets(struct admin *admin, bool *ret_none)
{
    const char *text = admin->options->admin;
    char error[512];

    *ret_none = false;
    if (text == NULL) {
        *ret_none = !open_usual(admin);
        return 0;
    }
    int err = strncmp(text, "unix:", 5) == 0
                  ? open_unix(admin, text, error, sizeof(error))
                  : listener_open(&admin->listeners, text, error, sizeof(error));
    return err == 0 ? 0 : fail(COORD_EXIT_UNAVAILABLE, error);
}

int admin_open(const struct options *options, struct server *server, struct admin **ret_admin)
{
    bool none;

    *ret_admin = NULL;
    if (options->admin != NULL && strcmp(options->admin, "off") == 0)
        return 0;
    struct admin *admin = calloc(1, sizeof(*admin));
    if (admin == NULL)
        return fail(COORD_EXIT_UNAVAILABLE, "no memory to start");
    admin->options = options;
    admin->server = server;
    admin->listeners.inheritance = options->inheritance;
    admin->started_ns = clock_now_ns();
    (void)clock_format_wall(admin->started_wall);
    (void)pthread_mutex_init(&admin->mu, NULL);
    clock_cond_init(&admin->told);
    admin->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int status = admin->wake_fd < 0 ? fail(COORD_EXIT_UNAVAILABLE, "cannot make an eventfd(2)") : 0;
    if (status == 0 && options->admin_token_file != NULL)
        status = read_token(admin, options->admin_token_file);
    if (status == 0)
        status = open_sockets(admin, &none);
    if (status != 0 || none) {
        admin_destroy(admin);
        return status;
    }
    for (size_t i = 0; i < admin->listeners.count; i++)
        admin->listeners.items[i].id = handover_socket_id(admin->listeners.items[i].fd);
    *ret_admin = admin;
    return 0;
}

/* ---- connections ---- */

static void on_listener(h2o_socket_t *sock, const char *err);

static void pause_accepting(struct admin *admin)
{
    admin->accept_paused = true;
    for (size_t i = 0; i < admin->listeners.count; i++)
        h2o_socket_read_stop(admin->accepting[i].sock);
}

static void resume_accepting(struct admin *admin)
{
    /* acquire: pairs with the release in admin_followed(), which has marked those that stay */
    bool followed = atomic_load_explicit(&admin->followed, memory_order_acquire);

    admin->accept_paused = false;
    if (!atomic_load_explicit(&admin->accepts, memory_order_acquire))
        return;
    for (size_t i = 0; i < admin->listeners.count; i++)
        if (!followed || !admin->listeners.items[i].stays)
            h2o_socket_read_start(admin->accepting[i].sock, on_listener);
}

static void on_retry(h2o_timeout_entry_t *entry)
{
    resume_accepting(container_of(entry, struct admin, retry_timer));
}

void admin_conn_touch(struct admin_conn *conn)
{
    h2o_linklist_unlink(&conn->link);
    h2o_linklist_insert(&conn->admin->conns, &conn->link);
}

struct admin_conn *admin_conn_of(h2o_req_t *req)
{
    return req->conn->callbacks->get_socket(req->conn)->on_close.data;
}

/* It is closed in one of the next turns, see on_close(). */
static void push_out(struct admin_conn *conn)
{
    conn->pushed_out = true;
    (void)shutdown(h2o_socket_get_fd(conn->sock), SHUT_RDWR);
    if (conn->stream != NULL)
        admin_events_nudge(conn->stream);
}

static bool wants_exit(struct admin *admin)
{
    return atomic_load_explicit(&admin->want_exit, memory_order_acquire);
}

static void look_whether_at_rest(struct admin *admin)
{
    if (admin->owed > 0)
        return;
    (void)pthread_mutex_lock(&admin->mu);
    admin->rests = admin->leaves;
    if (admin->rests)
        (void)pthread_cond_signal(&admin->told);
    (void)pthread_mutex_unlock(&admin->mu);
}

void admin_conn_owes_nothing(struct admin_conn *conn)
{
    if (!conn->owes)
        return;
    conn->owes = false;
    conn->admin->owed--;
    look_whether_at_rest(conn->admin);
}

struct debt {
    struct admin_conn *conn;
};

static void on_paid(void *data)
{
    admin_conn_owes_nothing(((struct debt *)data)->conn); /* which is closed behind this at most */
}

void admin_conn_owes(struct admin_conn *conn, h2o_req_t *req)
{
    struct debt *debt = h2o_mem_alloc_shared(&req->pool, sizeof(*debt), on_paid);

    debt->conn = conn;
    conn->admin->owed += !conn->owes;
    conn->owes = true;
}

static void on_close(void *data)
{
    struct admin_conn *conn = data;
    struct admin *admin = conn->admin;

    admin_conn_owes_nothing(conn);
    h2o_linklist_unlink(&conn->link);
    admin->conn_count--;
    free(conn);
    if (admin->accept_paused && !wants_exit(admin))
        resume_accepting(admin);
}

/* False: there is none, for now. */
static bool accept_one(struct admin_listener *from)
{
    struct admin *admin = from->admin;
    struct admin_conn *conn = calloc(1, sizeof(*conn));
    h2o_socket_t *sock = conn != NULL ? h2o_evloop_socket_accept(from->sock) : NULL;

    if (sock == NULL) {
        free(conn);
        if (conn != NULL && errno == EAGAIN)
            return false;
        pause_accepting(admin); /* no descriptor, no memory, or a connection that is gone again */
        h2o_timeout_unlink(&admin->retry_timer);
        h2o_timeout_link(admin->evloop, &admin->retry_ticks, &admin->retry_timer);
        return false;
    }
    conn->admin = admin;
    conn->sock = sock;
    conn->is_unix = from->is_unix;
    h2o_linklist_insert(&admin->conns, &conn->link);
    admin->conn_count++;
    conn->owes = true;
    admin->owed++;
    sock->on_close.cb = on_close;
    sock->on_close.data = conn;
    h2o_accept(&admin->accept_ctx, sock);
    return true;
}

static void on_listener(h2o_socket_t *sock, const char *err)
{
    struct admin_listener *from = sock->data;
    struct admin *admin = from->admin;

    if (err != NULL)
        return;
    while (admin->conn_count < ADMIN_CONNS_MAX)
        if (!accept_one(from))
            return;
    /* Its close makes room, and accepts. */
    pause_accepting(admin);
    struct admin_conn *silent = container_of(admin->conns.next, struct admin_conn, link);
    admin_conn_touch(silent);
    push_out(silent);
}

/* ---- the thread ---- */

/* The thread closes the descriptor when it ends, which may be while somebody still has news. */
static void wake(struct admin *admin)
{
    uint64_t one = 1;

    (void)pthread_mutex_lock(&admin->mu);
    if (!admin->deaf)
        (void)!write(admin->wake_fd, &one, sizeof(one)); /* a full counter is readable too */
    (void)pthread_mutex_unlock(&admin->mu);
}

static void on_wake(h2o_socket_t *sock, const char *err)
{
    struct admin *admin = sock->data;
    uint64_t count;

    if (err != NULL)
        return;
    (void)!read(admin->wake_fd, &count, sizeof(count));
    if (!admin->accept_paused && !wants_exit(admin)) { /* who may have changed */
        pause_accepting(admin);
        resume_accepting(admin);
    }
    admin_events_step(admin);
    look_whether_at_rest(admin); /* behind the pause: nobody else is accepted where one follows */
}

/* On the coordinator's thread, which may be on its way out: a thread that nobody needs is not woken
 * to compete with it. Who begins to watch counts first and then asks for the status, under the
 * coordinator's lock; so does this, the other way round, behind a step that was written under it.
 * One of the two sees the other. */
static void on_step(void *arg, enum coord_phase phase)
{
    struct admin *admin = arg;

    (void)phase;
    if (atomic_load_explicit(&admin->watchers, memory_order_relaxed) > 0)
        wake(admin);
}

static void configure(struct admin *admin)
{
    h2o_globalconf_t *conf = &admin->globalconf;

    h2o_config_init(conf);
    conf->server_name = (h2o_iovec_t){H2O_STRLIT("lastcall")};
    conf->http1.upgrade_to_http2 = 0; /* what is pipelined would be many requests at once */
    admin_api_register(admin);
}

static void set_up(struct admin *admin)
{
    h2o_linklist_init_anchor(&admin->conns);
    h2o_linklist_init_anchor(&admin->streams);
    admin->evloop = h2o_evloop_create();
    IN_LIBRARY_FOR_GOOD(configure(admin));
    IN_LIBRARY_FOR_GOOD(h2o_context_init(&admin->ctx, admin->evloop, &admin->globalconf));
    admin->accept_ctx = (h2o_accept_ctx_t){.ctx = &admin->ctx, .hosts = admin->globalconf.hosts};
    h2o_timeout_init(admin->evloop, &admin->retry_ticks, RETRY_MS);
    admin->retry_timer.cb = on_retry;
    admin->wake_sock =
        h2o_evloop_socket_create(admin->evloop, admin->wake_fd, H2O_SOCKET_FLAG_DONT_READ);
    admin->wake_sock->data = admin;
    h2o_socket_read_start(admin->wake_sock, on_wake);
    for (size_t i = 0; i < admin->listeners.count; i++) {
        struct admin_listener *from = &admin->accepting[i];
        h2o_socket_t *sock =
            h2o_evloop_socket_create(admin->evloop, from->fd, H2O_SOCKET_FLAG_DONT_READ);
        from->sock = sock;
        sock->data = from;
    }
    resume_accepting(admin);
}

static void cut_all(struct admin *admin)
{
    pause_accepting(admin);
    h2o_timeout_unlink(&admin->retry_timer);
    for (h2o_linklist_t *node = admin->conns.next, *next; node != &admin->conns; node = next) {
        next = node->next;
        push_out(container_of(node, struct admin_conn, link));
    }
}

static void release(struct admin *admin)
{
    admin_events_stop(admin);
    for (size_t i = 0; i < admin->listeners.count; i++)
        h2o_socket_close(admin->accepting[i].sock);
    h2o_socket_close(admin->wake_sock);
    h2o_timeout_dispose(admin->evloop, &admin->retry_ticks);
    h2o_context_dispose(&admin->ctx);
    h2o_config_dispose(&admin->globalconf);
    h2o_evloop_destroy(admin->evloop);
    coord_requests_release(&admin->oldest.list);
    free(admin->unfinished);
}

static void *admin_thread(void *arg)
{
    struct admin *admin = arg;

    (void)pthread_setname_np(pthread_self(), "admin");
    set_up(admin);
    while (!wants_exit(admin))
        (void)h2o_evloop_run(admin->evloop, INT32_MAX);
    cut_all(admin);
    while (admin->conn_count > 0)
        (void)h2o_evloop_run(admin->evloop, INT32_MAX);
    (void)pthread_mutex_lock(&admin->mu);
    admin->deaf = true;
    (void)pthread_mutex_unlock(&admin->mu);
    release(admin);
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
    sigset_t all, before;

    if (admin == NULL)
        return 0;
    admin->pool = pool;
    admin->coord = coord;
    int err = duplicate_listeners(admin);
    if (err != 0)
        return err;
    coord_on_step(coord, on_step, admin);
    /* A signal is for the signal thread alone. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    err = pthread_create(&admin->thread, NULL, admin_thread, admin);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err != 0)
        return -err;
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
        admin->restarter = restarter;
}

void admin_accept(struct admin *admin)
{
    if (admin == NULL)
        return;
    (void)pthread_mutex_lock(&admin->mu); /* admin_leave() may read it by now */
    for (size_t i = 0; i < admin->listeners.count; i++)
        admin->listeners.items[i].stays = false; /* and its file is ours to remove */
    (void)pthread_mutex_unlock(&admin->mu);
    /* release: pairs with the acquire in resume_accepting() */
    atomic_store_explicit(&admin->accepts, true, memory_order_release);
    wake(admin);
}

bool admin_offer(struct admin *admin, size_t i, struct handover_message *ret_message)
{
    struct inherited item;

    if (admin == NULL || i >= admin->listeners.count)
        return false;
    (void)pthread_mutex_lock(&admin->mu); /* a stop may be closing it */
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
    /* release: pairs with the acquire in resume_accepting() */
    atomic_store_explicit(&admin->followed, true, memory_order_release);
    wake(admin);
}

/* `is_done` is one of those under mu. */
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
    for (size_t i = 0; i < admin->listeners.count; i++)
        listener_close(&admin->listeners.items[i]); /* and its file; the thread has its own */
    admin->leaves = true;
    (void)pthread_mutex_unlock(&admin->mu);
    if (!admin->runs)
        return;
    struct timespec until = clock_timespec(clock_now_ns() + ADMIN_FAREWELL_MS * NS_PER_MS);
    /* acquire: pairs with the release in admin_followed() */
    if (atomic_load_explicit(&admin->followed, memory_order_acquire)) {
        wake(admin);
        wait_for(admin, &admin->rests, &until);
    }
    if (atomic_load_explicit(&admin->watchers, memory_order_relaxed) > 0)
        wait_for(admin, &admin->farewell_said, &until);
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
    listener_list_release(&admin->listeners);
    free(admin->accepting);
    (void)pthread_cond_destroy(&admin->told);
    (void)pthread_mutex_destroy(&admin->mu);
    free(admin);
}

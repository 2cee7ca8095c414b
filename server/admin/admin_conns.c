#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "admin_p.h"

/* Connections of the admin listener, which no more than ADMIN_CONNS_MAX may have open at a time. A
 * new one beyond that limit replaces the one that has been silent longest: a client that opens
 * connections and sends nothing must not block a probe. */

#define RETRY_MS 100

static void on_listener(h2o_socket_t *sock, const char *err);

void admin_pause_accepting(struct admin *admin)
{
    admin->accept_paused = true;
    for (size_t i = 0; i < admin->listeners.count; i++)
        h2o_socket_read_stop(admin->accepting[i].sock);
}

static bool stays(struct admin *admin, size_t i)
{
    (void)pthread_mutex_lock(&admin->mu); /* admin_leave() may be writing it */
    bool stays = admin->listeners.items[i].stays;
    (void)pthread_mutex_unlock(&admin->mu);
    return stays;
}

void admin_resume_accepting(struct admin *admin)
{
    /* acquire: pairs with the release in admin_followed(), which marked the listeners that stay */
    bool followed = atomic_load_explicit(&admin->followed, memory_order_acquire);

    admin->accept_paused = false;
    if (!atomic_load_explicit(&admin->accepts, memory_order_acquire))
        return;
    for (size_t i = 0; i < admin->listeners.count; i++)
        if (!followed || !stays(admin, i))
            h2o_socket_read_start(admin->accepting[i].sock, on_listener);
}

void admin_accept_where_due(struct admin *admin)
{
    if (admin->accept_paused || admin_wants_exit(admin))
        return;
    admin_pause_accepting(admin);
    admin_resume_accepting(admin);
}

static void on_retry(h2o_timeout_entry_t *entry)
{
    admin_resume_accepting(container_of(entry, struct admin, retry_timer));
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

/* The library closes it in one of the next turns, see on_close(). */
static void push_out(struct admin_conn *conn)
{
    conn->pushed_out = true;
    (void)shutdown(h2o_socket_get_fd(conn->sock), SHUT_RDWR);
    if (conn->stream != NULL)
        admin_events_nudge(conn->stream);
}

bool admin_wants_exit(struct admin *admin)
{
    return atomic_load_explicit(&admin->want_exit, memory_order_acquire);
}

void admin_look_whether_at_rest(struct admin *admin)
{
    /* acquire: see admin_resume_accepting(). Without a successor a client that has only connected
     * is not waited for. */
    bool followed = atomic_load_explicit(&admin->followed, memory_order_acquire);

    if ((followed ? admin->owed : atomic_load_explicit(&admin->asked, memory_order_relaxed)) > 0)
        return;
    (void)pthread_mutex_lock(&admin->mu);
    admin->rests = admin->leaves;
    if (admin->rests)
        (void)pthread_cond_signal(&admin->told);
    (void)pthread_mutex_unlock(&admin->mu);
}

static void count_asked(struct admin_conn *conn, bool asks)
{
    struct admin *admin = conn->admin;
    unsigned asked = atomic_load_explicit(&admin->asked, memory_order_relaxed);

    /* One thread writes it. */
    atomic_store_explicit(&admin->asked, asked + asks - conn->asks, memory_order_relaxed);
    conn->asks = asks;
}

void admin_conn_owes_nothing(struct admin_conn *conn)
{
    if (!conn->owes)
        return;
    conn->owes = false;
    conn->admin->owed--;
    count_asked(conn, false);
    admin_look_whether_at_rest(conn->admin);
}

struct debt {
    struct admin_conn *conn;
};

static void on_paid(void *data)
{
    admin_conn_owes_nothing(
        ((struct debt *)data)->conn); /* it is closed after this, never before */
}

void admin_conn_owes(struct admin_conn *conn, h2o_req_t *req)
{
    struct debt *debt = h2o_mem_alloc_shared(&req->pool, sizeof(*debt), on_paid);

    debt->conn = conn;
    conn->admin->owed += !conn->owes;
    conn->owes = true;
    count_asked(conn, true);
}

static void on_close(void *data)
{
    struct admin_conn *conn = data;
    struct admin *admin = conn->admin;

    admin_conn_owes_nothing(conn);
    h2o_linklist_unlink(&conn->link);
    admin->conn_count--;
    free(conn);
    if (admin->accept_paused && !admin_wants_exit(admin))
        admin_resume_accepting(admin);
}

/* False: there is no connection to accept for now. */
static bool accept_one(struct admin_listener *from)
{
    struct admin *admin = from->admin;
    struct admin_conn *conn = calloc(1, sizeof(*conn));
    h2o_socket_t *sock = conn != NULL ? h2o_evloop_socket_accept(from->sock) : NULL;

    if (sock == NULL) {
        free(conn);
        if (conn != NULL && errno == EAGAIN)
            return false;
        admin_pause_accepting(
            admin); /* no descriptor, no memory, or the connection was reset already */
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
    /* Closing the connection makes room, and on_close() accepts again. */
    admin_pause_accepting(admin);
    struct admin_conn *silent = container_of(admin->conns.next, struct admin_conn, link);
    admin_conn_touch(silent);
    push_out(silent);
}

void admin_conns_cut(struct admin *admin)
{
    admin_pause_accepting(admin);
    h2o_timeout_unlink(&admin->retry_timer);
    for (h2o_linklist_t *node = admin->conns.next, *next; node != &admin->conns; node = next) {
        next = node->next;
        push_out(container_of(node, struct admin_conn, link));
    }
}

void admin_conns_init(struct admin *admin)
{
    h2o_linklist_init_anchor(&admin->conns);
    h2o_timeout_init(admin->evloop, &admin->retry_ticks, RETRY_MS);
    admin->retry_timer.cb = on_retry;
    for (size_t i = 0; i < admin->listeners.count; i++) {
        struct admin_listener *from = &admin->accepting[i];
        from->sock = h2o_evloop_socket_create(admin->evloop, from->fd, H2O_SOCKET_FLAG_DONT_READ);
        from->sock->data = from;
    }
    admin_resume_accepting(admin);
}

void admin_conns_release(struct admin *admin)
{
    for (size_t i = 0; i < admin->listeners.count; i++)
        h2o_socket_close(admin->accepting[i].sock);
    h2o_timeout_dispose(admin->evloop, &admin->retry_ticks);
}

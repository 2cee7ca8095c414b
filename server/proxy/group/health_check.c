#include "health_check.h"

#include <stdlib.h>
#include <string.h>

#include "answer_head.h"
#include "answer_reader.h"
#include "clock.h"
#include "dial.h"
#include "library.h"
#include "log.h"
#include "loop.h"

/* Active checks of upstreams.
 *
 * One loop checks for all: so an upstream is asked once in each interval, however many loops there
 * are, and all of them act on the same outcome, which is what /status shows. The groups are spread
 * over the loops. If that loop is held up, so are its checks, and the last outcome stays.
 *
 *     GET path, Connection: close, on a connection of its own. A status of 200 to 399 is good;
 *     another one, no connection, no head in time, or bytes that are no head, are bad. A lastcall
 *     that is about to stop answers its ready route with 503 while it still serves: so it gets no
 *     new requests before it closes.
 *
 * When the drain of this process begins to finish requests, the checks end; a member stays what it
 * was. They are no connections of clients, and no drain waits for them. */

struct check {
    struct checks *all;
    size_t index;             /* of the member */
    struct upstream upstream; /* for dial.c: not the view's, whose connections requests use */
    h2o_timeout_entry_t next; /* when it is asked again */
    h2o_timeout_entry_t limit;
    struct dial *dial;  /* NULL: none under way */
    h2o_socket_t *sock; /* NULL: none */
    h2o_iovec_t request;
    struct answer_reader reader;
};

struct checks {
    struct upstream_view *view;
    struct proxy_loop_end end;
    struct proxy_settings settings; /* those of the route, with other times */
    h2o_mem_pool_t pool;
    struct check list[];
};

static void link_timer(struct check *check, h2o_timeout_entry_t *timer, uint64_t ms)
{
    struct proxy_loop *proxy = check->all->view->proxy;

    h2o_timeout_link(proxy->loop->evloop, proxy_loop_timers(proxy, ms), timer);
}

/* ---- the end of one ---- */

static void let_go(struct check *check)
{
    h2o_timeout_unlink(&check->limit);
    if (check->dial != NULL)
        dial_cancel(check->dial);
    check->dial = NULL;
    if (check->sock != NULL)
        h2o_socket_close(check->sock);
    check->sock = NULL;
}

static void say(const struct check *check, bool is_good, const char *why)
{
    const char *name = check->upstream.target->name, *route = check->all->view->group->route;

    log_line(is_good ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, is_good ? "upstream-up" : "upstream-down",
             json_pack("{s:s, s:s, s:s}", "route", route, "upstream", name, "cause", why),
             is_good ? "upstream %s of %s is up: %s" : "upstream %s of %s is down: %s", name, route,
             why);
}

static void finish(struct check *check, bool is_good, const char *why)
{
    struct upstream_view *view = check->all->view;
    const struct upstream_group *group = view->group;

    let_go(check);
    if (health_checked(group->health, check->index, is_good, loop_now_ns(view->proxy->loop)))
        say(check, is_good, why);
    link_timer(check, &check->next, group->rules->check_every_ms);
}

static void on_limit(h2o_timeout_entry_t *timer)
{
    finish(container_of(timer, struct check, limit), false, "it did not answer in time");
}

/* ---- the answer ---- */

static void on_readable(h2o_socket_t *sock, const char *error)
{
    struct check *check = sock->data;
    struct answer_fields fields;

    for (;;) {
        ssize_t size =
            answer_reader_head(&check->reader, sock->input->bytes, sock->input->size, &fields);
        if (size < 0) {
            finish(check, false, check->reader.fault);
            return;
        }
        if (size == 0)
            break;
        if (!answer_is_interim(fields.status)) {
            bool is_good = fields.status >= 200 && fields.status <= 399;
            finish(check, is_good, is_good ? "it answers" : "its answer says that it is not ready");
            return;
        }
        h2o_buffer_consume(&sock->input, (size_t)size);
    }
    if (error != NULL)
        finish(check, false, "it ended the connection without an answer");
    else if (sock->input->size > ANSWER_HEAD_MAX)
        finish(check, false, "the head of its answer is too large");
}

static void on_written(h2o_socket_t *sock, const char *error)
{
    if (error != NULL) {
        finish(sock->data, false, "it ended the connection without an answer");
        return;
    }
    library.h2o_socket_read_start(sock, on_readable);
}

static void on_dialled(void *data, h2o_socket_t *sock, enum upstream_failure failure,
                       const char *what)
{
    struct check *check = data;

    (void)failure;
    check->dial = NULL;
    if (sock == NULL) {
        finish(check, false, what);
        return;
    }
    check->sock = sock;
    sock->data = check;
    answer_reader_init(&check->reader, false, false);
    h2o_socket_write(sock, &check->request, 1, on_written);
}

/* ---- the beginning ---- */

static void on_next(h2o_timeout_entry_t *timer)
{
    struct check *check = container_of(timer, struct check, next);

    if (check->all->view->proxy->loop->draining)
        return;
    link_timer(check, &check->limit, check->all->settings.connect_ms);
    check->dial = dial_begin(&check->upstream, on_dialled, check);
}

static void on_end(struct proxy_loop_end *end)
{
    struct checks *checks = container_of(end, struct checks, end);

    for (size_t i = 0; i < checks->view->group->count; i++) {
        h2o_timeout_unlink(&checks->list[i].next);
        let_go(&checks->list[i]);
    }
    h2o_mem_clear_pool(&checks->pool);
    free(checks);
}

static h2o_iovec_t make_request(struct checks *checks, const struct group_member *member)
{
    const struct upstream_group *group = checks->view->group;
    h2o_iovec_t path = h2o_iovec_init(group->rules->check_path, strlen(group->rules->check_path));
    bool has_line = group->settings->sends_proxy_line;

    return h2o_concat(&checks->pool,
                      has_line ? h2o_iovec_init(H2O_STRLIT("PROXY UNKNOWN\r\n"))
                               : h2o_iovec_init("", 0),
                      h2o_iovec_init(H2O_STRLIT("GET ")), path,
                      h2o_iovec_init(H2O_STRLIT(" HTTP/1.1\r\nhost: ")), member->url.authority,
                      h2o_iovec_init(H2O_STRLIT("\r\nuser-agent: lastcall\r\n"
                                                "connection: close\r\n\r\n")));
}

void health_check_begin(struct upstream_view *view)
{
    const struct upstream_group *group = view->group;
    size_t size = group->count * sizeof(struct check);

    if (group->rules->check_path == NULL)
        return;
    struct checks *checks = h2o_mem_alloc(sizeof(*checks) + size);
    memset(checks, 0, sizeof(*checks) + size);
    checks->view = view;
    checks->settings = *group->settings;
    checks->settings.connect_ms = group->rules->check_limit_ms;
    checks->end.cb = on_end;
    h2o_mem_init_pool(&checks->pool);
    proxy_loop_at_end(view->proxy, &checks->end);
    for (size_t i = 0; i < group->count; i++) {
        struct check *check = &checks->list[i];
        check->all = checks;
        check->index = i;
        check->next.cb = on_next;
        check->limit.cb = on_limit;
        check->request = make_request(checks, &group->members[i]);
        upstream_init(&check->upstream, view->proxy, &group->members[i].target, &checks->settings);
        link_timer(check, &check->next, 1); /* when the loop runs */
    }
}

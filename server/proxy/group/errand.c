#include "errand.h"

#include <stdio.h>

#include "clock.h"
#include "errand_key.h"
#include "forward.h"
#include "hold.h"
#include "log.h"
#include "loop.h"
#include "request.h"

/* While requests wait, the loop looks so often whether a member is up: the health changes on other
 * loops, and there is no wake-up for that. */
#define LOOK_EVERY_MS 20
/* The oldest among which one is looked for that may be lost. */
#define LOOK_AT_MOST 64

static struct errand *errand_of(h2o_req_t *req)
{
    return &container_of(req->overrides, struct errand_overrides, super)->errand;
}

static struct loop_metrics *metrics_of(const struct upstream_view *view)
{
    return &view->proxy->loop->metrics;
}

/* ---- the end of a request ---- */

static void leave_waiting(struct errand *errand)
{
    struct server *server = errand->view->proxy->loop->server;

    if (!h2o_linklist_is_linked(&errand->link))
        return;
    h2o_linklist_unlink(&errand->link);
    hold_unadmit(server, errand->req->entity.len);
    count_add(&metrics_of(errand->view)->upstream_waiting, (uint64_t)-1);
}

static void drop_trial(struct errand *errand)
{
    if (errand->trial != HEALTH_NO_TRIAL)
        health_drop_trial(errand->view->group->health, errand->tried, errand->trial);
    errand->trial = HEALTH_NO_TRIAL;
}

/* Its outcome is there: it is a trial no more. */
static health_trial end_trial(struct errand *errand)
{
    health_trial trial = errand->trial;

    errand->trial = HEALTH_NO_TRIAL;
    return trial;
}

static void on_dispose(void *data)
{
    struct errand *errand = *(struct errand **)data;

    leave_waiting(errand);
    drop_trial(errand);
}

/* Most requests need no word at their end. */
static void watch_end(struct errand *errand)
{
    if (errand->is_watched)
        return;
    struct errand **end = h2o_mem_alloc_shared(&errand->req->pool, sizeof(*end), on_dispose);
    *end = errand;
    errand->is_watched = true;
}

/* ---- no member ---- */

static void say_none(struct upstream_view *view, const h2o_req_t *req)
{
    uint64_t now_ms = loop_patient_ms(view->proxy->loop), left_out = view->left_out;
    char more[48] = "";

    if (view->said_ms != 0 && now_ms - view->said_ms < 1000) {
        view->left_out++;
        return;
    }
    view->said_ms = now_ms;
    view->left_out = 0;
    if (left_out > 0)
        (void)snprintf(more, sizeof(more), "; %llu more of these", (unsigned long long)left_out);
    log_line(LOG_LEVEL_WARN, "upstreams-down",
             json_pack("{s:s, s:I}", "route", view->group->route, "left_out", (json_int_t)left_out),
             "no upstream of %s is up: %.*s is answered 503%s", view->group->route,
             (int)(req->input.method.len < 32 ? req->input.method.len : 32), req->input.method.base,
             more);
}

static void refuse(struct errand *errand)
{
    struct upstream_view *view = errand->view;
    h2o_req_t *req = errand->req;
    char seconds[16];

    count_add(&metrics_of(view)->upstream_none, 1);
    upstream_set_error(req, "none");
    if (req->pathconf == NULL || req->pathconf->error_log.emit_request_errors)
        say_none(view, req);
    int len = snprintf(seconds, sizeof(seconds), "%u", upstream_group_retry_after_s(view->group));
    h2o_iovec_t value = h2o_strdup(&req->pool, seconds, (size_t)len);
    h2o_add_header_by_str(&req->pool, &req->res.headers, H2O_STRLIT("retry-after"), 0, NULL,
                          value.base, value.len);
    h2o_send_error_503(req, "Service Unavailable", "no upstream is up\n",
                       H2O_SEND_ERROR_KEEP_HEADERS);
}

static void on_look(h2o_timeout_entry_t *timer);

static void look_later(struct upstream_view *view)
{
    view->waiting.timer.cb = on_look;
    if (!h2o_timeout_is_linked(&view->waiting.timer))
        h2o_timeout_link(view->proxy->loop->evloop, proxy_loop_timers(view->proxy, LOOK_EVERY_MS),
                         &view->waiting.timer);
}

/* The outcome of a trial is worth a moment, also where requests do not wait for an upstream. */
static uint64_t wait_ns_of(const struct upstream_group *group)
{
    uint64_t wait_ns = group->rules->wait_ms * NS_PER_MS;

    return wait_ns < HEALTH_TRIALS_APART_NS && health_has_trial(group->health)
               ? HEALTH_TRIALS_APART_NS
               : wait_ns;
}

/* At most as many wait, and with bodies as large, as may wait for an application that starts. */
static void wait_or_refuse(struct errand *errand)
{
    struct upstream_view *view = errand->view;
    uint64_t now_ns = loop_patient_ns(view->proxy->loop);

    if (errand->waits_until_ns == 0)
        errand->waits_until_ns = now_ns + wait_ns_of(view->group);
    if (now_ns >= errand->waits_until_ns ||
        !hold_admit(view->proxy->loop->server, errand->req->entity.len)) {
        refuse(errand);
        return;
    }
    errand->wish.not_these = 0;
    watch_end(errand);
    /* Behind those whose time is up before: one that has waited already comes in among them. */
    h2o_linklist_t *at = view->waiting.errands.prev;
    while (at != &view->waiting.errands &&
           container_of(at, struct errand, link)->waits_until_ns > errand->waits_until_ns)
        at = at->prev;
    h2o_linklist_insert(at->next, &errand->link);
    count_add(&metrics_of(view)->upstream_waiting, 1);
    look_later(view);
}

/* ---- a member ---- */

/* The request says whom it is for; its path is the same for all members. */
static void aim(struct errand *errand, const struct group_member *member)
{
    const struct upstream_group *group = errand->view->group;
    h2o_req_t *req = errand->req;

    if (group->count == 1 || group->settings->fcgi != NULL)
        return; /* proxy.c has said so; FastCGI sends what the client has said */
    req->overrides->location_rewrite.match = (h2o_url_t *)(uintptr_t)&member->url;
    if (group->settings->preserve_host)
        return;
    req->scheme = member->url.scheme;
    req->authority = member->url.authority;
}

static struct upstream *choose(struct errand *errand)
{
    struct upstream_view *view = errand->view;
    struct upstream *upstream =
        upstream_view_choose(view, &errand->wish, loop_now_ns(view->proxy->loop), &errand->trial);

    if (errand->trial == HEALTH_NO_TRIAL)
        return upstream;
    errand->tried = group_view_member(upstream)->index;
    watch_end(errand);
    return upstream;
}

static void send_to(struct errand *errand, struct upstream *upstream)
{
    struct upstream_view *view = errand->view;
    size_t index = group_view_member(upstream)->index;

    aim(errand, &view->group->members[index]);
    if (errand->was_sent_again)
        forward_begin_again(errand->req, upstream);
    else
        forward_begin(errand->req, upstream);
}

static void go(struct errand *errand)
{
    struct upstream *upstream = choose(errand);

    if (upstream != NULL)
        send_to(errand, upstream);
    else
        wait_or_refuse(errand);
}

static bool try_to_go(struct errand *errand)
{
    struct upstream *upstream = choose(errand);

    if (upstream == NULL)
        return false;
    leave_waiting(errand);
    send_to(errand, upstream);
    return true;
}

/* The report of a drain has it as unfinished, or the loop has stopped for good: whoever sends it
 * again must not do so beside us. */
static bool is_given_up(const struct errand *errand)
{
    const struct inflight *inflight = inflight_of(errand->req);

    return errand->view->proxy->loop->frozen ||
           (inflight != NULL && (inflight->given_up || inflight->conn->given_up));
}

/* While no member is up, the one that is tried may lose its request: one that its client can send
 * again goes first, if there is one. */
static struct errand *first_of(struct upstream_view *view)
{
    h2o_linklist_t *anchor = &view->waiting.errands, *at = anchor->next;

    for (unsigned n = 0; n < LOOK_AT_MOST && at != anchor; n++, at = at->next)
        if (container_of(at, struct errand, link)->wish.is_safe)
            return container_of(at, struct errand, link);
    return container_of(anchor->next, struct errand, link);
}

/* Those that are given up, whose clients are cut, and those that have waited long enough. */
static void refuse_late(struct upstream_view *view)
{
    uint64_t now_ns = loop_patient_ns(view->proxy->loop);
    h2o_linklist_t *anchor = &view->waiting.errands, *at = anchor->next;

    while (at != anchor) {
        struct errand *errand = container_of(at, struct errand, link);
        at = at->next;
        if (now_ns < errand->waits_until_ns && !is_given_up(errand))
            continue;
        leave_waiting(errand);
        refuse(errand);
    }
}

/* The first that goes; if it finds no member, the others find none. (With hashes they do, if a
 * member is tried that it has no key for; they wait for its outcome.) */
static void on_look(h2o_timeout_entry_t *timer)
{
    struct upstream_view *view = container_of(timer, struct upstream_view, waiting.timer);

    refuse_late(view);
    while (!h2o_linklist_is_empty(&view->waiting.errands) && try_to_go(first_of(view)))
        ;
    if (!h2o_linklist_is_empty(&view->waiting.errands))
        look_later(view);
}

/* ---- what upstreams tell ---- */

static void on_answered(struct upstream *upstream, h2o_req_t *req, bool is_whole)
{
    struct group_view_member *member = group_view_member(upstream);
    struct upstream_view *view = member->view;
    struct errand *errand = errand_of(req);

    /* A head alone says little of an upstream that cuts its answers; but one that is tried is to
     * come back before a long answer has ended. */
    if (!is_whole && errand->trial == HEALTH_NO_TRIAL)
        return;
    if (health_succeeded(view->group->health, member->index, end_trial(errand),
                         loop_now_ns(view->proxy->loop)))
        log_line(LOG_LEVEL_INFO, "upstream-back",
                 json_pack("{s:s, s:s}", "route", view->group->route, "upstream",
                           upstream->target->name),
                 "upstream %s of %s answers again", upstream->target->name, view->group->route);
}

static void on_failed(struct upstream *upstream, h2o_req_t *req, enum upstream_failure failure)
{
    struct group_view_member *member = group_view_member(upstream);
    struct upstream_view *view = member->view;
    bool is_gone = failure == UPSTREAM_LOOKUP || failure == UPSTREAM_CONNECT ||
                   failure == UPSTREAM_TLS || failure == UPSTREAM_CONNECT_TIME;
    char length[CLOCK_TEXT_SIZE];

    uint64_t ejected_ns =
        health_failed(view->group->health, member->index, end_trial(errand_of(req)), is_gone,
                      loop_now_ns(view->proxy->loop));
    if (ejected_ns == 0)
        return;
    log_line(LOG_LEVEL_WARN, "upstream-ejected",
             json_pack("{s:s, s:s, s:s, s:I}", "route", view->group->route, "upstream",
                       upstream->target->name, "phase", upstream_phase(failure), "for_ms",
                       (json_int_t)(ejected_ns / NS_PER_MS)),
             "upstream %s of %s gets no requests for %s: it has failed again and again (%s)",
             upstream->target->name, view->group->route, clock_format_duration(ejected_ns, length),
             upstream_phase(failure));
}

static bool on_go_on(struct upstream *upstream, h2o_req_t *req, bool was_sent_again)
{
    struct errand *errand = errand_of(req);

    if (is_given_up(errand))
        return false;
    errand->wish.not_these |= UINT64_C(1) << group_view_member(upstream)->index;
    errand->was_sent_again |= was_sent_again;
    struct upstream *next = choose(errand);
    if (next == NULL) {
        wait_or_refuse(errand);
        return true;
    }
    if (!upstream_may_go_on(upstream)) {
        drop_trial(errand);
        return false;
    }
    send_to(errand, next);
    return true;
}

const struct upstream_owner errand_owner = {
    .answered = on_answered, .failed = on_failed, .go_on = on_go_on};

/* ---- the beginning ---- */

static bool is_safe(const h2o_req_t *req)
{
    return h2o_memis(req->method.base, req->method.len, H2O_STRLIT("GET")) ||
           h2o_memis(req->method.base, req->method.len, H2O_STRLIT("HEAD"));
}

void errand_begin(h2o_req_t *req)
{
    struct errand_overrides *overrides =
        container_of(req->overrides, struct errand_overrides, super);
    struct upstream_view *view = overrides->view;
    struct errand *errand = &overrides->errand;
    const struct group_rules *rules = view->group->rules;
    bool is_watched = errand->is_watched; /* by an answer that led to this request */

    *errand = (struct errand){.view = view, .req = req, .is_watched = is_watched};
    errand->wish.is_safe = is_safe(req);
    if (rules->balance == BALANCE_HASH && view->group->count > 1)
        errand->wish.has_key = errand_key(rules, req, &errand->wish.key);
    go(errand);
}

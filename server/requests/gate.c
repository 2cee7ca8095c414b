#include "gate.h"

#include <string.h>

#include "job.h"
#include "onrecord.h"
#include "request.h"
#include "server_state.h"

/* The gate is the first handler of every path: a request passes it when its header and body are
 * whole, and from then on it is active. It must cost next to nothing, since every request pays:
 *
 *     the record    is a prefilter of the request (h2o_add_prefilter): one piece of its own
 *                   memory pool, found again from it in a step or two, and called when the
 *                   response begins
 *     the end       is the access-log hook of the path. libh2o calls it where it disposes of a
 *                   request, after the last byte was handed to the kernel or when it was given
 *                   up, whatever the reason: one hook for every ending
 *     the counts    are this loop's own, plain loads and stores
 *
 * Errors that libh2o answers for a request with a whole header, before any handler (413, 417), do
 * not pass the gate; they use the fallback path, whose filter writes their `Connection:` line.
 * Input that is no request at all gets the library's bare 400. */

/* One on every path. */
struct gate_logger {
    h2o_logger_t super;
    enum route_kind kind;
    bool has_kind;
};

/* Before all other handlers of a path. */
struct gate_handler {
    h2o_handler_t super;
    const struct gate_logger *logger;
    bool weakens_tags;
    bool gives_ids; /* `request-id: ON` */
    bool shows_ids; /* `request-id.answer: ON` */
};

/* libh2o compares the tag of a file byte by byte, and we have given it out as a weak one (see
 * mends/compressed.c): so it is compared without that mark. An application compares by itself. */
static bool unmark_weak_tag(const struct gate_handler *gate, h2o_req_t *req)
{
    if (!gate->weakens_tags || gate->logger->kind != ROUTE_FILE)
        return false;
    ssize_t at = h2o_find_header(&req->headers, H2O_TOKEN_IF_NONE_MATCH, -1);
    h2o_iovec_t *tag = at != -1 ? &req->headers.entries[at].value : NULL;
    if (tag == NULL || tag->len < 4 || memcmp(tag->base, "W/\"", 3) != 0)
        return false;
    tag->base += 2;
    tag->len -= 2;
    return true;
}

static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    const struct gate_handler *gate = container_of(handler, struct gate_handler, super);
    struct loop *loop = loop_of(req->conn);

    /* An internal redirect passes here again: it is the same request. */
    if (req->prefilters != NULL && inflight_of(req) != NULL)
        return -1;
    struct inflight *inflight = inflight_create(req);
    inflight->tag_was_weak = unmark_weak_tag(gate, req);
    if (gate->gives_ids) {
        inflight->id = claims_give_id(req);
        inflight->shows_id = gate->shows_ids;
    }
    h2o_linklist_insert(&loop->inflight, &inflight->link);
    if (inflight->conn->active++ == 0)
        count_add(&loop->metrics.busy, 1);
    if (!inflight->conn->given_up)
        count_add(&loop->counts.active, 1);
    watchdog_last_begin(&loop->watched.last, req);
    if (req->entity.len > 0)
        inflight->conn->progress.received += req->entity.len;
    if (loop->record.part != NULL)
        onrecord_begin(inflight);
    return -1; /* the next handler answers */
}

static void count_answer(struct loop *loop, enum route_kind kind, const h2o_req_t *req)
{
    unsigned class = (unsigned)req->res.status / 100;
    count_add(&loop->metrics.requests[kind][class < METRICS_CLASSES ? class : 0], 1);
}

static void count_time(struct loop *loop, enum route_kind kind, const struct inflight *inflight)
{
    uint64_t took_ns = loop_now_ns(loop) - inflight->begun_ns;
    count_add(&loop->metrics.took[kind][metrics_bucket(took_ns)], 1);
    count_add(&loop->metrics.took_ns[kind], took_ns);
}

/* The library does not stamp the end of a 101; where it failed, it has closed the socket. */
static bool is_upgraded(const struct inflight *inflight)
{
    return inflight->req->version < 0x200 && inflight->req->res.status == 101 &&
           inflight->conn->sock != NULL;
}

static void on_end(h2o_logger_t *logger, h2o_req_t *req)
{
    enum route_kind kind = container_of(logger, struct gate_logger, super)->kind;
    struct inflight *inflight = inflight_of(req);

    if (inflight == NULL) { /* an error that the library answered by itself */
        if (req->timestamps.response_start_at.tv_sec != 0)
            count_answer(loop_of(req->conn), kind, req);
        return;
    }
    struct loop *loop = inflight->loop;
    bool given_up = inflight->given_up || inflight->conn->given_up;
    bool is_whole = !inflight->is_half && (request_is_answered(req) || is_upgraded(inflight));
    bool answered = !loop->frozen && !given_up && is_whole;
    /* A request that one of our limits has cut stays on record, and is archived at the end. */
    bool stays = given_up && !is_whole;
    struct journal_slot *slot = stays ? NULL : inflight->slot;

    watchdog_last_end(&loop->watched.last, req);
    h2o_linklist_unlink(&inflight->link);
    if (inflight->job != NULL)
        slot = job_abandon(inflight->job, slot);
    if (slot != NULL)
        onrecord_end(loop, slot);
    if (--inflight->conn->active == 0)
        count_add(&loop->metrics.busy, (uint64_t)-1);
    if (!inflight->conn->given_up)
        count_add(&loop->counts.active, (uint64_t)-1);
    if (answered) {
        count_add(&loop->counts.answered, 1);
        count_answer(loop, kind, req);
        count_time(loop, kind, inflight);
    } else {
        count_add(&loop->metrics.aborted[kind], 1);
    }
    inflight->conn->idle_since_ns = loop_now_ns(loop);
    if (req->version < 0x200) {
        inflight->conn->h1.has_received = false;
        inflight->conn->h1.unacked = 0;
    }
    if (req->res.status == 101) /* from here on it is not HTTP */
        inflight->conn->is_tunnel = true;
    if (req->version >= 0x200) {
        inflight->conn->progress.sent += req->bytes_sent;
        if (answered)
            inflight->conn->calm.answers++;
    }
    if (loop->draining || loop->released || loop->handing) {
        loop->hooks->request_ended(loop);
        loop_note_change(loop);
    }
}

/* Errors that never reached a handler; the others have their record's prefilter. */
static void on_fallback_response(h2o_filter_t *filter, h2o_req_t *req, h2o_ostream_t **slot)
{
    (void)filter;
    request_respond_unrecorded(req);
    h2o_setup_next_ostream(req, slot);
}

static struct gate_logger *register_logger(h2o_pathconf_t *path)
{
    struct gate_logger *logger = (void *)h2o_create_logger(path, sizeof(*logger));
    logger->super.log_access = on_end;
    logger->kind = ROUTE_OTHER;
    logger->has_kind = false;
    return logger;
}

void gate_register(h2o_pathconf_t *path)
{
    struct gate_handler *gate =
        container_of(h2o_create_handler(path, sizeof(*gate)), struct gate_handler, super);
    gate->super.on_req = on_request;
    gate->weakens_tags = gate->gives_ids = gate->shows_ids = false;
    gate->logger = register_logger(path);
}

void gate_register_inner(h2o_pathconf_t *path)
{
    (void)register_logger(path);
}

void gate_note_weak_tags(h2o_pathconf_t *path)
{
    for (size_t i = 0; i < path->handlers.size; i++)
        if (path->handlers.entries[i]->on_req == on_request)
            container_of(path->handlers.entries[i], struct gate_handler, super)->weakens_tags =
                true;
}

void gate_note_ids(h2o_pathconf_t *path, bool shows)
{
    for (size_t i = 0; i < path->handlers.size; i++) {
        if (path->handlers.entries[i]->on_req != on_request)
            continue;
        struct gate_handler *gate =
            container_of(path->handlers.entries[i], struct gate_handler, super);
        gate->gives_ids = true;
        gate->shows_ids = shows;
    }
}

void gate_note_kind(h2o_pathconf_t *path, enum route_kind kind)
{
    for (size_t i = 0; i < path->loggers.size; i++) {
        if (path->loggers.entries[i]->log_access != on_end)
            continue;
        struct gate_logger *logger = (void *)path->loggers.entries[i];
        logger->kind = logger->has_kind && logger->kind != kind ? ROUTE_OTHER : kind;
        logger->has_kind = true;
    }
}

void gate_register_fallback(h2o_pathconf_t *path)
{
    gate_register(path);
    h2o_filter_t *filter = h2o_create_filter(path, sizeof(*filter));
    filter->on_setup_ostream = on_fallback_response;
}

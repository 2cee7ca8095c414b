/* Incomplete answers of FastCGI applications.
 *
 * Faults: the library ends every answer cleanly, even if the application died, stopped writing or
 * broke the protocol in the middle of it. It sends bodies with answers to HEAD, and with 204 and
 * 304. A body that is longer than its Content-Length is forwarded if the head came in two
 * records. An answer with Location and without Status gets 200, where RFC 3875 section 6.2.3 has
 * 302. What an application sends after FCGI_END_REQUEST on a connection that is kept becomes a part
 * of the next answer. The request header `Proxy` becomes HTTP_PROXY, which programs read as a
 * setting. A failure before the head is answered 503, which tells the client to try again.
 *
 * Upstream: never changed in the 2.2 series.
 *
 * Replaced: the h2o_fastcgi_register_by_*() functions give us the handler, whose callback becomes
 * ours; h2o_socketpool_connect() gives us the handler's data of a request, and the socket;
 * h2o_socketpool_return() closes a connection that has unread bytes;
 * h2o_send_error_generic() answers its errors.
 *
 *     on_request    puts a filter in front of the response (h2o_add_prefilter)
 *     on_read       reads the records before the handler does: FCGI_END_REQUEST, or the end of the
 *                   connection after an empty FCGI_STDOUT, completes the answer
 *     the filter    turns the clean end of an incomplete answer into an error, and drops what
 *                   must not be sent
 */

#include "upstream.h"

#include <stdint.h>
#include <string.h>

#include "answer_head.h"
#include "between_calls.h"
#include "mends.h"
#include "library.h"
#include "conn.h"

enum { RECORD_HEADER = 8, TYPE_END_REQUEST = 3, TYPE_STDOUT = 6, TYPE_STDERR = 7 };

/* For each request to an application; lives in the request's memory pool. */
struct answer {
    h2o_req_prefilter_t super;
    h2o_req_t *req;
    h2o_generator_t *generator; /* the handler's, which is also the data of its callbacks */
    h2o_socketpool_connect_cb on_connect;
    h2o_socket_cb on_read;
    h2o_timeout_entry_t drop_timer;
    size_t left; /* of Content-Length; SIZE_MAX: not known */
    bool has_begun;
    bool has_status; /* its head has a Status field */
    bool has_body;
    bool stdout_has_ended;
    bool is_whole;
};

struct answer_filter {
    h2o_ostream_t super;
    struct answer *answer;
};

static void on_prefilter(h2o_req_prefilter_t *self, h2o_req_t *req, h2o_ostream_t **slot);

static struct answer *answer_of(const h2o_req_t *req)
{
    h2o_req_prefilter_t *at = req->prefilters;
    while (at != NULL && at->on_setup_ostream != on_prefilter)
        at = at->next;
    return at != NULL ? container_of(at, struct answer, super) : NULL;
}

/* ---- the response ---- */

/* Let the handler go on in the next turn of the loop: nothing was sent that would trigger it. */
static void on_drop_timer(h2o_timeout_entry_t *entry)
{
    struct answer *answer = container_of(entry, struct answer, drop_timer);

    if (answer->req->_generator == answer->generator)
        answer->generator->proceed(answer->generator, answer->req);
}

static void on_stop(h2o_ostream_t *self, h2o_req_t *req)
{
    (void)req;
    h2o_timeout_unlink(&container_of(self, struct answer_filter, super)->answer->drop_timer);
}

/* Cut `bufs` down to what may be sent; returns how many remain. */
static size_t clip(struct answer *answer, h2o_iovec_t *bufs, size_t count)
{
    if (!answer->has_body)
        return 0;
    if (answer->left == SIZE_MAX)
        return count;
    for (size_t i = 0; i < count; i++) {
        if (bufs[i].len > answer->left)
            bufs[i].len = answer->left;
        answer->left -= bufs[i].len;
        if (bufs[i].len == 0)
            return i;
    }
    return count;
}

static bool is_complete(const struct answer *answer)
{
    if (!answer->has_body || answer->left == 0)
        return true;
    return answer->is_whole && answer->left == SIZE_MAX;
}

static void on_send(h2o_ostream_t *self, h2o_req_t *req, h2o_iovec_t *bufs, size_t count,
                    h2o_send_state_t state)
{
    struct answer *answer = container_of(self, struct answer_filter, super)->answer;
    size_t kept = clip(answer, bufs, count);

    if (state == H2O_SEND_STATE_IN_PROGRESS && kept == 0) {
        h2o_timeout_link(req->conn->ctx->loop, &req->conn->ctx->zero_timeout, &answer->drop_timer);
        return;
    }
    if (state == H2O_SEND_STATE_FINAL && !is_complete(answer)) {
        h2o_req_log_error(req, "fastcgi", "the application did not finish its answer");
        state = H2O_SEND_STATE_ERROR;
        answer_is_cut(req);
    }
    h2o_ostream_send_next(self, req, bufs, kept, state);
}

static void on_prefilter(h2o_req_prefilter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    struct answer *answer = container_of(self, struct answer, super);

    /* Not for an error page, nor for the answer of an internal redirect. */
    if (answer->generator != NULL && req->_generator == answer->generator && !answer->has_begun) {
        answer->has_begun = true;
        if (!answer->has_status &&
            h2o_find_header(&req->res.headers, H2O_TOKEN_LOCATION, -1) != -1) {
            req->res.status = 302;
            req->res.reason = "Found";
        }
        answer->has_body = answer_has_body(req);
        if (req->res.status == 204)
            req->res.content_length = SIZE_MAX;
        answer->left = req->res.content_length;
        struct answer_filter *filter =
            container_of(h2o_add_ostream(req, sizeof(*filter), slot), struct answer_filter, super);
        filter->super.do_send = on_send;
        filter->super.stop = on_stop;
        filter->answer = answer;
        slot = &filter->super.next;
    }
    h2o_setup_next_prefilter(self, req, slot);
}

bool upstream_fastcgi_failed(const h2o_req_t *req)
{
    const struct answer *answer = answer_of(req);
    return answer != NULL && answer->generator != NULL && !answer->has_begun;
}

/* ---- the records ---- */

void upstream_fastcgi_head(const struct phr_header *headers, size_t count)
{
    struct answer *answer = between_calls()->fastcgi_reads;

    for (size_t i = 0; answer != NULL && i < count; i++)
        if (h2o_lcstris(headers[i].name, headers[i].name_len, H2O_STRLIT("status")))
            answer->has_status = true;
}

/* The handler consumes whole records, so the input begins with a record. An unknown type ends the
 * answer. */
static void look_at_records(struct answer *answer, const h2o_buffer_t *input)
{
    size_t at = 0;

    while (input->size - at >= RECORD_HEADER) {
        const uint8_t *header = (const uint8_t *)input->bytes + at;
        size_t content = (size_t)header[4] << 8 | header[5];
        size_t record = RECORD_HEADER + content + header[6];
        if (input->size - at < record)
            return;
        at += record;
        if (header[1] == TYPE_STDOUT && content == 0)
            answer->stdout_has_ended = true;
        else if (header[1] == TYPE_END_REQUEST)
            answer->is_whole = true;
        if (header[1] != TYPE_STDOUT && header[1] != TYPE_STDERR)
            return;
    }
}

/* The handler's struct begins with a h2o_generator_t, a pointer to its context and then this. */
static h2o_req_t *req_of_generator(const void *generator)
{
    const struct {
        h2o_generator_t super;
        void *context;
        h2o_req_t *req;
    } *begin = generator;
    return begin->req;
}

static void on_read(h2o_socket_t *sock, const char *error)
{
    struct answer *answer = answer_of(req_of_generator(sock->data));

    if (error == NULL)
        look_at_records(answer, sock->input);
    else if (error == h2o_socket_error_closed && answer->stdout_has_ended)
        answer->is_whole = true;
    between_calls()->fastcgi_reads = answer; /* whose records the handler reads */
    answer->on_read(sock, error);
    between_calls()->fastcgi_reads = NULL; /* `answer` may be gone */
}

/* ---- the connection ---- */

static void on_connect(h2o_socket_t *sock, const char *error, void *data)
{
    struct answer *answer = data;

    answer->on_connect(sock, error, answer->generator);
    if (sock == NULL)
        return;
    answer->on_read = sock->_cb.read;
    sock->_cb.read = on_read;
}

h2o_socketpool_connect_cb upstream_fastcgi_connect(void **data, h2o_socketpool_connect_cb cb)
{
    struct answer *answer = between_calls()->fastcgi_connects_for;

    between_calls()->fastcgi_connects_for = NULL;
    /* The check at start knows this version; this makes sure that the struct is as described. */
    if (answer == NULL || req_of_generator(*data) != answer->req)
        return cb;
    answer->generator = *data;
    answer->on_connect = cb;
    *data = answer;
    return on_connect;
}

static void drop_proxy_header(h2o_req_t *req)
{
    ssize_t at = -1;
    while ((at = h2o_find_header_by_str(&req->headers, H2O_STRLIT("proxy"), at)) != -1)
        at = h2o_delete_header(&req->headers, at) - 1;
}

/* The same for all handlers; constant after the configuration was read. */
static int (*library_on_req)(h2o_handler_t *handler, h2o_req_t *req);

static int on_request(h2o_handler_t *handler, h2o_req_t *req)
{
    struct answer *answer =
        container_of(h2o_add_prefilter(req, sizeof(*answer)), struct answer, super);
    h2o_req_prefilter_t *next = answer->super.next;

    memset(answer, 0, sizeof(*answer));
    answer->super.next = next;
    answer->super.on_setup_ostream = on_prefilter;
    answer->req = req;
    answer->drop_timer.cb = on_drop_timer;
    answer->left = SIZE_MAX;
    drop_proxy_header(req);
    between_calls()->fastcgi_connects_for = answer; /* taken by upstream_fastcgi_connect() */
    int result = library_on_req(handler, req);
    between_calls()->fastcgi_connects_for = NULL;
    return result;
}

void upstream_fastcgi_registered(h2o_handler_t *handler)
{
    if (handler == NULL)
        return;
    if (library_on_req == NULL) /* loops of another server of this process may be reading it */
        library_on_req = handler->on_req;
    handler->on_req = on_request;
}

#include <unistd.h>

#include "answer_head.h"
#include "exchange_p.h"
#include "loop.h"
#include "request.h"
#include "reset.h"

/* An answer whose body is in a file: read a piece at a time, when the client has taken the one
 * before. The descriptor belongs to the exchange, and is closed with it. Reading blocks the loop
 * for as long as the disk takes, as it does for the files of the configuration. */

#define PIECE_BYTES ((size_t)64 << 10)

struct file_answer {
    h2o_generator_t super;
    struct job *job;
    uint64_t at, left;
    char *piece;
};

/* The file is shorter than it was, or cannot be read: fewer bytes than announced. */
static void break_off(h2o_req_t *req)
{
    if (req->version >= 0x200)
        reset_h2_stream(container_of(req, h2o_http2_stream_t, req), H2O_HTTP2_ERROR_INTERNAL);
    else
        h2o_send(req, NULL, 0, H2O_SEND_STATE_ERROR);
}

static void send_piece(struct file_answer *file, h2o_req_t *req)
{
    size_t want = file->left < PIECE_BYTES ? (size_t)file->left : PIECE_BYTES;
    ssize_t n;

    do
        n = pread(file->job->exchange.file_fd, file->piece, want, (off_t)file->at);
    while (n < 0 && errno == EINTR);
    if (n <= 0) {
        break_off(req);
        return;
    }
    file->at += (uint64_t)n;
    file->left -= (uint64_t)n;
    h2o_iovec_t piece = h2o_iovec_init(file->piece, (size_t)n);
    if (file->left == 0)
        file->job->inflight->is_half = false;
    h2o_send(req, &piece, 1, file->left > 0 ? H2O_SEND_STATE_IN_PROGRESS : H2O_SEND_STATE_FINAL);
}

static void on_proceed(h2o_generator_t *self, h2o_req_t *req)
{
    send_piece(container_of(self, struct file_answer, super), req);
}

void exchange_answer_file(struct job *job)
{
    const struct exchange *exchange = &job->exchange;
    h2o_req_t *req = job->inflight->req;
    struct file_answer *file = h2o_mem_alloc_pool(&req->pool, sizeof(*file));

    *file = (struct file_answer){.super = {on_proceed, NULL},
                                 .job = job,
                                 .at = exchange->file_at,
                                 .left = exchange->file_bytes};
    req->res.content_length = req->res.status == 204 ? SIZE_MAX : (size_t)file->left;
    h2o_start_response(req, &file->super);
    if (file->left == 0 || !answer_has_body(req)) {
        h2o_send(req, NULL, 0, H2O_SEND_STATE_FINAL);
        return;
    }
    job->inflight->is_half = true;
    file->piece =
        h2o_mem_alloc_pool(&req->pool, file->left < PIECE_BYTES ? (size_t)file->left : PIECE_BYTES);
    send_piece(file, req);
}

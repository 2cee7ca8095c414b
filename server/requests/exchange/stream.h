#ifndef LASTCALL_STREAM_H
#define LASTCALL_STREAM_H

/* An answer that is sent while its handler still writes it.
 *
 *     holder: exchange_write() --> [ ring ] --> loop: h2o_send(), a piece at a time
 *
 * The ring (the setting stream-buffer, 64 KB) is made at the first write, and is all that such an
 * answer takes, however slowly its client reads: the holder waits for room.
 *
 * Ring note. `written` and `taken` count bytes and never go back; the ring holds what lies between
 * the two. The holder alone writes `written`, after the bytes; the loop alone writes `taken`, after
 * libh2o has let go of them. So each side may use its part of the ring without a lock.
 *
 * Idle note. A loop that finds nothing to send sets `idle` and looks at `written` once more; the
 * holder adds to `written` and then looks at `idle`, and who clears it has the loop look. All four
 * are sequentially consistent: either the loop sees the bytes, or the holder sees that it idles. So
 * a loop that sends is not disturbed, and none sleeps while bytes wait.
 *
 * Room note. The holder stores in `wants` how many bytes must be free, looks at `taken`, and sleeps
 * on the job's word (see wait note, exchange_cancel.c); the loop adds to `taken` and then looks at
 * `wants`. Again one of the two sees the other. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "h2o_api.h"

/* libh2o is given a quarter of the ring at once; the holder fills the rest meanwhile. */
#define STREAM_PIECES 4

struct job;

struct stream {
    /* owner loop */
    h2o_generator_t super;
    struct job *job;
    uint64_t handed; /* to libh2o, which has all of it but for the last piece sent */
    bool begun;      /* the head is with libh2o */
    bool sending;    /* and so is a piece */
    bool over;       /* and so is the end */
    /* atomic: see room note; written by the holder */
    _Atomic uint64_t wants;
    /* atomic: see ring note and idle note; `idle` by both */
    _Alignas(64) _Atomic uint64_t written;
    _Atomic bool idle;
    _Alignas(64) _Atomic uint64_t taken;
    /* immutable */
    size_t size; /* of the ring */
    char ring[];
};

/* How many bytes the ring has room for.     Thread: the holder. */
static inline size_t stream_room(const struct stream *stream)
{
    return stream->size - (size_t)(atomic_load(&stream->written) - atomic_load(&stream->taken));
}

/* ---- exchange_send.c; Thread: owner loop only, for all of these ---- */

/* Something was written, or the handler has returned: send what there is. The job may be gone
 * after this. */
void stream_go_on(struct job *job);
/* The answer has begun and will not be whole: let the client see that, at once. The job may be gone
 * after this. */
void stream_break(struct job *job);
/* The connection of an HTTP/1 request was cut: have the library notice, unless it is writing. The
 * job may be gone after this. */
void stream_end_cut(struct job *job);

#endif

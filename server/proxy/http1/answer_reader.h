#ifndef LASTCALL_ANSWER_READER_H
#define LASTCALL_ANSWER_READER_H

/* Reads the answer of an HTTP/1 upstream, strictly: what two readers could take for different
 * answers is a fault. It sees bytes only, no sockets and no requests.
 *
 *     head, head ... (interim answers)   answer_reader_head(), for each
 *     body in pieces                     answer_reader_body(), decoded in place
 *     the connection has ended           answer_reader_end()
 *
 * Limits: a head of ANSWER_HEAD_MAX bytes and ANSWER_FIELDS_MAX fields, ANSWER_INTERIMS_MAX interim
 * answers, ANSWER_TRAILER_MAX bytes of trailer fields, which are dropped.
 *
 * Thread: any, one at a time for each reader.     Blocks: never. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "picohttpparser.h"
#include "strict_chunks.h"

#define ANSWER_FIELDS_MAX 200
#define ANSWER_INTERIMS_MAX 64
#define ANSWER_TRAILER_MAX (64 * 1024)

struct answer_fields {
    int minor_version;
    int status;
    const char *reason;
    size_t reason_len;
    struct phr_header fields[ANSWER_FIELDS_MAX]; /* point into the bytes that were read */
    size_t count;
};

/* What ends the body. */
enum answer_end { END_AT_ONCE, END_BY_LENGTH, END_BY_CHUNK, END_BY_CLOSE };

struct answer_reader {
    bool to_head;        /* the request was HEAD */
    bool may_upgrade;    /* the request asked for it: 101 is an answer */
    unsigned interims;   /* so far */
    size_t looked_at;    /* bytes of the incomplete head that were parsed before */
    enum answer_end end; /* once the final head is there */
    bool is_whole;       /* nothing of the answer is missing */
    bool has_excess;     /* bytes came after its end */
    bool may_keep;       /* by its head, the connection may carry another request */
    uint64_t left;       /* END_BY_LENGTH */
    struct strict_chunks check;
    struct phr_chunked_decoder decoder;
    const char *fault; /* why it was refused */
};

void answer_reader_init(struct answer_reader *reader, bool to_head, bool may_upgrade);

/* Read a head from the first `size` bytes, which are all that has come. Returns the size of the
 * head, interim (1xx) or final; 0: more bytes are needed; -1: refused, see reader->fault. After a
 * final one, reader->end says what ends the body; it may be whole already. */
ssize_t answer_reader_head(struct answer_reader *reader, const char *bytes, size_t size,
                           struct answer_fields *ret_fields);

/* Is this the status of an interim answer? */
bool answer_is_interim(int status);

/* Read the next `size` bytes of the body. Returns how many bytes of the body they are, which now
 * stand at `bytes`; -1: refused. Sets is_whole. */
ssize_t answer_reader_body(struct answer_reader *reader, char *bytes, size_t size);

/* The connection has ended, after the final head; `in_order`: by an end of file, not by a reset.
 * Returns whether the answer is whole. */
bool answer_reader_end(struct answer_reader *reader, bool in_order);

#endif

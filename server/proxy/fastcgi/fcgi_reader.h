#ifndef LASTCALL_FCGI_READER_H
#define LASTCALL_FCGI_READER_H

/* Reads the answer of a FastCGI application, strictly. It sees bytes only, no sockets and no
 * requests.
 *
 *     bytes of the connection      fcgi_reader_unframe(), decoded in place: records become the
 *                                  bytes of FCGI_STDOUT
 *     the head (RFC 3875, 6)       fcgi_reader_head(), until it is there
 *     the body in pieces           fcgi_reader_body()
 *     the connection has ended     fcgi_reader_end()
 *
 * An answer is complete when one of these has come, and its is_whole is set with FCGI_END_REQUEST,
 * which frees the connection:
 *
 *     Content-Length               so many bytes
 *     no Content-Length            FCGI_END_REQUEST with both statuses 0; or the empty record that
 *                                  ends FCGI_STDOUT, and then the end of the connection, in order
 *     no body (HEAD, 204, 304)     the head
 *
 * What breaks the protocol after that costs the connection, not the answer. An empty record of
 * FCGI_STDOUT with more of it behind is not the end: applications that flush nothing send it.
 *
 * Limits: a head of ANSWER_HEAD_MAX bytes and ANSWER_FIELDS_MAX fields; a line of FCGI_STDERR of
 * FCGI_LINE_MAX bytes, a longer one is parted; FCGI_EXCESS_MAX bytes of a body where none may be.
 *
 * Thread: any, one at a time for each reader.     Blocks: never. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "answer_reader.h"

#define FCGI_REQUEST_ID 1 /* of every request: one at a time on a connection */
#define FCGI_RECORD_HEADER ((size_t)8)
#define FCGI_RECORD_MAX ((size_t)65535) /* of content */
#define FCGI_LINE_MAX 512
#define FCGI_EXCESS_MAX ((size_t)1024 * 1024)

enum fcgi_type {
    FCGI_TYPE_BEGIN_REQUEST = 1,
    FCGI_TYPE_END_REQUEST = 3,
    FCGI_TYPE_PARAMS = 4,
    FCGI_TYPE_STDIN = 5,
    FCGI_TYPE_STDOUT = 6,
    FCGI_TYPE_STDERR = 7
};

/* What went wrong. */
enum fcgi_failure {
    FCGI_NONE,
    FCGI_MALFORMED,  /* the protocol is broken */
    FCGI_ENDED,      /* it ended without a head */
    FCGI_CUT,        /* it ended in the body */
    FCGI_OVERLOADED, /* it cannot take the request now */
};

/* A line of FCGI_STDERR, without its end. */
typedef void fcgi_on_line(void *data, const char *line, size_t size);

struct fcgi_reader {
    /* the records */
    unsigned char header[FCGI_RECORD_HEADER];
    size_t header_size; /* of it, so far */
    size_t content_left, padding_left;
    unsigned char end_body[8]; /* of FCGI_END_REQUEST */
    size_t end_size;
    bool stdout_has_ended;
    bool has_ended;     /* FCGI_END_REQUEST has come */
    bool has_excess;    /* and bytes after it, or too many before it */
    const char *broken; /* how the protocol was broken; nothing more is read */
    char line[FCGI_LINE_MAX];
    size_t line_size;
    fcgi_on_line *on_line;
    void *data; /* for on_line */
    /* the answer */
    bool to_head; /* the request was HEAD */
    bool has_head, has_no_body, has_length;
    uint64_t left;    /* of Content-Length */
    uint64_t excess;  /* bytes that were dropped */
    size_t looked_at; /* bytes of the incomplete head that were parsed before */
    bool is_whole;    /* it is complete, and nothing more is to be read */
    enum fcgi_failure failure;
    const char *fault; /* why it was refused */
};

void fcgi_reader_init(struct fcgi_reader *reader, bool to_head, fcgi_on_line *on_line, void *data);

/* `size` bytes have come. Returns how many of them are content of FCGI_STDOUT, which now stand at
 * `bytes`. Calls on_line. */
size_t fcgi_reader_unframe(struct fcgi_reader *reader, char *bytes, size_t size);

/* Read the head from the first `size` bytes of FCGI_STDOUT, which are all that has come. Returns
 * its size; 0: more is needed; -1: refused, see reader->failure and fault. The field Status becomes
 * ret_fields->status and reason; without one it is 200, or 302 if there is a Location. */
ssize_t fcgi_reader_head(struct fcgi_reader *reader, const char *bytes, size_t size,
                         struct answer_fields *ret_fields);

/* Read the next `size` bytes of FCGI_STDOUT after the head; to be called after each
 * fcgi_reader_unframe(), also with none. Returns how many of them, from the first on, are the body;
 * -1: refused. Sets is_whole. */
ssize_t fcgi_reader_body(struct fcgi_reader *reader, size_t size);

/* The head is there, and no more will come: is nothing of the answer missing? `in_order`: the
 * connection has ended by an end of file. */
bool fcgi_reader_end(const struct fcgi_reader *reader, bool in_order);

/* It is whole: may the connection carry another request? */
bool fcgi_reader_may_keep(const struct fcgi_reader *reader);

#endif

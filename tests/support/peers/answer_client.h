#ifndef LASTCALL_TEST_ANSWER_CLIENT_H
#define LASTCALL_TEST_ANSWER_CLIENT_H

/* How a client reads the bytes of an answer: it is whole, it is visibly truncated, or it is
 * invalid. Pure functions, for HTTP/1 and HTTP/2. */

#include <stdbool.h>
#include <stddef.h>

enum answer_protocol { ANSWER_HTTP10, ANSWER_HTTP11, ANSWER_HTTP2, ANSWER_PROTOCOLS };

/* How the connection ended so far. */
enum connection_end { CONNECTION_OPEN, CONNECTION_CLOSED, CONNECTION_RESET };

enum answer_state {
    ANSWER_MORE,  /* it may go on */
    ANSWER_WHOLE, /* no client could doubt it */
    ANSWER_CUT,   /* every client sees that something is missing */
    ANSWER_BROKEN /* it violates the protocol */
};

struct answer {
    int status;        /* of the final one; 0: none came */
    unsigned interims; /* answers 1xx before it; to a client of HTTP/1.0, the first is a fault */
    char *body;        /* malloc(3)ed */
    size_t body_size;
    size_t used; /* HTTP/1: the length of the whole answer */
    bool ends_with_connection;
    const char *fault; /* of one that is broken */
};

/* Read the answer to one request, of which `bytes` arrived so far. In HTTP/2 the request is the
 * first one of its connection. */
enum answer_state answer_read(enum answer_protocol protocol, bool to_head, const char *bytes,
                              size_t size, enum connection_end end, struct answer *ret_answer);
void answer_release(struct answer *answer);

/* A request for `path`, of the first stream in HTTP/2, into `bytes`; returns its size. */
size_t answer_request(enum answer_protocol protocol, bool to_head, const char *path, char *bytes,
                      size_t size);

const char *answer_state_name(enum answer_state state);

#endif

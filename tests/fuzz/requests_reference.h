#ifndef LASTCALL_FUZZ_REQUESTS_REFERENCE_H
#define LASTCALL_FUZZ_REQUESTS_REFERENCE_H

/* A second reader of HTTP/1 requests, written from RFC 9110 and RFC 9112 line by line, slow and
 * without state, to compare with the server's reader. They share no code. */

#include <stddef.h>

#define REFERENCE_TRAILER_MOST 1000 /* bytes of a trailer section */

enum reference_end { REFERENCE_WHOLE, REFERENCE_PART, REFERENCE_REFUSED };

struct reference_request {
    size_t len;       /* of head and body, as they came */
    size_t authority; /* of an absolute target: where it begins; 0: it is not absolute */
    size_t authority_len;
    size_t path; /* what follows the authority, or the whole target */
    size_t path_len;
    char *body; /* decoded; with room for as many bytes as came */
    size_t body_len;
};

/* The first request in `bytes`. `ret_request->body` is the caller's room.
 * Returns REFERENCE_PART if more bytes are needed to tell, or to have it whole. */
enum reference_end reference_read(const char *bytes, size_t len,
                                  struct reference_request *ret_request);

#endif

#ifndef LASTCALL_TEST_WITH_FASTCGI_H
#define LASTCALL_TEST_WITH_FASTCGI_H

/* The FastCGI application of with_upstream.h that a test plays: it reads and writes records. */

#include "with_upstream.h"

enum { END_REQUEST = 3, PARAMS = 4, STDIN = 5, STDOUT = 6, STDERR = 7 };

/* What the front sent. */
struct fastcgi_request {
    unsigned flags; /* of FCGI_BEGIN_REQUEST */
    char *params;
    size_t params_size;
    char *body;
    size_t body_size;
};

/* Read a whole request, on a new connection or on the kept one. */
struct fastcgi_request take_fastcgi_request(struct fixture *f);
void release_fastcgi_request(struct fastcgi_request *request);
/* The same, and forget it. */
void take_fastcgi(struct fixture *f);

void send_record(struct fixture *f, unsigned type, const char *content, size_t size,
                 unsigned padding);
/* A text as FCGI_STDOUT. */
void send_text(struct fixture *f, const char *text);
/* The end of FCGI_STDOUT, and FCGI_END_REQUEST with both statuses 0. */
void send_end(struct fixture *f);
void send_end_with(struct fixture *f, unsigned app_status, unsigned protocol_status);

#endif

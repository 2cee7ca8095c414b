#ifndef LASTCALL_TEST_CGI_EXCHANGE_H
#define LASTCALL_TEST_CGI_EXCHANGE_H

/* A request without a socket, for tests of handlers: what the handler streams is kept, and the test
 * says when the client leaves. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "exchange.h"

struct cgi_exchange {
    struct exchange exchange; /* first: an exchange is cast back */
    /* what the handler has streamed */
    char *written; /* terminated; NULL: nothing */
    size_t written_bytes;
    unsigned writes;
    void (*on_write)(struct cgi_exchange *fake); /* after each; may be NULL */
    /* for write(): after so many bytes it returns `write_error` */
    size_t write_limit;
    int write_error;
    bool write_cancels; /* and the request counts as cancelled from then on */
    bool has_no_cancel_fd;
    _Atomic int cancelled; /* what cancelled() returns */
    int cancel_pipe[2];
    void *memory; /* a list of what alloc() gave out */
    char scratch[EXCHANGE_SCRATCH];
};

/* A GET for `path` on the host "test", from 192.0.2.7. */
void cgi_exchange_init(struct cgi_exchange *fake, const char *method, const char *path);
void cgi_exchange_release(struct cgi_exchange *fake);

/* The request is cancelled with EXCHANGE_GONE and so on.     Thread: any, async-signal-safe. */
void cgi_exchange_cancel(struct cgi_exchange *fake, int why);

/* The value of a field of the answer; NULL: it has none. */
const char *cgi_exchange_field(const struct cgi_exchange *fake, const char *name);

/* The body of the answer, streamed or whole.     Owner: the caller. */
char *cgi_exchange_body(const struct cgi_exchange *fake);

#endif

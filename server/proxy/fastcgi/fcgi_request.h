#ifndef LASTCALL_FCGI_REQUEST_H
#define LASTCALL_FCGI_REQUEST_H

/* A request as records of FastCGI.
 *
 *     FCGI_BEGIN_REQUEST, FCGI_PARAMS ..., an empty FCGI_PARAMS     fcgi_request_head()
 *     FCGI_STDIN ..., an empty FCGI_STDIN                           fcgi_request_frame()
 *
 * The parameters are the variables of RFC 3875, section 4.1, as libh2o sets them, with these
 * differences: GATEWAY_INTERFACE is there; fields of one name are one variable; the header Proxy
 * and headers with a character other than a letter, a digit or a hyphen have none; a variable of
 * `setenv` takes the place of one of the same name.
 *
 * Thread: owner loop only.     Blocks: never. */

#include <stdbool.h>

#include "fcgi_reader.h"
#include "h2o_api.h"

#define FCGI_RECORDS_AT_ONCE 4

/* What the configuration says about a route, beside struct proxy_settings; constant after start. */
struct fcgi_settings {
    h2o_iovec_t document_root; /* base NULL: none */
    bool sends_delegated_uri;  /* HTTP_HOST and REQUEST_URI after internal redirects */
};

/* The headers of records of FCGI_STDIN that are being sent. */
struct fcgi_frame {
    char headers[FCGI_RECORDS_AT_ONCE + 1][FCGI_RECORD_HEADER];
};

/* All records before the body, in memory of the request. `keep`: the application is not to close
 * the connection. */
h2o_iovec_t fcgi_request_head(h2o_req_t *req, const struct fcgi_settings *settings, bool keep);

/* Bytes of `body` from the byte `from` on, at most FCGI_RECORDS_AT_ONCE full records, with the end
 * of FCGI_STDIN if they are the last. Fills bufs[2 * FCGI_RECORDS_AT_ONCE + 1]; they point into
 * `frame`. Returns how many. */
size_t fcgi_request_frame(struct fcgi_frame *frame, h2o_iovec_t body, size_t from, size_t size,
                          h2o_iovec_t *bufs);

#endif

#ifndef LASTCALL_STRICT_HEAD_H
#define LASTCALL_STRICT_HEAD_H

/* Checks that every server reads the head of an HTTP/1 request in the same way. libh2o's parser
 * accepts more than RFC 9110 and RFC 9112 allow; if two servers in a row read a head differently,
 * they disagree about where the request ends (request smuggling). This check runs over the parsed
 * fields once, without allocation, and uses nothing of libh2o but the type of a parsed field.
 *
 * Where the RFCs leave a choice, this check decides:
 *
 *     bare LF as the end of a line     accepted if every line of the head ends so, and the head
 *                                      announces neither a body nor an upgrade (RFC 9112 2.2); the
 *                                      server then accepts no more requests from the connection
 *     Content-Length with              refused; RFC 9112 6.1 would also let the server use the
 *       Transfer-Encoding              coding and close
 *     the same Content-Length again,   taken as one, if all have the same value (RFC 9110 8.6); the
 *       in a list or a field of its    handler and an upstream see one
 *       own
 *     an absolute target beside a      refused; RFC 9112 3.2.2 would let the target win. An empty
 *       Host that names another        Host names none
 *       authority
 *     the digit after "HTTP/1."        any; RFC 9110 2.5 says to read a higher one as HTTP/1.1
 *     bytes from 0x80 on in a target   accepted: browsers have sent them
 *     "%00" and "#" in a target        refused: a file name ends at the first, and no client sends
 *                                      the second */

#include <stdbool.h>

#include "picohttpparser.h"
#include "refusal.h"

struct strict_head {
    /* as parsed; see strict_head_check() for what it changes */
    const char *bytes; /* the first byte of the head */
    size_t len;        /* of the head */
    const char *method;
    size_t method_len;
    const char *path;
    size_t path_len;
    int minor_version;
    struct phr_header *headers;
    size_t header_count;
    /* set by strict_head_check() */
    const char *authority; /* of an absolute target; NULL: the target is not absolute */
    size_t authority_len;
    const char *host; /* the value of a valid Host; NULL: none */
    size_t host_len;
    bool is_chunked;
    bool has_bare_lf; /* every line ends with LF alone */
};

/* Check a head that phr_parse_request() accepted. Blanks after values are cut off, repeated lengths
 * become one field, and `path` of an absolute target becomes the part after the authority, which
 * may be empty or begin with '?'.
 * Owner:  the texts point into `bytes`.     Thread: any.     Blocks: never.
 * Errors: REFUSAL_NONE, or the first fault found. */
enum h1_refusal strict_head_check(struct strict_head *head);

/* Is this value of Host a host, and perhaps a port (RFC 9110 7.2)? The empty text is not.
 * Thread: any.     Blocks: never. */
bool strict_head_is_host(const char *text, size_t len);

#endif

#ifndef LASTCALL_REFUSAL_H
#define LASTCALL_REFUSAL_H

/* Why an HTTP/1 request is refused. The names are the labels of
 * lastcall_requests_refused_total; the texts are the bodies of the answers. */

#define REFUSALS(X)                                                                                \
    X(SYNTAX, "syntax", 400, "Bad Request", "malformed request line or field (RFC 9112 3 and 5)")  \
    X(LINE_END, "line-end", 400, "Bad Request", "a line does not end with CR LF (RFC 9112 2.2)")   \
    X(FOLDED, "folded", 400, "Bad Request", "a field is folded over lines (RFC 9112 5.2)")         \
    X(TOO_LARGE, "too-large", 431, "Request Header Fields Too Large",                              \
      "the header or trailer fields are too many or too long (RFC 6585 5)")                        \
    X(METHOD, "method", 400, "Bad Request", "the method is not a token (RFC 9110 9.1)")            \
    X(CONNECT, "connect", 501, "Not Implemented", "CONNECT is not implemented (RFC 9110 9.3.6)")   \
    X(TARGET, "target", 400, "Bad Request", "bad request target (RFC 9112 3.2)")                   \
    X(HOST, "host", 400, "Bad Request",                                                            \
      "the Host is missing, repeated, malformed or not the target's (RFC 9112 3.2)")               \
    X(LENGTH, "content-length", 400, "Bad Request",                                                \
      "the Content-Length is malformed, or one of several (RFC 9110 8.6)")                         \
    X(CODING, "transfer-encoding", 400, "Bad Request",                                             \
      "the Transfer-Encoding is not chunked, beside a Content-Length or in HTTP/1.0 "              \
      "(RFC 9112 6.1)")                                                                            \
    X(CHUNK, "chunk", 400, "Bad Request", "malformed chunk (RFC 9112 7.1)")                        \
    X(TRAILER, "trailer", 400, "Bad Request", "malformed trailer field (RFC 9112 7.1.2)")

#define REFUSAL_ENUM(id, label, status, reason, text) REFUSAL_##id,
/* REFUSAL_NONE: the request is accepted. */
enum h1_refusal { REFUSALS(REFUSAL_ENUM) REFUSAL_COUNT, REFUSAL_NONE = REFUSAL_COUNT };
#undef REFUSAL_ENUM

#endif

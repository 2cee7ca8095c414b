#ifndef LASTCALL_CGI_HEAD_H
#define LASTCALL_CGI_HEAD_H

/* The header that a script prints (RFC 3875, section 6): fields, each on a line that ends with LF
 * or CRLF, and an empty line. */

#include <stddef.h>
#include <stdint.h>

#define CGI_HEAD_BYTES 65536 /* with its empty line */
#define CGI_HEAD_FIELDS 100  /* that are passed on */
#define CGI_HEAD_ERROR 160

struct cgi_head {
    size_t bytes;   /* of the header; the body follows */
    int status;     /* 200 to 599: that of `Status`, or what follows from the fields */
    int64_t length; /* Content-Length; -1: none */
    const char *content_type, *location; /* NULL: none */
    size_t count;
    struct {
        const char *name, *value;
    } fields[CGI_HEAD_FIELDS]; /* to be passed on; `content_type` is not among them */
};

/* Where does the header in these bytes end? 0: there is no empty line yet. `from`: that many bytes
 * were looked at before.     Thread: any. */
size_t cgi_head_end(const char *bytes, size_t count, size_t from);

/* Read the header of `count` bytes, as cgi_head_end() returned it. It is changed: its fields become
 * texts, which *ret_head points to.
 *
 * Not passed on: fields of the connection (RFC 9110, section 7.6.1), Date and Server, which the
 * server sets, and X-CGI-* (section 6.3.5: the extensions are for the server).
 *
 * Thread: any.     Errors: 0; -EBADMSG, and what is wrong with it in `error`. */
int cgi_head_parse(char *bytes, size_t count, struct cgi_head *ret_head,
                   char error[CGI_HEAD_ERROR]);

#endif

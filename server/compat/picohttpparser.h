#ifndef LASTCALL_COMPAT_PICOHTTPPARSER_H
#define LASTCALL_COMPAT_PICOHTTPPARSER_H

/* The HTTP/1 parser that libh2o 2.2.5 contains and exports. Debian ships no header for it; names,
 * types and the order of the fields are the library's ABI. */

#include <stddef.h>
#include <sys/types.h>

/* `name` NULL: a line that continues the value of the field before (obs-fold). Both texts lie in
 * the parsed bytes. */
struct phr_header {
    const char *name;
    size_t name_len;
    const char *value;
    size_t value_len;
};

/* The length of the whole head in `bytes`; -1: it is malformed; -2: more bytes are needed.
 * `*header_count` is the room in `headers`, then the number of fields. `len_before` is the length
 * of the bytes at the last call for this head, 0 at the first. */
int phr_parse_request(const char *bytes, size_t len, const char **ret_method,
                      size_t *ret_method_len, const char **ret_path, size_t *ret_path_len,
                      int *ret_minor_version, struct phr_header *headers, size_t *header_count,
                      size_t len_before);
int phr_parse_response(const char *bytes, size_t len, int *ret_minor_version, int *ret_status,
                       const char **ret_reason, size_t *ret_reason_len, struct phr_header *headers,
                       size_t *header_count, size_t len_before);
int phr_parse_headers(const char *bytes, size_t len, struct phr_header *headers,
                      size_t *header_count, size_t len_before);

/* All zero but `consume_trailer` before the first bytes. */
struct phr_chunked_decoder {
    size_t bytes_left_in_chunk;
    char consume_trailer;
    char _hex_count;
    char _state;
};

/* Decode in place. `*len` becomes the length of the decoded bytes. Returns -1: malformed; -2: more
 * bytes are needed; else the body is whole, and so many bytes follow it. */
ssize_t phr_decode_chunked(struct phr_chunked_decoder *decoder, char *bytes, size_t *len);
int phr_decode_chunked_is_in_data(struct phr_chunked_decoder *decoder);

#endif

/* A part of a file that is asked for with Range.
 *
 * Faults: the library does not look at If-Range, so that a client that resumes the download of a
 * file that has changed puts two files together (RFC 9110 section 13.1.5). It sends every range
 * that is asked for, also the whole file five hundred times: a request of 1.5 KB for an answer of
 * any size. It answers a unit that it does not know with 416, and looks at Range in a HEAD request;
 * both are to be ignored (section 14.2). And of a file that it decompresses for the client
 * (`file.send-compressed: gunzip`) it sends a part of the compressed bytes, with a length that is
 * wrong.
 *
 * Upstream: ae983d91b (If-Range); the rest was never changed.
 *
 * Replaced: h2o_find_header(), by which the handler of files, and nothing else, asks for Range just
 * after it has opened the file. Where Range is to be ignored, it is not found, and the answer is
 * the whole file. Many ranges, or such that are more than the file together, are ignored, as the
 * RFC allows (section 17.15) and other servers do. What is no valid list of ranges is left to the
 * library, which answers 416. */

#include "mends.h"

#include <string.h>

#include "between_calls.h"
#include "library.h"

#define UNIT "bytes="
#define RANGES_MOST 200

static bool ends_in_gz(const char *text, size_t length)
{
    return length >= 3 && memcmp(text + length - 3, ".gz", 3) == 0;
}

void ranges_note_file(const h2o_filecache_ref_t *file, const char *path)
{
    struct opened_file *opened = &between_calls()->opened;

    opened->bytes = (uint64_t)file->st.st_size;
    opened->modified = file->st.st_mtim.tv_sec;
    opened->is_gz = ends_in_gz(path, strlen(path));
}

/* ---- If-Range ---- */

/* The validators of the file, as the library sends them. */
static bool is_same_file(const struct opened_file *opened, h2o_iovec_t validator)
{
    h2o_filecache_ref_t file = {.fd = 0, .st.st_mtime = opened->modified};
    char text[H2O_TIMESTR_RFC1123_LEN + H2O_FILECACHE_ETAG_MAXLEN + 1];
    size_t length;

    file.st.st_size = (off_t)opened->bytes;
    if (validator.len > 0 && validator.base[0] == '"') {
        length = h2o_filecache_get_etag(&file, text);
    } else { /* a date; a weak tag is equal to none */
        (void)h2o_filecache_get_last_modified(&file, text);
        length = H2O_TIMESTR_RFC1123_LEN;
    }
    return h2o_memis(validator.base, validator.len, text, length);
}

static bool is_outdated(const h2o_req_t *req, const struct opened_file *opened)
{
    ssize_t at = library.h2o_find_header(&req->headers, H2O_TOKEN_IF_RANGE, -1);
    return at != -1 && !is_same_file(opened, req->headers.entries[at].value);
}

/* ---- the ranges ---- */

/* False: there is no number. A number that is too large counts as the largest. */
static bool take_number(const char **at, const char *end, uint64_t *ret_number)
{
    const char *from = *at;
    uint64_t number = 0;

    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++)
        number =
            number > UINT64_MAX / 10 - 1 ? UINT64_MAX / 2 : number * 10 + (uint64_t)(**at - '0');
    *ret_number = number;
    return *at > from;
}

/* How much of the file `FIRST-LAST`, `FIRST-` or `-LAST` is. False: it is not valid. */
static bool measure(const char *at, const char *end, uint64_t bytes, uint64_t *ret_count)
{
    uint64_t first, last;
    bool has_first = take_number(&at, end, &first);

    *ret_count = 0;
    if (at == end || *at++ != '-')
        return false;
    bool has_last = take_number(&at, end, &last);
    if (at != end || !(has_first || has_last))
        return false;
    if (!has_first)
        *ret_count = last < bytes ? last : bytes;
    else if (first < bytes && (!has_last || last >= first))
        *ret_count = (has_last && last < bytes ? last + 1 : bytes) - first;
    return true;
}

/* Is that more than a client can want who wants parts? */
static bool is_too_much(h2o_iovec_t value, uint64_t bytes)
{
    const char *at = value.base + strlen(UNIT), *end = value.base + value.len;
    uint64_t sum = 0, count;

    for (unsigned ranges = 0; at < end; ranges++) {
        const char *comma = memchr(at, ',', (size_t)(end - at)),
                   *next = comma != NULL ? comma : end;
        const char *to = next;
        while (at < to && (*at == ' ' || *at == '\t'))
            at++;
        while (to > at && (to[-1] == ' ' || to[-1] == '\t'))
            to--;
        if (at < to && !measure(at, to, bytes, &count))
            return false;           /* the library refuses all of it */
        sum += at < to ? count : 0; /* of at most RANGES_MOST files of less than 2^63 bytes */
        if (ranges >= RANGES_MOST || sum > bytes)
            return true;
        at = comma != NULL ? comma + 1 : end;
    }
    return false;
}

bool ranges_are_ignored(const h2o_req_t *req, h2o_iovec_t value)
{
    const struct opened_file *opened = &between_calls()->opened;
    bool is_unpacked = opened->is_gz &&
                       !ends_in_gz(req->path_normalized.base, req->path_normalized.len) &&
                       (h2o_get_compressible_types(&req->headers) & H2O_COMPRESSIBLE_GZIP) == 0;

    return !h2o_memis(req->method.base, req->method.len, H2O_STRLIT("GET")) ||
           value.len < strlen(UNIT) || memcmp(value.base, UNIT, strlen(UNIT)) != 0 || is_unpacked ||
           is_outdated(req, opened) || is_too_much(value, opened->bytes);
}

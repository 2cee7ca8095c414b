/* A part of a file that is asked for with Range.
 *
 * Faults: the library does not look at If-Range, so that a client that resumes the download of a
 * file that has changed puts two files together (RFC 9110 section 13.1.5). It sends every range
 * that is asked for, also the whole file five hundred times: a request of 1.5 KB for an answer of
 * any size. It answers a unit that it does not know with 416, and looks at Range in a HEAD request;
 * both are to be ignored (section 14.2). And of a file that it decompresses for the client
 * (`file.send-compressed: gunzip`) it sends a part of the compressed bytes, with a length that is
 * wrong. The last byte of an empty file is bytes `0--1/0` to it, and a number of 20 digits can
 * become a small one. After a comma at the end of the list it reads on.
 *
 * Upstream: ae983d91b (If-Range); the rest was never changed.
 *
 * Replaced: h2o_find_header(). The handler of files opens a file, and then asks for If-None-Match
 * and for Range in the same call. Whatever else looks for Range (`header.*`, `proxy.header.*`) does
 * so in fields that need not be those of a request: that order tells them apart. Where Range is to
 * be ignored, it is not found, and the answer is the whole file. Many ranges, or such that are more
 * than the file together, are ignored, as the RFC allows (section 17.15) and other servers do. What
 * is no valid list of ranges is left to the library, which answers 416. */

#include "mends.h"

#include <string.h>

#include "between_calls.h"
#include "container_of.h"
#include "library.h"

#define UNIT "bytes="
#define GZ ".gz"
#define RANGES_MOST 200
#define DIGITS_MOST 19 /* of a number of 64 bits, whatever they are */
#define TOO_LARGE UINT64_MAX

/* ---- the file ---- */

/* The last path that could not be opened, as far as there is room: its end. */
static void note_missing(struct opened_file *opened, const char *path, size_t length)
{
    size_t kept = length < sizeof(opened->missing) ? length : sizeof(opened->missing);

    memcpy(opened->missing, path + length - kept, kept);
    opened->missing_bytes = length;
}

/* A false yes makes an answer whole that could have been a part. */
static bool is_missing(const struct opened_file *opened, const char *path, size_t length)
{
    size_t kept = length < sizeof(opened->missing) ? length : sizeof(opened->missing);

    return length == opened->missing_bytes &&
           memcmp(opened->missing, path + length - kept, kept) == 0;
}

static bool ends_in_gz(const char *text, size_t length)
{
    return length > strlen(GZ) && memcmp(text + length - strlen(GZ), GZ, strlen(GZ)) == 0;
}

void ranges_note_file(const h2o_filecache_ref_t *file, const char *path)
{
    struct opened_file *opened = &between_calls()->opened;
    size_t length = strlen(path);

    opened->headers = NULL;
    opened->is_new = file != NULL;
    if (file == NULL) {
        note_missing(opened, path, length);
        return;
    }
    opened->bytes = (uint64_t)file->st.st_size;
    opened->modified = file->st.st_mtim.tv_sec;
    /* The library looks for a file to unpack just after the file itself is not there. */
    opened->is_unpacked = ends_in_gz(path, length) && is_missing(opened, path, length - strlen(GZ));
    opened->missing_bytes = 0;
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

/* False: there is no number. One that the library could not hold is TOO_LARGE. */
static bool take_number(const char **at, const char *end, uint64_t *ret_number)
{
    const char *from = *at;
    uint64_t number = 0;

    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++)
        number = *at - from < DIGITS_MOST ? number * 10 + (uint64_t)(**at - '0') : TOO_LARGE;
    *ret_number = number;
    return *at > from;
}

/* How much of the file `FIRST-LAST`, `FIRST-` or `-LAST` is; TOO_LARGE: a number is. False: it is
 * not valid. */
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
    if ((has_first && first == TOO_LARGE) || (has_last && last == TOO_LARGE))
        *ret_count = TOO_LARGE;
    else if (!has_first)
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
        count = 0; /* of an empty element */
        if (at < to && !measure(at, to, bytes, &count))
            return false; /* the library refuses all of it */
        if (ranges >= RANGES_MOST || count > bytes - sum)
            return true;
        sum += count;
        at = comma != NULL ? comma + 1 : end;
    }
    return false;
}

static bool is_ignored(const h2o_req_t *req, const struct opened_file *opened, h2o_iovec_t value)
{
    return !h2o_memis(req->method.base, req->method.len, H2O_STRLIT("GET")) ||
           value.len < strlen(UNIT) || memcmp(value.base, UNIT, strlen(UNIT)) != 0 ||
           value.base[value.len - 1] == ',' || opened->bytes == 0 || opened->is_unpacked ||
           is_outdated(req, opened) || is_too_much(value, opened->bytes);
}

ssize_t ranges_found(const h2o_headers_t *headers, const h2o_token_t *token, ssize_t at)
{
    struct opened_file *opened = &between_calls()->opened;
    bool is_new = opened->is_new, is_of_file = opened->headers == headers;

    opened->is_new = false;
    if (token == H2O_TOKEN_IF_NONE_MATCH)
        opened->headers = is_new ? headers : NULL;
    if (token != H2O_TOKEN_RANGE)
        return at;
    opened->headers = NULL;
    if (at == -1 || !is_of_file)
        return at;
    const h2o_req_t *req = container_of(headers, h2o_req_t, headers);
    return is_ignored(req, opened, headers->entries[at].value) ? -1 : at;
}

#include "request_p.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file_facts.h"

/* A file as an answer, with the conditions of RFC 9110 section 13 and the ranges of section 14. */

struct facts {
    uint64_t bytes;
    time_t modified;
    const char *etag;
};

/* ---- conditions ---- */

static bool is_get_or_head(const struct lc_request *request)
{
    const char *method = request->exchange->method;

    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

/* Is the entity tag in the list, or is that "*"? Weak ones count only in a weak comparison. */
static bool has_etag(const char *list, const char *etag, bool is_weak)
{
    const char *opaque = strncmp(etag, "W/", 2) == 0 ? etag + 2 : etag;
    size_t bytes = strlen(opaque);

    if (strcmp(list, "*") == 0)
        return true;
    for (const char *at = list + strspn(list, " \t,"); *at != '\0'; at += strspn(at, " \t,")) {
        bool weak = strncmp(at, "W/", 2) == 0;
        at += weak ? 2 : 0;
        const char *end = *at == '"' ? strchr(at + 1, '"') : NULL;
        if (end == NULL)
            return false;
        end++;
        if ((size_t)(end - at) == bytes && memcmp(at, opaque, bytes) == 0 &&
            (is_weak || (!weak && opaque == etag)))
            return true;
        at = end;
    }
    return false;
}

static bool is_date_field(struct lc_request *request, const char *name, time_t *ret_time)
{
    const char *text = lc_request_field(request, name);

    return text != NULL && file_read_date(text, ret_time);
}

/* The status that the conditions ask for; 0: they hold. Section 13.2.2 has the order. */
static int check_conditions(struct lc_request *request, const struct facts *facts)
{
    const char *match = lc_request_field(request, "if-match");
    const char *none_match = lc_request_field(request, "if-none-match");
    time_t since;

    if (match != NULL) {
        if (!has_etag(match, facts->etag, false))
            return 412;
    } else if (is_date_field(request, "if-unmodified-since", &since) && facts->modified > since) {
        return 412;
    }
    if (none_match != NULL) {
        if (has_etag(none_match, facts->etag, true))
            return is_get_or_head(request) ? 304 : 412;
    } else if (is_get_or_head(request) && is_date_field(request, "if-modified-since", &since) &&
               facts->modified <= since) {
        return 304;
    }
    return 0;
}

/* ---- ranges ---- */

enum range { RANGE_NONE, RANGE_PART, RANGE_BEYOND };

/* Up to 18 digits: more than any file has bytes. */
static bool read_number(const char **at, uint64_t *ret_number)
{
    size_t digits = strspn(*at, "0123456789");

    if (digits == 0)
        return false;
    *ret_number = digits > 18 ? UINT64_MAX : strtoull(*at, NULL, 10);
    *at += digits;
    return true;
}

/* "bytes=0-99", "bytes=100-", "bytes=-100". What is not understood, and several ranges, are
 * answered with all of the file, as section 14.2 allows. */
static enum range read_range(const char *text, uint64_t size, uint64_t *ret_at, uint64_t *ret_bytes)
{
    uint64_t first = 0, last = UINT64_MAX;

    if (strncasecmp(text, "bytes=", 6) != 0)
        return RANGE_NONE;
    text += 6;
    bool has_first = read_number(&text, &first);
    if (*text++ != '-')
        return RANGE_NONE;
    bool has_last = read_number(&text, &last);
    if (*text != '\0' || (!has_first && !has_last) || (has_first && last < first))
        return RANGE_NONE;
    if (!has_first) { /* the last so many bytes */
        first = last < size ? size - last : 0;
        if (last == 0)
            return RANGE_BEYOND;
        last = UINT64_MAX;
    }
    if (first >= size)
        return RANGE_BEYOND;
    *ret_at = first;
    *ret_bytes = last < size ? last - first + 1 : size - first;
    return RANGE_PART;
}

/* If-Range: is what the client has of it still good? Section 13.1.5. */
static bool is_same_file(struct lc_request *request, const struct facts *facts)
{
    const char *condition = lc_request_field(request, "if-range");
    time_t date;

    if (condition == NULL)
        return true;
    if (*condition == '"')
        return strcmp(condition, facts->etag) == 0;
    return file_read_date(condition, &date) && date == facts->modified;
}

static enum range find_range(struct lc_request *request, const struct facts *facts,
                             uint64_t *ret_at, uint64_t *ret_bytes)
{
    const char *text = lc_request_field(request, "range");

    if (text == NULL || strcmp(request->exchange->method, "GET") != 0 ||
        !is_same_file(request, facts))
        return RANGE_NONE;
    return read_range(text, facts->bytes, ret_at, ret_bytes);
}

/* ---- the answer ---- */

static int put_facts(struct lc_request *request, const struct facts *facts)
{
    char date[FILE_DATE_SIZE];

    file_date(facts->modified, date);
    int err = lc_put_field(request, "etag", facts->etag, false);
    if (err == 0 && *date != '\0')
        err = lc_put_field(request, "last-modified", date, false);
    return err != 0 ? err : lc_put_field(request, "accept-ranges", "bytes", false);
}

/* 304 and 412 have no content, 416 a page. */
static int answer_without_file(struct lc_request *request, int status, const struct facts *facts)
{
    char text[64];

    if (status == 304) {
        request->exchange->status = status;
        request->exchange->content_type = NULL;
        request->answered = LC_WHOLE;
        return 0;
    }
    lc_answer_page(request, status);
    (void)snprintf(text, sizeof(text), "bytes */%llu", (unsigned long long)facts->bytes);
    return status == 416 ? lc_put_field(request, "content-range", text, false) : 0;
}

static int put_range(struct lc_request *request, const struct facts *facts, uint64_t at,
                     uint64_t bytes)
{
    char text[96];

    (void)snprintf(text, sizeof(text), "bytes %llu-%llu/%llu", (unsigned long long)at,
                   (unsigned long long)(at + bytes - 1), (unsigned long long)facts->bytes);
    request->exchange->status = 206;
    return lc_put_field(request, "content-range", text, false);
}

/* `fd` is taken over, unless it fails or the answer has no content: then *ret_used stays false. */
static int answer_file(struct lc_request *request, int fd, const struct facts *facts,
                       bool *ret_used)
{
    struct exchange *exchange = request->exchange;
    uint64_t at = 0, bytes = facts->bytes;
    enum range range = RANGE_NONE;

    int err = put_facts(request, facts);
    if (err != 0)
        return err;
    if (exchange->status == 200) { /* another: the file is the page of an error, say */
        int status = check_conditions(request, facts);
        if (status == 0 && (range = find_range(request, facts, &at, &bytes)) == RANGE_BEYOND)
            status = 416;
        if (status != 0)
            return answer_without_file(request, status, facts);
    }
    if (range == RANGE_PART && (err = put_range(request, facts, at, bytes)) != 0)
        return err;
    exchange->length = -1;
    request->answered = LC_WHOLE;
    if (bytes == 0)
        return 0;
    exchange->file_fd = fd;
    exchange->file_at = at;
    exchange->file_bytes = bytes;
    *ret_used = true;
    return 0;
}

/* The page, if the handler makes no answer of its own. */
static int not_opened(struct lc_request *request, int err)
{
    bool is_missing = err == ENOENT || err == ENOTDIR || err == EISDIR || err == ELOOP ||
                      err == ENAMETOOLONG || err == ENXIO;
    bool is_forbidden = err == EACCES || err == EPERM;

    request->page = is_missing ? 404 : is_forbidden ? 403 : 500;
    return -err;
}

static int send_open_file(struct lc_request *request, int fd, const char *path, const char *type,
                          bool *ret_used)
{
    struct stat st;
    char etag[64];

    if (fstat(fd, &st) != 0)
        return not_opened(request, errno);
    if (!S_ISREG(st.st_mode))
        return not_opened(request, EISDIR);
    int err = lc_begin_answer(
        request, request->exchange->status,
        type != NULL || request->exchange->content_type != NULL ? type : file_media_type(path),
        true);
    if (err != 0)
        return err;
    struct facts facts = {.bytes = (uint64_t)st.st_size, .modified = st.st_mtim.tv_sec};
    (void)snprintf(etag, sizeof(etag), "\"%llx-%lx-%llx\"", (unsigned long long)st.st_mtim.tv_sec,
                   (unsigned long)st.st_mtim.tv_nsec, (unsigned long long)st.st_size);
    facts.etag = lc_answer_field(request, "etag");
    if (facts.etag == NULL)
        facts.etag = etag;
    err = answer_file(request, fd, &facts, ret_used);
    if (err != 0)
        request->answered = LC_NOT_ANSWERED;
    return err == 0 ? 0 : lc_answer_failed(request, err);
}

int lc_send_file(lc_req *req, const char *path, const char *type)
{
    struct lc_request *request = LC_HELD(req);
    bool used = false;

    if (request == NULL)
        return LC_E_THREAD;
    if (path == NULL)
        return lc_answer_failed(request, LC_E_ARG);
    if (request->failed != 0)
        return request->failed;
    /* A FIFO without a writer must not hold the worker. */
    int fd = request->answered == LC_NOT_ANSWERED
                 ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
                 : -1;
    if (request->answered != LC_NOT_ANSWERED)
        return lc_begin_answer(request, 200, NULL, false);
    if (fd < 0)
        return not_opened(request, errno);
    int err = send_open_file(request, fd, path, type, &used);
    if (!used)
        (void)close(fd);
    return err;
}

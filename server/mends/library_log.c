#include "mends.h"

#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "log_limit.h"
#include "library.h"
#include "request.h"

/* Turns what libh2o writes to standard error into lines of our log: with time and level, in the
 * format of --log-format, without query strings, and rate-limited, because clients and upstreams
 * can cause most of them.
 *
 *     about a request   h2o_req_log_error() is replaced
 *     everything else   libh2o calls fprintf(3) with `stderr`. It reads that pointer through one
 *                       word of its global offset table. The word is made to point to a stream of
 *                       ours (fopencookie(3)). Other code keeps its stderr.
 *
 * The dynamic linker has made the word's memory read-only, so it is made writable for a moment,
 * once, before the loops start. */

#define TEXT_SIZE 1024

static struct log_limit about_requests, others;

/* Remove query strings: from each question mark to the end of the word. */
static void take_out_queries(char *text)
{
    char *to = text;

    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '?')
            at += strcspn(at, " \t\n`'\"<>)");
        if (*at == '\0')
            break;
        *to++ = *at;
    }
    *to = '\0';
}

/* ---- about a request ---- */

static void keep_for_access_log(h2o_req_t *req, const char *module, const char *text)
{
    h2o_iovec_t copy = h2o_strdup(&req->pool, text, SIZE_MAX);

    h2o_vector_reserve(&req->pool, &req->error_logs, req->error_logs.size + 1);
    req->error_logs.entries[req->error_logs.size++] = (h2o_req_error_log_t){module, copy};
}

void library_log_request(h2o_req_t *req, const char *module, const char *format, va_list args)
{
    char text[TEXT_SIZE], id[REQUEST_ID_SIZE];
    const char *query = NULL;

    (void)vsnprintf(text, sizeof(text), format, args);
    keep_for_access_log(req, module, text);
    if (req->pathconf == NULL || !req->pathconf->error_log.emit_request_errors)
        return;
    take_out_queries(text);
    if (req->path.len > 0)
        query = memchr(req->path.base, '?', req->path.len);
    size_t path = query != NULL ? (size_t)(query - req->path.base) : req->path.len;
    bool has_id = request_id_of(req, id)[0] != '\0';
    log_limited(&about_requests, LOG_LEVEL_WARN, "library", "%.*s %.*s: %s (libh2o, %s%s%s)",
                (int)(req->method.len < 32 ? req->method.len : 32), req->method.base,
                (int)(path < 256 ? path : 256), req->path.base, text, module,
                has_id ? "; request id " : "", id);
}

/* ---- everything else ---- */

static ssize_t on_write(void *cookie, const char *bytes, size_t n)
{
    char text[TEXT_SIZE];
    size_t copied = n < sizeof(text) - 1 ? n : sizeof(text) - 1;

    (void)cookie;
    memcpy(text, bytes, copied);
    while (copied > 0 && text[copied - 1] == '\n')
        copied--;
    text[copied] = '\0';
    take_out_queries(text);
    if (copied > 0)
        log_limited(&others, LOG_LEVEL_WARN, "library", "libh2o: %s", text);
    return (ssize_t)n;
}

static bool point_to(void **word, void *target, bool is_protected)
{
    size_t page = (size_t)getpagesize();
    char *begin = (char *)((uintptr_t)word & ~(uintptr_t)(page - 1));

    if (is_protected && mprotect(begin, page, PROT_READ | PROT_WRITE) != 0)
        return false;
    *word = target;
    return !is_protected || mprotect(begin, page, PROT_READ) == 0;
}

bool library_log_init(void)
{
    static FILE *stream; /* libh2o's `stderr` from now on; never closed */
    static bool done;    /* the loops of another server may be running */
    bool is_protected;

    if (done)
        return true;
    void **word = replaced_find_word("libh2o-evloop", "stderr", &is_protected);

    if (word == NULL)
        return false;
    if (stream == NULL) {
        stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = on_write});
        if (stream == NULL)
            return false;
        (void)setvbuf(stream, NULL, _IOLBF, TEXT_SIZE);
    }
    done = point_to(word, &stream, is_protected);
    return done;
}

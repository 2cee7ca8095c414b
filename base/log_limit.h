#ifndef LASTCALL_LOG_LIMIT_H
#define LASTCALL_LOG_LIMIT_H

/* Log lines that a client or an upstream can cause: at most LOG_LIMIT_PER_SECOND of a kind. The
 * first line of a later second says how many were left out. */

#include "log.h"

#include <stdatomic.h>
#include <stdint.h>

#define LOG_LIMIT_PER_SECOND 10

/* One kind of line. Initialise it with zeros. */
struct log_limit {
    /* atomic: relaxed, written by any thread; two threads at once may write one line too many, but
     * never lose a count */
    _Atomic uint64_t second;
    _Atomic uint64_t lines;
    _Atomic uint64_t left_out;
};

/* May a line be written at `now_ns`? *ret_left_out: how many lines were left out since the last
 * one; the caller writes that number.     Thread: any.     Blocks: never. */
bool log_limit_allows(struct log_limit *limit, uint64_t now_ns, uint64_t *ret_left_out);

/* log_line() without fields, if `limit` allows it.     Thread: any.     Blocks: on stderr. */
void log_limited(struct log_limit *limit, enum log_level level, const char *event,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif

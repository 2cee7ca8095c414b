#include "log_limit.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "clock.h"

#define TEXT_SIZE 1024

bool log_limit_allows(struct log_limit *limit, uint64_t now_ns, uint64_t *ret_left_out)
{
    uint64_t second = now_ns / (1000 * NS_PER_MS);

    if (atomic_exchange_explicit(&limit->second, second, memory_order_relaxed) != second)
        atomic_store_explicit(&limit->lines, 0, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&limit->lines, 1, memory_order_relaxed) >= LOG_LIMIT_PER_SECOND) {
        atomic_fetch_add_explicit(&limit->left_out, 1, memory_order_relaxed);
        return false;
    }
    *ret_left_out = atomic_exchange_explicit(&limit->left_out, 0, memory_order_relaxed);
    return true;
}

void log_limited(struct log_limit *limit, enum log_level level, const char *event,
                 const char *format, ...)
{
    char text[TEXT_SIZE];
    uint64_t left_out;
    va_list args;

    if (!log_limit_allows(limit, clock_now_ns(), &left_out))
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (left_out == 0)
        log_line(level, event, NULL, "%s", text);
    else
        log_line(level, event, NULL, "%s (%" PRIu64 " such lines were left out before)", text,
                 left_out);
}

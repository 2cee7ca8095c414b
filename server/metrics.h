#ifndef LASTCALL_METRICS_H
#define LASTCALL_METRICS_H

/* What is counted for Prometheus, and how it is written down. Each loop has its own counts and is
 * the only one to write them, plain loads and stores in cache lines that no other loop touches; who
 * asks for the text adds them up. Times are taken from the loop's clock, which is read once a
 * millisecond, so that counting costs no clock reading of its own. */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct server;

/* What answers on a path, as far as its directives tell. */
#define ROUTE_KINDS(X)                                                                             \
    X(OTHER, "other")                                                                              \
    X(FILE, "file")                                                                                \
    X(PROXY, "proxy")                                                                              \
    X(FASTCGI, "fastcgi")                                                                          \
    X(POOL, "pool")                                                                                \
    X(INLINE, "inline")

#define ROUTE_KIND_ENUM(id, name) ROUTE_##id,
enum route_kind { ROUTE_KINDS(ROUTE_KIND_ENUM) ROUTE_KIND_COUNT };
#undef ROUTE_KIND_ENUM

/* Bucket k holds what took at most 2^k ms, and more than the one before; the last one the rest. */
#define METRICS_BUCKETS 18

#define METRICS_CLASSES 6 /* 1xx to 5xx by their first digit; 0: none of these */

struct loop_metrics {
    _Alignas(64) _Atomic uint64_t busy; /* connections with a request in flight */
    _Atomic uint64_t accept_errors;
    _Atomic uint64_t handshakes_done;
    _Atomic uint64_t handshakes_failed;
    _Atomic uint64_t h2_resets;
    _Atomic uint64_t requests[ROUTE_KIND_COUNT][METRICS_CLASSES];
    _Atomic uint64_t aborted[ROUTE_KIND_COUNT];
    _Atomic uint64_t took[ROUTE_KIND_COUNT][METRICS_BUCKETS];
    _Atomic uint64_t took_ns[ROUTE_KIND_COUNT]; /* the sum */
};

/* Thread: any. */
static inline unsigned metrics_bucket(uint64_t ns)
{
    if (ns <= 1000000) /* most requests */
        return 0;
    uint64_t ms = (ns + 999999) / 1000000; /* rounded up: a bound belongs to its bucket */
    unsigned k = 64 - (unsigned)__builtin_clzll(ms - 1);
    return k < METRICS_BUCKETS - 1 ? k : METRICS_BUCKETS - 1;
}

/* All of it in the text format 0.0.4 of Prometheus.
 * Owner: the caller, free(3); NULL without memory.     Thread: any, between server_start() and
 * server_destroy().     Blocks: never. */
char *metrics_text(struct server *server);

#endif

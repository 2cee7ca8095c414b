#ifndef LASTCALL_LOOP_METRICS_H
#define LASTCALL_LOOP_METRICS_H

/* What a loop counts for Prometheus. The loop is the only one to write, plain loads and stores in
 * cache lines that no other loop touches; metrics.c adds the loops up. Times are taken from the
 * loop's clock, which is read once a millisecond, so counting reads no clock of its own. */

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "refusal.h"

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

/* Why a client was cut: what it was too slow with. */
#define CUT_REASONS(X)                                                                             \
    X(HEAD, "head")                                                                                \
    X(BODY, "body")                                                                                \
    X(ANSWER, "answer")                                                                            \
    X(IDLE, "idle")

#define CUT_REASON_ENUM(id, name) CUT_##id,
enum cut_reason { CUT_REASONS(CUT_REASON_ENUM) CUT_REASON_COUNT };
#undef CUT_REASON_ENUM

/* How an upstream fails: a label, and the phase in which it fails. */
#define UPSTREAM_FAILURES(X)                                                                       \
    X(LOOKUP, "lookup", "look-up")                                                                 \
    X(CONNECT, "connect", "connect")                                                               \
    X(TLS, "tls", "TLS handshake")                                                                 \
    X(CONNECT_TIME, "connect-time", "connect")                                                     \
    X(SEND_TIME, "send-time", "send")                                                              \
    X(FIRST_BYTE_TIME, "first-byte-time", "first byte")                                            \
    X(BETWEEN_BYTES_TIME, "between-bytes-time", "between bytes")                                   \
    X(ENDED, "ended", "first byte") /* the connection ended before the head was there */           \
    X(MALFORMED, "malformed", "answer")                                                            \
    X(OVERLOADED, "overloaded", "answer") /* FastCGI: it says so */                                \
    X(CUT, "cut", "body")                 /* the connection ended in the body */

#define UPSTREAM_FAILURE_ENUM(id, label, phase) UPSTREAM_##id,
enum upstream_failure { UPSTREAM_FAILURES(UPSTREAM_FAILURE_ENUM) UPSTREAM_FAILURE_COUNT };
#undef UPSTREAM_FAILURE_ENUM

/* How a tunnel ended, but for those that a drain ended: struct loop_counts has these. */
#define TUNNEL_ENDS(X)                                                                             \
    X(PEER, "peer")     /* one side, or both, ended it */                                          \
    X(BROKEN, "broken") /* one side was reset, or ended TLS without close_notify */                \
    X(IDLE, "idle")     /* nothing came for proxy.websocket.timeout */

#define TUNNEL_END_ENUM(id, name) TUNNEL_END_##id,
enum tunnel_ended { TUNNEL_ENDS(TUNNEL_END_ENUM) TUNNEL_END_COUNT };
#undef TUNNEL_END_ENUM

/* Bucket k holds what took at most 2^k ms, and more than the one before; the last one the rest. */
#define METRICS_BUCKETS 18

/* Bucket k holds the turns that waited at most 2^(k + 4) us for handlers in place, and longer than
 * the one before; the last one the rest. */
#define METRICS_WAITS 14

#define METRICS_CLASSES 6 /* 1xx to 5xx by their first digit; 0: none of these */

struct loop_metrics {
    _Alignas(64) _Atomic uint64_t busy; /* connections with a request in flight */
    _Atomic uint64_t clients_cut[CUT_REASON_COUNT];
    _Atomic uint64_t bodies_refused;
    _Atomic uint64_t accept_errors;
    _Atomic uint64_t limit_reached;
    _Atomic uint64_t gave_way;
    _Atomic uint64_t handshakes_done;
    _Atomic uint64_t handshakes_failed;
    _Atomic uint64_t h2_resets;
    _Atomic uint64_t h2_malformed;
    _Atomic uint64_t h2_header_limit;
    _Atomic uint64_t h2_body_limit;
    _Atomic uint64_t h2_calmed;
    _Atomic uint64_t requests[ROUTE_KIND_COUNT][METRICS_CLASSES];
    _Atomic uint64_t aborted[ROUTE_KIND_COUNT];
    _Atomic uint64_t took[ROUTE_KIND_COUNT][METRICS_BUCKETS];
    _Atomic uint64_t took_ns[ROUTE_KIND_COUNT]; /* the sum */
    _Atomic uint64_t refused[REFUSAL_COUNT];    /* HTTP/1 requests */
    _Atomic uint64_t upstream_failures[UPSTREAM_FAILURE_COUNT];
    _Atomic uint64_t upstream_repeats;  /* requests sent once more */
    _Atomic uint64_t upstream_moves;    /* requests that went on to another upstream */
    _Atomic uint64_t upstream_none;     /* requests for which no upstream was up */
    _Atomic uint64_t upstream_waiting;  /* requests that wait for one */
    _Atomic uint64_t upstream_connects; /* connections made */
    _Atomic uint64_t upstream_open;     /* connections that exist */
    _Atomic uint64_t upstream_idle;     /* those of them that are kept */
    _Atomic uint64_t tunnels_open;
    _Atomic uint64_t tunnels_ended[TUNNEL_END_COUNT];
    _Atomic uint64_t waits[METRICS_WAITS]; /* turns that called handlers */
    _Atomic uint64_t waited_ns;            /* the sum */
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

/* Thread: any. */
static inline unsigned loop_wait_bucket(uint64_t ns)
{
    uint64_t steps = (ns + 15999) / 16000;
    unsigned k = steps <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(steps - 1);
    return k < METRICS_WAITS - 1 ? k : METRICS_WAITS - 1;
}

#endif

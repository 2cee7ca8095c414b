#ifndef LASTCALL_LOADGEN_H
#define LASTCALL_LOADGEN_H

/* A load client that distinguishes the outcomes of a request, which wrk and h2load do not: when a
 * server stops, was this request answered, was it refused, so that the client may retry it, or was
 * it lost?
 *
 * A request is lost if connect() succeeded and the whole request was written, but a reset, an end
 * of file or a truncated response followed. A refused connect() is no loss (every load balancer
 * retries it), and neither is an HTTP/2 stream above the last id of a GOAWAY (RFC 9113 section 6.8:
 * it was not processed). Both are counted.
 *
 * One thread, one epoll set. In the closed loop each connection sends, waits for the answer,
 * pauses, and sends again, for as long as the server keeps it open. In the open loop (`rate`)
 * requests arrive on a fixed schedule and wait for a free connection; their latency counts from the
 * time they were due, so a stall of the server shows in it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum load_protocol {
    LOAD_HTTP1_CLOSE,     /* a new connection for each request, `Connection: close` */
    LOAD_HTTP1_KEEPALIVE, /* one connection for as long as the server keeps it */
    LOAD_HTTP2,           /* cleartext, prior knowledge, `streams` at once */
};

/* The outcomes of requests, in slots of 10 ms. */
enum load_kind { LOAD_SENT, LOAD_ANSWERED, LOAD_LOST, LOAD_REFUSED, LOAD_KINDS };

/* The outcome of one request, for load_options.on_outcome. */
enum load_outcome {
    LOAD_OUTCOME_ANSWERED,  /* whole, any status */
    LOAD_OUTCOME_REFUSED,   /* not processed: by HTTP/2, or after an answer that closes */
    LOAD_OUTCOME_UNSENT,    /* the connection ended before the whole request was written */
    LOAD_OUTCOME_RESET,     /* reset before the first byte of the answer */
    LOAD_OUTCOME_EOF,       /* end of file before the first byte of the answer */
    LOAD_OUTCOME_TRUNCATED, /* the answer began, and was cut or wrong */
    LOAD_OUTCOME_WAITING,   /* no answer when the run ended */
};

#define LOAD_SLOT_MS 10
#define LOAD_SLOTS 12000 /* two minutes */

struct load_timeline {
    uint32_t slots[LOAD_SLOTS][LOAD_KINDS];
    uint64_t beyond; /* events after the last slot */
};

#define LOAD_WINDOW_MS 100
#define LOAD_WINDOWS 1200 /* two minutes */
#define LOAD_LATENCY_BUCKETS 2048

/* Latencies, by the time of the answer. */
struct load_latencies {
    uint32_t windows[LOAD_WINDOWS][LOAD_LATENCY_BUCKETS];
};

struct load_options {
    const char *address; /* `127.0.0.1:8080`, `[::1]:8080`, `unix:/path`; loopback only */
    enum load_protocol protocol;
    unsigned connections;    /* 1..65536 */
    unsigned streams;        /* HTTP/2: concurrent requests a connection; 0: 1 */
    const char *method;      /* NULL: GET, or POST with a body */
    const char *path;        /* NULL: `/hello` */
    size_t body_bytes;       /* request body; 0: none */
    uint32_t pause_ms;       /* between an answer and the next request of its connection */
    uint32_t duration_ms;    /* no new request after this */
    uint32_t patience_ms;    /* then wait so long for answers; the rest counts as `waiting` */
    uint64_t max_requests;   /* requests that begin, with any outcome; 0: no limit */
    const char *expect_body; /* an answer with another body counts as truncated; NULL: any */
    uint32_t rate;      /* open loop: requests per second, up to 1000000; 0: closed loop. A refused
                           connect      also ends the request that it was for; pause_ms is not used */
    bool tls;           /* ALPN offers the protocol; certificates are not verified */
    bool resume;        /* TLS: a new connection of a slot resumes the session of the last one */
    uint32_t read_rate; /* slow readers: bytes per second and connection; 0: no limit */
    uint32_t send_rate; /* slow senders: the same, for request bodies */
    unsigned pipeline;  /* HTTP/1 keep-alive: requests in flight on a connection; 0: 1 */

    /* The crowd: connections beside the load, opened before it begins. An idle one makes one GET
     * with keep-alive, a silent one sends nothing; then they wait for what the server does. */
    unsigned idle;   /* 0..65536 */
    unsigned silent; /* 0..65536 */

    /* Each request carries its number, unique in the run, as 16 hex digits in this header (lower
     * case); NULL: no number. on_outcome (may be NULL) is called from the load loop, once for each
     * request that began. */
    const char *number_header;
    uint64_t number_from; /* the first request has the number after this */
    void (*on_outcome)(void *arg, uint64_t number, int status, enum load_outcome outcome);
    void *on_outcome_arg;

    struct load_timeline *timeline;   /* cleared, then filled; NULL: none */
    struct load_latencies *latencies; /* cleared, then filled; NULL: none */

    /* Called once from the load loop, `signal_after_ms` after the start, but not before so many
     * answers; for example to send a signal to the server under test. */
    uint32_t signal_after_ms;
    uint64_t signal_after_answers;
    void (*on_signal)(void *arg);
    void *on_signal_arg;

    /* Called at least every 5 ms: is it enough? Then the load ends as after `duration_ms`. NULL: it
     * lasts that long. */
    bool (*is_enough)(void *arg);
    void *is_enough_arg;

    /* Called at least every 5 ms: has the server exited? From then on unfinished connects count as
     * refused, no request begins, and the run ends when no request is outstanding. NULL: none. */
    bool (*server_is_gone)(void *arg);
    void *server_is_gone_arg;

    /* The same by process id: a pidfd reports the exit at once, and the run lasts until then or
     * until the end of patience. A zombie counts as exited. 0: none. */
    pid_t server_pid;
};

struct load_latency {
    uint64_t count, p50_us, p99_us, max_us;
};

/* The idle or the silent crowd; not part of any other count. */
struct load_crowd {
    uint64_t opened;     /* connected, and if idle, answered: the sum of closed and still_open */
    uint64_t failed;     /* did not get so far */
    uint64_t closed;     /* by the server */
    uint64_t still_open; /* at the end of the run */
};

struct load_result {
    uint64_t sent;     /* whole requests written, or answered before that: the sum of answered,
                          lost, waiting, refused_pipelined, and the refused streams that were whole */
    uint64_t answered; /* whole answers, any status */
    uint64_t answered_2xx;
    uint64_t answered_503;
    uint64_t answered_other;
    uint64_t answered_after_signal;
    uint64_t refused;           /* connect() refused or not completed when the server was gone */
    uint64_t failed_handshakes; /* TLS: connected, but no session or another protocol; no request
                                   was sent */
    uint64_t refused_streams;   /* HTTP/2: above GOAWAY's last id, or RST_STREAM(REFUSED_STREAM) */
    uint64_t refused_pipelined; /* whole, after an answer that announced the close: the client
                                   may retry them (RFC 9112 section 9.6) */
    uint64_t unsent;            /* the connection ended before the whole request was written */
    uint64_t waiting_to_start;  /* open loop: due, but no connection became free */
    uint64_t queue_overflow;    /* open loop: dropped, 65536 requests were waiting to start */
    /* lost, by kind */
    uint64_t lost_reset;       /* ECONNRESET or EPIPE before the first byte of the answer */
    uint64_t lost_eof;         /* end of file before the first byte of the answer */
    uint64_t lost_truncated;   /* the answer began and was cut, or its body was wrong */
    uint64_t lost_on_reused;   /* lost requests that were not the first on their connection */
    uint64_t lost;             /* the sum of reset, eof and truncated */
    uint64_t waiting;          /* no answer when the run ended */
    uint64_t closes_announced; /* HTTP/1 answers with `Connection: close` */
    uint64_t goaways;          /* HTTP/2 GOAWAY frames received */
    uint64_t connects;         /* connections established */
    /* CLOCK_MONOTONIC; 0: did not happen */
    uint64_t start_ns;
    uint64_t signal_ns;        /* on_signal was called */
    uint64_t first_refused_ns; /* of any kind that the timeline counts as refused */
    uint64_t gone_ns;          /* the server's exit was noticed */
    uint64_t last_answer_ns;   /* the last byte of the last answer */
    uint64_t latency_p50_us, latency_p99_us, latency_max_us;
    struct load_latency before_signal, after_signal; /* by the time of the answer */
    struct load_crowd idle, silent;
    char first_loss[256]; /* one line about the first loss: kind, time after the signal, connection
                             and request; empty if none */
};

/* Run one load and fill *ret_result.
 * Owner:  borrowed for the call.     Thread: any, one run a thread.
 * Blocks: for the whole run.
 * Side effect: raises the soft limit on open files if necessary.
 * Errors: 0; -EINVAL an option is out of range or the address is not loopback; -EMFILE the limit on
 *         open files is too low for `connections`; another negative errno. */
int load_run(const struct load_options *options, struct load_result *ret_result);

/* Write *result for people, or as one line of JSON: fields by their names, counts as numbers, times
 * that do not exist as null. `wall_ns` is how long load_run() took.
 * Thread: any.     Blocks: as `file` does. */
void load_report_print(const struct load_result *result, uint64_t wall_ns, bool json, FILE *file);

/* Write `timeline` as JSON lines: one for each slot with events, times relative to the run's start,
 *     {"t_ms":250,"sent":1,"answered":0,"lost":0,"refused":0}
 * (`refused`: connects, handshakes, streams and pipelined requests)
 * and between them the marks of *result: {"t_ms":251.042,"mark":"signal"}, also `first_refused` and
 * `gone`. Events after the last slot add a line {"beyond":1}.
 * Owner:  borrowed.     Thread: any.     Blocks: as `file` does.
 * Errors: 0; -EIO. */
int load_timeline_write(const struct load_timeline *timeline, const struct load_result *result,
                        FILE *file);

/* Write `latencies` as JSON lines: the run's start on CLOCK_MONOTONIC, then one for each window
 * with answers: pairs of microseconds (exact to 3 %) and a count:
 *     {"start_ns":123456789}
 *     {"t_ms":200,"us":[[131,5],[135,2]]}
 * Owner:  borrowed.     Thread: any.     Blocks: as `file` does.     Errors: 0; -EIO. */
int load_latencies_write(const struct load_latencies *latencies, const struct load_result *result,
                         FILE *file);

#endif

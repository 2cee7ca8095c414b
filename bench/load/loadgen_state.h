#ifndef LASTCALL_LOADGEN_STATE_H
#define LASTCALL_LOADGEN_STATE_H

/* The state of a run, shared by the files of the load client:
 *
 *     loadgen.c                    the epoll loop, the timers, the end of the run
 *     loadgen_conn.c               one slot: connect, read, write, retire
 *     loadgen_crowd.c              connections that idle or stay silent beside the load
 *     loadgen_open.c               open loop: arrivals, the queue, the free connections
 *     loadgen_options.c            checks options, resolves the address, raises the file limit
 *     loadgen_timer.c              a heap of slots by due time
 *     loadgen_watch.c              has the server's process exited?
 *     wire/loadgen_h1.c, _h2.c     the protocols (struct load_wire)
 *     wire/loadgen_answer.c        an incremental parser of HTTP/1 responses
 *     wire/loadgen_tls.c           send() and recv() over TLS
 *     wire/loadgen_pace.c          slow readers and slow senders
 *     results/loadgen_count.c      the outcome of each request, the first loss
 *     results/loadgen_latency.c    histograms
 *     results/loadgen_timeline.c   the outcomes in slots of 10 ms
 *     results/loadgen_report.c     the report for people and for tools
 *
 * A slot is one client: it has at most one connection at a time. A connection has `width` permits:
 * 1, or the number of pipelined requests or HTTP/2 streams. A permit is in use by one load_request,
 * or it rests in the connection's ring until its due time. All pauses are equal, so the ring is
 * sorted by time. In an open loop the first `assigned` resting permits have a request that is due;
 * the others are free. One thread, the one in load_run(), owns everything. */

#include "loadgen.h"

#include <sys/socket.h>

/* How a request, or its connection, ended without an answer. */
enum load_end {
    LOAD_END_EOF,
    LOAD_END_RESET,
    LOAD_END_BROKEN,    /* the answer is not HTTP */
    LOAD_END_PIPELINED, /* HTTP/1: an earlier answer announced the close */
    LOAD_END_REFUSED,   /* HTTP/2: the server did not process the stream */
    LOAD_END_PATIENCE,  /* the run is over */
};

struct load_request {
    uint64_t begun_ns; /* open loop: when it was due */
    uint64_t ordinal;  /* on its connection, from 1 */
    uint64_t number;   /* in the run */
    size_t body_seen;  /* bytes of the answer's body */
    int status;        /* 0: not yet known */
    bool whole;        /* the kernel has taken its last byte */
    bool answer_begun; /* at least one byte of the answer has arrived */
    bool body_wrong;
};

enum load_role { LOAD_ROLE_CLIENT, LOAD_ROLE_IDLE, LOAD_ROLE_SILENT };

/* A connection of the crowd. OPENING ends with the answer (idle) or the connect (silent). */
enum load_crowd_phase { CROWD_WAITING, CROWD_OPENING, CROWD_OPEN, CROWD_OVER };

enum load_conn_phase {
    CONN_CLOSED,
    CONN_CONNECTING,
    CONN_SHAKING, /* TLS handshake */
    CONN_OPEN,
    CONN_RETIRED,
};

struct load_conn {
    /* immutable after create */
    struct load *load;
    void *wire_state; /* of the wire's create() */
    unsigned number;  /* from 1 */
    unsigned width;
    enum load_role role;

    enum load_crowd_phase crowd; /* if not a client */

    /* the connection */
    enum load_conn_phase phase;
    int fd;
    struct ssl_st *ssl;             /* NULL: no TLS */
    struct ssl_session_st *session; /* of the previous connection; NULL: none */
    uint32_t interest;              /* the events that epoll reports */
    bool wants_write;
    bool write_failed;
    bool read_paused; /* slow reader: read nothing before read_due_ns */
    bool send_waits;  /* slow sender: the wire has more to send at send_due_ns */
    uint64_t read_due_ns;
    uint64_t send_due_ns;
    bool closing;            /* set by the wire: no new requests, close after the open ones */
    bool blocked;            /* the wire takes no more requests until the next event */
    uint64_t requests;       /* begun on this connection */
    uint64_t incarnation;    /* connections that this slot has established */
    unsigned refused_in_row; /* after the signal */

    /* permits */
    unsigned open_requests;
    unsigned resting;
    unsigned rest_head;
    unsigned assigned;     /* open loop: of the resting permits */
    bool in_free;          /* open loop: in the ring of slots with free permits */
    uint64_t *rest_due_ns; /* ring of `width` */
    uint64_t retry_ns;     /* no connect before this */

    /* timer heap */
    uint64_t due_ns;
    size_t heap_index; /* from 1; 0: not in the heap */
};

/* A protocol on a connection. No function here closes the connection: a wire sets c->closing, or
 * load_conn_write() fails, and loadgen_conn.c does the rest. */
struct load_wire {
    int (*prepare)(struct load *l);     /* once a run: set l->request; 0 or -errno */
    void (*forget)(struct load *l);     /* free l->request, complete or not */
    int (*create)(struct load_conn *c); /* once a slot, before the first connect; 0 or -errno */
    void (*destroy)(struct load_conn *c);
    int (*open)(struct load_conn *c);   /* connected; 0 or -errno, which ends the run */
    bool (*begin)(struct load_conn *c); /* begin one request; false: not now */
    void (*input)(struct load_conn *c, const uint8_t *data, size_t len);
    void (*flush)(struct load_conn *c);                  /* write pending output */
    void (*end)(struct load_conn *c, enum load_end how); /* end every open request */
};

/* What a connection of the crowd calls when it makes progress (loadgen_crowd.c). */
struct load_crowd_hooks {
    void (*opened)(struct load_conn *c); /* connected (silent) or answered (idle) */
    void (*settle)(struct load_conn *c); /* after each event */
};

struct load_histogram {
    uint64_t buckets[LOAD_LATENCY_BUCKETS];
    uint64_t count;
    uint64_t max_us;
};

struct load_ring_ns {
    uint64_t *items;
    size_t head, len;
};

struct load_ring_conn {
    struct load_conn **items;
    size_t head, len;
};

struct load {
    /* immutable after create */
    const struct load_options *options;
    const struct load_wire *wire;
    const struct load_crowd_hooks *crowd;
    const char *method;
    const char *path;
    char authority[128]; /* for Host and :authority */
    void *request;       /* of the wire's prepare(): the parts that all requests share */
    size_t expect_len;
    bool is_head;
    struct sockaddr_storage address;
    socklen_t address_len;

    struct load_conn *conns; /* clients, then idle ones, then silent ones */
    unsigned conns_len;
    uint64_t *rings;
    struct load_conn **heap; /* from 1 */
    size_t heap_len;
    int epoll_fd;
    int server_pidfd;       /* -1: none */
    struct ssl_ctx_st *tls; /* NULL: no TLS */
    bool blocked_sigpipe;

    /* the run */
    uint64_t now_ns; /* set after each wait and each read */
    uint64_t start_ns;
    uint64_t signal_due_ns; /* UINT64_MAX: none, or done */
    uint64_t stop_ns;       /* no new request after this */
    uint64_t deadline_ns;
    uint64_t check_ns;
    uint64_t begun;       /* requests */
    uint64_t outstanding; /* requests */
    unsigned retired;     /* slots */
    bool stopped;         /* no new request begins: duration, max_requests, or the server's exit */
    bool swept;           /* every slot has seen `stopped` */
    bool gone;            /* the server has exited */
    int error;            /* -errno that ends the run */

    /* the crowd */
    unsigned crowd_next;    /* index of the next connection to open */
    unsigned crowd_opening; /* connections between connect and opened */

    /* open loop */
    uint64_t arrived;
    uint64_t unbegun;           /* arrived, and queued or assigned */
    struct load_ring_ns queue;  /* their due times */
    struct load_ring_conn free; /* slots with free permits */

    struct load_result *result;
    struct load_histogram latency, latency_before_signal, latency_after_signal;
    uint8_t input[65536];
};

#endif

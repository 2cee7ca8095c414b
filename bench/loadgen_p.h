#ifndef LASTCALL_LOADGEN_P_H
#define LASTCALL_LOADGEN_P_H

/* What the files of the load client share; nobody else includes this.
 *
 *     loadgen.c          the run: the epoll loop, timers, when it is over
 *     loadgen_conn.c     one slot: connect, read, write, retire; it calls a wire
 *     loadgen_options.c  checks the options, reads the address, raises the limit on open files
 *     loadgen_h1.c       a wire: HTTP/1 on a connection; it calls load_conn_*, load_request_*
 *     loadgen_answer.c   an incremental reader of HTTP/1 responses
 *     loadgen_h2.c       a wire: the same for HTTP/2
 *     loadgen_count.c    the outcome of each request, the first loss
 *     loadgen_latency.c  histograms
 *     loadgen_timeline.c the outcomes by 10 ms, as JSON lines
 *     loadgen_report.c   the result for people and for tools
 *     loadgen_timer.c    a heap of slots by due time
 *     loadgen_tls.c      send() and recv() over TLS
 *     loadgen_open.c     open loop: arrivals, the queue, the free connections
 *     loadgen_pace.c     slow readers and slow senders
 *     loadgen_crowd.c    connections that idle or say nothing, beside the load
 *     loadgen_watch.c    has the server's process ended?
 *
 * A connection holds `width` permits (1, or the streams of HTTP/2). A permit is either at work, as
 * one load_request, or it rests until its due time in the ring of its connection. All pauses are
 * equal, so the ring is in order of time. In an open loop the first `assigned` of the resting
 * permits have a request that is due, the others are free. Everything belongs to the one thread in
 * load_run(). */

#include "loadgen.h"

#include <sys/socket.h>

#define LOAD_NS_PER_MS UINT64_C(1000000)

/* How a request, or the connection under it, came to an end without an answer. */
enum load_end {
    LOAD_END_EOF,
    LOAD_END_RESET,
    LOAD_END_BROKEN,    /* what came is not HTTP */
    LOAD_END_PIPELINED, /* HTTP/1: an answer before it announced the close */
    LOAD_END_REFUSED,   /* HTTP/2 said that it did not process this stream */
    LOAD_END_PATIENCE,  /* the run is over */
};

struct load_request {
    uint64_t begun_ns; /* open loop: when it was to begin */
    uint64_t ordinal;  /* on its connection, from 1 */
    uint64_t number;   /* in the run */
    size_t body_seen;  /* bytes of the answer's body */
    int status;        /* 0: not yet known */
    bool whole;        /* the last byte of the request was handed to the kernel */
    bool answer_begun; /* at least one byte of the answer has come */
    bool body_wrong;
};

enum load_role { LOAD_ROLE_CLIENT, LOAD_ROLE_IDLE, LOAD_ROLE_SILENT };

/* A connection of the crowd. OPENING ends with the answer (idle) or the connect (silent). */
enum load_crowd_phase { CROWD_WAITING, CROWD_OPENING, CROWD_OPEN, CROWD_OVER };

enum load_conn_phase {
    CONN_CLOSED,
    CONN_CONNECTING,
    CONN_SHAKING, /* TLS */
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
    struct ssl_session_st *session; /* of the connection before; NULL: none */
    uint32_t interest;              /* what epoll reports of it */
    bool wants_write;
    bool write_failed;
    bool read_paused; /* slow reader: nothing is read before read_due_ns */
    bool send_waits;  /* slow sender: the wire has more, for send_due_ns */
    uint64_t read_due_ns;
    uint64_t send_due_ns;
    bool closing;         /* no new requests; close when the open ones are done (set by the wire) */
    bool blocked;         /* the wire took no more requests; look again after the next event */
    uint64_t requests;    /* begun on this connection */
    uint64_t incarnation; /* connections established by this slot */
    unsigned refused_in_row; /* since the signal */

    /* permits */
    unsigned open_requests;
    unsigned resting;
    unsigned rest_head;
    unsigned assigned;     /* open loop: of the resting */
    bool in_free;          /* open loop: in the ring of slots with free permits */
    uint64_t *rest_due_ns; /* ring of `width` */
    uint64_t retry_ns;     /* no connect before this */

    /* timer heap */
    uint64_t due_ns;
    size_t heap_index; /* from 1; 0: not in the heap */
};

/* How a protocol uses a connection. None of these closes the connection: a wire sets c->closing or
 * lets load_conn_write() fail, and the loop does the rest. */
struct load_wire {
    int (*prepare)(struct load *l);     /* once a run: fill l->request */
    void (*forget)(struct load *l);     /* frees it, however much of it there is */
    int (*create)(struct load_conn *c); /* once a slot, before the first connect; 0 or -errno */
    void (*destroy)(struct load_conn *c);
    int (*open)(struct load_conn *c);   /* connected; 0 or -errno, which ends the run */
    bool (*begin)(struct load_conn *c); /* one more request; false: not now */
    void (*input)(struct load_conn *c, const uint8_t *data, size_t len);
    void (*flush)(struct load_conn *c);                  /* write what waits to be written */
    void (*end)(struct load_conn *c, enum load_end how); /* end every open request */
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
    const char *method;
    const char *path;
    char authority[128]; /* for Host and :authority */
    void *request;       /* of the wire's prepare(): what is the same in every request */
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
    uint64_t now_ns; /* renewed after each wait and each read */
    uint64_t start_ns;
    uint64_t signal_due_ns; /* UINT64_MAX: none, or done */
    uint64_t stop_ns;       /* no new request from then on */
    uint64_t deadline_ns;
    uint64_t gone_check_ns;
    uint64_t begun;       /* requests */
    uint64_t outstanding; /* requests */
    unsigned retired;     /* connections */
    bool stopped;
    bool swept; /* every connection has heard of `stopped` */
    bool gone;
    int error; /* -errno that ends the run */

    /* the crowd */
    unsigned crowd_next;    /* index of the next to connect */
    unsigned crowd_opening; /* how many are between connect and opened */

    /* open loop */
    uint64_t arrived;
    uint64_t unbegun;           /* arrived, in the queue or assigned */
    struct load_ring_ns queue;  /* when they were to begin */
    struct load_ring_conn free; /* slots with free permits */

    struct load_result *result;
    struct load_histogram latency, latency_before_signal, latency_after_signal;
    uint8_t input[65536];
};

extern const struct load_wire load_wire_h1;
extern const struct load_wire load_wire_h2;

/* loadgen.c */

uint64_t load_clock_ns(void);

/* May one more request begin? No after the duration, max_requests, or the server's exit. */
bool load_may_begin(const struct load *l);

/* 16 hex digits, and no NUL behind them. */
#define LOAD_NUMBER_DIGITS 16
void load_write_number(uint64_t number, char *digits);

/* loadgen_timer.c */

/* Have load_conn_settle() called at `due_ns`; setting again replaces it. */
void load_timer_set(struct load_conn *c, uint64_t due_ns);
void load_timer_clear(struct load_conn *c);

/* loadgen_conn.c, for the run */

/* The timer: what a slow reader over TLS holds back is not reported by epoll. */
void load_conn_due(struct load_conn *c);

/* Do what is due on this slot now. */
void load_conn_settle(struct load_conn *c);

void load_conn_event(struct load_conn *c, uint32_t events);

/* What is open now has been waited for long enough. */
void load_conn_wind_up(struct load_conn *c);

/* loadgen_conn.c, for the crowd */

void load_conn_connect(struct load_conn *c);

/* Whatever the phase: end its requests, close. */
void load_conn_drop(struct load_conn *c, enum load_end how);

/* loadgen_conn.c, for the wires */

/* Write as much as the kernel takes; how much that was. After an error nothing is taken any more,
 * and the loop reads what the server had sent before, then ends the connection. */
size_t load_conn_write(struct load_conn *c, const void *data, size_t len);

/* Have wire->flush() called when the kernel takes more. */
void load_conn_want_write(struct load_conn *c, bool want);

/* loadgen_options.c */

/* Fill the first group of fields, and raise the limit on open files. 0 or -errno. */
int load_options_apply(struct load *l, const struct load_options *options);

/* loadgen_crowd.c */

/* Connect the next ones, not too many at once. */
void load_crowd_gather(struct load *l);
bool load_crowd_is_gathered(const struct load *l);

/* Do what is due on this slot now. */
void load_crowd_settle(struct load_conn *c);

void load_crowd_opened(struct load_conn *c);
void load_crowd_over(struct load_conn *c); /* its connection is closed */

/* Is it closed by now, or still open? */
void load_crowd_wind_up(struct load_conn *c);

/* loadgen_pace.c */

/* How much may be read at once, up to `room`; 0: not yet. */
size_t load_pace_read_room(const struct load_conn *c, size_t room);
void load_pace_read(struct load_conn *c, size_t len);

/* How much of a body may be written at once, up to `room`; 0: not yet, and flush() will be called
 * when it is time. */
size_t load_pace_send_room(struct load_conn *c, size_t room);
void load_pace_sent(struct load_conn *c, size_t len);

/* loadgen_tls.c */

enum load_tls_step { LOAD_TLS_DONE, LOAD_TLS_READS, LOAD_TLS_WRITES, LOAD_TLS_FAILED };

int load_tls_create(struct load *l); /* without `tls` it does nothing */
void load_tls_destroy(struct load *l);
int load_tls_open(struct load_conn *c); /* a session on a connected socket */
enum load_tls_step load_tls_shake(struct load_conn *c);
ssize_t load_tls_send(struct load_conn *c, const void *data, size_t len); /* as send() */
ssize_t load_tls_recv(struct load_conn *c, void *data, size_t len);       /* as recv() */
bool load_tls_has_more(const struct load_conn *c); /* that epoll does not know of */
void load_tls_close(struct load_conn *c);

/* loadgen_open.c; without a rate these do nothing */

int load_open_create(struct load *l);
void load_open_destroy(struct load *l);

/* Take in what is due and give it to free permits. */
void load_open_take_arrivals(struct load *l);
void load_open_tick(struct load *l);
uint64_t load_open_due_ns(const struct load *l); /* UINT64_MAX: nothing will arrive */

/* A permit of `c` has become free. */
void load_open_permit_free(struct load_conn *c);

/* `count` requests were taken from those that had arrived. */
void load_open_settled(struct load *l, uint64_t count);

/* loadgen_watch.c */

int load_watch_open(struct load *l);
void load_watch_close(struct load *l);
bool load_watch_poll(const struct load *l); /* asks server_is_gone(), or /proc */
void load_watch_gone(struct load *l);       /* it was found gone */

/* loadgen_timeline.c */

/* Enter one event at `now_ns`. */
void load_timeline_count(struct load *l, enum load_kind kind);

/* loadgen_latency.c */

void load_histogram_add(struct load_histogram *h, uint64_t us);
/* Enter an answer at `now_ns` that took so long. */
void load_latencies_add(struct load *l, uint64_t us);
struct load_latency load_histogram_read(const struct load_histogram *h);

/* loadgen_count.c */

/* Each request goes through begin, perhaps sent and body, and one of answered or end. The wire sets
 * `answer_begun` and `status`. */
void load_request_begin(struct load_conn *c, struct load_request *r);
void load_request_sent(struct load_conn *c, struct load_request *r);
void load_request_body(struct load_conn *c, struct load_request *r, const uint8_t *data,
                       size_t len);
void load_request_answered(struct load_conn *c, struct load_request *r);
void load_request_end(struct load_conn *c, struct load_request *r, enum load_end how);

/* connect() was refused, or the handshake failed: in `counter` of the result. */
void load_count_refused(struct load_conn *c, uint64_t *counter);

/* Fill in the sums and percentiles of the result. */
void load_count_finish(struct load *l);

#endif

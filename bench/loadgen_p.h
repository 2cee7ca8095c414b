#ifndef LASTCALL_LOADGEN_P_H
#define LASTCALL_LOADGEN_P_H

/* What the files of the load client share; nobody else includes this.
 *
 *     loadgen.c          the run: the epoll loop, timers, when it is over
 *     loadgen_conn.c     one slot: connect, read, write, retire; it calls a wire
 *     loadgen_options.c  checks the options, reads the address, raises the limit on open files
 *     loadgen_h1.c       a wire: HTTP/1 on a connection; it calls load_conn_*, load_request_*
 *     loadgen_h2.c       a wire: the same for HTTP/2
 *     loadgen_count.c    the outcome of each request, latencies, the first loss
 *
 * A connection holds `width` permits (1, or the streams of HTTP/2). A permit is either at work, as
 * one load_request, or it rests until its due time in the ring of its connection. All pauses are
 * equal, so the ring is in order of time. Everything belongs to the one thread in load_run(). */

#include "loadgen.h"

#include <sys/socket.h>

#define LOAD_NS_PER_MS UINT64_C(1000000)
#define LOAD_HISTOGRAM_BUCKETS 2048

/* How a request, or the connection under it, came to an end without an answer. */
enum load_end {
    LOAD_END_EOF,
    LOAD_END_RESET,
    LOAD_END_BROKEN,   /* what came is not HTTP */
    LOAD_END_REFUSED,  /* HTTP/2 said that it did not process this stream */
    LOAD_END_PATIENCE, /* the run is over */
};

struct load_request {
    uint64_t begun_ns;
    uint64_t ordinal;  /* on its connection, from 1 */
    size_t body_seen;  /* bytes of the answer's body */
    int status;        /* 0: not yet known */
    bool whole;        /* the last byte of the request was handed to the kernel */
    bool answer_begun; /* at least one byte of the answer has come */
    bool body_wrong;
};

enum load_conn_phase { CONN_CLOSED, CONN_CONNECTING, CONN_OPEN, CONN_RETIRED };

struct load_conn {
    /* immutable after create */
    struct load *load;
    void *wire_state; /* of the wire's create() */
    unsigned number;  /* from 1 */
    unsigned width;

    /* the connection */
    enum load_conn_phase phase;
    int fd;
    bool wants_write;
    bool write_failed;
    bool closing;         /* no new requests; close when the open ones are done (set by the wire) */
    bool blocked;         /* the wire took no more requests; look again after the next event */
    uint64_t requests;    /* begun on this connection */
    uint64_t incarnation; /* connections established by this slot */
    unsigned refused_in_row; /* since the signal */

    /* permits */
    unsigned open_requests;
    unsigned resting;
    unsigned rest_head;
    uint64_t *rest_due_ns; /* ring of `width` */
    uint64_t retry_ns;     /* no connect before this */

    /* timer heap */
    uint64_t due_ns;
    size_t heap_index; /* from 1; 0: not in the heap */
};

/* How a protocol uses a connection. None of these closes the connection: a wire sets c->closing or
 * lets load_conn_write() fail, and the loop does the rest. */
struct load_wire {
    int (*prepare)(struct load *l);     /* once a run: fill l->request, freed by free() */
    int (*create)(struct load_conn *c); /* once a slot, before the first connect; 0 or -errno */
    void (*destroy)(struct load_conn *c);
    int (*open)(struct load_conn *c);   /* connected; 0 or -errno, which ends the run */
    bool (*begin)(struct load_conn *c); /* one more request; false: not now */
    void (*input)(struct load_conn *c, const uint8_t *data, size_t len);
    void (*flush)(struct load_conn *c);                  /* write what waits to be written */
    void (*end)(struct load_conn *c, enum load_end how); /* end every open request */
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

    struct load_conn *conns;
    uint64_t *rings;
    struct load_conn **heap; /* from 1 */
    size_t heap_len;
    int epoll_fd;

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

    struct load_result *result;
    uint64_t latency[LOAD_HISTOGRAM_BUCKETS];
    uint8_t input[65536];
};

extern const struct load_wire load_wire_h1;
extern const struct load_wire load_wire_h2;

/* loadgen.c */

uint64_t load_clock_ns(void);

/* May one more request begin? No after the duration, max_requests, or the server's exit. */
bool load_may_begin(const struct load *l);

/* Have load_conn_settle() called at `due_ns`; setting again replaces it. */
void load_timer_set(struct load_conn *c, uint64_t due_ns);
void load_timer_clear(struct load_conn *c);

/* loadgen_conn.c, for the run */

/* Do what is due on this slot now. */
void load_conn_settle(struct load_conn *c);

void load_conn_event(struct load_conn *c, uint32_t events);

/* What is open now has been waited for long enough. */
void load_conn_wind_up(struct load_conn *c);

/* loadgen_conn.c, for the wires */

/* Write as much as the kernel takes; how much that was. After an error nothing is taken any more,
 * and the loop reads what the server had sent before, then ends the connection. */
size_t load_conn_write(struct load_conn *c, const void *data, size_t len);

/* Have wire->flush() called when the kernel takes more. */
void load_conn_want_write(struct load_conn *c, bool want);

/* loadgen_options.c */

/* Fill the first group of fields, and raise the limit on open files. 0 or -errno. */
int load_options_apply(struct load *l, const struct load_options *options);

/* loadgen_count.c */

/* Each request goes through begin, perhaps body, and one of answered or end. The wire sets `whole`,
 * `answer_begun` and `status`. */
void load_request_begin(struct load_conn *c, struct load_request *r);
void load_request_body(struct load_conn *c, struct load_request *r, const uint8_t *data,
                       size_t len);
void load_request_answered(struct load_conn *c, struct load_request *r);
void load_request_end(struct load_conn *c, struct load_request *r, enum load_end how);

/* Fill in the sums and percentiles of the result. */
void load_count_finish(struct load *l);

#endif

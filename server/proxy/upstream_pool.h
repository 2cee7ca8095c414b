#ifndef LASTCALL_UPSTREAM_POOL_H
#define LASTCALL_UPSTREAM_POOL_H

/* An upstream as one loop sees it: the connections to it that are kept, how often a request may be
 * sent again, and what was said in the log about its failures.
 *
 * A connection's socket is polled for reading as long as it lives: a kept one costs no epoll_ctl(2)
 * when it is used again, and its end is seen at once. Of a plain socket we read ourselves
 * (h2o_socket_dont_read()), so that no more is read than there is room for.
 *
 * Thread: owner loop only, for all of these.     Blocks: never. */

#include <stdbool.h>
#include <stdint.h>

#include "h2o_api.h"
#include "loop_metrics.h"
#include "proxy_loop.h"
#include "proxy_target.h"

struct fcgi_settings;
struct upstream;

/* What the configuration says about a route (`proxy.*`, `fastcgi.*`); constant after start. */
struct proxy_settings {
    uint64_t connect_ms;    /* look-up, connect and TLS handshake */
    uint64_t first_byte_ms; /* from the end of the request to the head of the answer */
    uint64_t io_ms;         /* without progress of the request or of the answer's body */
    uint64_t keepalive_ms;  /* 0: no connection is kept */
    uint64_t websocket_ms;  /* a tunnel without traffic; 0: no tunnels */
    size_t buffer_bytes;    /* of an answer that the client has not taken yet */
    bool preserve_host;
    bool sends_proxy_line;
    bool sends_forwarded; /* RFC 7239 */
    h2o_headers_command_t *headers_cmds;
    SSL_CTX *ssl_ctx;
    const struct fcgi_settings *fcgi; /* NULL: the upstream speaks HTTP/1.1 */
};

/* Bytes or the end have come; `error`: of TLS, else NULL. */
typedef void upstream_on_readable(void *user, const char *error);

/* A connection to an upstream. */
struct upstream_conn {
    h2o_socket_t *sock; /* its data is this */
    struct upstream *upstream;
    void *user;                        /* whose request it carries; NULL: it is kept */
    upstream_on_readable *on_readable; /* the user's */
    h2o_linklist_t link;               /* upstream->kept */
    h2o_timeout_entry_t timer;         /* while it is kept */
    uint64_t requests;                 /* that it has carried to their end */
    bool is_plain;                     /* no TLS */
    bool is_tcp;
    bool is_stopped; /* not polled for reading, for want of room */
    bool was_closed; /* TLS: close_notify has come, and nothing can follow it */
};

/* What one loop counts of one upstream; as struct loop_metrics. */
struct upstream_counts {
    _Atomic uint64_t requests;
    _Atomic uint64_t active; /* requests that it has now */
    _Atomic uint64_t open;   /* connections that exist */
    _Atomic uint64_t idle;   /* those of them that are kept */
    _Atomic uint64_t failures[UPSTREAM_FAILURE_COUNT];
    _Atomic uint64_t connects[METRICS_BUCKETS]; /* how long they took */
    _Atomic uint64_t connects_ns;               /* the sum */
    _Atomic uint64_t heads[METRICS_BUCKETS];    /* from the request to the head of the answer */
    _Atomic uint64_t heads_ns;
};

/* Who gives an upstream its requests, and is told what becomes of them.
 * Thread: owner loop only.     Blocks: never. */
struct upstream_owner {
    /* A head has come for `req`; or `is_whole`, the end of the answer. */
    void (*answered)(struct upstream *upstream, h2o_req_t *req, bool is_whole);
    void (*failed)(struct upstream *upstream, h2o_req_t *req, enum upstream_failure failure);
    /* No connection came about for `req`, of which nothing was passed on; `was_sent_again`: a kept
     * connection had lost it before. False: the caller answers it. */
    bool (*go_on)(struct upstream *upstream, h2o_req_t *req, bool was_sent_again);
};

struct upstream {
    const struct upstream_owner *owner; /* NULL: nobody wants to know */
    bool is_lasting; /* it lives until its loop ends; else it belongs to a single request */
    struct upstream_counts counts;
    struct proxy_loop *proxy;
    const struct proxy_target *target;
    const struct proxy_settings *settings;
    h2o_linklist_t kept; /* struct upstream_conn, link; the last one used is the first */
    unsigned kept_count;
    socklen_t good_len; /* of `good`; 0: none was connected yet */
    struct sockaddr_storage good;
    struct {
        double tokens;
        uint64_t at_ms;
    } again; /* see upstream_may_send_again() */
    struct {
        uint64_t at_ms;
        uint64_t left_out;
    } said[UPSTREAM_FAILURE_COUNT];
};

/* Make one in the caller's memory. */
void upstream_init(struct upstream *upstream, struct proxy_loop *proxy,
                   const struct proxy_target *target, const struct proxy_settings *settings);
/* Close what is kept; the caller's memory stays. */
void upstream_close_kept(struct upstream *upstream);

/* A connection that is kept; NULL: there is none. `be_sure`: look at it first; the upstream may
 * have closed it in this moment. The caller becomes its user, and sets both fields. */
struct upstream_conn *upstream_take_kept(struct upstream *upstream, bool be_sure);
/* The same of a socket that was just connected. */
struct upstream_conn *upstream_take_new(struct upstream *upstream, h2o_socket_t *sock);
/* Its request is over: keep the connection. `be_sure`: look at it first; what has come after the
 * answer would be taken for the next one (RFC 9112 section 6.3). */
void upstream_keep(struct upstream_conn *conn, bool be_sure);
void upstream_conn_close(struct upstream_conn *conn);
/* Give up the connection, and return its socket, which no longer refers to it. */
h2o_socket_t *upstream_conn_steal(struct upstream_conn *conn);

/* Read at most `room` bytes. Returns how many; 0: the end; a negative errno; -EAGAIN: none yet. */
ssize_t upstream_conn_read(struct upstream_conn *conn, char *bytes, size_t room);
/* Stop and go on polling for reading. */
void upstream_conn_pause(struct upstream_conn *conn);
void upstream_conn_resume(struct upstream_conn *conn);

/* May a request that a kept connection has lost be sent once more? Takes one from the budget. */
bool upstream_may_send_again(struct upstream *upstream);

/* The same, for a request of which nothing was sent: it goes to another upstream. */
bool upstream_may_go_on(struct upstream *upstream);

/* ---- what is counted ---- */

/* It gets a request, and has it no more. */
void upstream_begin_request(struct upstream *upstream);
void upstream_end_request(struct upstream *upstream);
/* A tunnel counts as a request that it has. */
void upstream_begin_tunnel(struct upstream *upstream);
void upstream_end_tunnel(struct upstream *upstream);
/* A connection came about `ms` after it was begun. */
void upstream_note_connect(struct upstream *upstream, uint64_t ms);
/* The head of an answer came `ms` after the request was sent. */
void upstream_note_head(struct upstream *upstream, h2o_req_t *req, uint64_t ms);
/* The end of an answer came. */
void upstream_note_whole(struct upstream *upstream, h2o_req_t *req);
void upstream_note_failure(struct upstream *upstream, h2o_req_t *req,
                           enum upstream_failure failure);

/* Log a failure, at most once a second for each kind. `age_ms`: how long its phase took. */
void upstream_log(struct upstream *upstream, enum upstream_failure failure, const char *what,
                  uint64_t age_ms, const h2o_req_t *req);
/* The phase in which it fails, for people. */
const char *upstream_phase(enum upstream_failure failure);
/* The failure in a word, as metrics and access logs have it. */
const char *upstream_label(enum upstream_failure failure);
/* For %{proxy.error}x of an access log: why it is not answered by an upstream, or not to the end.
 * `label` is a constant. */
void upstream_set_error(h2o_req_t *req, const char *label);

#endif

#ifndef LASTCALL_CONN_H
#define LASTCALL_CONN_H

/* One accepted connection. It is found from its socket through on_close.data.
 *
 * The fields stand in groups, each named after the file that writes it. All belong to the owner
 * loop. */

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "h2o_api.h"
#include "loop.h"
#include "strict_chunks.h"

struct job;
struct pool_share;

/* The function that the library calls for each frame: `len` bytes from `src` on are there. Returns
 * how many of them it has used, or an error of HTTP/2, which is negative. */
typedef ssize_t h2_expect_cb(h2o_http2_conn_t *h2, const uint8_t *src, size_t len,
                             const char **err_desc);

#define H2_EARLY_MAX 4

enum h2_stage { H2_STAGE_OPEN, H2_STAGE_ANNOUNCED, H2_STAGE_LAST };

/* What arrives on a connection and is not a whole request yet; see bodies.c. */
struct conn_bodies {
    h2o_linklist_t link; /* loop->bodies.arriving; not linked: it is small */
    uint64_t bytes;      /* in steps */
    uint64_t grew_ns;    /* the last time it did */
    bool over;           /* the library has closed the connection */
};

/* So much had been moved when the window began; see progress.c. */
struct progress_watch {
    uint64_t since_ns; /* 0: nothing is waited for */
    uint64_t from;
};

/* What the slow look keeps of a connection; see progress.c. */
struct progress {
    struct progress_watch body;   /* a request's body that arrives */
    struct progress_watch answer; /* bytes that the client has to take */
    bool answer_is_data;          /* those of HTTP/2's DATA alone */
    bool over;                    /* it was cut; the library has yet to notice */
    h2o_timeout_cb on_timeout;    /* the library's, of the wait for a request */
    /* HTTP/2 */
    uint64_t sent;     /* DATA of answers that have ended */
    uint64_t received; /* bodies that are whole */
    uint64_t taken;    /* DATA that the client's kernel has, as of the two below */
    uint64_t acked_then, sent_then;
    uint64_t preface_since_ns; /* when a look first found it missing; 0: never */
    uint64_t head_since_ns;    /* of the header block or the frame that arrives; 0: none */
    uint32_t head_stream;
    size_t head_bytes;
    char head[H2O_HTTP2_FRAME_HEADER_SIZE];
    uint64_t quiet_since_ns; /* no stream was open; 0: one is */
    uint32_t quiet_stream;   /* the newest stream then */
    uint64_t announced_ns;   /* the first GOAWAY for that reason */
};

/* The other end of the connection, as text. */
struct conn_peer {
    char host[46]; /* INET6_ADDRSTRLEN; "": not looked for yet */
    uint16_t port;
};

struct conn {
    /* conn.c; immutable, but for `sock` and the TLS handshake */
    h2o_linklist_t link; /* loop->conns */
    struct loop *loop;
    h2o_socket_t *sock;              /* NULL once it is closed */
    const struct listener *listener; /* that it came in by */
    bool is_tcp;
    bool is_tls;
    bool expects_proxy_line;
    bool handshake_begun;
    SSL *ssl;       /* the socket's, once the handshake is done; not to be used without `sock` */
    uint32_t share; /* its instant in a spread, in 2^32nds of that */
    uint64_t silent_until_ns; /* a drain keeps it until then: what its client has sent was dropped,
                               * and comes again; 0: nothing was */

    /* gate.c, request.c */
    uint32_t active;        /* requests between gate and end */
    uint64_t idle_since_ns; /* HTTP/1: accepted, or the last response ended */
    bool is_tunnel;         /* upgraded to a protocol that is not ours */
    struct leaver *tunnel;  /* proxy/tunnel/tunnel.c; NULL: none, or one of libh2o's */
    bool asked_to_close;    /* the client did, not we */

    /* how it ends */
    bool idle_released;  /* idle_close_*.c, make_room.c */
    bool gave_way;       /* make_room.c: to newcomers, at the limit; idle_released too */
    bool handed_over;    /* hand_off.c: to the successor; this process only forgets it */
    bool given_up;       /* unfinished.c: it will not be answered, and nothing here is counted */
    bool reset_when_cut; /* an end of file would make half an answer look whole */

    struct {
        bool is_spared; /* as of this look: something here is still waited for */
        bool is_due;    /* as of this look: something here is not */
    } deadline;         /* deadline_cut.c */
    struct {
        bool is_receiving; /* the request that arrives is on the list */
        bool is_h2;
    } listed; /* list.c: as of a list of unread requests */
    struct {
        int fd; /* dup(2) of the socket, -1: close without lingering; conn.c makes it */
        h2o_socket_t *sock;
        struct fine_timer soon;    /* the next look, at first */
        h2o_timeout_entry_t timer; /* the next look, later; tls_close.c has it before linger.c */
        uint64_t began_ns;
        uint64_t quiet_ns;    /* this long without input, and nothing unsent: it ends */
        uint64_t input_ns;    /* the last input */
        uint64_t progress_ns; /* the last progress of the output */
        int unsent;
    } linger; /* linger.c, tls_close.c */
    struct {
        bool has_received; /* all of the last response is acknowledged */
        int unacked;       /* else: how much was not, as of the last look */
    } h1;                  /* idle_close_h1.c */
    struct {
        enum h2_stage stage;  /* goaway.c */
        bool receiving;       /* a request is still arriving, as of this look */
        uint64_t last_due_ns; /* the last GOAWAY, not before: a round trip after the first one was
                               * written; 0: it was not */
    } h2;                     /* idle_close_h2.c */
    struct {
        bool defers;      /* bytes that are read stay in the kernel until they are on record */
        h2o_socket_cb cb; /* the library's callback, which ours calls */
    } deferred_read;      /* deferred_read.c */
    struct {
        bool wanted;
        uint32_t resets;
        uint32_t answers; /* gate.c */
        h2o_timeout_entry_t timer;
        uint64_t since_ns;
    } calm;                           /* calm.c */
    struct progress progress;         /* progress*.c */
    struct conn_bodies bodies;        /* bodies.c */
    struct job *watched;              /* job.c: HTTP/1, the request being served; the socket reports
                                       * a hang-up */
    struct conn_peer peer;            /* exchange_copy.c */
    struct pool_share *share_of_pool; /* job.c: HTTP/2; NULL: it has had no job yet */

    /* mends/requests/strict_requests.c */
    uint8_t refusal;             /* 0: its request is not refused; else enum h1_refusal, plus 1 */
    bool is_last_request;        /* the answer to this one ends the connection */
    bool has_chunked_body;       /* and it is arriving */
    struct strict_chunks chunks; /* how far that body is */
    /* mends/h2/h2_frames.c: the library's function for the next frame, and the one between requests
     */
    bool h2_begins; /* the library makes this connection one of HTTP/2 */
    h2_expect_cb *h2_expect;
    h2_expect_cb *h2_expect_any;
    struct {
        uint32_t stream_id;   /* 0: free */
        uint32_t bytes;       /* of its body since its answer ended */
    } h2_early[H2_EARLY_MAX]; /* mends/h2/h2_body.c; a new one replaces the oldest */
    unsigned h2_early_next;
};

/* All of these: Thread: owner loop only. */

/* The library speaks HTTP on `sock` from now on. */
void conn_open(struct loop_listener *from, h2o_socket_t *sock);
/* Lift the hop limit that a closing listener may have left on it, see hops.c. */
void conn_lift_hops(struct conn *conn);
/* Have the handshakes of this context noted in their connections.     Thread: before start. */
void conn_watch_handshakes(SSL_CTX *ctx, void *unused);
/* The connection of a request; NULL: its socket is closed. */
struct conn *conn_of(h2o_req_t *req);
/* The connection of a socket; NULL: it belongs to no client. */
struct conn *conn_of_socket(const h2o_socket_t *sock);
/* The response that starts now is the last one: keep the descriptor for linger.c. */
void conn_will_close(struct conn *conn);
/* Close the socket while others use it; its callbacks then clean up. */
void conn_cut(struct conn *conn);
/* Its last descriptor is closed: account for it, and free it. */
void conn_gone(struct conn *conn);
/* Read and discard what is there, within bounds. False: the peer has closed, or is gone. */
bool conn_discard_input(int fd, bool *ret_any);

#endif

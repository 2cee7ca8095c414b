#ifndef LASTCALL_FORWARD_P_H
#define LASTCALL_FORWARD_P_H

/* What the files of a forwarded request share.
 *
 *     forward.c          the beginning; the request is sent        CONNECTING, SENDING, WAITING
 *     forward_answer.c   the answer is read and passed on          ANSWERING
 *     forward_end.c      what happens if the upstream fails        OVER
 *     forward_events.c   an event stream, which a drain ends
 *     forward_note.c     reports about it, in the logs and the counts
 *     forward_http.c     HTTP/1.1: how requests and answers are written
 *     forward_fcgi.c     the same for FastCGI
 *
 *     CONNECTING -> SENDING -> WAITING -> ANSWERING -> OVER
 *         ^            |          |   the answer may begin before the request is sent
 *         +------------+----------+   a kept connection ended without a byte: once more
 *
 * The answer goes through one buffer:
 *
 *     bytes  0 ..... begin ======== begin + in_flight ------ end ..... room
 *                    the library sends these            these wait
 *
 * While bytes are in flight they must not move, so new ones come after `end`; when there is no
 * room, the upstream's socket is not polled, and its kernel makes it wait. The buffer begins small
 * and becomes one of `proxy.buffer` for an answer that fills it.
 *
 * Note on ends. With the last call of h2o_send() the request may be disposed of, and the forward
 * with it. So the state is settled before that call, and nothing is touched after it: functions
 * that return false say that this may have happened. */

#include "answer_reader.h"
#include "dial.h"
#include "event_stream.h"
#include "forward.h"
#include "leave.h"
#include "proxied_head.h"

enum forward_phase {
    FORWARD_CONNECTING,
    FORWARD_SENDING,
    FORWARD_WAITING,
    FORWARD_ANSWERING,
    FORWARD_OVER
};

struct forward;

/* How much of a body the socket gets at once: the time without progress begins again with each. It
 * is four records of FastCGI. */
#define FORWARD_PIECE ((size_t)4 * 65535)
/* A smaller request fits into the kernel's buffer. */
#define FORWARD_LARGE ((size_t)16 * 1024)
/* The most that frame() fills. */
#define FORWARD_BUFS_MAX 9

/* How a request and its answer are written: what depends on the upstream's protocol, and nothing of
 * sockets and time. Where an answer breaks a rule, a function returns -1 and sets forward->fault.
 */
struct forward_protocol {
    const char *name;       /* in access logs, %{error}x */
    bool follows_redirects; /* of an answer that the server was told to fetch */
    /* Nothing in an answer tells it from one that nobody asked for: a kept connection is looked at
     * before it is used. */
    bool looks_first;
    /* Set forward->head; prepare to read an answer. */
    void (*begin)(struct forward *forward);
    /* `size` bytes of the request's body, from the byte `from` on, as they are sent; also if there
     * are none. Fills `bufs`, at most FORWARD_BUFS_MAX; returns how many. */
    size_t (*frame)(struct forward *forward, size_t from, size_t size, h2o_iovec_t *bufs);
    /* `size` bytes have come. Returns how many of them are the head or the body, which now stand at
     * `bytes`. The next call for either reports a fault. */
    size_t (*unframe)(struct forward *forward, char *bytes, size_t size);
    /* The head in the first `size` bytes, which are all that has come: returns its size, interim or
     * final; 0: more is needed. */
    ssize_t (*read_head)(struct forward *forward, const char *bytes, size_t size,
                         struct answer_fields *ret_fields);
    /* The next `size` bytes of the body. Returns how many are passed on, which now stand at
     * `bytes`. Sets forward->is_whole. */
    ssize_t (*read_body)(struct forward *forward, char *bytes, size_t size);
    /* No more will come. Returns whether the body is whole. `in_order`: by an end of file. */
    bool (*read_end)(struct forward *forward, bool in_order);
    /* The answer is whole: may its connection carry another request? */
    bool (*may_keep)(const struct forward *forward);
};

extern const struct forward_protocol forward_http, forward_fcgi;

struct forward {
    h2o_generator_t super;
    h2o_req_t *req;
    const struct forward_protocol *protocol;
    struct upstream *upstream;
    struct dial *dial;          /* NULL: none under way */
    struct upstream_conn *conn; /* NULL: none */
    h2o_timeout_entry_t timer;  /* of the phase */
    uint64_t phase_ms;          /* when it began */
    uint64_t progress_ms;       /* when the timer was set, or saw that some of it was taken */
    enum forward_phase phase;
    /* the request */
    h2o_iovec_t head;
    size_t sent;             /* of the head and the body, given to the socket */
    int unsent;              /* that the kernel had at the last look; -1: it does not say */
    uint64_t written_before; /* what the connection had carried before */
    bool asks_for_upgrade;
    bool is_sent; /* and the kernel has taken all of it */
    bool has_write_failed;
    bool was_sent_again;
    bool watches_client; /* its socket is polled, see forward_watch_client() */
    bool is_at_upstream; /* it counts as one of the upstream's requests */
    /* the answer */
    struct answer_reader reader;   /* HTTP/1.1 */
    struct forward_fcgi *fcgi;     /* FastCGI: what reads and writes records */
    const char *fault;             /* why the protocol refuses it */
    enum upstream_failure failure; /* which kind of failure that is */
    bool is_whole;                 /* all of it has been read */
    const char *read_error;        /* of TLS */
    bool has_bytes;                /* any of it has come on this connection */
    bool has_begun;                /* and any of it was passed on */
    bool is_cut;
    bool is_small, was_full; /* the buffer; the last read filled it */
    char *buffer;
    size_t begin, in_flight, end, room;
    size_t turn_bytes;    /* read since the loop was last asked for events */
    struct leaver leaver; /* of an event stream */
    struct event_stream events;
    bool has_events;     /* and it can be ended between two of them */
    bool was_ended_here; /* by a drain */
};

/* ---- forward.c ---- */
void forward_set_phase(struct forward *forward, enum forward_phase phase);
/* Time begins to run for the phase, again. */
void forward_set_timer(struct forward *forward);
/* The timer goes on to its next look. */
void forward_link_timer(struct forward *forward);
/* How long the phase may be without progress. */
uint64_t forward_time_ms(const struct forward *forward);
/* Nothing more is wanted of the upstream: close, cancel, stop. */
void forward_let_go(struct forward *forward);
/* The upstream has the request no more. */
void forward_leave(struct forward *forward);
/* Connect, not with a kept connection if `fresh`, and send. */
void forward_connect(struct forward *forward, bool fresh);
/* An answer begins: the client's socket belongs to the library again. */
void forward_unwatch_client(struct forward *forward);

/* ---- forward_answer.c ---- */
/* Give up the buffer, which is not NULL. */
void forward_give_back(struct forward *forward);
/* Read what there is, and pass it on. */
void forward_read(struct forward *forward);
/* Pass on what waits, if nothing is in flight. The last thing that a caller does. */
void forward_pass_on(struct forward *forward);
void forward_proceed(h2o_generator_t *generator, h2o_req_t *req);
/* Its connection is readable; upstream_on_readable. */
void forward_on_readable(void *forward, const char *error);

/* ---- forward_events.c ---- */
/* The answer's head is there: is it an event stream? Then a drain may end it. */
void forward_note_events(struct forward *forward, const struct leaver_kind *kind);
/* `size` bytes of the body were read. Returns how many are to be passed on; *ret_is_last: the
 * answer ends with them. */
size_t forward_filter_events(struct forward *forward, const char *bytes, size_t size,
                             bool *ret_is_last);

/* ---- forward_note.c ---- */
/* A text about this request for the access log, %{error}x; it is copied. Too many are left out. */
void forward_note(struct forward *forward, h2o_iovec_t text);
/* The upstream failed: log it, and count it. */
void forward_note_failure(struct forward *forward, enum upstream_failure failure, const char *what);

/* ---- forward_end.c ---- */
/* The upstream failed. The last thing that a caller does. */
void forward_fail(struct forward *forward, enum upstream_failure failure, const char *what);
/* How much of the request the kernel has not got rid of; -1: it does not say. */
int forward_unsent(const struct forward *forward);
/* Is it looked at while it is sent? */
bool forward_is_large(const struct forward *forward);
/* The answer ends here, whole, although the upstream has not ended it. The last thing that a caller
 * does. */
void forward_end_here(struct forward *forward);
/* How a drain asks an event stream to end. */
extern const struct leaver_kind forward_leaver;
/* Its connection ended; `in_order`: not by a reset. The last thing that a caller does. */
void forward_ended(struct forward *forward, bool in_order);
void forward_on_timer(h2o_timeout_entry_t *timer);

#endif

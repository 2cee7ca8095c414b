#ifndef LASTCALL_EXCHANGE_H
#define LASTCALL_EXCHANGE_H

/* A request and its answer, as a handler sees them. Nothing of libh2o shows here, and a handler
 * touches no memory of a loop: the exchange holds copies, or what it was lent for its life.
 *
 * The same structure serves a real request (its calls are those of server/requests/exchange_*.c)
 * and one without a socket (lc_call(), unit tests of handlers): what differs stands in `ops`.
 *
 * Who holds the exchange: the thread that its handler was called on, until the handler returns;
 * after exchange_keep() nobody, until exchange_hold() gives it to a thread. Only the holder may use
 * it. */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct exchange;
struct pool_job;
struct server;

#define EXCHANGE_SCRATCH 256
#define EXCHANGE_ALLOC_MOST ((size_t)16 << 20) /* bytes that alloc() gives one exchange */

/* May block. It should look at the cancellation where it waits.     Thread: a worker. */
typedef void (*exchange_handler)(struct exchange *exchange, void *user);

/* Results: 0, or a negative errno of these. */
#define EXCHANGE_GONE (-EPIPE)         /* the client has left */
#define EXCHANGE_ABORTED (-ECANCELED)  /* the deadline or a second signal has cut the request */
#define EXCHANGE_TIMEOUT (-ETIMEDOUT)  /* its own limit has passed, or the client takes nothing */
#define EXCHANGE_AGAIN (-EAGAIN)       /* no room now, and it was not to wait */
#define EXCHANGE_DRAINING (-ESHUTDOWN) /* a drain has begun */

/* A header field. Texts end with '\0'; names of a request are in lower case. */
struct exchange_field {
    const char *name, *value;
};

/* The answer's fields are a list in the exchange's memory. */
struct exchange_answer_field {
    struct exchange_answer_field *next;
    const char *name, *value;
};

struct exchange_ops {
    /* Memory that goes with the exchange; NULL: none left. */
    void *(*alloc)(struct exchange *exchange, size_t bytes);
    /* Stream `count` bytes of the answer. Status and fields leave with the first of them. It waits
     * up to `wait_ms` (-1: without limit, 0: not at all) while the client has more than its buffer
     * to take. With 0 it writes all or nothing. 0; GONE, ABORTED, TIMEOUT, AGAIN; -EMSGSIZE: more
     * than the buffer holds, and it was not to wait; -EOVERFLOW: more than the length that was
     * announced, the answer is broken; -ENOMEM. */
    int (*write)(struct exchange *exchange, const void *bytes, size_t count, int64_t wait_ms);
    /* Wait until all that was written is in the kernel. Results as write. */
    int (*flush)(struct exchange *exchange, int64_t wait_ms);
    /* 0; GONE, ABORTED, TIMEOUT. */
    int (*cancelled)(struct exchange *exchange);
    /* Sleep. 0: the time is over; as cancelled; DRAINING if `also_drain`, and a drain has begun. */
    int (*wait)(struct exchange *exchange, int64_t ms, bool also_drain);
    /* Milliseconds until the request is cut, by its own limit or by a drain that has begun; -1: no
     * limit is set. */
    int64_t (*time_left)(struct exchange *exchange);
    /* A descriptor, readable once the request is cancelled; it ends with the exchange. Negative: an
     * errno. */
    int (*cancel_fd)(struct exchange *exchange);
    /* `cancel(arg)` is called once when the request is cancelled, on another thread, or at once if
     * it is already. NULL takes it back, and returns when no call of it runs any more. */
    int (*on_cancel)(struct exchange *exchange, void (*cancel)(void *arg), void *arg);
    /* The handler will return without an answer, which comes later. The token; 0: not possible. */
    uint64_t (*keep)(struct exchange *exchange);
};

struct exchange {
    const struct exchange_ops *ops;

    /* of the request; not to be changed */
    const char *method;
    const char *path;  /* as it was sent, with the query */
    const char *query; /* after the `?`, or "" */
    const char *authority;
    const char *peer; /* "192.0.2.1", "2001:db8::1", or "unix"; of user routes, else NULL */
    unsigned peer_port;
    unsigned version; /* 0x100, 0x101, 0x200 */
    bool is_https;
    /* For routes of user_route.h only; NULL for the others. Where the request has an authority or a
     * body, `host` and `content-length` are among them, however they were sent. */
    const struct exchange_field *fields;
    size_t field_count;
    const char *body; /* in one piece; a '\0' follows where it was copied */
    size_t body_bytes;

    /* of the answer: whole, unless ops->write() was called */
    int status;                                  /* 200 */
    const char *content_type;                    /* lives as long as the exchange; NULL: none */
    struct exchange_answer_field *answer_fields; /* in the order they are sent */
    int64_t length;                              /* announced; -1: as the body has, or chunked */
    char *text; /* malloc(3)ed, or `scratch`, or see free_text; NULL: no body */
    size_t text_bytes;
    char *scratch;                  /* EXCHANGE_SCRATCH bytes for a short text */
    void (*free_text)(void *owner); /* called once, on any thread, for `text`; NULL: free(text) */
    void *text_owner;
    int file_fd; /* the body is in this file, taken over; -1: it is not */
    uint64_t file_at, file_bytes;
    bool broken; /* a streamed answer is not whole: the client must see that */

    /* for the front that calls the handler, see library/ */
    void *front;

    struct pool_job *job; /* NULL: no real request */
};

/* ---- for handlers of this house; Thread: the holder ---- */

/* Sleep, or less if the exchange is cancelled. Returns false if it was less.     Blocks: yes. */
bool exchange_sleep(struct exchange *exchange, uint32_t ms);

/* printf the answer's body. */
void exchange_print(struct exchange *exchange, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- requests that are kept; see exchange_ops.keep ---- */

/* Become the holder. 0 and *ret_exchange; GONE: the token is not valid any more; -EBUSY: another
 * thread holds it, or its handler has not returned.     Thread: any.     Blocks: never. */
int exchange_hold(struct server *server, uint64_t token, struct exchange **ret_exchange);
/* Give it up: another thread may hold it then.     Thread: the holder. */
void exchange_let_go(struct exchange *exchange);
/* The answer is whole (or `broken`), and the exchange is gone.     Thread: the holder. */
void exchange_finish(struct exchange *exchange);
/* `told(token, what, arg)` is called on a loop's thread, and must not block: GONE, ABORTED, TIMEOUT
 * or DRAINING while nobody holds it; 0: there is room in the buffer again.     Thread: the holder.
 */
void exchange_on_kept(struct exchange *exchange, void (*told)(uint64_t token, int what, void *arg),
                      void *arg);

#endif

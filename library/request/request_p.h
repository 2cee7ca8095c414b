#ifndef LASTCALL_REQUEST_P_H
#define LASTCALL_REQUEST_P_H

/* What the files of this folder share: a request as the library knows it, around an exchange.
 *
 * handle note. A handle (lc_req *) is a number, not an address: each time a thread becomes the
 * holder of a request, the request gets a number that no other has had. A thread-local list has the
 * requests that a thread holds, and a handle is looked up there. So a handle that is stale, or of
 * another thread, is not in the list: it is reported, and nothing it might refer to is touched. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "exchange.h"
#include "lastcall/lastcall.h"
#include "lc_p.h"
#include "mux.h"
#include "trust.h"
#include "user_route.h"

/* A hundred years: no time is longer, so that none overflows in nanoseconds. */
#define LC_LONGEST_MS (INT64_C(100) * 366 * 24 * 3600 * 1000)

struct lc_route {
    struct user_route user_route; /* its `user` is this route */
    struct lc_route *next;
    struct lc_routes *routes;
    char *pattern; /* or the name */
    lc_handler handler;
    void *user;
    void (*free_user)(void *user);
    atomic_bool said_twice; /* that a handler of it answered twice is in the log */
};

struct lc_middleware {
    struct lc_middleware *next;
    char *prefix;
    lc_handler handler;
    void *user;
};

struct lc_own; /* own.c */

/* Written before start, except where it says otherwise. */
struct lc_routes {
    lc_server *server;
    struct mux *mux;
    bool has_patterns;
    struct lc_route *first, **end; /* with a pattern */
    void *named;                   /* tsearch(3) of struct lc_route, by their names */
    struct lc_middleware *middleware, **middleware_end;
    struct trust *trust;
    struct lc_own *own; /* guards itself */
};

enum lc_answered {
    LC_NOT_ANSWERED,
    LC_WHOLE, /* lc_send() or the like: it leaves when the handler returns */
    LC_STREAM /* its status and headers have left */
};

/* Values that were looked up, so that a second look-up returns the same text. */
struct lc_value {
    struct lc_value *next;
    enum lc_value_kind { LC_VALUE_QUERY, LC_VALUE_FORM, LC_VALUE_COOKIE, LC_VALUE_HEADER } kind;
    const char *name, *value;
};

struct lc_kept_callback;

/* A pair of a query or a form, decoded. */
struct lc_pair {
    const char *name, *value;
};
struct lc_pairs {
    size_t count;
    struct lc_pair pair[];
};

/* In the exchange's memory. Only the holder touches it. */
struct lc_request {
    struct lc_request *next; /* that the same thread holds */
    uintptr_t handle;
    struct exchange *exchange;
    struct lc_route *route;

    enum lc_answered answered;
    int failed;    /* the first failure of the answer */
    int page;      /* the status of the page if nothing answers: 404 for a file that is not there */
    bool kept;     /* lc_keep() */
    bool is_taken; /* held through lc_hold(), not by its handler */
    bool can_cancel; /* lc_on_cancel() has set a callback: */
    struct {
        void (*call)(void *arg);
        void *arg;
    } cancel;         /* written while none is set; read by the thread that calls it */
    bool was_called;  /* the handler, by the last lc_next() */
    uint64_t token;   /* of lc_keep() */
    uint64_t written; /* bytes of a streamed answer */
    size_t fields;    /* of the answer */
    const struct lc_middleware *middleware; /* that lc_next() looks at next */

    const char *clean; /* as mux_clean_path() returns it; NULL: not yet */
    size_t clean_bytes;
    const char *path; /* decoded */
    struct mux_match *match;
    const char *param[MUX_PARAMS];
    const char *client;
    struct lc_value *values;
    const struct lc_pairs *query_pairs, *form_pairs; /* NULL: nobody has asked for them */
    struct lc_put *puts;

    size_t body_at;      /* of lc_read() */
    const char *part_at; /* of lc_next_part(); NULL: not begun */
    const char *boundary;
    size_t boundary_bytes;
    unsigned parts;
    int part_result; /* 1: there may be more */
};

/* ---- held.c ---- */

/* This thread becomes the holder of `request`, which nobody holds; its handle. */
lc_req *lc_take(struct lc_request *request);
void lc_drop(struct lc_request *request);

/* The request of a handle. NULL: this thread does not hold it, which is in the log once for each
 * function. */
#define LC_HELD(handle)                                                                            \
    ({                                                                                             \
        static atomic_bool said_;                                                                  \
        lc_find(handle, &said_, __func__);                                                         \
    })
struct lc_request *lc_find(const lc_req *handle, atomic_bool *said, const char *function);

/* A result of exchange.h as one of lastcall.h. */
int lc_result_of(int result);

/* ---- run.c ---- */

/* user_route.handler */
void lc_run_route(struct exchange *exchange, void *route);
/* The handler has returned, or lc_finish() was called: see that there is an answer, and a whole
 * one. */
void lc_complete(struct lc_request *request);

/* ---- cancel.c ---- */

/* Take back what lc_on_cancel() has set.
 * Thread: the one that holds the request.     Blocks: until no call of it runs any more. */
void lc_forget_cancel(struct lc_request *request);

/* ---- fields.c ---- */

/* Keep `result` as the first failure of the answer; returns that. */
int lc_answer_failed(struct lc_request *request, int result);
bool lc_is_token(const char *text);
/* RFC 9110 section 5.5: no control character but the tab. */
bool lc_is_field_value(const char *text);
/* Replace or add a field that the caller has checked. 0; -ENOMEM, LC_E_FULL. */
int lc_put_field(struct lc_request *request, const char *name, const char *value, bool is_added);
/* The answer's field, or NULL. */
const char *lc_answer_field(const struct lc_request *request, const char *name);
void lc_remove_field(struct lc_request *request, const char *name);

/* ---- answer.c ---- */

/* Has no answer with this status a body? RFC 9110 sections 15.3.5, 15.3.6, 15.4.5. */
bool lc_is_without_content(int status);
/* May a whole answer begin? 0, or what lc_send() returns. `type` NULL: as it is. */
int lc_begin_answer(struct lc_request *request, int status, const char *type, bool has_content);
/* The usual page of a status: nothing was answered before. */
void lc_answer_page(struct lc_request *request, int status);
/* Forget the content of a whole answer: text, or file. */
void lc_drop_content(struct lc_request *request);

/* ---- request.c ---- */

/* Copy a text into the request's memory; NULL: none left. */
char *lc_copy(const struct lc_request *request, const char *text, size_t bytes);
/* A field of the request, joined; NULL: none. */
const char *lc_request_field(struct lc_request *request, const char *name);
/* The first one, not joined. */
const char *lc_first_field(const struct lc_request *request, const char *name);
bool lc_same_name(const char *a, const char *b);
/* Its path, for the mux. False: no memory. */
bool lc_clean(struct lc_request *request);

/* ---- values.c ---- */

/* Decode %XX, and + as a space if `plus`, into `to`, which has room for `bytes` + 1 and may be
 * `from`. %00 stays as it is. Returns the bytes. */
size_t lc_decode(const char *from, size_t bytes, char *to, bool plus);
/* The next pair of application/x-www-form-urlencoded text, not decoded: its name and its value are
 * [0] and [1]. Empty pieces are left out. *at goes on to the one after it. False: there is none. */
struct lc_piece {
    const char *at;
    size_t bytes;
};
bool lc_next_pair(const char **at, const char *end, struct lc_piece ret[2]);
/* The first pair NAME=VALUE of application/x-www-form-urlencoded text. False: there is none. */
bool lc_find_pair(const char *text, size_t bytes, const char *name, const char **ret_value,
                  size_t *ret_bytes);
/* The value of a cookie in a field Cookie (RFC 6265 section 5.4), without quotes around it. */
bool lc_find_cookie(const char *text, const char *name, const char **ret_value, size_t *ret_bytes);

/* ---- request.c, for pairs.c ---- */

/* Has it a body of application/x-www-form-urlencoded? */
bool lc_has_form(const struct lc_request *request);

/* ---- forwarded.c ---- */

#define LC_HOPS 64      /* so many are read, from the right */
#define LC_NODE_SIZE 64 /* longer than any address */

/* The `for=` of the elements of a field Forwarded (RFC 7239), the last one first: an address alone,
 * without port and brackets; "": not said, or none, such as "unknown". Returns how many there are;
 * 0: none, or the field is not well-formed. */
size_t lc_read_forwarded(const char *field, char node[LC_HOPS][LC_NODE_SIZE]);

/* ---- client.c ---- */

/* The client, by the connection's peer and the joined fields X-Forwarded-For and Forwarded, which
 * may be NULL. `text` has the answer, at most 63 bytes. */
void lc_find_client(const struct trust *trust, const char *peer, const char *x_forwarded_for,
                    const char *forwarded, char text[64]);

/* ---- own.c ---- */

int lc_own_create(struct lc_routes *routes, void *(*begin)(unsigned worker, void *user),
                  void (*end)(void *own, void *user), void *user);
/* This thread's, made now if `make`; NULL: there is none, or it could not be made. */
void *lc_own_of_thread(struct lc_own *own, bool make);
/* Make one and end it: can they be made? 0; -EIO. */
int lc_own_try(struct lc_own *own);
void lc_own_destroy(struct lc_own *own);

#endif

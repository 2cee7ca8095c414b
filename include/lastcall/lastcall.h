/* lastcall.h - an HTTP server whose handlers may block, and whose shutdown loses no request.
 *
 * C11 or later, and C++11 or later. Linux only.
 *
 * In one minute
 *     A handler is a function. It runs on a worker thread and may block. It reads from and answers
 *     through one handle, lc_req. Its answer leaves when it returns, unless it streams.
 *         lc_run()                                  the library owns signals and life
 *         lc_start() ... lc_shutdown() / lc_wait()  your program does, like Go's http.Server
 *
 * Threads. Every function says who may call it:
 *     [S] setup     any one thread at a time, before lc_start() or lc_run()
 *     [A] any       any thread, also several at a time
 *     [H] holder    the thread that holds the request: the one its handler runs on, until that
 *                   returns; or the one between lc_hold() and lc_let_go()
 *     [M] main      any thread but one that holds a request: it waits for handlers to end
 *   A call from elsewhere does nothing and returns LC_E_THREAD ([S] after the start: LC_E_STATE;
 *   NULL, where a pointer is returned), and the library logs the first of each function. It looks
 *   the holder up by thread, never through the handle. A handle is given out once: with each
 *   handler, and with each lc_hold(). So the library notices a handle that is stale, or in the
 *   wrong thread; using one is never undefined behaviour.
 *
 * Ends. A function of the program that the library calls returns. Otherwise the process ends, with
 *   a line on standard error that names the route, the task or the module: once a server has
 *   started, exit(3) in it ends the process at once, with that status and without exit functions;
 *   an exception that leaves it and pthread_exit(3) abort it. Requests on record stay on record.
 *   pthread_cancel(3) of a server's thread does nothing.
 *
 * Memory. `const char *` from a request lives until the handler has returned, or lc_finish() for
 *   one that was kept. What is handed in is copied, unless a function takes it over: then it is
 *   freed exactly once by the function given, also when the call fails. No function frees what it
 *   was not given.
 *
 * Results. 0, or one of the negative LC_E_... below, or -errno. The type is `int` and stays `int`.
 *   Ignoring them is safe: lc_start() and lc_run() fail with the first mistake of the setup, and
 *   after the first failure of an answer (LC_E_TWICE, _STATE, _AGAIN are none) every later call on
 *   it fails the same way. Such an answer becomes 500, or one that the client sees is broken;
 *   lc_fail() can still choose another status.
 *
 * Times are milliseconds, int64_t, on CLOCK_MONOTONIC; -1 is for ever. Sizes are bytes.
 *
 * ABI. soname liblastcall.so.0; each symbol has the version it came with (LASTCALL_0.2, ...). All
 *   types are opaque, or begin with `size`, which the caller sets through the _INIT macro: the
 *   library reads no field that the caller did not have, and writes none. Settings are names and
 *   texts (lc_set), so a new one changes no ABI. Nothing is removed under one soname. */

#ifndef LASTCALL_LASTCALL_H
#define LASTCALL_LASTCALL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h> /* ssize_t */

#define LC_VERSION "0.2.0"
#define LC_VERSION_NUMBER 0x000200 /* 0xMMmmpp */
#define LC_ABI 1                   /* what this header was written for; looked at by lc_new() */

#if defined(__GNUC__)
#define LC_API __attribute__((visibility("default")))
#define LC_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define LC_MUST __attribute__((warn_unused_result))
#define LC_END_OF_LIST __attribute__((sentinel))
#else
#define LC_API
#define LC_PRINTF(f, a)
#define LC_MUST
#define LC_END_OF_LIST
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lc_server lc_server;
typedef struct lc_req lc_req;   /* a request and its answer */
typedef struct lc_task lc_task; /* work that a drain waits for, and that is no request */

/* ---- results ------------------------------------------------------------------------------- */

#define LC_OK 0
#define LC_E_THREAD (-1001) /* not from this thread, or not any more: see Threads */
#define LC_E_STATE                                                                                 \
    (-1002)                /* too early or too late: a route after start, a start after shutdown   \
                            */
#define LC_E_ARG (-1003)   /* CR or LF in a header, status 99, NULL, a pattern that is none */
#define LC_E_TWICE (-1004) /* it is answered already: the first answer stands */
#define LC_E_GONE (-1005)  /* the client has left, and will not read this */
#define LC_E_ABORTED                                                                               \
    (-1006) /* the drain's deadline, or a second signal, has ended this request                    \
             */
#define LC_E_TIMEOUT                                                                               \
    (-1007)                   /* this request's own limit has; or the client takes nothing in time \
                               */
#define LC_E_AGAIN (-1008)    /* lc_try_write(): the client is behind */
#define LC_E_LENGTH (-1009)   /* more or less than the Content-Length that was announced */
#define LC_E_DEADLINE (-1010) /* lc_shutdown(): the deadline came first, requests were cut */
#define LC_E_FORCED (-1011)   /* lc_shutdown(): somebody cut it short */
#define LC_E_STUCK (-1012)    /* lc_free(): a handler has not returned; its memory is left alone */
#define LC_E_DRAINING                                                                              \
    (-1013)                 /* lc_wait_for(): a drain has begun; lc_go(): no new work any more     \
                             */
#define LC_E_CONFIG (-1014) /* lc_errmsg() says what and where */
#define LC_E_ABI (-1015)    /* header and library do not fit */
#define LC_E_PRELOAD                                                                               \
    (-1016) /* another libh2o comes first in this process: link -llastcall before it */
#define LC_E_BUSY (-1017) /* lc_hold(): another thread holds it */
#define LC_E_FULL (-1018) /* queue or limit reached */

/* One line of English for any result; never NULL. [A] */
LC_API const char *lc_strerror(int result);
/* The first failure of setup or start, with file, line and column where there are; "" if none. It
 * lives until lc_free(). NULL: of lc_new(), on this thread. [A], but not beside lc_start(). */
LC_API const char *lc_errmsg(const lc_server *server);
/* Of the library that is loaded: "0.2.0", 0x000200, and the highest LC_ABI that it serves. [A] */
LC_API const char *lc_version(void);
LC_API unsigned lc_version_number(void);
LC_API unsigned lc_abi(void);

/* ---- handlers and routes ------------------------------------------------------------------- */

/* One request. May block; may be called on many threads at once. `user` is what was registered with
 * it. Without an answer, also with no more than a status or headers: 500, and a line in the log. */
typedef void (*lc_handler)(lc_req *req, void *user);

struct lc_route_options {
    size_t size;    /* LC_ROUTE_OPTIONS_INIT sets it */
    unsigned flags; /* LC_INLINE, ... */
    /* from the request's arrival: then 503, and LC_E_TIMEOUT for the handler; 0: none */
    int64_t timeout_ms;
    /* a streaming handler waits so long for a client that takes nothing; 0: 30 seconds */
    int64_t write_timeout_ms;
    int64_t max_body;     /* 413 beyond; 0: limit-request-body, which bounds this one, too */
    unsigned max_running; /* handlers of this route at a time; 0: no limit */
    unsigned max_waiting; /* requests that may wait for those; 0: pool.queue */
    /* in lc_free(), or at once if the call fails, also without a server */
    void (*free_user)(void *user);
};
#define LC_ROUTE_OPTIONS_INIT                                                                      \
    {                                                                                              \
        sizeof(struct lc_route_options), 0, 0, 0, 0, 0, 0, NULL                                    \
    }

/* On the event loop: it must not block, so lc_write() and the like, lc_sleep() and lc_wait_for()
 * are LC_E_STATE. */
#define LC_INLINE 1u
#define LC_RECORD 2u /* keep it on record (journal) whatever its method */

/* "PATTERN" or "METHOD PATTERN". "/a" is that path alone, "/a/" everything below it, "/a/{id}" one
 * segment, "/a/{rest...}" the rest, "/a/{$}" the path "/a/" alone. GET takes HEAD too. The most
 * specific pattern wins, as in Go's ServeMux; two that overlap with none more specific are
 * LC_E_ARG, and so is what is no pattern; another method is 405 with Allow. At most 16 parameters
 * and 64 segments. Segments are compared with %XX decoded; no path is redirected. [S] */
LC_API int lc_handle(lc_server *server, const char *pattern, lc_handler handler, void *user);
LC_API int lc_handle_with(lc_server *server, const char *pattern, lc_handler handler, void *user,
                          const struct lc_route_options *options);
/* Around all handlers of requests for `prefix` or below it ("/a": /a and /a/b), in the order of
 * these calls: it calls lc_next(), or answers itself. After lc_next() it can still set headers of
 * an answer that was not streamed. A request is not passed on twice. [S] */
LC_API int lc_use(lc_server *server, const char *prefix, lc_handler middleware, void *user);
LC_API void lc_next(lc_req *req); /* [H] */
/* A name for `handler: NAME` in a configuration file. [S] */
LC_API int lc_name(lc_server *server, const char *name, lc_handler handler, void *user);
/* What needs no code: files, another server, CGI programs (RFC 3875, on workers). [S] */
LC_API int lc_files(lc_server *server, const char *prefix, const char *dir);
LC_API int lc_proxy(lc_server *server, const char *prefix, const char *url);
LC_API int lc_cgi(lc_server *server, const char *prefix, const char *dir);
/* Something of your own for each thread that runs handlers, such as a database connection. `begin`
 * makes it on that thread, before its first handler, and `end` (or NULL) ends it there after the
 * last. `worker` counts from 0. lc_start() makes one and ends it at once, and fails if `begin`
 * returns NULL; later that is 503, a line in the log, and another try with the next request. Once
 * for a server. [S] */
LC_API int lc_each_worker(lc_server *server, void *(*begin)(unsigned worker, void *user),
                          void (*end)(void *own, void *user), void *user);
/* This thread's; NULL for LC_INLINE, and on a request of lc_hold(). [H] */
LC_API void *lc_own(lc_req *req);

/* ---- the request; all [H] ------------------------------------------------------------------ */

/* A text ends with '\0'. A %00 of a client is not decoded, so none ends early. The same call
 * returns the same text again. NULL also means that the request has no memory left: 16 MB for all
 * texts and lc_alloc(). */
LC_API const char *lc_method(lc_req *req);
LC_API const char *lc_path(lc_req *req);   /* decoded, then `.` and `..` resolved; no query */
LC_API const char *lc_target(lc_req *req); /* as it was sent */
LC_API const char *lc_host(lc_req *req);   /* with the port, if it was sent */
/* {name}, decoded: it may have a '/' in it. NULL: none of that name. */
LC_API const char *lc_param(lc_req *req, const char *name);
/* The first of that name, decoded, + as a space; NULL: none. */
LC_API const char *lc_query(lc_req *req, const char *name);
LC_API const char *lc_form(lc_req *req, const char *name); /* of a urlencoded body */
/* The pair with number `i`, from 0, in the order in which they were sent, both decoded; so also
 * several of one name. `name` and `value` may be NULL. LC_E_ARG: no more, or no such body. -ENOMEM:
 * the request has no memory left. */
LC_API int lc_query_at(lc_req *req, size_t i, const char **name, const char **value);
LC_API int lc_form_at(lc_req *req, size_t i, const char **name, const char **value);
/* Several: joined by ", " (Cookie: "; "). NULL: none. */
LC_API const char *lc_header(lc_req *req, const char *name);
/* The one with number `i`, from 0; its name in lower case. LC_E_ARG: no more. */
LC_API int lc_header_at(lc_req *req, size_t i, const char **name, const char **value);
LC_API const char *lc_cookie(lc_req *req, const char *name); /* not decoded, without "" */
LC_API int lc_is_https(lc_req *req);
LC_API int lc_http_version(lc_req *req); /* 10, 11, 20 */
/* The other end of the connection ("unix": a Unix socket), and the client as trusted proxies name
 * it in X-Forwarded-For, or if that is not there, in Forwarded (RFC 7239): the address furthest to
 * the right that is none of theirs, of at most 64 in Forwarded. The setting trusted-proxies lists
 * them: "10.0.0.0/8, ::1". Without such, or where Forwarded is not well-formed, both are the same.
 */
LC_API const char *lc_peer(lc_req *req);
LC_API const char *lc_client(lc_req *req);
/* Memory that goes with the request; NULL: none left. */
LC_API void *lc_alloc(lc_req *req, size_t bytes);
/* Something of yours for middleware and handler; `key` is compared as a pointer. */
LC_API int lc_put(lc_req *req, const void *key, void *value);
LC_API void *lc_get(lc_req *req, const void *key);

/* The body. It is whole before a handler is called, so a slow upload holds no worker. Today
 * lc_body() costs nothing and lc_read() copies from it. Code that only uses lc_read() will work
 * where bodies stream one day. */
LC_API int64_t lc_body_size(lc_req *req);
/* In one piece; maybe no '\0' follows; never NULL. */
LC_API const void *lc_body(lc_req *req, size_t *bytes);
LC_API ssize_t lc_read(lc_req *req, void *to, size_t room); /* 0: the end */
/* To the file `name` in a folder (or AT_FDCWD), which appears whole or not at all. A file or a
 * symbolic link of that name is replaced and not followed; with LC_NEW it is -EEXIST. With LC_SYNC
 * it is on disk, with its name. LC_E_ARG: `name` has a '/', or is "", ".", "..". */
LC_API int lc_save_body(lc_req *req, int dirfd, const char *name, unsigned flags);
#define LC_SYNC 1u
#define LC_NEW 2u
/* The next part of multipart/form-data (RFC 7578): 1, 0 at the end, LC_E_ARG: the body is none, or
 * not well-formed. `bytes` lie in the body. At most 1,000 parts, each with 16 header fields in 8
 * KB. */
struct lc_part {
    size_t size;
    const char *name;     /* never NULL */
    const char *filename; /* the last component alone; may be ""; NULL: it is no file */
    const char *type;     /* NULL: not said */
    const void *bytes;
    size_t count;
};
#define LC_PART_INIT                                                                               \
    {                                                                                              \
        sizeof(struct lc_part), NULL, NULL, NULL, NULL, 0                                          \
    }
LC_API int lc_next_part(lc_req *req, struct lc_part *part);

/* ---- the answer; all [H] ------------------------------------------------------------------- */

/* LC_E_ARG: a status outside of 200..599; a text with CR, LF or another control character; a body
 * with 204, 205 or 304. LC_E_TWICE: it is answered, and the first answer stands. LC_E_STATE: its
 * headers have left. */
LC_API int lc_status(lc_req *req, int status); /* of lc_write() and lc_send_file(); 200 */
/* Replace (NULL: remove), or add, a header. At most 100. LC_E_ARG also: Connection, Content-Length,
 * Date, Keep-Alive, Proxy-Connection, Server, TE, Trailer, Transfer-Encoding, Upgrade, which are
 * the server's. */
LC_API int lc_set_header(lc_req *req, const char *name, const char *value);
LC_API int lc_add_header(lc_req *req, const char *name, const char *value);
/* A whole answer. `type` NULL: what lc_set_header() has set, or none. It leaves when the handler
 * returns. */
LC_API int lc_send(lc_req *req, int status, const char *type, const char *text);
LC_API int lc_sendf(lc_req *req, int status, const char *type, const char *format, ...)
    LC_PRINTF(4, 5);
LC_API int lc_send_bytes(lc_req *req, int status, const char *type, const void *bytes,
                         size_t count);
/* The same, taken over and not copied: free_it(owner) is called once, on any thread, when the
 * kernel has it all or the call has failed. lc_send_owned(r, 200, type, text, n, free, text). */
LC_API int lc_send_owned(lc_req *req, int status, const char *type, const void *bytes, size_t count,
                         void (*free_it)(void *owner), void *owner);
/* A file, with ETag, Last-Modified, the conditions of RFC 9110 and a range (several: all of it).
 * `type` NULL: by its name. -errno: it cannot be sent, and the page is 404, 403 or 500 unless the
 * handler answers otherwise. The path is followed as open(2) does: see that a client cannot choose
 * it. */
LC_API int lc_send_file(lc_req *req, const char *path, const char *type);
LC_API int lc_redirect(lc_req *req, int status, const char *where); /* 301, 302, 303, 307, 308 */
/* The usual page of an error (400..599), which says nothing of why; a line in the log does, unless
 * it is NULL. After a failed answer it answers still; a stream becomes a broken one. */
LC_API int lc_fail(lc_req *req, int status, const char *for_the_log);

/* Streaming. Status and headers leave with the first bytes. Each call waits while the client is
 * more than `stream-buffer` (64 KB) behind, so a slow reader costs that and a worker, never more
 * memory. Not 0: stop; nothing more will be read (LC_E_GONE, _ABORTED, _TIMEOUT). After an error
 * the client sees a broken answer, never one that looks whole. Without lc_length() the answer is
 * chunked; with it, more is LC_E_LENGTH, and less is a broken answer. On a request that was kept
 * (below) none of them waits: LC_E_AGAIN, and nothing was written. */
LC_API int lc_length(lc_req *req, int64_t bytes);
LC_API int lc_write(lc_req *req, const void *bytes, size_t count);
LC_API int lc_writef(lc_req *req, const char *format, ...) LC_PRINTF(2, 3);
/* All of it or LC_E_AGAIN; never waits. -EMSGSIZE: it can never fit `stream-buffer`. */
LC_API int lc_try_write(lc_req *req, const void *bytes, size_t count);
LC_API int lc_flush(lc_req *req); /* what was written is on its way, not in a buffer of ours */
/* Server-Sent Events. Each line of `data` becomes one of the event. `name` NULL: none. `data` NULL:
 * a comment, a sign of life. Sets Content-Type and Cache-Control, unless they are set. */
LC_API int lc_event(lc_req *req, const char *name, const char *data);

/* Answer later, and hold no worker meanwhile: take a token, return, and come back with it on any
 * thread. A token is a number: used too late it is LC_E_GONE. The request counts in a drain until
 * lc_finish(). */
typedef uint64_t lc_token;
LC_API lc_token lc_keep(lc_req *req); /* 0: it is answered already, or not possible (lc_call()) */
/* LC_E_BUSY: its handler has not returned, or another thread holds it. LC_E_STATE: not started.
 * [A], then [H]; waits for nobody. */
LC_API int lc_hold(lc_server *server, lc_token token, lc_req **req);
LC_API void lc_let_go(lc_req *req); /* [H] */
/* The answer is whole; `req` is gone. LC_E_STATE: it is not of lc_hold(). [H] */
LC_API int lc_finish(lc_req *req);
/* What becomes of it while no thread holds it: LC_E_GONE, _ABORTED, _TIMEOUT, _DRAINING; or 0:
 * there is room again. On a thread of the library; must not block. LC_E_STATE: before lc_keep(). */
LC_API int lc_on_kept(lc_req *req,
                      void (*told)(lc_server *server, lc_token token, int what, void *user),
                      void *user);

/* ---- cancellation and time; [H] ------------------------------------------------------------ */

LC_API int lc_cancelled(lc_req *req); /* 0, LC_E_GONE, LC_E_ABORTED, LC_E_TIMEOUT */
/* Until this request is cut: by its own timeout or by a drain that has begun; -1: by neither. */
LC_API int64_t lc_time_left(lc_req *req);
/* Sleep (-1: without end). Not 0: it was cancelled before that, and why. A drain that begins does
 * not end it. */
LC_API int lc_sleep(lc_req *req, int64_t ms);
#define LC_ON_DRAIN 1u
/* With LC_ON_DRAIN: LC_E_DRAINING, too. 0 ms: only ask. */
LC_API int lc_wait_for(lc_req *req, int64_t ms, unsigned also);
/* Readable once it is cancelled: for poll(2) beside a database's socket. The library closes it.
 * Negative: no descriptor left. */
LC_API int lc_cancel_fd(lc_req *req);
/* Called once when it is cancelled, on another thread, at once if it is already:
 * sqlite3_interrupt(), PQcancel(). NULL takes it back, and returns when no call of it runs any
 * more; so does the handler's return, and lc_let_go(). */
LC_API int lc_on_cancel(lc_req *req, void (*cancel)(void *arg), void *arg);

/* ---- the server ------------------------------------------------------------------------------ */

/* A program may have several, one after the other and at the same time; they start and end one
 * after the other. NULL: no memory; or errno is ENOTSUP, and lc_errmsg(NULL) says why: LC_E_ABI,
 * the library is older than this header; LC_E_PRELOAD, libh2o was in the process before
 * liblastcall. [A] */
#define lc_new() lc_new_abi(LC_ABI)
LC_API lc_server *lc_new_abi(unsigned abi) LC_MUST;
/* A setting by its name in a configuration file: "drain.deadline", "10s"; "pool.workers", "32";
 * "limit-request-body", "1048576". A wrong value of one of lastcall's is LC_E_CONFIG at once, and
 * what only libh2o knows is read by lc_start(). "user" and "error-log" are the program's: they are
 * refused, also in a file. Everything is off that is not set: the admin listener ("admin.listen"),
 * the pid file, the journal, heartbeats. [S] */
LC_API int lc_set(lc_server *server, const char *name, const char *value);
/* A whole file, once. What is set after it counts more than the file, what was set before it less.
 * Addresses of lc_listen() take the place of those in the file. [S] */
LC_API int lc_conf(lc_server *server, const char *file);
/* "8080" (all interfaces), "127.0.0.1:0", "unix:/path", "tls:..."; several are allowed. [S] */
LC_API int lc_listen(lc_server *server, const char *address);
/* A socket that listens already. It is taken over, also when the call fails, and closed by the
 * drain. [S] */
LC_API int lc_listen_fd(lc_server *server, int fd);
/* The certificate (with its chain) and the key of all tls: addresses; PEM files. [S] */
LC_API int lc_tls(lc_server *server, const char *certificate_file, const char *key_file);
LC_API int lc_port(const lc_server *server); /* of the first TCP listener, once started. [A] */

/* The log: `line` gets each line instead of standard error, on any thread, one at a time. `event`
 * is a word that stays; `json` the whole line as an object. Must not call the library. [S] */
#define LC_LOG_ERROR 0
#define LC_LOG_WARNING 1
#define LC_LOG_INFO 2
LC_API int lc_on_log(lc_server *server,
                     void (*line)(int level, const char *event, const char *text, const char *json,
                                  void *user),
                     void *user);
/* A line of the program's, where the server's lines go; its event is "application". [A] */
LC_API void lc_log(lc_server *server, int level, const char *format, ...) LC_PRINTF(3, 4);

/* Start: threads, listeners; returns when it accepts, or why not (-EADDRINUSE, LC_E_CONFIG, ...;
 * lc_errmsg()), and then nothing is left behind. A server starts once. Touches no signal, limit,
 * umask, environment, directory or descriptor 0..2 of the process, and forks nothing. Its threads
 * have every signal blocked: a process that a handler starts inherits that, so give it its mask
 * (posix_spawnattr_setsigmask(3)). A first request may come before this returns. [M] */
LC_API int lc_start(lc_server *server) LC_MUST;

struct lc_result {
    size_t size;
    int status;          /* as the program lastcall would exit: 0, 3 deadline, 4 forced */
    unsigned stuck;      /* handlers that had not come back */
    uint64_t answered;   /* in the drain */
    uint64_t unfinished; /* requests that were cut; lc_unfinished() names them */
    uint64_t tasks;      /* tasks that had not ended; it names them, too */
    int64_t took_ms;     /* from the first order to drain */
};
#define LC_RESULT_INIT                                                                             \
    {                                                                                              \
        sizeof(struct lc_result), 0, 0, 0, 0, 0, 0                                                 \
    }
struct lc_cut {
    size_t size;
    const char *method, *path, *peer,
        *state; /* state: "queued", "running", "responding", "task", ... */
    int64_t age_ms;
};
#define LC_CUT_INIT                                                                                \
    {                                                                                              \
        sizeof(struct lc_cut), NULL, NULL, NULL, NULL, 0                                           \
    }

/* http.Server.Shutdown(ctx): keep newcomers out, serve who is in, wait, at most `ms` (-1: the
 * setting drain.deadline, which also counts if it is earlier). 0: nothing was lost. LC_E_DEADLINE,
 * LC_E_FORCED: `result` and lc_unfinished() say what was cut. A second call joins the first; the
 * earlier limit counts. It returns in time whatever a handler does. LC_E_STATE: not started; or the
 * drain was called off, and the server serves on. `result` may be NULL. [M] */
LC_API int lc_shutdown(lc_server *server, int64_t ms, struct lc_result *result);
/* Only begin it; also from a handler. `why` stands in the log, and may be NULL. [A] */
LC_API int lc_drain(lc_server *server, int64_t ms, const char *why);
/* Call it off. LC_E_STATE: too late, the listeners close. There is time for it only during
 * drain.lame-duck, half of `ms` at most. [A] */
LC_API int lc_undrain(lc_server *server);
LC_API int lc_cut_short(lc_server *server); /* as the second Ctrl+C. [A] */
/* Wait for the end of a drain, whoever begins it; several threads may. LC_E_TIMEOUT: it still
 * runs. Otherwise as lc_shutdown(). [M] */
LC_API int lc_wait(lc_server *server, int64_t ms, struct lc_result *result);
/* What was cut, oldest first; LC_E_ARG: no more. The texts live until lc_free(). Requests that were
 * cut earlier, by the deadline of their class, are in the log alone. Behind the end. [A] */
LC_API int lc_unfinished(lc_server *server, size_t i, struct lc_cut *cut);
/* Free all of it. Cuts short what still runs. LC_E_STUCK: a handler has not returned within 1 s (10
 * s if nothing was cut), or a task was not ended: the server is left as it is, and this may be
 * called again. NULL is allowed. No other call may use the server meanwhile or afterwards. [M] */
LC_API int lc_free(lc_server *server);

#define LC_RUNNING 0
#define LC_LAME_DUCK 1
#define LC_CLOSING 2
#define LC_DRAINING 3
#define LC_ABORTING 4
#define LC_DONE 5
LC_API int lc_phase(lc_server *server); /* LC_E_STATE: not started. [A] */
/* Readable when the phase has changed since lc_phase() was called last. For the main loop of a
 * program. It is closed by lc_free(). [A] */
LC_API int lc_phase_fd(lc_server *server);
/* On a thread of the server; must not wait for it. LC_DONE comes when lc_wait() returns. [S] */
LC_API int lc_on_phase(lc_server *server, void (*stepped)(int phase, void *user), void *user);

/* All of it at once: start; SIGTERM, SIGINT and SIGQUIT drain, a second one cuts short, at a third
 * the process ends; SIGUSR1 opens access logs again; sd_notify(3); on a terminal a line that shows
 * the drain. Returns the exit status when it is over: 0, 3, 4; 69 or 78 if the start failed, which
 * is in the log. Call it before there are other threads, or block its signals in them; afterwards
 * they stay blocked. One server of a process may have them. [M] */
LC_API int lc_run(lc_server *server);
/* The program lastcall with your handlers: its flags, -c, -t, -m master, restart without a gap at
 * SIGHUP. `setup` is called once, behind the flags and before the file, in each process that
 * serves; what it sets counts less than both, and its addresses only if neither names any. Not 0:
 * status
 * 78. Ends the process, a millisecond or two behind the last answer, by _exit(2): neither free_user
 * nor atexit(3) is called. lc_start(), lc_run() and lc_free() are not for its server. Status 64: no
 * argv[0]. On the main thread, before there are others. lastcall itself is this call. */
LC_API int lc_main(int argc, char **argv, int (*setup)(lc_server *server, void *user), void *user);
/* For main() without lc_run(): block these in this thread and those it makes; then wait for one,
 * and return it. The list ends with 0; -EINVAL: what is no signal, or a wait for none. [A] */
LC_API int lc_block_signals(int signo, ...);
LC_API int lc_await_signal(int signo, ...);

/* ---- other work --------------------------------------------------------------------------------
 */

/* A drain waits for these, too, and names those that it could not wait for. A name has up to 63
 * characters. [A] */
LC_API lc_task *lc_task_begin(lc_server *server, const char *name); /* NULL: the end has come */
/* Once, and before lc_free(); of lc_task_begin() alone: another one stays. */
LC_API void lc_task_end(lc_task *task);
LC_API int lc_task_cancelled(lc_task *task); /* 0, LC_E_ABORTED */
/* Sleep. 0; LC_E_DRAINING at once while a drain has begun; LC_E_ABORTED. */
LC_API int lc_task_wait(lc_task *task, int64_t ms);
/* The same on a worker, which it has until `work` returns; counted from this call on, and ended
 * there. Before lc_start() it waits for the start. LC_E_DRAINING: the listeners close, no new work
 * begins; LC_E_FULL: pool.queue. [A] */
LC_API int lc_go(lc_server *server, const char *name, void (*work)(lc_task *task, void *arg),
                 void *arg);

/* ---- for tests ---------------------------------------------------------------------------------
 */

/* Call the handler of a route without a socket, on this thread: "POST /notes", headers as
 * "A: b\r\nC: d\r\n" or NULL. Before or after start. 404, 405 and 413 are answers as well. A
 * streamed answer is collected, up to 64 MB. LC_E_LENGTH: the answer is a broken one. The texts are
 * the caller's, for lc_answer_free(); after another failure there are none. [M] */
struct lc_answer {
    size_t size;
    int status;
    char *headers; /* "content-type: text/plain\r\n...": what the handler has set */
    char *body;    /* a '\0' follows */
    size_t count;
};
#define LC_ANSWER_INIT                                                                             \
    {                                                                                              \
        sizeof(struct lc_answer), 0, NULL, NULL, 0                                                 \
    }
LC_API int lc_call(lc_server *server, const char *request, const char *headers, const void *body,
                   size_t count, struct lc_answer *answer);
LC_API void lc_answer_free(struct lc_answer *answer); /* NULL is allowed, and a second time. [A] */

/* ---- modules -----------------------------------------------------------------------------------
 */

/*     handler.module: {path: ./notes.so, name: notes, args: "db=/var/lib/notes.db"}
 *
 * A shared object with this symbol, linked with -llastcall; loaded once, RTLD_NOW | RTLD_LOCAL,
 * never unloaded. The number is part of the symbol's name: a module that was built for another
 * version has no such symbol, and the start fails with a line that says so (status 78). `init` is
 * called for each directive, on the thread that reads the configuration, before privileges are
 * given up. It registers `name` with lc_name(), which then answers on the path of the directive;
 * lc_handle(), lc_use() and lc_each_worker() are allowed too, and hold for the whole server. Not 0:
 * lc_errmsg() text, or lc_strerror(), and status 78. No exception may leave it: see Ends. */
struct lc_module {
    size_t size;
    unsigned abi;
    const char *name, *version;
    int (*init)(lc_server *server, const char *name, const char *args, void **state);
    void (*fini)(
        void *state); /* behind the last handler; left out where one is stuck. NULL: none */
};
#define LC_MODULE(name_, version_, init_, fini_)                                                   \
    LC_API extern const struct lc_module lastcall_module_1;                                        \
    const struct lc_module lastcall_module_1 = {                                                   \
        sizeof(struct lc_module), LC_ABI, name_, version_, init_, fini_}

#ifdef __cplusplus
} /* extern "C" */

/* An exception must not leave a handler, see Ends. lc_handle(s, "/", lc_safe<f>, p) answers 500 and
 * logs what(). */
#include <exception>
template <void (*F)(lc_req *, void *)> void lc_safe(lc_req *req, void *user) noexcept
{
    try {
        F(req, user);
    } catch (const std::exception &e) {
        (void)lc_fail(req, 500, e.what());
    } catch (...) {
        (void)lc_fail(req, 500, "an exception that is no std::exception");
    }
}
#endif

#endif

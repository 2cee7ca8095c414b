#ifndef LASTCALL_LC_P_H
#define LASTCALL_LC_P_H

/* What the files of the library share.
 *
 *     lc_server.c, lc_life.c ...     a server from lc_new() to lc_free()
 *     request/routes.c               patterns, middleware, names, per-worker state
 *     request/...                    the request and its answer: an lc_req around an exchange
 *     request/call.c                 a handler without a socket
 *     request/called.c, lc_exit.c    how functions of the program may not end */

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unwind.h>

#include "lastcall/lastcall.h"

struct exchange;
struct lc_routes;
struct scope;
struct server;
struct user_route;

/* ---- lc_server.c; what the other files need of it ---- */

struct lc_routes *lc_routes_of(lc_server *server);
/* NULL before lc_start(). */
struct server *lc_running_server(lc_server *server);
/* Where the log lines of its threads go. */
const struct scope *lc_scope_of(const lc_server *server);
/* Setup is over: lc_start() was called. */
bool lc_is_started(const lc_server *server);
/* May handlers be registered: before the start, and in init() of a module? */
bool lc_may_register(const lc_server *server);
/* Keep the first failure of the setup, for lc_errmsg() and lc_start(). Returns `result`. */
int lc_setup_failed(lc_server *server, int result, const char *format, ...) LC_PRINTF(3, 4);

/* Have a directive of a configuration file under a path: "/files", "file.dir", "/srv". The
 * directives of one path are added one after the other. Not beside lc_conf(): then lc_start()
 * fails. Thread: before start.     Errors: 0; -ENOMEM, and the setup has failed. */
int lc_add_to_path(lc_server *server, const char *path, const char *name, const char *value);

/* ---- request/; what lc_server.c needs of it ---- */

/* NULL: no memory. */
struct lc_routes *lc_routes_create(lc_server *server);
/* Calls each route's free_user, and the end of what lc_each_worker() made on threads that have not
 * ended. No handler runs any more, and the pool's threads have been joined. NULL is allowed. */
void lc_routes_destroy(struct lc_routes *routes);
/* Has any pattern, name or middleware been registered? */
bool lc_routes_any(const struct lc_routes *routes);
/* Have the server answer them: user_route_serve().     Errors: as lc_start(). */
int lc_routes_attach(struct lc_routes *routes, struct server *server);
/* The route of lc_name(), for `handler: NAME` of a configuration file; NULL: none has that name. */
const struct user_route *lc_routes_named(const struct lc_routes *routes, const char *name);
/* The setting trusted-proxies: "10.0.0.0/8, ::1, unix". 0; LC_E_ARG or -ENOMEM, and the setup has
 * failed. */
int lc_routes_trust(struct lc_routes *routes, const char *list);
/* Does this thread hold a request, so that it must not wait for handlers to end? See [M] in
 * lastcall.h.     Thread: any. */
bool lc_thread_holds(void);
/* The same in a function [M]; the first call of each is logged. */
#define LC_HOLDS()                                                                                 \
    ({                                                                                             \
        static atomic_bool said_;                                                                  \
        lc_holder_calls(&said_, __func__);                                                         \
    })
bool lc_holder_calls(atomic_bool *said, const char *function);
/* In a function [S]: has the server started? The first call of each is logged. */
#define LC_IS_LATE(server)                                                                         \
    ({                                                                                             \
        static atomic_bool said_;                                                                  \
        lc_is_started(server) && lc_say_late(server, &said_, __func__);                            \
    })
/* The same, where init() of a module may still register. */
#define LC_IS_TOO_LATE(server)                                                                     \
    ({                                                                                             \
        static atomic_bool said_;                                                                  \
        !lc_may_register(server) && lc_say_late(server, &said_, __func__);                         \
    })
/* True.     Thread: any. */
bool lc_say_late(const lc_server *server, atomic_bool *said, const char *function);

/* ---- request/called.c; Thread of each: any; they are about the thread that calls them ---- */

/* A function of the program that runs on this thread: "the handler of route", "GET /". It stands on
 * the stack of the caller of that function. */
struct lc_called {
    lc_server *server;
    const char *what, *name;
    const struct lc_called *outer;
};
void lc_called_begin(struct lc_called *called, lc_server *server, const char *what,
                     const char *name);
void lc_called_end(const struct lc_called *called);
/* The innermost one; NULL: none runs on this thread. */
const struct lc_called *lc_called_now(void);
/* A line about it on standard error, in a process that ends: it begins with `what` and `name`, and
 * takes no lock that a function of lc_on_log() may hold. One runs. */
void lc_called_last_words(const char *event, const char *format, ...) LC_PRINTF(2, 3);

/* Stands in each function that calls one of the program's, between lc_called_begin() and the call;
 * such a function is NOT_LOOKED_INTO. No exception passes it: see unwinding note, called.c. 0x1b:
 * the address is relative, in four bytes. */
#define LC_NOTHING_PASSES() __asm__ volatile(".cfi_personality 0x1b, %c0" : : "i"(lc_unwound))
__attribute__((visibility("hidden"))) _Unwind_Reason_Code
lc_unwound(int version, _Unwind_Action actions, _Unwind_Exception_Class class,
           struct _Unwind_Exception *exception, struct _Unwind_Context *context);

#endif

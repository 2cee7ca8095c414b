#include "lc_p.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "log.h"

/* Functions of the program that run on threads of the library, and how they may not end: by an
 * exception, or with their thread.
 *
 * Unwinding note. An exception goes up the stack in two phases: the first looks for a frame that
 * catches it, and changes nothing. It asks the personality routine of each frame. C frames have
 * none, so an exception would pass ours as if they were not there, and whoever caught it above them
 * would leave a request half handled; on the stack of a loop (pool/fiber.h) there is nothing above.
 * So the frame that calls a function of the program has a personality routine of ours. In the
 * first phase, while the stack is still that of the throw, it says in the log whose exception that
 * is, and answers that the phase has failed. The C++ runtime then calls std::terminate(), which
 * names the exception and aborts. pthread_exit(3) unwinds without a first phase, and so does
 * pthread_cancel(3) of a thread of the program's own (in lc_call(), say; threads of the library
 * cannot be cancelled). A thread of the pool that is gone would keep its job for ever, so these
 * abort. */

static _Thread_local const struct lc_called *calling;

void lc_called_begin(struct lc_called *called, lc_server *server, const char *what,
                     const char *name)
{
    *called = (struct lc_called){server, what, name, calling};
    calling = called;
}

void lc_called_end(const struct lc_called *called)
{
    calling = called->outer;
}

const struct lc_called *lc_called_now(void)
{
    return calling;
}

void lc_called_last_words(const char *event, const char *format, ...)
{
    char text[768];
    va_list args;
    int n = snprintf(text, sizeof(text), "%s %.300s ", calling->what, calling->name);

    va_start(args, format);
    if (n > 0 && (size_t)n < sizeof(text))
        (void)vsnprintf(text + n, sizeof(text) - (size_t)n, format, args);
    va_end(args);
    log_last_line(event, text);
}

_Unwind_Reason_Code lc_unwound(int version, _Unwind_Action actions, _Unwind_Exception_Class class,
                               struct _Unwind_Exception *exception, struct _Unwind_Context *context)
{
    (void)version;
    (void)class;
    (void)exception;
    (void)context;
    if ((actions & _UA_SEARCH_PHASE) == 0) {
        lc_called_last_words(
            "thread-ended",
            "ended its thread (pthread_exit(3) or pthread_cancel(3)), and its caller "
            "is not done: the process aborts");
        abort();
    }
    lc_called_last_words("exception-escaped",
                         "let an exception out, and no C function can catch it: the process aborts "
                         "(lc_safe in lastcall.h makes it an answer 500)");
    return _URC_FATAL_PHASE1_ERROR;
}

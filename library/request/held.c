#include "request_p.h"

#include <errno.h>
#include <string.h>

#include "log.h"
#include "scope.h"

/* Which thread holds which request: see handle note, request_p.h. */

/* Numbers are given out in blocks, so that threads need not meet for each request. */
#define BLOCK 4096

static _Thread_local struct {
    struct lc_request *held;
    uintptr_t next, end; /* numbers of this thread's block */
} thread;

static uintptr_t new_handle(void)
{
    static _Atomic uintptr_t blocks; /* relaxed: only has to give each block once */

    /* The first block has the number 0, which is no handle. With 64 bits, no number comes again;
     * with 32 bits, after four thousand million requests. */
    if (thread.next == thread.end) {
        thread.next = atomic_fetch_add_explicit(&blocks, BLOCK, memory_order_relaxed);
        thread.end = thread.next + BLOCK;
        thread.next += thread.next == 0;
    }
    return thread.next++;
}

lc_req *lc_take(struct lc_request *request)
{
    request->handle = new_handle();
    request->next = thread.held;
    thread.held = request;
    return (lc_req *)request->handle;
}

void lc_drop(struct lc_request *request)
{
    struct lc_request **at = &thread.held;

    while (*at != request)
        at = &(*at)->next;
    *at = request->next;
}

bool lc_thread_holds(void)
{
    return thread.held != NULL;
}

bool lc_holder_calls(atomic_bool *said, const char *function)
{
    if (!lc_thread_holds())
        return false;
    if (!atomic_exchange_explicit(said, true, memory_order_relaxed))
        log_line(LOG_LEVEL_ERROR, "waits-for-itself", NULL,
                 "%s(): this thread holds a request, and the call would wait for handlers: call it "
                 "from a thread of the program (lastcall says this once)",
                 function);
    return true;
}

bool lc_say_late(const lc_server *server, atomic_bool *said, const char *function)
{
    if (atomic_exchange_explicit(said, true, memory_order_relaxed))
        return true;
    const struct scope *before = scope_enter(lc_scope_of(server));
    log_line(LOG_LEVEL_ERROR, "too-late", NULL,
             "%s(): the server has started, so this changes nothing: call it before lc_start() "
             "(lastcall says this once)",
             function);
    (void)scope_enter(before);
    return true;
}

struct lc_request *lc_find(const lc_req *handle, atomic_bool *said, const char *function)
{
    for (struct lc_request *i = thread.held; i != NULL; i = i->next)
        if (i->handle == (uintptr_t)handle)
            return i;
    if (!atomic_exchange_explicit(said, true, memory_order_relaxed))
        log_line(LOG_LEVEL_ERROR, "not-held", NULL,
                 "%s(): this thread does not hold that request: its handler has returned, another "
                 "thread has it, or it is NULL; a handler may not hand its lc_req to a thread, see "
                 "lc_keep() (lastcall says this once)",
                 function);
    return NULL;
}

int lc_result_of(int result)
{
    switch (result) {
    case EXCHANGE_GONE:
        return LC_E_GONE;
    case EXCHANGE_ABORTED:
        return LC_E_ABORTED;
    case EXCHANGE_TIMEOUT:
        return LC_E_TIMEOUT;
    case EXCHANGE_AGAIN:
        return LC_E_AGAIN;
    case EXCHANGE_DRAINING:
        return LC_E_DRAINING;
    default:
        return result;
    }
}

#ifndef LASTCALL_SCOPE_H
#define LASTCALL_SCOPE_H

/* For whom a thread works, if several servers run in one process: where its log lines go, and
 * whether it speaks for the process: to the service manager, and in the log's changing line. A
 * thread that thread_start() starts works for the same server as the thread that started it.
 *
 * A thread without a scope is one of a process with a single server: its lines go to standard
 * error, and it speaks for the process. */

#include <jansson.h>
#include <stdbool.h>

#include "log.h"

struct scope {
    /* Take a line. `fields` are borrowed; NULL: it has none. Called on any thread, also on several
     * at a time. NULL: standard error. */
    void (*line)(void *arg, enum log_level level, const char *event, json_t *fields,
                 const char *text);
    void *arg;
    bool speaks_for_process;
};

/* The scope of this thread; NULL: it has none.     Thread: any.     Blocks: never. */
const struct scope *scope_get(void);

/* From now on this thread works in `scope`; NULL: in none. Returns the one before.
 * Owner: borrowed for as long as the thread, and those that it starts, live.     Thread: any. */
const struct scope *scope_enter(const struct scope *scope);

#endif

#ifndef LASTCALL_TEST_WITH_PROCESS_H
#define LASTCALL_TEST_WITH_PROCESS_H

/* The real process on the command line alone, asked by hand. */

#include "process.h"

#define LIMIT_MS 20000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Wait until as many requests run in workers as asked for: a request that arrives then is the next.
 * For a process with one loop thread. */
void wait_until_busy(const struct process *process);

#endif

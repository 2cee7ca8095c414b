#ifndef LASTCALL_TEST_WITH_PROCESS_H
#define LASTCALL_TEST_WITH_PROCESS_H

/* The real process on the command line alone, asked by hand. */

#include "process.h"

#define LIMIT_MS 20000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define GET(path) "GET " path " HTTP/1.1\r\nHost: test\r\n\r\n"

/* Ask on a new connection.     Owner: of the answer, the caller. */
char *ask(const struct process *process, const char *request);
void assert_answer(const struct process *process, const char *request, const char *want);

/* Wait until as many requests run in workers as asked for: a request that arrives then is the next.
 * For a process with one loop thread. */
void wait_until_busy(const struct process *process);

#endif

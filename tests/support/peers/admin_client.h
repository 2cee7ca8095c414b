#ifndef LASTCALL_TEST_ADMIN_CLIENT_H
#define LASTCALL_TEST_ADMIN_CLIENT_H

/* A client of the admin listener of a process under test: raw sockets and what comes over them. */

#include <jansson.h>
#include <stdbool.h>

#include "process.h"

/* The process as its admin listener has it: good for client_connect() and the calls below, never to
 * be released or waited for. Waits for its line in the log. */
struct process admin_of(struct process *process);

/* The path of that Unix socket. */
const char *admin_path(const struct process *admin);

/* Ask on a new connection; the whole answer, malloc(3)ed. `more` is further header lines, each with
 * its CRLF, or ""; `body` NULL: none. */
char *admin_call(const struct process *admin, const char *method, const char *path,
                 const char *more, const char *body);

/* The same; fails the test if the answer's status is another, or `want` is not in it. */
void admin_expect(const struct process *admin, const char *method, const char *path,
                  const char *more, const char *body, int status, const char *want);

/* POST with a JSON body. */
void admin_order(const struct process *admin, const char *path, const char *body, int status,
                 const char *want);

/* What /status says.     Owner: the caller. */
json_t *admin_status(const struct process *admin);

/* A number or a text in it, by a path such as "drain.began_with.in_flight". */
double admin_number(const json_t *status, const char *path);
const char *admin_text(const json_t *status, const char *path);
json_t *admin_at(const json_t *status, const char *path);

/* The value of the one line of /metrics that begins with `name`, labels and all. */
double admin_metric(const struct process *admin, const char *name);

/* Ask again and again until the text at `path` is `want`; fails the test after a minute. */
void admin_wait_text(const struct process *admin, const char *path, const char *want);

/* Until the number at `path` is `least` or more. */
void admin_wait_number(const struct process *admin, const char *path, double least);

/* Until `process` counts that many requests in flight, or more: a drain or restart that begins now
 * finds them. */
void admin_wait_in_flight(struct process *process, unsigned least);

#endif

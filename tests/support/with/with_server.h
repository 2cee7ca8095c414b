#ifndef LASTCALL_TEST_WITH_SERVER_H
#define LASTCALL_TEST_WITH_SERVER_H

/* A server in the test's own process, whose routes are functions of the test: so both meet at
 * semaphores, and the sanitizers see both sides. */

#include <semaphore.h>
#include <stddef.h>
#include <stdint.h>

#include "process.h"
#include "user_route.h"

struct served {
    const char *pattern; /* see mux.h; NULL ends the list */
    struct user_route route;
};

/* The server under test; for the client functions of process.h. */
extern struct process served_at;
extern struct server *served;

/* Start one with these routes. `argv`: further flags, NULL-terminated; may be NULL. */
void serve(const struct served *routes, const char *const *argv);

/* Begin the drain; it has `deadline_ms`, or what the flags say if that is negative. */
void serve_drain(int64_t deadline_ms);

/* Wait for the end of the drain, free all of it, and return the exit status. Without serve_drain()
 * before, it begins one. The pool has to become idle. */
int serve_end(void);

/* Teardown of every test: serve_end(), if it has not been called. */
int serve_end_left(void **state);

/* Requests on record now; with --journal. */
uint64_t served_on_record(void);

/* Requests that are active, and jobs whose client has gone. */
uint64_t served_active(void);
uint64_t served_abandoned(void);
uint64_t served_answered(void);
/* Wait until the count is `want`; fails the test after a minute. */
void served_wait(uint64_t (*count)(void), uint64_t want);

/* Wait for a semaphore; fails the test after a minute. */
void await(sem_t *event);

#endif

#ifndef LASTCALL_TEST_WITH_GROUP_H
#define LASTCALL_TEST_WITH_GROUP_H

/* A real process before several upstreams, which are other lastcalls, or sockets of the test's own.
 */

#include "with_config.h"

#define UPSTREAMS 3

extern struct process front;
extern unsigned front_threads; /* of the next start_front() */
extern struct process upstreams[UPSTREAMS];

/* One whose answers say which it is: 0 is `x-who: a`. `more`: lines of its configuration. */
void start_upstream(unsigned i, uint16_t port, const char *more);
void start_upstreams(unsigned count);
void stop_upstream(unsigned i);

#define ALL "[\"http://127.0.0.1:%u/\", \"http://127.0.0.1:%u/\", \"http://127.0.0.1:%u/\"]"
#define TWO "[\"http://127.0.0.1:%u/\", \"http://127.0.0.1:%u/\"]"

/* `directives` and `urls` are lines of YAML; each %u in `urls` stands for the next of the ports. */
void start_front(const char *directives, const char *urls, const uint16_t ports[UPSTREAMS]);
void ports_of(uint16_t ports[UPSTREAMS]);

/* What the front answers to `method` with `more` fields; all connections are closed after it.
 * Owner: the caller. */
char *ask(const char *method, const char *more);
/* Which upstream answers with 200; '-': none does. */
char who(const char *method, const char *more);
/* Who answers `n` requests; [3]: how many are not answered with 200. */
void count_who(unsigned n, unsigned ret_counts[4]);

/* Does /status show the upstream in that state? Or: until it does, or shows it with no requests. */
bool is_state(size_t i, const char *want);
void wait_state(size_t i, const char *want);
void wait_idle(size_t i);
double metric(const char *name);

/* Of every test: the front's end is clean. */
int group_tear_down(void **state);

#endif

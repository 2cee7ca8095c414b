#ifndef LASTCALL_TEST_TARGET_H
#define LASTCALL_TEST_TARGET_H

/* An HTTP server in the test's own process that keeps all that it gets, byte by byte, and answers
 * as the path says: `/status/404` with that, `/flaky/2/...` twice with 503 and then with 200,
 * `/drop/2/...` twice with a closed connection; anything else with 200. */

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct target_request {
    char *head; /* request line and headers, as they came */
    char *body;
    size_t body_bytes;
    char key[64];                /* Idempotency-Key; "" without */
    unsigned attempt;            /* Lastcall-Replay */
    struct target_request *next; /* the one before */
};

struct target {
    int port;
    int listener;
    pthread_t thread;
    char url[64];
    pthread_mutex_t mu;
    pthread_cond_t changed;
    struct target_request *requests; /* the newest first */
    size_t count;
    size_t threads;
    bool held;        /* answers wait */
    size_t held_from; /* so do all answers from this request on, in the order of arrival; 0: none */
    bool over;
};

void target_start(struct target *target);
/* At the port of before. */
void target_start_again(struct target *target);
/* Close the listener and wait for its connections to end; requests are kept. */
void target_close(struct target *target);
/* And free them. */
void target_release(struct target *target);

/* Let no answer leave, or let them. */
void target_hold(struct target *target, bool held);
/* The same from request number `count` on (1 is the first since target_start()); 0: let them. */
void target_hold_from(struct target *target, size_t count);
/* Wait until it has got that many requests; fails the test after 30 s. */
void target_wait(struct target *target, size_t count);
size_t target_count(struct target *target);
/* How many came with this key. */
size_t target_count_key(struct target *target, const char *key);
/* The newest with this key; NULL without. Valid until the release. */
const struct target_request *target_find(struct target *target, const char *key);

#endif

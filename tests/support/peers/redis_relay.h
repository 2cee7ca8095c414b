#ifndef LASTCALL_TEST_REDIS_RELAY_H
#define LASTCALL_TEST_REDIS_RELAY_H

/* A TCP relay on 127.0.0.1 between a client and a redis-server that loses replies: Redis has run
 * the command, the relay reads the first bytes of the reply, and closes both connections. It serves
 * one connection at a time, and one command at a time on it. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Which replies are lost: of those to commands that hold `word`, each one after the first `skip`
 * that does not follow a lost one, `most` in all. */
struct redis_relay_rule {
    const char *word;
    unsigned skip, most;
    const char *then; /* a command that Redis runs after each loss, before the client can connect
                       * again; NULL: none */
};

struct redis_relay {
    uint16_t port;
    /* immutable while it runs */
    int listener;
    int redis_port;
    struct redis_relay_rule rule;
    pthread_t thread;
    /* the thread's; the test's after redis_relay_stop() */
    unsigned seen, lost;
    bool lost_last;
};

/* The texts of `rule` are borrowed until redis_relay_stop(). */
void redis_relay_start(struct redis_relay *relay, int redis_port,
                       const struct redis_relay_rule *rule);

/* Waits for the client to close its connection. `relay->lost` says how many replies were lost. May
 * be called again. */
void redis_relay_stop(struct redis_relay *relay);

#endif

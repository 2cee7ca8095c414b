#ifndef FAKE_EXCHANGE_H
#define FAKE_EXCHANGE_H

/* An exchange whose calls do what the test says, and keep what they were called with. */

#include <stddef.h>
#include <stdint.h>

#include "exchange.h"
#include "lastcall/lastcall.h"

#define FAKE_TOKEN 4711

struct fake {
    struct exchange exchange; /* first */
    /* what the calls return */
    int write_result, flush_result, cancelled_result, wait_result;
    int64_t left_ms;
    int hold_result;
    /* what they were called with */
    char written[4096];
    size_t written_bytes;
    unsigned writes, flushes, taken_back, let_go, finished;
    int64_t write_wait_ms, wait_ms;
    bool also_drain, was_kept;
    void (*cancel)(void *arg);
    void *cancel_arg;
    void (*told)(uint64_t token, int what, void *arg);
    void *told_arg;
    /* ---- */
    char memory[65536];
    size_t used;
    char scratch[EXCHANGE_SCRATCH];
};

static inline struct fake *fake_of_exchange(struct exchange *exchange)
{
    return (struct fake *)exchange;
}

/* A request for GET /. */
void fake_init(struct fake *fake);
void fake_release(struct fake *fake);

/* Have the handler of lc_name(server, name, ...) called with it, on this thread. */
void fake_run(struct fake *fake, lc_server *server, const char *name);

/* What exchange_hold() gives out for FAKE_TOKEN. */
void fake_can_be_held(struct fake *fake);

#endif

#ifndef LASTCALL_COUNTS_H
#define LASTCALL_COUNTS_H

/* What a loop counts for the coordinator. The loop alone writes; any thread reads. */

#include <stdatomic.h>
#include <stdint.h>

struct loop_counts {
    _Atomic uint64_t active;      /* requests from the gate to the end */
    _Atomic uint64_t connections; /* open ones, those that linger included */
    _Atomic uint64_t lingering;
    _Atomic uint64_t answered;
    _Atomic uint64_t accepted;
    _Atomic uint64_t idle_released;
    _Atomic uint64_t given_up;
    _Atomic uint64_t shed;
    _Atomic uint64_t handed_over;
    _Atomic uint64_t tunnels_told;  /* both sides got, or had sent, a Close frame */
    _Atomic uint64_t tunnels_cut;   /* a drain cut them */
    _Atomic uint64_t streams_ended; /* event streams that a drain ended between two events */
    _Atomic uint64_t abandoned;     /* jobs whose request has gone, until they come back */
};

/* Release: a thread that sees a count sees what its loop did before. So a request that is not
 * counted as active any more is counted as abandoned, or its slot in the record is free. */
static inline void count_add(_Atomic uint64_t *count, uint64_t n)
{
    /* One writer: a plain load and store are enough, and cost no locked instruction. */
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n,
                          memory_order_release);
}

static inline uint64_t count_get(_Atomic uint64_t *count)
{
    return atomic_load_explicit(count, memory_order_acquire); /* pairs with the release above */
}

#endif

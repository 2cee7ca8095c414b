#ifndef LASTCALL_IDLE_CLOSE_TURN_H
#define LASTCALL_IDLE_CLOSE_TURN_H

#include "conn.h"

/* Has the instant come that this connection has in a spread of `spread_ns`? */
static inline bool is_its_turn(const struct conn *conn, uint64_t since_ns, uint64_t spread_ns,
                               uint64_t now_ns)
{
    /* In steps of a 2^20th, which no product overflows: a spread of a day is one of 2^47 ns. */
    return now_ns - since_ns >= (spread_ns >> 20) * (conn->share >> 12);
}

#endif

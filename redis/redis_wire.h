#ifndef LASTCALL_REDIS_WIRE_H
#define LASTCALL_REDIS_WIRE_H

/* The bytes to and from a Redis server: a socket, with TLS if the URL asks for it. Reads and writes
 * never wait; connecting and redis_wire_wait() do, with the limits of redis.h.
 *
 * Thread: one at a time. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "redis.h"

struct redis_wire {
    int fd;
    struct ssl_st *ssl; /* NULL: no TLS */
    int cancel_fd;      /* borrowed; -1: no cancel */
    short wants;        /* the poll(2) events before the next try */
    char error[REDIS_ERROR_SIZE];
};

/* Connect, with a TLS handshake if the URL asks for TLS. After an error nothing is open.
 * Owner:  the caller; ends with redis_wire_close().     Blocks: until `until_ns`, and on the
 *         resolver.
 * Errors: 0; a negative errno, and `error` holds the cause. */
int redis_wire_open(struct redis_wire *wire, const struct redis_url *url, int cancel_fd,
                    uint64_t until_ns);

void redis_wire_close(struct redis_wire *wire);

/* Returns the number of bytes, at least 1.
 * Errors: -EAGAIN, wait for `wants`; -ECONNRESET, also at the end of file; -EPROTO, TLS failed;
 *         another negative errno. `error` holds the cause of all but the first. */
ssize_t redis_wire_read(struct redis_wire *wire, char *bytes, size_t size);
ssize_t redis_wire_write(struct redis_wire *wire, const char *bytes, size_t size);

/* Wait for `wants`, and clear it.
 * Errors: 0; -ETIMEDOUT; -ECANCELED; another negative errno. `error` holds the cause. */
int redis_wire_wait(struct redis_wire *wire, uint64_t until_ns);

#endif

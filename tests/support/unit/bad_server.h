#ifndef LASTCALL_BAD_SERVER_H
#define LASTCALL_BAD_SERVER_H

/* A server that does on purpose what servers must not do, to see whether the load client notices.
 * One thread, loopback only. It reads whole requests, then a script says what becomes of each. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bad_server;
struct bad_h2; /* one HTTP/2 connection of it */

enum bad_next { BAD_KEEP, BAD_CLOSE, BAD_RESET };

/* One of the functions is set. Both are called on the server's thread, with a whole request read;
 * `ordinal` counts the requests of the connection from 1. */
struct bad_script {
    enum bad_next (*answer)(int fd, unsigned ordinal);
    enum bad_next (*answer_h2)(struct bad_h2 *h, int32_t stream, unsigned ordinal);
    enum bad_next (*accepted)(int fd); /* before anything is read; NULL: keep */
    bool tls;                          /* with ALPN for the kind of answers it has */
};

struct bad_seen {
    uint64_t requests;
    uint64_t body_bytes;
    uint64_t connections;
    uint64_t resumed; /* TLS: of those */
};

/* Listen on a free port of 127.0.0.1 or ::1, or on a Unix socket, and start the thread.
 * Thread: any.     Blocks: never.
 * Errors: NULL when the machine has no such address. */
struct bad_server *bad_server_start(int family, const struct bad_script *script);

/* Where it listens, in the form of load_options.address.
 * Thread: any. */
const char *bad_server_address(const struct bad_server *s);

/* Close every connection, end the thread, free; what the server saw goes to *ret_seen (or NULL).
 * Thread: the one that started it.     Blocks: until the thread has ended. */
void bad_server_stop(struct bad_server *s, struct bad_seen *ret_seen);

/* For scripts. Thread: the server's. */
void bad_send(int fd, const char *text);
void bad_send_corked(int fd, const char *text); /* leaves together with the end of file */
void bad_h2_answer(struct bad_h2 *h, int32_t stream, const char *body);
void bad_h2_answer_half(struct bad_h2 *h, int32_t stream, const char *body); /* no END_STREAM */
void bad_h2_reset(struct bad_h2 *h, int32_t stream, uint32_t code);
void bad_h2_goaway(struct bad_h2 *h, int32_t last_stream);

#endif

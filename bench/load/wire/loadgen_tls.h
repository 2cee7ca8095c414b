#ifndef LASTCALL_LOADGEN_TLS_H
#define LASTCALL_LOADGEN_TLS_H

/* TLS below a wire: send() and recv(), with the same results and errno.     Thread: the run's. */

#include "loadgen_state.h"

enum load_tls_step { LOAD_TLS_DONE, LOAD_TLS_READS, LOAD_TLS_WRITES, LOAD_TLS_FAILED };

/* Without options->tls these two do nothing. 0 or -errno. */
int load_tls_create(struct load *l);
void load_tls_destroy(struct load *l);

/* Begin a session on a connected socket. 0 or -errno. */
int load_tls_open(struct load_conn *c);

/* Go on with the handshake: READS and WRITES say what it waits for. */
enum load_tls_step load_tls_shake(struct load_conn *c);

ssize_t load_tls_send(struct load_conn *c, const void *data, size_t len);
ssize_t load_tls_recv(struct load_conn *c, void *data, size_t len);

/* Has OpenSSL buffered input that epoll does not report? */
bool load_tls_has_more(const struct load_conn *c);

void load_tls_close(struct load_conn *c);

#endif

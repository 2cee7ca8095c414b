#ifndef LASTCALL_LINGER_H
#define LASTCALL_LINGER_H

/* Lingering close: what follows the last response of a connection. Thread: owner loop only. */

struct conn;

/* libh2o has closed its descriptor; ours goes on until the peer has what we sent. */
void linger_begin(struct conn *conn);

/* Stop lingering at once. */
void linger_end(struct conn *conn);

#endif

#ifndef LASTCALL_LOADGEN_CONN_H
#define LASTCALL_LOADGEN_CONN_H

/* One slot and its connection.     Thread: the run's. */

#include "loadgen_state.h"

/* ---- for the run ---- */

/* The slot's timer is due. */
void load_conn_due(struct load_conn *c);

/* Do everything that is due on this slot now. */
void load_conn_settle(struct load_conn *c);

/* epoll has reported `events`. */
void load_conn_event(struct load_conn *c, uint32_t events);

/* The run is over: end the open requests, close, retire. */
void load_conn_wind_up(struct load_conn *c);

/* ---- for the crowd ---- */

void load_conn_connect(struct load_conn *c);

/* End the open requests and close, in whatever phase the connection is. */
void load_conn_drop(struct load_conn *c, enum load_end how);

/* ---- for the wires ---- */

/* Write as much as the kernel takes; returns how much. After an error it takes nothing more: the
 * slot reads what the server had sent, then ends the connection. */
size_t load_conn_write(struct load_conn *c, const void *data, size_t len);

/* Call wire->flush() when the kernel takes more. */
void load_conn_want_write(struct load_conn *c, bool want);

#endif

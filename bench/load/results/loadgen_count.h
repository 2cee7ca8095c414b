#ifndef LASTCALL_LOADGEN_COUNT_H
#define LASTCALL_LOADGEN_COUNT_H

/* The outcome of every request.     Thread: the run's.
 *
 * Each request goes through begin, then perhaps sent and body, then answered or end. The wire sets
 * r->answer_begun and r->status. */

#include "loadgen_state.h"

void load_request_begin(struct load_conn *c, struct load_request *r);
void load_request_sent(struct load_conn *c, struct load_request *r);
void load_request_body(struct load_conn *c, struct load_request *r, const uint8_t *data,
                       size_t len);
void load_request_answered(struct load_conn *c, struct load_request *r);
void load_request_end(struct load_conn *c, struct load_request *r, enum load_end how);

/* connect() was refused, or the handshake failed: add to `counter` of the result. */
void load_count_refused(struct load_conn *c, uint64_t *counter);

/* Fill in the sums and percentiles of the result. */
void load_count_finish(struct load *l);

/* Write 16 hex digits, without a NUL. */
#define LOAD_NUMBER_DIGITS 16
void load_write_number(uint64_t number, char *digits);

#endif

#ifndef LASTCALL_LOADGEN_PACE_H
#define LASTCALL_LOADGEN_PACE_H

/* Slow readers and slow senders.     Thread: the run's. */

#include "loadgen_state.h"

/* How many bytes may be read now, up to `room`. */
size_t load_pace_read_room(const struct load_conn *c, size_t room);

/* `len` bytes were read: pause if the rate requires it. */
void load_pace_read(struct load_conn *c, size_t len);

/* How many bytes of a body may be written now, up to `room`; 0: not yet, wire->flush() is called
 * when it is time. */
size_t load_pace_send_room(struct load_conn *c, size_t room);

/* `len` bytes of a body were written. */
void load_pace_sent(struct load_conn *c, size_t len);

#endif

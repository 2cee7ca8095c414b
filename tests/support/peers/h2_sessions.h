#ifndef LASTCALL_TEST_H2_SESSIONS_H
#define LASTCALL_TEST_H2_SESSIONS_H

/* Sessions of HTTP/2 that are nearly valid, made from a number: the same number makes the same
 * frames in the same order. What the two kernels and the server do in between may differ. */

#include <stdint.h>

/* Play the session `seed` against the server on that port of 127.0.0.1, which has files `40k` and
 * `1000` under /files/, and close the connection. Returns the number of frames sent; 0: there is no
 * such server. Fails no test: it may run in a process of its own. */
unsigned h2_session_play(uint16_t port, uint64_t seed);

#endif

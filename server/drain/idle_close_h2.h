#ifndef LASTCALL_IDLE_CLOSE_H2_H
#define LASTCALL_IDLE_CLOSE_H2_H

/* Idle close of HTTP/2. Thread: owner loop only. */

#include <stdbool.h>
#include <stdint.h>

struct loop;

/* Take each connection a step further. True: look again in a millisecond. */
bool idle_close_h2(struct loop *loop, uint64_t now_ns);

#endif

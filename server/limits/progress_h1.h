#ifndef LASTCALL_PROGRESS_H1_H
#define LASTCALL_PROGRESS_H1_H

#include <stdint.h>

struct loop;

/* Look at all connections of HTTP/1, and cut those that make no progress.
 * Thread: owner loop only. */
void progress_look_h1(struct loop *loop, uint64_t now_ns);

#endif

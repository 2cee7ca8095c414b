#ifndef LASTCALL_IDLE_CLOSE_H1_H
#define LASTCALL_IDLE_CLOSE_H1_H

/* Idle close of HTTP/1. Thread: owner loop only. */

#include <stdbool.h>
#include <stdint.h>

struct conn;
struct loop;

/* Note which clients have all of their last response. */
void idle_close_h1_note(struct loop *loop, uint64_t now_ns);

/* Close those whose grace is over. */
void idle_close_h1(struct loop *loop, uint64_t now_ns);

/* Has this connection idled for long enough, and has its instant in the spread passed? */
bool h1_is_grace_over(const struct conn *conn);

#endif

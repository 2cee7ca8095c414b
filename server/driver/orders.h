#ifndef LASTCALL_ORDERS_H
#define LASTCALL_ORDERS_H

struct loop;

/* The hook `woken`: carry out the orders that came in, and answer the jobs that are done. */
void orders_carry_out(struct loop *loop, unsigned orders);

#endif

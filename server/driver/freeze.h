#ifndef LASTCALL_FREEZE_H
#define LASTCALL_FREEZE_H

/* Lists for the coordinator, and the frozen loop. Thread: owner loop only, between two turns. */

struct loop;

/* ORDER_LIST: make the list, and announce it. */
void freeze_list(struct loop *loop);

/* ORDER_FREEZE: touch no socket, so no answer leaves. The list that is made now is the truth: what
 * is not on it has been handed to the kernel whole. Ends with ORDER_CUT or ORDER_EXIT: then every
 * connection is cut.     Blocks: yes. */
void freeze_stay(struct loop *loop);

/* The start of the server failed half-way: cut every connection. */
void freeze_without_list(struct loop *loop);

#endif

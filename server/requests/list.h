#ifndef LASTCALL_LIST_H
#define LASTCALL_LIST_H

/* Lists of what a loop has not answered. Thread: owner loop only. */

struct coord_requests;
struct loop;

/* Append the requests that are in flight, or have begun to arrive. */
void list_requests(struct loop *loop, struct coord_requests *ret_list);

/* Append what has arrived and was not read; accepts and closes what was not accepted. Frozen only,
 * after list_requests(). */
void list_unread(struct loop *loop, struct coord_requests *list);

#endif

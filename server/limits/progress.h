#ifndef LASTCALL_PROGRESS_H
#define LASTCALL_PROGRESS_H

/* Clients that do not move. Thread: owner loop only. */

struct loop;

/* There is a connection to look at. */
void progress_begin(struct loop *loop);

/* Look no more. */
void progress_stop(struct loop *loop);

#endif

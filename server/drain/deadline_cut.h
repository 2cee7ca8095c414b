#ifndef LASTCALL_DEADLINE_CUT_H
#define LASTCALL_DEADLINE_CUT_H

struct loop;

/* Cut what is in one of these classes (bits of enum drain_class), now that their deadline has come.
 * Thread: owner loop only, between two turns. */
void deadline_cut_due(struct loop *loop, unsigned classes);

#endif

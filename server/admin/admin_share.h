#ifndef LASTCALL_ADMIN_SHARE_H
#define LASTCALL_ADMIN_SHARE_H

/* The admin address, when a process starts while another one drains. The draining process answers
 * there until its end, because probes and operators ask there how the drain goes; a process that is
 * started meanwhile with the same command line needs the same address. So the old process lends its
 * listeners to a new process of the same user:
 *
 *     new: the address is taken ---- connect ----> old, if its listeners are closed
 *          opens the rest, as if inherited <------ LISTENER ..., BEGIN
 *          accepts ------------------- SETTLED --> accepts no more; its connections stay
 *
 * Until SETTLED the old process answers, and it goes on if the new one fails. The new process finds
 * the old one by an abstract Unix socket (unix(7)) whose name is a digest of the address. Abstract
 * sockets belong to a network namespace, as ports do, and have no permissions: so both sides check
 * the user of the other. */

#include <stdbool.h>

struct admin;

/* Offer the listeners if the drain is past the point of no return and no process has taken them.
 * Thread: the admin thread. */
void admin_share_look(struct admin *admin);

/* Close the sockets for that.     Thread: the admin thread, at its end. */
void admin_share_stop(struct admin *admin);

/* The address is taken: borrow the listeners of a draining process into the inheritance, which is
 * searched first. False: there is no such process.     Thread: main only, before start.
 * Blocks: some 300 ms for a process that is about to drain, a second for one that does not answer.
 */
bool admin_share_borrow(struct admin *admin);

/* This process accepts on them; or it gives them back.     Thread: as admin_accept(); main. */
void admin_share_settle(struct admin *admin);
void admin_share_give_up(struct admin *admin);

#endif

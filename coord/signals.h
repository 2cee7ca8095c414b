#ifndef LASTCALL_SIGNALS_H
#define LASTCALL_SIGNALS_H

/* The signal thread. Every signal that concerns the server is blocked in every thread before the
 * first thread starts; this one takes them synchronously and hands each to the coordinator. There
 * is no signal handler, so nothing here is restricted to async-signal-safe functions. */

#include <signal.h>

#include "coord.h"

struct signals;

/* Block what signals_start() will wait for, and SIGCHLD for app.h; ignore SIGPIPE.
 * Thread: main only, before any other thread starts.     Errors: 0; a negative errno. */
int signals_block(void);

/* Processes that are started with fork(2), such as an application or a command that takes the log,
 * get signals as if signals_block() had not been, or nobody could end them; and a process group of
 * their own, since a Ctrl+C at the terminal is for us: they are needed until the drain is over.
 * Thread: main only, once.     Errors: 0; a negative errno. */
int signals_spare_children(void);

/* What SIGUSR1 asks for; it is called on the signal thread. NULL, as before the first call:
 * nothing. Thread: main only, before signals_start(). */
void signals_on_reopen(void (*reopen)(void));

/* Who may have a use for a signal that we have none for (SIGHUP, SIGUSR2, SIGWINCH), and for one
 * that asks for a drain which is over: returns whether it took it. It is called on the signal
 * thread. NULL, as before the first call: nobody.     Thread: main only, before signals_start(). */
void signals_on_spare(bool (*take)(void *arg, int signo), void *arg);
/* What SIGHUP and SIGUSR2 ask for; it is called on the signal thread, with the signal's name and
 * the sender. NULL, as before the first call: nothing. Thread: main only, before signals_start().
 */
void signals_on_restart(void (*restart)(void *arg, const char *name, const char *detail),
                        void *arg);

/* The signals that were blocked before signals_block().     Thread: any, behind that. */
void signals_unblocked(sigset_t *ret_mask);

/* Those that signals_block() blocks.     Thread: any. */
void signals_wanted(sigset_t *ret_set);

/* Start the thread. Signals that came since signals_block() are pending and are taken now.
 * SIGINT, SIGTERM and SIGQUIT ask for the drain; the second of them forces; at the third this
 * thread leaves by _exit(2) with COORD_EXIT_FORCED. Owner:  the caller; ends with signals_stop().
 * Thread: any.     Errors: 0; a negative errno. */
int signals_start(struct coord *coord, struct signals **ret_signals);

/* Stop and join the thread. NULL is allowed.     Thread: any but the signal thread. */
void signals_stop(struct signals *signals);

#endif

#ifndef LASTCALL_SIGNALS_H
#define LASTCALL_SIGNALS_H

/* The signal thread. Every signal that the server uses is blocked in every thread, before the first
 * thread starts. This thread takes them with sigwaitinfo(2) and passes each to the coordinator.
 * There is no signal handler, so none of this code is restricted to async-signal-safe functions. */

#include <signal.h>

#include "coord.h"

struct signals;

/* Block the signals that signals_start() will wait for, and SIGCHLD for app.h; unblock all others.
 * Ignore SIGPIPE and SIGXFSZ, and undo what the parent ignored. Exception: SIGHUP, SIGINT and
 * SIGQUIT stay ignored if they were, see signals_is_meant().
 * Thread: main only, before any other thread starts.     Errors: 0; a negative errno. */
int signals_block(void);

/* Is this signal for us (`code` and `sender` as in siginfo_t)? nohup(1) ignores SIGHUP; a shell
 * without job control ignores SIGINT and SIGQUIT for a program that it starts with `&`, so that the
 * terminal does not reach it. If a signal was ignored when this process began, it is not for us
 * when the terminal sends it, nor is a SIGHUP from our session's leader, the shell that ends. A
 * signal that another process sends with kill(2) is an order.
 * Thread: any, after signals_block(). */
bool signals_is_meant(int signo, int code, pid_t sender);
void signals_log_not_meant(int signo);

/* Children of fork(2), such as an application or a command that reads the log, start with the
 * signal mask and dispositions from before signals_block(), so that they can be ended by signals.
 * They get a process group of their own, because Ctrl+C at the terminal is for us, and they are
 * needed until the drain is over.     Thread: main only, once.     Errors: 0; a negative errno. */
int signals_spare_children(void);

/* Set the callback for SIGUSR1. It is called on the signal thread. NULL (the default): ignore the
 * signal.     Thread: main only, before signals_start(). */
void signals_on_reopen(void (*reopen)(void *arg), void *arg);

/* Set the callback for signals that the server does not use (SIGHUP, SIGUSR2, SIGWINCH), and for
 * stop signals after the end of the drain. It returns whether it used the signal, and is called on
 * the signal thread. NULL (the default): none.     Thread: main only, before signals_start(). */
void signals_on_spare(bool (*take)(void *arg, int signo), void *arg);
/* Set the callback for SIGHUP and SIGUSR2. It is called on the signal thread, with the signal's
 * name and the sender. NULL (the default): none.     Thread: main only, before signals_start(). */
void signals_on_restart(void (*restart)(void *arg, const char *name, const char *detail),
                        void *arg);

/* The signals that signals_block() blocks.     Thread: any. */
void signals_blocked(sigset_t *ret_set);

/* The signals that the signal thread takes.     Thread: any. */
void signals_wanted(sigset_t *ret_set);

/* Start the thread. Signals that came since signals_block() are pending and are taken now. SIGINT,
 * SIGTERM and SIGQUIT request the drain; the second one that counts (stops.h) forces; at the third
 * this thread leaves by _exit(2) with EXIT_STATUS_FORCED.
 * Owner:  the caller; ends with signals_stop().     Thread: any.     Errors: 0; a negative errno.
 */
int signals_start(struct coord *coord, struct signals **ret_signals);

/* Stop and join the thread. NULL is allowed.     Thread: any but the signal thread. */
void signals_stop(struct signals *signals);

#endif

#ifndef LASTCALL_EARLY_H
#define LASTCALL_EARLY_H

/* SIGHUP, SIGUSR1 and SIGUSR2 are blocked before main(), and before the constructors of the
 * libraries. They ask for a restart or for reopening the log files, but the kernel's default action
 * ends the process. Signals that arrive now wait for the signal thread. (Signals that arrive while
 * the dynamic linker loads the libraries, some milliseconds, cannot be blocked here; a successor or
 * a worker starts with them blocked, see succession.c.) */

/* For a command, which is not a server: restore the signal mask.
 * Thread: main only, before any other starts. */
void early_undo(void);

#endif

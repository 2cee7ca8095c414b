#ifndef LASTCALL_SUCCESSION_P_H
#define LASTCALL_SUCCESSION_P_H

/* What the files of a succession share:
 *
 *     succession_events.c   the successor's messages, its exit, time
 *     succession.c          carries out what the rules (restart.h) say
 *     succession_report.c   why it failed
 *     succession_spawn.c    starts the process
 *     succession_stderr.c   the process's standard error
 *
 * Each file calls only files below it in this list, and the owner's hooks. */

#include "succession.h"

/* ---- succession_spawn.c ---- */

/* Start the process, and send it HELLO.
 * Errors: 0; a positive errno: there is no process, but succession_release() has to be called. */
int succession_spawn(struct succession *succession);

/* ---- succession_stderr.c ---- */

/* Read what there is and pass it on. */
void succession_read_stderr(struct succession *succession);

/* Pass on a last line without a newline. */
void succession_flush_stderr(struct succession *succession);

/* Its last three lines as one. Returns `text`. */
const char *succession_last_lines(struct succession *succession, char *text, size_t size);

/* ---- succession_report.c ---- */

/* The restart has failed: log why, note it in `failure`, call failed(). */
void succession_report(struct succession *succession);

/* A successor that had been told to accept is about to be killed: log why. */
void succession_log_kill(const struct succession *succession);

#endif

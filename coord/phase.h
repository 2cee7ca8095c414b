#ifndef LASTCALL_PHASE_H
#define LASTCALL_PHASE_H

/* The phases of the process. One list makes the enum, the names in log, report and tests, and the
 * table of allowed steps: they cannot drift apart.
 *
 *                        lame duck over,       listeners          nothing active,
 *                        forced                closed             no connection
 *     RUNNING --> LAME_DUCK ---------> CLOSING ---------> DRAINING -------> DONE
 *        |  ^        |                 ^    |                |                ^
 *        |  +--------+                 |    |  deadline,     |  deadline,     |
 *        |   undrain                   |    |  forced        v  forced        |
 *        +------ no lame duck ---------+    +----------> ABORTING ------------+
 *                                                              archived
 *
 *     phase      what is true                          who may still act         what ends it
 *     RUNNING    ready, keep-alive on                  all                       a trigger
 *     LAME_DUCK  still accepting, answers carry        all                       its time, undrain,
 *                Connection: close                                               a second signal
 *     CLOSING    no new handshake begins; those that   connections that the      the last listener
 *                the kernel has taken are accepted     kernel has accepted       is closed
 *     DRAINING   no listener is open                   open connections may send nothing active,
 *                                                      until idle-grace; jobs    no connection;
 *                                                      may still be submitted    or the deadline
 *     ABORTING   the unfinished are archived and cut   none                      both are done
 *     DONE       report written, status decided        none                      -
 *
 * The point of no return is the step into CLOSING. */

#include <stdbool.h>

#define COORD_PHASES(X)                                                                            \
    X(RUNNING, "running")                                                                          \
    X(LAME_DUCK, "lame-duck")                                                                      \
    X(CLOSING, "closing")                                                                          \
    X(DRAINING, "draining")                                                                        \
    X(ABORTING, "aborting")                                                                        \
    X(DONE, "done")

#define COORD_PHASE_ENUM(id, name) PHASE_##id,
enum coord_phase { COORD_PHASES(COORD_PHASE_ENUM) PHASE_COUNT };
#undef COORD_PHASE_ENUM

/* Thread: any. */
const char *phase_name(enum coord_phase phase);

/* Is the step in the table?     Thread: any. */
bool phase_step_is_allowed(enum coord_phase from, enum coord_phase to);

#endif

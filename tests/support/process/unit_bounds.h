#ifndef LASTCALL_TEST_UNIT_BOUNDS_H
#define LASTCALL_TEST_UNIT_BOUNDS_H

/* The bounds that deploy/systemd/lastcall.service sets, put on a process without systemd: its
 * capabilities, its system calls, and the folders that it may write to. The values are read from
 * the unit, so that a test follows it. */

#include <stdbool.h>
#include <stddef.h>

/* The values of `name` in the unit, in order, separated by spaces; "" if there is none.
 * Static memory, valid until the next call. */
const char *unit_setting(const char *name);

/* The whole command of a line such as ExecStart=, the first one. As unit_setting(). */
const char *unit_command(const char *name);

/* Why these bounds cannot be set here; NULL: they can. */
const char *unit_bounds_missing(void);

/* From now on process_spawn() starts its child within the bounds. `without`: one of the unit's
 * capabilities that the child is not to have; NULL: it has all of them. It sees a /run, a /var/lib
 * and a /var/log of its own, with the folders that systemd would make there; a test reads them
 * through /proc/PID/root. */
void unit_bounds_on(const char *without);
void unit_bounds_off(void);

/* Can system calls be filtered in this build? If not, the bounds come without it. */
bool unit_bounds_filter(void);

#endif

#ifndef LASTCALL_CLI_TEXT_H
#define LASTCALL_CLI_TEXT_H

/* Text for people: cleaned, cut to the width of a terminal, durations in readable units. */

#include <stddef.h>

#include "clock.h"

/* Copy `text` to `buf`, at most `columns` columns. A character that the locale cannot print, a
 * control character or one without width becomes `?`, so that text from a client cannot move the
 * cursor. Text that was cut ends in `...` if there is room. Returns `buf`.     Thread: any. */
char *cli_clean(const char *text, char *buf, size_t size, size_t columns);

/* Milliseconds as `450ms`, `7.2s` or `2m10s`. Returns `buf`.     Thread: any. */
char *cli_duration(double ms, char buf[CLOCK_TEXT_SIZE]);

#endif

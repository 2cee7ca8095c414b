#ifndef LASTCALL_CLI_TERMINAL_H
#define LASTCALL_CLI_TERMINAL_H

/* The terminal and the signals that concern it. Signals arrive on a signalfd, so that one poll
 * covers signals, keys and the server, and a command can restore the terminal before it obeys a
 * signal. Drawing uses plain ANSI sequences. */

#include <stdbool.h>
#include <stddef.h>

/* Block the signals that end, stop or resize a terminal program, and return a signalfd for them.
 * Thread: main only.     Errors: a negative errno. */
int cli_signals_open(void);

/* The next pending signal; 0: none.     Thread: main only.     Blocks: never. */
int cli_signals_take(int fd);

/* Let `signo` take its default action: the process ends, or it stops and this returns after
 * SIGCONT.     Thread: main only. */
void cli_signals_obey(int signo);

/* Columns and rows of standard output; 80 and 24 if unknown.     Thread: any. */
void cli_terminal_size(size_t *ret_columns, size_t *ret_rows);

/* Switch to the alternate screen, hide the cursor, and deliver each key at once, without echo.
 * Thread: main only.     Errors: 0; a negative errno, -ENOTTY if this is not a terminal. */
int cli_screen_enter(void);

/* Undo cli_screen_enter(), if it was called.     Thread: main only. */
void cli_screen_leave(void);

/* Draw `text` (lines that end in \n) from the top left corner, in one write.
 * Thread: main only. */
void cli_screen_show(const char *text, size_t size);

#endif

#ifndef LASTCALL_CLI_TERMINAL_H
#define LASTCALL_CLI_TERMINAL_H

/* The terminal, and the signals that have to do with it. Signals come as input on a descriptor, so
 * that one wait covers all there is to wait for; a command that is told to end puts the terminal
 * right first. Plain ANSI sequences, which every terminal of this century knows. */

#include <stdbool.h>
#include <stddef.h>

/* Block the signals that end or resize a terminal program, and return a descriptor that they come
 * on instead; negative errno: it cannot be had.     Thread: main only. */
int cli_signals_open(void);

/* The next of them; 0: there is none.     Thread: main only.     Blocks: never. */
int cli_signals_take(int fd);

/* Be as if `signo` had never been blocked: the terminal is stopped, or the process ends by it.
 * Returns where the signal only stops, once it goes on.     Thread: main only. */
void cli_signals_obey(int signo);

/* Columns and rows of standard output; 80 and 24 where it does not say.     Thread: any. */
void cli_terminal_size(size_t *ret_columns, size_t *ret_rows);

/* Take the whole screen, hide the cursor, and have keys as they are pressed.
 * Thread: main only.     Errors: 0; a negative errno: this is no terminal. */
int cli_screen_enter(void);

/* Put everything back; nothing where it is back already.     Thread: main only. */
void cli_screen_leave(void);

/* Show `text`, lines with their ends, from the top left corner, in one write.     Thread: main
 * only.
 */
void cli_screen_show(const char *text, size_t size);

#endif

#ifndef LASTCALL_TEST_COMMAND_H
#define LASTCALL_TEST_COMMAND_H

/* The commands of the program, `lastcall COMMAND ...`, and other programs that tests need a moment:
 * started with pipes or on a terminal of their own, their output gathered, every wait bounded. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct command {
    pid_t pid;   /* on a terminal: of the one that leads its session, as a shell would */
    int status;  /* exit status; -1 while it runs; 128 + n when signal n ended it */
    int out_fd;  /* on a terminal: its other side */
    int err_fd;  /* -1 on a terminal, where both are one */
    int end_fd;  /* on a terminal: its status comes here; -1 */
    int stay_fd; /* on a terminal: the session's leader exits when this is closed; -1 */
    char *out, *err;
    size_t out_bytes, err_bytes;
};

/* Start `argv` (NULL-terminated). argv[0] NULL stands for the program under test. */
void command_start(struct command *command, const char *const *argv);

/* The same on a pseudo-terminal of that size. */
void command_start_on_terminal(struct command *command, unsigned columns, unsigned rows,
                               const char *const *argv);

/* Wait until standard output (or the terminal) holds `text` after its first `from` bytes; fails
 * the test after a minute, or when the output ends without it. Returns how many bytes there are. */
size_t command_wait_output(struct command *command, size_t from, const char *text);

/* Wait for the end; another status than `want` fails the test and shows the output. */
void command_expect(struct command *command, int want);

/* command_start() and command_expect(). */
void command_run(struct command *command, int want, const char *const *argv);

/* The same as the user nobody, which must be able to reach the program. The caller is root. */
void command_run_as_nobody(struct command *command, int want, const char *const *argv);

/* Free what is held; kills the process if it still runs. */
void command_release(struct command *command);

#endif

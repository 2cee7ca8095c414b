#ifndef LASTCALL_TEST_COMMAND_H
#define LASTCALL_TEST_COMMAND_H

/* A command of the real binary that ends by itself: what it says, on both outputs, and how. */

#include <sys/types.h>

struct command {
    pid_t pid;
    int fd;
    int status; /* 128 + n when signal n ended it */
    char *text;
};

/* Start lastcall with `argv` (without argv[0], NULL-terminated). */
void command_start(struct command *command, const char *const *argv);

/* Wait for its end, and read all that it said; kills it and fails the test after 60 s. */
int command_wait(struct command *command);

/* Both, and another status than `want` fails the test. */
void command_run(struct command *command, int want, const char *const *argv);

void command_release(struct command *command);

/* Teardown of every test: end what a failed test left running. */
int command_kill_left(void **state);

#endif

#ifndef LASTCALL_TEST_TOOL_H
#define LASTCALL_TEST_TOOL_H

/* A command of the real binary that ends by itself: its output, on both streams, and its status. */

#include <sys/types.h>

struct tool {
    pid_t pid;
    int fd;
    int status; /* 128 + n when signal n ended it */
    char *text; /* all that it wrote so far */
    size_t bytes;
};

/* Start lastcall with `argv` (without argv[0], NULL-terminated). */
void tool_start(struct tool *tool, const char *const *argv);

/* Wait until its output holds `text`; fails the test after 60 s, or when it ends without it. */
void tool_wait_text(struct tool *tool, const char *text);

/* Wait for its exit, and read all its output; kills it and fails the test after 60 s. */
int tool_wait(struct tool *tool);

/* Both, and another status than `want` fails the test. */
void tool_run(struct tool *tool, int want, const char *const *argv);

void tool_release(struct tool *tool);

/* Teardown of every test: end what a failed test left running. */
int tool_kill_left(void **state);

#endif

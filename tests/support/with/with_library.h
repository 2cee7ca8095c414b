#ifndef LASTCALL_TEST_WITH_LIBRARY_H
#define LASTCALL_TEST_WITH_LIBRARY_H

/* Servers of the library in the test's own process, as a program of somebody else's has them: only
 * the public header is used. Their paths are /hello, which answers at once, and /sleep?ms=N, which
 * blocks a worker, with &ignore-cancel=1 also where the drain has cut it. */

#include <stdbool.h>
#include <stddef.h>

#include "lastcall/lastcall.h"

/* Make the configuration file in a directory of the group's own, and remove both. */
int library_group_setup(void **state);
int library_group_teardown(void **state);

/* What a server has logged. */
struct library_log {
    char text[65536]; /* each line as `event: text`, one below the other */
    size_t size;
    unsigned long lines;
};

/* Have it log there; NULL: where nobody reads. */
void library_log_to(lc_server *server, struct library_log *log);
/* A server at a free port of 127.0.0.1 with two loops, that logs into `log`; a setting may still be
 * changed. NULL: into one that nobody reads. */
lc_server *library_new(struct library_log *log);
/* The same, started. */
lc_server *library_start(struct library_log *log);
/* The file with the paths. */
const char *library_conf(void);

/* -1: nobody accepts. */
int library_connect(int port);
/* Send a request and return the socket; -1: nobody accepts. */
int library_ask(int port, const char *path);
/* Wait for the answer and close the socket. Returns its status; 0: none came. */
int library_answer(int fd);
int library_get(int port, const char *path);
/* Of this process. */
size_t library_descriptors(void);
size_t library_threads(void);
/* How many times the test is to be done: $LASTCALL_CYCLES, or `usual`. */
unsigned library_cycles(unsigned usual);

#endif

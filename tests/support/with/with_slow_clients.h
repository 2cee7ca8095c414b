#ifndef LASTCALL_TEST_WITH_SLOW_CLIENTS_H
#define LASTCALL_TEST_WITH_SLOW_CLIENTS_H

/* A process with a short window for the progress of its clients, and a file that is too large for
 * the buffers between them. */

#include "with_config.h"

/* For clients that are to stay: a machine that stands still does not make them late. */
#define MILD ARGS("--progress-window", "3s", "--progress-rate", "50")
#define FILES                                                                                      \
    LISTEN "hosts: {default: {paths: {/: {file.dir: @}, /sleep: {handler: sleep}, "                \
           "/stream: {handler: stream}, /hello: {handler: hello}}}}\n"

/* Of each program: with_config_set_up(), and 64 MiB as /big. */
int with_slow_clients_set_up(void **state);

/* The pace of a client. */
void pause_ms(long ms);

#endif

#ifndef LASTCALL_LOADGEN_WATCH_H
#define LASTCALL_LOADGEN_WATCH_H

/* Whether the server has exited.     Thread: the run's. */

#include "loadgen_state.h"

/* Add a pidfd of options->server_pid to the epoll set, if there is one. 0 or -errno. */
int load_watch_open(struct load *l);
void load_watch_close(struct load *l);

/* Has it exited? Asks options->server_is_gone(), and /proc if there is no pidfd. */
bool load_watch_poll(const struct load *l);

/* Note that it has exited. */
void load_watch_gone(struct load *l);

#endif

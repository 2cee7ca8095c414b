#ifndef LASTCALL_STATUS_H
#define LASTCALL_STATUS_H

#include "server_state.h"

/* Register the block `main` of libh2o's status page, which `/status/json?show=main` selects.
 * Thread: before start. */
void status_register(struct server *server);

#endif

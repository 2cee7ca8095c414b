#ifndef LASTCALL_STATUS_H
#define LASTCALL_STATUS_H

#include "server_p.h"

/* The block `main` of the library's status page, as `/status/json?show=main` selects it.
 * Thread: before start. */
void status_register(struct server *server);

#endif

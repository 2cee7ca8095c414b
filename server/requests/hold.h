#ifndef LASTCALL_HOLD_H
#define LASTCALL_HOLD_H

/* Requests that wait for the application. See hold.c. */

#include <stdbool.h>
#include <stdint.h>

#include "h2o_api.h"

struct loop;
struct server;

/* Let requests of a path wait while they would go to the application; before its proxy's handler.
 * Thread: main only, before start. */
void hold_register(h2o_pathconf_t *path);

/* ---- Thread: owner loop only ---- */

/* Count one more request that waits, for the application or for an upstream, and count it off.
 * False: as many wait as may, or bodies as large. */
bool hold_admit(struct server *server, uint64_t body_bytes);
void hold_unadmit(struct server *server, uint64_t body_bytes);

/* The application answers: give the requests to its proxy. */
void hold_release_all(struct loop *loop);
/* After the sockets were cut: end the requests that wait. */
void hold_give_up_all(struct loop *loop);
/* Its timer will not run any more. */
void hold_stop(struct loop *loop);

#endif

#ifndef LASTCALL_GATE_H
#define LASTCALL_GATE_H

/* The first handler of every path: from here on a request is active. See gate.c.
 * All of these: Thread: main only, before start. */

#include "h2o_api.h"
#include "loop_metrics.h"

/* Register the gate on a path, before any other handler. */
void gate_register(h2o_pathconf_t *path);

/* On a path that requests come to from another one, and end on: only the end is seen. Such a path
 * may have one handler. */
void gate_register_inner(h2o_pathconf_t *path);

/* On a host's fallback path, which also answers what never reaches a handler. */
void gate_register_fallback(h2o_pathconf_t *path);

/* One more kind of handler is on the path; for the metrics. */
void gate_note_kind(h2o_pathconf_t *path, enum route_kind kind);

/* Requests of the path get an id (claims.h); `shows`: their answers carry it. */
void gate_note_ids(h2o_pathconf_t *path, bool shows);

/* Entity tags of files may be given out as weak ones on this path. */
void gate_note_weak_tags(h2o_pathconf_t *path);

#endif

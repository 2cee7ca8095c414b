#ifndef LASTCALL_METRICS_H
#define LASTCALL_METRICS_H

struct server;

/* All of it in the text format 0.0.4 of Prometheus.
 * Owner: the caller, free(3); NULL without memory.     Thread: any, between server_start() and
 * server_destroy().     Blocks: never. */
char *metrics_text(struct server *server);

#endif

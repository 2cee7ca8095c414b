#ifndef LASTCALL_CLI_SSE_H
#define LASTCALL_CLI_SSE_H

/* A parser for server-sent events (WHATWG HTML, section 9.2): bytes in, events out. */

#include <stdbool.h>
#include <stddef.h>

/* The parser drops an event larger than this. */
#define CLI_SSE_MAX ((size_t)4 * 1024 * 1024)

struct cli_sse {
    char *line, *data; /* incomplete */
    size_t line_bytes, line_room, data_bytes, data_room;
    char name[32]; /* of the event; "" means "message" */
    bool after_cr, too_large;
};

/* Feed bytes, in pieces of any size; `on_event` is called for each complete event, with its name
 * and its data, both borrowed.     Thread: any. */
void cli_sse_feed(struct cli_sse *sse, const char *bytes, size_t size,
                  void (*on_event)(void *arg, const char *name, const char *data), void *arg);

/* Thread: any. */
void cli_sse_release(struct cli_sse *sse);

#endif

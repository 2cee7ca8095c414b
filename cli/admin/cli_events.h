#ifndef LASTCALL_CLI_EVENTS_H
#define LASTCALL_CLI_EVENTS_H

/* The event stream of an admin listener (GET /events): each event is a whole status. */

#include <jansson.h>

#include "cli_server.h"

struct cli_stream;

enum cli_next {
    CLI_NEXT_STATUS, /* a new status has arrived */
    CLI_NEXT_FD,     /* one of the descriptors is readable */
    CLI_NEXT_TIME,   /* nothing happened for `wait_ms` */
    CLI_NEXT_END,    /* the stream has ended */
};

/* Begin GET /events.     Owner: the caller; ends with cli_stream_close().
 * Thread: main only.     Errors: 0 and *ret_stream; the exit status, after the message. */
int cli_stream_open(const struct cli_server *server, struct cli_stream **ret_stream);

/* Wait for the first of these. `fds` (at most four) are polled for input.
 * Thread: main only.     Blocks: up to `wait_ms`. */
enum cli_next cli_stream_next(struct cli_stream *stream, const int *fds, unsigned fd_count,
                              int wait_ms);

/* The newest status, borrowed until the next call; NULL: none yet.     Thread: main only. */
const json_t *cli_stream_status(const struct cli_stream *stream);

/* After CLI_NEXT_END: if the stream failed, print why and return the exit status; 0 if the server
 * ended it after at least one status.     Thread: main only. */
int cli_stream_explain(const struct cli_stream *stream);

/* NULL is allowed.     Thread: main only. */
void cli_stream_close(struct cli_stream *stream);

#endif

#ifndef LASTCALL_DIAL_H
#define LASTCALL_DIAL_H

/* Connects to an upstream: looks its name up, tries all addresses of it, and shakes hands for TLS.
 *
 * The addresses are tried in the order of getaddrinfo(3), families in turn, beginning with the one
 * that answered last (RFC 8305 in short): the next one as soon as one has failed, or after
 * DIAL_NEXT_MS without an answer; the first that is connected is taken, and the others are closed.
 *
 * A Unix socket whose backlog is full refuses at once (EAGAIN, connect(2)), where TCP would wait;
 * and no event tells that there is room. So it is tried again, after 1 ms at first and
 * DIAL_AGAIN_MOST_MS at most, until the time of all is over.
 *
 * Thread: owner loop only.     Blocks: never. */

#include "upstream_pool.h"

#define DIAL_ADDRESSES_MAX 8
#define DIAL_NEXT_MS 250
#define DIAL_AGAIN_MOST_MS 32

struct dial;

/* `sock` is connected; or NULL, and `failure` and `what` say why. The dial is gone. */
typedef void dial_done(void *data, h2o_socket_t *sock, enum upstream_failure failure,
                       const char *what);

/* Begin. `done` is called later, never from here. */
struct dial *dial_begin(struct upstream *upstream, dial_done *done, void *data);
/* Forget it: `done` is not called. */
void dial_cancel(struct dial *dial);

#endif

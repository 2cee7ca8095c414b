#ifndef LASTCALL_REPLAY_REDIS_H
#define LASTCALL_REPLAY_REDIS_H

/* A source that reads a stream in Redis; outcomes are acknowledgements there. */

#include <stdint.h>

#include "redis_url.h"
#include "replay_source.h"

/* Is the value of --from a URL of Redis, and not a path?     Thread: any. */
bool replay_is_redis(const char *from);

/* Open the stream. An entry that another replayer has not touched for `claim_after_ns` is claimed.
 * Owner:  *ret_source is the caller's; `url` and `filter` are borrowed until its close().
 * Thread: main only.
 * Errors: an enum replay_exit; `error` (REPLAY_ERROR_SIZE bytes) has the message. */
int replay_redis_open(const struct redis_url *url, const struct replay_filter *filter, bool dry_run,
                      uint64_t claim_after_ns, struct replay_source **ret_source, char *error);

#endif

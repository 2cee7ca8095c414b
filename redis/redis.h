#ifndef LASTCALL_REDIS_H
#define LASTCALL_REDIS_H

/* A connection to Redis: hiredis, with a limit on every wait.
 *
 * A call ends with its answer, when CLOCK_MONOTONIC reads `until_ns`, or when the descriptor
 * `cancel_fd` becomes readable. Only resolving a host name may take longer: the resolver has limits
 * of its own (resolv.conf(5)). An address or a Unix socket needs no resolver.
 *
 * A build without hiredis has the same interface, and redis_open() returns -ENOTSUP. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "redis_url.h"

struct redis;
struct redis_reply;

/* Was this program built with hiredis?     Thread: any. */
bool redis_is_built(void);

#define REDIS_ERROR_SIZE 160

/* Connect, authenticate, and select the database. `error` holds the cause for a message that names
 * the server. cancel_fd -1: no cancel.
 * Owner:  the caller; ends with redis_close(). The url is not kept; cancel_fd is borrowed until
 *         then.     Thread: any, one at a time.     Blocks: until `until_ns`, and on the resolver.
 * Errors: 0 and *ret_redis; -ENOTSUP without hiredis; -ECANCELED; another negative errno. */
int redis_open(const struct redis_url *url, int cancel_fd, uint64_t until_ns,
               struct redis **ret_redis, char error[REDIS_ERROR_SIZE]);

/* NULL is allowed.     Thread: the last user's. */
void redis_close(struct redis *redis);

/* Send one command and receive its answer. `lengths` NULL: the arguments are texts.
 * Owner:  the reply is the caller's, redis_reply_free().     Thread: one at a time.
 * Blocks: until `until_ns`.
 * Errors: 0 and *ret_reply; -EREMOTEIO, the server refused: redis_error() has its message, and the
 *         connection can still be used; any other negative errno: the connection is lost and can
 *         only be closed, redis_error() says why. */
int redis_call(struct redis *redis, uint64_t until_ns, size_t argc, const char *const *argv,
               const size_t *lengths, struct redis_reply **ret_reply);

/* The two halves of redis_call(), to send several commands at once: the answers come in order.
 * Errors: as redis_call(). */
int redis_send(struct redis *redis, size_t argc, const char *const *argv, const size_t *lengths);
int redis_take(struct redis *redis, uint64_t until_ns, struct redis_reply **ret_reply);

/* The text of the last failure.     Thread: one at a time. */
const char *redis_error(const struct redis *redis);

/* ---- replies; NULL is allowed everywhere.     Thread: any ---- */

void redis_reply_free(struct redis_reply *reply);
/* 0: not a number. */
long long redis_reply_integer(const struct redis_reply *reply);
/* NULL: not a text. */
const char *redis_reply_text(const struct redis_reply *reply, size_t *ret_length);
/* The length of a list; 0: not a list. */
size_t redis_reply_count(const struct redis_reply *reply);
bool redis_reply_is_list(const struct redis_reply *reply);
/* Is it nil, for a key that does not exist? */
bool redis_reply_is_nil(const struct redis_reply *reply);
/* NULL after the end. */
const struct redis_reply *redis_reply_at(const struct redis_reply *reply, size_t at);

#endif

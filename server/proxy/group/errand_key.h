#ifndef LASTCALL_ERRAND_KEY_H
#define LASTCALL_ERRAND_KEY_H

#include "upstream_group.h"

/* The key of a request for `proxy.balance: hash(...)`. False: it has none, for example because it
 * lacks the cookie.     Thread: owner loop only.     Blocks: never. */
bool errand_key(const struct group_rules *rules, h2o_req_t *req, uint64_t *ret_key);

#endif

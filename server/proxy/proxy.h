#ifndef LASTCALL_PROXY_H
#define LASTCALL_PROXY_H

/* The reverse proxy: `proxy.reverse.url`, and what `reproxy` asks for. docs/proxy.md says what it
 * does; libh2o's configurator reads its directives, and the two functions below take the place of
 * libh2o's (mends/replaced.c). */

#include <stdbool.h>

#include "upstream_group.h"

/* What the next route has beside h2o_proxy_config_vars_t. 0: what libh2o's directives say. */
struct proxy_extras {
    uint64_t connect_ms;      /* proxy.timeout.connect; 0: io_timeout */
    uint64_t first_byte_ms;   /* proxy.timeout.first_byte; 0: io_timeout */
    size_t buffer_bytes;      /* proxy.buffer */
    bool sends_forwarded;     /* proxy.forwarded */
    struct group_rules rules; /* proxy.balance and others */
};

/* One upstream of `proxy.reverse.url`, or of `fastcgi.connect`. */
struct proxy_member {
    h2o_url_t url; /* borrowed until the route is registered; FastCGI: unused */
    unsigned weight;
    bool is_backup;
};

/* All of them, for the next route that is registered. */
struct proxy_members {
    struct upstream_group **groups; /* of the server: the route's is appended */
    h2o_iovec_t host;               /* that the route is of */
    size_t count;
    struct proxy_member list[GROUP_MEMBERS_MAX];
};

#define PROXY_BUFFER_DEFAULT ((size_t)64 * 1024)

/* Set the extras of the routes that are registered from now on.     Thread: before start. */
void proxy_set_extras(const struct proxy_extras *extras);

/* Set the upstreams of the next route; borrowed until then.     Thread: before start. */
void proxy_set_members(const struct proxy_members *members);

/* In place of h2o_proxy_register_reverse_proxy(), with its arguments: `url` is the first member's.
 * Thread: before start. */
void proxy_register(h2o_pathconf_t *path, h2o_url_t *url, h2o_proxy_config_vars_t *vars);

/* In place of h2o__proxy_process_request(): forward a request whose method, path and authority are
 * set.     Thread: owner loop only.     Blocks: never. */
void proxy_process(h2o_req_t *req);

/* An internal redirect turns HEAD into GET, and the client would get the body of that: make it HEAD
 * again.     Thread: owner loop only.     Blocks: never. */
void proxy_restore_head(h2o_req_t *req);

#endif

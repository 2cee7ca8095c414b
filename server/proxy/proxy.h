#ifndef LASTCALL_PROXY_H
#define LASTCALL_PROXY_H

/* The reverse proxy: `proxy.reverse.url`, and what `reproxy` asks for. docs/proxy.md says what it
 * does; libh2o's configurator reads its directives, and the two functions below take the place of
 * libh2o's (mends/replaced.c). */

#include "h2o_api.h"

/* What the next route has beside h2o_proxy_config_vars_t. 0: what libh2o's directives say. */
struct proxy_extras {
    uint64_t connect_ms;    /* proxy.timeout.connect; 0: io_timeout */
    uint64_t first_byte_ms; /* proxy.timeout.first_byte; 0: io_timeout */
    size_t buffer_bytes;    /* proxy.buffer */
};

#define PROXY_BUFFER_DEFAULT ((size_t)64 * 1024)

/* Set the extras of the routes that are registered from now on.     Thread: before start. */
void proxy_set_extras(const struct proxy_extras *extras);

/* In place of h2o_proxy_register_reverse_proxy(), with its arguments.     Thread: before start. */
void proxy_register(h2o_pathconf_t *path, h2o_url_t *url, h2o_proxy_config_vars_t *vars);

/* In place of h2o__proxy_process_request(): forward a request whose method, path and authority are
 * set.     Thread: owner loop only.     Blocks: never. */
void proxy_process(h2o_req_t *req);

#endif

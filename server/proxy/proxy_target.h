#ifndef LASTCALL_PROXY_TARGET_H
#define LASTCALL_PROXY_TARGET_H

/* Where an upstream is: a name, an address or a Unix socket, and whether it speaks TLS. */

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "h2o_api.h"

struct proxy_target {
    char *name; /* for the log: scheme, host and port */
    char *host; /* without brackets */
    char port[6];
    bool is_tls;
    bool is_unix;
    socklen_t len; /* of `address`; 0: the host is to be looked up */
    struct sockaddr_storage address;
};

/* Fill it from a URL, in memory of `pool`.
 * Thread: any.     Blocks: never.
 * Errors: NULL; a text: the address of its Unix socket is no good. */
const char *proxy_target_init(struct proxy_target *target, h2o_mem_pool_t *pool,
                              const h2o_url_t *url);

/* The same from a name or an address, and a port; `scheme` stands in the log.
 * Thread: any.     Blocks: never. */
void proxy_target_init_host(struct proxy_target *target, h2o_mem_pool_t *pool, const char *scheme,
                            const char *host, uint16_t port);
/* The same from the path of a Unix socket.     Thread: any.     Blocks: never. */
void proxy_target_init_unix(struct proxy_target *target, h2o_mem_pool_t *pool, const char *scheme,
                            const struct sockaddr_un *address);

#endif

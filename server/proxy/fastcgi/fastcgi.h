#ifndef LASTCALL_FASTCGI_H
#define LASTCALL_FASTCGI_H

/* Routes to FastCGI applications: `fastcgi.connect` and `fastcgi.spawn`. docs/fastcgi.md says what
 * they do; libh2o's configurator reads their directives, and starts the program of `fastcgi.spawn`.
 * The functions below take the place of libh2o's (mends/replaced.c). */

#include "h2o_api.h"
#include "proxy.h"

/* Set the extras of the routes that are registered from now on.     Thread: before start. */
void fastcgi_set_extras(const struct proxy_extras *extras);

/* Set the applications of the next route: so many of the registrations below, one after the other,
 * make it. Borrowed until then.     Thread: before start. */
void fastcgi_set_members(const struct proxy_members *members);

/* Is the one that was registered last at another address than those of its route before it?
 * Thread: before start. */
bool fastcgi_is_member_new(void);

/* These two replace h2o_fastcgi_register_by_hostport() and _by_address(), and take their arguments.
 * Thread: before start. */
h2o_handler_t *fastcgi_register_host(h2o_pathconf_t *path, const char *host, uint16_t port,
                                     const h2o_fastcgi_config_vars_t *vars);
/* The address is that of a Unix socket. */
h2o_handler_t *fastcgi_register_unix(h2o_pathconf_t *path, const struct sockaddr *address,
                                     const h2o_fastcgi_config_vars_t *vars);

#endif

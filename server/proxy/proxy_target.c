#include "proxy_target.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static void set_inet(struct proxy_target *target, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

    if (inet_pton(AF_INET, target->host, &in.sin_addr) == 1) {
        memcpy(&target->address, &in, sizeof(in));
        target->len = sizeof(in);
    } else if (inet_pton(AF_INET6, target->host, &in6.sin6_addr) == 1) {
        memcpy(&target->address, &in6, sizeof(in6));
        target->len = sizeof(in6);
    }
}

static char *make_name(h2o_mem_pool_t *pool, const h2o_url_t *url)
{
    return h2o_concat(pool, url->scheme->name, h2o_iovec_init(H2O_STRLIT("://")), url->authority)
        .base;
}

const char *proxy_target_init(struct proxy_target *target, h2o_mem_pool_t *pool,
                              const h2o_url_t *url)
{
    struct sockaddr_un un;
    const char *error = h2o_url_host_to_sun(url->host, &un);
    uint16_t port = h2o_url_get_port(url);

    memset(target, 0, sizeof(*target));
    target->name = make_name(pool, url);
    target->host = h2o_strdup(pool, url->host.base, url->host.len).base;
    (void)snprintf(target->port, sizeof(target->port), "%u", port);
    target->is_tls = url->scheme == &H2O_URL_SCHEME_HTTPS;
    target->is_unix = error != h2o_url_host_to_sun_err_is_not_unix_socket;
    if (!target->is_unix) {
        set_inet(target, port);
        return NULL;
    }
    if (error != NULL)
        return error;
    memcpy(&target->address, &un, sizeof(un));
    target->len = sizeof(un);
    return NULL;
}

static h2o_iovec_t text(const char *bytes)
{
    return h2o_iovec_init(bytes, strlen(bytes));
}

void proxy_target_init_host(struct proxy_target *target, h2o_mem_pool_t *pool, const char *scheme,
                            const char *host, uint16_t port)
{
    bool is_v6 = strchr(host, ':') != NULL;

    memset(target, 0, sizeof(*target));
    (void)snprintf(target->port, sizeof(target->port), "%u", port);
    target->host = h2o_strdup(pool, host, SIZE_MAX).base;
    target->name = h2o_concat(pool, text(scheme), text(is_v6 ? "://[" : "://"), text(host),
                              text(is_v6 ? "]:" : ":"), text(target->port))
                       .base;
    set_inet(target, port);
}

void proxy_target_init_unix(struct proxy_target *target, h2o_mem_pool_t *pool, const char *scheme,
                            const struct sockaddr_un *address)
{
    h2o_iovec_t path =
        h2o_iovec_init(address->sun_path, strnlen(address->sun_path, sizeof(address->sun_path)));

    memset(target, 0, sizeof(*target));
    target->is_unix = true;
    target->name = h2o_concat(pool, text(scheme), text("://[unix:"), path, text("]")).base;
    target->host = target->name;
    memcpy(&target->address, address, sizeof(*address));
    target->len = sizeof(*address);
}

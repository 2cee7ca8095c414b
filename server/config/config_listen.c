#include <grp.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "config_p.h"
#include "log.h"

/* The directive `listen`, with h2o's semantics: a global address serves all hosts, an address in a
 * host only that host. The same address may stand in several hosts, with a certificate for each. */

struct ssl_nodes {
    yoml_t *certificate, *key, *ciphers, *dh;
};

struct listen {
    yoml_t *node;
    yoml_t *host, *port, *type, *owner, *group, *permission;
    yoml_t *ssl;
    struct ssl_nodes nodes;
    struct tls_certificate certificate;
    bool proxy_protocol;
    struct listener_how how;
};

static int parse_mapping(h2o_configurator_command_t *cmd, struct listen *listen)
{
    static const char known[] = "host, port, type, owner, group, permission, proxy-protocol, ssl";
    static const struct {
        const char *name;
        size_t at;
    } texts[] = {
        {"host", offsetof(struct listen, host)},
        {"port", offsetof(struct listen, port)},
        {"type", offsetof(struct listen, type)},
        {"owner", offsetof(struct listen, owner)},
        {"group", offsetof(struct listen, group)},
        {"permission", offsetof(struct listen, permission)},
    };

    for (size_t i = 0; i < listen->node->data.mapping.size; i++) {
        yoml_mapping_element_t *element = &listen->node->data.mapping.elements[i];
        const char *key =
            element->key->type == YOML_TYPE_SCALAR ? element->key->data.scalar : "(not a text)";
        bool is_known = false;
        for (size_t j = 0; j < sizeof(texts) / sizeof(texts[0]); j++)
            if (strcmp(key, texts[j].name) == 0) {
                yoml_t **slot = (void *)((char *)listen + texts[j].at);
                if (!config_get_text(cmd, listen->node, key, slot))
                    return -1;
                is_known = true;
            }
        if (strcmp(key, "ssl") == 0) {
            listen->ssl = element->value;
        } else if (strcmp(key, "proxy-protocol") == 0) {
            if (config_get_switch(cmd, element->value, &listen->proxy_protocol) != 0)
                return -1;
        } else if (!is_known) {
            return config_unknown_key(cmd, element->key, known);
        }
    }
    return 0;
}

static int parse(h2o_configurator_command_t *cmd, struct listen *listen)
{
    unsigned mode;
    char rest;

    if (listen->node->type == YOML_TYPE_SCALAR)
        listen->port = listen->node;
    else if (listen->node->type != YOML_TYPE_MAPPING)
        return config_fail(cmd, listen->node, "want a port, or a mapping with port, host, ssl ...");
    else if (parse_mapping(cmd, listen) != 0)
        return -1;
    if (listen->port == NULL)
        return config_fail(cmd, listen->node, "there is no port");
    listen->how = (struct listener_how){
        .fastopen = (unsigned)config_options(cmd)->tcp_fastopen,
        .owner = listen->owner != NULL ? listen->owner->data.scalar : NULL,
        .group = listen->group != NULL ? listen->group->data.scalar : NULL,
        .mode = -1,
        .dry_run = config_options(cmd)->test ||
                   config_options(cmd)->listen_count > 0, /* the flag overrides it */
    };
    if (listen->owner != NULL && getpwnam(listen->owner->data.scalar) == NULL)
        return config_fail(cmd, listen->owner, "there is no user %s", listen->owner->data.scalar);
    if (listen->group != NULL && getgrnam(listen->group->data.scalar) == NULL)
        return config_fail(cmd, listen->group, "there is no group %s", listen->group->data.scalar);
    if (listen->permission != NULL) {
        if (sscanf(listen->permission->data.scalar, "%o%c", &mode, &rest) != 1 || mode > 0777)
            return config_fail(cmd, listen->permission,
                               "permission must be an octal number up to 777");
        listen->how.mode = (int)mode;
    }
    return 0;
}

/* ---- ssl ---- */

static int version_of(const char *text)
{
    static const struct {
        const char *name;
        int version;
    } versions[] = {
        {"sslv2", SSL3_VERSION},     {"sslv3", SSL3_VERSION},     {"tlsv1", TLS1_VERSION},
        {"tlsv1.0", TLS1_VERSION},   {"tlsv1.1", TLS1_1_VERSION}, {"tlsv1.2", TLS1_2_VERSION},
        {"tlsv1.3", TLS1_3_VERSION},
    };
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++)
        if (strcasecmp(text, versions[i].name) == 0)
            return versions[i].version;
    return -1;
}

static int parse_ssl(h2o_configurator_command_t *cmd, yoml_t *ssl, struct ssl_nodes *ret_nodes,
                     struct tls_certificate *ret)
{
    if (ssl->type != YOML_TYPE_MAPPING)
        return config_fail(cmd, ssl, "ssl must be a mapping with certificate-file and key-file");
    for (size_t i = 0; i < ssl->data.mapping.size; i++) {
        yoml_t *key = ssl->data.mapping.elements[i].key,
               *value = ssl->data.mapping.elements[i].value;
        if (key->type != YOML_TYPE_SCALAR || value->type != YOML_TYPE_SCALAR)
            return config_fail(cmd, value, "every key of ssl has one text or number");
        const char *name = key->data.scalar, *text = value->data.scalar;
        int *version = NULL;
        if (strcmp(name, "certificate-file") == 0) {
            ret_nodes->certificate = value;
            ret->certificate_file = text;
        } else if (strcmp(name, "key-file") == 0) {
            ret_nodes->key = value;
            ret->key_file = text;
        } else if (strcmp(name, "cipher-suite") == 0) {
            ret_nodes->ciphers = value;
            ret->ciphers = text;
        } else if (strcmp(name, "dh-file") == 0) {
            ret_nodes->dh = value;
            ret->dh_file = text;
        } else if (strcmp(name, "minimum-version") == 0 || strcmp(name, "min-version") == 0) {
            version = &ret->version_min;
        } else if (strcmp(name, "maximum-version") == 0 || strcmp(name, "max-version") == 0) {
            version = &ret->version_max;
        } else if (strcmp(name, "cipher-preference") == 0) {
            if (strcasecmp(text, "client") != 0 && strcasecmp(text, "server") != 0)
                return config_fail(cmd, value, "cipher-preference must be client or server");
            ret->prefer_own_ciphers = strcasecmp(text, "server") == 0;
        } else if (strncmp(name, "ocsp-", 5) == 0) {
            if (strcmp(name, "ocsp-update-interval") != 0 || strcmp(text, "0") != 0)
                h2o_configurator_errprintf(
                    cmd, key, "[warning] %s is ignored: OCSP responses are not stapled", name);
        } else if (strcmp(name, "neverbleed") == 0) {
            if (strcasecmp(text, "ON") == 0)
                h2o_configurator_errprintf(
                    cmd, key, "[warning] neverbleed is ignored: this process has the keys");
        } else {
            return config_unknown_key(cmd, key,
                                      "certificate-file, key-file, minimum-version, "
                                      "maximum-version, cipher-suite, cipher-preference, dh-file");
        }
        if (version != NULL && (*version = version_of(text)) < 0)
            return config_fail(cmd, value, "%s %s: want tlsv1, tlsv1.1, tlsv1.2 or tlsv1.3", name,
                               text);
    }
    if (ret_nodes->certificate == NULL || ret_nodes->key == NULL)
        return config_fail(cmd, ssl, "ssl has no %s-file",
                           ret_nodes->certificate == NULL ? "certificate" : "key");
    return 0;
}

static int add_tls(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                   const struct listen *listen, struct listener *listener)
{
    const struct tls_certificate *certificate = &listen->certificate;
    const struct ssl_nodes *nodes = &listen->nodes;
    char error[512];

    if (listener->tls == NULL && (listener->tls = tls_new()) == NULL)
        return config_fail(cmd, listen->ssl, "no memory for TLS");
    h2o_iovec_t host =
        ctx->hostconf != NULL ? ctx->hostconf->authority.host : (h2o_iovec_t){NULL, 0};
    /* If several hosts name the same file, it is one certificate, with the settings of the first.
     */
    if (ctx->hostconf != NULL &&
        tls_add_name(listener->tls, certificate->certificate_file, host.base, host.len))
        return 0;
    enum tls_fault fault = tls_add(listener->tls, certificate, error, sizeof(error));
    if (fault != TLS_NO_FAULT)
        return config_fail(cmd,
                           fault == TLS_FAULT_CERTIFICATE ? nodes->certificate
                           : fault == TLS_FAULT_KEY       ? nodes->key
                           : fault == TLS_FAULT_CIPHERS   ? nodes->ciphers
                           : fault == TLS_FAULT_DH        ? nodes->dh
                                                          : listen->ssl,
                           "%s", error);
    if (ctx->hostconf != NULL)
        (void)tls_add_name(listener->tls, certificate->certificate_file, host.base, host.len);
    return 0;
}

/* ---- addresses ---- */

static bool serves(const struct listener *listener, const h2o_hostconf_t *host)
{
    for (size_t i = 0; listener->hosts != NULL && listener->hosts[i] != NULL; i++)
        if (listener->hosts[i] == host)
            return true;
    return host == NULL && listener->hosts == NULL;
}

static int add_host(h2o_configurator_command_t *cmd, yoml_t *node, struct listener *listener,
                    h2o_hostconf_t *host)
{
    size_t n = 0;

    while (listener->hosts != NULL && listener->hosts[n] != NULL)
        n++;
    h2o_hostconf_t **grown = realloc(listener->hosts, (n + 2) * sizeof(*grown));
    if (grown == NULL)
        return config_fail(cmd, node, "no memory");
    grown[n] = host;
    grown[n + 1] = NULL;
    listener->hosts = grown;
    return 0;
}

static int add_address(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                       const struct listen *listen, const char *name,
                       const struct sockaddr *address, socklen_t length)
{
    struct server *server = config_server(cmd);
    struct listener *listener = listener_find(&server->listeners, address, length);
    bool is_new = listener == NULL;
    char error[512];

    if (is_new) {
        if (listener_open_address(&server->listeners, name, address, length, &listen->how, error,
                                  sizeof(error)) != 0) {
            config_reader(cmd)->listen_failed = true;
            return config_fail(cmd, listen->node, "%s", error);
        }
        listener = &server->listeners.items[server->listeners.count - 1];
        listener->expects_proxy_line = listen->proxy_protocol;
    } else if (serves(listener, ctx->hostconf)) {
        return config_fail(cmd, listen->node, "%s is given twice", name);
    } else if (listener->expects_proxy_line != listen->proxy_protocol) {
        return config_fail(cmd, listen->node, "proxy-protocol of %s is %s elsewhere", name,
                           listen->proxy_protocol ? "OFF" : "ON");
    } else if ((listener->tls != NULL) != (listen->ssl != NULL)) {
        return config_fail(cmd, listen->node, "%s has %s elsewhere", name,
                           listen->ssl != NULL ? "no ssl" : "ssl");
    }
    if (listen->ssl != NULL && add_tls(cmd, ctx, listen, listener) != 0)
        return -1;
    if (is_new && listen->ssl != NULL)
        listener_name_tls(listener);
    /* A global address serves every host already. */
    if (ctx->hostconf != NULL && (is_new || listener->hosts != NULL))
        return add_host(cmd, listen->node, listener, ctx->hostconf);
    return 0;
}

static int listen_unix(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                       const struct listen *listen)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = listen->port->data.scalar;
    char name[LISTENER_NAME_SIZE];

    if (path[0] == '\0' || strlen(path) >= sizeof(address.sun_path))
        return config_fail(cmd, listen->port, "the path of a Unix socket must have 1 to %zu bytes",
                           sizeof(address.sun_path) - 1);
    (void)strcpy(address.sun_path, path);
    (void)snprintf(name, sizeof(name), "unix:%s", path);
    return add_address(cmd, ctx, listen, name, (const struct sockaddr *)&address, sizeof(address));
}

static int listen_tcp(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      const struct listen *listen)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found;
    const char *host = listen->host != NULL ? listen->host->data.scalar : NULL;
    const char *port = listen->port->data.scalar;
    char name[LISTENER_NAME_SIZE], *end;

    unsigned long number = strtoul(port, &end, 10);
    if (port[0] < '0' || port[0] > '9' || *end != '\0' || number > UINT16_MAX)
        return config_fail(cmd, listen->port, "port %s: want a number from 0 to 65535", port);
    if (listen->owner != NULL || listen->group != NULL || listen->permission != NULL)
        return config_fail(cmd, listen->node, "owner, group and permission are for type: unix");
    int gai = getaddrinfo(host, port, &hints, &found);
    if (gai != 0)
        return config_fail(cmd, listen->host != NULL ? listen->host : listen->port,
                           "cannot listen on %s:%s: %s", host != NULL ? host : "*", port,
                           gai_strerror(gai));
    int ret = 0;
    for (const struct addrinfo *a = found; a != NULL && ret == 0; a = a->ai_next) {
        char numeric[64] = "?";
        bool is_v6 = a->ai_family == AF_INET6;
        (void)getnameinfo(a->ai_addr, a->ai_addrlen, numeric, sizeof(numeric), NULL, 0,
                          NI_NUMERICHOST);
        (void)snprintf(name, sizeof(name), "%s%s%s:%s", is_v6 ? "[" : "", numeric, is_v6 ? "]" : "",
                       port);
        ret = add_address(cmd, ctx, listen, name, a->ai_addr, a->ai_addrlen);
    }
    freeaddrinfo(found);
    return ret;
}

int config_listen(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    struct listen listen = {.node = node};

    if (parse(cmd, &listen) != 0)
        return -1;
    if (listen.ssl != NULL && parse_ssl(cmd, listen.ssl, &listen.nodes, &listen.certificate) != 0)
        return -1;
    const char *type = listen.type != NULL ? listen.type->data.scalar : "tcp";
    if (strcmp(type, "unix") == 0)
        return listen_unix(cmd, ctx, &listen);
    if (strcmp(type, "tcp") == 0)
        return listen_tcp(cmd, ctx, &listen);
    return config_fail(cmd, listen.type, "type %s: want tcp or unix", type);
}

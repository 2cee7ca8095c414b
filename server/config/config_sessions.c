#include "config_p.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The directive `ssl-session-resumption`: how clients resume TLS sessions, see tickets.h. */

static bool is_one_of(const yoml_t *node, const char *a, const char *b)
{
    return node->type == YOML_TYPE_SCALAR &&
           (strcasecmp(node->data.scalar, a) == 0 || strcasecmp(node->data.scalar, b) == 0);
}

static int check_store(h2o_configurator_command_t *cmd, yoml_t *node, const char *name,
                       const char *also)
{
    yoml_t *store = yoml_get(node, name);

    if (store == NULL || is_one_of(store, "internal", also))
        return 0;
    if (is_one_of(store, "memcached", "memcached"))
        return config_fail(cmd, store, "%s memcached: sessions are kept in this process only",
                           name);
    return config_fail(cmd, store, "%s must be internal%s%s", name, also[0] != 'i' ? " or " : "",
                       also[0] != 'i' ? also : "");
}

#define LIFETIME_MAX (7 * 24 * 3600) /* RFC 8446 section 4.6.1 */

static int check_resumption_keys(h2o_configurator_command_t *cmd, yoml_t *node)
{
    static const char *const known[] = {"mode",
                                        "cache-store",
                                        "ticket-store",
                                        "ticket-file",
                                        "lifetime",
                                        "ticket-cipher",
                                        "ticket-hash",
                                        "memcached",
                                        "cache-memcached-num-threads",
                                        "cache-memcached-prefix",
                                        "ticket-memcached-key"};

    for (size_t i = 0; i < node->data.mapping.size; i++) {
        yoml_t *key = node->data.mapping.elements[i].key;
        bool is_known = false;
        for (size_t j = 0; j < sizeof(known) / sizeof(known[0]); j++)
            is_known |= key->type == YOML_TYPE_SCALAR && strcmp(key->data.scalar, known[j]) == 0;
        if (!is_known)
            return config_unknown_key(cmd, key,
                                      "mode, cache-store, ticket-store, ticket-file, "
                                      "ticket-cipher, ticket-hash, lifetime");
    }
    return 0;
}

static int on_resumption(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                         yoml_t *node)
{
    struct server *server = config_server(cmd);
    struct tickets_config config = {.lifetime = TICKETS_LIFETIME};
    yoml_t *mode, *store, *file, *cipher, *digest, *lifetime;
    char error[256];

    (void)ctx;
    if (check_resumption_keys(cmd, node) != 0 || !config_get_text(cmd, node, "mode", &mode) ||
        !config_get_text(cmd, node, "ticket-store", &store) ||
        !config_get_text(cmd, node, "ticket-file", &file) ||
        !config_get_text(cmd, node, "ticket-cipher", &cipher) ||
        !config_get_text(cmd, node, "ticket-hash", &digest) ||
        !config_get_text(cmd, node, "lifetime", &lifetime))
        return -1;
    if (mode == NULL)
        return config_fail(cmd, node, "it has no mode (off, all, cache or ticket)");
    config.cache = is_one_of(mode, "all", "cache");
    config.tickets = is_one_of(mode, "all", "ticket");
    if (!config.cache && !config.tickets && !is_one_of(mode, "off", "off"))
        return config_fail(cmd, mode, "mode must be off, all, cache or ticket");
    if ((config.cache && check_store(cmd, node, "cache-store", "internal") != 0) ||
        (config.tickets && check_store(cmd, node, "ticket-store", "file") != 0))
        return -1;
    if (config.tickets && store != NULL && strcasecmp(store->data.scalar, "file") == 0) {
        if (file == NULL)
            return config_fail(cmd, store, "ticket-store file needs a ticket-file");
        config.file = file->data.scalar;
    }
    if (lifetime != NULL) {
        char *end;
        unsigned long seconds = strtoul(lifetime->data.scalar, &end, 10);
        if (lifetime->data.scalar[0] < '1' || lifetime->data.scalar[0] > '9' || *end != '\0' ||
            seconds > LIFETIME_MAX)
            return config_fail(cmd, lifetime, "lifetime %s: want a number of seconds, from 1 to %d",
                               lifetime->data.scalar, LIFETIME_MAX);
        config.lifetime = (unsigned)seconds;
    }
    config.cipher = cipher != NULL ? cipher->data.scalar : NULL;
    config.digest = digest != NULL ? digest->data.scalar : NULL;
    tickets_free(server->tickets); /* a repeated directive replaces the one before */
    server->tickets = tickets_new(&config, error, sizeof(error));
    return server->tickets != NULL ? 0 : config_fail(cmd, node, "%s", error);
}

/* ---- the table ---- */

void config_define_sessions(struct config_reader *reader)
{
    static const struct config_directive directives[] = {
        {"ssl-session-resumption", CONFIG_GLOBAL | CONFIG_MAPPING, on_resumption},
    };

    config_define(reader, directives, sizeof(directives) / sizeof(directives[0]));
}

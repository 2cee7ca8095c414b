#include "config_p.h"

#include <string.h>

#include "fastcgi.h"

/* Directives of the proxy and of FastCGI that libh2o 2.2.5 lacks. Like its own, they hold for the
 * level that they stand on and those below: the whole, a host, a path. The two times of the proxy
 * are those of later versions of h2o, in milliseconds. */

#define LEVELS (CONFIG_ALL | CONFIG_EXTENSION | CONFIG_SCALAR)
#define TIME_MOST_MS ((uint64_t)24 * 3600 * 1000)
#define BUFFER_LEAST ((size_t)8 * 1024)
#define BUFFER_MOST ((size_t)16 * 1024 * 1024)

struct level {
    struct proxy_extras proxy, fastcgi;
};

static struct level *level_of(h2o_configurator_command_t *cmd)
{
    return config_level(cmd->configurator);
}

struct proxy_extras *config_proxy_extras(h2o_configurator_command_t *cmd)
{
    struct level *level = level_of(cmd);

    return strncmp(cmd->name, "fastcgi.", 8) == 0 ? &level->fastcgi : &level->proxy;
}

static int on_connect(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      yoml_t *node)
{
    (void)ctx;
    return config_get_number(cmd, node, 1, TIME_MOST_MS, &config_proxy_extras(cmd)->connect_ms);
}

static int on_first_byte(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                         yoml_t *node)
{
    (void)ctx;
    return config_get_number(cmd, node, 1, TIME_MOST_MS, &config_proxy_extras(cmd)->first_byte_ms);
}

static int on_buffer(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    uint64_t bytes;

    (void)ctx;
    if (config_get_number(cmd, node, BUFFER_LEAST, BUFFER_MOST, &bytes) != 0)
        return -1;
    config_proxy_extras(cmd)->buffer_bytes = bytes;
    return 0;
}

static int on_forwarded(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                        yoml_t *node)
{
    (void)ctx;
    return config_get_switch(cmd, node, &config_proxy_extras(cmd)->sends_forwarded);
}

void config_define_proxy(h2o_globalconf_t *conf)
{
    static const struct config_directive directives[] = {
        {"fastcgi.buffer", LEVELS, on_buffer},
        {"fastcgi.timeout.connect", LEVELS, on_connect},
        {"fastcgi.timeout.first_byte", LEVELS, on_first_byte},
        {"proxy.buffer", LEVELS, on_buffer},
        {"proxy.forwarded", LEVELS, on_forwarded},
        {"proxy.timeout.connect", LEVELS, on_connect},
        {"proxy.timeout.first_byte", LEVELS, on_first_byte},
    };
    h2o_configurator_t *reader = config_levels_create(conf, sizeof(struct level), NULL);
    struct level *whole = config_level(reader);

    whole->proxy.buffer_bytes = whole->fastcgi.buffer_bytes = PROXY_BUFFER_DEFAULT;
    config_upstreams_default(&whole->proxy.rules);
    config_upstreams_default(&whole->fastcgi.rules);
    for (size_t i = 0; i < sizeof(directives) / sizeof(directives[0]); i++)
        h2o_configurator_define_command(reader, directives[i].name, directives[i].flags,
                                        directives[i].cb);
    config_define_upstreams(reader);
}

void config_use_proxy(h2o_globalconf_t *conf)
{
    const struct level *level = level_of(h2o_configurator_get_command(conf, "proxy.buffer"));

    proxy_set_extras(&level->proxy);
    fastcgi_set_extras(&level->fastcgi);
}

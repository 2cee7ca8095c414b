#include "config_p.h"

#include <string.h>

#include "container_of.h"
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

struct proxy_reader {
    h2o_configurator_t super;
    struct level levels[H2O_CONFIGURATOR_NUM_LEVELS + 1], *now;
};

static struct level *level_of(h2o_configurator_command_t *cmd)
{
    return container_of(cmd->configurator, struct proxy_reader, super)->now;
}

struct proxy_extras *config_proxy_extras(h2o_configurator_command_t *cmd)
{
    struct level *level = level_of(cmd);

    return strncmp(cmd->name, "fastcgi.", 8) == 0 ? &level->fastcgi : &level->proxy;
}

static int on_enter(h2o_configurator_t *configurator, h2o_configurator_context_t *ctx, yoml_t *node)
{
    struct proxy_reader *reader = container_of(configurator, struct proxy_reader, super);

    (void)ctx;
    (void)node;
    reader->now[1] = reader->now[0];
    reader->now++;
    return 0;
}

static int on_exit_level(h2o_configurator_t *configurator, h2o_configurator_context_t *ctx,
                         yoml_t *node)
{
    (void)ctx;
    (void)node;
    container_of(configurator, struct proxy_reader, super)->now--;
    return 0;
}

static int read_time(h2o_configurator_command_t *cmd, yoml_t *node, uint64_t *ret_ms)
{
    unsigned long long ms;

    if (h2o_configurator_scanf(cmd, node, "%llu", &ms) != 0)
        return -1;
    if (ms < 1 || ms > TIME_MOST_MS)
        return config_fail(cmd, node, "%s: want milliseconds, from 1 to %llu", node->data.scalar,
                           (unsigned long long)TIME_MOST_MS);
    *ret_ms = ms;
    return 0;
}

static int on_connect(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      yoml_t *node)
{
    (void)ctx;
    return read_time(cmd, node, &config_proxy_extras(cmd)->connect_ms);
}

static int on_first_byte(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                         yoml_t *node)
{
    (void)ctx;
    return read_time(cmd, node, &config_proxy_extras(cmd)->first_byte_ms);
}

static int on_buffer(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    size_t bytes;

    (void)ctx;
    if (h2o_configurator_scanf(cmd, node, "%zu", &bytes) != 0)
        return -1;
    if (bytes < BUFFER_LEAST || bytes > BUFFER_MOST)
        return config_fail(cmd, node, "%s: want bytes, from %zu to %zu", node->data.scalar,
                           BUFFER_LEAST, BUFFER_MOST);
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
    struct proxy_reader *reader =
        container_of(h2o_configurator_create(conf, sizeof(*reader)), struct proxy_reader, super);

    reader->now = reader->levels;
    reader->now->proxy.buffer_bytes = reader->now->fastcgi.buffer_bytes = PROXY_BUFFER_DEFAULT;
    config_upstreams_default(&reader->now->proxy.rules);
    config_upstreams_default(&reader->now->fastcgi.rules);
    reader->super.enter = on_enter;
    reader->super.exit = on_exit_level;
    for (size_t i = 0; i < sizeof(directives) / sizeof(directives[0]); i++)
        h2o_configurator_define_command(&reader->super, directives[i].name, directives[i].flags,
                                        directives[i].cb);
    config_define_upstreams(&reader->super);
}

void config_use_proxy(h2o_globalconf_t *conf)
{
    const struct level *level = level_of(h2o_configurator_get_command(conf, "proxy.buffer"));

    proxy_set_extras(&level->proxy);
    fastcgi_set_extras(&level->fastcgi);
}

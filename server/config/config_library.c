#include "config_p.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gate.h"
#include "hold.h"
#include "loop_metrics.h"
#include "proxy.h"
#include "status.h"

/* Directives of h2o: those of its main program, which libh2o lacks, and those of libh2o, some of
 * which run through a callback of ours first. */

static int on_name_threads(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                           yoml_t *node)
{
    size_t threads;

    (void)ctx;
    if (h2o_configurator_scanf(cmd, node, "%zu", &threads) != 0)
        return -1;
    if (threads < 1 || threads > 1024)
        return config_fail(cmd, node, "%s: want a whole number from 1 to 1024", node->data.scalar);
    if (h2o_hostinfo_max_threads !=
        threads) /* for all servers of this process: the last one counts */
        h2o_hostinfo_max_threads = threads;
    return 0;
}

static int on_temp_path(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                        yoml_t *node)
{
    char *template = h2o_socket_buffer_mmap_settings.fn_template;
    char path[sizeof(h2o_socket_buffer_mmap_settings.fn_template)];

    (void)ctx;
    int n = snprintf(path, sizeof(path), "%s%s", node->data.scalar, strrchr(template, '/'));
    if (n < 0 || (size_t)n >= sizeof(path))
        return config_fail(cmd, node, "the path is too long");
    if (access(node->data.scalar, W_OK | X_OK) != 0)
        return config_fail(cmd, node, "cannot make files in %s: %s", node->data.scalar,
                           strerrordesc_np(errno));
    if (strcmp(template, path) != 0) /* for all servers of this process: the last one counts */
        (void)strcpy(template, path);
    return 0;
}

static int on_ignored(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      yoml_t *node)
{
    bool is_crash = strncmp(cmd->name, "crash-handler", 13) == 0;

    (void)ctx;
    if (strcmp(cmd->name, "crash-handler.wait-pipe-close") == 0 &&
        h2o_configurator_get_one_of(cmd, node, "OFF,ON") < 0)
        return -1;
    h2o_configurator_errprintf(cmd, node, "[warning] ignored: %s",
                               is_crash ? "the system handles crashes, see core(5)"
                                        : "OCSP responses are not stapled");
    return 0;
}

static int on_mruby(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    (void)ctx;
    return config_fail(cmd, node,
                       "lastcall has no mruby; move the handler into an application for "
                       "proxy.reverse.url or fastcgi.connect");
}

/* ---- directives of the library that run through ours first ---- */

static h2o_configurator_command_cb library_access_log, library_streams, library_proxy,
    library_connect, library_spawn;

/* With 0 streams libh2o fails an assertion at the first request. */
static int on_streams(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      yoml_t *node)
{
    if (library_streams(cmd, ctx, node) != 0)
        return -1;
    if (ctx->globalconf->http2.max_concurrent_requests_per_connection > 0)
        return 0;
    return config_fail(cmd, node, "%s: want a whole number, at least 1", node->data.scalar);
}

static bool is_app(void *options, const char *url)
{
    return config_app_is_at(options, url);
}

static void name_host(struct proxy_members *members, h2o_configurator_context_t *ctx)
{
    members->groups = &config_reader_of(ctx->globalconf)->server->upstream_groups;
    members->host =
        ctx->hostconf != NULL ? ctx->hostconf->authority.hostport : h2o_iovec_init("", 0);
}

/* libh2o takes one URL, and registers the route with it; we have all of them. Requests for our
 * application may have to wait for it. */
static int on_proxy(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    static struct proxy_members members; /* too large for the stack */
    struct config_reader *reader = config_reader_of(ctx->globalconf);
    bool has_app;

    yoml_t *first = config_read_upstreams(cmd, node, &members, is_app, reader->options, &has_app);
    if (first == NULL)
        return -1;
    if (has_app) {
        reader->hands_on_to_app = true;
        if (ctx->mimemap !=
            NULL) /* the pseudo-path of file.custom-handler takes one handler only */
            hold_register(ctx->pathconf);
    }
    name_host(&members, ctx);
    config_use_proxy(ctx->globalconf);
    proxy_set_members(&members);
    return library_proxy(cmd, ctx, first);
}

static int on_fastcgi(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      yoml_t *node)
{
    static struct proxy_members members; /* too large for the stack */
    bool spawns = strcmp(cmd->name, "fastcgi.spawn") == 0;

    name_host(&members, ctx);
    config_use_proxy(ctx->globalconf);
    return config_register_fastcgi(cmd, ctx, node, &members,
                                   spawns ? library_spawn : library_connect);
}

static int on_access_log(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                         yoml_t *node)
{
    return config_access_log(cmd, ctx, node, library_access_log);
}

/* Which kind of handler is on a path, for the metrics. */
static struct route_directive {
    const char *name;
    enum route_kind kind;
    h2o_configurator_command_cb library;
} route_directives[] = {
    {"file.dir", ROUTE_FILE, NULL},           {"file.file", ROUTE_FILE, NULL},
    {"proxy.reverse.url", ROUTE_PROXY, NULL}, {"fastcgi.connect", ROUTE_FASTCGI, NULL},
    {"fastcgi.spawn", ROUTE_FASTCGI, NULL},   {"redirect", ROUTE_INLINE, NULL},
    {"status", ROUTE_INLINE, NULL},
};
#define ROUTE_DIRECTIVES (sizeof(route_directives) / sizeof(route_directives[0]))

static int on_route(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    size_t i = 0;

    while (strcmp(route_directives[i].name, cmd->name) != 0)
        i++;
    if (ctx->pathconf != NULL)
        gate_note_kind(ctx->pathconf, route_directives[i].kind);
    if (route_directives[i].kind != ROUTE_INLINE)
        config_reader_of(ctx->globalconf)->server->takes_second_files = true;
    return route_directives[i].library(cmd, ctx, node);
}

static void watch_routes(h2o_globalconf_t *conf)
{
    for (size_t i = 0; i < ROUTE_DIRECTIVES; i++) {
        h2o_configurator_command_t *command =
            h2o_configurator_get_command(conf, route_directives[i].name);
        route_directives[i].library = command->cb;
        command->cb = on_route;
    }
}

/* ---- the table ---- */

static void replace_callbacks(h2o_globalconf_t *conf)
{
    const struct {
        const char *name;
        h2o_configurator_command_cb own, *library;
    } first[] = {
        {"access-log", on_access_log, &library_access_log},
        {"fastcgi.connect", on_fastcgi, &library_connect},
        {"fastcgi.spawn", on_fastcgi, &library_spawn},
        {"http2-max-concurrent-requests-per-connection", on_streams, &library_streams},
        {"proxy.reverse.url", on_proxy, &library_proxy},
    };

    for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
        h2o_configurator_command_t *command = h2o_configurator_get_command(conf, first[i].name);
        *first[i].library = command->cb;
        command->cb = first[i].own;
    }
    h2o_configurator_get_command(conf, "proxy.reverse.url")->flags &= ~CONFIG_SCALAR;
    watch_routes(conf);
}

void config_define_library(struct config_reader *reader)
{
    static const struct config_directive directives[] = {
        {"num-name-resolution-threads", CONFIG_GLOBAL | CONFIG_SCALAR, on_name_threads},
        {"temp-buffer-path", CONFIG_GLOBAL | CONFIG_SCALAR, on_temp_path},
        {"num-ocsp-updaters", CONFIG_GLOBAL | CONFIG_SCALAR, on_ignored},
        {"crash-handler", CONFIG_GLOBAL | CONFIG_SCALAR, on_ignored},
        {"crash-handler.wait-pipe-close", CONFIG_GLOBAL | CONFIG_SCALAR, on_ignored},
        {"mruby.handler", CONFIG_ALL | CONFIG_EXTENSION, on_mruby},
        {"mruby.handler-file", CONFIG_ALL | CONFIG_EXTENSION, on_mruby},
        {"mruby.handler_path", CONFIG_ALL | CONFIG_EXTENSION, on_mruby},
    };
    h2o_globalconf_t *conf = &reader->server->globalconf;

    config_define(reader, directives, sizeof(directives) / sizeof(directives[0]));
    h2o_access_log_register_configurator(conf);
    h2o_compress_register_configurator(conf);
    h2o_expires_register_configurator(conf);
    h2o_errordoc_register_configurator(conf);
    h2o_fastcgi_register_configurator(conf);
    h2o_file_register_configurator(conf);
    h2o_throttle_resp_register_configurator(conf);
    h2o_headers_register_configurator(conf);
    h2o_proxy_register_configurator(conf);
    config_define_proxy(conf);
    config_define_request_id(conf);
    h2o_reproxy_register_configurator(conf);
    h2o_redirect_register_configurator(conf);
    h2o_status_register_configurator(conf);
    h2o_http2_debug_state_register_configurator(conf);
    status_register(reader->server);
    replace_callbacks(conf);
}

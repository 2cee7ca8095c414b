#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_p.h"
#include "config_tree.h"
#include "log.h"
#include "logfiles.h"
#include "pool_route.h"
#include "routes.h"
#include "trust.h"
#include "upstream_tls.h"

/* Reads the configuration: makes the tree, then libh2o's configurators and ours carry it out. */

#define BODY_LARGEST (16 << 20) /* limit-request-body; bodies are held in memory */

static int on_handler(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      yoml_t *node)
{
    if (config_register_named(config_reader(cmd), ctx->pathconf, node->data.scalar) ||
        routes_register(ctx->pathconf, node->data.scalar))
        return 0;
    return config_fail(
        cmd, node, "no handler %s; there are ready, live, hello, hello-later, sleep, burn, stream",
        node->data.scalar);
}

static int on_place(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    struct config_reader *reader = config_reader(cmd);

    (void)ctx;
    reader->place.node = node;
    reader->place.cmd = cmd;
    return 0;
}

/* At the end of a path, when its handlers are known. */
static int apply_place(struct config_reader *reader, h2o_pathconf_t *path)
{
    h2o_configurator_command_t *cmd = reader->place.cmd;
    yoml_t *node = reader->place.node;

    reader->place.node = NULL;
    if (node == NULL)
        return 0;
    bool queue = strcmp(node->data.scalar, "queue") == 0;
    if (!queue && strcmp(node->data.scalar, "auto") != 0)
        return config_fail(cmd, node, "expected auto or queue, not %s", node->data.scalar);
    if (!pool_route_place(path, queue ? PLACE_QUEUE : PLACE_AUTO))
        return config_fail(cmd, node,
                           "place is for handlers that may block (hello-later, sleep, burn), and "
                           "this path has none");
    return 0;
}

static int on_exit_level(h2o_configurator_t *self, h2o_configurator_context_t *ctx, yoml_t *node)
{
    (void)node;
    return ctx->pathconf != NULL ? apply_place((struct config_reader *)self, ctx->pathconf) : 0;
}

static struct config_reader *make_reader(struct server *server, struct options *options)
{
    static const struct config_directive directives[] = {
        {"listen", CONFIG_GLOBAL | CONFIG_HOST, config_listen},
        {"handler", CONFIG_PATH | CONFIG_SCALAR, on_handler},
        {"place", CONFIG_PATH | CONFIG_SCALAR, on_place},
    };
    struct config_reader *reader = config_reader_create(server, options);

    reader->super.exit = on_exit_level;
    config_define(reader, directives, sizeof(directives) / sizeof(directives[0]));
    config_define_settings(reader);
    config_define_sessions(reader);
    config_define_library(reader);
    config_define_cgi(reader);
    config_define_module(reader);
    return reader;
}

/* ---- all of it ---- */

/* Errors: 0; EXIT_STATUS_CONFIG: the cause was logged. */
static int load_tree(struct server *server, const struct options *options)
{
    char error[1024];

    server->tree = config_tree(options, error, sizeof(error));
    if (server->tree != NULL)
        return 0;
    log_line(LOG_LEVEL_ERROR, "configuration", NULL, "%s", error);
    return EXIT_STATUS_CONFIG;
}

static int apply_tree(struct server *server, struct options *options)
{
    struct config_reader *reader;
    int status = EXIT_STATUS_CONFIG, err;

    LSAN_DISABLED(reader = make_reader(server, options));
    if (load_tree(server, options) != 0)
        return status;
    logfiles_collect(server->logfiles);
    config_report_knows(&server->globalconf);
    LSAN_DISABLED(err = h2o_configurator_apply(&server->globalconf, server->tree, options->test));
    config_report_knows(NULL);
    logfiles_collect(NULL);
    if (err != 0)
        return reader->listen_failed ? EXIT_STATUS_UNAVAILABLE : EXIT_STATUS_CONFIG;
    upstream_tls_set_up(server->globalconf.proxy.ssl_ctx); /* of `reproxy` */
    status = config_flags_check_listens(reader);
    if (status == 0)
        status = config_app_check(reader);
    if (status == 0 && !options->test)
        status = config_flags_listen(reader);
    return status;
}

/* Errors: 0; EXIT_STATUS_CONFIG: the cause was logged. */
static int read_trust(struct server *server, const struct options *options)
{
    char error[TRUST_ERROR_SIZE];

    if (options->trusted_proxies == NULL)
        return 0;
    server->trust = trust_create(options->trusted_proxies, error);
    if (server->trust != NULL)
        return 0;
    return config_refuse(EXIT_STATUS_CONFIG, error[0] != '\0' ? error : "no memory to start");
}

int config_apply(struct options *options, struct server *server)
{
    int status = config_flags_check(options);

    if (status != 0)
        return status;
    if (!options->stands_in_for_h2o)
        server->globalconf.max_request_entity_size = BODY_LARGEST;
    if (!options->is_embedded && options->user == NULL && options->conf != NULL && getuid() == 0)
        options->user = "nobody"; /* unless the file names another user */
    server->globalconf.user = (char *)(uintptr_t)options->user;
    status = apply_tree(server, options);
    return status == 0 ? read_trust(server, options) : status;
}

#include "config_p.h"

#include <stddef.h>
#include <string.h>

#include "container_of.h"
#include "gate.h"
#include "log.h"

/* The configurator that our directives belong to, and what they fill. */

static int on_enter(h2o_configurator_t *self, h2o_configurator_context_t *ctx, yoml_t *node);

struct config_reader *config_reader_of(h2o_globalconf_t *conf)
{
    h2o_linklist_t *node = conf->configurators.next;

    while (container_of(node, h2o_configurator_t, _link)->enter != on_enter)
        node = node->next;
    return container_of(node, struct config_reader, super._link);
}

static int on_enter(h2o_configurator_t *self, h2o_configurator_context_t *ctx, yoml_t *node)
{
    (void)self;
    (void)node;
    /* A path's handlers come in the order of its directives, and the gate must be the first. */
    if (ctx->pathconf == NULL)
        return 0;
    if (ctx->mimemap == NULL) /* the pseudo-path of file.custom-handler */
        gate_register_inner(ctx->pathconf);
    else if (ctx->pathconf == &ctx->hostconf->fallback_path)
        gate_register_fallback(ctx->pathconf);
    else
        gate_register(ctx->pathconf);
    return 0;
}

struct server *config_server(h2o_configurator_command_t *cmd)
{
    return ((struct config_reader *)cmd->configurator)->server;
}

struct options *config_options(h2o_configurator_command_t *cmd)
{
    return ((struct config_reader *)cmd->configurator)->options;
}

struct config_reader *config_reader(h2o_configurator_command_t *cmd)
{
    return (struct config_reader *)cmd->configurator;
}

void config_define(struct config_reader *reader, const struct config_directive *directives,
                   size_t count)
{
    for (size_t i = 0; i < count; i++)
        h2o_configurator_define_command(&reader->super, directives[i].name, directives[i].flags,
                                        directives[i].cb);
}

/* ---- levels ---- */

struct levels {
    h2o_configurator_t super;
    size_t size; /* of one, as it stands in the array */
    config_level_end *at_end;
    size_t depth; /* of the one that is read */
    _Alignas(max_align_t) char bytes[];
};

static struct levels *levels_of(h2o_configurator_t *configurator)
{
    return container_of(configurator, struct levels, super);
}

void *config_level(h2o_configurator_t *configurator)
{
    struct levels *levels = levels_of(configurator);

    return levels->bytes + levels->depth * levels->size;
}

static int on_enter_level(h2o_configurator_t *configurator, h2o_configurator_context_t *ctx,
                          yoml_t *node)
{
    struct levels *levels = levels_of(configurator);
    const void *around = config_level(configurator);

    (void)ctx;
    (void)node;
    levels->depth++;
    memcpy(config_level(configurator), around, levels->size);
    return 0;
}

static int on_exit_level(h2o_configurator_t *configurator, h2o_configurator_context_t *ctx,
                         yoml_t *node)
{
    struct levels *levels = levels_of(configurator);

    (void)node;
    if (levels->at_end != NULL)
        levels->at_end(ctx, config_level(configurator));
    levels->depth--;
    return 0;
}

h2o_configurator_t *config_levels_create(h2o_globalconf_t *conf, size_t size,
                                         config_level_end *at_end)
{
    const size_t unit = _Alignof(max_align_t), whole = (size + unit - 1) / unit * unit;
    struct levels *levels = (void *)h2o_configurator_create(
        conf, sizeof(*levels) + (H2O_CONFIGURATOR_NUM_LEVELS + 1) * whole);

    levels->super.enter = on_enter_level;
    levels->super.exit = on_exit_level;
    levels->size = whole;
    levels->at_end = at_end;
    return &levels->super;
}

/* ---- the reader ---- */

static int on_dispose(h2o_configurator_t *self)
{
    config_cgi_dispose((struct config_reader *)self);
    return 0;
}

struct config_reader *config_reader_create(struct server *server, struct options *options)
{
    struct config_reader *reader =
        (void *)h2o_configurator_create(&server->globalconf, sizeof(*reader));

    reader->server = server;
    reader->options = options;
    reader->super.enter = on_enter;
    reader->super.dispose = on_dispose;
    return reader;
}

int config_refuse(int status, const char *error)
{
    log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "%s", error);
    return status;
}

#include "config_p.h"

#include "gate.h"

/* Ids of requests: `request-id` and `request-id.answer`, which hold for the level that they stand
 * on and those below: the whole, a host, a path. */

struct id_level {
    bool gives, shows;
};

static void at_end(h2o_configurator_context_t *ctx, const void *level)
{
    const struct id_level *ids = level;

    if (ctx->pathconf != NULL && ids->gives)
        gate_note_ids(ctx->pathconf, ids->shows);
}

static struct id_level *level_of(h2o_configurator_command_t *cmd)
{
    return config_level(cmd->configurator);
}

static int on_gives(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    (void)ctx;
    return config_get_switch(cmd, node, &level_of(cmd)->gives);
}

static int on_shows(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    (void)ctx;
    return config_get_switch(cmd, node, &level_of(cmd)->shows);
}

void config_define_request_id(h2o_globalconf_t *conf)
{
    h2o_configurator_t *ids = config_levels_create(conf, sizeof(struct id_level), at_end);

    h2o_configurator_define_command(ids, "request-id", CONFIG_ALL | CONFIG_SCALAR, on_gives);
    h2o_configurator_define_command(ids, "request-id.answer", CONFIG_ALL | CONFIG_SCALAR, on_shows);
}

#include "config_p.h"

#include "container_of.h"
#include "gate.h"

/* Ids of requests: `request-id` and `request-id.answer`, which hold for the level that they stand
 * on and those below: the whole, a host, a path. */

struct id_levels {
    bool gives, shows;
};

struct id_reader {
    h2o_configurator_t super;
    struct id_levels levels[H2O_CONFIGURATOR_NUM_LEVELS + 1], *now;
};

static int on_enter(h2o_configurator_t *configurator, h2o_configurator_context_t *ctx, yoml_t *node)
{
    struct id_reader *reader = container_of(configurator, struct id_reader, super);

    (void)ctx;
    (void)node;
    reader->now[1] = reader->now[0];
    reader->now++;
    return 0;
}

static int on_exit_level(h2o_configurator_t *configurator, h2o_configurator_context_t *ctx,
                         yoml_t *node)
{
    struct id_reader *reader = container_of(configurator, struct id_reader, super);

    (void)node;
    if (ctx->pathconf != NULL && reader->now->gives)
        gate_note_ids(ctx->pathconf, reader->now->shows);
    reader->now--;
    return 0;
}

static struct id_levels *levels_of(h2o_configurator_command_t *cmd)
{
    return container_of(cmd->configurator, struct id_reader, super)->now;
}

static int on_gives(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    (void)ctx;
    return config_get_switch(cmd, node, &levels_of(cmd)->gives);
}

static int on_shows(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    (void)ctx;
    return config_get_switch(cmd, node, &levels_of(cmd)->shows);
}

void config_define_request_id(h2o_globalconf_t *conf)
{
    struct id_reader *reader =
        container_of(h2o_configurator_create(conf, sizeof(*reader)), struct id_reader, super);

    reader->now = reader->levels;
    reader->super.enter = on_enter;
    reader->super.exit = on_exit_level;
    h2o_configurator_define_command(&reader->super, "request-id", CONFIG_ALL | CONFIG_SCALAR,
                                    on_gives);
    h2o_configurator_define_command(&reader->super, "request-id.answer", CONFIG_ALL | CONFIG_SCALAR,
                                    on_shows);
}

#include "config_p.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Settings that are flags, too (`num-threads`), and those that stand in groups (`pool: {workers:
 * 8}`). The table in options_table.c says what each may be; a flag overrides the file. */

static int set_text(h2o_configurator_command_t *cmd, const char *directive, yoml_t *node,
                    const char *text)
{
    char want[OPTIONS_WANT_SIZE];
    const char *wanted = options_set_directive(config_options(cmd), directive, text, want);

    return wanted == NULL ? 0 : config_fail(cmd, node, "%s %s: %s", directive, text, wanted);
}

/* `[a, b]` becomes `a,b`. The text is never freed: the options borrow it. */
static int set_list(h2o_configurator_command_t *cmd, const char *directive, yoml_t *node)
{
    size_t room = 1;

    for (size_t i = 0; i < node->data.sequence.size; i++) {
        yoml_t *item = node->data.sequence.elements[i];
        if (item->type != YOML_TYPE_SCALAR || strchr(item->data.scalar, ',') != NULL)
            return config_fail(cmd, item, "%s must be a list of texts without commas", directive);
        room += strlen(item->data.scalar) + 1;
    }
    char *text = h2o_mem_alloc(room), *at = text;
    for (size_t i = 0; i < node->data.sequence.size; i++)
        at += sprintf(at, "%s%s", i > 0 ? "," : "", node->data.sequence.elements[i]->data.scalar);
    *at = '\0';
    return set_text(cmd, directive, node, text); /* NOLINT(clang-analyzer-unix.Malloc) */
}

static int set(h2o_configurator_command_t *cmd, const char *directive, yoml_t *node)
{
    if (node->type == YOML_TYPE_SEQUENCE && options_is_list(directive))
        return set_list(cmd, directive, node);
    if (node->type != YOML_TYPE_SCALAR)
        return config_fail(cmd, node, "%s must be a text or a number", directive);
    return set_text(cmd, directive, node, node->data.scalar);
}

static int on_setting(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      yoml_t *node)
{
    (void)ctx;
    return set(cmd, cmd->name, node);
}

/* As h2o does, use the largest queue instead of an error. */
static int on_fastopen(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                       yoml_t *node)
{
    static char most[] = "65535";
    yoml_t clamped = *node;

    errno = 0;
    unsigned long long queue = strtoull(node->data.scalar, NULL, 10);
    if (node->data.scalar[strspn(node->data.scalar, "0123456789")] != '\0' ||
        (queue <= 65535 && errno == 0))
        return on_setting(cmd, ctx, node);
    h2o_configurator_errprintf(cmd, node,
                               "[warning] tcp-fastopen %s: the queue has at most 65535 "
                               "places; using 65535",
                               node->data.scalar);
    clamped.data.scalar = most;
    return on_setting(cmd, ctx, &clamped);
}

/* Each key of `mapping` sets `GROUP.KEY`, and a nested mapping `GROUP.KEY.KEY`. */
static int set_group(h2o_configurator_command_t *cmd, const char *group, const yoml_t *mapping)
{
    for (size_t i = 0; i < mapping->data.mapping.size; i++) {
        yoml_t *key = mapping->data.mapping.elements[i].key;
        yoml_t *value = mapping->data.mapping.elements[i].value;
        char directive[96] = "", known[OPTIONS_NAMES_SIZE];
        if (key->type == YOML_TYPE_SCALAR)
            (void)snprintf(directive, sizeof(directive), "%s.%s", group, key->data.scalar);
        if (!options_has_directive(directive) && !options_has_group(directive))
            return config_unknown_key(cmd, key, options_names_of_group(group, known));
        bool is_group = !options_has_directive(directive) && value->type == YOML_TYPE_MAPPING;
        if ((is_group ? set_group(cmd, directive, value) : set(cmd, directive, value)) != 0)
            return -1;
    }
    return 0;
}

/* `pool: {workers: 8}` sets `pool.workers`. */
static int on_group(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    if (ctx->hostconf != NULL || ctx->pathconf != NULL)
        return config_fail(cmd, node, "it is for the whole server; set it outside of hosts");
    return set_group(cmd, cmd->name, node);
}

static int on_path_deadline(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                            yoml_t *node)
{
    (void)ctx;
    return config_fail(
        cmd, node,
        "there are no deadlines of single paths; drain: {deadline: %s} outside of hosts "
        "sets the deadline of the whole server",
        node->type == YOML_TYPE_SCALAR ? node->data.scalar : "10s");
}

static int on_user(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    struct options *options = config_options(cmd);

    if (getpwnam(node->data.scalar) == NULL)
        return config_fail(cmd, node, "there is no user %s", node->data.scalar);
    if (set(cmd, "user", node) != 0)
        return -1;
    ctx->globalconf->user = (char *)(uintptr_t)options->user; /* for fastcgi.spawn */
    return 0;
}

static int on_generation_header(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                                yoml_t *node)
{
    bool on;

    (void)ctx;
    if (config_get_switch(cmd, node, &on) != 0)
        return -1;
    config_options(cmd)->generation_header |= on;
    return 0;
}

/* ---- the table ---- */

void config_define_settings(struct config_reader *reader)
{
    static const struct config_directive directives[] = {
        {"num-threads", CONFIG_GLOBAL | CONFIG_SCALAR, on_setting},
        {"max-connections", CONFIG_GLOBAL | CONFIG_SCALAR, on_setting},
        {"max-arriving-bodies", CONFIG_GLOBAL | CONFIG_SCALAR, on_setting},
        {"stream-buffer", CONFIG_GLOBAL | CONFIG_SCALAR, on_setting},
        {"trusted-proxies", CONFIG_GLOBAL, on_setting},
        {"user", CONFIG_GLOBAL | CONFIG_SCALAR, on_user},
        {"pid-file", CONFIG_GLOBAL | CONFIG_SCALAR, on_setting},
        {"error-log", CONFIG_GLOBAL | CONFIG_SCALAR, on_setting},
        {"tcp-fastopen", CONFIG_GLOBAL | CONFIG_SCALAR, on_fastopen},
        {"generation-header", CONFIG_GLOBAL | CONFIG_SCALAR, on_generation_header},
        {"pool", CONFIG_ALL | CONFIG_MAPPING, on_group},
        {"limits", CONFIG_ALL | CONFIG_MAPPING, on_group},
        {"drain", CONFIG_ALL | CONFIG_MAPPING, on_group},
        {"progress", CONFIG_ALL | CONFIG_MAPPING, on_group},
        {"admin", CONFIG_ALL | CONFIG_MAPPING, on_group},
        {"heartbeat", CONFIG_ALL | CONFIG_MAPPING, on_group},
        {"watchdog", CONFIG_ALL | CONFIG_MAPPING, on_group},
        {"app", CONFIG_ALL | CONFIG_MAPPING, on_group},
        {"register", CONFIG_ALL | CONFIG_MAPPING, on_group},
        {"journal", CONFIG_ALL | CONFIG_MAPPING, on_group},
        {"drain.deadline", CONFIG_ALL, on_path_deadline},
        {"restart", CONFIG_ALL | CONFIG_MAPPING, on_group},
    };

    config_define(reader, directives, sizeof(directives) / sizeof(directives[0]));
}

#include "config_p.h"

#include <string.h>

#include "config_front.h"
#include "user_route.h"

/* `handler.module: {path: FILE, name: NAME, args: TEXT}`: a handler of a shared object. And
 * `handler: NAME`, where the program itself has named a handler. */

bool config_register_named(struct config_reader *reader, h2o_pathconf_t *path, const char *name)
{
    const struct config_front *front = reader->options->front;
    const struct user_route *route = front != NULL ? front->named(front->arg, name) : NULL;

    if (route != NULL)
        user_route_register(path, route);
    return route != NULL;
}

static const char *text_of(const yoml_t *node, const char *otherwise)
{
    return node != NULL ? node->data.scalar : otherwise;
}

static int check_keys(h2o_configurator_command_t *cmd, const yoml_t *node)
{
    static const char *const known[] = {"path", "name", "args"};

    for (size_t i = 0; i < node->data.mapping.size; i++) {
        yoml_t *key = node->data.mapping.elements[i].key;
        size_t k = 0;
        while (k < 3 && (key->type != YOML_TYPE_SCALAR || strcmp(key->data.scalar, known[k]) != 0))
            k++;
        if (k == 3)
            return config_unknown_key(cmd, key, "path, name, args");
    }
    return 0;
}

static int on_module(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    const struct options *options = config_options(cmd);
    const struct config_front *front = options->front;
    char error[CONFIG_FRONT_ERROR];
    yoml_t *path, *name, *args;

    if (check_keys(cmd, node) != 0 || !config_get_text(cmd, node, "path", &path) ||
        !config_get_text(cmd, node, "name", &name) || !config_get_text(cmd, node, "args", &args))
        return -1;
    if (*text_of(path, "") == '\0' || *text_of(name, "") == '\0')
        return config_fail(cmd, node, "%s is missing",
                           *text_of(path, "") == '\0' ? "path" : "name");
    if (front == NULL)
        return config_fail(cmd, node, "this program loads no modules");
    if (front->load(front->arg, path->data.scalar, name->data.scalar, text_of(args, ""),
                    options->test, error) != 0)
        return config_fail(cmd, path, "%s", error);
    if (!options->test)
        (void)config_register_named(config_reader(cmd), ctx->pathconf, name->data.scalar);
    return 0;
}

void config_define_module(struct config_reader *reader)
{
    static const struct config_directive directives[] = {
        {"handler.module", CONFIG_PATH | CONFIG_MAPPING, on_module},
    };

    config_define(reader, directives, sizeof(directives) / sizeof(directives[0]));
}

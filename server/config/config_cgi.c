#include "config_p.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cgi.h"
#include "clock.h"
#include "flags.h"
#include "user_route.h"

/* `handler.cgi: DIR`, or a mapping with the folder as `path` and its limits: docs/cgi.md. */

#define MS(n) ((n)*NS_PER_MS)
#define DAY MS(UINT64_C(24) * 3600 * 1000)
#define GIB (UINT64_C(1) << 30)

/* One directive; the server's routes refer to it, so it lives as long as the reader. */
struct config_cgi {
    struct config_cgi *next;
    struct cgi_settings settings;
    struct cgi *cgi; /* NULL: it failed */
    struct user_route route;
    uint64_t max_body, max_running;
};

static const char *set_links(const struct flag *flag, const char *text, void *at, void *target,
                             char *want)
{
    bool anywhere = strcmp(text, "anywhere") == 0;

    (void)flag;
    (void)target;
    (void)want;
    if (!anywhere && strcmp(text, "inside") != 0)
        return "want inside or anywhere";
    *(bool *)at = anywhere;
    return NULL;
}

#define AT(field) .offset = offsetof(struct config_cgi, field)
static const struct flag rows[] = {
    {.setting = "path", .kind = FLAG_TEXT, AT(settings.dir)},
    {.setting = "timeout", .kind = FLAG_DURATION, AT(settings.timeout_ns), .most = 30 * DAY},
    {.setting = "write-timeout",
     .kind = FLAG_DURATION,
     AT(settings.write_timeout_ns),
     .most = 30 * DAY},
    {.setting = "grace", .kind = FLAG_DURATION, AT(settings.grace_ns), .most = MS(600000)},
    {.setting = "max-output", .kind = FLAG_SIZE, AT(settings.max_output), .most = 1024 * GIB},
    {.setting = "max-body", .kind = FLAG_SIZE, AT(max_body), .most = 1024 * GIB},
    {.setting = "max-running", .kind = FLAG_NUMBER, AT(max_running), .most = 4096},
    {.setting = "authorization", .kind = FLAG_ON, AT(settings.authorization)},
    {.setting = "symlinks", .kind = FLAG_CUSTOM, AT(settings.any_link), .set = set_links},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))
#define KNOWN                                                                                      \
    "path, timeout, write-timeout, grace, max-output, max-body, max-running, authorization, "      \
    "symlinks, env"

/* ---- a mapping ---- */

/* The texts are freed with the directive: config_cgi_dispose(). */
static int add_variable(h2o_configurator_command_t *cmd, struct config_cgi *made, yoml_t *name,
                        yoml_t *value)
{
    char *text;

    if (name->type != YOML_TYPE_SCALAR || value->type != YOML_TYPE_SCALAR)
        return config_fail(cmd, value, "env: a variable must be a name with a text or a number");
    if (made->settings.env_count == CGI_ENV_MAX)
        return config_fail(cmd, name, "env: there are more than %d variables", CGI_ENV_MAX);
    if (asprintf(&text, "%s=%s", name->data.scalar, value->data.scalar) < 0)
        return -1;
    made->settings.env[made->settings.env_count++] = text;
    if (!cgi_env_is_valid(text))
        return config_fail(cmd, name,
                           "env: %s: want a name of letters, digits and _ that does not begin with "
                           "HTTP_, which stands for fields of the request",
                           name->data.scalar);
    return 0;
}

static int add_variables(h2o_configurator_command_t *cmd, struct config_cgi *made, yoml_t *node)
{
    if (node->type != YOML_TYPE_MAPPING)
        return config_fail(cmd, node, "env must be a mapping of names to texts");
    for (size_t i = 0; i < node->data.mapping.size; i++)
        if (add_variable(cmd, made, node->data.mapping.elements[i].key,
                         node->data.mapping.elements[i].value) != 0)
            return -1;
    return 0;
}

static int set_key(h2o_configurator_command_t *cmd, struct config_cgi *made, yoml_t *key,
                   yoml_t *value)
{
    char want[FLAGS_WANT_SIZE];
    size_t i = 0;

    if (key->type != YOML_TYPE_SCALAR)
        return config_unknown_key(cmd, key, KNOWN);
    if (strcmp(key->data.scalar, "env") == 0)
        return add_variables(cmd, made, value);
    while (i < ROWS && strcmp(rows[i].setting, key->data.scalar) != 0)
        i++;
    if (i == ROWS)
        return config_unknown_key(cmd, key, KNOWN);
    if (value->type != YOML_TYPE_SCALAR)
        return config_fail(cmd, value, "%s must be a text or a number", key->data.scalar);
    const char *wanted = flags_set(&rows[i], value->data.scalar, made, want);
    return wanted == NULL
               ? 0
               : config_fail(cmd, value, "%s %s: %s", key->data.scalar, value->data.scalar, wanted);
}

static int read_node(h2o_configurator_command_t *cmd, struct config_cgi *made, yoml_t *node)
{
    if (node->type == YOML_TYPE_SCALAR)
        made->settings.dir = node->data.scalar;
    else if (node->type != YOML_TYPE_MAPPING)
        return config_fail(cmd, node, "want the folder of the scripts, or a mapping with path");
    for (size_t i = 0; node->type == YOML_TYPE_MAPPING && i < node->data.mapping.size; i++)
        if (set_key(cmd, made, node->data.mapping.elements[i].key,
                    node->data.mapping.elements[i].value) != 0)
            return -1;
    if (made->settings.dir == NULL || made->settings.dir[0] == '\0')
        return config_fail(cmd, node, "path is missing: the folder of the scripts");
    return 0;
}

/* ---- the directive ---- */

static struct config_cgi *make(struct config_reader *reader, const char *mount)
{
    struct config_cgi *made = h2o_mem_alloc(sizeof(*made));

    *made = (struct config_cgi){.next = reader->cgi,
                                .settings = {.mount = mount,
                                             .owner = reader->server,
                                             .timeout_ns = MS(60000),
                                             .write_timeout_ns = MS(30000),
                                             .grace_ns = MS(2000),
                                             .held_ns = MS(10),
                                             .max_output = GIB}};
    made->settings.files = reader->options->files;
    if (made->settings.files.rlim_max == 0) /* of a server that does not raise it */
        (void)getrlimit(RLIMIT_NOFILE, &made->settings.files);
    reader->cgi = made;
    return made;
}

static void fill_route(struct config_cgi *made)
{
    made->route = (struct user_route){.handler = cgi_handle,
                                      .user = made->cgi,
                                      .write_timeout_ms =
                                          (int64_t)(made->settings.write_timeout_ns / NS_PER_MS),
                                      .max_body = (int64_t)made->max_body};
}

static int on_cgi(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    struct config_reader *reader = config_reader(cmd);
    struct config_cgi *made = make(reader, ctx->pathconf->path.base);
    char error[CGI_ERROR_SIZE];

    if (read_node(cmd, made, node) != 0)
        return -1;
    made->settings.max_running = (unsigned)made->max_running;
    if (cgi_create(&made->settings, &made->cgi, error) != 0)
        return config_fail(cmd, node, "%s", error);
    fill_route(made);
    user_route_register(ctx->pathconf, &made->route);
    reader->server->takes_second_files = true;
    return 0;
}

void config_define_cgi(struct config_reader *reader)
{
    static const struct config_directive directives[] = {
        {"handler.cgi", CONFIG_PATH, on_cgi},
    };

    config_define(reader, directives, sizeof(directives) / sizeof(directives[0]));
}

void config_cgi_dispose(struct config_reader *reader)
{
    while (reader->cgi != NULL) {
        struct config_cgi *made = reader->cgi;
        reader->cgi = made->next;
        cgi_destroy(made->cgi);
        for (size_t i = 0; i < made->settings.env_count; i++)
            free((char *)(uintptr_t)made->settings.env[i]);
        free(made);
    }
}

#include "config_p.h"

#include <string.h>
#include <strings.h>

#include "claims.h"
#include "file.h"
#include "logfiles.h"

/* `access-log`: fields of a format that libh2o 2.2.5 lacks, and errors with the name of the file.
 *
 * libh2o compiles %{...}x of a name that it does not know to "-". It has %{NAME}e, a variable of
 * the request's environment: so ours are read from there, and the texts are of the same length. */

static const struct {
    const char *field, *variable;
} fields[] = {
    {"%{" OWN_VARIABLE_REQUEST_ID "}x", "%{" OWN_VARIABLE_REQUEST_ID "}e"},
    {"%{" OWN_VARIABLE_PROXY_ERROR "}x", "%{" OWN_VARIABLE_PROXY_ERROR "}e"},
};

/* After a `%`: the characters `<` and `>` may stand before the brace. */
static void rename_field(char *at)
{
    char *brace = at + strspn(at, "<>");

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        size_t size = strlen(fields[i].field) - 1; /* without the % */
        if (strncasecmp(brace, fields[i].field + 1, size) == 0)
            memcpy(brace, fields[i].variable + 1, size);
    }
}

static void rename_fields(yoml_t *format)
{
    for (char *at = format->data.scalar; (at = strchr(at, '%')) != NULL;) {
        at++;
        if (*at == '%') /* %% is a % */
            at++;
        else
            rename_field(at);
    }
}

/* libh2o does not name the file that it cannot open. */
int config_access_log(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      yoml_t *node, h2o_configurator_command_cb library)
{
    bool is_text = node->type == YOML_TYPE_SCALAR, is_mapping = node->type == YOML_TYPE_MAPPING;
    const yoml_t *path = is_text ? node : yoml_get(node, "path");
    yoml_t *format = is_mapping ? yoml_get(node, "format") : NULL;

    if (format != NULL && format->type == YOML_TYPE_SCALAR)
        rename_fields(format);
    (void)logfiles_take_error();
    if (library(cmd, ctx, node) == 0)
        return 0;
    int err = logfiles_take_error();
    if ((!is_text && !is_mapping) || path == NULL || path->type != YOML_TYPE_SCALAR)
        return -1; /* libh2o has reported it */
    if (err != 0)
        return config_fail(cmd, node, "cannot log to %s: %s", path->data.scalar,
                           file_error_text(-err));
    return config_fail(cmd, node, "cannot log to %s in that format", path->data.scalar);
}

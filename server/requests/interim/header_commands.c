#include "header_commands.h"

#include "container_of.h"

struct filter {
    h2o_filter_t super;
    h2o_headers_command_t *cmds; /* up to H2O_HEADERS_CMD_NULL */
};

static void on_setup(h2o_filter_t *self, h2o_req_t *req, h2o_ostream_t **slot)
{
    h2o_headers_command_t *cmd = container_of(self, struct filter, super)->cmds;

    for (; cmd->cmd != H2O_HEADERS_CMD_NULL; cmd++)
        h2o_rewrite_headers(&req->pool, &req->res.headers, cmd);
    h2o_setup_next_ostream(req, slot);
}

void header_commands_register(h2o_pathconf_t *path, h2o_headers_command_t *cmds)
{
    struct filter *filter =
        container_of(h2o_create_filter(path, sizeof(*filter)), struct filter, super);

    filter->super.on_setup_ostream = on_setup;
    filter->cmds = cmds;
}

static bool keeps_what_is_there(const h2o_headers_command_t *cmd)
{
    return cmd->cmd == H2O_HEADERS_CMD_ADD || cmd->cmd == H2O_HEADERS_CMD_SETIFEMPTY;
}

static bool any_changes(const h2o_headers_command_t *cmd, const char *name, size_t name_len)
{
    for (; cmd->cmd != H2O_HEADERS_CMD_NULL; cmd++)
        if (!keeps_what_is_there(cmd) && h2o_memis(cmd->name->base, cmd->name->len, name, name_len))
            return true;
    return false;
}

bool header_commands_change(const h2o_pathconf_t *path, const char *name, size_t name_len)
{
    for (size_t i = 0; i < path->filters.size; i++) {
        h2o_filter_t *filter = path->filters.entries[i];
        if (filter->on_setup_ostream == on_setup &&
            any_changes(container_of(filter, struct filter, super)->cmds, name, name_len))
            return true;
    }
    return false;
}

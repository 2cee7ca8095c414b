#include "config_p.h"

#include <string.h>
#include <sys/un.h>

#include "proxy.h"

/* The upstreams of a route: the value of `proxy.reverse.url`. */

static int read_url(h2o_configurator_command_t *cmd, yoml_t *node, h2o_url_t *ret_url)
{
    static const struct sockaddr_un address;
    const char *path =
        node->type == YOML_TYPE_SCALAR ? strstr(node->data.scalar, "//[unix:") : NULL;

    if (path != NULL && strcspn(path + 8, "]") >= sizeof(address.sun_path))
        return config_fail(cmd, node, "the path of a Unix socket must have 1 to %zu bytes",
                           sizeof(address.sun_path) - 1);
    if (node->type == YOML_TYPE_SCALAR && h2o_url_parse(node->data.scalar, SIZE_MAX, ret_url) == 0)
        return 0;
    return config_fail(cmd, node,
                       "failed to parse URL %s: want http://HOST:PORT/PATH, https://HOST:PORT/PATH "
                       "or http://[unix:/SOCKET]/PATH",
                       node->type == YOML_TYPE_SCALAR ? node->data.scalar : "(not a text)");
}

/* A URL, or `{url: URL, weight: N, backup: ON}`. */
static int read_member(h2o_configurator_command_t *cmd, yoml_t *node, struct proxy_member *member,
                       yoml_t **ret_url)
{
    *member = (struct proxy_member){.weight = 1};
    *ret_url = node;
    if (node->type != YOML_TYPE_MAPPING)
        return read_url(cmd, node, &member->url);
    *ret_url = yoml_get(node, "url");
    if (*ret_url == NULL)
        return config_fail(cmd, node, "want a url in this mapping");
    for (size_t i = 0; i < node->data.mapping.size; i++) {
        yoml_t *key = node->data.mapping.elements[i].key;
        yoml_t *value = node->data.mapping.elements[i].value;
        const char *name = key->type == YOML_TYPE_SCALAR ? key->data.scalar : "";
        if (strcmp(name, "weight") == 0) {
            uint64_t weight;
            if (config_get_number(cmd, value, 1, GROUP_WEIGHT_MAX, &weight) != 0)
                return -1;
            member->weight = (unsigned)weight;
        } else if (strcmp(name, "backup") == 0) {
            if (value->type != YOML_TYPE_SCALAR)
                return config_fail(cmd, value, "backup: want ON or OFF");
            if (config_get_switch(cmd, value, &member->is_backup) != 0)
                return -1;
        } else if (strcmp(name, "url") != 0) {
            return config_unknown_key(cmd, key, "url, weight, backup");
        }
    }
    return read_url(cmd, *ret_url, &member->url);
}

static bool is_same(h2o_iovec_t a, h2o_iovec_t b)
{
    return h2o_memis(a.base, a.len, b.base, b.len) != 0;
}

/* Does the last one go with those before it? */
static int check_last(h2o_configurator_command_t *cmd, yoml_t *node,
                      const struct proxy_members *members)
{
    const struct proxy_member *last = &members->list[members->count - 1];
    h2o_iovec_t path = members->list[0].url.path;

    if (!is_same(last->url.path, path))
        return config_fail(cmd, node,
                           "%s has another path than the first URL: all of a list need the path "
                           "%.*s",
                           node->data.scalar, (int)path.len, path.base);
    for (size_t i = 0; i + 1 < members->count; i++)
        if (last->url.scheme == members->list[i].url.scheme &&
            is_same(last->url.authority, members->list[i].url.authority))
            return config_fail(cmd, node, "%s is there twice: give it a weight of 2 instead",
                               node->data.scalar);
    return 0;
}

static bool is_any_primary(const struct proxy_members *members)
{
    for (size_t i = 0; i < members->count; i++)
        if (!members->list[i].is_backup)
            return true;
    return false;
}

yoml_t *config_read_upstreams(h2o_configurator_command_t *cmd, yoml_t *node,
                              struct proxy_members *members, bool (*is_app)(void *, const char *),
                              void *data, bool *ret_has_app)
{
    bool is_list = node->type == YOML_TYPE_SEQUENCE;
    size_t count = is_list ? node->data.sequence.size : 1;
    yoml_t *first = NULL, *url = NULL;

    *ret_has_app = false;
    if (count < 1 || count > GROUP_MEMBERS_MAX) {
        (void)config_fail(cmd, node, "%zu upstreams: want 1 to %d", count, GROUP_MEMBERS_MAX);
        return NULL;
    }
    for (members->count = 0; members->count < count;) {
        size_t i = members->count;
        yoml_t *item = is_list ? node->data.sequence.elements[i] : node;
        if (read_member(cmd, item, &members->list[i], &url) != 0)
            return NULL;
        members->count++;
        if (check_last(cmd, url, members) != 0)
            return NULL;
        *ret_has_app |= is_app(data, url->data.scalar);
        if (i == 0)
            first = url;
    }
    if (!is_any_primary(members)) {
        (void)config_fail(cmd, node, "all upstreams are backups: want one without backup: ON");
        return NULL;
    }
    return first;
}

#include "config_p.h"

#include <ctype.h>
#include <string.h>
#include <sys/un.h>

#include "clock.h"
#include "proxy.h"

/* Several upstreams for a route: the list under `proxy.reverse.url`, and the directives that say
 * how they share the requests. Texts are borrowed from the tree, which lives as long as the server.
 */

#define MS_MOST (UINT64_C(24) * 3600 * 1000)
#define COUNT_MOST 1000

void config_upstreams_default(struct group_rules *rules)
{
    *rules = (struct group_rules){
        .balance = BALANCE_ROUND_ROBIN,
        .health = {.failures = 3,
                   .eject_ns = 1 * NS_PER_S,
                   .eject_most_ns = 30 * NS_PER_S,
                   .rise = 2,
                   .fall = 3},
        .check_every_ms = 2000,
        .check_limit_ms = 1000,
    };
}

static struct group_rules *rules_of(h2o_configurator_command_t *cmd)
{
    return &config_proxy_extras(cmd)->rules;
}

/* ---- numbers ---- */

static int read_number(h2o_configurator_command_t *cmd, yoml_t *node, uint64_t least, uint64_t most,
                       uint64_t *ret_number)
{
    unsigned long long number;

    if (node->type != YOML_TYPE_SCALAR)
        return config_fail(cmd, node, "want a whole number");
    if (h2o_configurator_scanf(cmd, node, "%llu", &number) != 0)
        return -1;
    if (number < least || number > most)
        return config_fail(cmd, node, "%s: want a whole number from %llu to %llu",
                           node->data.scalar, (unsigned long long)least, (unsigned long long)most);
    *ret_number = number;
    return 0;
}

/* One that a mapping may have under a name. */
struct number {
    const char *name;
    uint64_t least, most;
    uint64_t value; /* the default, then what was read */
};

/* Read the numbers of a mapping, which may have a text under `text_name`, too. */
static int read_mapping(h2o_configurator_command_t *cmd, yoml_t *node, struct number *numbers,
                        size_t count, const char *text_name, yoml_t **ret_text, const char *known)
{
    for (size_t i = 0; i < node->data.mapping.size; i++) {
        yoml_t *key = node->data.mapping.elements[i].key;
        yoml_t *value = node->data.mapping.elements[i].value;
        const char *name = key->type == YOML_TYPE_SCALAR ? key->data.scalar : "";
        size_t n = 0;
        if (text_name != NULL && strcmp(name, text_name) == 0) {
            if (!config_get_text(cmd, node, text_name, ret_text))
                return -1;
            continue;
        }
        while (n < count && strcmp(name, numbers[n].name) != 0)
            n++;
        if (n == count)
            return config_unknown_key(cmd, key, known);
        if (read_number(cmd, value, numbers[n].least, numbers[n].most, &numbers[n].value) != 0)
            return -1;
    }
    return 0;
}

static bool is_off(const yoml_t *node)
{
    return node->type == YOML_TYPE_SCALAR && strcasecmp(node->data.scalar, "OFF") == 0;
}

/* ---- how they share the requests ---- */

/* A name of a header or a cookie: RFC 9110 section 5.6.2. */
static bool is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && strchr("!#$%&'*+-.^_`|~", text[i]) == NULL)
            return false;
    return len > 0;
}

/* `hash(header NAME)` and the like. */
static bool read_hash(const char *text, struct group_rules *rules)
{
    static const struct {
        const char *before;
        enum hash_by by;
    } forms[] = {{"hash(header ", HASH_HEADER}, {"hash(cookie ", HASH_COOKIE}};

    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        size_t before = strlen(forms[i].before), len = strlen(text);
        if (strncmp(text, forms[i].before, before) != 0 || text[len - 1] != ')' ||
            !is_token(text + before, len - before - 1))
            continue;
        h2o_iovec_t name = h2o_strdup(NULL, text + before, len - before - 1); /* never freed */
        if (forms[i].by == HASH_HEADER)
            h2o_strtolower(name.base, name.len);
        rules->balance = BALANCE_HASH;
        rules->hash_by = forms[i].by;
        rules->hash_name = name.base;
        return true;
    }
    return false;
}

static int on_balance(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      yoml_t *node)
{
    struct group_rules *rules = rules_of(cmd);
    const char *text = node->data.scalar;

    (void)ctx;
    if (strcmp(text, "round-robin") == 0)
        rules->balance = BALANCE_ROUND_ROBIN;
    else if (strcmp(text, "least-connections") == 0)
        rules->balance = BALANCE_LEAST;
    else if (strcmp(text, "hash(client)") == 0)
        rules->balance = BALANCE_HASH, rules->hash_by = HASH_CLIENT;
    else if (!read_hash(text, rules))
        return config_fail(cmd, node,
                           "%s: want round-robin, least-connections, hash(client), "
                           "hash(header NAME) or hash(cookie NAME)",
                           text);
    return 0;
}

static int on_wait(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    (void)ctx;
    return read_number(cmd, node, 0, MS_MOST, &rules_of(cmd)->wait_ms);
}

static int on_slow_start(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                         yoml_t *node)
{
    uint64_t ms;

    (void)ctx;
    if (read_number(cmd, node, 0, MS_MOST, &ms) != 0)
        return -1;
    rules_of(cmd)->health.slow_start_ns = ms * NS_PER_MS;
    return 0;
}

/* ---- health ---- */

static int on_eject(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    struct health_rules *rules = &rules_of(cmd)->health;
    enum { FAILURES, TIME, MOST };
    struct number numbers[] = {
        [FAILURES] = {"failures", 1, COUNT_MOST, rules->failures > 0 ? rules->failures : 3},
        [TIME] = {"time", 1, MS_MOST, rules->eject_ns / NS_PER_MS},
        [MOST] = {"most", 1, MS_MOST, rules->eject_most_ns / NS_PER_MS},
    };

    (void)ctx;
    if (is_off(node)) {
        rules->failures = 0;
        return 0;
    }
    if (node->type != YOML_TYPE_MAPPING)
        return config_fail(cmd, node, "want OFF, or a mapping of failures, time and most");
    if (read_mapping(cmd, node, numbers, 3, NULL, NULL, "failures, time, most") != 0)
        return -1;
    if (numbers[MOST].value < numbers[TIME].value)
        return config_fail(
            cmd, node, "most is %llu ms, and time is %llu ms: want most to be no less",
            (unsigned long long)numbers[MOST].value, (unsigned long long)numbers[TIME].value);
    rules->failures = (unsigned)numbers[FAILURES].value;
    rules->eject_ns = numbers[TIME].value * NS_PER_MS;
    rules->eject_most_ns = numbers[MOST].value * NS_PER_MS;
    return 0;
}

static int on_health(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    struct group_rules *rules = rules_of(cmd);
    enum { INTERVAL, TIMEOUT, RISE, FALL };
    struct number numbers[] = {
        [INTERVAL] = {"interval", 10, MS_MOST, rules->check_every_ms},
        [TIMEOUT] = {"timeout", 1, MS_MOST, rules->check_limit_ms},
        [RISE] = {"rise", 1, COUNT_MOST, rules->health.rise},
        [FALL] = {"fall", 1, COUNT_MOST, rules->health.fall},
    };
    yoml_t *path = NULL;

    (void)ctx;
    if (is_off(node)) {
        rules->check_path = NULL;
        return 0;
    }
    if (node->type != YOML_TYPE_MAPPING)
        return config_fail(cmd, node,
                           "want OFF, or a mapping of path, interval, timeout, rise and fall");
    if (read_mapping(cmd, node, numbers, 4, "path", &path, "path, interval, timeout, rise, fall") !=
        0)
        return -1;
    if (path == NULL)
        return config_fail(cmd, node, "want a path to ask for, such as path: /healthz");
    if (!config_is_path(path->data.scalar))
        return config_fail(cmd, path, "%s: want a path that begins with / and has no spaces",
                           path->data.scalar);
    rules->check_path = path->data.scalar;
    rules->check_every_ms = numbers[INTERVAL].value;
    rules->check_limit_ms = numbers[TIMEOUT].value;
    rules->health.rise = (unsigned)numbers[RISE].value;
    rules->health.fall = (unsigned)numbers[FALL].value;
    return 0;
}

void config_define_upstreams(h2o_configurator_t *configurator)
{
    static const struct config_directive directives[] = {
        {"proxy.balance", CONFIG_ALL | CONFIG_SCALAR, on_balance},
        {"proxy.eject", CONFIG_ALL, on_eject},
        {"proxy.health", CONFIG_ALL, on_health},
        {"proxy.slow-start", CONFIG_ALL | CONFIG_SCALAR, on_slow_start},
        {"proxy.wait", CONFIG_ALL | CONFIG_SCALAR, on_wait},
    };

    for (size_t i = 0; i < sizeof(directives) / sizeof(directives[0]); i++)
        h2o_configurator_define_command(configurator, directives[i].name, directives[i].flags,
                                        directives[i].cb);
}

/* ---- the list ---- */

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
            if (read_number(cmd, value, 1, GROUP_WEIGHT_MAX, &weight) != 0)
                return -1;
            member->weight = (unsigned)weight;
        } else if (strcmp(name, "backup") == 0) {
            ssize_t on = value->type == YOML_TYPE_SCALAR
                             ? h2o_configurator_get_one_of(cmd, value, "OFF,ON")
                             : config_fail(cmd, value, "backup: want ON or OFF");
            if (on < 0)
                return -1;
            member->is_backup = on == 1;
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

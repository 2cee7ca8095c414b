#include "config_p.h"

#include <ctype.h>
#include <string.h>

#include "clock.h"
#include "proxy.h"

/* Several upstreams for a route of the proxy or of FastCGI: the directives that say how they share
 * the requests. Texts are borrowed from the tree, which lives as long as the server.
 */

#define MS_MOST (UINT64_C(24) * 3600 * 1000)
#define COUNT_MOST 1000
#define FASTCGI (CONFIG_ALL | CONFIG_EXTENSION)

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
        if (config_get_number(cmd, value, numbers[n].least, numbers[n].most, &numbers[n].value) !=
            0)
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
        len -= before + 1;
        if (len > GROUP_HASH_NAME_MAX)
            return false;
        memcpy(rules->hash_name, text + before, len);
        rules->hash_name[len] = '\0';
        if (forms[i].by == HASH_HEADER)
            h2o_strtolower(rules->hash_name, len);
        rules->balance = BALANCE_HASH;
        rules->hash_by = forms[i].by;
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
                           "hash(header NAME) or hash(cookie NAME), a NAME of at most %d bytes",
                           text, GROUP_HASH_NAME_MAX);
    return 0;
}

static int on_wait(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    (void)ctx;
    return config_get_number(cmd, node, 0, MS_MOST, &rules_of(cmd)->wait_ms);
}

static int on_slow_start(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                         yoml_t *node)
{
    uint64_t ms;

    (void)ctx;
    if (config_get_number(cmd, node, 0, MS_MOST, &ms) != 0)
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
        {"fastcgi.balance", FASTCGI | CONFIG_SCALAR, on_balance},
        {"fastcgi.eject", FASTCGI, on_eject},
        {"fastcgi.slow-start", FASTCGI | CONFIG_SCALAR, on_slow_start},
        {"fastcgi.wait", FASTCGI | CONFIG_SCALAR, on_wait},
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

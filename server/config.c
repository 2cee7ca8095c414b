#include "config.h"

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "config_tree.h"
#include "log.h"
#include "logfiles.h"
#include "routes.h"
#include "status.h"

struct configurator {
    h2o_configurator_t super;
    struct server *server;
};

struct server *config_server(h2o_configurator_command_t *cmd)
{
    return ((struct configurator *)cmd->configurator)->server;
}

/* ---- messages ---- */

/* The library has a function of this name, and its own configurators call it through the dynamic
 * linker, which finds ours first (ld.so(8)): so their messages come with a column too, and as lines
 * of our log. The prototype is h2o/configurator.h's. */
void h2o_configurator_errprintf(h2o_configurator_command_t *cmd, yoml_t *node, const char *reason,
                                ...)
{
    char text[1024];
    va_list args;

    va_start(args, reason);
    (void)vsnprintf(text, sizeof(text), reason, args);
    va_end(args);
    size_t n = strlen(text);
    while (n > 0 && text[n - 1] == '\n')
        text[--n] = '\0';
    bool is_warning = strncmp(text, "[warning] ", 10) == 0;
    log_line(is_warning ? LOG_LEVEL_WARN : LOG_LEVEL_ERROR, "configuration",
             json_pack("{s:s, s:I, s:I}", "file", node->filename != NULL ? node->filename : "?",
                       "line", (json_int_t)node->line + 1, "column", (json_int_t)node->column + 1),
             "%s:%zu:%zu: %s%s%s", node->filename != NULL ? node->filename : "?", node->line + 1,
             node->column + 1, cmd != NULL ? cmd->name : "", cmd != NULL ? ": " : "",
             is_warning ? text + 10 : text);
}

/* Found in place of the library's own in the same way: its fastcgi.spawn starts helpers that
 * another package brings, and would only say that there is no such file. */
char *h2o_configurator_get_cmd_path(const char *cmd)
{
    const char *root = getenv("H2O_ROOT");
    char *path = NULL;

    if (cmd[0] == '/' || strchr(cmd, '/') == NULL)
        return h2o_strdup(NULL, cmd, SIZE_MAX).base;
    if (asprintf(&path, "%s/%s", root != NULL ? root : "/usr", cmd) < 0)
        abort(); /* as the library does without memory */
    if (strncmp(cmd, "share/h2o/", 10) == 0 && access(path, R_OK) != 0)
        log_line(LOG_LEVEL_WARN, "configuration", NULL,
                 "%s is missing: apt-get install h2o, or set H2O_ROOT to where share/h2o is", path);
    return path;
}

bool config_get_text(h2o_configurator_command_t *cmd, yoml_t *mapping, const char *name,
                     yoml_t **ret_text)
{
    *ret_text = yoml_get(mapping, name);
    if (*ret_text == NULL || (*ret_text)->type == YOML_TYPE_SCALAR)
        return true;
    (void)config_fail(cmd, *ret_text, "%s must be a text or a number", name);
    return false;
}

int config_unknown_key(h2o_configurator_command_t *cmd, yoml_t *key, const char *known)
{
    return config_fail(cmd, key, "unknown key %s; known are %s",
                       key->type == YOML_TYPE_SCALAR ? key->data.scalar : "(not a text)", known);
}

/* ---- settings that flags know too ---- */

static int set_text(h2o_configurator_command_t *cmd, const char *directive, yoml_t *node,
                    const char *text)
{
    char want[OPTIONS_WANT_SIZE];
    const char *wanted = options_set_directive(config_server(cmd)->options, directive, text, want);

    return wanted == NULL ? 0 : config_fail(cmd, node, "%s %s: %s", directive, text, wanted);
}

/* `[a, b]` is `a,b`. The text is kept for as long as the process, as the options are. */
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
    return set_text(cmd, directive, node, text);
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

/* Each key of `mapping` sets `GROUP.KEY`, and a mapping below it `GROUP.KEY.KEY`. */
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
        return config_fail(cmd, node,
                           "it is for the whole server; set it beside hosts, not inside");
    return set_group(cmd, cmd->name, node);
}

static int on_path_deadline(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                            yoml_t *node)
{
    (void)ctx;
    return config_fail(
        cmd, node,
        "there are no deadlines of single paths yet; drain: {deadline: %s} beside hosts "
        "sets the one of the whole server",
        node->type == YOML_TYPE_SCALAR ? node->data.scalar : "10s");
}

static int on_user(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    struct server *server = config_server(cmd);

    if (getpwnam(node->data.scalar) == NULL)
        return config_fail(cmd, node, "there is no user %s", node->data.scalar);
    if (set(cmd, "user", node) != 0)
        return -1;
    ctx->globalconf->user = (char *)(uintptr_t)server->options->user; /* for fastcgi.spawn */
    return 0;
}

static int on_generation_header(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                                yoml_t *node)
{
    ssize_t on = h2o_configurator_get_one_of(cmd, node, "OFF,ON");

    (void)ctx;
    if (on < 0)
        return -1;
    config_server(cmd)->options->generation_header |= on == 1;
    return 0;
}

/* ---- settings of the library ---- */

static int on_name_threads(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                           yoml_t *node)
{
    size_t threads;

    (void)ctx;
    if (h2o_configurator_scanf(cmd, node, "%zu", &threads) != 0)
        return -1;
    if (threads < 1 || threads > 1024)
        return config_fail(cmd, node, "%s: want a whole number from 1 to 1024", node->data.scalar);
    h2o_hostinfo_max_threads = threads;
    return 0;
}

static int on_temp_path(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                        yoml_t *node)
{
    char *template = h2o_socket_buffer_mmap_settings.fn_template;
    char path[sizeof(h2o_socket_buffer_mmap_settings.fn_template)];

    (void)ctx;
    int n = snprintf(path, sizeof(path), "%s%s", node->data.scalar, strrchr(template, '/'));
    if (n < 0 || (size_t)n >= sizeof(path))
        return config_fail(cmd, node, "the path is too long");
    if (access(node->data.scalar, W_OK | X_OK) != 0)
        return config_fail(cmd, node, "cannot make files in %s: %s", node->data.scalar,
                           strerrordesc_np(errno));
    (void)strcpy(template, path);
    return 0;
}

static int on_ignored(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      yoml_t *node)
{
    bool is_crash = strncmp(cmd->name, "crash-handler", 13) == 0;

    (void)ctx;
    if (strcmp(cmd->name, "crash-handler.wait-pipe-close") == 0 &&
        h2o_configurator_get_one_of(cmd, node, "OFF,ON") < 0)
        return -1;
    h2o_configurator_errprintf(cmd, node, "[warning] ignored: %s",
                               is_crash ? "crashes are left to the system, see core(5)"
                                        : "OCSP responses are not stapled");
    return 0;
}

static int on_mruby(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    (void)ctx;
    return config_fail(cmd, node,
                       "lastcall has no mruby; move the handler into an application behind "
                       "proxy.reverse.url or fastcgi.connect");
}

/* ---- handler ---- */

static int on_handler(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      yoml_t *node)
{
    if (routes_register(ctx->pathconf, node->data.scalar))
        return 0;
    return config_fail(cmd, node,
                       "no handler %s; there are ready, live, hello, hello-later, sleep, stream",
                       node->data.scalar);
}

/* ---- ssl-session-resumption ---- */

static bool is_one_of(const yoml_t *node, const char *a, const char *b)
{
    return node->type == YOML_TYPE_SCALAR &&
           (strcasecmp(node->data.scalar, a) == 0 || strcasecmp(node->data.scalar, b) == 0);
}

static int check_store(h2o_configurator_command_t *cmd, yoml_t *node, const char *name,
                       const char *also)
{
    yoml_t *store = yoml_get(node, name);

    if (store == NULL || is_one_of(store, "internal", also))
        return 0;
    if (is_one_of(store, "memcached", "memcached"))
        return config_fail(cmd, store, "%s memcached: sessions are kept in this process only",
                           name);
    return config_fail(cmd, store, "%s must be internal%s%s", name, also[0] != 'i' ? " or " : "",
                       also[0] != 'i' ? also : "");
}

#define LIFETIME_MAX (7 * 24 * 3600) /* RFC 8446 section 4.6.1 */

static int check_resumption_keys(h2o_configurator_command_t *cmd, yoml_t *node)
{
    static const char *const known[] = {"mode",
                                        "cache-store",
                                        "ticket-store",
                                        "ticket-file",
                                        "lifetime",
                                        "ticket-cipher",
                                        "ticket-hash",
                                        "memcached",
                                        "cache-memcached-num-threads",
                                        "cache-memcached-prefix",
                                        "ticket-memcached-key"};

    for (size_t i = 0; i < node->data.mapping.size; i++) {
        yoml_t *key = node->data.mapping.elements[i].key;
        bool is_known = false;
        for (size_t j = 0; j < sizeof(known) / sizeof(known[0]); j++)
            is_known |= key->type == YOML_TYPE_SCALAR && strcmp(key->data.scalar, known[j]) == 0;
        if (!is_known)
            return config_unknown_key(cmd, key,
                                      "mode, cache-store, ticket-store, ticket-file, "
                                      "ticket-cipher, ticket-hash, lifetime");
    }
    return 0;
}

static int on_resumption(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                         yoml_t *node)
{
    struct server *server = config_server(cmd);
    struct tickets_config config = {.lifetime = TICKETS_LIFETIME};
    yoml_t *mode, *store, *file, *cipher, *digest, *lifetime;
    char error[256];

    (void)ctx;
    if (check_resumption_keys(cmd, node) != 0 || !config_get_text(cmd, node, "mode", &mode) ||
        !config_get_text(cmd, node, "ticket-store", &store) ||
        !config_get_text(cmd, node, "ticket-file", &file) ||
        !config_get_text(cmd, node, "ticket-cipher", &cipher) ||
        !config_get_text(cmd, node, "ticket-hash", &digest) ||
        !config_get_text(cmd, node, "lifetime", &lifetime))
        return -1;
    if (mode == NULL)
        return config_fail(cmd, node, "it has no mode (off, all, cache or ticket)");
    config.cache = is_one_of(mode, "all", "cache");
    config.tickets = is_one_of(mode, "all", "ticket");
    if (!config.cache && !config.tickets && !is_one_of(mode, "off", "off"))
        return config_fail(cmd, mode, "mode must be off, all, cache or ticket");
    if ((config.cache && check_store(cmd, node, "cache-store", "internal") != 0) ||
        (config.tickets && check_store(cmd, node, "ticket-store", "file") != 0))
        return -1;
    if (config.tickets && store != NULL && strcasecmp(store->data.scalar, "file") == 0) {
        if (file == NULL)
            return config_fail(cmd, store, "ticket-store file wants a ticket-file");
        config.file = file->data.scalar;
    }
    if (lifetime != NULL) {
        char *end;
        unsigned long seconds = strtoul(lifetime->data.scalar, &end, 10);
        if (lifetime->data.scalar[0] < '1' || lifetime->data.scalar[0] > '9' || *end != '\0' ||
            seconds > LIFETIME_MAX)
            return config_fail(cmd, lifetime, "lifetime %s: want a number of seconds, from 1 to %d",
                               lifetime->data.scalar, LIFETIME_MAX);
        config.lifetime = (unsigned)seconds;
    }
    config.cipher = cipher != NULL ? cipher->data.scalar : NULL;
    config.digest = digest != NULL ? digest->data.scalar : NULL;
    tickets_free(server->tickets); /* the last one counts */
    server->tickets = tickets_new(&config, error, sizeof(error));
    return server->tickets != NULL ? 0 : config_fail(cmd, node, "%s", error);
}

/* ---- directives of the library that we look at first ---- */

static h2o_configurator_command_cb library_access_log, library_streams, library_proxy;

/* It has an assertion about this, when the first request comes. */
static int on_streams(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      yoml_t *node)
{
    if (library_streams(cmd, ctx, node) != 0)
        return -1;
    if (ctx->globalconf->http2.max_concurrent_requests_per_connection > 0)
        return 0;
    return config_fail(cmd, node, "%s: want a whole number, at least 1", node->data.scalar);
}

/* And one about the path of a Unix socket. What goes to our application may have to wait for it. */
static int on_proxy(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    static const struct sockaddr_un address;
    const char *path =
        node->type == YOML_TYPE_SCALAR ? strstr(node->data.scalar, "//[unix:") : NULL;

    if (path != NULL && strcspn(path + 8, "]") >= sizeof(address.sun_path))
        return config_fail(cmd, node, "the path of a Unix socket must have 1 to %zu bytes",
                           sizeof(address.sun_path) - 1);
    /* The command is the library's, and does not know whose it is. */
    struct server *server = container_of(ctx->globalconf, struct server, globalconf);
    if (node->type == YOML_TYPE_SCALAR && hold_is_for(server, node->data.scalar)) {
        server->hands_on_to_app = true;
        if (ctx->mimemap !=
            NULL) /* the pseudo-path of file.custom-handler takes one handler only */
            hold_register(ctx->pathconf);
    }
    return library_proxy(cmd, ctx, node);
}

/* The library does not say where it was asked to. */
static int on_access_log(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                         yoml_t *node)
{
    bool is_text = node->type == YOML_TYPE_SCALAR;
    const yoml_t *path = is_text ? node : yoml_get(node, "path");

    (void)logfiles_take_error();
    if (library_access_log(cmd, ctx, node) == 0)
        return 0;
    int err = logfiles_take_error();
    if ((!is_text && node->type != YOML_TYPE_MAPPING) || path == NULL ||
        path->type != YOML_TYPE_SCALAR)
        return -1; /* it was said */
    if (err != 0)
        return config_fail(cmd, node, "cannot log to %s: %s", path->data.scalar,
                           strerrordesc_np(err));
    return config_fail(cmd, node, "cannot log to %s in that format", path->data.scalar);
}

/* What is on a path, for the metrics. */
static struct route_directive {
    const char *name;
    enum route_kind kind;
    h2o_configurator_command_cb library;
} route_directives[] = {
    {"file.dir", ROUTE_FILE, NULL},           {"file.file", ROUTE_FILE, NULL},
    {"proxy.reverse.url", ROUTE_PROXY, NULL}, {"fastcgi.connect", ROUTE_FASTCGI, NULL},
    {"fastcgi.spawn", ROUTE_FASTCGI, NULL},   {"redirect", ROUTE_INLINE, NULL},
    {"status", ROUTE_INLINE, NULL},
};
#define ROUTE_DIRECTIVES (sizeof(route_directives) / sizeof(route_directives[0]))

static int on_route(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node)
{
    size_t i = 0;

    while (strcmp(route_directives[i].name, cmd->name) != 0)
        i++;
    if (ctx->pathconf != NULL)
        gate_note_kind(ctx->pathconf, route_directives[i].kind);
    return route_directives[i].library(cmd, ctx, node);
}

static void watch_routes(h2o_globalconf_t *conf)
{
    for (size_t i = 0; i < ROUTE_DIRECTIVES; i++) {
        h2o_configurator_command_t *command =
            h2o_configurator_get_command(conf, route_directives[i].name);
        route_directives[i].library = command->cb;
        command->cb = on_route;
    }
}

/* ---- the tables ---- */

static int on_enter(h2o_configurator_t *self, h2o_configurator_context_t *ctx, yoml_t *node)
{
    (void)self;
    (void)node;
    /* A path's handlers come in the order of its directives, and the gate must be the first. */
    if (ctx->pathconf == NULL)
        return 0;
    if (ctx->mimemap == NULL) /* the pseudo-path of file.custom-handler */
        gate_register_inner(ctx->pathconf);
    else if (ctx->pathconf == &ctx->hostconf->fallback_path)
        gate_register_fallback(ctx->pathconf);
    else
        gate_register(ctx->pathconf);
    return 0;
}

static void define_commands(struct server *server)
{
    enum {
        GLOBAL = H2O_CONFIGURATOR_FLAG_GLOBAL,
        HOST = H2O_CONFIGURATOR_FLAG_HOST,
        PATH = H2O_CONFIGURATOR_FLAG_PATH,
        ALL = GLOBAL | HOST | PATH,
        SCALAR = H2O_CONFIGURATOR_FLAG_EXPECT_SCALAR,
        MAPPING = H2O_CONFIGURATOR_FLAG_EXPECT_MAPPING,
    };
    static const struct {
        const char *name;
        int flags;
        h2o_configurator_command_cb cb;
    } commands[] = {
        {"listen", GLOBAL | HOST, config_listen},
        {"num-threads", GLOBAL | SCALAR, on_setting},
        {"max-connections", GLOBAL | SCALAR, on_setting},
        {"user", GLOBAL | SCALAR, on_user},
        {"pid-file", GLOBAL | SCALAR, on_setting},
        {"error-log", GLOBAL | SCALAR, on_setting},
        {"tcp-fastopen", GLOBAL | SCALAR, on_setting},
        {"num-name-resolution-threads", GLOBAL | SCALAR, on_name_threads},
        {"temp-buffer-path", GLOBAL | SCALAR, on_temp_path},
        {"ssl-session-resumption", GLOBAL | MAPPING, on_resumption},
        {"num-ocsp-updaters", GLOBAL | SCALAR, on_ignored},
        {"crash-handler", GLOBAL | SCALAR, on_ignored},
        {"crash-handler.wait-pipe-close", GLOBAL | SCALAR, on_ignored},
        {"mruby.handler", ALL | H2O_CONFIGURATOR_FLAG_EXTENSION, on_mruby},
        {"mruby.handler-file", ALL | H2O_CONFIGURATOR_FLAG_EXTENSION, on_mruby},
        {"mruby.handler_path", ALL | H2O_CONFIGURATOR_FLAG_EXTENSION, on_mruby},
        {"pool", ALL | MAPPING, on_group},
        {"drain", ALL | MAPPING, on_group},
        {"admin", ALL | MAPPING, on_group},
        {"heartbeat", ALL | MAPPING, on_group},
        {"watchdog", ALL | MAPPING, on_group},
        {"app", ALL | MAPPING, on_group},
        {"register", ALL | MAPPING, on_group},
        {"journal", ALL | MAPPING, on_group},
        {"drain.deadline", ALL, on_path_deadline},
        {"restart", ALL | MAPPING, on_group},
        {"generation-header", GLOBAL | SCALAR, on_generation_header},
        {"handler", PATH | SCALAR, on_handler},
    };
    struct configurator *own =
        (void *)h2o_configurator_create(&server->globalconf, sizeof(struct configurator));

    own->server = server;
    own->super.enter = on_enter;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        h2o_configurator_define_command(&own->super, commands[i].name, commands[i].flags,
                                        commands[i].cb);
    h2o_access_log_register_configurator(&server->globalconf);
    h2o_compress_register_configurator(&server->globalconf);
    h2o_expires_register_configurator(&server->globalconf);
    h2o_errordoc_register_configurator(&server->globalconf);
    h2o_fastcgi_register_configurator(&server->globalconf);
    h2o_file_register_configurator(&server->globalconf);
    h2o_throttle_resp_register_configurator(&server->globalconf);
    h2o_headers_register_configurator(&server->globalconf);
    h2o_proxy_register_configurator(&server->globalconf);
    h2o_reproxy_register_configurator(&server->globalconf);
    h2o_redirect_register_configurator(&server->globalconf);
    h2o_status_register_configurator(&server->globalconf);
    h2o_http2_debug_state_register_configurator(&server->globalconf);
    status_register(server);

    const struct {
        const char *name;
        h2o_configurator_command_cb own, *library;
    } first[] = {
        {"access-log", on_access_log, &library_access_log},
        {"http2-max-concurrent-requests-per-connection", on_streams, &library_streams},
        {"proxy.reverse.url", on_proxy, &library_proxy},
    };
    for (size_t i = 0; i < sizeof(first) / sizeof(first[0]); i++) {
        h2o_configurator_command_t *command =
            h2o_configurator_get_command(&server->globalconf, first[i].name);
        *first[i].library = command->cb;
        command->cb = first[i].own;
    }
    watch_routes(&server->globalconf);
}

/* ---- what flags stand for ---- */

static void put_quoted(FILE *out, const char *text)
{
    (void)fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            (void)fputc('\\', out);
        if ((unsigned char)*text < 0x20)
            (void)fprintf(out, "\\x%02x", (unsigned char)*text);
        else
            (void)fputc(*text, out);
    }
    (void)fputc('"', out);
}

static yoml_t *tree_of_flags(const struct options *options, char *error, size_t error_size)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (out == NULL) {
        (void)snprintf(error, error_size, "no memory to start");
        return NULL;
    }
    (void)fputs("hosts:\n  default:\n    paths:\n", out);
    if (options->root != NULL) {
        (void)fputs("      /files:\n        file.dir: ", out);
        put_quoted(out, options->root);
    }
    if (options->proxy != NULL) {
        (void)fputs("\n      /:\n        proxy.reverse.url: ", out);
        put_quoted(out, options->proxy);
        (void)fputc('\n', out);
    } else {
        (void)fputs("\n      /hello: {handler: hello}\n"
                    "      /sleep: {handler: sleep}\n"
                    "      /stream: {handler: stream}\n"
                    "      /: {handler: hello-later}\n",
                    out);
    }
    yoml_t *tree = NULL;
    if (fclose(out) == 0)
        tree = tree_load_bytes("(flags)", text, size, error, error_size);
    else
        (void)snprintf(error, error_size, "no memory to start");
    free(text);
    return tree;
}

/* ---- all ---- */

int config_apply(struct server *server)
{
    struct options *options = server->options;
    h2o_globalconf_t *conf = &server->globalconf;
    char error[1024];

    if (options->user == NULL && options->conf != NULL && getuid() == 0)
        options->user = "nobody"; /* unless the file says better */
    conf->user = (char *)(uintptr_t)options->user;
    int err;
    IN_LIBRARY_FOR_GOOD(define_commands(server));
    server->tree = options->conf != NULL ? tree_load_file(options->conf, error, sizeof(error))
                                         : tree_of_flags(options, error, sizeof(error));
    if (server->tree == NULL) {
        log_line(LOG_LEVEL_ERROR, "configuration", NULL, "%s", error);
        return COORD_EXIT_CONFIG;
    }
    IN_LIBRARY_FOR_GOOD(err = h2o_configurator_apply(conf, server->tree, options->test));
    if (err != 0)
        return server->listen_failed ? COORD_EXIT_UNAVAILABLE : COORD_EXIT_CONFIG;
    if (options->conf != NULL && server->listeners.count == 0 && options->listen_count == 0 &&
        (options->inheritance == NULL || inherit_left_over(options->inheritance, true) == NULL)) {
        (void)config_fail(NULL, server->tree,
                          "there is no listen in it, and no --listen beside it");
        return COORD_EXIT_CONFIG;
    }
    return 0;
}

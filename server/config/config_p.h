#ifndef LASTCALL_CONFIG_P_H
#define LASTCALL_CONFIG_P_H

/* What the files of the configuration share, a file a group of directives.
 * Thread: main only, for all of these. */

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "config.h"
#include "options.h"
#include "server_state.h"

struct group_rules;
struct proxy_extras;
struct proxy_members;

/* Our configurator, which libh2o calls for our directives. */
struct config_reader {
    h2o_configurator_t super;
    struct server *server;
    struct options *options;
    bool listen_failed;     /* an address could not be opened */
    bool hands_on_to_app;   /* some path proxies to the application */
    struct config_cgi *cgi; /* a list of all `handler.cgi` */
    struct {
        yoml_t *node; /* NULL: the path has none */
        h2o_configurator_command_t *cmd;
    } place; /* of the path that is read */
};

enum config_flags {
    CONFIG_GLOBAL = H2O_CONFIGURATOR_FLAG_GLOBAL,
    CONFIG_HOST = H2O_CONFIGURATOR_FLAG_HOST,
    CONFIG_PATH = H2O_CONFIGURATOR_FLAG_PATH,
    CONFIG_ALL = CONFIG_GLOBAL | CONFIG_HOST | CONFIG_PATH,
    CONFIG_EXTENSION = H2O_CONFIGURATOR_FLAG_EXTENSION,
    CONFIG_SCALAR = H2O_CONFIGURATOR_FLAG_EXPECT_SCALAR,
    CONFIG_MAPPING = H2O_CONFIGURATOR_FLAG_EXPECT_MAPPING,
};

struct config_directive {
    const char *name;
    int flags; /* enum config_flags */
    h2o_configurator_command_cb cb;
};

/* ---- config_reader.c ---- */

/* Make the reader; libh2o frees it with its configuration. */
struct config_reader *config_reader_create(struct server *server, struct options *options);

/* The reader that a directive of ours belongs to, and what it fills. */
struct config_reader *config_reader(h2o_configurator_command_t *cmd);
struct server *config_server(h2o_configurator_command_t *cmd);
struct options *config_options(h2o_configurator_command_t *cmd);
/* The same for a directive of libh2o. */
struct config_reader *config_reader_of(h2o_globalconf_t *conf);

void config_define(struct config_reader *reader, const struct config_directive *directives,
                   size_t count);

/* A configurator of libh2o whose directives hold for the level that they stand on and those below:
 * the whole, a host, a path. Each level begins as a copy of the one around it, of `size` bytes.
 * `at_end`: called at the end of a level; NULL: nothing. libh2o frees it with its configuration.
 * Thread: main, before start. */
typedef void config_level_end(h2o_configurator_context_t *ctx, const void *level);
h2o_configurator_t *config_levels_create(h2o_globalconf_t *conf, size_t size,
                                         config_level_end *at_end);
/* The level that a directive of such a configurator stands on, or is about to. Thread: as above. */
void *config_level(h2o_configurator_t *configurator);

/* Log why the process does not start. Returns `status`. */
int config_refuse(int status, const char *error);

/* ---- a file each ---- */

int config_listen(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node);
void config_define_settings(struct config_reader *reader);
void config_define_sessions(struct config_reader *reader);
void config_define_library(struct config_reader *reader);
void config_define_module(struct config_reader *reader);
/* `handler: NAME` of a program or a module. False: there is none of that name. */
bool config_register_named(struct config_reader *reader, h2o_pathconf_t *path, const char *name);
void config_define_cgi(struct config_reader *reader);
/* At the reader's end: free what `handler.cgi` has made. */
void config_cgi_dispose(struct config_reader *reader);

/* ---- config_app.c ---- */

/* Is the application at `url`? Paths and schemes are not compared. */
bool config_app_is_at(const struct options *options, const char *url);
/* Do its settings fit together?     Errors: 0; an enum exit_status: the cause was logged. */
int config_app_check(const struct config_reader *reader);

/* Is it one that can become part of a request without escaping? */
bool config_is_path(const char *text);

/* ---- config_proxy.c ---- */

/* Define the directives of the proxy and of FastCGI that libh2o lacks. */
void config_define_proxy(h2o_globalconf_t *conf);
/* A route of either is about to be registered: hand over what they say on its path. */
void config_use_proxy(h2o_globalconf_t *conf);
/* What they say on the level that a directive of theirs stands on. */
struct proxy_extras *config_proxy_extras(h2o_configurator_command_t *cmd);

/* ---- config_upstreams.c ---- */

void config_upstreams_default(struct group_rules *rules);
/* Define those about several upstreams, as a part of the proxy's. */
void config_define_upstreams(h2o_configurator_t *configurator);

/* ---- config_upstream_list.c ---- */

/* Read the value of `proxy.reverse.url`: a URL, a mapping, or a list of these. `is_app` says
 * whether the application answers at a URL, and *ret_has_app whether it does at any. Returns the
 * node of the first URL; NULL: a problem was reported. */
yoml_t *config_read_upstreams(h2o_configurator_command_t *cmd, yoml_t *node,
                              struct proxy_members *members,
                              bool (*is_app)(void *data, const char *url), void *data,
                              bool *ret_has_app);
/* Read the value of `fastcgi.connect`, an application or a list of these, and register its route
 * with `library`, libh2o's own callback, which takes one. Of `fastcgi.spawn`: one command, and a
 * list is refused. The caller has set the groups and the host of `members`. */
int config_register_fastcgi(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                            yoml_t *node, struct proxy_members *members,
                            h2o_configurator_command_cb library);

/* ---- config_request_id.c, config_access_log.c ---- */

/* Define `request-id` and `request-id.answer`. */
void config_define_request_id(h2o_globalconf_t *conf);
/* The callback of `access-log`; `library` is libh2o's own. */
int config_access_log(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx,
                      yoml_t *node, h2o_configurator_command_cb library);

/* ---- config_flags.c ---- */

/* The tree that the flags stand for, when there is no file. NULL, and `error` holds one line. */
yoml_t *config_flags_tree(const struct options *options, char *error, size_t error_size);
/* These:     Errors: 0; an enum exit_status: the cause was logged. */

/* Do --root, --listen tls:, --cert and --key fit together? */
int config_flags_check(const struct options *options);
/* Is there anything to listen on? */
int config_flags_check_listens(const struct config_reader *reader);
/* Open --listen, which overrides the addresses of a file, or the sockets of a service manager. */
int config_flags_listen(struct config_reader *reader);

/* ---- config_merge.c ---- */

/* The tree of the file, or of the flags, and what calls have set. NULL, and `error` holds one line.
 */
yoml_t *config_tree(const struct options *options, char *error, size_t error_size);
/* Write the paths that calls have set, as they stand under `paths:`. False: there are none. */
bool config_put_paths(FILE *out, const struct options *options);
/* Write `text` as YAML does between quotes. */
void config_put_quoted(FILE *out, const char *text);

/* ---- config_report.c ---- */

/* The replacement of h2o_configurator_errprintf(), see mends/replaced.h: log a problem of the
 * configuration with file, line and column; `reason` and `args` as printf(3) takes them. A reason
 * that begins with "[warning] " is a warning. */
void config_report(h2o_configurator_command_t *cmd, yoml_t *node, const char *reason, va_list args)
    __attribute__((format(printf, 3, 0)));

/* From now on a report on this thread may name a directive of `conf` that was meant; NULL: none. */
void config_report_knows(const h2o_globalconf_t *conf);

/* The replacement of h2o_configurator_get_cmd_path(): the path of a helper program of h2o's.
 * Owner: the caller; free(3). */
char *config_command_path(const char *cmd);

/* Report a problem of `node`; evaluates to -1, for the caller to return. */
#define config_fail(cmd, node, ...) (h2o_configurator_errprintf(cmd, node, __VA_ARGS__), -1)

/* The text under `name` in a mapping; NULL if there is none. False: it is not a text, and that was
 * reported. */
bool config_get_text(h2o_configurator_command_t *cmd, yoml_t *mapping, const char *name,
                     yoml_t **ret_text);

/* Report an unknown key of a mapping. Returns -1. */
int config_unknown_key(h2o_configurator_command_t *cmd, yoml_t *key, const char *known);
/* ON or OFF, of a scalar.     Errors: 0; -1, and a problem was reported. */
int config_get_switch(h2o_configurator_command_t *cmd, yoml_t *node, bool *ret_on);
/* A whole number in these bounds.     Errors: as above. */
int config_get_number(h2o_configurator_command_t *cmd, yoml_t *node, uint64_t least, uint64_t most,
                      uint64_t *ret_number);

#endif

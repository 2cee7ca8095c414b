#ifndef LASTCALL_CONFIG_H
#define LASTCALL_CONFIG_H

/* The configuration language of h2o.conf. libh2o brings most directives; what its main program adds
 * (listen, user, ssl-session-resumption, ...) and our own (pool, drain, handler) are here. */

#include <stddef.h>

#include "server_p.h"

/* Read what server->options names, or what its flags stand for, into server->globalconf,
 * server->options, server->listeners and server->tickets. Each problem is one line in the log, with
 * file, line and column.
 * Thread: main only, once, before anything else uses them.
 * Blocks: on files and name resolution.
 * Errors: 0; COORD_EXIT_CONFIG; COORD_EXIT_UNAVAILABLE, an address can not be listened on. */
int config_apply(struct server *server);

/* ---- config_listen.c ---- */

/* The directive `listen`, globally and in a host.     Thread: main only. */
int config_listen(h2o_configurator_command_t *cmd, h2o_configurator_context_t *ctx, yoml_t *node);

/* ---- for both; Thread: main only, while the configuration is read ---- */

/* Say what is wrong with `node`; -1, for the caller to return. */
#define config_fail(cmd, node, ...) (h2o_configurator_errprintf(cmd, node, __VA_ARGS__), -1)

/* Whose directive this is. */
struct server *config_server(h2o_configurator_command_t *cmd);

/* The text under `name` in a mapping; NULL if it is not there. False: it is no text, and that was
 * said. */
bool config_get_text(h2o_configurator_command_t *cmd, yoml_t *mapping, const char *name,
                     yoml_t **ret_text);

/* Say of a key in a mapping that nobody knows it. Returns -1. */
int config_unknown_key(h2o_configurator_command_t *cmd, yoml_t *key, const char *known);

#endif

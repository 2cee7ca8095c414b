#ifndef LASTCALL_CONFIG_H
#define LASTCALL_CONFIG_H

/* The configuration language of h2o.conf, as a reader: it completes the options of the command line
 * by what the file says, and opens the listeners. libh2o brings most directives; what h2o's main
 * program adds (listen, user, ssl-session-resumption, ...) and our own (pool, drain, handler) are
 * in this folder. Nothing of libh2o shows in this header. */

#include <stdint.h>

struct options;
struct probe_target;
struct server;

/* Read the file that options->conf names, or what the flags stand for, into *options and into the
 * server's paths, listeners and TLS settings. With options->test nothing is opened. Each problem is
 * one line in the log, with file, line and column.
 * Owner:  texts in *options are borrowed from argv and from the server's tree.
 * Thread: main only, once, after server_create().     Blocks: on files and name resolution.
 * Errors: 0; EXIT_STATUS_USAGE; EXIT_STATUS_CONFIG; EXIT_STATUS_UNAVAILABLE: an address cannot be
 * listened on. */
int config_apply(struct options *options, struct server *server);

/* Where the application answers, from options->app_url, and the port of that (0: a Unix socket).
 * Thread: main only, after config_apply(), if options->command is set.
 * Blocks: on name resolution.     Errors: 0; a negative errno: the cause was logged. */
int config_app_target(const struct options *options, struct probe_target *ret_target,
                      uint16_t *ret_port);

#endif

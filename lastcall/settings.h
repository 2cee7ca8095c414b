#ifndef LASTCALL_SETTINGS_H
#define LASTCALL_SETTINGS_H

/* What each part of the process takes of the options, after the configuration was read. Texts are
 * borrowed from the options.     Thread: any. */

#include "admin.h"
#include "coord.h"
#include "journal.h"
#include "options.h"
#include "queue.h"
#include "registration.h"
#include "server_config.h"

struct server_config settings_server(const struct options *options);
struct admin_config settings_admin(const struct options *options);
struct drain_config settings_drain(const struct options *options);
struct journal_config settings_journal(const struct options *options);
struct queue_config settings_queue(const struct options *options);
/* `port` is that of the first TCP listener; -1 with --test. */
struct registration_config settings_registration(const struct options *options, int port);

#endif

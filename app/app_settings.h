#ifndef LASTCALL_APP_SETTINGS_H
#define LASTCALL_APP_SETTINGS_H

/* What the configuration says about the application, without its command, and its user. A server
 * fills it in. A master reads no configuration; if it has the application (master_app.h), its
 * worker sends these settings (app_message.h). */

#include <stdbool.h>
#include <stdint.h>

#include "app_rules.h"
#include "app_user.h"
#include "probe.h"

/* The port that was picked for an application without an address, in the environment of lastcall's
 * own processes: a master and its workers need the same one. The application gets it as PORT,
 * whatever that was before. */
#define APP_PORT_ENVIRONMENT "LASTCALL_APP_PORT"

struct app_settings {
    struct probe_target target;
    uint16_t port; /* PORT in its environment; 0: none */
    struct app_rules_config rules;
    bool has_user; /* false: the same user as the process that starts it */
    struct app_user user;
};

#endif

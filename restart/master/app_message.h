#ifndef LASTCALL_APP_MESSAGE_H
#define LASTCALL_APP_MESSAGE_H

/* The settings of the application as fields of HANDOVER_APP, which a worker sends to its master
 * before READY. */

#include "app_settings.h"
#include "handover.h"

/* Write the settings as fields of `message`.     Thread: the message's owner. */
void app_message_put(const struct app_settings *settings, struct message *message);

/* Read them.     Thread: the message's owner.     Errors: 0; -EPROTO, something is missing. */
int app_message_get(const struct message *message, struct app_settings *ret_settings);

#endif

#ifndef LASTCALL_REPLAY_SEND_H
#define LASTCALL_REPLAY_SEND_H

/* One request as libcurl sends it. */

#include <stddef.h>
#include <stdint.h>

#include "replay_item.h"

#define REPLAY_HEADERS_MAX 32

struct replay_target {
    const char *url;     /* http://host:port, without a path */
    const char *socket;  /* connect to this Unix socket; NULL: to the URL's host */
    const char *ca_file; /* PEM: the authorities for https; NULL: the system's */
    const char *host;    /* replaces the request's Host; NULL: keep it */
    const char *headers[REPLAY_HEADERS_MAX]; /* added; each replaces those of the same name */
    size_t header_count;
    uint64_t timeout_ns;
};

/* Set up item->easy for the next attempt; its CURLOPT_PRIVATE is the item. It ends with
 * replay_item_end_attempt().     Thread: main only.     Errors: 0; -ENOMEM. */
int replay_send_prepare(const struct replay_target *target, struct replay_item *item);

#endif

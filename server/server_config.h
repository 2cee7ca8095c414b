#ifndef LASTCALL_SERVER_CONFIG_H
#define LASTCALL_SERVER_CONFIG_H

/* What the loops, the limits and the requests read of the settings. lastcall/ fills it from the
 * command line and the configuration file, after both were read (see lastcall/settings.c); the
 * server keeps a copy, which does not change. */

#include <stdbool.h>
#include <stdint.h>

#include "drain.h"

struct server_config {
    uint64_t threads; /* loops */
    uint64_t workers;
    uint64_t queue;           /* requests that may wait for a worker */
    uint64_t max_bodies;      /* bytes of the bodies in the pool, and as many of held requests */
    uint64_t stream_bytes;    /* that a handler may write ahead of its client, see stream.h */
    uint64_t max_connections; /* 0: as many as the limit on open files allows */
    uint64_t max_arriving;    /* bytes of bodies that are still arriving; 0: see bodies.c */
    uint64_t stall_ns;        /* the watchdog's limit; 0: no watchdog */

    /* the header of a request, see h2_headers.c */
    uint64_t max_header_fields;
    uint64_t max_header_size;  /* bytes: names, values, and 32 for each field */
    uint64_t max_header_block; /* bytes, as HTTP/2 sends them */
    bool host_may_differ;      /* from :authority; see h2_rules.c */

    /* slow clients, see progress.c */
    uint64_t progress_rate; /* bytes a second that a client must send or take; 0: no minimum */
    uint64_t progress_window_ns;
    uint64_t progress_head_ns; /* HTTP/2: until a header is complete */
    uint64_t progress_idle_ns; /* HTTP/2: without a stream */

    /* the drain */
    uint64_t idle_grace_ns;           /* an idle connection may begin a request for this long */
    uint64_t linger_ns;               /* a closed connection is kept for its client this long */
    uint64_t settle_max_ns;           /* the most that closing a listener may take */
    uint64_t class_ns[DRAIN_CLASSES]; /* deadlines of single classes; 0: the general one */

    bool has_app;         /* the application that answers is started beside the server */
    uint64_t app_hold_ns; /* how long a request waits for it */
    bool journal_hold;    /* a request is read only once it is on record, see deferred_read.c */

    bool generation_header; /* answers carry Lastcall-Generation */
    uint64_t generation;    /* 1, and one more with each restart */
    int conns_fd;           /* connections of the predecessor arrive here; -1: none do */

    bool is_embedded; /* in a program whose limits are its own: the one on open files stays */
};

#endif

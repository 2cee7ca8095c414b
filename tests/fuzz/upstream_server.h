#ifndef LASTCALL_FUZZ_UPSTREAM_SERVER_H
#define LASTCALL_FUZZ_UPSTREAM_SERVER_H

#include <stdint.h>
#include <sys/types.h>

enum { SERVER_HTTP, SERVER_FASTCGI };

struct server {
    pid_t pid;
    uint16_t port;
    int listeners[2]; /* ours: what it hands requests on to */
    char conf[64];    /* its configuration, to be removed */
};

/* Start `binary`, and wait until it listens. Its log goes to the file that FUZZ_LOG names; without,
 * it is discarded. It dies with this process. */
void server_start(struct server *server, const char *binary);

#endif

#ifndef LASTCALL_PROBE_H
#define LASTCALL_PROBE_H

/* Does something answer there? A connection that is made, or a GET that is answered with 2xx; one
 * attempt at a time, without blocking, for whoever has a poll(2) of its own. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PROBE_ADDRESSES 4
#define PROBE_REQUEST_SIZE 1024

/* Where to ask, and what. */
struct probe_target {
    struct {
        struct sockaddr_storage address;
        socklen_t length;
    } at[PROBE_ADDRESSES]; /* a name may have several: they are asked in turn */
    size_t count;
    char name[128];                   /* for messages */
    char request[PROBE_REQUEST_SIZE]; /* "": a connection is enough */
};

/* `path` non-NULL: a Unix socket; else `host`, a name or an address, and `port`. `health` is a path
 * to GET; NULL: a connection is enough.
 * Thread: any.     Blocks: on name resolution.
 * Errors: 0; -EHOSTUNREACH, no such name; -ENAMETOOLONG. */
int probe_target_init(struct probe_target *target, const char *path, const char *host,
                      uint16_t port, const char *health);

struct probe {
    int fd;        /* -1: no attempt is under way */
    short events;  /* what to poll(2) it for */
    size_t turn;   /* which address is next */
    size_t sent;   /* of the request */
    size_t got;    /* of the status line */
    char line[13]; /* "HTTP/1.1 200" */
    char why[96];  /* what came in place of an answer, for people */
};

enum probe_result { PROBE_PENDING, PROBE_ANSWERED, PROBE_FAILED };

/* Thread: all of these: the owner's own.     Blocks: never. */
void probe_init(struct probe *probe);

/* Begin an attempt; none must be under way. */
enum probe_result probe_begin(struct probe *probe, const struct probe_target *target);

/* poll(2) has said something about the descriptor. */
enum probe_result probe_go_on(struct probe *probe, const struct probe_target *target);

/* End the attempt, if there is one; `why` stays. */
void probe_end(struct probe *probe);

#endif

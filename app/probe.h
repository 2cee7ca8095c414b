#ifndef LASTCALL_PROBE_H
#define LASTCALL_PROBE_H

/* Does something answer at an address? The answer is a connection, or a 2xx response to a GET. One
 * attempt at a time, without blocking; the owner polls the descriptor. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PROBE_ADDRESSES 4
#define PROBE_REQUEST_SIZE 1024

/* What to probe. */
struct probe_target {
    struct {
        struct sockaddr_storage address;
        socklen_t length;
    } at[PROBE_ADDRESSES]; /* a name may have several: they are tried in turn */
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
    char why[96];  /* why the last attempt failed, for people */
};

enum probe_result { PROBE_PENDING, PROBE_ANSWERED, PROBE_FAILED };

/* Thread: all of these: the owner's.     Blocks: never. */
void probe_init(struct probe *probe);

/* Begin an attempt; none must be under way. */
enum probe_result probe_begin(struct probe *probe, const struct probe_target *target);

/* poll(2) has reported an event on the descriptor. */
enum probe_result probe_go_on(struct probe *probe, const struct probe_target *target);

/* End the attempt, if there is one; `why` is kept. */
void probe_end(struct probe *probe);

#endif

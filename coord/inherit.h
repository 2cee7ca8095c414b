#ifndef LASTCALL_INHERIT_H
#define LASTCALL_INHERIT_H

/* Listening sockets that this process was born with: from the process it succeeds, from a service
 * manager (LISTEN_FDS, sd_listen_fds(3)), or from start_server (SERVER_STARTER_PORT). Whoever wants
 * to listen somewhere looks here first. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "handover.h"

struct inherited {
    int fd;                          /* -1: taken */
    int switch_fd;                   /* of its filter (listener_filter.c); -1: none, or taken */
    uint64_t id;                     /* handover_socket_id() */
    struct sockaddr_storage address; /* as it was asked for; port 0 may be among it */
    socklen_t address_length;
    bool is_dual;           /* IPv6, and takes IPv4 too */
    bool is_held;           /* whoever gave it keeps it open: closing it refuses nobody */
    uint64_t device, inode; /* Unix: its socket file; 0: nobody's to remove */
    char name[128];         /* for messages */
};

struct inheritance {
    struct inherited *items;
    size_t count;
    bool is_activation; /* of a service manager, not of a predecessor */
};

/* What a service manager or start_server left in the environment; it is removed from there, so that
 * nobody we start takes it for its own. Neither: 0 and nothing added.
 * Thread: main only, before start.     Errors: 0; -EINVAL, and `error` holds one line. */
int inherit_from_environment(struct inheritance *inheritance, char *error, size_t error_size);

/* From a message HANDOVER_LISTENER, whose descriptors are taken.
 * Thread: the owner's.     Errors: 0; -EPROTO it has no listener; -ENOMEM. */
int inherit_add(struct inheritance *inheritance, struct handover_message *message);

/* The other way. Descriptors are borrowed.     Thread: the owner's. */
void inherit_put(const struct inherited *item, struct handover_message *message);

/* One that was not taken yet, for this address; NULL: none.     Thread: the owner's. */
struct inherited *inherit_find(struct inheritance *inheritance, const struct sockaddr *address,
                               socklen_t length, bool is_dual);

/* One that nobody has taken; NULL: none is left. `held`: of those that somebody else keeps open:
 * who does that was told that we serve there.     Thread: the owner's. */
struct inherited *inherit_left_over(struct inheritance *inheritance, bool held);

/* Close what was not taken.     Thread: the owner's. */
void inherit_release(struct inheritance *inheritance);

#endif

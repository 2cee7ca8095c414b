#ifndef LASTCALL_INHERIT_H
#define LASTCALL_INHERIT_H

/* Listening sockets that this process has inherited: from its predecessor, from a service manager
 * (LISTEN_FDS, sd_listen_fds(3)), or from start_server (SERVER_STARTER_PORT). The server looks here
 * before it opens a socket. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "handover.h"

struct inherited {
    int fd;                          /* -1: taken */
    uint64_t id;                     /* handover_socket_id() */
    struct sockaddr_storage address; /* as configured; the port may be 0 */
    socklen_t address_length;
    bool is_dual;           /* IPv6, and accepts IPv4 too */
    bool is_held;           /* its giver keeps it open: our close refuses no client */
    uint64_t device, inode; /* Unix: its socket file; 0: not to be removed */
    char name[128];         /* for messages */
};

struct inheritance {
    struct inherited *items;
    size_t count;
    bool is_activation; /* from a service manager, not from a predecessor */
};

/* Take the sockets that the environment names. The variables are removed, so that no child takes
 * the sockets for its own. Without such variables: 0, and nothing is added.
 * Thread: main only, before start.     Errors: 0; -EINVAL, and `error` holds one line. */
int inherit_from_environment(struct inheritance *inheritance, char *error, size_t error_size);

/* Add a descriptor; `is_held`: its giver keeps it open. `source` names the giver, for messages.
 * Owner:  the inheritance, if this succeeds.     Thread: the owner's.
 * Errors: 0; -EINVAL it is no listening socket, or no memory, and `error` holds one line. */
int inherit_add_descriptor(struct inheritance *inheritance, int fd, bool is_held,
                           const char *source, char *error, size_t error_size);

/* Add the listener of a message HANDOVER_LISTENER, and take its descriptors.
 * Thread: the owner's.     Errors: 0; -EPROTO the message has no listener; -ENOMEM. */
int inherit_add(struct inheritance *inheritance, struct message *message);

/* Write `item` as HANDOVER_LISTENER. The descriptor is borrowed.     Thread: the owner's. */
void inherit_put(const struct inherited *item, struct message *message);

/* A socket for this address that was not taken yet; NULL: none.     Thread: the owner's. */
struct inherited *inherit_find(struct inheritance *inheritance, const struct sockaddr *address,
                               socklen_t length, bool is_dual);

/* A socket that was not taken; NULL: none is left. With `held`, only sockets that their giver keeps
 * open: the giver expects that we serve them.     Thread: the owner's. */
struct inherited *inherit_left_over(struct inheritance *inheritance, bool held);

/* Close the sockets that were not taken.     Thread: the owner's. */
void inherit_release(struct inheritance *inheritance);

#endif

#ifndef LASTCALL_LISTENER_H
#define LASTCALL_LISTENER_H

/* Listening sockets: opening them, and what the lossless close needs of the kernel.
 *
 * close(2) on a listening TCP socket resets every connection that the kernel has completed and that
 * was not accepted, and accepting in a loop cannot win that race while new ones arrive. So new
 * handshakes are stopped first: the listener requires more hops than a SYN can have left, and the
 * kernel drops it (hops.c). The last ACK of a handshake under way passes, so a client
 * that saw our SYN-ACK gets in; one that did not sends its SYN again after a second and meets a
 * closed port. Then the queue is accepted until it is empty, and the socket closed
 * (driver/close_listeners.c).
 *
 * For a Unix-domain listener, shutdown(SHUT_RD) refuses new connects with ECONNREFUSED and keeps
 * the queue. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "inherit.h"

#define LISTENER_NAME_SIZE 128

struct listener {
    int fd;
    int family;                      /* AF_INET, AF_INET6 or AF_UNIX */
    struct sockaddr_storage address; /* as configured */
    socklen_t address_length;
    struct tls *tls;                  /* NULL: cleartext; owned */
    bool expects_proxy_line;          /* a PROXY line may come before all else */
    struct st_h2o_hostconf_t **hosts; /* the hosts that are served here, then NULL; NULL: all */
    bool is_local; /* only this machine can connect: Unix domain, or a loopback address */
    char name[LISTENER_NAME_SIZE]; /* for people: `127.0.0.1:8080`, `unix:/path` */
    char *path;                    /* Unix: what to unlink; owned */
    dev_t path_dev;                /* Unix: so that only our own socket file is unlinked */
    ino_t path_ino;
    /* atomic: see listener_limit_hops(); written once, before start or by the thread that closes */
    _Atomic bool limits_hops;
    uint64_t id;       /* handover_socket_id(); 0: it is not open */
    bool is_dual;      /* IPv6, and takes IPv4 too */
    bool is_held;      /* the service manager keeps it open: we only close our descriptor */
    bool is_inherited; /* from a predecessor */
    bool stays;        /* another process goes on with it; written before the order to close */
    bool welcomed;     /* the successor takes idle connections of it; written at the same time */
};

struct listener_list {
    struct listener *items;
    size_t count;
    struct inheritance *inheritance; /* sockets that were passed to us; NULL: none */
    const char *flag;                /* that sets the address, for messages; NULL: --listen */
};

/* The rest of what a configuration says about a listener. */
struct listener_how {
    unsigned fastopen; /* TCP_FASTOPEN's queue, tcp(7); 0: off */
    const char *owner; /* Unix: the user that the socket file belongs to; NULL: us */
    const char *group; /* Unix: its group; NULL: the owner's, or ours */
    int mode;          /* Unix: its permissions; -1: as umask(2) has it */
    bool dry_run;      /* open nothing, only take note */
};

/* Open what `text` names and append it: `8080` (every interface), `127.0.0.1:8080`, `[::1]:8080`,
 * `localhost:8080` (each address of the name), `unix:/path`; `tls:` before any of them for TLS.
 * Port 0 takes a free one, see `name`. On failure `error` holds one line that names the thing, the
 * cause and the way out. Thread: before start.     Blocks: on name resolution. Errors: 0; -EINVAL
 * the text is no address; another negative errno. */
int listener_open(struct listener_list *list, const char *text, char *error, size_t error_size);

/* Show in the listener's name that it speaks TLS.     Thread: before start. */
void listener_name_tls(struct listener *listener);

/* The listener that was configured with this address; NULL if there is none.
 * Thread: before start. */
struct listener *listener_find(struct listener_list *list, const struct sockaddr *address,
                               socklen_t length);

/* Open one address, of family AF_INET, AF_INET6 (and that alone) or AF_UNIX, and append it. `name`
 * is for messages. On failure as listener_open().     Thread: before start. */
int listener_open_address(struct listener_list *list, const char *name,
                          const struct sockaddr *address, socklen_t length,
                          const struct listener_how *how, char *error, size_t error_size);

/* Open the sockets that were passed to us and that the configuration does not name; with `held`
 * only those of a service manager. Thread: before start.     Errors: 0; a negative errno. */
int listener_open_inherited(struct listener_list *list, bool held);

/* For a message to a successor. The descriptor is a duplicate, and the caller's; -1: the listener
 * is closed, or there is no descriptor left.     Thread: any, while no other thread closes it. */
void listener_describe(const struct listener *listener, struct inherited *ret_item);

/* Stop new handshakes; those under way still complete.
 * Thread: any.     Errors: 0; a negative errno: new ones may still arrive, the close is best
 * effort. */
int listener_stop_newcomers(struct listener *listener);

/* For listener_stop_newcomers(): the part of a TCP listener.     Thread, errors: as that. */
int listener_limit_hops(struct listener *listener);

/* May a connection that is accepted now have the limit?     Thread: any. */
bool listener_may_have_limited(const struct listener *listener);

/* Lift the limit from a connection that was accepted here. `ret_had_limit`: it had one, so its
 * client may have to send its first bytes again. Thread: any.     Errors: 0; a negative errno: the
 * kernel drops what the client sends. */
int listener_lift_hops(const struct listener *listener, int fd, bool *ret_had_limit);

/* Lift the limit from a listener: a process that began to close it may have died.
 * Thread: before start.     Errors: 0; a negative errno. */
int listener_reopen(struct listener *listener);

/* How many connections wait to be accepted, or -1 where the kernel does not tell (Unix domain).
 * tcp(7), TCP_INFO: on a listener tcpi_unacked is the length of the accept queue.     Thread: any.
 */
int listener_queue_length(const struct listener *listener);

/* The same, and 1 for any number of them where the kernel does not tell.     Thread: any. */
size_t listener_newcomers(const struct listener *listener);

/* Close the socket; -1 afterwards.     Thread: any, while no other thread uses the fd. */
void listener_close(struct listener *listener);

/* Close the socket; another process goes on with it, and its socket file stays.     Thread: as
 * above. */
void listener_leave(struct listener *listener);

/* Close and free all. A zeroed list is allowed.     Thread: after join. */
void listener_list_release(struct listener_list *list);

/* Smoothed round-trip time of a connection in nanoseconds; 0 where there is none.     Thread: any.
 */
uint64_t listener_peer_rtt_ns(int fd);

/* The shortest round-trip time seen on a connection in nanoseconds; 0 where there is none.
 * Thread: any. */
uint64_t listener_peer_min_rtt_ns(int fd);

#endif

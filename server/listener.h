#ifndef LASTCALL_LISTENER_H
#define LASTCALL_LISTENER_H

/* Listening sockets: opening them, and what the lossless close needs of the kernel.
 *
 * close(2) on a listening TCP socket resets every connection that the kernel has completed and that
 * nobody has accepted, and no loop around accept(2) can win that race while new ones arrive. So the
 * door is closed to newcomers first: a classic BPF filter on the listener drops segments that have
 * SYN and not ACK. The last ACK of a handshake under way passes, so whoever saw our SYN-ACK gets
 * in; whoever did not sends its SYN again after a second and meets a closed port. Then the queue is
 * accepted dry and the socket closed. loop.c does the accepting and the waiting.
 *
 * A Unix-domain listener has a better tool: shutdown(SHUT_RD) refuses new connects with
 * ECONNREFUSED and leaves the queue to be accepted. */

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
    struct sockaddr_storage address; /* as it was asked for */
    socklen_t address_length;
    struct tls *tls;         /* NULL: cleartext; owned */
    bool expects_proxy_line; /* a PROXY line may come before all else */
    struct st_h2o_hostconf_t *
        *hosts;    /* those that are served here, NULL behind the last; NULL: all */
    bool is_local; /* only this machine can connect: Unix domain, or a loopback address */
    char name[LISTENER_NAME_SIZE]; /* for people: `127.0.0.1:8080`, `unix:/path` */
    char *path;                    /* Unix: what to unlink; owned */
    dev_t path_dev;                /* Unix: so that only our own socket file is unlinked */
    ino_t path_ino;
    _Atomic uint32_t *newcomers_off; /* the switch of a filter that is attached; NULL: none is */
    int switch_fd;                   /* that it is mapped from; -1: none */
    uint64_t id;                     /* handover_socket_id(); 0: it is not open */
    bool is_dual;                    /* IPv6, and takes IPv4 too */
    bool is_held;                    /* somebody else keeps it open for good: we only leave it */
    bool is_inherited;               /* from a predecessor */
    bool stays;    /* its close leaves it to others; written before the order to close */
    bool welcomed; /* and a successor takes idle connections that came in by it; likewise */
};

struct listener_list {
    struct listener *items;
    size_t count;
    struct inheritance *inheritance; /* looked at before anything is opened; NULL: there is none */
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

/* The listener that was asked for with this address; NULL if there is none.
 * Thread: before start. */
struct listener *listener_find(struct listener_list *list, const struct sockaddr *address,
                               socklen_t length);

/* Open one address, of family AF_INET, AF_INET6 (and that alone) or AF_UNIX, and append it. `name`
 * is for messages. On failure as listener_open().     Thread: before start. */
int listener_open_address(struct listener_list *list, const char *name,
                          const struct sockaddr *address, socklen_t length,
                          const struct listener_how *how, char *error, size_t error_size);

/* Attach to all TCP listeners the filter that listener_stop_newcomers() then only switches on: for
 * a process that is about to give up its privileges, since a kernel may want CAP_NET_ADMIN for it.
 * Thread: before start.     Errors: 0; a negative errno: from one on they are as they were. */
int listener_list_prepare(struct listener_list *list);

/* The switch of a filter that a predecessor has attached, from its descriptor (owned from now on).
 * Thread: before start.     Errors: 0; a negative errno. */
int listener_take_switch(struct listener *listener, int switch_fd);

/* For listener_close().     Thread: as that. */
void listener_forget_switch(struct listener *listener);

/* Open what others hold for us, and nobody has asked for.     Thread: before start.
 * Errors: 0; a negative errno. */
int listener_open_inherited(struct listener_list *list);

/* For a message to a successor.     Thread: any, while it is open. */
void listener_describe(const struct listener *listener, struct inherited *ret_item);

/* An accepted connection has inherited the prepared filter, and would run it for every segment.
 * Thread: any. */
void listener_spare_connection(const struct listener *listener, int fd);

/* Stop new handshakes; those under way still complete.
 * Thread: any.     Errors: 0; a negative errno: new ones may still arrive, the close is best
 * effort. */
int listener_stop_newcomers(struct listener *listener);

/* How many connections wait to be accepted, or -1 where the kernel does not tell (Unix domain).
 * tcp(7), TCP_INFO: on a listener tcpi_unacked is the length of the accept queue.     Thread: any.
 */
int listener_queue_length(const struct listener *listener);

/* Close the socket; -1 afterwards.     Thread: any, nobody else uses the fd. */
void listener_close(struct listener *listener);

/* The same where others go on with it: its socket file stays.     Thread: as that. */
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

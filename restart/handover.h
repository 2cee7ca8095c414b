#ifndef LASTCALL_HANDOVER_H
#define LASTCALL_HANDOVER_H

/* What a process, its successor and its master say to each other: the types of their messages and
 * the tags of the fields. message.h has the format; docs/dev/life-of-a-restart.md has the order.
 *
 * A message of another version is refused: its fields may have another meaning. Within a version,
 * fields and types are only added, never changed. */

#include <stdint.h>

#include "message.h"

#define HANDOVER_VERSION 1

/* "We" is the receiver; the starter is the process that started it, a predecessor or a master. */
enum handover_type {
    HANDOVER_HELLO = 1, /* from the starter; descriptor: its standard error */
    HANDOVER_LISTENER,  /* one listener; descriptor: its socket (older versions add a second one) */
    HANDOVER_BEGIN,     /* the last listener was sent; descriptors: the connections' socket, the pid
                           file */
    HANDOVER_READY,     /* to the starter: all is up, nothing is accepted yet; descriptor, to a
                           master: standard error, if it is a log file */
    HANDOVER_COMMIT,    /* accept */
    HANDOVER_SETTLED,   /* to the starter: it accepts, and serves */
    HANDOVER_RETIRE,    /* a master to its old worker; descriptor: the connections' socket */
    HANDOVER_CONNS,     /* on the connections' socket; descriptors: connections */
    HANDOVER_NOTIFY,    /* a worker to its master: text for the service manager */
    HANDOVER_AGAIN,     /* a worker to its master, a predecessor to its successor: restart */
    HANDOVER_APP,       /* a worker to its master, before READY: see app_message.h */
    HANDOVER_HOLD,      /* a master to its worker: requests for the application wait, or go on */
    HANDOVER_DRAIN,     /* a master to its worker: the application has ended, so drain */
    HANDOVER_DRAINS, /* a worker to its master, a successor to its predecessor: the sender drains,
                        or its drain was called off */
    HANDOVER_WANT_TICKET_KEYS, /* a master to its worker */
    HANDOVER_TICKET_KEY,       /* to the successor, or to the master that asked: a secret */
    HANDOVER_STOP,             /* from the starter: stop */
    HANDOVER_LEFT,   /* from a predecessor: it has left the listeners that we took, and will not
                        close them */
    HANDOVER_REOPEN, /* from the starter: open the log files again */
    HANDOVER_LOGS,   /* a worker to its master: it has opened them; descriptor: standard error */
    HANDOVER_NEWS,   /* a master to its worker: the outcome of a restart; see restart_news.h */
};

enum handover_tag {
    HANDOVER_GENERATION = 1, /* number */
    HANDOVER_IS_MASTER,      /* number: the starter is a master, and outlives us */
    HANDOVER_ADDRESS,        /* sockaddr, as configured */
    HANDOVER_NAME,           /* text */
    HANDOVER_DUAL,           /* number: an IPv6 listener accepts IPv4 too */
    HANDOVER_HELD,           /* number: its giver keeps it open */
    HANDOVER_UNUSED,         /* older versions send it */
    HANDOVER_DEVICE,         /* numbers: the socket file of a Unix listener */
    HANDOVER_INODE,
    HANDOVER_TAKEN,        /* ids: the listeners that the successor uses */
    HANDOVER_WELCOME,      /* ids: those whose idle connections it takes as well: cleartext HTTP */
    HANDOVER_CAME_BY,      /* ids: the listener of each connection */
    HANDOVER_TEXT,         /* text */
    HANDOVER_DETAIL,       /* text */
    HANDOVER_PID_FILE,     /* text: path */
    HANDOVER_TIMEOUT_NS,   /* number */
    HANDOVER_PROBATION_NS, /* number */
    HANDOVER_RUNS_APP,     /* number, in HELLO: the master has the application */
    HANDOVER_WAIT,         /* number, in COMMIT and HOLD: requests for the application wait */
    HANDOVER_TARGET,       /* sockaddr_storage, one or several: the application's address */
    HANDOVER_REQUEST,      /* text: the request that probes it */
    HANDOVER_PORT,         /* number */
    HANDOVER_START_TIMEOUT_NS,
    HANDOVER_GRACE_NS,
    HANDOVER_TRIES_AGAIN, /* number: the application is restarted when it ends */
    HANDOVER_UID,         /* numbers: its user */
    HANDOVER_GID,
    HANDOVER_GROUPS,     /* gid_t, any number of them */
    HANDOVER_STATUS,     /* number: an exit status */
    HANDOVER_IS_ON,      /* number, in DRAINS: 0: called off */
    HANDOVER_KEY_NAME,   /* bytes, in TICKET_KEY */
    HANDOVER_KEY,        /* bytes: the key of the cipher, then the key of the MAC */
    HANDOVER_CIPHER,     /* text: OpenSSL's name */
    HANDOVER_DIGEST,     /* text: OpenSSL's name */
    HANDOVER_NOT_BEFORE, /* numbers: seconds since the epoch */
    HANDOVER_NOT_AFTER,
    HANDOVER_SIGNALS,        /* number, in STOP: stop signals so far */
    HANDOVER_IS_FINAL,       /* number, in STOP: the starter closes what both share */
    HANDOVER_FORCE_AFTER_NS, /* number, in READY: stop signals closer together count as one */
    HANDOVER_EVENT,          /* number, in NEWS: enum restart_news_event */
    HANDOVER_OPEN_FILES,     /* number, in HELLO: the limit on open files that the first process of
                                this line began with; left out by a starter that has not raised it */
};

/* The id of a listener is its socket's SO_COOKIE, which is the same in every process that has the
 * socket. A service with more listeners than this cannot restart: all ids must fit into one
 * message, twice. */
#define HANDOVER_IDS_MAX 256

/* Thread: any; a message is used by one thread at a time. */

/* message_begin() and message_receive() for messages of HANDOVER_VERSION. */
void handover_begin(struct message *message, enum handover_type type);
int handover_receive(int fd, struct message *message);

/* The id of a socket; 0: `fd` is not a socket. */
uint64_t handover_socket_id(int fd);

/* One line about an error of handover_receive() or message_check_peer(). Returns `text`. */
#define HANDOVER_WHY_SIZE 160
const char *handover_why(int err, const struct message *message, char text[HANDOVER_WHY_SIZE]);

#endif

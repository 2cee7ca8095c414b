#ifndef LASTCALL_HANDOVER_H
#define LASTCALL_HANDOVER_H

/* What a process and its successor say to each other, on the wire. Both ends are one socketpair(2)
 * of kind SOCK_SEQPACKET, made by the one who starts the other and inherited by that one: there is
 * no name under which a third could find it. docs/restart.md has the order of the messages.
 *
 *     header    magic, version, type
 *     fields    tag, length, bytes; whoever does not know a tag skips it
 *     beside    descriptors (SCM_RIGHTS)
 *
 * A message of another version is refused whole: its fields may mean something else. Within a
 * version, fields and types are only ever added. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define HANDOVER_VERSION 1
#define HANDOVER_ENVIRONMENT "LASTCALL_HANDOVER" /* holds the descriptor's number */
#define HANDOVER_BYTES_MAX 8192
#define HANDOVER_FDS_MAX 16

enum handover_type {
    HANDOVER_HELLO = 1, /* who starts whom; descriptor: standard error */
    HANDOVER_LISTENER,  /* one listener; descriptors: it, and the switch of its filter if any */
    HANDOVER_BEGIN,     /* that was all; descriptors: the connections' socket, the pid file */
    HANDOVER_READY,     /* to who started us: all is up, nothing accepted yet; descriptor, to a
                           master: standard error, if it is a log file */
    HANDOVER_COMMIT,    /* accept */
    HANDOVER_SETTLED,   /* accepting, and in charge */
    HANDOVER_RETIRE,    /* a master to its old worker; descriptor: where the connections go */
    HANDOVER_CONNS,     /* on the connections' socket: as many as descriptors */
    HANDOVER_NOTIFY,    /* a worker to its master: for the service manager */
    HANDOVER_AGAIN,     /* a worker to its master: somebody asked the worker for a restart */
    HANDOVER_APP,       /* a worker to its master, before READY: see app_settings.h */
    HANDOVER_HOLD,      /* a master to its worker: requests for the application wait, or go on */
    HANDOVER_DRAIN,     /* a master to its worker: the application has ended, so must we */
    HANDOVER_DRAINS, /* a worker to its master: somebody has told it to, or has called that off */
    HANDOVER_WANT_TICKET_KEYS, /* a master to its worker */
    HANDOVER_TICKET_KEY,       /* to the successor, or to the master who asked: a secret */
    HANDOVER_STOP,             /* who started us was told to stop, and so are we */
    HANDOVER_LEFT, /* a predecessor: what we have taken is ours alone, it closes nothing of it */
};

enum handover_tag {
    HANDOVER_GENERATION = 1, /* number */
    HANDOVER_IS_MASTER,      /* number: who starts us outlives us */
    HANDOVER_ADDRESS,        /* sockaddr, as it was asked for */
    HANDOVER_NAME,           /* text */
    HANDOVER_DUAL,           /* number: an IPv6 listener takes IPv4 too */
    HANDOVER_HELD,           /* number: somebody else holds it open for good */
    HANDOVER_HAS_SWITCH,     /* number: the second descriptor is one */
    HANDOVER_DEVICE,         /* numbers: the socket file of a Unix listener */
    HANDOVER_INODE,
    HANDOVER_TAKEN,        /* ids: the listeners that the successor goes on with */
    HANDOVER_WELCOME,      /* ids: and whose idle connections it takes, too: cleartext HTTP */
    HANDOVER_CAME_BY,      /* ids: of each connection, its listener's */
    HANDOVER_TEXT,         /* text */
    HANDOVER_DETAIL,       /* text */
    HANDOVER_PID_FILE,     /* text: path */
    HANDOVER_TIMEOUT_NS,   /* number */
    HANDOVER_PROBATION_NS, /* number */
    HANDOVER_RUNS_APP,     /* number, in HELLO: the application is the master's */
    HANDOVER_WAIT,         /* number, in COMMIT and HOLD: requests for it are to wait */
    HANDOVER_TARGET,       /* sockaddr_storage, one or several: where it will answer */
    HANDOVER_REQUEST,      /* text: what to ask it there */
    HANDOVER_PORT,         /* number */
    HANDOVER_START_TIMEOUT_NS,
    HANDOVER_GRACE_NS,
    HANDOVER_TRIES_AGAIN, /* number: it is started again when it ends */
    HANDOVER_UID,         /* numbers: as whom it runs */
    HANDOVER_GID,
    HANDOVER_GROUPS,     /* gid_t, any number of them */
    HANDOVER_STATUS,     /* number: that it ended with */
    HANDOVER_IS_ON,      /* number, in DRAINS: 0: called off */
    HANDOVER_KEY_NAME,   /* bytes, in TICKET_KEY */
    HANDOVER_KEY,        /* bytes: of the cipher, and of the MAC behind it */
    HANDOVER_CIPHER,     /* text: as OpenSSL names it */
    HANDOVER_DIGEST,     /* text: likewise */
    HANDOVER_NOT_BEFORE, /* numbers: seconds since the epoch */
    HANDOVER_NOT_AFTER,
    HANDOVER_SIGNALS,  /* number, in STOP: how many told it to, so far */
    HANDOVER_IS_FINAL, /* number, in STOP: it closes what we share */
};

/* A listener's id is its socket's own (SO_COOKIE): the same in every process that has it. A service
 * with more listeners than this is not restarted: all must fit into one message, twice. */
#define HANDOVER_IDS_MAX 256

struct handover_message {
    uint16_t type;    /* enum handover_type, or one that is newer than this program */
    uint16_t version; /* of a message that was refused for it */
    size_t size;      /* of the fields */
    bool overflowed;  /* a field did not fit: it will not be sent */
    uint8_t bytes[HANDOVER_BYTES_MAX];
    int fds[HANDOVER_FDS_MAX]; /* sending: borrowed; received: owned, -1 when taken */
    size_t fd_count;
};

/* All of these: Thread: any, one at a time a message. */

/* Two ends of a new channel, both non-blocking, and closed by execve(2).
 * Errors: 0; a negative errno. */
int handover_pair(int ret_fds[2]);

/* Is `fd` one end of such a channel, and is the other one root or who we are? *ret_pid is who made
 * it. Errors: 0; -EBADF, -ENOTSOCK, -EPROTOTYPE: it is none; -EPERM: it is somebody else's. */
int handover_check_peer(int fd, pid_t *ret_pid);

/* The id of a socket; 0: it is none. */
uint64_t handover_socket_id(int fd);

void handover_begin(struct handover_message *message, enum handover_type type);
void handover_put(struct handover_message *message, enum handover_tag tag, const void *bytes,
                  size_t n);
void handover_put_number(struct handover_message *message, enum handover_tag tag, uint64_t number);
void handover_put_text(struct handover_message *message, enum handover_tag tag, const char *text);
void handover_put_fd(struct handover_message *message, int fd);

/* Blocks: never.     Errors: 0; -EAGAIN the other side does not read; -EMSGSIZE; -EPIPE it is gone;
 * another negative errno. */
int handover_send(int fd, const struct handover_message *message);

/* Blocks: never.     Errors: 0; -EAGAIN there is none; -EPIPE the other side is gone; -EPROTO it is
 * no message; -EPROTONOSUPPORT of another version (see `version`); -EMFILE we had no room for its
 * descriptors. On all of them nothing is left to be released. */
int handover_receive(int fd, struct handover_message *message);

/* The bytes of a field, NULL if there is none. */
const void *handover_get(const struct handover_message *message, enum handover_tag tag,
                         size_t *ret_n);
uint64_t handover_get_number(const struct handover_message *message, enum handover_tag tag,
                             uint64_t otherwise);
/* Returns `text`, "" if there is none; what does not fit is cut. */
char *handover_get_text(const struct handover_message *message, enum handover_tag tag, char *text,
                        size_t size);
/* Up to `max` ids; returns how many. */
size_t handover_get_ids(const struct handover_message *message, enum handover_tag tag,
                        uint64_t *ret_ids, size_t max);
/* Owner: the caller from now on; -1 if there is none. */
int handover_take_fd(struct handover_message *message, size_t i);
/* Close what was not taken. */
void handover_release(struct handover_message *message);

/* One line about an error of handover_receive() or handover_check_peer(). Returns `text`. */
#define HANDOVER_WHY_SIZE 160
const char *handover_why(int err, const struct handover_message *message,
                         char text[HANDOVER_WHY_SIZE]);

#endif

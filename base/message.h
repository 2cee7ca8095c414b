#ifndef LASTCALL_MESSAGE_H
#define LASTCALL_MESSAGE_H

/* Messages with descriptors between two processes. The channel is a socketpair(2) of type
 * SOCK_SEQPACKET; a child inherits one end. It has no name, so no third process can connect.
 *
 *     header              magic, version, type
 *     fields              tag, length, bytes; the receiver skips a tag that it does not know
 *     ancillary data      descriptors (SCM_RIGHTS)
 *
 * Numbers are in the machine's byte order. What types, tags and versions mean, their users define
 * (handover.h). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The environment variable that tells a child the number of its descriptor of the channel. */
#define MESSAGE_ENVIRONMENT "LASTCALL_HANDOVER"
#define MESSAGE_BYTES_MAX 8192
#define MESSAGE_FDS_MAX 16

struct message {
    uint16_t type;
    uint16_t version; /* the sender's, even of a message that was refused because of it */
    size_t size;      /* of all fields, in bytes */
    bool overflowed;  /* a field or a descriptor did not fit: message_send() refuses the message */
    uint8_t bytes[MESSAGE_BYTES_MAX];
    int fds[MESSAGE_FDS_MAX]; /* sending: borrowed, or as its maker says; received: owned.
                                 -1: taken */
    size_t fd_count;
};

/* All of these: Thread: any; a message is used by one thread at a time. */

/* Make a channel; both ends are non-blocking and close-on-exec.
 * Errors: 0; a negative errno. */
int message_pair(int ret_fds[2]);

/* Check that `fd` is one end of a channel, made by root or by our own user (SO_PEERCRED). *ret_pid
 * is the process that made it. Errors: 0; -EBADF, -ENOTSOCK, -EPROTOTYPE: not a channel; -EPERM:
 * another user made it. */
int message_check_peer(int fd, pid_t *ret_pid);

/* Begin an empty message, then add to it. What does not fit is noted in `overflowed`. */
void message_begin(struct message *message, uint16_t version, uint16_t type);
void message_put(struct message *message, uint16_t tag, const void *bytes, size_t n);
void message_put_number(struct message *message, uint16_t tag, uint64_t number);
void message_put_text(struct message *message, uint16_t tag, const char *text);
void message_put_fd(struct message *message, int fd);

/* Blocks: never.     Errors: 0; -EAGAIN the receiver does not read; -EMSGSIZE; -EPIPE it has closed
 * the channel; another negative errno. */
int message_send(int fd, const struct message *message);

/* Blocks: never.     Errors: 0; -EAGAIN no message is there; -EPIPE the sender has closed the
 * channel; -EPROTO invalid; -EPROTONOSUPPORT not of `version`; -EMFILE this process has no room for
 * the descriptors. After an error nothing has to be released. */
int message_receive(int fd, uint16_t version, struct message *message);

/* The bytes of a field; NULL if the message does not have it. */
const void *message_get(const struct message *message, uint16_t tag, size_t *ret_n);
uint64_t message_get_number(const struct message *message, uint16_t tag, uint64_t otherwise);
/* Returns `text`; "" without the field. A longer text is cut off. */
char *message_get_text(const struct message *message, uint16_t tag, char *text, size_t size);
/* Reads a field of several numbers, up to `max` of them; returns how many. */
size_t message_get_numbers(const struct message *message, uint16_t tag, uint64_t *ret_numbers,
                           size_t max);
/* The descriptor belongs to the caller from now on; -1 if there is none. */
int message_take_fd(struct message *message, size_t i);
/* Close the descriptors that were not taken. */
void message_release(struct message *message);

#endif

#include "message.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAGIC UINT32_C(0x4f48434c) /* "LCHO" on a little-endian machine */

struct header {
    uint32_t magic;
    uint16_t version;
    uint16_t type;
};

struct field {
    uint16_t tag;
    uint16_t length;
};

int message_pair(int ret_fds[2])
{
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ret_fds) == 0
               ? 0
               : -errno;
}

int message_check_peer(int fd, pid_t *ret_pid)
{
    struct ucred peer;
    socklen_t length = sizeof(int);
    int domain, type;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0)
        return -errno;
    length = sizeof(type);
    if (domain != AF_UNIX || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0 ||
        type != SOCK_SEQPACKET)
        return -EPROTOTYPE;
    length = sizeof(peer);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
        return -errno;
    if (peer.uid != 0 && peer.uid != geteuid())
        return -EPERM;
    *ret_pid = peer.pid;
    return 0;
}

/* ---- writing ---- */

void message_begin(struct message *message, uint16_t version, uint16_t type)
{
    message->type = type;
    message->version = version;
    message->size = 0;
    message->overflowed = false;
    message->fd_count = 0;
}

void message_put(struct message *message, uint16_t tag, const void *bytes, size_t n)
{
    struct field field = {.tag = tag, .length = (uint16_t)n};

    if (n > UINT16_MAX || message->size + sizeof(field) + n > sizeof(message->bytes)) {
        message->overflowed = true;
        return;
    }
    memcpy(message->bytes + message->size, &field, sizeof(field));
    if (n > 0)
        memcpy(message->bytes + message->size + sizeof(field), bytes, n);
    message->size += sizeof(field) + n;
}

void message_put_number(struct message *message, uint16_t tag, uint64_t number)
{
    message_put(message, tag, &number, sizeof(number));
}

void message_put_text(struct message *message, uint16_t tag, const char *text)
{
    message_put(message, tag, text, strlen(text));
}

void message_put_fd(struct message *message, int fd)
{
    if (message->fd_count == MESSAGE_FDS_MAX)
        message->overflowed = true;
    else
        message->fds[message->fd_count++] = fd;
}

union control {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(MESSAGE_FDS_MAX * sizeof(int))];
};

int message_send(int fd, const struct message *message)
{
    struct header header = {.magic = MAGIC, .version = message->version, .type = message->type};
    struct iovec parts[2] = {
        {.iov_base = &header, .iov_len = sizeof(header)},
        {.iov_base = (void *)(uintptr_t)message->bytes, .iov_len = message->size}};
    struct msghdr out = {.msg_iov = parts, .msg_iovlen = 2};
    union control control;

    if (message->overflowed)
        return -EMSGSIZE;
    if (message->fd_count > 0) {
        size_t bytes = message->fd_count * sizeof(int);
        memset(&control, 0, sizeof(control));
        out.msg_control = &control;
        out.msg_controllen = CMSG_SPACE(bytes);
        struct cmsghdr *rights = CMSG_FIRSTHDR(&out);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(rights), message->fds, bytes);
    }
    for (;;) {
        if (sendmsg(fd, &out, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
            return 0;
        if (errno == EINTR)
            continue;
        /* unix(7): too many descriptors are in flight; there is room again when some arrive. */
        if (errno == ETOOMANYREFS || errno == ENOBUFS || errno == EWOULDBLOCK)
            return -EAGAIN;
        return errno == ECONNRESET ? -EPIPE : -errno;
    }
}

/* ---- reading ---- */

void message_release(struct message *message)
{
    for (size_t i = 0; i < message->fd_count; i++)
        if (message->fds[i] >= 0)
            (void)close(message->fds[i]);
    message->fd_count = 0;
}

/* The descriptors belong to us from here on, even if the message is invalid. */
static void collect_fds(struct msghdr *in, struct message *message)
{
    message->fd_count = 0;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(in); at != NULL; at = CMSG_NXTHDR(in, at)) {
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (at->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n && message->fd_count < MESSAGE_FDS_MAX; i++)
            memcpy(&message->fds[message->fd_count++], CMSG_DATA(at) + i * sizeof(int),
                   sizeof(int));
    }
}

static bool fields_are_whole(const struct message *message)
{
    size_t at = 0;

    while (at < message->size) {
        struct field field;
        if (message->size - at < sizeof(field))
            return false;
        memcpy(&field, message->bytes + at, sizeof(field));
        at += sizeof(field);
        if (message->size - at < field.length)
            return false;
        at += field.length;
    }
    return true;
}

int message_receive(int fd, uint16_t version, struct message *message)
{
    struct header header = {0};
    struct iovec parts[2] = {{.iov_base = &header, .iov_len = sizeof(header)},
                             {.iov_base = message->bytes, .iov_len = sizeof(message->bytes)}};
    union control control;
    struct msghdr in = {.msg_iov = parts,
                        .msg_iovlen = 2,
                        .msg_control = &control,
                        .msg_controllen = sizeof(control)};
    ssize_t n;
    int err = 0;

    message->fd_count = message->size = 0;
    /* If the sender ends with unread messages in its queue, recvmsg(2) first fails with ECONNRESET
     * (net/unix/af_unix.c). The messages that it had sent can still be read after that. */
    for (unsigned resets = 0;;) {
        n = recvmsg(fd, &in, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (n >= 0 || (errno != EINTR && (errno != ECONNRESET || resets++ > 0)))
            break;
    }
    if (n < 0)
        return errno == ECONNRESET ? -EPIPE : -errno;
    collect_fds(&in, message);
    message->type = header.type;
    message->version = header.version;
    message->overflowed = false;
    if (n == 0)
        err = -EPIPE;
    else if ((size_t)n < sizeof(header) || header.magic != MAGIC)
        err = -EPROTO;
    else if (header.version != version)
        err = -EPROTONOSUPPORT;
    else if ((in.msg_flags & MSG_CTRUNC) != 0)
        err = -EMFILE;
    if (err == 0) {
        message->size = (size_t)n - sizeof(header);
        if ((in.msg_flags & MSG_TRUNC) != 0 || !fields_are_whole(message))
            err = -EPROTO;
    }
    if (err != 0)
        message_release(message);
    return err;
}

const void *message_get(const struct message *message, uint16_t tag, size_t *ret_n)
{
    for (size_t at = 0; at < message->size;) {
        struct field field;
        memcpy(&field, message->bytes + at, sizeof(field));
        at += sizeof(field);
        if (field.tag == tag) {
            *ret_n = field.length;
            return message->bytes + at;
        }
        at += field.length;
    }
    return NULL;
}

uint64_t message_get_number(const struct message *message, uint16_t tag, uint64_t otherwise)
{
    uint64_t number;
    size_t n;
    const void *bytes = message_get(message, tag, &n);

    if (bytes == NULL || n != sizeof(number))
        return otherwise;
    memcpy(&number, bytes, sizeof(number));
    return number;
}

char *message_get_text(const struct message *message, uint16_t tag, char *text, size_t size)
{
    size_t n = 0;
    const char *bytes = message_get(message, tag, &n);

    if (n > size - 1)
        n = size - 1;
    if (bytes != NULL)
        memcpy(text, bytes, n);
    text[n] = '\0';
    return text;
}

size_t message_get_numbers(const struct message *message, uint16_t tag, uint64_t *ret_numbers,
                           size_t max)
{
    size_t n = 0;
    const void *bytes = message_get(message, tag, &n);

    n = n / sizeof(*ret_numbers) < max ? n / sizeof(*ret_numbers) : max;
    if (n > 0)
        memcpy(ret_numbers, bytes, n * sizeof(*ret_numbers));
    return n;
}

int message_take_fd(struct message *message, size_t i)
{
    if (i >= message->fd_count)
        return -1;
    int fd = message->fds[i];
    message->fds[i] = -1;
    return fd;
}

#include "handover.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

void handover_begin(struct message *message, enum handover_type type)
{
    message_begin(message, HANDOVER_VERSION, (uint16_t)type);
}

int handover_receive(int fd, struct message *message)
{
    return message_receive(fd, HANDOVER_VERSION, message);
}

uint64_t handover_socket_id(int fd)
{
    uint64_t cookie = 0;
    socklen_t length = sizeof(cookie);

    return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) == 0 ? cookie : 0;
}

const char *handover_why(int err, const struct message *message, char text[HANDOVER_WHY_SIZE])
{
    switch (err) {
    case -EPROTO:
        return "the other process sent an invalid message";
    case -EPROTONOSUPPORT:
        (void)snprintf(
            text, HANDOVER_WHY_SIZE,
            "the other process uses version %u of the hand-over, and this one version %d: "
            "stop the old one, then start the new one",
            message->version, HANDOVER_VERSION);
        return text;
    case -EPERM:
        return "the other process belongs to another user";
    case -ENOTSOCK:
    case -EPROTOTYPE:
        return "the descriptor is not a hand-over socket";
    case -EPIPE:
        return "the other process is gone";
    case -ETIMEDOUT:
        return "the other process sent nothing";
    case -EMFILE:
        return "too many open files to receive descriptors (raise the limit with ulimit -n)";
    default:
        return strerrordesc_np(-err);
    }
}

#include "listener_p.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "address.h"

/* TCP listeners. */

/* An address that overlaps one of the predecessor's, such as all interfaces instead of one, is in
 * use until the predecessor has closed its listener. With SO_REUSEPORT on both sockets the kernel
 * allows it to the same user; the option is removed at once, so no other process can use it. */
static void share_port(const struct listener_list *list, uint16_t port, int on)
{
    for (size_t i = 0; list->inheritance != NULL && i < list->inheritance->count; i++) {
        const struct inherited *item = &list->inheritance->items[i];
        struct sockaddr_storage address = {0};
        socklen_t length = sizeof(address);
        if (item->fd < 0 || getsockname(item->fd, (struct sockaddr *)&address, &length) != 0)
            continue;
        uint16_t its = address.ss_family == AF_INET
                           ? ((const struct sockaddr_in *)(const void *)&address)->sin_port
                       : address.ss_family == AF_INET6
                           ? ((const struct sockaddr_in6 *)(const void *)&address)->sin6_port
                           : 0;
        if (its == port && port != 0)
            (void)setsockopt(item->fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    }
}

static int bind_and_listen(const struct listener_list *list, int fd, const struct addrinfo *to)
{
    uint16_t port = to->ai_family == AF_INET6
                        ? ((const struct sockaddr_in6 *)(const void *)to->ai_addr)->sin6_port
                        : ((const struct sockaddr_in *)(const void *)to->ai_addr)->sin_port;
    int on = 1, off = 0;

    if (bind(fd, to->ai_addr, to->ai_addrlen) == 0)
        return listen(fd, BACKLOG) == 0 ? 0 : -errno;
    if (errno != EADDRINUSE || list->inheritance == NULL)
        return -errno;
    share_port(list, port, 1);
    int err = setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
                      bind(fd, to->ai_addr, to->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0
                  ? -errno
                  : 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &off, sizeof(off));
    share_port(list, port, 0);
    return err;
}

void listener_name_tcp(struct listener *listener)
{
    struct sockaddr_storage address;
    const struct sockaddr_in *in = (const void *)&address;
    const struct sockaddr_in6 *in6 = (const void *)&address;
    socklen_t length = sizeof(address);

    memset(&address, 0, sizeof(address));
    if (getsockname(listener->fd, (struct sockaddr *)&address, &length) != 0)
        return;
    (void)address_text(&address, listener->name, sizeof(listener->name));
    listener->is_local = address.ss_family == AF_INET6
                             ? IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr)
                             : ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

int listener_bind_tcp(const struct listener_list *list, struct listener *listener,
                      const struct addrinfo *to, bool dual)
{
    int on = 1, v6only = dual ? 0 : 1;

    listener->family = to->ai_family;
    listener->is_dual = dual && to->ai_family == AF_INET6;
    listener_note_address(listener, to->ai_addr, to->ai_addrlen);
    if (listener_adopt(list, listener, to->ai_addr, to->ai_addrlen, listener->is_dual)) {
        listener_name_tcp(listener);
        return listener_reopen(listener);
    }
    listener->fd = socket(to->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener->fd < 0)
        return -errno;
    /* Not TCP_DEFER_ACCEPT: it hides connections from accept(2), and the close would lose them. */
    if (setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0)
        return -errno;
    if (to->ai_family == AF_INET6 &&
        setsockopt(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only)) != 0)
        return -errno;
    int err = bind_and_listen(list, listener->fd, to);
    if (err == 0)
        listener_name_tcp(listener);
    return err;
}

int listener_open_every_interface(struct listener_list *list, const char *text, uint16_t port,
                                  char *error, size_t error_size)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct addrinfo v6 = {
        .ai_family = AF_INET6, .ai_addr = (struct sockaddr *)&in6, .ai_addrlen = sizeof(in6)};
    struct addrinfo v4 = {
        .ai_family = AF_INET, .ai_addr = (struct sockaddr *)&in, .ai_addrlen = sizeof(in)};

    struct listener *listener = listener_append(list);
    if (listener == NULL)
        return listener_explain(list, error, error_size, text, -ENOMEM);
    int err = listener_bind_tcp(list, listener, &v6, true);
    if (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL) { /* a machine without IPv6 */
        listener_close(listener);
        err = listener_bind_tcp(list, listener, &v4, false);
    }
    if (err != 0) {
        listener_drop_last(list);
        return listener_explain(list, error, error_size, text, err);
    }
    return 0;
}

int listener_open_tcp(struct listener_list *list, const char *text, const char *host,
                      const char *port, char *error, size_t error_size)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;

    int gai = getaddrinfo(host, port, &hints, &found);
    if (gai != 0) {
        (void)snprintf(error, error_size, "cannot listen on %s: %s", text, gai_strerror(gai));
        return -EINVAL;
    }
    int err = 0;
    for (const struct addrinfo *a = found; a != NULL && err == 0; a = a->ai_next) {
        struct listener *listener = listener_append(list);
        err = listener == NULL ? -ENOMEM : listener_bind_tcp(list, listener, a, false);
        if (err != 0 && listener != NULL)
            listener_drop_last(list);
    }
    freeaddrinfo(found);
    return err == 0 ? 0 : listener_explain(list, error, error_size, text, err);
}

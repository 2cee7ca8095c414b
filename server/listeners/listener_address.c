#include "listener_p.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

/* Opening listeners: by the text of an address, by an address, and those that were passed to this
 * process. */

static bool parse_port(const char *text, uint16_t *ret_port)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    unsigned long port = strtoul(text, &end, 10);
    if (*end != '\0' || port > UINT16_MAX)
        return false;
    *ret_port = (uint16_t)port;
    return true;
}

static int open_plain(struct listener_list *list, const char *text, char *error, size_t error_size)
{
    char host[256];
    uint16_t port;

    if (strncmp(text, "unix:", 5) == 0)
        return listener_open_unix(list, text, text + 5, NULL, error, error_size);
    if (parse_port(text, &port))
        return listener_open_every_interface(list, text, port, error, error_size);

    const char *colon = strrchr(text, ':'), *begin = text, *end = colon;
    if (text[0] == '[' && colon != NULL && colon > text + 1 && colon[-1] == ']') {
        begin = text + 1;
        end = colon - 1;
    } else if (colon != NULL && memchr(text, ':', (size_t)(colon - text)) != NULL) {
        colon = NULL; /* an IPv6 address needs its brackets */
    }
    if (colon == NULL || end <= begin || (size_t)(end - begin) >= sizeof(host) ||
        !parse_port(colon + 1, &port)) {
        (void)snprintf(error, error_size,
                       "cannot listen on %s: want PORT, HOST:PORT, [IPV6]:PORT or unix:/PATH, "
                       "with a port from 0 to 65535, and tls: before it for TLS",
                       text);
        return -EINVAL;
    }
    memcpy(host, begin, (size_t)(end - begin));
    host[end - begin] = '\0';
    return listener_open_tcp(list, text, host, colon + 1, error, error_size);
}

int listener_open(struct listener_list *list, const char *text, char *error, size_t error_size)
{
    bool is_tls = strncmp(text, "tls:", 4) == 0;
    size_t before = list->count;

    int err = open_plain(list, is_tls ? text + 4 : text, error, error_size);
    for (size_t i = before; err == 0 && is_tls && i < list->count; i++)
        listener_name_tls(&list->items[i]);
    return err;
}

void listener_name_tls(struct listener *listener)
{
    char plain[LISTENER_NAME_SIZE];
    (void)strcpy(plain, listener->name);
    (void)snprintf(listener->name, sizeof(listener->name), "tls:%.*s",
                   (int)sizeof(listener->name) - 5, plain);
}

int listener_open_address(struct listener_list *list, const char *name,
                          const struct sockaddr *address, socklen_t length,
                          const struct listener_how *how, char *error, size_t error_size)
{
    if (address->sa_family == AF_UNIX)
        return listener_open_unix(list, name,
                                  ((const struct sockaddr_un *)(const void *)address)->sun_path,
                                  how, error, error_size);
    struct listener *listener = listener_append(list);
    if (listener == NULL)
        return listener_explain(list, error, error_size, name, -ENOMEM);
    struct addrinfo to = {.ai_family = address->sa_family,
                          .ai_addr = (struct sockaddr *)(uintptr_t)address,
                          .ai_addrlen = length};
    listener->family = address->sa_family;
    listener_note_address(listener, address, length);
    (void)snprintf(listener->name, sizeof(listener->name), "%s", name);
    if (how->dry_run)
        return 0;
    int err = listener_bind_tcp(list, listener, &to, false);
    if (err != 0) {
        listener_drop_last(list);
        return listener_explain(list, error, error_size, name, err);
    }
    int queue = (int)how->fastopen;
    if (queue > 0) /* where the kernel has none, connections only take a round trip more */
        (void)setsockopt(listener->fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue));
    return 0;
}

int listener_open_inherited(struct listener_list *list, bool held)
{
    for (size_t i = 0; i < list->inheritance->count; i++) {
        const struct inherited item = list->inheritance->items[i];
        if ((held && !item.is_held) || item.fd < 0)
            continue;
        struct listener *listener = listener_append(list);
        if (listener == NULL)
            return -ENOMEM;
        listener->family = item.address.ss_family;
        listener->is_dual = item.is_dual;
        listener_note_address(listener, (const struct sockaddr *)&item.address,
                              item.address_length);
        (void)listener_adopt(list, listener, (const struct sockaddr *)&item.address,
                             item.address_length, item.is_dual);
        int err = listener_reopen(listener);
        if (err != 0)
            return err;
        listener->is_local = listener->family == AF_UNIX;
        if (listener->family == AF_UNIX)
            (void)snprintf(listener->name, sizeof(listener->name), "%s", item.name);
        else
            listener_name_tcp(listener);
    }
    return 0;
}

void listener_describe(const struct listener *listener, struct inherited *ret_item)
{
    memset(ret_item, 0, sizeof(*ret_item));
    ret_item->fd = listener->fd >= 0 ? fcntl(listener->fd, F_DUPFD_CLOEXEC, 0) : -1;
    ret_item->address = listener->address;
    ret_item->address_length = listener->address_length;
    ret_item->is_dual = listener->is_dual;
    ret_item->is_held = listener->is_held;
    ret_item->device = listener->path_dev;
    ret_item->inode = listener->path_ino;
    (void)snprintf(ret_item->name, sizeof(ret_item->name), "%s", listener->name);
}

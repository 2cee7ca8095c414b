#include "inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "address.h"

#define LISTEN_FDS_START 3 /* sd_listen_fds(3) */

static struct inherited *append(struct inheritance *inheritance)
{
    struct inherited *grown =
        realloc(inheritance->items, (inheritance->count + 1) * sizeof(*inheritance->items));
    if (grown == NULL)
        return NULL;
    inheritance->items = grown;
    struct inherited *last = &grown[inheritance->count++];
    memset(last, 0, sizeof(*last));
    last->fd = -1;
    return last;
}

static bool is_listening_stream(int fd)
{
    int type = 0, listening = 0;
    socklen_t length = sizeof(int);

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 && listening != 0;
}

static bool is_dual(int fd, int family)
{
    int v6only = 1;
    socklen_t length = sizeof(v6only);

    return family == AF_INET6 && getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, &length) == 0 &&
           v6only == 0;
}

/* ---- from the environment ---- */

static void name_address(const struct inherited *item, char *name, size_t size)
{
    const struct sockaddr_un *un = (const void *)&item->address;

    if (!address_text(&item->address, name, size))
        (void)snprintf(name, size, "unix:%s", un->sun_path);
}

int inherit_add_descriptor(struct inheritance *inheritance, int fd, bool is_held,
                           const char *source, char *error, size_t error_size)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);

    memset(&address, 0, sizeof(address));
    if (!is_listening_stream(fd) || getsockname(fd, (struct sockaddr *)&address, &length) != 0 ||
        (address.ss_family != AF_INET && address.ss_family != AF_INET6 &&
         address.ss_family != AF_UNIX)) {
        (void)snprintf(error, error_size,
                       "descriptor %d of %s is not a listening TCP or Unix stream socket", fd,
                       source);
        return -EINVAL;
    }
    struct inherited *item = append(inheritance);
    if (item == NULL) {
        (void)snprintf(error, error_size, "out of memory");
        return -EINVAL;
    }
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    item->fd = fd;
    item->id = handover_socket_id(fd);
    item->address = address;
    /* inherit_find() compares whole structures; getsockname(2) returns a shorter length (unix(7)).
     */
    item->address_length = address.ss_family == AF_UNIX ? sizeof(struct sockaddr_un) : length;
    item->is_dual = is_dual(fd, address.ss_family);
    item->is_held = is_held;
    name_address(item, item->name, sizeof(item->name));
    inheritance->is_activation = true;
    return 0;
}

static int from_manager(struct inheritance *inheritance, char *error, size_t error_size)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    const char *names = getenv("LISTEN_FDNAMES");
    char *end, source[160];

    if (pid == NULL || count == NULL || strtol(pid, NULL, 10) != (long)getpid())
        return 0;
    long n = strtol(count, &end, 10);
    if (count[0] < '0' || count[0] > '9' || *end != '\0' || n > 4096) {
        (void)snprintf(error, error_size, "LISTEN_FDS=%s: want a number of descriptors", count);
        return -EINVAL;
    }
    for (long i = 0; i < n; i++) {
        size_t length = names != NULL ? strcspn(names, ":") : 0;
        (void)snprintf(source, sizeof(source), "LISTEN_FDS%s%.*s%s", length > 0 ? " (" : "",
                       length < 100 ? (int)length : 100, names != NULL ? names : "",
                       length > 0 ? ")" : "");
        int err = inherit_add_descriptor(inheritance, LISTEN_FDS_START + (int)i, true, source,
                                         error, error_size);
        if (err != 0)
            return err;
        if (names != NULL)
            names = names[length] == ':' ? names + length + 1 : NULL;
    }
    return 0;
}

/* `127.0.0.1:8080=4;8081=5;/path=6`: the address is read from the socket itself. */
static int from_starter(struct inheritance *inheritance, char *error, size_t error_size)
{
    const char *text = getenv("SERVER_STARTER_PORT");

    while (text != NULL && *text != '\0') {
        size_t length = strcspn(text, ";");
        const char *equals = memrchr(text, '=', length);
        char *end = NULL;
        long fd = equals != NULL ? strtol(equals + 1, &end, 10) : -1;
        if (equals == NULL || end != text + length || end == equals + 1 || fd < 0 || fd > 1048576) {
            (void)snprintf(error, error_size, "SERVER_STARTER_PORT: %.*s: want ADDRESS=DESCRIPTOR",
                           (int)length, text);
            return -EINVAL;
        }
        int err = inherit_add_descriptor(inheritance, (int)fd, true, "SERVER_STARTER_PORT", error,
                                         error_size);
        if (err != 0)
            return err;
        text += length + (text[length] == ';');
    }
    return 0;
}

int inherit_from_environment(struct inheritance *inheritance, char *error, size_t error_size)
{
    static const char *const ours[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
                                       "SERVER_STARTER_PORT"};

    int err = from_manager(inheritance, error, error_size);
    if (err == 0)
        err = from_starter(inheritance, error, error_size);
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        (void)unsetenv(ours[i]);
    return err;
}

/* ---- from a message, and to one ---- */

int inherit_add(struct inheritance *inheritance, struct message *message)
{
    size_t length = 0;
    const void *address = message_get(message, HANDOVER_ADDRESS, &length);
    int fd = message->fd_count > 0 ? message->fds[0] : -1;

    if (address == NULL || length < sizeof(sa_family_t) ||
        length > sizeof(struct sockaddr_storage) || fd < 0 || !is_listening_stream(fd))
        return -EPROTO;
    struct inherited *item = append(inheritance);
    if (item == NULL)
        return -ENOMEM;
    item->fd = message_take_fd(message, 0);
    item->id = handover_socket_id(item->fd);
    memcpy(&item->address, address, length);
    item->address_length = (socklen_t)length;
    item->is_dual = message_get_number(message, HANDOVER_DUAL, 0) != 0;
    item->is_held = message_get_number(message, HANDOVER_HELD, 0) != 0;
    item->device = message_get_number(message, HANDOVER_DEVICE, 0);
    item->inode = message_get_number(message, HANDOVER_INODE, 0);
    (void)message_get_text(message, HANDOVER_NAME, item->name, sizeof(item->name));
    return 0;
}

void inherit_put(const struct inherited *item, struct message *message)
{
    handover_begin(message, HANDOVER_LISTENER);
    message_put(message, HANDOVER_ADDRESS, &item->address, item->address_length);
    message_put_text(message, HANDOVER_NAME, item->name);
    message_put_number(message, HANDOVER_DUAL, item->is_dual);
    message_put_number(message, HANDOVER_HELD, item->is_held);
    message_put_number(message, HANDOVER_DEVICE, item->device);
    message_put_number(message, HANDOVER_INODE, item->inode);
    message_put_fd(message, item->fd);
}

/* ---- the table ---- */

struct inherited *inherit_find(struct inheritance *inheritance, const struct sockaddr *address,
                               socklen_t length, bool dual)
{
    for (size_t i = 0; i < inheritance->count; i++) {
        struct inherited *item = &inheritance->items[i];
        if (item->fd >= 0 && item->is_dual == dual && item->address_length == length &&
            memcmp(&item->address, address, length) == 0)
            return item;
    }
    return NULL;
}

struct inherited *inherit_left_over(struct inheritance *inheritance, bool held)
{
    for (size_t i = 0; i < inheritance->count; i++)
        if (inheritance->items[i].fd >= 0 && (inheritance->items[i].is_held || !held))
            return &inheritance->items[i];
    return NULL;
}

void inherit_release(struct inheritance *inheritance)
{
    for (size_t i = 0; i < inheritance->count; i++) {
        if (inheritance->items[i].fd >= 0)
            (void)close(inheritance->items[i].fd);
    }
    free(inheritance->items);
    memset(inheritance, 0, sizeof(*inheritance));
}

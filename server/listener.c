#include "listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/tcp.h> /* its tcp_info is longer than the one of netinet/tcp.h */
#include <netdb.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "tls.h"

/* The kernel caps it at net.core.somaxconn; a storm of connects is better queued than refused. */
#define BACKLOG 65535

static int explain(char *error, size_t size, const char *text, int err)
{
    const char *hint = "";

    if (err == -EADDRINUSE)
        hint = " (another process listens there; stop it or choose another --listen)";
    else if (err == -EACCES)
        hint = " (ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher one)";
    else if (err == -EADDRNOTAVAIL)
        hint = " (this machine does not have that address)";
    (void)snprintf(error, size, "cannot listen on %s: %s%s", text, strerrordesc_np(-err), hint);
    return err;
}

static struct listener *append(struct listener_list *list)
{
    struct listener *grown = realloc(list->items, (list->count + 1) * sizeof(*list->items));
    if (grown == NULL)
        return NULL;
    list->items = grown;
    struct listener *last = &grown[list->count++];
    memset(last, 0, sizeof(*last));
    last->fd = last->switch_fd = -1;
    return last;
}

static void drop_last(struct listener_list *list)
{
    struct listener *last = &list->items[--list->count];
    listener_close(last);
    free(last->path);
    tls_free(last->tls);
    free(last->hosts);
}

static void note_address(struct listener *listener, const struct sockaddr *address,
                         socklen_t length)
{
    memcpy(&listener->address, address, length);
    listener->address_length = length;
}

/* ---- what is there already ---- */

/* Take over a socket that listens on this address already. */
static bool adopt(const struct listener_list *list, struct listener *listener,
                  const struct sockaddr *address, socklen_t length, bool is_dual)
{
    struct inherited *item = list->inheritance != NULL
                                 ? inherit_find(list->inheritance, address, length, is_dual)
                                 : NULL;

    if (item == NULL)
        return false;
    listener->fd = item->fd;
    listener->is_held = item->is_held;
    listener->is_inherited = !list->inheritance->is_activation;
    listener->stays = listener->is_inherited; /* lent, until we are in charge */
    item->fd = -1;
    /* Without its switch it is closed as one without a filter. */
    if (item->switch_fd >= 0)
        (void)listener_take_switch(listener, item->switch_fd);
    item->switch_fd = -1;
    listener->path_dev = item->device;
    listener->path_ino = item->inode;
    return true;
}

/* An address that overlaps one that a predecessor listens on, such as all interfaces in place of
 * one, is in use until that one has closed. With SO_REUSEPORT on both the kernel allows it to one
 * user; it is taken off again at once, so that nobody else comes in by it. */
static void share_port(const struct listener_list *list, uint16_t port, int on)
{
    for (size_t i = 0; list->inheritance != NULL && i < list->inheritance->count; i++) {
        const struct inherited *item = &list->inheritance->items[i];
        struct sockaddr_storage address;
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

/* ---- TCP ---- */

static void name_tcp(struct listener *listener)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    char host[INET6_ADDRSTRLEN] = "?";

    if (getsockname(listener->fd, (struct sockaddr *)&address, &length) != 0)
        return;
    if (address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
        (void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        listener->is_local = IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
        (void)snprintf(listener->name, sizeof(listener->name), "[%s]:%u", host,
                       ntohs(in6->sin6_port));
    } else {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
        (void)inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        listener->is_local = ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
        (void)snprintf(listener->name, sizeof(listener->name), "%s:%u", host, ntohs(in->sin_port));
    }
}

static int bind_tcp(const struct listener_list *list, struct listener *listener,
                    const struct addrinfo *to, bool dual)
{
    int on = 1, v6only = dual ? 0 : 1;

    listener->family = to->ai_family;
    listener->is_dual = dual && to->ai_family == AF_INET6;
    note_address(listener, to->ai_addr, to->ai_addrlen);
    if (adopt(list, listener, to->ai_addr, to->ai_addrlen, listener->is_dual)) {
        name_tcp(listener);
        return 0;
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
        name_tcp(listener);
    return err;
}

static int open_every_interface(struct listener_list *list, const char *text, uint16_t port,
                                char *error, size_t error_size)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct addrinfo v6 = {
        .ai_family = AF_INET6, .ai_addr = (struct sockaddr *)&in6, .ai_addrlen = sizeof(in6)};
    struct addrinfo v4 = {
        .ai_family = AF_INET, .ai_addr = (struct sockaddr *)&in, .ai_addrlen = sizeof(in)};

    struct listener *listener = append(list);
    if (listener == NULL)
        return explain(error, error_size, text, -ENOMEM);
    int err = bind_tcp(list, listener, &v6, true);
    if (err == -EAFNOSUPPORT || err == -EADDRNOTAVAIL) { /* a machine without IPv6 */
        listener_close(listener);
        err = bind_tcp(list, listener, &v4, false);
    }
    if (err != 0) {
        drop_last(list);
        return explain(error, error_size, text, err);
    }
    return 0;
}

static int open_tcp(struct listener_list *list, const char *text, const char *host,
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
        struct listener *listener = append(list);
        err = listener == NULL ? -ENOMEM : bind_tcp(list, listener, a, false);
        if (err != 0 && listener != NULL)
            drop_last(list);
    }
    freeaddrinfo(found);
    return err == 0 ? 0 : explain(error, error_size, text, err);
}

/* ---- Unix domain ---- */

/* A socket file that nobody answers is left over from a crash; one that answers is in use. */
static int remove_stale(const struct sockaddr_un *address)
{
    struct stat st;
    if (lstat(address->sun_path, &st) != 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int err = connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ? 0 : errno;
    (void)close(fd);
    if (err != ECONNREFUSED)
        return -EADDRINUSE;
    return unlink(address->sun_path) == 0 ? 0 : -errno;
}

/* Before listen(2): nobody can connect while the file has not its owner yet. In a folder that
 * others may write to, something else may stand there by now: so what is handed over is looked at,
 * and held by a descriptor meanwhile. */
static int hand_over(const char *path, const struct listener_how *how, char *error,
                     size_t error_size)
{
    const struct passwd *owner = how->owner != NULL ? getpwnam(how->owner) : NULL;
    const struct group *group = how->group != NULL ? getgrnam(how->group) : NULL;
    uid_t uid = owner != NULL ? owner->pw_uid : (uid_t)-1;
    gid_t gid = group != NULL ? group->gr_gid : owner != NULL ? owner->pw_gid : (gid_t)-1;
    struct stat st;

    if ((how->owner != NULL && owner == NULL) || (how->group != NULL && group == NULL)) {
        (void)snprintf(error, error_size, "cannot listen on %s: there is no %s %s", path,
                       owner == NULL && how->owner != NULL ? "user" : "group",
                       owner == NULL && how->owner != NULL ? how->owner : how->group);
        return -EINVAL;
    }
    if (owner == NULL && group == NULL)
        return 0;
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    int err = fd < 0 || fstat(fd, &st) != 0 ? errno : 0;
    if (err == 0 && (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid() || st.st_nlink != 1))
        err = EEXIST;
    if (err == 0 && fchownat(fd, "", uid, gid, AT_EMPTY_PATH) != 0)
        err = errno;
    if (fd >= 0)
        (void)close(fd);
    if (err == 0)
        return 0;
    (void)snprintf(error, error_size, "cannot hand %s over to its owner: %s", path,
                   strerrordesc_np(err));
    return -EPERM;
}

/* The file has its permissions from the beginning: the socket's own, less what umask(2) takes. */
static int bind_unix(const struct listener *listener, const struct sockaddr_un *address, int mode)
{
    mode_t before = 0;

    if (mode >= 0 && fchmod(listener->fd, (mode_t)mode) != 0)
        return -errno;
    if (mode >= 0)
        before = umask(0);
    int err =
        bind(listener->fd, (const struct sockaddr *)address, sizeof(*address)) != 0 ? -errno : 0;
    if (mode >= 0)
        (void)umask(before);
    return err;
}

static int open_unix(struct listener_list *list, const char *text, const char *path,
                     const struct listener_how *how, char *error, size_t error_size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;

    if (path[0] == '\0' || strlen(path) >= sizeof(address.sun_path)) {
        (void)snprintf(error, error_size, "cannot listen on %s: the path must have 1 to %zu bytes",
                       text, sizeof(address.sun_path) - 1);
        return -EINVAL;
    }
    (void)strcpy(address.sun_path, path);
    struct listener *listener = append(list);
    if (listener == NULL)
        return explain(error, error_size, text, -ENOMEM);
    listener->family = AF_UNIX;
    listener->is_local = true;
    note_address(listener, (const struct sockaddr *)&address, sizeof(address));
    (void)snprintf(listener->name, sizeof(listener->name), "%s", text);
    if (how != NULL && how->dry_run)
        return 0;
    error[0] = '\0';
    if (adopt(list, listener, (const struct sockaddr *)&address, sizeof(address), false)) {
        if (!listener->is_held && (listener->path = strdup(path)) == NULL) {
            drop_last(list);
            return explain(error, error_size, text, -ENOMEM);
        }
        return 0;
    }
    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int err = listener->fd < 0 ? -errno : remove_stale(&address);
    if (err == 0)
        err = bind_unix(listener, &address, how != NULL ? how->mode : -1);
    if (err == 0) {
        listener->path = strdup(path); /* from here on the file is ours to remove */
        if (how != NULL)
            err = hand_over(path, how, error, error_size);
        if (err == 0 && listener->path == NULL)
            err = -ENOMEM;
        if (err == 0 && (lstat(path, &st) != 0 || listen(listener->fd, BACKLOG) != 0))
            err = -errno;
        if (err == 0) {
            listener->path_dev = st.st_dev;
            listener->path_ino = st.st_ino;
        }
        if (err != 0)
            (void)unlink(path);
    }
    if (err == 0)
        return 0;
    drop_last(list);
    if (err == -EEXIST)
        (void)snprintf(error, error_size,
                       "cannot listen on %s: a file that is not a socket is in the way", text);
    else if (error[0] == '\0')
        (void)explain(error, error_size, text, err);
    return err;
}

/* Only our own file: a successor may have bound the path again. */
static void unlink_own_path(const struct listener *listener)
{
    struct stat st;
    if (listener->path != NULL && lstat(listener->path, &st) == 0 &&
        st.st_dev == listener->path_dev && st.st_ino == listener->path_ino)
        (void)unlink(listener->path);
}

/* ---- addresses ---- */

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
        return open_unix(list, text, text + 5, NULL, error, error_size);
    if (parse_port(text, &port))
        return open_every_interface(list, text, port, error, error_size);

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
    return open_tcp(list, text, host, colon + 1, error, error_size);
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

struct listener *listener_find(struct listener_list *list, const struct sockaddr *address,
                               socklen_t length)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].address_length == length &&
            memcmp(&list->items[i].address, address, length) == 0)
            return &list->items[i];
    return NULL;
}

int listener_open_address(struct listener_list *list, const char *name,
                          const struct sockaddr *address, socklen_t length,
                          const struct listener_how *how, char *error, size_t error_size)
{
    if (address->sa_family == AF_UNIX)
        return open_unix(list, name, ((const struct sockaddr_un *)(const void *)address)->sun_path,
                         how, error, error_size);
    struct listener *listener = append(list);
    if (listener == NULL)
        return explain(error, error_size, name, -ENOMEM);
    struct addrinfo to = {.ai_family = address->sa_family,
                          .ai_addr = (struct sockaddr *)(uintptr_t)address,
                          .ai_addrlen = length};
    listener->family = address->sa_family;
    note_address(listener, address, length);
    (void)snprintf(listener->name, sizeof(listener->name), "%s", name);
    if (how->dry_run)
        return 0;
    int err = bind_tcp(list, listener, &to, false);
    if (err != 0) {
        drop_last(list);
        return explain(error, error_size, name, err);
    }
    int queue = (int)how->fastopen;
    if (queue > 0) /* where the kernel has none, connections only take a round trip more */
        (void)setsockopt(listener->fd, IPPROTO_TCP, TCP_FASTOPEN, &queue, sizeof(queue));
    return 0;
}

int listener_open_inherited(struct listener_list *list)
{
    for (size_t i = 0; i < list->inheritance->count; i++) {
        const struct inherited item = list->inheritance->items[i];
        if (!item.is_held || item.fd < 0)
            continue;
        struct listener *listener = append(list);
        if (listener == NULL)
            return -ENOMEM;
        listener->family = item.address.ss_family;
        listener->is_dual = item.is_dual;
        note_address(listener, (const struct sockaddr *)&item.address, item.address_length);
        (void)adopt(list, listener, (const struct sockaddr *)&item.address, item.address_length,
                    item.is_dual);
        listener->is_local = listener->family == AF_UNIX;
        if (listener->family == AF_UNIX)
            (void)snprintf(listener->name, sizeof(listener->name), "%s", item.name);
        else
            name_tcp(listener);
    }
    return 0;
}

void listener_describe(const struct listener *listener, struct inherited *ret_item)
{
    memset(ret_item, 0, sizeof(*ret_item));
    ret_item->fd = listener->fd;
    ret_item->switch_fd = listener->switch_fd;
    ret_item->address = listener->address;
    ret_item->address_length = listener->address_length;
    ret_item->is_dual = listener->is_dual;
    ret_item->is_held = listener->is_held;
    ret_item->device = listener->path_dev;
    ret_item->inode = listener->path_ino;
    (void)snprintf(ret_item->name, sizeof(ret_item->name), "%s", listener->name);
}

/* ---- closing ---- */

int listener_stop_newcomers(struct listener *listener)
{
    /* The filter of a TCP socket sees the segment from the TCP header on; flags are byte 13, SYN is
     * 0x02 and ACK 0x10 (RFC 9293 section 3.1). Connections accepted later inherit the filter,
     * which is harmless: an established peer sends no bare SYN. */
    static struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 13),          BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x02, 0, 1), BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
    };
    static const struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]),
                                              .filter = code};

    if (listener->family == AF_UNIX) {
        unlink_own_path(listener);
        return shutdown(listener->fd, SHUT_RD) == 0 ? 0 : -errno;
    }
    if (listener->newcomers_off != NULL) { /* relaxed: the kernel reads it, some segments later */
        atomic_store_explicit(listener->newcomers_off, 1, memory_order_relaxed);
        return 0;
    }
    if (setsockopt(listener->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) != 0)
        return -errno;
    return 0;
}

int listener_queue_length(const struct listener *listener)
{
    struct tcp_info info;
    socklen_t length = sizeof(info);

    if (listener->family == AF_UNIX ||
        getsockopt(listener->fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
        return -1;
    return (int)info.tcpi_unacked;
}

void listener_close(struct listener *listener)
{
    if (listener->fd >= 0 && !listener->is_held && !listener->stays)
        unlink_own_path(listener);
    listener_leave(listener);
}

void listener_leave(struct listener *listener)
{
    if (listener->fd >= 0)
        (void)close(listener->fd);
    listener->fd = -1;
    listener_forget_switch(listener);
}

void listener_list_release(struct listener_list *list)
{
    while (list->count > 0)
        drop_last(list);
    free(list->items);
    list->items = NULL;
}

uint64_t listener_peer_rtt_ns(int fd)
{
    struct tcp_info info;
    socklen_t length = sizeof(info);

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
        return 0;
    return (uint64_t)info.tcpi_rtt * NS_PER_US;
}

uint64_t listener_peer_min_rtt_ns(int fd)
{
    struct tcp_info info;
    socklen_t length = sizeof(info);

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 ||
        length < offsetof(struct tcp_info, tcpi_min_rtt) + sizeof(info.tcpi_min_rtt))
        return 0;
    return (uint64_t)info.tcpi_min_rtt * NS_PER_US;
}

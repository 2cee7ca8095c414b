#include "loadgen_options.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/un.h>

#include "loadgen_wires.h"

/* The client loads only servers on its own machine: numeric loopback addresses and Unix sockets, no
 * host names. */

#define LOAD_MAX_CONNECTIONS 65536U
#define LOAD_MAX_STREAMS 65536U
#define LOAD_MAX_BODY (UINT64_C(1) << 30)
#define LOAD_MAX_RATE 1000000U

static int parse_port(const char *text, in_port_t *ret_port)
{
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return -EINVAL;
    unsigned long port = strtoul(text, &end, 10);
    if (*end != '\0' || port == 0 || port > 65535)
        return -EINVAL;
    *ret_port = htons((uint16_t)port);
    return 0;
}

static int parse_unix(struct load *l, const char *path)
{
    struct sockaddr_un *sun = (struct sockaddr_un *)&l->address;
    size_t len = strlen(path);

    if (len == 0 || len >= sizeof(sun->sun_path))
        return -EINVAL;
    sun->sun_family = AF_UNIX;
    memcpy(sun->sun_path, path, len + 1);
    l->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    memcpy(l->authority, "localhost", sizeof("localhost"));
    return 0;
}

static int parse_inet6(struct load *l, const char *host, const char *port)
{
    struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&l->address;

    if (inet_pton(AF_INET6, host, &sin6->sin6_addr) != 1 || !IN6_IS_ADDR_LOOPBACK(&sin6->sin6_addr))
        return -EINVAL;
    sin6->sin6_family = AF_INET6;
    l->address_len = sizeof(*sin6);
    return parse_port(port, &sin6->sin6_port);
}

static int parse_inet(struct load *l, const char *host, const char *port)
{
    struct sockaddr_in *sin = (struct sockaddr_in *)&l->address;

    if (inet_pton(AF_INET, host, &sin->sin_addr) != 1 || ntohl(sin->sin_addr.s_addr) >> 24 != 127)
        return -EINVAL;
    sin->sin_family = AF_INET;
    l->address_len = sizeof(*sin);
    return parse_port(port, &sin->sin_port);
}

static int parse_address(struct load *l, const char *address)
{
    char host[64];

    if (strncmp(address, "unix:", 5) == 0)
        return parse_unix(l, address + 5);

    const char *colon = strrchr(address, ':');
    if (colon == NULL || (size_t)(colon - address) >= sizeof(host))
        return -EINVAL;
    size_t len = (size_t)(colon - address);
    memcpy(host, address, len);
    host[len] = '\0';
    (void)snprintf(l->authority, sizeof(l->authority), "%s", address); /* at most 70 bytes */

    if (host[0] != '[')
        return parse_inet(l, host, colon + 1);
    if (host[len - 1] != ']')
        return -EINVAL;
    host[len - 1] = '\0';
    return parse_inet6(l, host + 1, colon + 1);
}

/* Method and path are copied into the request: they must not contain a space or a line end. */
static bool is_word(const char *text)
{
    for (const char *p = text; *p != '\0'; p++)
        if (*p <= ' ' || *p == 0x7f)
            return false;
    return text[0] != '\0';
}

static bool is_crowd_in_range(const struct load_options *o)
{
    return o->idle <= LOAD_MAX_CONNECTIONS && o->silent <= LOAD_MAX_CONNECTIONS &&
           o->pipeline <= LOAD_MAX_STREAMS &&
           (o->pipeline <= 1 || o->protocol == LOAD_HTTP1_KEEPALIVE);
}

static bool is_in_range(const struct load_options *o)
{
    return o->address != NULL && o->protocol <= LOAD_HTTP2 && o->connections >= 1 &&
           o->connections <= LOAD_MAX_CONNECTIONS && o->streams <= LOAD_MAX_STREAMS &&
           o->body_bytes <= LOAD_MAX_BODY && o->rate <= LOAD_MAX_RATE && is_crowd_in_range(o) &&
           o->server_pid >= 0 && (o->method == NULL || is_word(o->method)) &&
           (o->number_header == NULL || is_word(o->number_header)) &&
           (o->path == NULL || (is_word(o->path) && (o->path[0] == '/' || o->path[0] == '*')));
}

static size_t count_open_fds(void)
{
    size_t count = 0;
    DIR *dir = opendir("/proc/self/fd");

    if (dir == NULL)
        return 64;
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count; /* includes `.` and `..`: two more than needed */
}

static int raise_open_files(unsigned connections)
{
    struct rlimit limit;
    size_t need = connections + count_open_fds() + 8;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return -errno;
    if (limit.rlim_cur < need && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            return -errno;
    }
    return limit.rlim_cur < need ? -EMFILE : 0;
}

int load_options_apply(struct load *l, const struct load_options *options)
{
    if (!is_in_range(options))
        return -EINVAL;
    l->options = options;
    l->wire = options->protocol == LOAD_HTTP2 ? &load_wire_h2 : &load_wire_h1;
    l->method = options->method != NULL   ? options->method
                : options->body_bytes > 0 ? "POST"
                                          : "GET";
    l->path = options->path != NULL ? options->path : "/hello";
    l->expect_len = options->expect_body != NULL ? strlen(options->expect_body) : 0;
    l->is_head = strcmp(l->method, "HEAD") == 0;

    int r = parse_address(l, options->address);
    return r != 0 ? r : raise_open_files(options->connections + options->idle + options->silent);
}

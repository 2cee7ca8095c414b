#include "trust.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_NETWORKS 256

struct network {
    struct in6_addr address; /* IPv4 as ::ffff:a.b.c.d */
    unsigned bits;
};

struct trust {
    bool has_unix;
    size_t count;
    struct network network[MOST_NETWORKS];
};

static void map_v4(const struct in_addr *v4, struct in6_addr *ret_address)
{
    memset(ret_address, 0, sizeof(*ret_address));
    memset(&ret_address->s6_addr[10], 0xff, 2);
    memcpy(&ret_address->s6_addr[12], v4, sizeof(*v4));
}

bool trust_read_address(const char *text, size_t bytes, struct in6_addr *ret_address,
                        bool *ret_is_v4)
{
    char copy[INET6_ADDRSTRLEN + 16];
    char *begin = copy, *end;
    struct in_addr v4;

    if (bytes == 0 || bytes >= sizeof(copy) || memchr(text, '\0', bytes) != NULL)
        return false;
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    if (*copy == '[') {
        begin = copy + 1;
        end = strchr(begin, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return false;
        *end = '\0';
    } else if ((end = strchr(copy, ':')) != NULL && strchr(end + 1, ':') == NULL) {
        *end = '\0';
    }
    *ret_is_v4 = inet_pton(AF_INET, begin, &v4) == 1;
    if (!*ret_is_v4)
        return inet_pton(AF_INET6, begin, ret_address) == 1;
    map_v4(&v4, ret_address);
    return true;
}

static bool is_in(const struct network *network, const struct in6_addr *address)
{
    unsigned bytes = network->bits / 8, rest = network->bits % 8;

    if (memcmp(&network->address, address, bytes) != 0)
        return false;
    if (rest == 0)
        return true;
    int differ = network->address.s6_addr[bytes] ^ address->s6_addr[bytes];
    return differ >> (8 - rest) == 0;
}

bool trust_has(const struct trust *trust, const struct in6_addr *address)
{
    for (size_t i = 0; i < trust->count; i++)
        if (is_in(&trust->network[i], address))
            return true;
    return false;
}

bool trust_has_unix(const struct trust *trust)
{
    return trust->has_unix;
}

bool trust_has_peer(const struct trust *trust, const struct sockaddr *peer, socklen_t peer_len)
{
    struct in6_addr address;

    if (peer_len > 0 && peer->sa_family == AF_INET6)
        return trust_has(trust, &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr);
    if (peer_len > 0 && peer->sa_family == AF_UNIX)
        return trust->has_unix;
    if (peer_len == 0 || peer->sa_family != AF_INET)
        return false;
    map_v4(&((const struct sockaddr_in *)(const void *)peer)->sin_addr, &address);
    return trust_has(trust, &address);
}

/* ---- the list ---- */

static bool read_network(const char *text, size_t bytes, struct network *ret_network)
{
    const char *slash = memchr(text, '/', bytes);
    size_t address_bytes = slash != NULL ? (size_t)(slash - text) : bytes;
    bool is_v4;
    unsigned bits = 0;

    if (memchr(text, '[', address_bytes) != NULL ||
        !trust_read_address(text, address_bytes, &ret_network->address, &is_v4))
        return false;
    unsigned most = is_v4 ? 32 : 128;
    if (slash == NULL) {
        bits = most;
    } else {
        size_t digits = bytes - address_bytes - 1;
        if (digits == 0 || digits > 3)
            return false;
        for (size_t i = 1; i <= digits; i++) {
            if (slash[i] < '0' || slash[i] > '9')
                return false;
            bits = bits * 10 + (unsigned)(slash[i] - '0');
        }
    }
    ret_network->bits = bits + (is_v4 ? 96 : 0);
    return bits <= most;
}

struct trust *trust_create(const char *list, char error[TRUST_ERROR_SIZE])
{
    struct trust *trust = calloc(1, sizeof(*trust));

    error[0] = '\0';
    if (trust == NULL)
        return NULL;
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, ", \t");
        size_t bytes = strcspn(at, ", \t");
        if (bytes == 0)
            break;
        struct network network;
        bool is_word = bytes == 4;
        if (is_word && memcmp(at, "unix", 4) == 0) {
            trust->has_unix = true;
        } else if (is_word && memcmp(at, "none", 4) == 0) {
            /* adds nothing */
        } else if (trust->count < MOST_NETWORKS && read_network(at, bytes, &network)) {
            trust->network[trust->count++] = network;
        } else {
            (void)snprintf(error, TRUST_ERROR_SIZE,
                           "trusted-proxies: \"%.*s\": want addresses or networks such as "
                           "10.0.0.0/8, 2001:db8::/32, unix or none; at most 256",
                           bytes > 80 ? 80 : (int)bytes, at);
            free(trust);
            return NULL;
        }
        at += bytes;
    }
    return trust;
}

void trust_destroy(struct trust *trust)
{
    free(trust);
}

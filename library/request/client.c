#include "request_p.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Who is the client, where proxies stand between? X-Forwarded-For is a list that each proxy appends
 * its own peer to, and so is Forwarded (RFC 7239). So the entries are worth as much as the one who
 * wrote them: from the right, as long as that is a proxy of the list that the operator trusts.
 *
 * Where there is an X-Forwarded-For, Forwarded does not count: a proxy that knows the first alone
 * passes on what its client has sent as the second. */

#define MOST_NETWORKS 256

struct network {
    struct in6_addr address; /* IPv4 as ::ffff:a.b.c.d */
    unsigned bits;
};

struct lc_trust {
    bool has_unix;
    size_t count;
    struct network network[MOST_NETWORKS];
};

/* "192.0.2.1", "2001:db8::1", "[2001:db8::1]:80", "192.0.2.1:80" */
static bool read_address(const char *text, size_t bytes, struct in6_addr *ret_address,
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
    memset(ret_address, 0, sizeof(*ret_address));
    memset(&ret_address->s6_addr[10], 0xff, 2);
    memcpy(&ret_address->s6_addr[12], &v4, sizeof(v4));
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

static bool is_trusted(const struct lc_trust *trust, const struct in6_addr *address)
{
    for (size_t i = 0; i < trust->count; i++)
        if (is_in(&trust->network[i], address))
            return true;
    return false;
}

/* ---- the list ---- */

static bool read_network(const char *text, size_t bytes, struct network *ret_network)
{
    const char *slash = memchr(text, '/', bytes);
    size_t address_bytes = slash != NULL ? (size_t)(slash - text) : bytes;
    bool is_v4;
    unsigned bits = 0;

    if (memchr(text, '[', address_bytes) != NULL ||
        !read_address(text, address_bytes, &ret_network->address, &is_v4))
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

struct lc_trust *lc_trust_create(const char *list, char error[MUX_ERROR])
{
    struct lc_trust *trust = calloc(1, sizeof(*trust));

    error[0] = '\0';
    if (trust == NULL)
        return NULL;
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, ", \t");
        size_t bytes = strcspn(at, ", \t");
        if (bytes == 0)
            break;
        struct network network;
        if (bytes == 4 && memcmp(at, "unix", 4) == 0) {
            trust->has_unix = true;
        } else if (trust->count < MOST_NETWORKS && read_network(at, bytes, &network)) {
            trust->network[trust->count++] = network;
        } else {
            (void)snprintf(error, MUX_ERROR,
                           "trusted-proxies: \"%.*s\": want addresses or networks such as "
                           "10.0.0.0/8, 2001:db8::/32, or unix; at most 256",
                           bytes > 80 ? 80 : (int)bytes, at);
            free(trust);
            return NULL;
        }
        at += bytes;
    }
    return trust;
}

void lc_trust_destroy(struct lc_trust *trust)
{
    free(trust);
}

/* ---- the client ---- */

static void write_address(const struct in6_addr *address, char text[64])
{
    if (IN6_IS_ADDR_V4MAPPED(address))
        (void)inet_ntop(AF_INET, &address->s6_addr[12], text, 64);
    else
        (void)inet_ntop(AF_INET6, address, text, 64);
}

static bool is_proxy(const struct lc_trust *trust, const char *peer)
{
    struct in6_addr address;
    bool is_v4;

    if (strcmp(peer, "unix") == 0)
        return trust->has_unix;
    return read_address(peer, strlen(peer), &address, &is_v4) && is_trusted(trust, &address);
}

/* One more hop to the left. False: there is nothing to see further on, as this one is no address
 * ("unknown", or nonsense), or as no trusted proxy has written more. */
static bool go_on(const struct lc_trust *trust, const char *node, size_t bytes, char text[64])
{
    struct in6_addr address;
    bool is_v4;

    if (bytes == 0 || !read_address(node, bytes, &address, &is_v4))
        return false; /* the proxy that wrote it is all that is known */
    write_address(&address, text);
    return is_trusted(trust, &address);
}

static void find_in_list(const struct lc_trust *trust, const char *list, char text[64])
{
    bool goes_on = true;

    for (const char *end = list + strlen(list); end > list && goes_on;) {
        const char *begin = end;
        while (begin > list && begin[-1] != ',')
            begin--;
        const char *next = begin > list ? begin - 1 : list;
        begin += strspn(begin, " \t");
        while (end > begin && (end[-1] == ' ' || end[-1] == '\t'))
            end--;
        goes_on = end > begin && go_on(trust, begin, (size_t)(end - begin), text);
        end = next;
    }
}

static void find_in_forwarded(const struct lc_trust *trust, const char *field, char text[64])
{
    char node[LC_HOPS][LC_NODE_SIZE];
    size_t count = lc_read_forwarded(field, node);
    bool goes_on = true;

    for (size_t i = 0; i < count && goes_on; i++)
        goes_on = go_on(trust, node[i], strlen(node[i]), text);
}

void lc_find_client(const struct lc_trust *trust, const char *peer, const char *x_forwarded_for,
                    const char *forwarded, char text[64])
{
    (void)snprintf(text, 64, "%s", peer);
    if (!is_proxy(trust, peer))
        return;
    if (x_forwarded_for != NULL)
        find_in_list(trust, x_forwarded_for, text);
    else if (forwarded != NULL)
        find_in_forwarded(trust, forwarded, text);
}

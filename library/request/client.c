#include "request_p.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

/* Who is the client, where proxies stand between? X-Forwarded-For is a list that each proxy appends
 * its own peer to, and so is Forwarded (RFC 7239). So the entries are worth as much as the one who
 * wrote them: from the right, as long as that is a proxy of the list that the operator trusts.
 *
 * Where there is an X-Forwarded-For, Forwarded does not count: a proxy that knows the first alone
 * passes on what its client has sent as the second. */

static void write_address(const struct in6_addr *address, char text[64])
{
    if (IN6_IS_ADDR_V4MAPPED(address))
        (void)inet_ntop(AF_INET, &address->s6_addr[12], text, 64);
    else
        (void)inet_ntop(AF_INET6, address, text, 64);
}

static bool is_proxy(const struct trust *trust, const char *peer)
{
    struct in6_addr address;
    bool is_v4;

    if (strcmp(peer, "unix") == 0)
        return trust_has_unix(trust);
    return trust_read_address(peer, strlen(peer), &address, &is_v4) && trust_has(trust, &address);
}

/* One more hop to the left. False: there is nothing to see further on, as this one is no address
 * ("unknown", or nonsense), or as no trusted proxy has written more. */
static bool go_on(const struct trust *trust, const char *node, size_t bytes, char text[64])
{
    struct in6_addr address;
    bool is_v4;

    if (bytes == 0 || !trust_read_address(node, bytes, &address, &is_v4))
        return false; /* the proxy that wrote it is all that is known */
    write_address(&address, text);
    return trust_has(trust, &address);
}

static void find_in_list(const struct trust *trust, const char *list, char text[64])
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

static void find_in_forwarded(const struct trust *trust, const char *field, char text[64])
{
    char node[LC_HOPS][LC_NODE_SIZE];
    size_t count = lc_read_forwarded(field, node);
    bool goes_on = true;

    for (size_t i = 0; i < count && goes_on; i++)
        goes_on = go_on(trust, node[i], strlen(node[i]), text);
}

void lc_find_client(const struct trust *trust, const char *peer, const char *x_forwarded_for,
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

#include "address.h"

#include <arpa/inet.h>
#include <stdio.h>

bool address_text(const struct sockaddr_storage *address, char *text, size_t size)
{
    const struct sockaddr_in *in = (const void *)address;
    const struct sockaddr_in6 *in6 = (const void *)address;
    char host[INET6_ADDRSTRLEN] = "?";

    if (address->ss_family == AF_INET) {
        (void)inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host));
        (void)snprintf(text, size, "%s:%u", host, ntohs(in->sin_port));
        return true;
    }
    if (address->ss_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
        (void)snprintf(text, size, "[%s]:%u", host, ntohs(in6->sin6_port));
        return true;
    }
    return false;
}

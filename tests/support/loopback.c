#include "loopback.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define LOWEST 10000u /* below are the ports of known services */

static int bind_here(uint16_t port)
{
    struct sockaddr_in here = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (bind(fd, (struct sockaddr *)&here, sizeof(here)) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

/*
 * Between free_port() and the bind(2) of the server that gets the port, another test program could
 * find the same port free. So each port is claimed by an abstract name (unix(7)), and kept until
 * this program ends: the kernel then removes the name. tests/differential claims by the same names.
 */
static bool claim(uint16_t port)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int length =
        snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "lastcall-test-port-%u", port);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (bind(fd, (struct sockaddr *)&name,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length)) == 0)
        return true; /* the descriptor stays open on purpose */
    (void)close(fd);
    return false;
}

static unsigned first_of_the_kernel(void)
{
    unsigned first = 32768;
    FILE *range = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");

    if (range != NULL) {
        if (fscanf(range, "%u", &first) != 1)
            fail_msg("no number in ip_local_port_range");
        (void)fclose(range);
    }
    assert_true(first > LOWEST + 1000);
    return first;
}

uint16_t free_port(void)
{
    static unsigned at, end; /* a random place to begin at, as test programs run side by side */

    if (end == 0) {
        end = first_of_the_kernel();
        assert_int_equal(getrandom(&at, sizeof(at), 0), sizeof(at));
        at = LOWEST + at % (end - LOWEST);
    }
    for (unsigned tries = 0; tries < 1000; tries++) {
        uint16_t port = (uint16_t)at;
        at = at + 1 < end ? at + 1 : LOWEST;
        int fd = bind_here(port);
        if (fd < 0)
            continue;
        bool ours = claim(port);
        (void)close(fd);
        if (ours)
            return port;
    }
    fail_msg("no free port in a thousand below %u", end);
    return 0;
}

int listen_here(uint16_t *ret_port, int backlog)
{
    struct sockaddr_in here;
    socklen_t length = sizeof(here);
    int fd = bind_here(0);

    assert_true(fd >= 0);
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&here, &length), 0);
    *ret_port = ntohs(here.sin_port);
    return fd;
}

#include "loopback.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
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
        (void)close(fd);
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

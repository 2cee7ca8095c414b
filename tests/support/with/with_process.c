#include "with_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

void wait_until_busy(const struct process *process)
{
    /* One loop thread reads connections in the order in which data came. So when this answer has
     * arrived, that loop has taken over all requests that were sent before. Read until end of file:
     * it comes after the server has stopped counting this request. After Content-Length bytes the
     * request may still count as active when the drain begins. */
    for (unsigned i = 0; i < 3; i++) {
        int fd = client_connect(process);
        client_send(fd, "GET /hello HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        char *answer = client_read_until(fd, NULL);
        assert_contains(answer, "200 OK");
        free(answer);
        (void)close(fd);
    }
}

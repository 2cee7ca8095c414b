#include "with_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

char *ask(const struct process *process, const char *request)
{
    int fd = client_connect(process);
    client_send(fd, request);
    char *answer = client_read_answer(fd);
    (void)close(fd);
    return answer;
}

void assert_answer(const struct process *process, const char *request, const char *want)
{
    char *answer = ask(process, request);
    assert_contains(answer, want);
    free(answer);
}

void wait_until_busy(const struct process *process)
{
    /* One loop thread reads connections in the order in which data came; so when this answer is
     * here, what was sent before on that loop has been handed over. The end of file behind it comes
     * once the request is off the books: read with its length alone, it may still be counted as
     * active when the drain begins. */
    for (unsigned i = 0; i < 3; i++) {
        int fd = client_connect(process);
        client_send(fd, "GET /hello HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        char *answer = client_read_until(fd, NULL);
        assert_contains(answer, "200 OK");
        free(answer);
        (void)close(fd);
    }
}

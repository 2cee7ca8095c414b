/* A program outside of the tree, as C11 and as C++11: it serves, asks itself, is told to stop while
 * a request is in flight, and ends with 0 if nothing was lost. */

#include <lastcall/lastcall.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int begun[2]; /* a pipe: the slow handler has begun */

static void hello(lc_req *req, void *user)
{
    (void)lc_sendf(req, 200, "text/plain", "hello %s from %s\n", lc_param(req, "name"),
                   (const char *)user);
}

/* Answers only after the drain has begun. */
static void slow(lc_req *req, void *user)
{
    (void)user;
    if (write(begun[1], "x", 1) != 1)
        return;
    if (lc_wait_for(req, 30000, LC_ON_DRAIN) == LC_E_DRAINING)
        (void)lc_send(req, 200, "text/plain", "whole\n");
    else
        (void)lc_fail(req, 500, "the drain did not begin");
}

/* Ask our own server; what it answered is in `answer`. */
static int ask(int port, const char *path, char *answer, size_t size)
{
    struct sockaddr_in address;
    char request[256];
    size_t have = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memset(&address, 0, sizeof(address));
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        return -1;
    (void)snprintf(request, sizeof(request),
                   "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    if (write(fd, request, strlen(request)) != (ssize_t)strlen(request))
        return -1;
    for (;;) {
        ssize_t n = read(fd, answer + have, size - 1 - have);
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    answer[have] = '\0';
    (void)close(fd);
    return 0;
}

static void *client(void *port)
{
    static char answer[4096];

    return ask(*(int *)port, "/slow", answer, sizeof(answer)) == 0 ? answer : NULL;
}

static void must(int holds, const char *what, const char *detail)
{
    if (holds)
        return;
    (void)fprintf(stderr, "%s: %s\n", what, detail);
    exit(1);
}

int main(void)
{
    static char who[] = "outside";
    char answer[4096], byte;
    struct lc_result result = LC_RESULT_INIT;
    pthread_t thread;
    void *slowly = NULL;
    lc_server *server = lc_new();

    must(server != NULL, "lc_new", lc_errmsg(NULL));
    must(strcmp(lc_version(), LC_VERSION) == 0, "lc_version", lc_version());
    must(pipe(begun) == 0, "pipe", "");
    (void)lc_listen(server, "127.0.0.1:0");
    (void)lc_handle(server, "GET /hello/{name}", hello, who);
    (void)lc_handle(server, "/slow", slow, NULL);
    must(lc_start(server) == 0, "lc_start", lc_errmsg(server));
    int port = lc_port(server);
    must(ask(port, "/hello/you", answer, sizeof(answer)) == 0, "ask", "");
    must(strstr(answer, "\r\n\r\nhello you from outside\n") != NULL, "/hello", answer);

    must(pthread_create(&thread, NULL, client, &port) == 0, "thread", "");
    must(read(begun[0], &byte, 1) == 1, "pipe", "");
    int stopped = lc_shutdown(server, 20000, &result);
    must(pthread_join(thread, &slowly) == 0, "join", "");
    must(slowly != NULL && strstr((char *)slowly, "\r\n\r\nwhole\n") != NULL, "/slow",
         slowly != NULL ? (char *)slowly : "no answer");
    must(stopped == 0 && result.unfinished == 0, "lc_shutdown", lc_strerror(stopped));
    must(lc_free(server) == 0, "lc_free", "");
    (void)printf("liblastcall %s: ok\n", lc_version());
    return 0;
}

/* The server under the fuzzer, with a configuration that has an upstream and an application. */

#include "upstream_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "fuzz_upstream: %s: %s\n", what, strerror(errno));
    exit(2);
}

static int listen_anywhere(uint16_t *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (void *)&address, size) != 0 || listen(fd, 128) != 0 ||
        getsockname(fd, (void *)&address, &size) != 0)
        die("listen");
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static void write_conf(struct server *server, uint16_t http, uint16_t fastcgi)
{
    (void)strcpy(server->conf, "/tmp/fuzz_upstream.XXXXXX");
    int fd = mkstemp(server->conf);
    if (fd < 0)
        die(server->conf);
    (void)dprintf(fd,
                  "listen: {host: 127.0.0.1, port: 0}\nnum-threads: 1\ncompress: ON\nreproxy: ON\n"
                  "throttle-response: ON\n"
                  "proxy.timeout.io: 1000\nfastcgi.timeout.io: 1000\n"
                  "hosts:\n  default:\n    paths:\n      /own: {handler: hello}\n"
                  "      /p: {proxy.reverse.url: \"http://127.0.0.1:%u/\"}\n"
                  "      /q: {proxy.timeout.keepalive: 0,\n"
                  "           proxy.reverse.url: \"http://127.0.0.1:%u/\"}\n"
                  "      /f: {fastcgi.connect: {host: 127.0.0.1, port: %u, type: tcp}}\n"
                  "      /g: {fastcgi.timeout.keepalive: 5000,\n"
                  "           fastcgi.connect: {host: 127.0.0.1, port: %u, type: tcp}}\n",
                  http, http, fastcgi, fastcgi);
    (void)close(fd);
}

/* A child reads and discards the rest of the log, so that the server never blocks. */
static void read_port(struct server *server, int log)
{
    char text[8192];
    size_t size = 0;
    const char *at = NULL;

    while ((at = strstr((text[size] = '\0', text), "listening on 127.0.0.1:")) == NULL ||
           strchr(at, '\n') == NULL) {
        ssize_t n = read(log, text + size, sizeof(text) - 1 - size);
        if (n <= 0) {
            (void)fputs(text, stderr);
            die("the server did not start");
        }
        size += (size_t)n;
    }
    server->port = (uint16_t)strtoul(at + strlen("listening on 127.0.0.1:"), NULL, 10);
    if (fork() == 0) {
        FILE *last = fopen(getenv("FUZZ_LOG") != NULL ? getenv("FUZZ_LOG") : "/dev/null", "w");
        ssize_t n;
        while ((n = read(log, text, sizeof(text))) > 0 && last != NULL)
            (void)(fwrite(text, 1, (size_t)n, last), fflush(last));
        _exit(0);
    }
    (void)close(log);
}

void server_start(struct server *server, const char *binary)
{
    uint16_t http, fastcgi;
    int log[2];

    server->listeners[SERVER_HTTP] = listen_anywhere(&http);
    server->listeners[SERVER_FASTCGI] = listen_anywhere(&fastcgi);
    write_conf(server, http, fastcgi);
    if (pipe(log) != 0)
        die("pipe");
    server->pid = fork();
    if (server->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(log[1], 2);
        (void)dup2(log[1], 1);
        (void)close(log[0]);
        (void)close(log[1]);
        (void)execl(binary, binary, "--conf", server->conf, (char *)NULL);
        _exit(127);
    }
    (void)close(log[1]);
    read_port(server, log[0]);
}

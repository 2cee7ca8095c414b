#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "h2o_api.h"

/* The reference of throughput.py and pool.py: libh2o without lastcall.
 *
 * It sends the same bytes for /hello as server/handlers/routes.c, with the same library and the
 * same number of loops, and accepts like libh2o's own program. /burn?us=N computes first, on the
 * loop. It lacks what lastcall adds to a
 * request (the gate, the counters, the filter), so the difference is the cost of these.
 *
 * It listens on loopback only and exits at once on SIGTERM. */

#define ACCEPTS_A_TURN 16
#define THREADS_MAX 256

struct loop {
    h2o_context_t ctx;
    h2o_accept_ctx_t accept_ctx;
};

static h2o_globalconf_t config; /* immutable once the first loop has started */

/* ---- on the loop ---- */

static int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void compute(h2o_req_t *req)
{
    static const char name[] = "?us=";
    size_t before = req->query_at + sizeof(name) - 1;

    if (req->query_at == SIZE_MAX || before >= req->path.len ||
        memcmp(req->path.base + req->query_at, name, sizeof(name) - 1) != 0)
        return;
    size_t us = h2o_strtosize(req->path.base + before, req->path.len - before);
    if (us > 1000000)
        return;
    for (int64_t until_ns = now_ns() + (int64_t)us * 1000; now_ns() < until_ns;)
        ;
}

static int on_hello(h2o_handler_t *self, h2o_req_t *req)
{
    (void)self;
    if (h2o_memis(req->path_normalized.base, req->path_normalized.len, H2O_STRLIT("/burn")))
        compute(req);
    else if (!h2o_memis(req->path_normalized.base, req->path_normalized.len, H2O_STRLIT("/hello")))
        return -1;
    req->res.status = 200;
    req->res.reason = "OK";
    req->res.content_length = sizeof("Hello World\n") - 1;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL,
                   H2O_STRLIT("text/plain; charset=utf-8"));
    h2o_send_inline(req, H2O_STRLIT("Hello World\n"));
    return 0;
}

static void on_listener(h2o_socket_t *listener, const char *err)
{
    struct loop *loop = listener->data;

    if (err != NULL)
        return;
    for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
        h2o_socket_t *sock = h2o_evloop_socket_accept(listener);
        if (sock == NULL)
            return;
        h2o_accept(&loop->accept_ctx, sock);
    }
}

static void *loop_thread(void *arg)
{
    struct loop *loop = arg;
    while (h2o_evloop_run(loop->ctx.loop, INT32_MAX) == 0)
        ;
    return NULL;
}

/* ---- start ---- */

static void configure(void)
{
    h2o_config_init(&config);
    config.server_name =
        (h2o_iovec_t){H2O_STRLIT("lastcall")}; /* so that both answers have the same length */
    h2o_hostconf_t *host =
        h2o_config_register_host(&config, (h2o_iovec_t){H2O_STRLIT("default")}, 65535);
    static const char *const paths[] = {"/hello", "/burn"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        h2o_pathconf_t *path = h2o_config_register_path(host, paths[i], 0);
        h2o_handler_t *handler = h2o_create_handler(path, sizeof(*handler));
        handler->on_req = on_hello;
    }
}

/* A listener on loopback, or a negative errno. */
static int open_listener(uint16_t *port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(*port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    int on = 1;

    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, SOMAXCONN) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0) {
        int err = errno;
        (void)close(fd);
        return -err;
    }
    *port = ntohs(address.sin_port);
    return fd;
}

static int start_loop(int listener_fd)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    pthread_t thread;

    if (loop == NULL)
        return -ENOMEM;
    int fd = fcntl(listener_fd, F_DUPFD_CLOEXEC, 0); /* each loop owns a descriptor */
    if (fd < 0) {
        int err = errno;
        free(loop);
        return -err;
    }
    h2o_context_init(&loop->ctx, h2o_evloop_create(), &config);
    loop->accept_ctx.ctx = &loop->ctx;
    loop->accept_ctx.hosts = config.hosts;
    h2o_socket_t *sock = h2o_evloop_socket_create(loop->ctx.loop, fd, H2O_SOCKET_FLAG_DONT_READ);
    sock->data = loop;
    h2o_socket_read_start(sock, on_listener);
    return -pthread_create(&thread, NULL, loop_thread, loop); /* runs until the process exits */
}

static bool parse_number(const char *text, unsigned long smallest, unsigned long largest,
                         unsigned long *ret_number)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    unsigned long number = strtoul(text, &end, 10);
    if (*end != '\0' || number < smallest || number > largest)
        return false;
    *ret_number = number;
    return true;
}

static int fail(const char *what, int err)
{
    (void)fprintf(stderr, "lastcall-bare-h2o: %s: %s\n", what, strerror(-err));
    return EX_UNAVAILABLE;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                            {"threads", required_argument, NULL, 't'},
                                            {NULL, 0, NULL, 0}};
    unsigned long port_wanted = 0, threads = 1;
    bool ok = true;
    int option, signal_seen;
    sigset_t ending;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        ok &= option == 'p'   ? parse_number(optarg, 0, UINT16_MAX, &port_wanted)
              : option == 't' ? parse_number(optarg, 1, THREADS_MAX, &threads)
                              : false;
    if (!ok || optind != argc) {
        (void)fprintf(stderr, "usage: lastcall-bare-h2o [--port 0..65535] [--threads 1..%d]\n",
                      THREADS_MAX);
        return EX_USAGE;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&ending);
    (void)sigaddset(&ending, SIGTERM);
    (void)sigaddset(&ending, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &ending, NULL); /* before the first thread starts */

    configure();
    uint16_t port = (uint16_t)port_wanted;
    int fd = open_listener(&port);
    if (fd < 0)
        return fail("cannot listen", fd);
    for (unsigned long i = 0; i < threads; i++) {
        int err = start_loop(fd);
        if (err != 0)
            return fail("cannot start a loop", err);
    }
    (void)printf("listening on 127.0.0.1:%u\n", port);
    (void)fflush(stdout);
    (void)sigwait(&ending, &signal_seen);
    _exit(EX_OK); /* no destructors: the loops still run */
}

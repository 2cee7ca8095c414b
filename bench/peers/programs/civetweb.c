/* The subject `civetweb` of bench/speed/library.py: a thread of its pool has a connection for as
 * long as that lives, so it needs as many as there are connections. civetweb PORT THREADS, where
 * THREADS is not used. */

#include <civetweb.h>
#include <signal.h>
#include <stdio.h>

static int answer(struct mg_connection *connection, void *user)
{
    (void)user;
    mg_printf(
        connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 12\r\n\r\n"
        "Hello World\n");
    return 200;
}

int main(int argc, char **argv)
{
    char address[32];
    sigset_t stop;
    int signo;

    if (argc != 3)
        return 64;
    (void)snprintf(address, sizeof(address), "127.0.0.1:%s", argv[1]);
    const char *options[] = {"listening_ports",
                             address,
                             "num_threads",
                             "520",
                             "enable_keep_alive",
                             "yes",
                             "keep_alive_timeout_ms",
                             "60000",
                             "tcp_nodelay",
                             "1",
                             NULL};
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    mg_init_library(0);
    struct mg_context *server = mg_start(NULL, NULL, options);
    if (server == NULL) {
        fprintf(stderr, "civetweb does not start\n");
        return 69;
    }
    mg_set_request_handler(server, "/once", answer, NULL);
    sigwait(&stop, &signo);
    mg_stop(server);
    mg_exit_library();
    return 0;
}

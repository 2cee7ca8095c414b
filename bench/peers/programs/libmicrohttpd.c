/* The subject `libmicrohttpd` of bench/speed/library.py: a pool of threads with epoll, a handler
 * that returns at once. libmicrohttpd PORT THREADS */

#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct MHD_Response *hello;

static enum MHD_Result answer(void *user, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *body,
                              size_t *body_bytes, void **state)
{
    (void)user, (void)url, (void)method, (void)version, (void)body, (void)body_bytes, (void)state;
    return MHD_queue_response(connection, MHD_HTTP_OK, hello);
}

int main(int argc, char **argv)
{
    static char text[] = "Hello World\n";
    sigset_t stop;
    int signo;

    if (argc != 3)
        return 64;
    struct sockaddr_in here = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                               .sin_port = htons((unsigned short)atoi(argv[1]))};
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    hello = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_PERSISTENT);
    MHD_add_response_header(hello, "Content-Type", "text/plain; charset=utf-8");
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, answer, NULL, MHD_OPTION_SOCK_ADDR,
        (struct sockaddr *)&here, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)atoi(argv[2]),
        MHD_OPTION_CONNECTION_LIMIT, 4096u, MHD_OPTION_END);
    if (daemon == NULL) {
        fprintf(stderr, "libmicrohttpd does not start\n");
        return 69;
    }
    sigwait(&stop, &signo);
    MHD_stop_daemon(daemon);
    MHD_destroy_response(hello);
    return 0;
}

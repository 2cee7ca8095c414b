/* The counterpart of article.go: a handler that takes three seconds, Ctrl+C, a deadline of ten. */
#include <lastcall/lastcall.h>
#include <signal.h>
#include <stdio.h>

static void hello(lc_req *request, void *user)
{
    (void)user;
    lc_sleep(request, 3000);
    lc_send(request, 200, "text/plain", "Hello World\n");
}

int main(int argc, char **argv)
{
    lc_block_signals(SIGINT, 0);
    lc_server *server = lc_new();
    lc_handle(server, "/", hello, NULL);
    lc_listen(server, argc > 1 ? argv[1] : "8080");
    if (lc_start(server) != LC_OK) {
        fprintf(stderr, "%s\n", lc_errmsg(server));
        return 1;
    }
    lc_await_signal(SIGINT, 0);
    printf("shutting down\n");
    int result = lc_shutdown(server, 10000, NULL);
    if (result != LC_OK)
        printf("%s\n", lc_strerror(result));
    lc_free(server);
    return result != LC_OK;
}

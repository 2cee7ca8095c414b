/* The smallest server: one handler. Ctrl+C or SIGTERM stops it, and no request is lost.
 *
 *     cc hello.c $(pkg-config --cflags --libs lastcall) -o hello && ./hello
 *     curl 127.0.0.1:8080 */
#include <lastcall/lastcall.h>

static void hello(lc_req *request, void *user)
{
    (void)user;
    lc_send(request, 200, "text/plain", "Hello World\n");
}

int main(int argc, char **argv)
{
    lc_server *server = lc_new();

    lc_listen(server, argc > 1 ? argv[1] : "127.0.0.1:8080");
    lc_handle(server, "/", hello, NULL);
    return lc_run(server);
}

/* The subject `library` of library.py: library_hello PORT THREADS. */

#include <lastcall/lastcall.h>
#include <stdio.h>

static void hello(lc_req *request, void *user)
{
    (void)user;
    (void)lc_send(request, 200, "text/plain; charset=utf-8", "Hello World\n");
}

int main(int argc, char **argv)
{
    lc_server *server = lc_new();
    char address[64];

    if (argc != 3)
        return 64;
    (void)snprintf(address, sizeof(address), "127.0.0.1:%s", argv[1]);
    (void)lc_listen(server, address);
    (void)lc_set(server, "num-threads", argv[2]);
    (void)lc_handle(server, "GET /once", hello, NULL);
    return lc_run(server);
}

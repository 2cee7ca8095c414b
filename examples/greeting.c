/* A module: a handler that the program lastcall loads. In its configuration file:
 *
 *     /hi: {handler.module: {path: ./greeting.so, name: greeting, args: "Ahoy"}}
 *
 *     cc -shared -fPIC greeting.c $(pkg-config --cflags --libs lastcall) -o greeting.so */
#include <lastcall/lastcall.h>

static void greet(lc_req *request, void *greeting)
{
    lc_sendf(request, 200, "text/plain", "%s, %s\n", (const char *)greeting, lc_client(request));
}

static int init(lc_server *server, const char *name, const char *args, void **ret_state)
{
    (void)ret_state;
    return lc_name(server, name, greet,
                   (void *)(uintptr_t)args); /* args live as long as the server */
}

LC_MODULE("greeting", "1.0", init, NULL);

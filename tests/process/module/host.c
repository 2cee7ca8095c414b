/* A program of somebody's own whose configuration names a module: host FILE. HOST_REFUSED: it has
 * the library in it where the module's calls cannot reach it. */

#include <stdio.h>
#include <string.h>

#include "lastcall/lastcall.h"

int main(int argc, char **argv)
{
    lc_server *server = lc_new();

    if (argc != 2 || server == NULL || lc_listen(server, "127.0.0.1:0") != LC_OK ||
        lc_conf(server, argv[1]) != LC_OK)
        return 2;
    int result = lc_start(server);
    (void)printf("%s: %s\n", lc_strerror(result), lc_errmsg(server));
#ifdef HOST_REFUSED
    int status = result == LC_E_CONFIG ? 0 : 1;
#else
    int status = result == LC_OK && lc_shutdown(server, 10000, NULL) == LC_OK ? 0 : 1;
#endif
    return lc_free(server) == LC_OK ? status : 1;
}

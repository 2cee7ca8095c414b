#include "request_p.h"

/* Paths that need no code: a directive of the configuration file does the work. */

static int add(lc_server *server, const char *prefix, const char *directive, const char *value,
               const char *function)
{
    if (server == NULL)
        return LC_E_ARG;
    if (lc_is_started(server))
        return lc_setup_failed(server, LC_E_STATE, "%s(): the server has started", function);
    if (prefix == NULL || *prefix != '/' || value == NULL || *value == '\0')
        return lc_setup_failed(server, LC_E_ARG,
                               "%s(\"%.200s\"): want a path that begins with /, and where it leads",
                               function, prefix != NULL ? prefix : "");
    return lc_add_to_path(server, prefix, directive, value);
}

int lc_files(lc_server *server, const char *prefix, const char *dir)
{
    return add(server, prefix, "file.dir", dir, __func__);
}

int lc_proxy(lc_server *server, const char *prefix, const char *url)
{
    return add(server, prefix, "proxy.reverse.url", url, __func__);
}

int lc_cgi(lc_server *server, const char *prefix, const char *dir)
{
    return add(server, prefix, "handler.cgi", dir, __func__);
}

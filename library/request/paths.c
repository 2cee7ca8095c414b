#include "request_p.h"

/* Paths that need no code: a directive of the configuration file does the work. */

static int add(lc_server *server, const char *prefix, const char *directive, const char *value,
               const char *function, atomic_bool *said)
{
    if (server == NULL)
        return LC_E_ARG;
    if (lc_is_started(server) && lc_say_late(server, said, function))
        return lc_setup_failed(server, LC_E_STATE, "%s(): the server has started", function);
    if (prefix == NULL || *prefix != '/' || value == NULL || *value == '\0')
        return lc_setup_failed(server, LC_E_ARG,
                               "%s(\"%.200s\"): want a path that begins with /, and where it leads",
                               function, prefix != NULL ? prefix : "");
    return lc_add_to_path(server, prefix, directive, value);
}

int lc_files(lc_server *server, const char *prefix, const char *dir)
{
    static atomic_bool said;

    return add(server, prefix, "file.dir", dir, __func__, &said);
}

int lc_proxy(lc_server *server, const char *prefix, const char *url)
{
    static atomic_bool said;

    return add(server, prefix, "proxy.reverse.url", url, __func__, &said);
}

int lc_cgi(lc_server *server, const char *prefix, const char *dir)
{
    static atomic_bool said;

    return add(server, prefix, "handler.cgi", dir, __func__, &said);
}

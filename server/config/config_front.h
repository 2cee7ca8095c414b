#ifndef LASTCALL_CONFIG_FRONT_H
#define LASTCALL_CONFIG_FRONT_H

/* What stands before a server and knows handlers that the configuration names: library/.
 * Thread: that which reads the configuration, for both calls. */

#include <stdbool.h>
#include <stddef.h>

#define CONFIG_FRONT_ERROR 512

struct user_route;

struct config_front {
    /* The route of the handler `name`; it lives as long as the server. NULL: there is none. */
    const struct user_route *(*named)(void *arg, const char *name);
    /* Load the module in the file `path`, and have it make the handler `name`; `args` is for it.
     * `only_check`: only look whether it could be loaded.
     * Errors: 0, and named() finds it; -1, and one line in `error`. */
    int (*load)(void *arg, const char *path, const char *name, const char *args, bool only_check,
                char error[CONFIG_FRONT_ERROR]);
    void *arg;
};

#endif

/* Modules: shared objects with handlers, which a configuration names.
 *
 * A module calls lc_name() and the like. The dynamic linker binds these calls when it loads the
 * module: to the program, if that has the library in it and exports it, as lastcall does; else to
 * liblastcall.so. If that is not the library that this file belongs to, the module would register
 * with another one that knows nothing of this server. So it is refused before its init()
 * runs. (Its constructors run as it is loaded.) */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "thread.h"
#include "lc_server_p.h"

#define SYMBOL "lastcall_module_1"

/* One directive; a file that several directives name is loaded once. */
struct lc_loaded {
    struct lc_loaded *next;
    const struct lc_module *module;
    void *state;
    char path[]; /* for the log */
};

static int refuse(char error[CONFIG_FRONT_ERROR], const char *format, ...) LC_PRINTF(2, 3);

static int refuse(char error[CONFIG_FRONT_ERROR], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(error, CONFIG_FRONT_ERROR, format, args);
    va_end(args);
    return -1;
}

/* ---- loading ---- */

/* Which library do the module's calls reach? */
static bool is_bound_to_us(void *handle)
{
    void *bound = dlsym(RTLD_DEFAULT, "lc_name");

    if (bound == NULL)
        bound = dlsym(handle, "lc_name");
    return bound == NULL || bound == (void *)(uintptr_t)lc_name; /* NULL: it makes no such call */
}

/* What the linker says about a file begins with its name. */
static int refuse_file(const char *path, char error[CONFIG_FRONT_ERROR])
{
    const char *why = dlerror();
    size_t n = strlen(path);

    if (why != NULL && strncmp(why, path, n) == 0 && strncmp(why + n, ": ", 2) == 0)
        why += n + 2;
    return refuse(error, "module %.200s: %.280s", path, why != NULL ? why : "it cannot be loaded");
}

static int check(const struct lc_module *module, const char *path, char error[CONFIG_FRONT_ERROR])
{
    if (module->size < sizeof(*module) || module->init == NULL)
        return refuse(error, "module %.200s: its %s is not that of LC_MODULE()", path, SYMBOL);
    if (module->abi == 0 || module->abi > LC_ABI)
        return refuse(error,
                      "module %.200s was built for version %u of the interface, and this lastcall "
                      "has 1 to %u: install a newer lastcall",
                      path, module->abi, LC_ABI);
    return 0;
}

/* Never unloaded: threads may have its code as the end of thread-specific data. */
static int open_module(const char *path, const struct lc_module **ret_module,
                       char error[CONFIG_FRONT_ERROR])
{
    char here[4200];

    if (strchr(path, '/') == NULL) { /* else the linker would look in the folders of libraries */
        (void)snprintf(here, sizeof(here), "./%.4000s", path);
        path = here;
    }
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (handle == NULL)
        return refuse_file(path, error);
    *ret_module = dlsym(handle, SYMBOL);
    if (*ret_module == NULL)
        return refuse(error,
                      "module %.200s has no symbol %s: it was built for another version of "
                      "lastcall, or without LC_MODULE()",
                      path, SYMBOL);
    if (!is_bound_to_us(handle))
        return refuse(error,
                      "module %.200s: its calls would reach another liblastcall than the one of "
                      "this program, which has it linked in: link the program with liblastcall.so",
                      path);
    return check(*ret_module, path, error);
}

/* See lc_may_register(). */
static void enter_module(lc_server *server, bool enter)
{
    (void)pthread_mutex_lock(&server->mu);
    server->in_module = enter;
    server->module_thread = pthread_self();
    (void)pthread_mutex_unlock(&server->mu);
}

static NOT_LOOKED_INTO int call_init(lc_server *server, struct lc_loaded *loaded, const char *name,
                                     const char *args)
{
    struct lc_called called;

    lc_called_begin(&called, server, "init() of module", loaded->path);
    LC_NOTHING_PASSES();
    int result = loaded->module->init(server, name, args, &loaded->state);
    lc_called_end(&called);
    return result;
}

static NOT_LOOKED_INTO void call_fini(lc_server *server, const struct lc_loaded *loaded)
{
    struct lc_called called;

    if (loaded->module->fini == NULL)
        return;
    lc_called_begin(&called, server, "fini() of module", loaded->path);
    LC_NOTHING_PASSES();
    loaded->module->fini(loaded->state);
    lc_called_end(&called);
}

static int begin(lc_server *server, const struct lc_module *module, const char *path,
                 const char *name, const char *args, char error[CONFIG_FRONT_ERROR])
{
    struct lc_loaded *loaded = calloc(1, sizeof(*loaded) + strlen(path) + 1);

    if (loaded == NULL)
        return refuse(error, "no memory");
    loaded->module = module;
    (void)strcpy(loaded->path, path);
    enter_module(server, true);
    int result = call_init(server, loaded, name, args);
    enter_module(server, false);
    if (result != 0 || server->failed != 0) {
        if (result == 0) /* it has begun, and one of its calls has failed */
            call_fini(server, loaded);
        free(loaded);
        return refuse(error, "module %.100s did not start: %.300s", path,
                      server->failed != 0 ? server->error : lc_strerror(result));
    }
    loaded->next = server->modules;
    server->modules = loaded;
    if (lc_routes_named(server->routes, name) == NULL)
        return refuse(error, "module %.200s has no handler %.200s", path, name);
    log_line(LOG_LEVEL_INFO, "module-loaded", NULL, "module %s %s: handler %s",
             module->name != NULL ? module->name : path,
             module->version != NULL ? module->version : "", name);
    return 0;
}

static int load(void *arg, const char *path, const char *name, const char *args, bool only_check,
                char error[CONFIG_FRONT_ERROR])
{
    const struct lc_module *module = NULL;

    if (open_module(path, &module, error) != 0 || module == NULL)
        return -1;
    return only_check ? 0 : begin(arg, module, path, name, args, error);
}

static const struct user_route *named(void *arg, const char *name)
{
    const lc_server *server = arg;
    return lc_routes_named(server->routes, name);
}

void lc_modules_init(lc_server *server)
{
    server->front = (struct config_front){.named = named, .load = load, .arg = server};
    server->options.front = &server->front;
}

/* ---- the end ---- */

void lc_modules_end(lc_server *server)
{
    while (server->modules != NULL) { /* the last one first */
        struct lc_loaded *loaded = server->modules;
        server->modules = loaded->next;
        call_fini(server, loaded);
        free(loaded);
    }
}

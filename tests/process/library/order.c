/* A program that has libh2o in one way or another, and makes a server: is the order refused that
 * would leave libh2o's faults unmended, and any other not? Each way is a program of its own, since
 * the dynamic linker decides at its start.
 *
 *     ORDER_LINKED     it is linked with liblastcall, before or after libh2o, or with the archive
 *     ORDER_LOADED     it loads liblastcall.so, and before it, if ORDER_H2O_FIRST, libh2o */

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lastcall/lastcall.h"

#ifdef ORDER_LOADED
static struct {
    __typeof__(&lc_new_abi) new_abi;
    __typeof__(&lc_errmsg) errmsg;
    __typeof__(&lc_free) free;
} library;

static void *load(const char *name)
{
    void *loaded = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (loaded == NULL)
        (void)fprintf(stderr, "%s\n", dlerror());
    return loaded;
}

static int find(void)
{
#ifdef ORDER_H2O_FIRST
    if (load("libh2o-evloop.so.0.13") == NULL)
        return -1;
#endif
    void *loaded = load(ORDER_LOADED);
    if (loaded == NULL)
        return -1;
    *(void **)&library.new_abi = dlsym(loaded, "lc_new_abi");
    *(void **)&library.errmsg = dlsym(loaded, "lc_errmsg");
    *(void **)&library.free = dlsym(loaded, "lc_free");
    return library.new_abi != NULL && library.errmsg != NULL && library.free != NULL ? 0 : -1;
}
#else
static const struct {
    __typeof__(&lc_new_abi) new_abi;
    __typeof__(&lc_errmsg) errmsg;
    __typeof__(&lc_free) free;
} library = {lc_new_abi, lc_errmsg, lc_free};

static int find(void)
{
    return 0;
}
#endif

int main(void)
{
    if (find() != 0)
        return 1;
    errno = 0;
    lc_server *server = library.new_abi(LC_ABI);
    int err = errno;
    const char *why = library.errmsg(NULL);
    (void)printf("%s\n", server != NULL ? "a server" : why);
#ifdef ORDER_REFUSED
    return server == NULL && err == ENOTSUP && strstr(why, "libh2o") != NULL ? 0 : 1;
#else
    (void)err;
    return server != NULL && library.free(server) == LC_OK ? 0 : 1;
#endif
}

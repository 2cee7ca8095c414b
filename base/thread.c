#include "thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "scope.h"

struct start {
    char name[THREAD_NAME_SIZE];
    void *(*run)(void *arg);
    void *arg;
    const struct scope *scope;
};

static void *begin(void *arg)
{
    struct start start = *(struct start *)arg;

    free(arg);
    (void)scope_enter(start.scope);
    /* A function of somebody else's on this thread may cancel it, and then come back: the thread
     * would end in the middle of ours. */
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    (void)pthread_setname_np(pthread_self(), start.name); /* the thread works without it, too */
    return start.run(start.arg);
}

int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *arg), void *arg)
{
    struct start *start = malloc(sizeof(*start));
    sigset_t all, before;

    if (start == NULL)
        return -ENOMEM;
    (void)snprintf(start->name, sizeof(start->name), "%s", name);
    start->run = run;
    start->arg = arg;
    start->scope = scope_get();
    /* A thread inherits its creator's mask. If it blocked the signals itself, one could reach it
     * before that. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = pthread_create(ret_thread, NULL, begin, start);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err != 0)
        free(start);
    return -err;
}

NOT_LOOKED_INTO uintptr_t thread_self_id(void)
{
    return (uintptr_t)pthread_self();
}

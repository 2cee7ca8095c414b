#include "thread.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scope.h"

/* ---- giving way ---- */

static _Thread_local bool should_give_way; /* what thread_give_way() was asked for last */
static _Thread_local bool gives_way;       /* and it has changed the policy */

/* With a service of CPUSchedulingResetOnFork= the kernel returns this bit, too, and wants it back.
 */
static bool change_policy(int from, int to)
{
    static const struct sched_param none;
    int now = sched_getscheduler(0);

    return now >= 0 && (now & ~SCHED_RESET_ON_FORK) == from &&
           sched_setscheduler(0, to | (now & SCHED_RESET_ON_FORK), &none) == 0;
}

void thread_give_way(bool on)
{
    if (on == should_give_way)
        return;
    should_give_way = on;
    if (on)
        gives_way = change_policy(SCHED_OTHER, SCHED_BATCH);
    else if (gives_way) {
        (void)change_policy(SCHED_BATCH, SCHED_OTHER);
        gives_way = false;
    }
}

bool thread_gives_way(void)
{
    return gives_way;
}

/* ---- starting ---- */

struct start {
    char name[THREAD_NAME_SIZE];
    void *(*run)(void *arg);
    void *arg;
    const struct scope *scope;
    bool gives_way; /* its creator */
};

static void *begin(void *arg)
{
    struct start start = *(struct start *)arg;

    free(arg);
    (void)scope_enter(start.scope);
    if (start.gives_way) /* inherited */
        (void)change_policy(SCHED_BATCH, SCHED_OTHER);
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
    start->gives_way = gives_way;
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

static bool read_of(pid_t tid, const char *file, char *text, size_t size)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/self/task/%ld/%s", (long)tid, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, size - 1);
    (void)close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

enum thread_state thread_state_of(pid_t tid)
{
    char text[512];

    if (!read_of(tid, "stat", text, sizeof(text)))
        return THREAD_UNKNOWN;
    const char *name_end = strrchr(text, ')'); /* the name may have any byte in it */
    if (name_end == NULL || name_end[1] != ' ')
        return THREAD_UNKNOWN;
    return name_end[2] == 'R' ? THREAD_AWAKE : THREAD_SLEEPS;
}

uint64_t thread_used_ns(pid_t tid)
{
    char text[128];

    return read_of(tid, "schedstat", text, sizeof(text)) ? strtoull(text, NULL, 10) : 0;
}

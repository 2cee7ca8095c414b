#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lc_server_p.h"

/* exit(3) in a handler, or in another function of the program that a server has called.
 *
 * The process ends at once, with that status, and a line says who ended it and what that has cost.
 * exit(3) itself would run the process's exit functions on this thread: those of OpenSSL and of C++
 * objects free what loops and other handlers use meanwhile. And it would not become a drain: the
 * handler never returns, so its request would hold the drain up to the deadline, while newer C
 * libraries keep a lock that the main thread's exit(3) wants. Requests on record stay on record, as
 * after a crash.
 *
 * Exit functions run in the reverse order. So those that the program has registered after the start
 * run first, and the others not at all. */

/* What of `server` is not answered; -1: it does not run, or there is none. */
static long long unanswered(lc_server *server)
{
    struct server *running = server != NULL ? lc_running_server(server) : NULL;
    struct coord_census census = {0};

    if (running == NULL)
        return -1;
    server_ops.census(running, &census);
    return (long long)census.active;
}

/* A full pipe may hold it up, as it would exit(3); another thread that prints may not. */
static void flush_output(void)
{
    if (ftrylockfile(stdout) == 0)
        (void)fflush_unlocked(stdout);
}

static void on_exit_called(int status, void *arg)
{
    const struct lc_called *called = lc_called_now();

    (void)arg;
    if (called == NULL) /* a thread of the program's own: the usual end */
        return;
    long long requests = unanswered(called->server);
    if (requests < 0)
        lc_called_last_words("exit-called", "called exit(%d): the process ends", status);
    else
        lc_called_last_words("exit-called",
                             "called exit(%d): the process ends at once; requests that are not "
                             "answered: %lld; those on record are archived at the next start "
                             "(lc_drain() ends a server and loses nothing)",
                             status, requests);
    flush_output();
    _exit(status);
}

void lc_watch_exit(enum lc_exit_watch when)
{
    static atomic_bool is_watched[LC_EXIT_WATCHES];

    if (!atomic_exchange(&is_watched[when], true))
        (void)on_exit(on_exit_called, NULL); /* no memory: exit(3) does what it does */
}

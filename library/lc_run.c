#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "log.h"
#include "signals.h"
#include "lc_server_p.h"

/* A program that leaves its life to the server; and two helpers for one that does not. */

/* Signals are the process's: one server takes them. */
static _Atomic bool runs;

static int prepare_process(const lc_server *server)
{
    static _Atomic bool spares;

    int err = signals_block();
    if (err == 0 && !atomic_exchange(&spares, true))
        err = signals_spare_children();
    if (server->log.line == NULL)
        log_init(LOG_FORMAT_TEXT, false);
    return err;
}

int lc_run(lc_server *server)
{
    if (server == NULL)
        return EXIT_STATUS_USAGE;
    if (lc_thread_holds()) {
        lc_log(server, LC_LOG_ERROR,
               "lc_run: a handler cannot run a server, which waits for handlers");
        return EXIT_STATUS_USAGE;
    }
    if (atomic_exchange(&runs, true)) {
        lc_log(server, LC_LOG_ERROR, "lc_run: another server of this process has its signals");
        return EXIT_STATUS_UNAVAILABLE;
    }
    int err = prepare_process(server);
    int result = err == 0 ? lc_begin(server, PROCESS_RUNNER) : err;
    if (result == LC_OK)
        (void)lc_wait(server, -1, NULL);
    else if (server->status < 0)
        lc_log(server, LC_LOG_ERROR, "cannot start: %s",
               server->error[0] != '\0' ? server->error : lc_strerror(result));
    atomic_store(&runs, false);
    if (server->status >= 0)
        return server->status;
    return result == LC_E_CONFIG || result == LC_E_ARG ? EXIT_STATUS_CONFIG
                                                       : EXIT_STATUS_UNAVAILABLE;
}

static int fill(sigset_t *set, int signo, va_list more)
{
    (void)sigemptyset(set);
    for (; signo != 0; signo = va_arg(more, int))
        if (sigaddset(set, signo) != 0)
            return -errno;
    return 0;
}

int lc_block_signals(int signo, ...)
{
    sigset_t set;
    va_list more;

    va_start(more, signo);
    int err = fill(&set, signo, more);
    va_end(more);
    return err == 0 ? -pthread_sigmask(SIG_BLOCK, &set, NULL) : err;
}

int lc_await_signal(int signo, ...)
{
    sigset_t set;
    va_list more;

    va_start(more, signo);
    int err = fill(&set, signo, more);
    va_end(more);
    if (err == 0 && sigisemptyset(&set)) /* it would never return */
        err = -EINVAL;
    if (err != 0)
        return err;
    do
        signo = sigwaitinfo(&set, NULL);
    while (signo < 0 && errno == EINTR);
    return signo < 0 ? -errno : signo;
}

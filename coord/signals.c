#include "signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

/* Sent by signals_stop() to this thread alone; a real-time signal, so nothing else sends it. */
#define SIGNAL_STOP (SIGRTMIN + 1)

static const int drain_signals[] = {SIGINT, SIGTERM, SIGQUIT};
/* Their default would end the process without a drain, and a lost request would be the price of a
 * closed terminal. They are taken and, but for SIGUSR1, said to have no use yet, unless there is an
 * application to hand them on to. SIGWINCH is among them for that alone: some servers have a
 * meaning for it, and a terminal sends it to its foreground group, which the application is not in.
 */
static const int idle_signals[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH};

struct signals {
    pthread_t thread;
    struct coord *coord;
};

/* Those that the thread takes. */
static void fill_set(sigset_t *set)
{
    (void)sigemptyset(set);
    for (size_t i = 0; i < sizeof(drain_signals) / sizeof(drain_signals[0]); i++)
        (void)sigaddset(set, drain_signals[i]);
    for (size_t i = 0; i < sizeof(idle_signals) / sizeof(idle_signals[0]); i++)
        (void)sigaddset(set, idle_signals[i]);
    (void)sigaddset(set, SIGNAL_STOP);
}

/* And those that nobody may lose: app.c reads SIGCHLD from a descriptor, and the kernel drops it
 * where it is not blocked and has no handler. */
static void fill_blocked(sigset_t *set)
{
    fill_set(set);
    (void)sigaddset(set, SIGCHLD);
}

static bool asks_for_drain(int signo)
{
    for (size_t i = 0; i < sizeof(drain_signals) / sizeof(drain_signals[0]); i++)
        if (drain_signals[i] == signo)
            return true;
    return false;
}

static void (*reopen_logs)(void); /* immutable after signals_start */

void signals_on_reopen(void (*reopen)(void))
{
    reopen_logs = reopen;
}

static struct {
    bool (*take)(void *arg, int signo);
    void *arg;
} spare; /* immutable after signals_start */

void signals_on_spare(bool (*take)(void *arg, int signo), void *arg)
{
    spare.take = take;
    spare.arg = arg;
}

/* What we have no use for goes to the application, if there is one. */
static void hand_on(int signo)
{
    const char *name = sigabbrev_np(signo); /* NULL for a real-time signal */

    bool taken = spare.take != NULL && spare.take(spare.arg, signo);
    if (signo == SIGWINCH) /* with every step of a window that is drawn larger */
        return;
    if (taken)
        log_line(LOG_LEVEL_INFO, "signal-handed-on", NULL,
                 "SIG%s received: handed on to the application", name != NULL ? name : "RT");
    else
        log_line(LOG_LEVEL_INFO, "signal-unused", NULL, "SIG%s received: it has no use here",
                 name != NULL ? name : "RT");
}

static struct {
    void (*restart)(void *arg, const char *name, const char *detail);
    void *arg;
} on_restart; /* immutable after signals_start */

void signals_on_restart(void (*restart)(void *arg, const char *name, const char *detail), void *arg)
{
    on_restart.restart = restart;
    on_restart.arg = arg;
}

static sigset_t mask_before; /* immutable after signals_block */

void signals_unblocked(sigset_t *ret_mask)
{
    *ret_mask = mask_before;
}

void signals_wanted(sigset_t *ret_set)
{
    fill_set(ret_set);
}

static void ask_for_restart(const siginfo_t *info)
{
    char name[24], detail[48] = "";

    (void)snprintf(name, sizeof(name), "SIG%s", sigabbrev_np(info->si_signo));
    if (info->si_code <= 0 && info->si_pid > 0)
        (void)snprintf(detail, sizeof(detail), "from process %ld", (long)info->si_pid);
    on_restart.restart(on_restart.arg, name, detail);
}

static void *signal_thread(void *arg)
{
    struct signals *signals = arg;
    sigset_t set;

    (void)pthread_setname_np(pthread_self(), "signal");
    fill_set(&set);
    for (;;) {
        /* sigwait(3) with the sender: who asked belongs in the log. */
        siginfo_t info;
        int signo = sigwaitinfo(&set, &info);
        if (signo < 0)
            continue; /* EINTR: a debugger, or a stop and a continue */
        /* Ours only: a stray one must not leave the process deaf. (glibc shows SI_TKILL as
         * SI_USER.) */
        if (signo == SIGNAL_STOP && (info.si_code == SI_USER || info.si_code == SI_TKILL) &&
            info.si_pid == getpid())
            return NULL;
        if (signo == SIGUSR1 && reopen_logs != NULL) {
            reopen_logs();
            continue;
        }
        if ((signo == SIGHUP || signo == SIGUSR2) && on_restart.restart != NULL) {
            ask_for_restart(&info);
            continue;
        }
        if (!asks_for_drain(signo)) {
            hand_on(signo);
            continue;
        }
        unsigned count = coord_signal(signals->coord, signo, info.si_code <= 0 ? info.si_pid : 0);
        if (count >= 3)
            _exit(COORD_EXIT_FORCED);         /* whatever holds the others up, this one ends it */
        if (count == 0 && spare.take != NULL) /* the drain is over: only the application is left */
            (void)spare.take(spare.arg, signo);
    }
}

int signals_block(void)
{
    struct sigaction ignore;
    sigset_t set;

    memset(&ignore, 0, sizeof(ignore));
    ignore.sa_handler = SIG_IGN;
    if (sigaction(SIGPIPE, &ignore, NULL) != 0)
        return -errno;
    fill_blocked(&set);
    return -pthread_sigmask(SIG_BLOCK, &set, &mask_before);
}

/* Between fork(2) and execve(2). */
static void in_child(void)
{
    struct sigaction usual;
    sigset_t set;

    memset(&usual, 0, sizeof(usual));
    usual.sa_handler = SIG_DFL;
    (void)sigaction(SIGPIPE, &usual, NULL);
    fill_blocked(&set);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
    (void)setpgid(0, 0);
}

int signals_spare_children(void)
{
    return -pthread_atfork(NULL, NULL, in_child);
}

int signals_start(struct coord *coord, struct signals **ret_signals)
{
    struct signals *signals = calloc(1, sizeof(*signals));
    if (signals == NULL)
        return -ENOMEM;
    signals->coord = coord;
    int err = pthread_create(&signals->thread, NULL, signal_thread, signals);
    if (err != 0) {
        free(signals);
        return -err;
    }
    *ret_signals = signals;
    return 0;
}

void signals_stop(struct signals *signals)
{
    if (signals == NULL)
        return;
    (void)pthread_kill(signals->thread, SIGNAL_STOP);
    (void)pthread_join(signals->thread, NULL);
    free(signals);
}

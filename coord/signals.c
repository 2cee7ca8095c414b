#include "signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "require.h"
#include "scope.h"

/* signals_stop() sends it to this thread only. It is a real-time signal, so no other program sends
 * it. */
#define SIGNAL_STOP (SIGRTMIN + 1)

static const int drain_signals[] = {SIGINT, SIGTERM, SIGQUIT};
/* By default these would end the process without a drain: closing a terminal would lose requests.
 * The signal thread takes them. Except for SIGUSR1 the log says that the server does not use them,
 * unless there is an application to pass them on to. SIGWINCH is taken only to be passed on: some
 * servers use it, and a terminal sends it to its foreground group, to which the application does
 * not belong. */
static const int idle_signals[] = {SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH};

struct signals {
    pthread_t thread;
    struct coord *coord;
    const struct scope *scope;
};

/* The signals that the thread takes. */
static void fill_set(sigset_t *set)
{
    (void)sigemptyset(set);
    for (size_t i = 0; i < sizeof(drain_signals) / sizeof(drain_signals[0]); i++)
        (void)sigaddset(set, drain_signals[i]);
    for (size_t i = 0; i < sizeof(idle_signals) / sizeof(idle_signals[0]); i++)
        (void)sigaddset(set, idle_signals[i]);
    (void)sigaddset(set, SIGNAL_STOP);
}

/* And SIGCHLD: app.c reads it from a descriptor, and the kernel drops it if it is neither blocked
 * nor handled. */
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

static struct {
    void (*reopen)(void *arg);
    void *arg;
} on_reopen; /* immutable after signals_start */

void signals_on_reopen(void (*reopen)(void *arg), void *arg)
{
    on_reopen.reopen = reopen;
    on_reopen.arg = arg;
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

/* Signals that the server does not use go to the application, if there is one. */
static void hand_on(int signo)
{
    const char *name = sigabbrev_np(signo); /* NULL for a real-time signal */

    bool taken = spare.take != NULL && spare.take(spare.arg, signo);
    if (signo == SIGWINCH) /* it comes with every step while a window is resized */
        return;
    if (taken)
        log_line(LOG_LEVEL_INFO, "signal-handed-on", NULL,
                 "SIG%s received: passed on to the application", name != NULL ? name : "RT");
    else
        log_line(LOG_LEVEL_INFO, "signal-unused", NULL,
                 "SIG%s received: ignored, this server does not use it",
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

void signals_blocked(sigset_t *ret_set)
{
    fill_blocked(ret_set);
}

void signals_wanted(sigset_t *ret_set)
{
    fill_set(ret_set);
}

static uint64_t began_ignored; /* bits of signals; immutable after signals_block */

static bool is_kept_ignored(int signo)
{
    return signo == SIGHUP || signo == SIGINT || signo == SIGQUIT;
}

bool signals_is_meant(int signo, int code, pid_t sender)
{
    if (!is_kept_ignored(signo) || (began_ignored & UINT64_C(1) << signo) == 0)
        return true;
    if (code > 0) /* SI_KERNEL: no process has sent it */
        return false;
    return signo != SIGHUP || sender != getsid(0) || sender == getpid();
}

void signals_log_not_meant(int signo)
{
    log_line(LOG_LEVEL_INFO, "signal-ignored", NULL,
             "SIG%s from the terminal ignored: this process was started with it ignored (%s)",
             sigabbrev_np(signo),
             signo == SIGHUP ? "nohup; SIGUSR2 asks for a restart"
                             : "in the "
                               "background");
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
    (void)scope_enter(signals->scope);
    fill_set(&set);
    for (;;) {
        /* sigwait(3) with the sender, for the log. */
        siginfo_t info;
        int signo = sigwaitinfo(&set, &info);
        if (signo < 0)
            continue; /* EINTR: a debugger, or SIGSTOP and SIGCONT */
        /* Only our own: a stray one must not end the signal thread. (glibc shows SI_TKILL as
         * SI_USER.) */
        if (signo == SIGNAL_STOP && (info.si_code == SI_USER || info.si_code == SI_TKILL) &&
            info.si_pid == getpid())
            return NULL;
        if (!signals_is_meant(signo, info.si_code, info.si_pid)) {
            signals_log_not_meant(signo);
            continue;
        }
        if (signo == SIGUSR1 && on_reopen.reopen != NULL) {
            on_reopen.reopen(on_reopen.arg);
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
        int count = coord_signal(signals->coord, signo, info.si_code <= 0 ? info.si_pid : 0);
        if (count >= 3)
            _exit(EXIT_STATUS_FORCED); /* even if all other threads are stuck */
        if (count == COORD_SIGNAL_LATE && spare.take != NULL) /* only the application still runs */
            (void)spare.take(spare.arg, signo);
    }
}

static int set_disposition(int signo, void (*handler)(int))
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = handler;
    return sigaction(signo, &action, NULL) == 0 ? 0 : -errno;
}

/* After execve(2) a process has no handlers, and ignores what its parent ignored. With SIGCHLD
 * ignored we could not wait for children; an application that inherits an ignored SIGTERM could
 * only be killed. */
static void undo_ignored(void)
{
    for (int signo = 1; signo <= SIGRTMAX; signo++) {
        struct sigaction action;
        if (sigaction(signo, NULL, &action) != 0 || action.sa_handler != SIG_IGN)
            continue; /* glibc uses two of them itself */
        if (is_kept_ignored(signo))
            began_ignored |= UINT64_C(1) << signo;
        else if (signo != SIGTSTP && signo != SIGTTIN &&
                 signo != SIGTTOU)                 /* job control of the shell */
            (void)set_disposition(signo, SIG_DFL); /* fails for none of them */
    }
}

int signals_block(void)
{
    sigset_t set;

    undo_ignored();
    int err = set_disposition(SIGPIPE, SIG_IGN);
    if (err == 0) /* write(2) returns an error for a file that may not grow; the process goes on */
        err = set_disposition(SIGXFSZ, SIG_IGN);
    fill_blocked(&set);
    return err != 0 ? err : -pthread_sigmask(SIG_SETMASK, &set, NULL);
}

/* Between fork(2) and execve(2). */
static void in_child(void)
{
    sigset_t set;

    (void)set_disposition(SIGPIPE, SIG_DFL); /* fails for neither of them */
    (void)set_disposition(SIGXFSZ, SIG_DFL);
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
    signals->scope = scope_get();
    /* Not thread_start(): signals that signals_block() leaves open, as SIGTSTP, stay open here. */
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
    int err = pthread_kill(signals->thread, SIGNAL_STOP);
    REQUIRE(err == 0); /* it fails only for a thread that was joined, which happens only here */
    (void)pthread_join(signals->thread, NULL);
    free(signals);
    memset(&on_reopen, 0, sizeof(on_reopen)); /* of a server that ends now */
    memset(&spare, 0, sizeof(spare));
    memset(&on_restart, 0, sizeof(on_restart));
}

/* The master's loop: signals, messages of its workers, their ends. */

#include "master_p.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "clock.h"
#include "coord.h"
#include "file.h"
#include "kill.h"
#include "log.h"
#include "notify.h"
#include "signals.h"

static void forget(struct worker *worker)
{
    file_close(&worker->pid_fd);
    file_close(&worker->channel);
    worker->pid = 0;
}

static bool is_a_drain(int status)
{
    return WIFEXITED(status) && (WEXITSTATUS(status) == EXIT_STATUS_CLEAN ||
                                 WEXITSTATUS(status) == EXIT_STATUS_DEADLINE ||
                                 WEXITSTATUS(status) == EXIT_STATUS_FORCED);
}

/* ---- the worker that serves ---- */

/* Pass on what only the worker knows. READY, MAINPID and the like are the master's own. */
static void pass_notice_on(const char *text)
{
    static const char *const known[] = {"STATUS=", "EXTEND_TIMEOUT_USEC=", "WATCHDOG="};
    char out[512] = "";

    while (*text != '\0') {
        size_t n = strcspn(text, "\n");
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            if (strncmp(text, known[i], strlen(known[i])) == 0)
                (void)snprintf(out + strlen(out), sizeof(out) - strlen(out), "%s%.*s",
                               out[0] != '\0' ? "\n" : "", (int)n, text);
        text += n + (text[n] == '\n');
    }
    if (out[0] != '\0')
        notify_send("%s", out);
}

static void pass_key_on(struct master *master, const struct worker *from, struct message *message)
{
    int to = master->succession.channel;

    if (to < 0 && from != &master->current) /* the successor has taken over meanwhile */
        to = master->current.channel;
    if (to >= 0)
        (void)message_send(to, message);
    explicit_bzero(message->bytes, message->size);
}

static void read_messages(struct master *master, struct worker *worker)
{
    bool is_current = worker == &master->current;
    struct message message;
    char text[512], detail[96];
    int err = -EAGAIN;

    while (worker->channel >= 0 && (err = handover_receive(worker->channel, &message)) == 0) {
        (void)message_get_text(&message, HANDOVER_TEXT, text, sizeof(text));
        bool drains = message_get_number(&message, HANDOVER_IS_ON, 0) != 0;
        if (message.type == HANDOVER_DRAINS && !is_current) {
            if (drains)
                master_on_retired_drain(master, worker);
        } else if (message.type == HANDOVER_DRAINS) {
            master_on_worker_drain(master, drains);
        } else if (message.type == HANDOVER_NOTIFY && is_current) {
            if (strstr(text, "STOPPING=1") != NULL)
                master_on_worker_stopping(master);
            pass_notice_on(text);
        } else if (message.type == HANDOVER_NOTIFY && strstr(text, "STOPPING=1") != NULL) {
            master_on_retired_stopping(master, worker);
        } else if (message.type == HANDOVER_LOGS && is_current) {
            master_take_log(&message);
        } else if (message.type == HANDOVER_TICKET_KEY) {
            pass_key_on(master, worker, &message);
        } else if (message.type == HANDOVER_AGAIN) { /* also from a worker that is retiring */
            master_start_worker(
                master, text, message_get_text(&message, HANDOVER_DETAIL, detail, sizeof(detail)));
        }
        message_release(&message);
    }
    if (err != -EAGAIN)
        file_close(&worker->channel);
}

static bool is_a_worker(const struct master *master, pid_t pid)
{
    for (size_t i = 0; i < master->retiring_count; i++)
        if (master->retiring[i].pid == pid)
            return true;
    return pid == master->current.pid || pid == master->succession.pid;
}

static void see_exit_of_current(struct master *master)
{
    char how[CHILD_TEXT_SIZE];
    int status;

    if (master->current.pid <= 0 || !child_has_ended(master->current.pid, &status))
        return;
    read_messages(master, &master->current);
    (void)child_describe(status, how);
    pid_t pid = master->current.pid;
    uint64_t lived_ns = clock_now_ns() - master->current.began_ns;
    forget(&master->current);
    /* It drained, or was ending anyway. */
    if (master->is_stopping || master->worker_drains || master->ends_with_app ||
        is_a_drain(status)) {
        master_end(master, child_exit_status(status));
        return;
    }
    log_line(LOG_LEVEL_ERROR, "worker-died",
             json_pack("{s:I, s:s}", "pid", (json_int_t)pid, "how", how),
             "worker %ld %s: starting another one", (long)pid, how);
    if (lived_ns >= STEADY_NS)
        master->backoff_ns = BACKOFF_MIN_NS;
    succession_on(&master->succession, RESTART_ON_ALONE);
    if (master->succession.restart.state != RESTART_IDLE)
        return; /* a successor is already starting */
    if (lived_ns >= STEADY_NS)
        master_start_worker(master, NULL, NULL);
    else
        master_try_again_later(master);
}

static void see_exits_of_retiring(struct master *master)
{
    for (size_t i = 0; i < master->retiring_count;) {
        struct worker *worker = &master->retiring[i];
        char how[CHILD_TEXT_SIZE];
        int status;
        if (!child_has_ended(worker->pid, &status)) {
            i++;
            continue;
        }
        read_messages(master, worker); /* messages that it had sent */
        (void)child_describe(status, how);
        log_line(LOG_LEVEL_INFO, "worker-retired", NULL, "worker %ld has drained and %s",
                 (long)worker->pid, how);
        forget(worker);
        memmove(worker, worker + 1, (master->retiring_count - i - 1) * sizeof(*worker));
        master->retiring_count--;
    }
}

/* Orphans of the application become children of this thread, as the workers are. The application is
 * a child of the app thread, which waits for it; __WNOTHREAD leaves it out here. */
static void reap_orphans(const struct master *master)
{
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WNOTHREAD) != 0 ||
            info.si_pid == 0 || is_a_worker(master, info.si_pid)) /* workers are reaped elsewhere */
            return;
        (void)waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
    }
}

/* ---- the application ---- */

/* Workers that drain as well: they may hold requests, too. */
static void tell_workers(struct master *master)
{
    bool told =
        master_app_send_hold(master->app, master->current.channel, &master->current.sent_hold);

    for (size_t i = 0; i < master->retiring_count; i++)
        told &= master_app_send_hold(master->app, master->retiring[i].channel,
                                     &master->retiring[i].sent_hold);
    if (master->succession.restart.state == RESTART_COMMITTING ||
        master->succession.restart.state == RESTART_LEAVING ||
        master->succession.restart.state == RESTART_STOPPED)
        told &= master_app_send_hold(master->app, master->succession.channel,
                                     &master->sent_successor_hold);
    master->must_send_again = !told;
}

/* The application has ended by itself, so the service ends. The worker decides on the exit status,
 * because its drain may be cut short, or may have another cause. */
static void end_with_app(struct master *master, const struct master_app_state *app)
{
    if (master->is_ending || master->ends_with_app)
        return;
    /* Also if the worker already drains: its drain cannot be called off any more. */
    master->ends_with_app = true;
    master_app_expect_end(master->app, true);
    if (master->current.pid == 0) {
        master_end(master, app->status);
        return;
    }
    master_stop_succession(master);
    if (master_app_send_end(master->app, master->current.channel) != 0)
        master_make_drain(&master->current);
}

static void see_app(struct master *master)
{
    const struct master_app_state *app = master_app_poll(master->app);

    tell_workers(master);
    if (!master->said_ready && app->was_up)
        master_say_ready(master);
    if (app->has_ended)
        end_with_app(master, app);
}

/* ---- signals ---- */

static bool has_workers(const struct master *master)
{
    return master->current.pid > 0 || master->retiring_count > 0 || master->succession.pid > 0;
}

static void tell_reopen(const struct worker *worker)
{
    struct message message;

    handover_begin(&message, HANDOVER_REOPEN);
    if (worker->pid > 0 && (worker->channel < 0 || message_send(worker->channel, &message) != 0))
        (void)kill_process(worker->pid, SIGUSR1, "worker");
}

/* Also a worker that is starting: it may have opened them already, and reads this once it is up. */
static void reopen_logs(const struct master *master)
{
    struct message message;

    tell_reopen(&master->current);
    for (size_t i = 0; i < master->retiring_count; i++)
        tell_reopen(&master->retiring[i]);
    handover_begin(&message, HANDOVER_REOPEN);
    if (master->succession.pid > 0 && master->succession.channel >= 0 &&
        message_send(master->succession.channel, &message) != 0)
        log_line(LOG_LEVEL_WARN, "log-reopen-failed", NULL,
                 "cannot tell process %ld, which is about to take over, to reopen its log files: "
                 "it does not read",
                 (long)master->succession.pid);
}

static void take_stop(struct master *master, int signo, const char *name, const char *detail,
                      uint64_t now_ns)
{
    char apart[CLOCK_TEXT_SIZE];

    if (!master_counts_stop(master, now_ns)) {
        log_line(LOG_LEVEL_INFO, "signal-same", NULL,
                 "%s %s: counts as the same stop (a signal that comes %s later or more cuts the "
                 "drain short)",
                 name, detail, clock_format_duration(master->force_after_ns, apart));
        return;
    }
    log_line(LOG_LEVEL_INFO, "master-stops", NULL, "%s %s: %s", name, detail,
             has_workers(master) ? "passed on to the worker" : "no worker is left");
    master_stop(master, signo, name, detail);
}

static void take_signals(struct master *master)
{
    struct signalfd_siginfo info;
    char name[24], detail[48];
    /* One time for all pending signals: they came while this thread was busy. */
    uint64_t now_ns = clock_now_ns();

    while (read(master->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        int signo = (int)info.ssi_signo;
        if (!signals_is_meant(signo, info.ssi_code, (pid_t)info.ssi_pid)) {
            signals_log_not_meant(signo);
            continue;
        }
        (void)snprintf(name, sizeof(name), "SIG%s", sigabbrev_np(signo));
        (void)snprintf(detail, sizeof(detail), "from process %ld", (long)info.ssi_pid);
        switch (signo) {
        case SIGHUP:
        case SIGUSR2:
            master_start_worker(master, name, detail);
            break;
        case SIGUSR1: /* log rotation */
            reopen_logs(master);
            break;
        case SIGINT:
        case SIGTERM:
        case SIGQUIT:
            take_stop(master, signo, name, detail, now_ns);
            break;
        case SIGWINCH:
            master_app_signal(master->app, signo);
            break;
        default: /* SIGCHLD: only wakes the loop */
            break;
        }
    }
}

/* ---- the loop ---- */

static int patience_ms(const struct master *master)
{
    uint64_t due_ns = succession_due_ns(&master->succession), now_ns = clock_now_ns();

    if (master->retry_at_ns < due_ns)
        due_ns = master->retry_at_ns;
    if (master_app_due_ns(master->app) < due_ns)
        due_ns = master_app_due_ns(master->app);
    if (master->must_send_again && now_ns + SEND_AGAIN_NS < due_ns)
        due_ns = now_ns + SEND_AGAIN_NS;
    return clock_poll_ms(now_ns, due_ns);
}

static void turn(struct master *master)
{
    struct pollfd fds[4 + SUCCESSION_FDS + 2 * RETIRING_MAX] = {
        {.fd = master->signal_fd, .events = POLLIN},
        {.fd = master->current.pid > 0 ? master->current.channel : -1, .events = POLLIN},
        {.fd = master->current.pid > 0 ? master->current.pid_fd : -1, .events = POLLIN},
        {.fd = master_app_fd(master->app), .events = POLLIN},
    };
    size_t n = 4 + SUCCESSION_FDS;

    succession_poll(&master->succession, &fds[4]);
    for (size_t i = 0; i < master->retiring_count; i++) {
        fds[n++] = (struct pollfd){.fd = master->retiring[i].pid_fd, .events = POLLIN};
        fds[n++] = (struct pollfd){.fd = master->retiring[i].channel, .events = POLLIN};
    }
    (void)poll(fds, (nfds_t)n, patience_ms(master));
    if (fds[1].revents != 0)
        read_messages(master, &master->current);
    for (size_t i = 0; i < master->retiring_count; i++)
        read_messages(master, &master->retiring[i]);
    if (fds[2].revents != 0)
        see_exit_of_current(master);
    see_exits_of_retiring(master);
    succession_handle(&master->succession, &fds[4]);
    if (fds[0].revents != 0)
        take_signals(master);
    see_app(master); /* after the signals: a signal that ends both the master and the application is
                        a stop */
    if (clock_now_ns() >= master->retry_at_ns)
        master_start_worker(master, NULL, NULL);
    reap_orphans(master);
}

/* The application stops last: without workers, no request reaches it. */
static bool is_over(struct master *master)
{
    return master->is_ending && master->retiring_count == 0 && master->succession.pid == 0 &&
           master_app_is_stopped(master->app, master->status == EXIT_STATUS_DEADLINE ||
                                                  master->status == EXIT_STATUS_FORCED);
}

static void set_up(struct master *master, const struct master_config *config)
{
    sigset_t set;

    memset(master, 0, sizeof(*master));
    master->config = config;
    master->force_after_ns = config->force_after_ns;
    master->current.pid_fd = master->current.channel = -1;
    master->retry_at_ns = CLOCK_NEVER;
    master->backoff_ns = BACKOFF_MIN_NS;
    master->listeners = config->predecessor->listeners;
    memset(&config->predecessor->listeners, 0, sizeof(config->predecessor->listeners));
    if (config->keep_fd >= 0) /* the workers inherit it, the application does not */
        (void)fcntl(config->keep_fd, F_SETFD, FD_CLOEXEC);
    signals_wanted(&set);
    (void)sigaddset(&set, SIGCHLD); /* orphans have no pidfd here */
    master->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    succession_init(&master->succession,
                    &(struct succession_config){
                        .timing = {.timeout_ns = config->first_timeout_ns, .stays = true},
                        .binary = config->binary,
                        .argv = config->argv,
                        .keep_fds = &config->keep_fd,
                        .keep_count = config->keep_fd >= 0,
                        .runs_app = config->command != NULL,
                        .own_group = true, /* the master gets Ctrl+C, and passes it on */
                        .hooks = &master_hooks,
                        .arg = master},
                    0);
}

int master_run(const struct master_config *config)
{
    struct master master;

    set_up(&master, config);
    int err = master.signal_fd < 0 ? -errno : master_app_create(config->command, &master.app);
    if (err != 0) {
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "cannot start: signals: %s",
                 strerrordesc_np(-err));
        return EXIT_STATUS_UNAVAILABLE;
    }
    master_start_worker(&master, NULL, NULL);
    while (!is_over(&master))
        turn(&master);
    master_app_destroy(master.app);
    master_remove_pid_file(&master);
    inherit_release(&master.listeners);
    inherit_release(&master.new_listeners);
    forget(&master.current);
    for (size_t i = 0; i < master.retiring_count; i++)
        forget(&master.retiring[i]);
    succession_release(&master.succession);
    (void)close(master.signal_fd);
    return master_exit_status(&master);
}

int master_detach(int *ret_ready_fd)
{
    int ready[2], status = CHILD_LOST;
    char byte;

    pid_t child = pipe2(ready, O_CLOEXEC) == 0 ? fork() : -1;
    if (child < 0) {
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "cannot go into the background: %s",
                 strerrordesc_np(errno));
        return EXIT_STATUS_UNAVAILABLE;
    }
    if (child == 0) {
        (void)close(ready[0]);
        (void)setsid();
        int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null_fd >= 0) {
            (void)dup2(null_fd, STDIN_FILENO);
            (void)close(null_fd);
        }
        *ret_ready_fd = ready[1];
        return -1;
    }
    (void)close(ready[1]);
    ssize_t n;
    do
        n = read(ready[0], &byte, 1);
    while (n < 0 && errno == EINTR);
    (void)close(ready[0]);
    if (n == 1)
        return EXIT_STATUS_CLEAN;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return status != CHILD_LOST && WIFEXITED(status) ? WEXITSTATUS(status)
                                                     : EXIT_STATUS_UNAVAILABLE;
}

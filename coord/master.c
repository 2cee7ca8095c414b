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

#include "clock.h"
#include "coord.h"
#include "log.h"
#include "notify.h"
#include "signals.h"

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static void forget(struct worker *worker)
{
    close_fd(&worker->pid_fd);
    close_fd(&worker->channel);
    worker->pid = 0;
}

static bool is_a_drain(int status)
{
    return WIFEXITED(status) &&
           (WEXITSTATUS(status) == COORD_EXIT_CLEAN || WEXITSTATUS(status) == COORD_EXIT_DEADLINE ||
            WEXITSTATUS(status) == COORD_EXIT_FORCED);
}

/* ---- the worker that serves ---- */

/* Only what the worker knows better: in charge are we. */
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

static void pass_key_on(struct master *master, const struct worker *from,
                        struct handover_message *message)
{
    int to = master->succession.channel;

    if (to < 0 && from != &master->current) /* it has taken over meanwhile */
        to = master->current.channel;
    if (to >= 0)
        (void)handover_send(to, message);
    explicit_bzero(message->bytes, message->size);
}

static void hear(struct master *master, struct worker *worker)
{
    bool is_current = worker == &master->current;
    struct handover_message message;
    char text[512], detail[96];
    int err = -EAGAIN;

    while (worker->channel >= 0 && (err = handover_receive(worker->channel, &message)) == 0) {
        (void)handover_get_text(&message, HANDOVER_TEXT, text, sizeof(text));
        bool drains = handover_get_number(&message, HANDOVER_IS_ON, 0) != 0;
        if (message.type == HANDOVER_DRAINS && !is_current) {
            if (drains)
                master_hear_late_drain(master, worker);
        } else if (message.type == HANDOVER_DRAINS) {
            master_hear_drain(master, drains);
        } else if (message.type == HANDOVER_NOTIFY && is_current) {
            if (strstr(text, "STOPPING=1") != NULL)
                master_hear_stopping(master);
            pass_notice_on(text);
        } else if (message.type == HANDOVER_NOTIFY && strstr(text, "STOPPING=1") != NULL) {
            master_hear_late_stopping(master, worker);
        } else if (message.type == HANDOVER_TICKET_KEY) {
            pass_key_on(master, worker, &message);
        } else if (message.type == HANDOVER_AGAIN) { /* also of one that is just retiring */
            master_start_worker(
                master, text, handover_get_text(&message, HANDOVER_DETAIL, detail, sizeof(detail)));
        }
        handover_release(&message);
    }
    if (err != -EAGAIN)
        close_fd(&worker->channel);
}

static void describe(int status, char *text, size_t size)
{
    if (WIFSIGNALED(status))
        (void)snprintf(text, size, "was ended by SIG%s", sigabbrev_np(WTERMSIG(status)));
    else
        (void)snprintf(text, size, "exited with status %d", WEXITSTATUS(status));
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
    char how[64];
    int status;

    if (waitpid(master->current.pid, &status, WNOHANG) != master->current.pid)
        return;
    hear(master, &master->current);
    describe(status, how, sizeof(how));
    pid_t pid = master->current.pid;
    uint64_t lived_ns = clock_now_ns() - master->current.began_ns;
    forget(&master->current);
    /* It drained, whoever told it to; or it was to end anyway. */
    if (master->is_stopping || master->worker_drains || master->ends_with_app ||
        is_a_drain(status)) {
        master_end(master, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        return;
    }
    log_line(LOG_LEVEL_ERROR, "worker-died",
             json_pack("{s:I, s:s}", "pid", (json_int_t)pid, "how", how),
             "worker %ld %s: it is replaced", (long)pid, how);
    if (lived_ns >= STEADY_NS)
        master->backoff_ns = BACKOFF_MIN_NS;
    succession_tell(&master->succession, RESTART_ON_ALONE);
    if (master->succession.restart.state != RESTART_IDLE)
        return; /* one is on its way already */
    if (lived_ns >= STEADY_NS)
        master_start_worker(master, NULL, NULL);
    else
        master_try_again_later(master);
}

static void see_exits_of_retiring(struct master *master)
{
    for (size_t i = 0; i < master->retiring_count;) {
        struct worker *worker = &master->retiring[i];
        char how[64];
        int status;
        if (waitpid(worker->pid, &status, WNOHANG) != worker->pid) {
            i++;
            continue;
        }
        hear(master, worker); /* its last words */
        describe(status, how, sizeof(how));
        log_line(LOG_LEVEL_INFO, "worker-retired", NULL, "worker %ld has drained, and %s",
                 (long)worker->pid, how);
        forget(worker);
        memmove(worker, worker + 1, (master->retiring_count - i - 1) * sizeof(*worker));
        master->retiring_count--;
    }
}

/* Orphans of the application come to us, as they do to process 1. They are children of this thread,
 * as the workers are; the application is one of its own thread, which waits for it (__WNOTHREAD).
 */
static void reap_strays(const struct master *master)
{
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WNOTHREAD) != 0 ||
            info.si_pid == 0 || is_a_worker(master, info.si_pid)) /* to be seen first */
            return;
        (void)waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
    }
}

/* ---- the application ---- */

/* Those that drain, too: their requests wait as well. */
static void tell_workers(struct master *master)
{
    bool told = master_app_tell(master->app, master->current.channel, &master->current.told_hold);

    for (size_t i = 0; i < master->retiring_count; i++)
        told &= master_app_tell(master->app, master->retiring[i].channel,
                                &master->retiring[i].told_hold);
    if (master->succession.restart.state == RESTART_COMMITTING ||
        master->succession.restart.state == RESTART_LEAVING ||
        master->succession.restart.state == RESTART_STOPPED)
        told &=
            master_app_tell(master->app, master->succession.channel, &master->told_successor_hold);
    master->is_behind = !told;
}

/* It has ended by itself, and so does the service. The worker knows which status that makes, as
 * requests may be cut short, or it may be on its way out for another reason. */
static void end_with_app(struct master *master, const struct master_app_state *app)
{
    if (master->is_ending || master->ends_with_app)
        return;
    /* Also where the worker drains already: that can not be called off any more. */
    master->ends_with_app = true;
    master_app_expect_end(master->app, true);
    if (master->current.pid == 0) {
        master_end(master, app->status);
        return;
    }
    master_stop_succession(master);
    if (master_app_tell_end(master->app, master->current.channel) != 0)
        (void)kill(master->current.pid, SIGTERM); /* it does not listen: at least it drains */
}

static void see_app(struct master *master)
{
    const struct master_app_state *app = master_app_look(master->app);

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

static void take_signals(struct master *master)
{
    struct signalfd_siginfo info;
    char name[24], detail[48];

    while (read(master->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        int signo = (int)info.ssi_signo;
        (void)snprintf(name, sizeof(name), "SIG%s", sigabbrev_np(signo));
        (void)snprintf(detail, sizeof(detail), "from process %ld", (long)info.ssi_pid);
        switch (signo) {
        case SIGHUP:
        case SIGUSR2:
            master_start_worker(master, name, detail);
            break;
        case SIGUSR1: /* its log files */
            if (master->current.pid > 0)
                (void)kill(master->current.pid, SIGUSR1);
            for (size_t i = 0; i < master->retiring_count; i++)
                (void)kill(master->retiring[i].pid, SIGUSR1);
            break;
        case SIGINT:
        case SIGTERM:
        case SIGQUIT:
            log_line(LOG_LEVEL_INFO, "master-stops", NULL, "%s %s: %s", name, detail,
                     has_workers(master) ? "passed on to the worker" : "no worker is left");
            master_stop(master, signo);
            break;
        case SIGWINCH:
            master_app_signal(master->app, signo);
            break;
        default: /* SIGCHLD: we are awake, which is all */
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
    if (master->is_behind && now_ns + BEHIND_NS < due_ns)
        due_ns = now_ns + BEHIND_NS;
    if (due_ns == CLOCK_NEVER)
        return -1;
    return due_ns <= now_ns ? 0 : (int)((due_ns - now_ns) / NS_PER_MS) + 1;
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
        hear(master, &master->current);
    for (size_t i = 0; i < master->retiring_count; i++)
        hear(master, &master->retiring[i]);
    if (fds[2].revents != 0)
        see_exit_of_current(master);
    see_exits_of_retiring(master);
    succession_handle(&master->succession, &fds[4]);
    if (fds[0].revents != 0)
        take_signals(master);
    see_app(master); /* behind the signals: one that ends us both was meant for us */
    if (clock_now_ns() >= master->retry_at_ns)
        master_start_worker(master, NULL, NULL);
    reap_strays(master);
}

/* The application is told last: behind the last worker, nobody sends it anything any more. */
static bool is_over(struct master *master)
{
    return master->is_ending && master->retiring_count == 0 && master->succession.pid == 0 &&
           master_app_is_stopped(master->app, master->status == COORD_EXIT_DEADLINE ||
                                                  master->status == COORD_EXIT_FORCED);
}

static void set_up(struct master *master, const struct master_config *config)
{
    sigset_t set;

    memset(master, 0, sizeof(*master));
    master->config = config;
    master->current.pid_fd = master->current.channel = -1;
    master->retry_at_ns = CLOCK_NEVER;
    master->backoff_ns = BACKOFF_MIN_NS;
    master->held = config->upstream->listeners;
    memset(&config->upstream->listeners, 0, sizeof(config->upstream->listeners));
    if (config->keep_fd >= 0) /* for the workers; not for the application */
        (void)fcntl(config->keep_fd, F_SETFD, FD_CLOEXEC);
    signals_wanted(&set);
    (void)sigaddset(&set, SIGCHLD); /* strays have no other descriptor */
    master->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    succession_init(&master->succession,
                    &(struct succession_config){
                        .timing = {.timeout_ns = config->first_timeout_ns, .stays = true},
                        .binary = config->binary,
                        .argv = config->argv,
                        .keep_fds = &config->keep_fd,
                        .keep_count = config->keep_fd >= 0,
                        .runs_app = config->command != NULL,
                        .own_group = true, /* a Ctrl+C is for us, and passed on */
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
        return COORD_EXIT_UNAVAILABLE;
    }
    master_start_worker(&master, NULL, NULL);
    while (!is_over(&master))
        turn(&master);
    master_app_destroy(master.app);
    master_remove_pid_file(&master);
    inherit_release(&master.held);
    inherit_release(&master.new);
    forget(&master.current);
    for (size_t i = 0; i < master.retiring_count; i++)
        forget(&master.retiring[i]);
    succession_release(&master.succession);
    (void)close(master.signal_fd);
    return master_exit_status(&master);
}

int master_detach(int *ret_ready_fd)
{
    int ready[2], status;
    char byte;

    pid_t child = pipe2(ready, O_CLOEXEC) == 0 ? fork() : -1;
    if (child < 0) {
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "cannot go into the background: %s",
                 strerrordesc_np(errno));
        return COORD_EXIT_UNAVAILABLE;
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
        return COORD_EXIT_CLEAN;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : COORD_EXIT_UNAVAILABLE;
}

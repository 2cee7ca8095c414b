#include "master.h"

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
#include "file.h"
#include "log.h"
#include "notify.h"
#include "signals.h"
#include "succession.h"

#define RETIRING_MAX                                                                               \
    32 /* old workers that still drain; the oldest is no longer watched beyond it */
#define BACKOFF_MIN_NS (100 * NS_PER_MS)
#define BACKOFF_MAX_NS (10 * NS_PER_S)
#define STEADY_NS (10 * NS_PER_S) /* a worker that lived for so long had no trouble starting */

struct worker {
    pid_t pid; /* 0: none */
    int pid_fd;
    int channel;
    uint64_t began_ns;
};

/* One thread: nothing is shared. */
struct master {
    const struct master_config *config;
    int signal_fd;
    struct succession succession;
    struct worker current;
    struct worker retiring[RETIRING_MAX];
    size_t retiring_count;
    struct inheritance held; /* the listeners of the current worker, by our own descriptors */
    struct inheritance new;  /* those that the one to come has opened itself */
    char pid_file[256];
    bool is_up;       /* the first worker has accepted */
    bool is_stopping; /* told to */
    bool may_fail;    /* a worker that can not be started is tried again */
    bool is_ending;   /* as soon as the last old worker has drained */
    int status;
    uint64_t backoff_ns;
    uint64_t retry_at_ns; /* CLOCK_NEVER: there is a worker, or one is being started */
};

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

static void end(struct master *master, int status)
{
    master->is_ending = true;
    master->status = status;
}

/* ---- the pid file ---- */

static void write_pid_file(const struct master *master)
{
    char text[24];

    if (master->pid_file[0] == '\0')
        return;
    (void)snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    int err = file_write_whole(master->pid_file, text);
    if (err != 0)
        log_line(LOG_LEVEL_ERROR, "pid-file-failed", NULL, "cannot write the pid file %s: %s",
                 master->pid_file, strerrordesc_np(-err));
}

/* ---- the worker that comes ---- */

static bool offer(void *arg, size_t i, struct handover_message *ret_message)
{
    struct master *master = arg;

    if (i >= master->held.count)
        return false;
    inherit_put(&master->held.items[i], ret_message);
    return true;
}

/* Believed only before READY: so far it has read nothing but its configuration. */
static void on_message(void *arg, struct handover_message *message)
{
    struct master *master = arg;

    if (message->type == HANDOVER_LISTENER && master->succession.restart.state == RESTART_STARTING)
        (void)inherit_add(&master->new, message);
}

static bool is_among(const uint64_t *ids, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Hold what the new worker has, and let go of the rest: the old one closes that, and its close is
 * lossless only if it is the last. */
static void hold_what_is_taken(struct master *master, const struct handover_message *ready)
{
    uint64_t taken[HANDOVER_IDS_MAX];
    size_t count = handover_get_ids(ready, HANDOVER_TAKEN, taken, HANDOVER_IDS_MAX);
    struct inheritance kept = {0};
    struct inheritance *const from[] = {&master->held, &master->new};

    for (size_t i = 0; i < 2; i++) {
        for (size_t j = 0; j < from[i]->count; j++) {
            struct inherited *item = &from[i]->items[j];
            struct inherited *grown = is_among(taken, count, item->id)
                                          ? realloc(kept.items, (kept.count + 1) * sizeof(*grown))
                                          : NULL;
            if (grown == NULL)
                continue; /* closed below */
            kept.items = grown;
            kept.items[kept.count++] = *item;
            item->fd = item->switch_fd = -1;
        }
        inherit_release(from[i]);
    }
    master->held = kept;
}

static void take_settings(struct master *master, const struct handover_message *ready)
{
    char before[sizeof(master->pid_file)];

    memcpy(before, master->pid_file, sizeof(before));
    (void)handover_get_text(ready, HANDOVER_PID_FILE, master->pid_file, sizeof(master->pid_file));
    if (before[0] != '\0' && strcmp(before, master->pid_file) != 0)
        (void)unlink(before);
    master->succession.restart.config.timeout_ns = handover_get_number(
        ready, HANDOVER_TIMEOUT_NS, master->succession.restart.config.timeout_ns);
    master->succession.config.timing.probation_ns = handover_get_number(
        ready, HANDOVER_PROBATION_NS, master->succession.config.timing.probation_ns);
}

static void send_retire(struct master *master, const struct handover_message *ready, int conns_fd)
{
    struct handover_message message;
    size_t n;

    handover_begin(&message, HANDOVER_RETIRE);
    const void *taken = handover_get(ready, HANDOVER_TAKEN, &n);
    if (taken != NULL)
        handover_put(&message, HANDOVER_TAKEN, taken, n);
    const void *welcome = handover_get(ready, HANDOVER_WELCOME, &n);
    if (welcome != NULL)
        handover_put(&message, HANDOVER_WELCOME, welcome, n);
    handover_put_fd(&message, conns_fd);
    if (handover_send(master->current.channel, &message) != 0)
        (void)kill(master->current.pid, SIGTERM); /* it does not listen: at least it drains */
}

static void watch_retiring(struct master *master)
{
    if (master->retiring_count == RETIRING_MAX) {
        forget(&master->retiring[0]);
        memmove(&master->retiring[0], &master->retiring[1],
                (RETIRING_MAX - 1) * sizeof(master->retiring[0]));
        master->retiring_count--;
    }
    master->retiring[master->retiring_count++] = master->current;
    memset(&master->current, 0, sizeof(master->current));
}

static void on_retire(void *arg, struct succession *succession)
{
    struct master *master = arg;
    int conns_fd = succession_take_conns(succession);

    hold_what_is_taken(master, &succession->ready);
    take_settings(master, &succession->ready);
    if (master->current.pid > 0) {
        send_retire(master, &succession->ready, conns_fd);
        watch_retiring(master);
    }
    close_fd(&conns_fd);
    if (succession->stderr_fd >= 0) /* its error-log is ours */
        (void)dup2(succession->stderr_fd, STDERR_FILENO);
    close_fd(&succession->stderr_fd);
    succession_take_child(succession, &master->current.pid, &master->current.pid_fd,
                          &master->current.channel);
    master->current.began_ns = clock_now_ns();
    master->retry_at_ns = CLOCK_NEVER;
    write_pid_file(master);
    notify_send("READY=1\nSTATUS=serving\nMAINPID=%ld", (long)getpid());
    if (!master->is_up && master->config->ready_fd >= 0) {
        (void)!write(master->config->ready_fd, "", 1);
        (void)close(master->config->ready_fd);
    }
    master->is_up = true;
}

static void on_began(void *arg)
{
    const struct master *master = arg;

    if (master->is_up)
        notify_send("RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=restarting",
                    (unsigned long long)(clock_now_ns() / NS_PER_US));
}

static void try_again_later(struct master *master)
{
    char wait[CLOCK_TEXT_SIZE];

    log_line(LOG_LEVEL_WARN, "worker-retry", NULL, "another worker is started in %s",
             clock_format_duration(master->backoff_ns, wait));
    master->retry_at_ns = clock_now_ns() + master->backoff_ns;
    master->backoff_ns *= 2;
    if (master->backoff_ns > BACKOFF_MAX_NS)
        master->backoff_ns = BACKOFF_MAX_NS;
}

static void on_failed(void *arg)
{
    struct master *master = arg;
    int status = master->succession.status;

    inherit_release(&master->new);
    if (!master->is_up) { /* it never served: whoever started us is told why */
        end(master, master->succession.spawn_error != 0 ? COORD_EXIT_UNAVAILABLE
                    : WIFEXITED(status)                 ? WEXITSTATUS(status)
                                                        : COORD_EXIT_UNAVAILABLE);
        return;
    }
    if (master->current.pid == 0)
        try_again_later(master);
    else
        notify_send("READY=1\nSTATUS=serving; the last restart failed, see the log");
}

static const struct succession_hooks hooks = {
    .offer = offer,
    .message = on_message,
    .retire = on_retire,
    .began = on_began,
    .failed = on_failed,
};

/* `trigger` NULL: nobody has asked, there has to be one. */
static void start_worker(struct master *master, const char *trigger, const char *detail)
{
    /* Where nobody serves, nobody waits to see whether it stays. */
    master->succession.restart.config.probation_ns =
        master->current.pid > 0 ? master->succession.config.timing.probation_ns : 0;
    master->retry_at_ns = CLOCK_NEVER;
    if (trigger != NULL)
        succession_request(&master->succession, trigger, detail);
    else
        succession_tell(&master->succession, RESTART_ON_REQUEST);
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

static void hear_worker(struct master *master)
{
    struct handover_message message;
    char text[512], detail[96];
    int err = -EAGAIN;

    while (master->current.channel >= 0 &&
           (err = handover_receive(master->current.channel, &message)) == 0) {
        (void)handover_get_text(&message, HANDOVER_TEXT, text, sizeof(text));
        if (message.type == HANDOVER_NOTIFY) {
            if (strstr(text, "STOPPING=1") != NULL) /* it closes them, and must be the last to */
                inherit_release(&master->held);
            pass_notice_on(text);
        } else if (message.type == HANDOVER_AGAIN) {
            start_worker(master, text,
                         handover_get_text(&message, HANDOVER_DETAIL, detail, sizeof(detail)));
        }
        handover_release(&message);
    }
    if (err != -EAGAIN)
        close_fd(&master->current.channel);
}

static bool is_a_drain(int status)
{
    return WIFEXITED(status) &&
           (WEXITSTATUS(status) == COORD_EXIT_CLEAN || WEXITSTATUS(status) == COORD_EXIT_DEADLINE ||
            WEXITSTATUS(status) == COORD_EXIT_FORCED);
}

static void describe(int status, char *text, size_t size)
{
    if (WIFSIGNALED(status))
        (void)snprintf(text, size, "was ended by SIG%s", sigabbrev_np(WTERMSIG(status)));
    else
        (void)snprintf(text, size, "exited with status %d", WEXITSTATUS(status));
}

static void see_exit_of_current(struct master *master)
{
    char how[64];
    int status;

    if (waitpid(master->current.pid, &status, WNOHANG) != master->current.pid)
        return;
    hear_worker(master);
    describe(status, how, sizeof(how));
    pid_t pid = master->current.pid;
    uint64_t lived_ns = clock_now_ns() - master->current.began_ns;
    forget(&master->current);
    /* It drained, whoever told it to; or it was to end anyway. */
    if (master->is_stopping || is_a_drain(status)) {
        succession_tell(&master->succession, RESTART_ON_STOP);
        end(master, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        return;
    }
    log_line(LOG_LEVEL_ERROR, "worker-died",
             json_pack("{s:I, s:s}", "pid", (json_int_t)pid, "how", how),
             "worker %ld %s: it is replaced", (long)pid, how);
    if (lived_ns >= STEADY_NS)
        master->backoff_ns = BACKOFF_MIN_NS;
    if (master->succession.restart.state != RESTART_IDLE)
        return; /* one is on its way already */
    if (lived_ns >= STEADY_NS)
        start_worker(master, NULL, NULL);
    else
        try_again_later(master);
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
        describe(status, how, sizeof(how));
        log_line(LOG_LEVEL_INFO, "worker-retired", NULL, "worker %ld has drained, and %s",
                 (long)worker->pid, how);
        forget(worker);
        memmove(worker, worker + 1, (master->retiring_count - i - 1) * sizeof(*worker));
        master->retiring_count--;
    }
}

/* ---- signals ---- */

static void stop(struct master *master, int signo)
{
    succession_tell(&master->succession, RESTART_ON_STOP);
    if (!master->is_stopping)
        notify_send("STOPPING=1\nSTATUS=stopping");
    master->is_stopping = true;
    master->retry_at_ns = CLOCK_NEVER;
    inherit_release(&master->held); /* the worker's close is to be the last */
    if (master->current.pid > 0)
        (void)kill(master->current.pid, signo);
    else if (!master->is_ending)
        end(master, COORD_EXIT_CLEAN);
    for (size_t i = 0; i < master->retiring_count; i++)
        (void)kill(master->retiring[i].pid, signo);
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
            start_worker(master, name, detail);
            break;
        case SIGUSR1: /* its log files */
            if (master->current.pid > 0)
                (void)kill(master->current.pid, SIGUSR1);
            break;
        default:
            log_line(LOG_LEVEL_INFO, "master-stops", NULL, "%s %s: passed on to the worker", name,
                     detail);
            stop(master, signo);
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
    if (due_ns == CLOCK_NEVER)
        return -1;
    return due_ns <= now_ns ? 0 : (int)((due_ns - now_ns) / NS_PER_MS) + 1;
}

static void turn(struct master *master)
{
    struct pollfd fds[3 + SUCCESSION_FDS + RETIRING_MAX] = {
        {.fd = master->signal_fd, .events = POLLIN},
        {.fd = master->current.pid > 0 ? master->current.channel : -1, .events = POLLIN},
        {.fd = master->current.pid > 0 ? master->current.pid_fd : -1, .events = POLLIN},
    };
    size_t n = 3 + SUCCESSION_FDS;

    succession_poll(&master->succession, &fds[3]);
    for (size_t i = 0; i < master->retiring_count; i++)
        fds[n++] = (struct pollfd){.fd = master->retiring[i].pid_fd, .events = POLLIN};
    (void)poll(fds, (nfds_t)n, patience_ms(master));
    if (fds[1].revents != 0)
        hear_worker(master);
    if (fds[2].revents != 0)
        see_exit_of_current(master);
    see_exits_of_retiring(master);
    succession_handle(&master->succession, &fds[3]);
    if (fds[0].revents != 0)
        take_signals(master);
    if (clock_now_ns() >= master->retry_at_ns)
        start_worker(master, NULL, NULL);
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
    signals_wanted(&set);
    master->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    succession_init(&master->succession,
                    &(struct succession_config){
                        .timing = {.timeout_ns = config->first_timeout_ns, .stays = true},
                        .binary = config->binary,
                        .argv = config->argv,
                        .keep_fds = &config->keep_fd,
                        .keep_count = config->keep_fd >= 0,
                        .own_group = true, /* a Ctrl+C is for us, and passed on */
                        .hooks = &hooks,
                        .arg = master},
                    0);
}

/* Ours only. */
static void remove_pid_file(const struct master *master)
{
    char text[24] = "";
    int fd = master->pid_file[0] != '\0'
                 ? open(master->pid_file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
                 : -1;

    if (fd < 0)
        return;
    bool is_ours = read(fd, text, sizeof(text) - 1) > 0 && strtol(text, NULL, 10) == (long)getpid();
    (void)close(fd);
    if (is_ours)
        (void)unlink(master->pid_file);
}

int master_run(const struct master_config *config)
{
    struct master master;

    set_up(&master, config);
    if (master.signal_fd < 0) {
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "cannot start: signals: %s",
                 strerrordesc_np(errno));
        return COORD_EXIT_UNAVAILABLE;
    }
    start_worker(&master, NULL, NULL);
    while (!master.is_ending || master.retiring_count > 0)
        turn(&master);
    remove_pid_file(&master);
    inherit_release(&master.held);
    inherit_release(&master.new);
    forget(&master.current);
    for (size_t i = 0; i < master.retiring_count; i++)
        forget(&master.retiring[i]);
    succession_release(&master.succession);
    (void)close(master.signal_fd);
    return master.status;
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

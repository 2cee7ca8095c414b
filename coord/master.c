#include "master.h"

#include <assert.h>
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
#include "master_app.h"
#include "notify.h"
#include "signals.h"
#include "succession.h"

#define RETIRING_MAX 32 /* old workers that still drain; beyond it there is no restart */
#define BACKOFF_MIN_NS (100 * NS_PER_MS)
#define BACKOFF_MAX_NS (10 * NS_PER_S)
#define BEHIND_NS (10 * NS_PER_MS) /* until a worker that did not read is told again */
#define STEADY_NS (10 * NS_PER_S)  /* a worker that lived for so long had no trouble starting */

struct worker {
    pid_t pid; /* 0: none */
    int pid_fd;
    int channel;
    bool told_hold;  /* requests for the application are to wait */
    bool was_told;   /* retiring: to stop, and so was its successor */
    bool by_message; /* it was told to stop by one, and so it is from then on */
    uint64_t began_ns;
};

/* One thread: nothing is shared. (The application has another one, behind master_app.h.) */
struct master {
    const struct master_config *config;
    int signal_fd;
    struct master_app *app; /* NULL: none */
    struct succession succession;
    struct worker current;
    struct worker retiring[RETIRING_MAX];
    size_t retiring_count;
    struct inheritance held; /* the listeners of the current worker, by our own descriptors */
    struct inheritance new;  /* those that the one to come has opened itself */
    char pid_file[256];
    bool is_up;         /* the first worker has accepted */
    bool said_ready;    /* and the application has answered, if there is one */
    bool is_stopping;   /* told to */
    unsigned stops;     /* how often, since that was called off last */
    bool is_ahead;      /* of the next signal: the worker has been told already */
    bool worker_drains; /* the worker was told to, or we have told it: may be called off */
    bool ends_with_app; /* since that has ended by itself */
    bool is_behind;     /* a worker has to be told something, and does not read */
    bool told_successor_hold;
    bool may_fail;  /* a worker that can not be started is tried again */
    bool is_ending; /* as soon as the last old worker has drained */
    int status;
    int left_status; /* of a successor that had to stop with us */
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

static bool is_a_drain(int status)
{
    return WIFEXITED(status) &&
           (WEXITSTATUS(status) == COORD_EXIT_CLEAN || WEXITSTATUS(status) == COORD_EXIT_DEADLINE ||
            WEXITSTATUS(status) == COORD_EXIT_FORCED);
}

/* The second of two signals is another one, since two of a kind may be one. */
static void signal_worker(const struct worker *worker, int signo, unsigned count)
{
    (void)kill(worker->pid, signo);
    if (count > 1)
        (void)kill(worker->pid, signo == SIGTERM ? SIGINT : SIGTERM);
}

static void begin_stop(struct master *master);
static void stop_alone(struct master *master);

static void stop_succession(struct master *master)
{
    succession_tell(&master->succession, RESTART_ON_STOP);
    succession_tell(&master->succession, RESTART_ON_CLOSE);
}

static void end(struct master *master, int status)
{
    stop_succession(master);      /* no other worker from here on */
    if (master->current.pid == 0) /* nobody accepts: a refusal says so, and silence would not */
        inherit_release(&master->held);
    master->retry_at_ns = CLOCK_NEVER;
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

    if (master->succession.restart.state != RESTART_STARTING)
        return;
    if (message->type == HANDOVER_LISTENER)
        (void)inherit_add(&master->new, message);
    else if (message->type == HANDOVER_APP)
        master_app_hear(master->app, message);
}

/* Its error-log is ours, and standard output goes where its own does: the application has both. */
static void take_error_log(int fd)
{
    if (fd < 0)
        return;
    (void)dup2(fd, STDOUT_FILENO);
    (void)dup2(fd, STDERR_FILENO);
}

/* Who comes later opens the tickets that the worker before it has sealed, if that is still there to
 * say how. Asked this early, so that the keys come while it still gets ready: behind BEGIN, which
 * is on its way when the answer is heard, and before it accepts. */
static void on_begin(void *arg, struct handover_message *begin)
{
    struct master *master = arg;
    struct handover_message message;

    (void)begin;
    if (!master->is_up)
        return;
    handover_begin(&message, HANDOVER_WANT_TICKET_KEYS);
    (void)handover_send(master->current.channel, &message); /* fails where there is none */
}

/* Who comes first brings the application up; nobody has been accepted yet. */
static void on_ready(void *arg)
{
    struct master *master = arg;

    if (master->is_up)
        return;
    take_error_log(master->succession.stderr_fd);
    if (master_app_start(master->app) != 0)
        end(master, COORD_EXIT_UNAVAILABLE);
}

static void on_commit(void *arg, struct handover_message *message)
{
    struct master *master = arg;
    master_app_commit(master->app, message, &master->told_successor_hold);
}

static void on_serves(void *arg)
{
    struct master *master = arg;
    master_app_settle(master->app);
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
    master->succession.restart.config.probation_ns = handover_get_number(
        ready, HANDOVER_PROBATION_NS, master->succession.restart.config.probation_ns);
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

/* None is forgotten: the application must not be told to end before the last of them. */
static bool may_begin(void *arg)
{
    const struct master *master = arg;

    if (master->retiring_count < RETIRING_MAX)
        return true;
    log_line(LOG_LEVEL_WARN, "restart-refused", NULL,
             "no restart: %d workers of earlier ones still drain", RETIRING_MAX);
    return false;
}

static void watch_retiring(struct master *master)
{
    assert(master->retiring_count < RETIRING_MAX);
    master->current.was_told = master->is_stopping || master->worker_drains;
    master->retiring[master->retiring_count++] = master->current;
    memset(&master->current, 0, sizeof(master->current));
}

/* The service is up when the worker and the application are. Not behind STOPPING, which a manager
 * takes for final. */
static void say_ready(struct master *master)
{
    if (!master->is_up || !master_app_is_up(master->app) || master->is_stopping ||
        master->worker_drains || master->is_ending)
        return;
    if (!master->said_ready && master->config->ready_fd >= 0) {
        (void)!write(master->config->ready_fd, "", 1);
        (void)close(master->config->ready_fd);
    }
    master->said_ready = true;
    notify_send("READY=1\nSTATUS=serving\nMAINPID=%ld", (long)getpid());
}

static void send_stop(struct master *master, bool is_final)
{
    master->current.by_message = true;
    succession_send_stop(master->current.channel, master->current.pid, master->stops, is_final);
}

/* A worker was told before we were: a signal to all processes may be on its way to us. */
static void stop_ahead(struct master *master)
{
    begin_stop(master);
    master->is_ahead = true;
    master->stops = 1;
    if (master->current.pid > 0)
        send_stop(master, false);
    else
        stop_alone(master);
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
    take_error_log(succession->stderr_fd);
    close_fd(&succession->stderr_fd);
    succession_take_child(succession, &master->current.pid, &master->current.pid_fd,
                          &master->current.channel);
    master->current.began_ns = clock_now_ns();
    master->current.told_hold = master->told_successor_hold;
    master->retry_at_ns = CLOCK_NEVER;
    write_pid_file(master);
    master->is_up = true;
    /* Since the new one was told to accept: it is the service that was meant. */
    if (master->worker_drains && !master->is_stopping)
        stop_ahead(master);
    else if (master->is_stopping)
        send_stop(master, false);
    master->worker_drains = false; /* the old one */
    say_ready(master);
}

static void on_began(void *arg)
{
    struct master *master = arg;

    master->retry_at_ns = CLOCK_NEVER;
    master_app_forget(master->app);
    if (master->said_ready)
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
    else if (master->said_ready)
        notify_send("READY=1\nSTATUS=serving; the last restart failed, see the log");
}

static unsigned count_stops(void *arg)
{
    const struct master *master = arg;
    return master->stops;
}

/* What it could not finish is the service's as well. */
static void on_left(void *arg)
{
    struct master *master = arg;
    int status = succession_left_status(&master->succession);

    inherit_release(&master->new);
    if (status > master->left_status)
        master->left_status = status;
}

static const struct succession_hooks hooks = {
    .offer = offer,
    .may_begin = may_begin,
    .message = on_message,
    .begin = on_begin,
    .ready = on_ready,
    .commit = on_commit,
    .serves = on_serves,
    .retire = on_retire,
    .began = on_began,
    .failed = on_failed,
    .count_signals = count_stops,
    .left = on_left,
};

/* `trigger` NULL: nobody has asked, there has to be one. */
static void start_worker(struct master *master, const char *trigger, const char *detail)
{
    /* Refused, and nobody serves: what was due before still is (see on_began()). */
    if (trigger != NULL) {
        succession_request(&master->succession, trigger, detail);
    } else {
        master->retry_at_ns = CLOCK_NEVER;
        succession_tell(&master->succession, RESTART_ON_REQUEST);
    }
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

/* Somebody has told the worker itself (an order, a trigger), or it says that it does what we have
 * told it. There is no successor to a service that is about to end; until its listeners close, that
 * may be called off. */
static void on_drains(struct master *master, bool drains)
{
    bool was_on = master->worker_drains || master->is_stopping;

    if (!drains && (master->ends_with_app || master->is_ending))
        return; /* it does not know yet */
    master->worker_drains = drains;
    master_app_expect_end(master->app, drains);
    if (drains) {
        succession_tell(&master->succession, RESTART_ON_STOP);
        return;
    }
    if (!was_on)
        return;
    master->is_stopping = master->is_ahead = false;
    master->stops = 0;
    succession_tell(&master->succession, RESTART_ON_RESUME);
    log_line(LOG_LEVEL_INFO, "master-resumes", NULL,
             "worker %ld goes on, and so does this: restarts are possible again",
             (long)master->current.pid);
    say_ready(master); /* perhaps not for the first time: a restart may have been given up */
}

/* It was told in the instant in which another one took over: that was meant for the service. */
static void on_drains_late(struct master *master, const struct worker *worker)
{
    if (worker->was_told || master->is_stopping || master->is_ending)
        return;
    log_line(LOG_LEVEL_WARN, "restart-stopped", NULL,
             "worker %ld was told to stop in the instant of the hand-over: its successor is told, "
             "too",
             (long)worker->pid);
    stop_ahead(master);
}

/* The one who has just retired was closing its listeners, which are those of its successor, before
 * it heard that it has one: that can not be called off there, and must not be here. */
static void on_stopping_late(struct master *master, const struct worker *worker)
{
    log_line(LOG_LEVEL_WARN, "restart-stopped", NULL,
             "worker %ld was stopping in the instant of the hand-over: its successor is told, too",
             (long)worker->pid);
    master->is_ahead |= master->stops == 0;
    master->stops += master->stops == 0;
    begin_stop(master);
    stop_succession(master); /* those that it is about to have, too */
    if (master->current.pid > 0)
        send_stop(master, true);
    else
        stop_alone(master);
}

static void on_stopping(struct master *master)
{
    stop_succession(master);
    inherit_release(&master->held); /* the worker's close is to be the last */
    notify_send("STOPPING=1");
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
                on_drains_late(master, worker);
        } else if (message.type == HANDOVER_DRAINS) {
            on_drains(master, drains);
        } else if (message.type == HANDOVER_NOTIFY && is_current) {
            if (strstr(text, "STOPPING=1") != NULL)
                on_stopping(master);
            pass_notice_on(text);
        } else if (message.type == HANDOVER_NOTIFY && strstr(text, "STOPPING=1") != NULL) {
            on_stopping_late(master, worker);
        } else if (message.type == HANDOVER_TICKET_KEY) {
            pass_key_on(master, worker, &message);
        } else if (message.type == HANDOVER_AGAIN) { /* also of one that is just retiring */
            start_worker(master, text,
                         handover_get_text(&message, HANDOVER_DETAIL, detail, sizeof(detail)));
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
        end(master, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
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
        end(master, app->status);
        return;
    }
    stop_succession(master);
    if (master_app_tell_end(master->app, master->current.channel) != 0)
        (void)kill(master->current.pid, SIGTERM); /* it does not listen: at least it drains */
}

static void see_app(struct master *master)
{
    const struct master_app_state *app = master_app_look(master->app);

    tell_workers(master);
    if (!master->said_ready && app->was_up)
        say_ready(master);
    if (app->has_ended)
        end_with_app(master, app);
}

/* ---- signals ---- */

static void begin_stop(struct master *master)
{
    succession_tell(&master->succession, RESTART_ON_STOP);
    master->is_stopping = true;
    master_app_expect_end(master->app, true);
    master->retry_at_ns = CLOCK_NEVER;
}

/* The third is for those who do not listen any more. */
static void kill_all(const struct master *master)
{
    if (master->current.pid > 0)
        (void)kill(master->current.pid, SIGKILL);
    for (size_t i = 0; i < master->retiring_count; i++)
        (void)kill(master->retiring[i].pid, SIGKILL);
    if (master->succession.pid > 0)
        (void)kill(master->succession.pid, SIGKILL);
}

/* Without a worker that could drain. */
static void stop_alone(struct master *master)
{
    on_stopping(master);
    if (!master->is_ending)
        end(master, COORD_EXIT_CLEAN);
}

static void stop(struct master *master, int signo)
{
    begin_stop(master);
    if (master->is_ahead) {
        master->is_ahead = false;
        return;
    }
    master->stops++;
    if (master->stops > 2) {
        kill_all(master);
    } else if (master->current.pid > 0) { /* it says when it is past the point of no return */
        if (master->current.by_message)
            send_stop(master, false);
        else
            (void)kill(master->current.pid, signo);
    } else {
        stop_alone(master);
    }
    /* Those drain already, and take a second one for an order to cut what they have: of the first
     * one they hear nothing, as it may be called off and come again. */
    for (size_t i = 0; master->stops == 2 && i < master->retiring_count; i++)
        signal_worker(&master->retiring[i], signo, 2);
    /* Who was to take over, and had to stop with the one before it, has been told once. */
    if (master->stops == 2 && master->succession.pid > 0 &&
        (master->succession.restart.state == RESTART_LEAVING ||
         master->succession.restart.state == RESTART_STOPPED)) {
        succession_send_stop(master->succession.channel, master->succession.pid, 2, true);
        succession_hurry(&master->succession);
    }
    master_app_signal(master->app, signo); /* ends its grace, where that is what we wait for */
}

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
            start_worker(master, name, detail);
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
            stop(master, signo);
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
        start_worker(master, NULL, NULL);
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

static int exit_status(const struct master *master)
{
    if (master->stops > 2) /* whoever was left was killed */
        return COORD_EXIT_FORCED;
    bool is_clean = master->status == COORD_EXIT_CLEAN || master->status == COORD_EXIT_DEADLINE;
    return is_clean && master->left_status > master->status ? master->left_status : master->status;
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
    start_worker(&master, NULL, NULL);
    while (!is_over(&master))
        turn(&master);
    master_app_destroy(master.app);
    remove_pid_file(&master);
    inherit_release(&master.held);
    inherit_release(&master.new);
    forget(&master.current);
    for (size_t i = 0; i < master.retiring_count; i++)
        forget(&master.retiring[i]);
    succession_release(&master.succession);
    (void)close(master.signal_fd);
    return exit_status(&master);
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

#include "master_p.h"

#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "coord.h"
#include "file.h"
#include "log.h"
#include "notify.h"

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

/* Ours only. */
void master_remove_pid_file(const struct master *master)
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
        master_end(master, COORD_EXIT_UNAVAILABLE);
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
void master_say_ready(struct master *master)
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
    if (conns_fd >= 0)
        (void)close(conns_fd);
    take_error_log(succession->stderr_fd);
    if (succession->stderr_fd >= 0)
        (void)close(succession->stderr_fd);
    succession->stderr_fd = -1;
    succession_take_child(succession, &master->current.pid, &master->current.pid_fd,
                          &master->current.channel);
    master->current.began_ns = clock_now_ns();
    master->current.told_hold = master->told_successor_hold;
    master->retry_at_ns = CLOCK_NEVER;
    write_pid_file(master);
    master->is_up = true;
    /* Since the new one was told to accept: it is the service that was meant. */
    if (master->worker_drains && !master->is_stopping)
        master_stop_ahead(master);
    else if (master->is_stopping)
        master_send_stop(master, false);
    master->worker_drains = false; /* the old one */
    master_say_ready(master);
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

void master_try_again_later(struct master *master)
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
        master_end(master, master->succession.spawn_error != 0 ? COORD_EXIT_UNAVAILABLE
                           : WIFEXITED(status)                 ? WEXITSTATUS(status)
                                                               : COORD_EXIT_UNAVAILABLE);
        return;
    }
    if (master->current.pid == 0)
        master_try_again_later(master);
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

const struct succession_hooks master_hooks = {
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
void master_start_worker(struct master *master, const char *trigger, const char *detail)
{
    /* Refused, and nobody serves: what was due before still is (see on_began()). */
    if (trigger != NULL) {
        succession_request(&master->succession, trigger, detail);
    } else {
        master->retry_at_ns = CLOCK_NEVER;
        succession_tell(&master->succession, RESTART_ON_REQUEST);
    }
}

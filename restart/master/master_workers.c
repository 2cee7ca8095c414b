/* How one worker of the master follows another: what it hands over, takes, and notes. */

#include "master_p.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "coord.h"
#include "file.h"
#include "log.h"
#include "notify.h"
#include "require.h"
#include "restart_news.h"

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

/* ---- the successor ---- */

static bool offer(void *arg, size_t i, struct message *ret_message)
{
    struct master *master = arg;

    if (i >= master->listeners.count)
        return false;
    struct inherited item = master->listeners.items[i];
    item.fd = fcntl(item.fd, F_DUPFD_CLOEXEC, 0);
    inherit_put(&item, ret_message);
    return true;
}

/* Write to the worker's error log; standard output as well, because the application inherits both.
 */
static void take_error_log(int fd)
{
    if (fd < 0)
        return;
    (void)dup2(fd, STDOUT_FILENO);
    (void)dup2(fd, STDERR_FILENO);
    log_look(-1);
}

/* The message has a regular file. A worker that serves has read input of clients, so check it. */
static bool has_log(const struct message *message)
{
    struct stat st;
    return message->fd_count > 0 && fstat(message->fds[0], &st) == 0 && S_ISREG(st.st_mode);
}

void master_take_log(const struct message *message)
{
    if (has_log(message))
        take_error_log(message->fds[0]);
}

/* The successor has opened its log again since READY: use this file once it serves. */
static void keep_logs(struct master *master, struct message *message)
{
    if (!has_log(message))
        return;
    if (master->succession.stderr_fd >= 0)
        (void)close(master->succession.stderr_fd);
    master->succession.stderr_fd = message_take_fd(message, 0);
}

/* Listeners and settings count only before READY, while it has read nothing but its configuration.
 */
static void on_message(void *arg, struct message *message)
{
    struct master *master = arg;

    if (message->type == HANDOVER_LOGS)
        keep_logs(master, message);
    if (master->succession.restart.state != RESTART_STARTING)
        return;
    if (message->type == HANDOVER_LISTENER)
        (void)inherit_add(&master->new_listeners, message);
    else if (message->type == HANDOVER_APP)
        master_app_receive(master->app, message);
}

/* The successor must open the session tickets that the current worker has sealed. Ask for the keys
 * now: they arrive after BEGIN, which is about to be sent, and before the successor accepts. */
static void on_begin(void *arg, struct message *begin)
{
    struct master *master = arg;
    struct message message;

    (void)begin;
    if (!master->is_up)
        return;
    handover_begin(&message, HANDOVER_WANT_TICKET_KEYS);
    (void)message_send(master->current.channel, &message); /* fails without a worker */
}

/* The first worker starts the application, before the first client is accepted. */
static void on_ready(void *arg)
{
    struct master *master = arg;

    if (master->is_up)
        return;
    take_error_log(master->succession.stderr_fd);
    if (master_app_start(master->app) != 0)
        master_end(master, EXIT_STATUS_UNAVAILABLE);
}

static void on_commit(void *arg, struct message *message)
{
    struct master *master = arg;
    master_app_commit(master->app, message, &master->sent_successor_hold);
}

static void on_serves(void *arg)
{
    struct master *master = arg;
    master_app_apply(master->app);
}

static bool is_among(const uint64_t *ids, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Keep the new worker's listeners open and close the others. The old worker closes those too, and
 * that loses no connection only if its close is the last. */
static void keep_taken_listeners(struct master *master, const struct message *ready)
{
    uint64_t taken[HANDOVER_IDS_MAX];
    size_t count = message_get_numbers(ready, HANDOVER_TAKEN, taken, HANDOVER_IDS_MAX);
    struct inheritance kept = {0};
    struct inheritance *const from[] = {&master->listeners, &master->new_listeners};

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
            item->fd = -1;
        }
        inherit_release(from[i]);
    }
    master->listeners = kept;
}

static void take_settings(struct master *master, const struct message *ready)
{
    char before[sizeof(master->pid_file)];

    memcpy(before, master->pid_file, sizeof(before));
    (void)message_get_text(ready, HANDOVER_PID_FILE, master->pid_file, sizeof(master->pid_file));
    if (before[0] != '\0' && strcmp(before, master->pid_file) != 0)
        (void)unlink(before);
    master->succession.restart.config.timeout_ns = message_get_number(
        ready, HANDOVER_TIMEOUT_NS, master->succession.restart.config.timeout_ns);
    master->succession.restart.config.probation_ns = message_get_number(
        ready, HANDOVER_PROBATION_NS, master->succession.restart.config.probation_ns);
    master->force_after_ns =
        message_get_number(ready, HANDOVER_FORCE_AFTER_NS, master->force_after_ns);
}

static void send_retire(struct master *master, const struct message *ready, int conns_fd)
{
    struct message message;
    size_t n;

    handover_begin(&message, HANDOVER_RETIRE);
    const void *taken = message_get(ready, HANDOVER_TAKEN, &n);
    if (taken != NULL)
        message_put(&message, HANDOVER_TAKEN, taken, n);
    const void *welcome = message_get(ready, HANDOVER_WELCOME, &n);
    if (welcome != NULL)
        message_put(&message, HANDOVER_WELCOME, welcome, n);
    message_put_fd(&message, conns_fd);
    if (message_send(master->current.channel, &message) != 0)
        master_make_drain(&master->current);
}

/* Each retiring worker is watched, because the application must not stop before the last of them.
 */
static bool may_begin(void *arg)
{
    const struct master *master = arg;
    char why[64];

    if (master->retiring_count < RETIRING_MAX)
        return true;
    (void)snprintf(why, sizeof(why), "the workers of %d earlier restarts still drain",
                   RETIRING_MAX);
    succession_refuse(&master->succession, why);
    return false;
}

static void watch_retiring(struct master *master)
{
    REQUIRE(master->retiring_count < RETIRING_MAX);
    master->current.told_to_stop = master->is_stopping || master->worker_drains;
    master->retiring[master->retiring_count++] = master->current;
    memset(&master->current, 0, sizeof(master->current));
}

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

    keep_taken_listeners(master, &succession->ready);
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
    master->current.sent_hold = master->sent_successor_hold;
    master->retry_at_ns = CLOCK_NEVER;
    write_pid_file(master);
    master->is_up = true;
    /* The new worker is alive. Its earlier WATCHDOG=1 was not passed on, and it sends the next one
     * only after half the watchdog's limit. */
    if (notify_watchdog_ns() > 0)
        notify_send("WATCHDOG=1");
    /* The old worker got a stop after COMMIT. It was meant for the service. */
    if (master->worker_drains && !master->is_stopping)
        master_stop_after_worker(master);
    else if (master->is_stopping)
        master_send_stop(master, false);
    master->worker_drains = false; /* that was the old one */
    master_say_ready(master);
}

/* To the current worker, which answers on the admin listener. If it does not read, it misses it. */
static void tell_news(const struct master *master, enum restart_news_event event, int status,
                      const char *reason)
{
    if (master->current.pid > 0)
        (void)restart_news_send(master->current.channel, event, status, reason);
}

static void on_refused(void *arg, const char *why)
{
    tell_news(arg, RESTART_NEWS_REFUSED, EXIT_STATUS_UNAVAILABLE, why);
}

static void on_given_up(void *arg)
{
    tell_news(arg, RESTART_NEWS_FAILED, EXIT_STATUS_UNAVAILABLE,
              "it was cancelled, because the server stops");
}

static void on_began(void *arg)
{
    struct master *master = arg;

    master->retry_at_ns = CLOCK_NEVER;
    master_app_begin_worker(master->app);
    tell_news(master, RESTART_NEWS_BEGAN, 0, "");
    if (master->said_ready)
        notify_send("RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=restarting",
                    (unsigned long long)(clock_now_ns() / NS_PER_US));
}

void master_try_again_later(struct master *master)
{
    char wait[CLOCK_TEXT_SIZE];

    log_line(LOG_LEVEL_WARN, "worker-retry", NULL, "starting another worker in %s",
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

    inherit_release(&master->new_listeners);
    tell_news(master, RESTART_NEWS_FAILED, succession_failed_status(&master->succession),
              master->succession.failure);
    if (!master->is_up) { /* no worker ever served: end with its status */
        master_end(master, master->succession.spawn_error != 0 ? EXIT_STATUS_UNAVAILABLE
                           : WIFEXITED(status)                 ? WEXITSTATUS(status)
                                                               : EXIT_STATUS_UNAVAILABLE);
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
    return master->stops.count;
}

/* Requests that it could not finish count for the service. */
static void on_exited(void *arg)
{
    struct master *master = arg;
    int status = succession_drain_status(&master->succession);

    inherit_release(&master->new_listeners);
    if (status > master->successor_status)
        master->successor_status = status;
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
    .refused = on_refused,
    .given_up = on_given_up,
    .count_signals = count_stops,
    .exited = on_exited,
};

void master_start_worker(struct master *master, const char *trigger, const char *detail)
{
    /* If it is refused, a pending retry stays due (see on_began()). */
    if (trigger != NULL) {
        succession_request(&master->succession, trigger, detail);
    } else {
        master->retry_at_ns = CLOCK_NEVER;
        succession_on(&master->succession, RESTART_ON_REQUEST);
    }
}

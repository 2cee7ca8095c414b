/* This process as the successor of another one, or as the worker of a master: sends READY, and
 * reads the predecessor's messages. */

#include "restarter_p.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "exit_status.h"
#include "kill.h"
#include "log.h"

/* predecessor_notify() writes to a master's channel from any thread. If the descriptor were closed,
 * its number could become a client's connection; so it is only shut down. */
void restarter_leave_predecessor(struct restarter *restarter)
{
    if (restarter->predecessor_fd >= 0 && restarter->config.predecessor->is_master)
        (void)shutdown(restarter->predecessor_fd, SHUT_RDWR);
    else if (restarter->predecessor_fd >= 0)
        (void)close(restarter->predecessor_fd);
    restarter->predecessor_fd = -1;
}

int restarter_say_ready(struct restarter *restarter)
{
    struct restarter_config *config = &restarter->config;
    struct message message;
    int err = 0;

    if (config->ops->offer(config->arg, HANDOVER_IDS_MAX, &message)) {
        message_release(&message);
        return -E2BIG; /* listeners for one message */
    }
    if (config->predecessor->is_master) /* the master keeps all listeners open */
        for (size_t i = 0; err == 0 && config->ops->offer(config->arg, i, &message); i++) {
            if (!config->ops->is_inherited(config->arg, i))
                err = message_send(restarter->predecessor_fd, &message);
            message_release(&message);
        }
    if (err == 0 && config->ops->describe_app(config->arg, &message))
        err = message_send(restarter->predecessor_fd, &message);
    if (err == 0) {
        handover_begin(&message, HANDOVER_READY);
        config->ops->describe(config->arg, &message);
        err = message_send(restarter->predecessor_fd, &message);
    }
    return err;
}

/* The master says whether requests for its application wait. */
static void hold(struct restarter *restarter, const struct message *message)
{
    uint64_t wait = message_get_number(message, HANDOVER_WAIT, UINT64_MAX);

    if (wait != UINT64_MAX)
        restarter->config.ops->hold(restarter->config.arg, wait != 0);
}

static void take_key(const struct restarter *restarter, struct message *message)
{
    if (restarter->config.ops->take_key != NULL)
        restarter->config.ops->take_key(restarter->config.arg, message);
    explicit_bzero(message->bytes, message->size);
}

/* The master's application has ended by itself. */
static void drain_with_app(struct restarter *restarter, const struct message *message)
{
    char detail[96];

    (void)coord_request_drain_ending(
        restarter->config.coord, "application",
        message_get_text(message, HANDOVER_DETAIL, detail, sizeof(detail)),
        (int)message_get_number(message, HANDOVER_STATUS, EXIT_STATUS_UNAVAILABLE));
}

/* A signal that a master passes on keeps its name and its sender. For a final stop, the trigger
 * instead says why it cannot be called off. */
static void stop_with(struct restarter *restarter, const struct message *message)
{
    const struct predecessor *predecessor = restarter->config.predecessor;
    unsigned signals = (unsigned)message_get_number(message, HANDOVER_SIGNALS, 1);
    bool is_final = message_get_number(message, HANDOVER_IS_FINAL, 1) != 0;
    char name[24], detail[48];

    if (signals >= 3)
        _exit(EXIT_STATUS_FORCED); /* as after the third signal */
    (void)message_get_text(message, HANDOVER_TEXT, name, sizeof(name));
    (void)message_get_text(message, HANDOVER_DETAIL, detail, sizeof(detail));
    if (name[0] == '\0' || is_final) {
        (void)snprintf(name, sizeof(name), "%s", predecessor->is_master ? "master" : "restart");
        (void)snprintf(detail, sizeof(detail), "process %ld stops", (long)predecessor->pid);
    }
    coord_request_stop(restarter->config.coord, name, detail, signals, is_final);
}

static void take_request(struct restarter *restarter, const struct message *message)
{
    char name[sizeof(restarter->trigger)], detail[sizeof(restarter->detail)];

    restarter_request(restarter, message_get_text(message, HANDOVER_TEXT, name, sizeof(name)),
                      message_get_text(message, HANDOVER_DETAIL, detail, sizeof(detail)));
}

/* The master writes to the same log file. */
static void tell_master_logs(const struct restarter *restarter)
{
    const struct restarter_ops *ops = restarter->config.ops;
    struct message message;
    int fd = ops->log_fd != NULL ? ops->log_fd(restarter->config.arg) : -1;

    if (fd < 0 || restarter->predecessor_fd < 0 || !restarter->config.predecessor->is_master)
        return;
    handover_begin(&message, HANDOVER_LOGS);
    message_put_fd(&message, fd);
    int err = message_send(restarter->predecessor_fd, &message);
    if (err != 0 && err != -EPIPE)
        log_line(LOG_LEVEL_WARN, "log-reopen-failed", NULL,
                 "cannot tell the master that the log file was reopened; it may write to the old "
                 "one: %s",
                 strerrordesc_np(-err));
}

/* A successor that is starting may have opened the old files. One that has taken over may not have
 * been signalled, because the tool that moved the files still had our pid. */
void restarter_pass_logs_reopened(const struct restarter *restarter)
{
    const struct succession *succession = &restarter->succession;
    struct message message;

    tell_master_logs(restarter);
    handover_begin(&message, HANDOVER_REOPEN);
    if (succession->pid > 0 &&
        (succession->channel < 0 || message_send(succession->channel, &message) != 0))
        (void)kill_process(succession->pid, SIGUSR1, "process");
}

static void reopen_logs(const struct restarter *restarter)
{
    if (restarter->config.ops->reopen == NULL)
        return;
    restarter->config.ops->reopen(restarter->config.arg);
    restarter_pass_logs_reopened(restarter);
}

static void on_commit(struct restarter *restarter, const struct message *commit)
{
    struct message message;

    if (restarter->is_committed)
        return;
    restarter_set_needed(
        restarter,
        true); /* this process must not remove the pid file before commit() has written it */
    if (!coord_take_charge(restarter->config.coord)) {
        restarter_set_needed(restarter, false);
        log_line(LOG_LEVEL_WARN, "restart-stopped", NULL,
                 "a stop came before this process was told to accept: it accepts nothing and ends");
        return; /* the predecessor sees our end */
    }
    restarter->is_committed = true;
    hold(restarter, commit); /* before the first connection is accepted */
    restarter->config.ops->commit(restarter->config.arg);
    predecessor_take_stderr(restarter->config.predecessor);
    tell_master_logs(restarter); /* commit() may have opened it again */
    handover_begin(&message, HANDOVER_SETTLED);
    (void)message_send(restarter->predecessor_fd, &message);
    restarter_set_needed(restarter, false);
}

/* A restart that was requested meanwhile can begin. */
static void become_owner(struct restarter *restarter)
{
    restarter->owns_listeners = true;
    restarter_wake(restarter);
}

void restarter_read_predecessor(struct restarter *restarter)
{
    struct message message;
    int err;

    while (restarter->predecessor_fd >= 0 &&
           (err = handover_receive(restarter->predecessor_fd, &message)) != -EAGAIN) {
        if (err != 0) {
            char why[HANDOVER_WHY_SIZE];
            bool is_master = restarter->config.predecessor->is_master;
            restarter_leave_predecessor(restarter);
            /* Without the master this drain cannot be called off: two workers may hold the same
             * listeners, and one that drains would close those that the other serves. */
            if (is_master)
                (void)coord_request_drain_ending(restarter->config.coord, "master",
                                                 handover_why(err, &message, why),
                                                 EXIT_STATUS_CLEAN);
            else if (!restarter->is_committed) /* else the predecessor has ended, as expected */
                coord_request_drain(restarter->config.coord, "restart",
                                    handover_why(err, &message, why));
            become_owner(restarter);
            return;
        }
        if (message.type == HANDOVER_COMMIT)
            on_commit(restarter, &message);
        else if (message.type == HANDOVER_HOLD)
            hold(restarter, &message);
        else if (message.type == HANDOVER_WANT_TICKET_KEYS)
            restarter_send_keys(restarter, restarter->predecessor_fd);
        else if (message.type == HANDOVER_TICKET_KEY)
            take_key(restarter, &message);
        else if (message.type == HANDOVER_DRAIN)
            drain_with_app(restarter, &message);
        else if (message.type == HANDOVER_STOP)
            stop_with(restarter, &message);
        else if (message.type == HANDOVER_AGAIN)
            take_request(restarter, &message);
        else if (message.type == HANDOVER_NEWS)
            restart_news_receive(&restarter->news, &message);
        else if (message.type == HANDOVER_REOPEN)
            reopen_logs(restarter);
        else if (message.type == HANDOVER_LEFT)
            become_owner(restarter);
        else if (message.type == HANDOVER_RETIRE && !restarter->has_handed_over)
            restarter_retire(restarter, &message, message_take_fd(&message, 0), 0);
        message_release(&message);
    }
}

/* This process as the predecessor: it starts a successor (succession.h), hands over to it, retires.
 */

#include "restarter_p.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "exit_status.h"
#include "log.h"
#include "notify.h"

static bool offer(void *arg, size_t i, struct message *ret_message)
{
    struct restarter *restarter = arg;
    return restarter->config.ops->offer(restarter->config.arg, i, ret_message);
}

static void transfer(void *arg, struct succession *succession)
{
    struct restarter *restarter = arg;
    uint64_t taken[HANDOVER_IDS_MAX];
    size_t count = message_get_numbers(&succession->ready, HANDOVER_TAKEN, taken, HANDOVER_IDS_MAX);

    restarter->config.ops->transfer(restarter->config.arg, taken, count);
    restarter_set_stopping_successor(restarter, succession->pid);
}

static void exited(void *arg)
{
    struct restarter *restarter = arg;

    (void)pthread_mutex_lock(&restarter->mu);
    restarter->stopping_successor = 0;
    restarter->successor_status = succession_drain_status(&restarter->succession);
    (void)pthread_mutex_unlock(&restarter->mu);
}

/* The successor's drain was called off: it serves on, and this process may end. */
static void on_message(void *arg, struct message *message)
{
    struct restarter *restarter = arg;

    if (message->type != HANDOVER_DRAINS || message_get_number(message, HANDOVER_IS_ON, 1) != 0)
        return;
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->successor_resumed = restarter->stopping_successor > 0;
    (void)pthread_mutex_unlock(&restarter->mu);
}

static void add_pid_file(void *arg, struct message *message)
{
    const struct restarter *restarter = arg;

    if (restarter->config.pid_file == NULL || restarter->config.pid_file_fd < 0)
        return;
    message_put_text(message, HANDOVER_PID_FILE, restarter->config.pid_file);
    message_put_fd(message, restarter->config.pid_file_fd);
}

static void tell_left(const struct restarter *restarter)
{
    struct message message;

    handover_begin(&message, HANDOVER_LEFT);
    (void)message_send(restarter->succession.channel, &message);
}

void restarter_retire(struct restarter *restarter, const struct message *message, int conns_fd,
                      pid_t successor)
{
    uint64_t taken[HANDOVER_IDS_MAX], welcome[HANDOVER_IDS_MAX];
    size_t taken_count = message_get_numbers(message, HANDOVER_TAKEN, taken, HANDOVER_IDS_MAX);
    size_t welcome_count =
        message_get_numbers(message, HANDOVER_WELCOME, welcome, HANDOVER_IDS_MAX);
    char detail[64];

    restarter->config.ops->hand_over(restarter->config.arg, taken, taken_count, welcome,
                                     welcome_count, conns_fd);
    restarter->has_handed_over = true;
    if (successor > 0)
        (void)snprintf(detail, sizeof(detail), "process %ld has taken over", (long)successor);
    else
        (void)snprintf(detail, sizeof(detail), "another worker has taken over");
    enum coord_handover how = coord_request_handover(restarter->config.coord, detail, successor);
    if (successor == 0) {
        if (how != COORD_HANDOVER_BEGUN) /* the master knows if the listeners are closing */
            restarter_tell_drains(restarter, true);
        return;
    }
    if (how != COORD_HANDOVER_BEGUN)
        restarter_pass_stop_on(restarter, successor, how == COORD_HANDOVER_TOO_LATE);
    if (how == COORD_HANDOVER_JOINED)
        restarter_set_stopping_successor(restarter, successor);
    if (how != COORD_HANDOVER_TOO_LATE) /* from now on the successor may be restarted itself */
        tell_left(restarter);
    else
        transfer(restarter, &restarter->succession);
}

static void retire(void *arg, struct succession *succession)
{
    restarter_retire(arg, &succession->ready, succession_take_conns(succession), succession->pid);
}

/* A key that is not sent costs clients a full handshake, nothing else. */
void restarter_send_keys(const struct restarter *restarter, int fd)
{
    const struct restarter_ops *ops = restarter->config.ops;
    struct message message;

    if (ops->offer_key == NULL)
        return;
    for (size_t i = 0; ops->offer_key(restarter->config.arg, i, &message); i++)
        if (message_send(fd, &message) != 0)
            break;
    explicit_bzero(&message, sizeof(message));
}

/* Before COMMIT, so the successor has the keys when the first client comes. */
static void on_committing(void *arg, struct message *message)
{
    const struct restarter *restarter = arg;

    (void)message;
    restarter_send_keys(restarter, restarter->succession.channel);
}

static void began(void *arg)
{
    struct restarter *restarter = arg;

    restart_news_note(&restarter->news, RESTART_NEWS_BEGAN, 0, "");
    notify_send("RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=restarting",
                (unsigned long long)(clock_now_ns() / NS_PER_US));
}

static void failed(void *arg)
{
    struct restarter *restarter = arg;

    restart_news_note(&restarter->news, RESTART_NEWS_FAILED,
                      succession_failed_status(&restarter->succession),
                      restarter->succession.failure);
    notify_send("READY=1\nSTATUS=serving; the last restart failed, see the log");
}

static void refused(void *arg, const char *why)
{
    struct restarter *restarter = arg;
    restart_news_note(&restarter->news, RESTART_NEWS_REFUSED, EXIT_STATUS_UNAVAILABLE, why);
}

static void given_up(void *arg)
{
    struct restarter *restarter = arg;
    restart_news_note(&restarter->news, RESTART_NEWS_FAILED, EXIT_STATUS_UNAVAILABLE,
                      "it was cancelled, because the server stops");
}

static void reclaim(void *arg)
{
    struct restarter *restarter = arg;
    if (restarter->config.ops->reclaim != NULL)
        restarter->config.ops->reclaim(restarter->config.arg);
}

/* Called before COMMIT is sent. Either this function sees that a stop has begun, or
 * restarter_leave() sees `is_needed` and waits. */
static bool may_commit(void *arg)
{
    struct restarter *restarter = arg;

    (void)pthread_mutex_lock(&restarter->mu);
    bool may = restarter->phase == PHASE_RUNNING && !restarter->leaves;
    restarter->is_needed |= may;
    (void)pthread_mutex_unlock(&restarter->mu);
    return may;
}

const struct succession_hooks restarter_hooks = {
    .offer = offer,
    .begin = add_pid_file,
    .may_commit = may_commit,
    .commit = on_committing,
    .count_signals = restarter_count_signals,
    .transfer = transfer,
    .exited = exited,
    .message = on_message,
    .retire = retire,
    .began = began,
    .failed = failed,
    .refused = refused,
    .given_up = given_up,
    .reclaim = reclaim,
};

void restarter_ask(struct restarter *restarter, const char *trigger, const char *detail)
{
    struct message message;
    struct coord_status status;

    if (restarter->predecessor_fd >= 0 && restarter->config.predecessor->is_master) {
        handover_begin(&message, HANDOVER_AGAIN);
        message_put_text(&message, HANDOVER_TEXT, trigger);
        message_put_text(&message, HANDOVER_DETAIL, detail);
        if (message_send(restarter->predecessor_fd, &message) == 0)
            return;
        succession_refuse(&restarter->succession, "the master does not read requests");
        return;
    }
    if (restarter->is_successor && !restarter->is_committed) {
        succession_refuse(&restarter->succession, "this process has not taken over yet");
        return;
    }
    coord_get_status(restarter->config.coord, &status);
    if (status.phase != PHASE_RUNNING || status.trigger_count > 0)
        succession_on(&restarter->succession,
                      RESTART_ON_STOP); /* its restarter_on_step() may not have been handled yet */
    if (getpid() == 1) {
        log_line(LOG_LEVEL_ERROR, "restart-refused", NULL,
                 "%s: no restart: this is process 1, and the container ends when it ends; start it "
                 "with -m master",
                 trigger);
        return;
    }
    if (restarter->config.ops->offer(restarter->config.arg, HANDOVER_IDS_MAX, &message)) {
        message_release(&message);
        log_line(LOG_LEVEL_ERROR, "restart-refused", NULL,
                 "%s: no restart: there are more than %d listeners", trigger, HANDOVER_IDS_MAX);
        return;
    }
    succession_request(&restarter->succession, trigger, detail);
}

/* What happens to a restart that is under way: the successor's messages, its exit, time. Polls its
 * descriptors for the owner. */

#include "succession_p.h"

#include <errno.h>
#include <unistd.h>

#include "child.h"
#include "file.h"
#include "log.h"

#define CROWDED_NS (5 * NS_PER_MS)

static void offer_listeners(struct succession *succession)
{
    const struct succession_hooks *hooks = succession->config.hooks;
    struct message message;
    int pair[2], err = 0;

    while (err == 0 && hooks->offer(succession->config.arg, succession->offered, &message)) {
        err = message_send(succession->channel, &message);
        message_release(&message);
        succession->offered += err == 0;
    }
    if (err == 0 && succession->conns_fd < 0 && (err = message_pair(pair)) == 0) {
        succession->conns_fd = pair[0];
        handover_begin(&message, HANDOVER_BEGIN);
        message_put_fd(&message, pair[1]);
        if (hooks->begin != NULL)
            hooks->begin(succession->config.arg, &message);
        err = message_send(succession->channel, &message);
        (void)close(pair[1]);
        if (err != 0)
            file_close(&succession->conns_fd);
    }
    if (err == -EAGAIN) { /* poll(2) reports room for messages, but not for descriptors */
        succession->crowded_until_ns = clock_now_ns() + CROWDED_NS;
        return;
    }
    succession->all_offered = true;
    if (err == 0 || err == -EPIPE)
        return; /* it has ended: its pidfd reports that */
    succession->broken = err;
    succession_on(succession, RESTART_ON_BROKEN);
}

static void on_message(struct succession *succession, struct message *message)
{
    if (message->type == HANDOVER_READY) {
        bool news = succession->restart.state == RESTART_STARTING;
        if (news) {
            file_close(&succession->stderr_fd);
            succession->stderr_fd = message_take_fd(message, 0);
            succession->ready = *message;
            succession->ready.fd_count = 0;
        }
        succession_on(succession, RESTART_ON_READY);
        if (succession->restart.state == RESTART_PROBATION)
            log_line(LOG_LEVEL_INFO, "restart-ready",
                     json_pack("{s:I}", "pid", (json_int_t)succession->pid),
                     "generation %llu is ready: process %ld",
                     (unsigned long long)(succession->generation + 1), (long)succession->pid);
        if (news && succession->config.hooks->ready != NULL)
            succession->config.hooks->ready(succession->config.arg);
    } else if (message->type == HANDOVER_SETTLED) {
        succession_on(succession, RESTART_ON_SETTLED);
    } else if (succession->config.hooks->message != NULL) {
        succession->config.hooks->message(succession->config.arg, message);
    }
}

static void read_messages(struct succession *succession)
{
    struct message message;
    int err;

    while (succession->channel >= 0 &&
           (err = handover_receive(succession->channel, &message)) != -EAGAIN) {
        if (err == 0) {
            on_message(succession, &message);
            message_release(&message);
            continue;
        }
        file_close(&succession->channel);
        if (err == -EPIPE) /* if it has ended, its pidfd reports that */
            return;
        succession->broken = err;
        succession->broken_version = message.version;
        succession_on(succession, RESTART_ON_BROKEN);
    }
}

static void see_exit(struct succession *succession)
{
    read_messages(succession); /* first the messages that it had sent: after SETTLED, the process
                                  may belong to another owner */
    if (succession->pid <= 0 || !child_has_ended(succession->pid, &succession->status))
        return;
    succession_read_stderr(succession);
    succession->pid = 0;
    succession_release(succession);
    succession_on(succession, RESTART_ON_EXIT);
    bool ends_too =
        succession->restart.state == RESTART_STOPPED || succession->restart.state == RESTART_HANDED;
    if (ends_too && succession->config.hooks->exited != NULL)
        succession->config.hooks->exited(succession->config.arg);
}

/* ---- polling ---- */

static bool is_offering(const struct succession *succession)
{
    return succession->restart.state == RESTART_STARTING && !succession->all_offered;
}

void succession_poll(const struct succession *succession, struct pollfd fds[SUCCESSION_FDS])
{
    bool offering = is_offering(succession) && clock_now_ns() >= succession->crowded_until_ns;

    fds[0] = (struct pollfd){.fd = succession->channel,
                             .events = (short)(POLLIN | (offering ? POLLOUT : 0))};
    fds[1] = (struct pollfd){.fd = succession->child_stderr_fd, .events = POLLIN};
    fds[2] = (struct pollfd){.fd = succession->pid_fd, .events = POLLIN};
}

static bool may_pass(const struct succession *succession)
{
    const struct succession_hooks *hooks = succession->config.hooks;

    return succession->restart.state != RESTART_PROBATION || hooks->may_commit == NULL ||
           hooks->may_commit(succession->config.arg);
}

void succession_handle(struct succession *succession, const struct pollfd fds[SUCCESSION_FDS])
{
    if ((fds[0].revents & POLLOUT) != 0 && fds[0].fd == succession->channel &&
        !succession->all_offered)
        offer_listeners(succession);
    if ((fds[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
        succession_read_stderr(succession);
    if ((fds[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
        read_messages(succession);
    if ((fds[2].revents & POLLIN) != 0 && succession->pid > 0)
        see_exit(succession);
    if (clock_now_ns() >= succession->restart.due_ns && may_pass(succession))
        succession_on(succession, RESTART_ON_TIME);
}

uint64_t succession_due_ns(const struct succession *succession)
{
    uint64_t due_ns = succession->restart.due_ns;

    if (is_offering(succession) && succession->crowded_until_ns > clock_now_ns() &&
        succession->crowded_until_ns < due_ns)
        return succession->crowded_until_ns;
    return due_ns;
}

/* Carries out what the rules of a restart (restart.h) say; passes a stop on. */

#include "succession_p.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "kill.h"
#include "log.h"

void succession_init(struct succession *succession, const struct succession_config *config,
                     uint64_t generation)
{
    memset(succession, 0, sizeof(*succession));
    succession->config = *config;
    succession->generation = generation;
    succession->pid_fd = succession->channel = succession->child_stderr_fd = -1;
    succession->conns_fd = succession->stderr_fd = -1;
    restart_init(&succession->restart, &config->timing);
}

void succession_release(struct succession *succession)
{
    file_close(&succession->pid_fd);
    file_close(&succession->channel);
    file_close(&succession->child_stderr_fd);
    file_close(&succession->conns_fd);
    file_close(&succession->stderr_fd);
}

int succession_take_conns(struct succession *succession)
{
    int fd = succession->conns_fd;
    succession->conns_fd = -1;
    return fd;
}

void succession_take_child(struct succession *succession, pid_t *ret_pid, int *ret_pid_fd,
                           int *ret_channel)
{
    *ret_pid = succession->pid;
    *ret_pid_fd = succession->pid_fd;
    *ret_channel = succession->channel;
    succession->pid = 0;
    succession->pid_fd = succession->channel = -1;
}

/* ---- passing a stop on ---- */

int succession_try_stop(int channel, const struct succession_stop *stop)
{
    struct message message;

    handover_begin(&message, HANDOVER_STOP);
    message_put_number(&message, HANDOVER_SIGNALS, stop->signals);
    message_put_number(&message, HANDOVER_IS_FINAL, stop->is_final);
    if (stop->name != NULL) {
        message_put_text(&message, HANDOVER_TEXT, stop->name);
        message_put_text(&message, HANDOVER_DETAIL, stop->detail);
    }
    return channel >= 0 ? message_send(channel, &message) : -EPIPE;
}

void succession_send_stop(int channel, pid_t pid, const struct succession_stop *stop)
{
    if (succession_try_stop(channel, stop) != 0 && pid > 0)
        (void)kill_process(pid, SIGTERM, "process");
}

static void stop(const struct succession *succession)
{
    const struct succession_hooks *hooks = succession->config.hooks;

    log_line(
        LOG_LEVEL_WARN, "restart-stopped", NULL,
        "a stop came before process %ld had taken over: it already accepts, so it stops as well",
        (long)succession->pid);
    succession_send_stop(
        succession->channel, succession->pid,
        &(struct succession_stop){.signals = hooks->count_signals(succession->config.arg),
                                  .is_final = true});
}

void succession_hurry(struct succession *succession)
{
    uint64_t due_ns = clock_now_ns() + SUCCESSION_HURRY_NS;

    if (succession->restart.state == RESTART_LEAVING && due_ns < succession->restart.due_ns)
        succession->restart.due_ns = due_ns;
}

/* ---- what the rules (restart.h) say is done ---- */

static void happen(struct succession *succession, enum restart_event event);

static void start(struct succession *succession)
{
    succession_flush_stderr(succession);
    succession_release(succession);
    succession->spawn_error = succession_spawn(succession);
    if (succession->spawn_error != 0)
        succession_release(succession);
    if (succession->config.hooks->began != NULL)
        succession->config.hooks->began(succession->config.arg);
    if (succession->spawn_error != 0) {
        happen(succession, RESTART_ON_EXIT);
        return;
    }
    log_line(LOG_LEVEL_INFO, "restart-begun",
             json_pack("{s:I, s:I}", "pid", (json_int_t)succession->pid, "generation",
                       (json_int_t)(succession->generation + 1)),
             "starting generation %llu: process %ld",
             (unsigned long long)(succession->generation + 1), (long)succession->pid);
}

static void commit(struct succession *succession)
{
    struct message message;

    handover_begin(&message, HANDOVER_COMMIT);
    if (succession->config.hooks->commit != NULL)
        succession->config.hooks->commit(succession->config.arg, &message);
    int err = succession->channel >= 0 ? message_send(succession->channel, &message) : -EPIPE;
    if (err != 0) {
        succession->broken = err;
        happen(succession, RESTART_ON_BROKEN);
        return;
    }
    log_line(LOG_LEVEL_INFO, "restart-commit",
             json_pack("{s:I}", "pid", (json_int_t)succession->pid),
             "generation %llu may accept now: process %ld",
             (unsigned long long)(succession->generation + 1), (long)succession->pid);
}

static void pass_request_on(const struct succession *succession)
{
    struct message message;

    handover_begin(&message, HANDOVER_AGAIN);
    message_put_text(&message, HANDOVER_TEXT, "again");
    if (succession->channel < 0 || message_send(succession->channel, &message) != 0)
        (void)kill_process(succession->pid, SIGHUP, "the successor, process");
}

static void retire(struct succession *succession)
{
    succession->generation++;
    if (succession->config.hooks->serves != NULL)
        succession->config.hooks->serves(succession->config.arg);
    log_line(LOG_LEVEL_INFO, "restart-done",
             json_pack("{s:I, s:I}", "pid", (json_int_t)succession->pid, "generation",
                       (json_int_t)succession->generation),
             "generation %llu serves: process %ld", (unsigned long long)succession->generation,
             (long)succession->pid);
    /* Before retire(), after which this process may end: the successor carries out the next
     * restart. */
    if (succession->restart.state == RESTART_HANDED && restart_take_again(&succession->restart))
        pass_request_on(succession);
    succession->config.hooks->retire(succession->config.arg, succession);
}

void succession_refuse(const struct succession *succession, const char *why)
{
    log_line(LOG_LEVEL_WARN, "restart-refused", NULL, "no restart: %s", why);
    if (succession->config.hooks->refused != NULL)
        succession->config.hooks->refused(succession->config.arg, why);
}

static void give_up(const struct succession *succession)
{
    log_line(LOG_LEVEL_INFO, "restart-given-up", NULL,
             "the restart is cancelled: this process is stopping");
    if (succession->config.hooks->given_up != NULL)
        succession->config.hooks->given_up(succession->config.arg);
}

/* If this process may not kill it, close the channel: a successor that has not taken over then ends
 * by itself. */
static void end_successor(struct succession *succession)
{
    if (!kill_process(succession->pid, SIGKILL, "process"))
        file_close(&succession->channel);
}

static void happen(struct succession *succession, enum restart_event event)
{
    unsigned actions = restart_on(&succession->restart, event, clock_now_ns());

    if ((actions & RESTART_DO_REMEMBER) != 0)
        log_line(LOG_LEVEL_INFO, "restart-again", NULL,
                 "a restart is already under way: another one will follow");
    if ((actions & RESTART_DO_REFUSE) != 0)
        succession_refuse(succession, "this process is stopping");
    if ((actions & RESTART_DO_KILL) != 0 && event == RESTART_ON_STOP)
        give_up(succession);
    if ((actions & RESTART_DO_KILL) != 0 && succession->restart.state == RESTART_LEAVING)
        succession_log_kill(succession);
    if ((actions & RESTART_DO_KILL) != 0 && succession->pid > 0)
        end_successor(succession);
    if ((actions & RESTART_DO_STOP) != 0)
        stop(succession);
    if ((actions & RESTART_DO_TRANSFER) != 0 && succession->config.hooks->transfer != NULL)
        succession->config.hooks->transfer(succession->config.arg, succession);
    if ((actions & RESTART_DO_REPORT) != 0)
        succession_report(succession);
    if ((actions & RESTART_DO_RECLAIM) != 0 && succession->config.hooks->reclaim != NULL)
        succession->config.hooks->reclaim(succession->config.arg);
    if ((actions & RESTART_DO_RETIRE) != 0)
        retire(succession);
    if ((actions & RESTART_DO_COMMIT) != 0)
        commit(succession);
    if ((actions & RESTART_DO_SPAWN) != 0)
        start(succession);
    if (succession->pid == 0 && restart_take_again(&succession->restart))
        succession_request(succession, "again", "");
}

void succession_request(struct succession *succession, const char *trigger, const char *detail)
{
    log_line(
        LOG_LEVEL_INFO, "restart-asked",
        json_pack("{s:o, s:o}", "trigger", log_json_text(trigger), "detail", log_json_text(detail)),
        "%s%s%s: restart", trigger, detail[0] != '\0' ? " " : "", detail);
    if (succession->config.hooks->may_begin != NULL &&
        !succession->config.hooks->may_begin(succession->config.arg))
        return;
    happen(succession, RESTART_ON_REQUEST);
}

void succession_on(struct succession *succession, enum restart_event event)
{
    happen(succession, event);
}

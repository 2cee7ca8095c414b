#include <string.h>

#include "app_message.h"
#include "log.h"
#include "logfiles.h"
#include "pid_file.h"
#include "process.h"
#include "settings.h"

/* The restarter's callbacks: what a restart does in the predecessor and in the successor. */

static bool offer_listener(void *arg, size_t i, struct message *ret_message)
{
    struct process *process = arg;
    size_t of_server = server_listener_count(process->server);

    return i < of_server ? server_offer(process->server, i, ret_message)
                         : admin_offer(process->admin, i - of_server, ret_message);
}

static bool is_inherited(void *arg, size_t i)
{
    const struct process *process = arg;
    size_t of_server = server_listener_count(process->server);

    return i < of_server ? server_is_inherited(process->server, i)
                         : admin_is_inherited(process->admin, i - of_server);
}

static void describe(void *arg, struct message *message)
{
    const struct process *process = arg;

    uint64_t of_admin[8];

    server_describe(process->server, of_admin, admin_ids(process->admin, of_admin, 8), message);
    if (!process->predecessor.is_master)
        return;
    if (process->options->pid_file != NULL)
        message_put_text(message, HANDOVER_PID_FILE, process->options->pid_file);
    message_put_number(message, HANDOVER_TIMEOUT_NS, process->options->restart_timeout_ns);
    message_put_number(message, HANDOVER_PROBATION_NS, process->options->restart_probation_ns);
    message_put_number(message, HANDOVER_FORCE_AFTER_NS, process->options->force_after_ns);
    if (process->options->error_log != NULL)
        message_put_fd(message, STDERR_FILENO);
}

static bool describe_app(void *arg, struct message *ret_message)
{
    const struct process *process = arg;

    if (process->masters_app == NULL)
        return false;
    handover_begin(ret_message, HANDOVER_APP);
    app_message_put(process->masters_app, ret_message);
    return true;
}

static void hold(void *arg, bool hold)
{
    const struct process *process = arg;
    server_hold(process->server, hold);
}

static bool offer_key(void *arg, size_t i, struct message *ret_message)
{
    const struct process *process = arg;
    return server_offer_ticket_key(process->server, i, ret_message);
}

static void take_key(void *arg, const struct message *message)
{
    const struct process *process = arg;
    server_take_ticket_key(process->server, message);
}

/* At a start, and again when a successor has failed after it wrote its own pid. */
static void claim_pid_file(void *arg)
{
    const struct process *process = arg;
    const char *path = process->options->pid_file;

    if (path == NULL || process->predecessor.is_master || pid_file_names_us(path))
        return;
    int err = pid_file_write(path);
    if (err != 0)
        log_line(LOG_LEVEL_ERROR, "pid-file-failed", NULL, "cannot write the pid file %s: %s", path,
                 strerrordesc_np(-err));
}

void process_take_charge(struct process *process)
{
    server_open(process->server);
    admin_accept(process->admin);
    registration_begin(process->registration);
}

static void commit(void *arg)
{
    struct process *process = arg;

    process_take_charge(process);
    claim_pid_file(process);
    /* The log files may have been moved since this process opened them: until now the pid file
     * named the predecessor, so a signal to reopen them went there. From now on it comes here. */
    logfiles_follow(server_logfiles(process->server));
}

static void reopen(void *arg)
{
    const struct process *process = arg;
    logfiles_reopen(server_logfiles(process->server));
}

static int log_fd(void *arg)
{
    const struct process *process = arg;
    return process->options->error_log != NULL ? STDERR_FILENO : -1;
}

static void hand_over(void *arg, const uint64_t *taken, size_t taken_count, const uint64_t *welcome,
                      size_t welcome_count, int conns_fd)
{
    struct process *process = arg;

    admin_followed(process->admin, taken, taken_count);
    registration_hand_over(process->registration);
    server_followed(process->server, taken, taken_count, welcome, welcome_count, conns_fd);
}

static void transfer(void *arg, const uint64_t *taken, size_t taken_count)
{
    struct process *process = arg;

    admin_followed(process->admin, taken, taken_count);
    registration_hand_over(process->registration);
}

static const struct restarter_ops restarter_ops = {
    .offer = offer_listener,
    .is_inherited = is_inherited,
    .describe = describe,
    .describe_app = describe_app,
    .hold = hold,
    .offer_key = offer_key,
    .take_key = take_key,
    .commit = commit,
    .hand_over = hand_over,
    .reclaim = claim_pid_file,
    .reopen = reopen,
    .log_fd = log_fd,
    .transfer = transfer,
};

int process_start_restarter(struct process *process)
{
    const struct options *options = process->options;
    const struct drain_config drain = settings_drain(options);
    const struct restarter_config config = {
        .coord = process->coord,
        .predecessor = &process->predecessor,
        .timing = {.timeout_ns = options->restart_timeout_ns,
                   .probation_ns = options->restart_probation_ns},
        .argv = process->argv,
        .binary = process->binary,
        .stop_longest_ns = options->lame_duck_ns + drain_longest_ns(&drain) + options->linger_ns,
        .keep_fd = options->when_closed,
        .open_files = process->files.rlim_cur,
        .pid_file = options->pid_file,
        .pid_file_fd = pid_file_fd(),
        .ops = &restarter_ops,
        .arg = process,
    };
    int err = restarter_start(&config, &process->restarter);
    if (err == 0 && !process_owns_app(process))
        admin_set_restarter(process->admin, process->restarter);
    return err;
}

void process_leave_restarter(struct process *process)
{
    process->status = restarter_leave(process->restarter, process->status);
}

void process_stop_restarter(struct process *process)
{
    restarter_stop(process->restarter);
}

void process_reopen_logs(void *arg)
{
    const struct process *process = arg;

    logfiles_reopen(server_logfiles(process->server));
    restarter_logs_reopened(process->restarter);
}

void process_on_restart_signal(void *restarter, const char *name, const char *detail)
{
    restarter_request(restarter, name, detail);
}

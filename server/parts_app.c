#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "log.h"
#include "notify.h"
#include "process.h"

/* The application, `-- COMMAND`: our own, or a master's, who is told what the configuration says of
 * it (and tells us the rest: see restarter.c). */

/* ---- what it tells us, see app.h ---- */

static void hold(void *arg, bool hold)
{
    const struct process *process = arg;
    server_hold(process->server, hold);
}

static void say_ready(void *arg)
{
    const struct process *process = arg;

    if (coord_get_phase(process->coord) >= PHASE_CLOSING)
        return; /* a manager takes STOPPING for final */
    notify_send("READY=1\nSTATUS=serving\nMAINPID=%ld", (long)getpid());
}

static void drain_with_it(void *arg, const char *detail, int status)
{
    const struct process *process = arg;
    (void)coord_request_drain_ending(process->coord, "application", detail, status);
}

static bool is_closing(void *arg)
{
    const struct process *process = arg;
    return coord_get_phase(process->coord) >= PHASE_CLOSING;
}

static const struct app_ops app_ops = {
    .hold = hold,
    .up = say_ready,
    .ended = drain_with_it,
    .is_closing = is_closing,
};

/* ---- up and down ---- */

bool process_owns_app(const struct process *process)
{
    return process->options->command != NULL && !process->upstream.runs_app;
}

static int read_settings(const struct process *process, struct app_settings *ret_settings)
{
    const struct options *options = process->options;

    ret_settings->rules =
        (struct app_rules_config){.start_timeout_ns = options->app_start_timeout_ns,
                                  .grace_ns = options->app_grace_ns,
                                  .restart = options->app_restart};
    return server_app_target(process->server, &ret_settings->target, &ret_settings->port);
}

/* The master has it, which may be root while we are no more. */
static int describe_to_master(struct process *process)
{
    static struct app_settings settings;

    int err = read_settings(process, &settings);
    if (err == 0)
        err = app_user_get(&settings.user);
    settings.has_user = true;
    process->masters_app = &settings;
    return err;
}

static int start_own(struct process *process, char *at_fault, size_t size)
{
    const struct options *options = process->options;
    struct app_config config = {.argv = options->command,
                                .files = process->files,
                                .reaps = true,
                                .ops = &app_ops,
                                .arg = process};

    if (!app_wanted(&config))
        return 0;
    int err = options->command != NULL ? read_settings(process, &config.settings) : 0;
    if (err == 0)
        err = app_start(&config, &process->app);
    if (err == -EADDRINUSE)
        (void)snprintf(at_fault, size,
                       "something answers at %.100s already, where the application %.100s is to",
                       config.settings.target.name, options->command[0]);
    return err;
}

int process_start_app(struct process *process)
{
    static char at_fault[320];
    char *const *command = process->options->command;

    (void)snprintf(at_fault, sizeof(at_fault), "the application %.200s",
                   command != NULL ? command[0] : "(none)");
    process->at_fault = at_fault;
    if (command != NULL && !process_owns_app(process))
        return describe_to_master(process);
    return start_own(process, at_fault, sizeof(at_fault));
}

/* Nothing is in flight at it any more, or nothing is waited for. */
void process_leave_app(struct process *process)
{
    const struct app_rules_config rules = {.grace_ns = process->options->app_grace_ns};
    app_stop(process->app, app_rules_grace_ns(&rules, process_is_cut_short(process->status)));
}

void process_stop_app(struct process *process)
{
    app_destroy(process->app);
}

bool process_take_spare_signal(void *arg, int signo)
{
    struct process *process = arg;

    if (signo == SIGTERM || signo == SIGINT || signo == SIGQUIT) /* the drain is over */
        restarter_hurry(process->restarter);
    return process->app != NULL && app_signal(process->app, signo);
}

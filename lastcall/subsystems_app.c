#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "config.h"
#include "log.h"
#include "notify.h"
#include "process.h"

/* The application, `-- COMMAND`. This process starts it; or the master does, and this process sends
 * it the settings from the configuration (see restarter.c for what the master sends). */

/* ---- callbacks of app.h ---- */

static void hold(void *arg, bool hold)
{
    const struct process *process = arg;
    server_hold(process->server, hold);
}

static void notify_ready(void *arg)
{
    const struct process *process = arg;

    if (coord_get_phase(process->coord) >= PHASE_CLOSING)
        return; /* to systemd, STOPPING is final */
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
    .up = notify_ready,
    .ended = drain_with_it,
    .is_closing = is_closing,
};

/* ---- starting and stopping ---- */

bool process_owns_app(const struct process *process)
{
    return process->options->command != NULL && !process->predecessor.runs_app;
}

static int read_settings(const struct process *process, struct app_settings *ret_settings)
{
    const struct options *options = process->options;

    ret_settings->rules =
        (struct app_rules_config){.start_timeout_ns = options->app_start_timeout_ns,
                                  .grace_ns = options->app_grace_ns,
                                  .restart = options->app_restart};
    return config_app_target(options, &ret_settings->target, &ret_settings->port);
}

/* For the master, which starts it and may still be root: so it needs the user, too. */
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
    if (err == -EADDRINUSE && options->command != NULL)
        (void)snprintf(
            at_fault, size,
            "another program already answers at %.100s, the address of the application %.100s",
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

/* The drain is over: no request is in flight at the application, or none is waited for. */
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

    if (signo == SIGTERM || signo == SIGINT ||
        signo == SIGQUIT) /* after the drain: for the successor that this process waits for */
        restarter_hurry(process->restarter);
    return process->app != NULL && app_signal(process->app, signo);
}

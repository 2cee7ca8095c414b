/* The app thread: one turn of its loop, and what other threads order. */

#include "app_p.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "claim.h"
#include "kill.h"
#include "log.h"
#include "thread.h"
#include "wakeup.h"

#define GROUP_LOOK_NS (10 * NS_PER_MS)
#define DEATH_PATIENCE_NS (1 * NS_PER_S) /* until SIGKILL must have worked */

bool app_wanted(const struct app_config *config)
{
    return config->argv != NULL || getpid() == 1;
}

/* ---- the thread ---- */

/* Returns false when the thread must end. */
static bool take_orders(struct app *app)
{
    wakeup_drain(app->event_fd);
    (void)pthread_mutex_lock(&app->mu);
    bool stop = app->want_stop, leave = app->want_exit;
    uint64_t grace_ns = app->grace_ns;
    (void)pthread_mutex_unlock(&app->mu);
    app_take_rules(app);
    if (stop)
        app_carry_out(app, app_rules_stop(&app->rules, clock_now_ns(), grace_ns));
    return !leave;
}

static int patience_ms(const struct app *app)
{
    uint64_t now_ns = clock_now_ns(), at_ns = app->rules.until_ns;

    if (app->rules.state == APP_STARTING && app->probe_at_ns < at_ns)
        at_ns = app->probe_at_ns;
    if (app->rules.state == APP_STOPPING && app->pid_fd < 0 && now_ns + GROUP_LOOK_NS < at_ns)
        at_ns = now_ns + GROUP_LOOK_NS;
    return clock_poll_ms(now_ns, at_ns);
}

static void begin(struct app *app)
{
    int err = 0;

    app_rules_init(&app->rules, &app->config.settings.rules, clock_now_ns());
    if (app->config.argv != NULL)
        err = app_spawn(app);
    if (app->config.argv == NULL || err != 0) /* orphans may still come */
        app_rules_init_gone(&app->rules);
    (void)pthread_mutex_lock(&app->mu);
    app->start_error = err;
    app->gone = app->rules.state == APP_GONE;
    app->started = true;
    (void)pthread_cond_broadcast(&app->changed);
    (void)pthread_mutex_unlock(&app->mu);
}

static void *app_thread(void *arg)
{
    struct app *app = arg;

    begin(app);
    for (;;) {
        struct pollfd fds[] = {
            {.fd = app->event_fd, .events = POLLIN},
            {.fd = app->pid_fd, .events = POLLIN},
            {.fd = app->orphans_fd, .events = POLLIN},
            {.fd = app->probe.fd, .events = app->probe.events},
        };

        (void)poll(fds, sizeof(fds) / sizeof(fds[0]), patience_ms(app));
        app_check_leader(app); /* first: a process that ended before our SIGTERM ended by itself */
        app_reap_orphans(app);
        if (fds[0].revents != 0 && !take_orders(app))
            return NULL;
        app_watch(app, fds[3].revents);
        app_carry_out(app, app_rules_look(&app->rules, clock_now_ns()));
        app_check_group(app);
    }
}

/* ---- for other threads ---- */

static int watch_orphans(struct app *app)
{
    sigset_t set;

    (void)prctl(PR_SET_CHILD_SUBREAPER, 1); /* process 1 does not need it */
    if (!app->config.reaps)
        return 0;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD); /* blocked by signals_block() */
    app->orphans_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return app->orphans_fd < 0 ? -errno : 0;
}

static int run_thread(struct app *app)
{
    int err = thread_start(&app->thread, "app", app_thread, app);
    if (err != 0)
        return err;
    app->runs_thread = true;
    (void)pthread_mutex_lock(&app->mu);
    while (!app->started)
        (void)pthread_cond_wait(&app->changed, &app->mu);
    err = app->start_error;
    (void)pthread_mutex_unlock(&app->mu);
    return err;
}

int app_start(const struct app_config *config, struct app **ret_app)
{
    if (config->argv != NULL && app_address_is_taken(&config->settings.target, NULL))
        return -EADDRINUSE;
    struct app *app = calloc(1, sizeof(*app));
    if (app == NULL)
        return -ENOMEM;
    app->config = *config;
    app->pid_fd = app->orphans_fd = -1;
    app->held = config->argv != NULL;
    probe_init(&app->probe);
    (void)pthread_mutex_init(&app->mu, NULL);
    clock_cond_init(&app->changed);
    if (config->settings.port != 0)
        (void)snprintf(app->port, sizeof(app->port), "PORT=%u", config->settings.port);
    app->picked_port = getenv(APP_PORT_ENVIRONMENT) != NULL;
    app->environment = app_make_environment(app->port, app->picked_port);
    app->event_fd = wakeup_open();
    int err = app->environment == NULL ? -ENOMEM
              : app->event_fd < 0      ? app->event_fd
                                       : watch_orphans(app);
    if (err == 0)
        err = run_thread(app);
    if (err != 0) {
        app_destroy(app);
        return err;
    }
    *ret_app = app;
    return 0;
}

bool app_signal(struct app *app, int signo)
{
    bool ends = signo == SIGINT || signo == SIGTERM || signo == SIGQUIT;

    (void)pthread_mutex_lock(&app->mu);
    bool any = app->leader != 0 || (app->want_stop && !app->gone);
    if (ends && app->want_stop)
        app->grace_ns = 0;
    else if (!ends && app->leader != 0)
        (void)kill_process(-app->leader, signo, "the application");
    (void)pthread_mutex_unlock(&app->mu);
    wakeup_ring(app->event_fd);
    return any;
}

void app_set_rules(struct app *app, const struct app_rules_config *rules)
{
    (void)pthread_mutex_lock(&app->mu);
    app->new_rules = *rules;
    app->want_rules = true;
    (void)pthread_mutex_unlock(&app->mu);
    wakeup_ring(app->event_fd);
}

uint64_t app_begin_stop(struct app *app, uint64_t grace_ns)
{
    (void)pthread_mutex_lock(&app->mu);
    app->grace_ns = grace_ns;
    app->want_stop = true;
    (void)pthread_mutex_unlock(&app->mu);
    wakeup_ring(app->event_fd);
    return clock_now_ns() + grace_ns + DEATH_PATIENCE_NS;
}

void app_stop(struct app *app, uint64_t grace_ns)
{
    int err = 0;

    if (app == NULL)
        return;
    struct timespec until = clock_timespec(app_begin_stop(app, grace_ns));
    (void)pthread_mutex_lock(&app->mu);
    while (!app->gone && err == 0)
        err = pthread_cond_timedwait(&app->changed, &app->mu, &until);
    bool gone = app->gone;
    (void)pthread_mutex_unlock(&app->mu);
    if (!gone)
        log_line(LOG_LEVEL_ERROR, "app-immortal", NULL,
                 "application %s does not end, even after SIGKILL: it is left to the system",
                 app_name(app));
}

void app_destroy(struct app *app)
{
    if (app == NULL)
        return;
    if (app->runs_thread) {
        (void)pthread_mutex_lock(&app->mu);
        app->want_exit = true;
        wakeup_ring(app->event_fd);
        (void)pthread_mutex_unlock(&app->mu);
        (void)pthread_join(app->thread, NULL);
    }
    claims_reaper_ends();
    probe_end(&app->probe);
    if (app->pid_fd >= 0)
        (void)close(app->pid_fd);
    if (app->orphans_fd >= 0)
        (void)close(app->orphans_fd);
    if (app->event_fd >= 0)
        (void)close(app->event_fd);
    free(app->environment);
    (void)pthread_cond_destroy(&app->changed);
    (void)pthread_mutex_destroy(&app->mu);
    free(app);
}

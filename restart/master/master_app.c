#include "master_app.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "app.h"
#include "app_message.h"
#include "clock.h"
#include "log.h"
#include "signals.h"
#include "wakeup.h"

struct master_app {
    /* main thread */
    char *const *command;
    struct app *app; /* NULL: not started */
    struct app_settings settings;
    struct app_settings received; /* from the worker that is starting */
    bool has_received;
    bool is_stopping;
    uint64_t stopped_ns; /* when even SIGKILL must have worked */
    struct master_app_state state;
    int event_fd; /* `news` has changed */
    /* mu */
    pthread_mutex_t mu;
    struct master_app_state news; /* the state, as the app thread reports it */
    bool end_is_expected;
};

/* ---- on the app thread, see app.h ---- */

static void wake(struct master_app *app)
{
    wakeup_ring(app->event_fd);
}

static void on_hold(void *arg, bool hold)
{
    struct master_app *app = arg;

    (void)pthread_mutex_lock(&app->mu);
    app->news.holds = hold;
    (void)pthread_mutex_unlock(&app->mu);
    wake(app);
}

static void on_up(void *arg)
{
    struct master_app *app = arg;

    (void)pthread_mutex_lock(&app->mu);
    app->news.was_up = true;
    (void)pthread_mutex_unlock(&app->mu);
    wake(app);
}

static void on_ended(void *arg, const char *detail, int status)
{
    struct master_app *app = arg;

    (void)pthread_mutex_lock(&app->mu);
    app->news.has_ended = true;
    app->news.status = status;
    (void)snprintf(app->news.detail, sizeof(app->news.detail), "%s", detail);
    (void)pthread_mutex_unlock(&app->mu);
    wake(app);
}

static void on_gone(void *arg)
{
    struct master_app *app = arg;

    (void)pthread_mutex_lock(&app->mu);
    app->news.is_gone = true;
    (void)pthread_mutex_unlock(&app->mu);
    wake(app);
}

static bool is_closing(void *arg)
{
    struct master_app *app = arg;

    (void)pthread_mutex_lock(&app->mu);
    bool expected = app->end_is_expected;
    (void)pthread_mutex_unlock(&app->mu);
    return expected;
}

static const struct app_ops ops = {
    .hold = on_hold,
    .up = on_up,
    .ended = on_ended,
    .gone = on_gone,
    .is_closing = is_closing,
};

/* ---- start ---- */

int master_app_create(char *const *command, struct master_app **ret_app)
{
    int err = command != NULL ? signals_spare_children() : 0;

    *ret_app = NULL;
    if (command == NULL || err != 0)
        return err;
    struct master_app *app = calloc(1, sizeof(*app));
    if (app == NULL)
        return -ENOMEM;
    app->command = command;
    app->state.is_gone = true;
    (void)pthread_mutex_init(&app->mu, NULL);
    app->event_fd = wakeup_open();
    if (app->event_fd < 0) {
        err = app->event_fd;
        master_app_destroy(app);
        return err;
    }
    *ret_app = app;
    return 0;
}

void master_app_begin_worker(struct master_app *app)
{
    if (app != NULL)
        app->has_received = false;
}

void master_app_receive(struct master_app *app, const struct message *message)
{
    if (app != NULL)
        app->has_received = app_message_get(message, &app->received) == 0;
}

static void log_start_error(const struct master_app *app, int err)
{
    if (err == -EADDRINUSE)
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL,
                 "cannot start: another program already answers at %s, the address of the "
                 "application %s: %s",
                 app->settings.target.name, app->command[0], strerrordesc_np(-err));
    else
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "cannot start: the application %s: %s",
                 app->command[0], strerrordesc_np(-err));
}

int master_app_start(struct master_app *app)
{
    if (app == NULL || app->app != NULL || !app->has_received)
        return 0;
    app->settings = app->received;
    struct app_config config = {
        .argv = app->command, .settings = app->settings, .ops = &ops, .arg = app};
    (void)getrlimit(RLIMIT_NOFILE, &config.files); /* this process has not raised the limit */
    app->news = app->state = (struct master_app_state){.holds = true};
    int err = app_start(&config, &app->app);
    if (err != 0) {
        app->app = NULL;
        app->news = app->state = (struct master_app_state){.is_gone = true};
        log_start_error(app, err);
    }
    return err;
}

static bool is_same_user(const struct app_user *a, const struct app_user *b)
{
    return a->uid == b->uid && a->gid == b->gid && a->group_count == b->group_count &&
           memcmp(a->groups, b->groups, a->group_count * sizeof(a->groups[0])) == 0;
}

static void log_differences(const struct app_settings *is, const struct app_settings *wanted)
{
    if (strcmp(is->target.name, wanted->target.name) != 0)
        log_line(LOG_LEVEL_WARN, "app-elsewhere", NULL,
                 "requests now go to %s, but the application was started to answer at %s, and a "
                 "restart does not restart it: stop lastcall and start it again",
                 wanted->target.name, is->target.name);
    else if (strcmp(is->target.request, wanted->target.request) != 0)
        log_line(LOG_LEVEL_WARN, "app-elsewhere", NULL,
                 "app.health has changed, but the application is probed as before: stop lastcall "
                 "and start it again");
    if (!is_same_user(&is->user, &wanted->user))
        log_line(LOG_LEVEL_WARN, "app-elsewhere", NULL,
                 "the user is now number %lu (group %lu), but the application runs as %lu (group "
                 "%lu), and a restart does not restart it: stop lastcall and start it again",
                 (unsigned long)wanted->user.uid, (unsigned long)wanted->user.gid,
                 (unsigned long)is->user.uid, (unsigned long)is->user.gid);
}

void master_app_apply(struct master_app *app)
{
    if (app == NULL || app->app == NULL || !app->has_received)
        return;
    log_differences(&app->settings, &app->received);
    app->settings.rules = app->received.rules;
    app_set_rules(app->app, &app->settings.rules);
}

/* ---- messages to the workers ---- */

void master_app_commit(const struct master_app *app, struct message *message, bool *ret_sent_hold)
{
    if (app == NULL)
        return;
    *ret_sent_hold = app->state.holds;
    message_put_number(message, HANDOVER_WAIT, app->state.holds);
}

bool master_app_send_hold(const struct master_app *app, int channel, bool *sent_hold)
{
    struct message message;

    if (app == NULL || channel < 0 || *sent_hold == app->state.holds)
        return true;
    handover_begin(&message, HANDOVER_HOLD);
    message_put_number(&message, HANDOVER_WAIT, app->state.holds);
    if (message_send(channel, &message) == -EAGAIN)
        return false;
    *sent_hold = app->state.holds; /* sent, or the worker has ended */
    return true;
}

int master_app_send_end(const struct master_app *app, int channel)
{
    struct message message;

    handover_begin(&message, HANDOVER_DRAIN);
    message_put_text(&message, HANDOVER_DETAIL, app->state.detail);
    message_put_number(&message, HANDOVER_STATUS, (uint64_t)app->state.status);
    return message_send(channel, &message);
}

/* ---- state ---- */

int master_app_fd(const struct master_app *app)
{
    return app != NULL ? app->event_fd : -1;
}

const struct master_app_state *master_app_poll(struct master_app *app)
{
    static const struct master_app_state none = {.is_gone = true};

    if (app == NULL)
        return &none;
    wakeup_drain(app->event_fd); /* before reading `news`, or a change is missed */
    if (app->app != NULL) {
        (void)pthread_mutex_lock(&app->mu);
        app->state = app->news;
        (void)pthread_mutex_unlock(&app->mu);
    }
    return &app->state;
}

bool master_app_is_up(const struct master_app *app)
{
    return app == NULL || app->app == NULL || app->state.was_up;
}

/* ---- stop ---- */

void master_app_expect_end(struct master_app *app, bool expected)
{
    if (app == NULL)
        return;
    (void)pthread_mutex_lock(&app->mu);
    app->end_is_expected = expected;
    (void)pthread_mutex_unlock(&app->mu);
}

void master_app_signal(struct master_app *app, int signo)
{
    if (app != NULL && app->app != NULL)
        (void)app_signal(app->app, signo);
}

bool master_app_is_stopped(struct master_app *app, bool was_cut_short)
{
    if (app == NULL || app->app == NULL)
        return true;
    if (!app->is_stopping) {
        app->is_stopping = true;
        app->stopped_ns =
            app_begin_stop(app->app, app_rules_grace_ns(&app->settings.rules, was_cut_short));
    }
    if (app->state.is_gone)
        return true;
    if (clock_now_ns() < app->stopped_ns)
        return false;
    app_stop(app->app, 0); /* logs that it does not end */
    return true;
}

uint64_t master_app_due_ns(const struct master_app *app)
{
    return app != NULL && app->is_stopping ? app->stopped_ns : CLOCK_NEVER;
}

void master_app_destroy(struct master_app *app)
{
    if (app == NULL)
        return;
    app_destroy(app->app);
    if (app->event_fd >= 0)
        (void)close(app->event_fd);
    (void)pthread_mutex_destroy(&app->mu);
    free(app);
}

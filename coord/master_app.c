#include "master_app.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "app.h"
#include "clock.h"
#include "log.h"
#include "signals.h"

struct master_app {
    /* main thread */
    char *const *command;
    struct app *app; /* NULL: not started */
    struct app_settings settings;
    struct app_settings heard; /* of the worker that comes */
    bool has_heard;
    bool is_stopping;
    uint64_t stopped_ns; /* when to give it up */
    struct master_app_state state;
    int event_fd; /* there is news */
    /* mu */
    pthread_mutex_t mu;
    struct master_app_state news; /* as the app thread has it */
    bool end_is_expected;
};

/* ---- on the app thread, see app.h ---- */

static void wake(struct master_app *app)
{
    const uint64_t one = 1;
    (void)!write(app->event_fd, &one, sizeof(one));
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

/* ---- coming up ---- */

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
    app->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (app->event_fd < 0) {
        err = -errno;
        master_app_destroy(app);
        return err;
    }
    *ret_app = app;
    return 0;
}

void master_app_forget(struct master_app *app)
{
    if (app != NULL)
        app->has_heard = false;
}

void master_app_hear(struct master_app *app, const struct handover_message *message)
{
    if (app != NULL)
        app->has_heard = app_settings_get(message, &app->heard) == 0;
}

static void say_why(const struct master_app *app, int err)
{
    if (err == -EADDRINUSE)
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL,
                 "cannot start: something answers at %s already, where the application %s is to: "
                 "%s",
                 app->settings.target.name, app->command[0], strerrordesc_np(-err));
    else
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "cannot start: the application %s: %s",
                 app->command[0], strerrordesc_np(-err));
}

int master_app_start(struct master_app *app)
{
    if (app == NULL || app->app != NULL || !app->has_heard)
        return 0;
    app->settings = app->heard;
    struct app_config config = {
        .argv = app->command, .settings = app->settings, .ops = &ops, .arg = app};
    (void)getrlimit(RLIMIT_NOFILE, &config.files); /* this process has not raised it */
    app->news = app->state = (struct master_app_state){.holds = true};
    int err = app_start(&config, &app->app);
    if (err != 0) {
        app->app = NULL;
        app->news = app->state = (struct master_app_state){.is_gone = true};
        say_why(app, err);
    }
    return err;
}

static bool is_same_user(const struct app_user *a, const struct app_user *b)
{
    return a->uid == b->uid && a->gid == b->gid && a->group_count == b->group_count &&
           memcmp(a->groups, b->groups, a->group_count * sizeof(a->groups[0])) == 0;
}

static void say_what_differs(const struct app_settings *is, const struct app_settings *wanted)
{
    if (strcmp(is->target.name, wanted->target.name) != 0)
        log_line(LOG_LEVEL_WARN, "app-elsewhere", NULL,
                 "requests go to %s now, and the application was started to answer at %s: it is "
                 "not restarted; stop lastcall and start it again",
                 wanted->target.name, is->target.name);
    else if (strcmp(is->target.request, wanted->target.request) != 0)
        log_line(LOG_LEVEL_WARN, "app-elsewhere", NULL,
                 "app.health is another one now: whether the application answers is found out as "
                 "before; stop lastcall and start it again");
    if (!is_same_user(&is->user, &wanted->user))
        log_line(LOG_LEVEL_WARN, "app-elsewhere", NULL,
                 "the user is number %lu now (group %lu), and the application runs as %lu (group "
                 "%lu): it is not restarted; stop lastcall and start it again",
                 (unsigned long)wanted->user.uid, (unsigned long)wanted->user.gid,
                 (unsigned long)is->user.uid, (unsigned long)is->user.gid);
}

void master_app_settle(struct master_app *app)
{
    if (app == NULL || app->app == NULL || !app->has_heard)
        return;
    say_what_differs(&app->settings, &app->heard);
    app->settings.rules = app->heard.rules;
    app_set_rules(app->app, &app->settings.rules);
}

/* ---- what the workers are told ---- */

void master_app_commit(const struct master_app *app, struct handover_message *message,
                       bool *ret_told_hold)
{
    if (app == NULL)
        return;
    *ret_told_hold = app->state.holds;
    handover_put_number(message, HANDOVER_WAIT, app->state.holds);
}

bool master_app_tell(const struct master_app *app, int channel, bool *told_hold)
{
    struct handover_message message;

    if (app == NULL || channel < 0 || *told_hold == app->state.holds)
        return true;
    handover_begin(&message, HANDOVER_HOLD);
    handover_put_number(&message, HANDOVER_WAIT, app->state.holds);
    if (handover_send(channel, &message) == -EAGAIN)
        return false;
    *told_hold = app->state.holds; /* or it is gone */
    return true;
}

int master_app_tell_end(const struct master_app *app, int channel)
{
    struct handover_message message;

    handover_begin(&message, HANDOVER_DRAIN);
    handover_put_text(&message, HANDOVER_DETAIL, app->state.detail);
    handover_put_number(&message, HANDOVER_STATUS, (uint64_t)app->state.status);
    return handover_send(channel, &message);
}

/* ---- how it fares ---- */

int master_app_fd(const struct master_app *app)
{
    return app != NULL ? app->event_fd : -1;
}

const struct master_app_state *master_app_look(struct master_app *app)
{
    static const struct master_app_state none = {.is_gone = true};
    uint64_t count;

    if (app == NULL)
        return &none;
    (void)!read(app->event_fd, &count, sizeof(count)); /* before looking, or news is missed */
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

/* ---- going down ---- */

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
    app_stop(app->app, 0); /* the last that can be done, and says so */
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

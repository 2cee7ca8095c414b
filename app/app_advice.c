/* Carries out what the rules of the application (app_rules.h) advise, and reports to its owner. */

#include "app_p.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "exit_status.h"
#include "log.h"

void app_tell_hold(struct app *app)
{
    bool hold = app->config.argv != NULL && app_rules_hold(&app->rules);
    if (hold == app->held)
        return;
    app->held = hold;
    app->config.ops->hold(app->config.arg, hold);
}

static void report_end(struct app *app)
{
    bool has_failed = app->rules.end == APP_END_EARLY || app->rules.end == APP_END_BACKGROUND;
    char detail[96], text[48];

    if (app->rules.end == APP_END_TIMEOUT) {
        char waited[CLOCK_TEXT_SIZE];
        (void)clock_format_duration(app->rules.config.start_timeout_ns, waited);
        log_line(LOG_LEVEL_ERROR, "app-never-up", NULL,
                 "application %s did not answer at %s within %s (%s): giving up; does it listen "
                 "there%s? --app-start-timeout gives it longer",
                 app_name(app), app->config.settings.target.name, waited,
                 app->probe.why[0] != '\0' ? app->probe.why : "no answer",
                 app->picked_port ? ", on the port that PORT says" : "");
        (void)snprintf(detail, sizeof(detail), "did not answer at %.40s within %s",
                       app->config.settings.target.name, waited);
        app->config.ops->ended(app->config.arg, detail, EXIT_STATUS_UNAVAILABLE);
        return;
    }
    (void)snprintf(detail, sizeof(detail), "%.40s %s%s", app_name(app),
                   app_describe_end(app->status, text),
                   app->rules.end == APP_END_EARLY        ? ", before it answered"
                   : app->rules.end == APP_END_BACKGROUND ? ", and went into the background"
                                                          : "");
    app->config.ops->ended(app->config.arg, detail,
                           has_failed ? EXIT_STATUS_UNAVAILABLE : app->status);
}

/* Once: wake app_stop(), call gone(). */
static void report_gone(struct app *app)
{
    (void)pthread_mutex_lock(&app->mu);
    bool news = !app->gone;
    app->gone = true;
    (void)pthread_cond_broadcast(&app->changed);
    (void)pthread_mutex_unlock(&app->mu);
    if (news && app->config.ops->gone != NULL)
        app->config.ops->gone(app->config.arg);
}

void app_carry_out(struct app *app, unsigned advice)
{
    char grace[CLOCK_TEXT_SIZE];
    uint64_t now_ns = clock_now_ns();

    if (advice & APP_DO_TERM) {
        uint64_t for_ns = app->rules.until_ns > now_ns ? app->rules.until_ns - now_ns : 0;
        log_line(LOG_LEVEL_INFO, "app-stopping", json_pack("{s:I}", "pid", (json_int_t)app->group),
                 "stopping the application: SIGTERM to process group %ld, SIGKILL in %s",
                 (long)app->group, clock_format_duration(for_ns, grace));
        app->term_sent_ns = now_ns;
        app_signal_group(app, SIGTERM);
    }
    if (advice & APP_DO_KILL) {
        log_line(LOG_LEVEL_WARN, "app-killed", json_pack("{s:I}", "pid", (json_int_t)app->group),
                 "application %s still runs after %s: SIGKILL to process group %ld", app_name(app),
                 clock_format_duration(
                     now_ns - (app->term_sent_ns != 0 ? app->term_sent_ns : app->rules.entered_ns),
                     grace),
                 (long)app->group);
        app_signal_group(app, SIGKILL);
    }
    if (advice & APP_DO_DRAIN)
        report_end(app);
    if (advice & APP_DO_SPAWN) {
        int err = app_spawn(app);
        if (err != 0) {
            log_line(LOG_LEVEL_ERROR, "app-failed", NULL, "cannot start the application %s: %s",
                     app_name(app), strerrordesc_np(-err));
            app->status = 127; /* as a shell reports it */
            app_ended(app);
        }
    }
    app_tell_hold(app);
    if (app->rules.state == APP_GONE)
        report_gone(app);
}

void app_after_end(struct app *app, unsigned advice)
{
    app->group = 0;
    if (app->rules.state == APP_BACKOFF) {
        char pause[CLOCK_TEXT_SIZE];
        log_line(LOG_LEVEL_INFO, "app-backoff", NULL,
                 "starting the application %s again in %s; requests for it wait", app_name(app),
                 clock_format_duration(app->rules.until_ns - app->rules.entered_ns, pause));
    }
    app_carry_out(app, advice);
}

void app_ended(struct app *app)
{
    unsigned advice = app_rules_ended(&app->rules, clock_now_ns());
    app_tell_hold(app);
    app_after_end(app, advice);
}

void app_take_rules(struct app *app)
{
    (void)pthread_mutex_lock(&app->mu);
    if (app->want_rules)
        app_rules_configure(&app->rules, &app->new_rules);
    app->want_rules = false;
    (void)pthread_mutex_unlock(&app->mu);
}

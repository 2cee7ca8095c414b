/* Does the application answer? Probes its address while it starts, and before. */

#include "app_p.h"

#include <poll.h>
#include <string.h>

#include "log.h"

#define PROBE_PAUSE_MOST_NS (250 * NS_PER_MS)
#define PROBE_PATIENCE_NS (2 * NS_PER_S)
#define TAKEN_PATIENCE_MS 200

static void on_answer(struct app *app, uint64_t now_ns)
{
    char took[CLOCK_TEXT_SIZE];

    log_line(LOG_LEVEL_INFO, "app-up", NULL, "application %s answers at %s after %s", app_name(app),
             app->config.settings.target.name,
             clock_format_duration(now_ns - app->rules.entered_ns, took));
    app_carry_out(app, app_rules_answered(&app->rules, now_ns));
    if (!app->said_up && app->rules.state == APP_UP) {
        app->said_up = true;
        app->config.ops->up(app->config.arg);
    }
}

void app_watch(struct app *app, short seen)
{
    uint64_t now_ns = clock_now_ns();
    enum probe_result result = PROBE_FAILED;

    if (app->rules.state != APP_STARTING || app->pid_fd < 0) {
        probe_end(&app->probe);
        return;
    }
    if (app->probe.fd >= 0 && seen != 0) {
        result = probe_go_on(&app->probe, &app->config.settings.target);
        if (result == PROBE_PENDING)
            return;
    } else if (now_ns < app->probe_at_ns) {
        return;
    } else if (app->probe.fd >= 0) {
        (void)strcpy(app->probe.why, "it accepts connections, but does not answer");
        probe_end(&app->probe);
    } else {
        result = probe_begin(&app->probe, &app->config.settings.target);
    }
    if (result == PROBE_ANSWERED) {
        on_answer(app, now_ns);
    } else if (result == PROBE_PENDING) {
        app->probe_at_ns = now_ns + PROBE_PATIENCE_NS;
    } else {
        app->probe_at_ns = now_ns + app->probe_pause_ns;
        app->probe_pause_ns = app->probe_pause_ns * 2 < PROBE_PAUSE_MOST_NS
                                  ? app->probe_pause_ns * 2
                                  : PROBE_PAUSE_MOST_NS;
    }
}

bool app_is_to_stop(struct app *app)
{
    (void)pthread_mutex_lock(&app->mu);
    bool stops = app->want_stop || app->want_exit;
    (void)pthread_mutex_unlock(&app->mu);
    return stops || app->config.ops->is_closing(app->config.arg);
}

static bool has_event(struct pollfd *fd, struct app *app)
{
    for (int left_ms = TAKEN_PATIENCE_MS; left_ms > 0; left_ms -= APP_STOP_LOOK_MS) {
        if (poll(fd, 1, APP_STOP_LOOK_MS) == 1)
            return true;
        if (app != NULL && app_is_to_stop(app))
            return false;
    }
    return false;
}

/* Another program that answers there would be mistaken for the application. */
bool app_address_is_taken(const struct probe_target *target, struct app *app)
{
    struct probe_target bare = *target;
    struct probe probe;
    bool taken = false;

    bare.request[0] = '\0';
    probe_init(&probe);
    for (size_t i = 0; i < bare.count && !taken; i++) {
        if (probe_begin(&probe, &bare) != PROBE_PENDING)
            continue;
        struct pollfd fd = {.fd = probe.fd, .events = POLLOUT};
        taken = has_event(&fd, app) && probe_go_on(&probe, &bare) == PROBE_ANSWERED;
        probe_end(&probe);
    }
    return taken;
}

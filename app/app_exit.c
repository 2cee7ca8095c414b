/* The end of the application's process: the leader's status, what is left of its group, orphans.
 *
 * Group note. The application's process leads a process group, and its children are in it. After
 * SIGTERM, processes that outlive the leader have the rest of the grace: a shell dies at once, and
 * the server that it started finishes. When the leader has ended by itself, the rest is killed,
 * because it would keep the port. We reap orphans of the group, so zombies do not make an ended
 * group look alive. The kernel does not reuse the leader's pid while the group has a process, so
 * kill(2) of the group never meets another group; when the group is empty, kill(2) fails. */

#include "app_p.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "claim.h"
#include "exit_status.h"
#include "kill.h"
#include "log.h"

#define DYING_NS (1 * NS_PER_S) /* far longer than a killed process needs to close its sockets */

/* What the end means for its requests, or why it is one that should not be. */
static const char *consequence(const struct app *app, enum app_state was)
{
    if (app->term_sent_ns != 0)
        return " after SIGTERM";
    if (app->rules.end == APP_END_BACKGROUND)
        return ", but something still answers at its address: it runs in the background, where it "
               "cannot be stopped after the requests; have it stay in the foreground";
    if (was == APP_STARTING)
        return app->status != 0 ? ", before it answered"
                                : ", before it answered: if it runs in the background now, have it "
                                  "stay in the foreground";
    if (app->config.ops->is_closing(app->config.arg))
        return ", before the drain was over: requests that it had are answered 502";
    return ": requests that it had are answered 502";
}

static void log_end(const struct app *app, pid_t pid, enum app_state was)
{
    bool asked = app->term_sent_ns != 0;
    bool has_failed = app->rules.end == APP_END_EARLY || app->rules.end == APP_END_BACKGROUND;
    enum log_level level = asked ? LOG_LEVEL_INFO : has_failed ? LOG_LEVEL_ERROR : LOG_LEVEL_WARN;
    char text[48], took[CLOCK_TEXT_SIZE] = "";

    if (asked)
        (void)clock_format_duration(clock_now_ns() - app->term_sent_ns, took);
    log_line(level, "app-ended",
             json_pack("{s:I, s:i}", "pid", (json_int_t)pid, "status", app->status),
             "application %s (process %ld) %s%s%s%s", app_name(app), (long)pid,
             app_describe_end(app->status, text), asked ? ", " : "", took, consequence(app, was));
}

/* An application that daemonizes: its process has ended with status 0, what is left of its group
 * was killed, and its address still answers. A socket of the group closes with the last process
 * that was killed, a moment later. A stop does not wait for that. */
static bool went_background(struct app *app)
{
    uint64_t until_ns = clock_now_ns() + DYING_NS;

    if (app->status != 0)
        return false;
    while (!app_is_to_stop(app) && app_address_is_taken(&app->config.settings.target, app)) {
        if (clock_now_ns() >= until_ns)
            return true;
        (void)poll(NULL, 0, APP_STOP_LOOK_MS);
    }
    return false;
}

/* The leader has ended: `info` comes from waitid(2) with WNOWAIT, so it is not reaped yet. */
static void on_leader_end(struct app *app, const siginfo_t *info)
{
    siginfo_t waste;
    pid_t pid = info->si_pid;

    enum app_state was = app->rules.state;
    unsigned advice = APP_DO_NOTHING;

    app->status = info->si_code == CLD_EXITED ? info->si_status : 128 + info->si_status;
    app_take_rules(app); /* they were set before the process ended */
    if (was != APP_STOPPING) {
        app_signal_group(app, SIGKILL); /* before it is reaped: the pid is still its own */
        advice = went_background(app) ? app_rules_went_background(&app->rules, clock_now_ns())
                                      : app_rules_ended(&app->rules, clock_now_ns());
        app_tell_hold(app); /* before the log line: requests that come now wait */
    }
    (void)pthread_mutex_lock(&app->mu);
    while (waitid(P_PID, (id_t)pid, &waste, WEXITED) < 0 && errno == EINTR)
        ;
    app->leader = 0;
    (void)pthread_mutex_unlock(&app->mu);
    (void)close(app->pid_fd);
    app->pid_fd = -1;
    probe_end(&app->probe);
    log_end(app, pid, was);
    if (was != APP_STOPPING)
        app_after_end(app, advice);
}

/* See group note. No event says that a group has become empty, so this polls. */
void app_check_group(struct app *app)
{
    if (app->rules.state != APP_STOPPING || app->pid_fd >= 0 || app->group == 0)
        return;
    if (app->rules.killed || !kill_finds(-app->group))
        app_ended(app);
}

void app_check_leader(struct app *app)
{
    siginfo_t info = {0};

    if (app->group == 0 || app->pid_fd < 0)
        return;
    if (waitid(P_PID, (id_t)app->group, &info, WEXITED | WNOHANG | WNOWAIT) == 0) {
        if (info.si_pid != 0)
            on_leader_end(app, &info);
        return;
    }
    if (errno != ECHILD)
        return;
    log_line(LOG_LEVEL_WARN, "app-lost", NULL,
             "application %s (process %ld) is gone, and another waiter took its exit status: "
             "status %d is assumed",
             app_name(app), (long)app->group, EXIT_STATUS_UNAVAILABLE);
    info.si_pid = app->group;
    info.si_code = CLD_EXITED;
    info.si_status = EXIT_STATUS_UNAVAILABLE;
    on_leader_end(app, &info);
}

/* waitid(2) for any child finds the same one again until that is reaped: a claimed one, whose
 * output is still read, hides those after it. So the application's group is asked for by itself: a
 * claim leads a group of its own. Orphans that have left the group wait until the claim is over; no
 * stop waits for them. */
static void reap_group(struct app *app)
{
    for (;;) {
        siginfo_t info = {0};
        if (app->group == 0 ||
            waitid(P_PGID, (id_t)app->group, &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
            info.si_pid == 0)
            return;
        if (app->pid_fd >= 0 && info.si_pid == app->group)
            on_leader_end(app, &info);
        else
            (void)waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
    }
}

/* Children that became ours when their parents ended. */
void app_reap_orphans(struct app *app)
{
    struct signalfd_siginfo waste;

    if (!app->config.reaps)
        return;
    while (read(app->orphans_fd, &waste, sizeof(waste)) >
           0) /* before waitid(2), or one is missed */
        ;
    reap_group(app);
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0)
            return;
        if (app->pid_fd >= 0 && info.si_pid == app->group)
            on_leader_end(app, &info);
        else if (!claims_reap_orphan(info.si_pid, app->event_fd))
            return; /* another thread waits for it; then this one looks again */
    }
}

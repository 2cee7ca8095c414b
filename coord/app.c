#include "app.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "coord.h"
#include "log.h"

/* Group note. The application's process leads a group; its workers are in it. When we have told it
 * to end, those who outlive the leader have what is left of the grace (a shell dies at once, and
 * the server that it has started finishes); when it has ended by itself, they are killed, or they
 * would hold its port and its place. Orphans among them are ours to reap, so a group that has ended
 * is not mistaken for one that lives. The leader's number stays taken for as long as one of its
 * group lives, so kill(2) of the group meets nobody else; behind the last of them it finds none. */

#define PROBE_FIRST_NS (5 * NS_PER_MS)
#define PROBE_PAUSE_MOST_NS (250 * NS_PER_MS)
#define PROBE_PATIENCE_NS (2 * NS_PER_S)
#define GROUP_LOOK_NS (10 * NS_PER_MS)
#define DEATH_PATIENCE_NS (1 * NS_PER_S) /* for what SIGKILL takes */

struct app {
    /* immutable after app_start */
    struct app_config config;
    pthread_t thread;
    char **environment;
    char port[16];  /* PORT=65535 */
    int event_fd;   /* orders have come */
    int orphans_fd; /* signalfd for SIGCHLD */
    bool runs_thread;
    /* app thread */
    struct app_rules rules;
    struct probe probe;
    uint64_t probe_at_ns;    /* the next attempt, or the end of patience with this one */
    uint64_t probe_pause_ns; /* until the next but one */
    int pid_fd;              /* -1: no leader to wait for */
    pid_t group;             /* 0: none; outlives its leader, see group note */
    uint64_t told_ns;        /* SIGTERM was sent; 0: not */
    int status;              /* of the last leader: its own, or 128 + signal */
    bool held;               /* what hold() was last told */
    bool said_up;
    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t changed; /* `started`, `gone` */
    pid_t leader;           /* 0: none; reaped under the lock, so that nobody signals another */
    bool started;           /* the first start is decided: */
    int start_error;
    bool gone; /* the rules are in GONE */
    bool want_stop, want_exit, want_rules;
    uint64_t grace_ns;
    struct app_rules_config new_rules;
};

bool app_wanted(const struct app_config *config)
{
    return config->argv != NULL || getpid() == 1;
}

static const char *name_of(const struct app *app)
{
    return app->config.argv != NULL ? app->config.argv[0] : "";
}

/* ---- the process ---- */

/* Ours alone: the service manager's socket, the listeners that it has opened for us, and the line
 * to whoever started us. */
static bool is_ours(const char *variable)
{
    static const char *const ours[] = {
        "NOTIFY_SOCKET=", "WATCHDOG_USEC=",  "WATCHDOG_PID=",         "LISTEN_FDS=",
        "LISTEN_PID=",    "LISTEN_FDNAMES=", HANDOVER_ENVIRONMENT "="};

    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strncmp(variable, ours[i], strlen(ours[i])) == 0)
            return true;
    return false;
}

static char **make_environment(char *port)
{
    size_t count = 0, n = 0;

    while (environ[count] != NULL)
        count++;
    char **made = calloc(count + 2, sizeof(*made));
    if (made == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        if (!is_ours(environ[i]))
            made[n++] = environ[i];
    if (port[0] != '\0' && getenv("PORT") == NULL)
        made[n++] = port;
    return made;
}

/* Between fork(2) and execve(2): async-signal-safe functions only. */
static void become_application(const struct app *app, pid_t parent, int error_fd)
{
    sigset_t none;
    int err = 0;

    (void)setpgid(0, 0);
    if (app->config.settings.has_user)
        err = app_user_become(&app->config.settings.user);
    /* Behind that: who becomes another loses it (prctl(2)). */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it went before it could tell us */
        _exit(127);
    (void)setrlimit(RLIMIT_NOFILE, &app->config.files);
    /* A master keeps the ones of --when-closed from others; the first three have to be there. */
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        (void)fcntl(fd, F_SETFD, 0);
    /* A group in the background that reads from the terminal is stopped (SIGTTIN). */
    if (isatty(STDIN_FILENO) == 1)
        (void)dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (err == 0) {
        (void)execvpe(app->config.argv[0], app->config.argv, app->environment);
        err = -errno;
    }
    err = -err;
    (void)!write(error_fd, &err, sizeof(err));
    _exit(127);
}

/* On the app thread, which is why that one lives as long as the process: the kernel's SIGKILL comes
 * when the thread that has forked ends. Returns when execve(2) has succeeded. */
static int spawn(struct app *app)
{
    int error_pipe[2], err = 0;
    pid_t parent = getpid();

    if (pipe2(error_pipe, O_CLOEXEC) != 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0)
        become_application(app, parent, error_pipe[1]);
    if (pid < 0)
        err = errno;
    (void)close(error_pipe[1]);
    while (pid > 0 && read(error_pipe[0], &err, sizeof(err)) < 0 && errno == EINTR)
        ;
    (void)close(error_pipe[0]);
    if (pid > 0 && err == 0 && (app->pid_fd = pidfd_open(pid, 0)) < 0) {
        err = errno;
        (void)kill(pid, SIGKILL);
    }
    if (err != 0) {
        while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        return -err;
    }
    (void)fcntl(app->pid_fd, F_SETFD, FD_CLOEXEC);
    app->group = pid;
    app->told_ns = 0;
    (void)pthread_mutex_lock(&app->mu);
    app->leader = pid;
    (void)pthread_mutex_unlock(&app->mu);
    app->probe_at_ns = clock_now_ns() + PROBE_FIRST_NS;
    app->probe_pause_ns = PROBE_FIRST_NS;
    log_line(
        LOG_LEVEL_INFO, "app-started",
        json_pack("{s:I, s:o}", "pid", (json_int_t)pid, "command", log_json_text(name_of(app))),
        "application %s started as process %ld; waiting for %s", name_of(app), (long)pid,
        app->config.settings.target.name);
    return 0;
}

static const char *describe_end(int status, char text[48])
{
    const char *name = status > 128 ? sigabbrev_np(status - 128) : NULL;
    if (name != NULL)
        (void)snprintf(text, 48, "was ended by SIG%s", name);
    else
        (void)snprintf(text, 48, "ended with status %d", status);
    return text;
}

/* ---- what the rules advise ---- */

static void tell_hold(struct app *app)
{
    bool hold = app->config.argv != NULL && app_rules_hold(&app->rules);
    if (hold == app->held)
        return;
    app->held = hold;
    app->config.ops->hold(app->config.arg, hold);
}

static void signal_group(struct app *app, int signo)
{
    if (app->group != 0)
        (void)kill(-app->group, signo);
}

static void say_ended(struct app *app)
{
    char detail[96], text[48];

    if (app->rules.end == APP_END_TIMEOUT) {
        char waited[CLOCK_TEXT_SIZE];
        (void)clock_format_duration(app->rules.config.start_timeout_ns, waited);
        log_line(LOG_LEVEL_ERROR, "app-never-up", NULL,
                 "application %s did not answer at %s within %s (%s): giving up; does it listen "
                 "there? --app-start-timeout gives it longer",
                 name_of(app), app->config.settings.target.name, waited,
                 app->probe.why[0] != '\0' ? app->probe.why : "no answer");
        (void)snprintf(detail, sizeof(detail), "did not answer at %.40s within %s",
                       app->config.settings.target.name, waited);
        app->config.ops->ended(app->config.arg, detail, COORD_EXIT_UNAVAILABLE);
        return;
    }
    (void)snprintf(detail, sizeof(detail), "%.40s %s", name_of(app),
                   describe_end(app->status, text));
    app->config.ops->ended(app->config.arg, detail, app->status);
}

/* The last that is said of it, once. */
static void say_gone(struct app *app)
{
    (void)pthread_mutex_lock(&app->mu);
    bool news = !app->gone;
    app->gone = true;
    (void)pthread_cond_broadcast(&app->changed);
    (void)pthread_mutex_unlock(&app->mu);
    if (news && app->config.ops->gone != NULL)
        app->config.ops->gone(app->config.arg);
}

static void ended(struct app *app);

static void carry_out(struct app *app, unsigned advice)
{
    char grace[CLOCK_TEXT_SIZE];
    uint64_t now_ns = clock_now_ns();

    if (advice & APP_DO_TERM) {
        uint64_t for_ns = app->rules.until_ns > now_ns ? app->rules.until_ns - now_ns : 0;
        log_line(LOG_LEVEL_INFO, "app-stopping", json_pack("{s:I}", "pid", (json_int_t)app->group),
                 "stopping the application: SIGTERM to process group %ld, SIGKILL in %s",
                 (long)app->group, clock_format_duration(for_ns, grace));
        app->told_ns = now_ns;
        signal_group(app, SIGTERM);
    }
    if (advice & APP_DO_KILL) {
        log_line(LOG_LEVEL_WARN, "app-killed", json_pack("{s:I}", "pid", (json_int_t)app->group),
                 "application %s still runs after %s: SIGKILL to process group %ld", name_of(app),
                 clock_format_duration(
                     now_ns - (app->told_ns != 0 ? app->told_ns : app->rules.entered_ns), grace),
                 (long)app->group);
        signal_group(app, SIGKILL);
    }
    if (advice & APP_DO_DRAIN)
        say_ended(app);
    if (advice & APP_DO_SPAWN) {
        int err = spawn(app);
        if (err != 0) {
            log_line(LOG_LEVEL_ERROR, "app-failed", NULL, "cannot start the application %s: %s",
                     name_of(app), strerrordesc_np(-err));
            app->status = 127; /* as a shell has it */
            ended(app);
        }
    }
    tell_hold(app);
    if (app->rules.state == APP_GONE)
        say_gone(app);
}

/* The rules know of the end. */
static void after_end(struct app *app, unsigned advice)
{
    app->group = 0;
    if (app->rules.state == APP_BACKOFF) {
        char pause[CLOCK_TEXT_SIZE];
        log_line(LOG_LEVEL_INFO, "app-backoff", NULL,
                 "starting the application %s again in %s; requests for it wait", name_of(app),
                 clock_format_duration(app->rules.until_ns - app->rules.entered_ns, pause));
    }
    carry_out(app, advice);
}

/* Neither leader nor, where we wait for it, group is left. */
static void ended(struct app *app)
{
    unsigned advice = app_rules_ended(&app->rules, clock_now_ns());
    tell_hold(app);
    after_end(app, advice);
}

/* ---- the end of the process ---- */

/* What its end means for the requests. */
static const char *consequence(const struct app *app, enum app_state was)
{
    if (app->told_ns != 0)
        return " after SIGTERM";
    if (was == APP_STARTING)
        return ", before it has answered";
    if (app->config.ops->is_closing(app->config.arg))
        return ", before the drain was over: requests that it had are answered 502";
    return ": requests that it had are answered 502";
}

static void log_end(const struct app *app, pid_t pid, enum app_state was)
{
    bool asked = app->told_ns != 0;
    char text[48], took[CLOCK_TEXT_SIZE] = "";

    if (asked)
        (void)clock_format_duration(clock_now_ns() - app->told_ns, took);
    log_line(asked ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "app-ended",
             json_pack("{s:I, s:i}", "pid", (json_int_t)pid, "status", app->status),
             "application %s (process %ld) %s%s%s%s", name_of(app), (long)pid,
             describe_end(app->status, text), asked ? ", " : "", took, consequence(app, was));
}

static void take_rules(struct app *app)
{
    (void)pthread_mutex_lock(&app->mu);
    if (app->want_rules)
        app_rules_configure(&app->rules, &app->new_rules);
    app->want_rules = false;
    (void)pthread_mutex_unlock(&app->mu);
}

/* The leader has ended: `info` is of a waitid(2) that did not reap it. */
static void on_leader_end(struct app *app, const siginfo_t *info)
{
    siginfo_t waste;
    pid_t pid = info->si_pid;

    enum app_state was = app->rules.state;
    unsigned advice = APP_DO_NOTHING;

    app->status = info->si_code == CLD_EXITED ? info->si_status : 128 + info->si_status;
    take_rules(app); /* those that held before it ended have come before we see that */
    if (was != APP_STOPPING) {
        signal_group(app, SIGKILL); /* before it is reaped: the number is still its own */
        advice = app_rules_ended(&app->rules, clock_now_ns());
        tell_hold(app); /* and before anything is written: who comes now may wait */
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
        after_end(app, advice);
}

/* See group note. Nothing tells when the last of a group has gone. */
static void look_at_group(struct app *app)
{
    if (app->rules.state != APP_STOPPING || app->pid_fd >= 0 || app->group == 0)
        return;
    if (app->rules.killed || kill(-app->group, 0) != 0)
        ended(app);
}

static void look_at_leader(struct app *app)
{
    siginfo_t info = {0};

    if (app->group != 0 && app->pid_fd >= 0 &&
        waitid(P_PID, (id_t)app->group, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid != 0)
        on_leader_end(app, &info);
}

/* Children that others have left to us. */
static void reap_orphans(struct app *app)
{
    struct signalfd_siginfo waste;

    if (!app->config.reaps)
        return;
    while (read(app->orphans_fd, &waste, sizeof(waste)) > 0) /* before looking, or one is missed */
        ;
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0)
            return;
        if (app->pid_fd >= 0 && info.si_pid == app->group)
            on_leader_end(app, &info);
        else
            (void)waitid(P_PID, (id_t)info.si_pid, &info, WEXITED | WNOHANG);
    }
}

/* ---- does it answer? ---- */

static void on_answered(struct app *app, uint64_t now_ns)
{
    char took[CLOCK_TEXT_SIZE];

    log_line(LOG_LEVEL_INFO, "app-up", NULL, "application %s answers at %s after %s", name_of(app),
             app->config.settings.target.name,
             clock_format_duration(now_ns - app->rules.entered_ns, took));
    carry_out(app, app_rules_answered(&app->rules, now_ns));
    if (!app->said_up && app->rules.state == APP_UP) {
        app->said_up = true;
        app->config.ops->up(app->config.arg);
    }
}

static void ask(struct app *app, short seen)
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
        (void)strcpy(app->probe.why, "it takes connections, and does not answer");
        probe_end(&app->probe);
    } else {
        result = probe_begin(&app->probe, &app->config.settings.target);
    }
    if (result == PROBE_ANSWERED) {
        on_answered(app, now_ns);
    } else if (result == PROBE_PENDING) {
        app->probe_at_ns = now_ns + PROBE_PATIENCE_NS;
    } else {
        app->probe_at_ns = now_ns + app->probe_pause_ns;
        app->probe_pause_ns = app->probe_pause_ns * 2 < PROBE_PAUSE_MOST_NS
                                  ? app->probe_pause_ns * 2
                                  : PROBE_PAUSE_MOST_NS;
    }
}

/* ---- the thread ---- */

/* Returns false when it is time to leave. */
static bool take_orders(struct app *app)
{
    uint64_t count;

    (void)!read(app->event_fd, &count, sizeof(count));
    (void)pthread_mutex_lock(&app->mu);
    bool stop = app->want_stop, leave = app->want_exit;
    uint64_t grace_ns = app->grace_ns;
    (void)pthread_mutex_unlock(&app->mu);
    take_rules(app);
    if (stop)
        carry_out(app, app_rules_stop(&app->rules, clock_now_ns(), grace_ns));
    return !leave;
}

static int patience_ms(const struct app *app)
{
    uint64_t now_ns = clock_now_ns(), at_ns = app->rules.until_ns;

    if (app->rules.state == APP_STARTING && app->probe_at_ns < at_ns)
        at_ns = app->probe_at_ns;
    if (app->rules.state == APP_STOPPING && app->pid_fd < 0 && now_ns + GROUP_LOOK_NS < at_ns)
        at_ns = now_ns + GROUP_LOOK_NS;
    if (at_ns == CLOCK_NEVER)
        return -1;
    uint64_t ms = at_ns > now_ns ? (at_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
    return ms < 60000 ? (int)ms : 60000;
}

static void begin(struct app *app)
{
    int err = 0;

    app_rules_init(&app->rules, &app->config.settings.rules, clock_now_ns());
    if (app->config.argv != NULL)
        err = spawn(app);
    if (app->config.argv == NULL || err != 0) /* orphans may come all the same */
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

    (void)pthread_setname_np(pthread_self(), "app");
    begin(app);
    for (;;) {
        struct pollfd fds[] = {
            {.fd = app->event_fd, .events = POLLIN},
            {.fd = app->pid_fd, .events = POLLIN},
            {.fd = app->orphans_fd, .events = POLLIN},
            {.fd = app->probe.fd, .events = app->probe.events},
        };

        (void)poll(fds, sizeof(fds) / sizeof(fds[0]), patience_ms(app));
        look_at_leader(app); /* first: what ended before it was told to, ended by itself */
        reap_orphans(app);
        if (fds[0].revents != 0 && !take_orders(app))
            return NULL;
        ask(app, fds[3].revents);
        carry_out(app, app_rules_look(&app->rules, clock_now_ns()));
        look_at_group(app);
    }
}

/* ---- from outside ---- */

/* Whoever answers there before the application does would be taken for it. */
static bool is_taken(const struct probe_target *target)
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
        taken = poll(&fd, 1, 200) == 1 && probe_go_on(&probe, &bare) == PROBE_ANSWERED;
        probe_end(&probe);
    }
    return taken;
}

static int watch_orphans(struct app *app)
{
    sigset_t set;

    (void)prctl(PR_SET_CHILD_SUBREAPER, 1); /* process 1 is it anyway */
    if (!app->config.reaps)
        return 0;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCHLD); /* blocked by signals_block() */
    app->orphans_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return app->orphans_fd < 0 ? -errno : 0;
}

static int run_thread(struct app *app)
{
    sigset_t all, before;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    int err = pthread_create(&app->thread, NULL, app_thread, app);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err != 0)
        return -err;
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
    if (config->argv != NULL && is_taken(&config->settings.target))
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
    app->environment = make_environment(app->port);
    app->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int err = app->environment == NULL ? -ENOMEM : app->event_fd < 0 ? -errno : watch_orphans(app);
    if (err == 0)
        err = run_thread(app);
    if (err != 0) {
        app_destroy(app);
        return err;
    }
    *ret_app = app;
    return 0;
}

static void wake(struct app *app)
{
    const uint64_t one = 1;
    (void)!write(app->event_fd, &one, sizeof(one));
}

bool app_signal(struct app *app, int signo)
{
    bool ends = signo == SIGINT || signo == SIGTERM || signo == SIGQUIT;

    (void)pthread_mutex_lock(&app->mu);
    bool any = app->leader != 0 || (app->want_stop && !app->gone);
    if (ends && app->want_stop)
        app->grace_ns = 0;
    else if (!ends && app->leader != 0)
        (void)kill(-app->leader, signo);
    (void)pthread_mutex_unlock(&app->mu);
    wake(app);
    return any;
}

void app_set_rules(struct app *app, const struct app_rules_config *rules)
{
    (void)pthread_mutex_lock(&app->mu);
    app->new_rules = *rules;
    app->want_rules = true;
    (void)pthread_mutex_unlock(&app->mu);
    wake(app);
}

uint64_t app_begin_stop(struct app *app, uint64_t grace_ns)
{
    (void)pthread_mutex_lock(&app->mu);
    app->grace_ns = grace_ns;
    app->want_stop = true;
    (void)pthread_mutex_unlock(&app->mu);
    wake(app);
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
                 "application %s does not end, not by SIGKILL either: leaving it to the system",
                 name_of(app));
}

void app_destroy(struct app *app)
{
    if (app == NULL)
        return;
    if (app->runs_thread) {
        (void)pthread_mutex_lock(&app->mu);
        app->want_exit = true;
        wake(app);
        (void)pthread_mutex_unlock(&app->mu);
        (void)pthread_join(app->thread, NULL);
    }
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

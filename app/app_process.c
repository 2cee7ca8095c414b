/* The application's process: its environment, fork(2) and execve(2), signals to its group. */

#include "app_p.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "kill.h"
#include "log.h"
#include "message.h"

#define PROBE_FIRST_NS (5 * NS_PER_MS)

const char *app_name(const struct app *app)
{
    return app->config.argv != NULL ? app->config.argv[0] : "";
}

/* Variables that concern only this process: the service manager's socket, the listeners that it has
 * opened for us, the channel to a predecessor. */
static bool is_private(const char *variable)
{
    static const char *const ours[] = {
        "NOTIFY_SOCKET=", "WATCHDOG_USEC=",  "WATCHDOG_PID=",         "LISTEN_FDS=",
        "LISTEN_PID=",    "LISTEN_FDNAMES=", MESSAGE_ENVIRONMENT "=", APP_PORT_ENVIRONMENT "="};

    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (strncmp(variable, ours[i], strlen(ours[i])) == 0)
            return true;
    return false;
}

static bool is_private_or_port(const char *variable)
{
    return is_private(variable) || strncmp(variable, "PORT=", 5) == 0;
}

char **app_make_environment(char *port, bool overrides)
{
    if (port[0] == '\0' || (!overrides && getenv("PORT") != NULL))
        return child_environment(is_private, NULL);
    return child_environment(is_private_or_port, port);
}

/* Between fork(2) and execve(2): async-signal-safe functions only. */
static void become_application(const struct app *app, pid_t parent, int error_fd)
{
    sigset_t none;
    int err = 0;

    (void)setpgid(0, 0);
    if (app->config.settings.has_user)
        err = app_user_become(&app->config.settings.user);
    /* After the change of user: setuid(2) clears it. */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* the parent ended before prctl(2) took effect */
        _exit(127);
    (void)setrlimit(RLIMIT_NOFILE, &app->config.files);
    /* A descriptor of --when-closed may be one of these three and closed by execve(2); the
     * application needs all three. */
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        (void)fcntl(fd, F_SETFD, 0);
    /* A background process group that reads from its terminal gets SIGTTIN, which stops it. */
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

/* PR_SET_PDEATHSIG fires when the thread that forked ends, so this runs on the app thread, which
 * lives as long as the application. Returns when execve(2) has succeeded. */
int app_spawn(struct app *app)
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
        (void)kill_process(pid, SIGKILL, "the application, process");
    }
    if (err != 0) {
        while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        return -err;
    }
    (void)fcntl(app->pid_fd, F_SETFD, FD_CLOEXEC);
    app->group = pid;
    app->term_sent_ns = 0;
    (void)pthread_mutex_lock(&app->mu);
    app->leader = pid;
    (void)pthread_mutex_unlock(&app->mu);
    app->probe_at_ns = clock_now_ns() + PROBE_FIRST_NS;
    app->probe_pause_ns = PROBE_FIRST_NS;
    log_line(
        LOG_LEVEL_INFO, "app-started",
        json_pack("{s:I, s:o}", "pid", (json_int_t)pid, "command", log_json_text(app_name(app))),
        "application %s started as process %ld; waiting for %s", app_name(app), (long)pid,
        app->config.settings.target.name);
    return 0;
}

void app_signal_group(struct app *app, int signo)
{
    if (app->group != 0)
        (void)kill_process(-app->group, signo, "the application");
}

const char *app_describe_end(int status, char text[48])
{
    const char *name = status > 128 ? sigabbrev_np(status - 128) : NULL;
    if (name != NULL)
        (void)snprintf(text, 48, "was ended by SIG%s", name);
    else
        (void)snprintf(text, 48, "ended with status %d", status);
    return text;
}

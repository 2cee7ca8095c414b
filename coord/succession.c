#include "succession.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "coord.h"
#include "log.h"
#include "signals.h"

extern char **environ;

void succession_init(struct succession *succession, const struct succession_config *config,
                     uint64_t generation)
{
    memset(succession, 0, sizeof(*succession));
    succession->config = *config;
    succession->generation = generation;
    succession->pid_fd = succession->channel = succession->words_fd = -1;
    succession->conns_fd = succession->stderr_fd = -1;
    restart_init(&succession->restart, &config->timing);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

void succession_release(struct succession *succession)
{
    close_fd(&succession->pid_fd);
    close_fd(&succession->channel);
    close_fd(&succession->words_fd);
    close_fd(&succession->conns_fd);
    close_fd(&succession->stderr_fd);
}

/* ---- starting it ---- */

char *succession_find_binary(const char *argv0)
{
    char here[4096], path[8192];

    if (argv0[0] == '/')
        return strdup(argv0);
    if (strchr(argv0, '/') != NULL) {
        if (getcwd(here, sizeof(here)) == NULL)
            return NULL;
        (void)snprintf(path, sizeof(path), "%s/%s", here, argv0);
        return strdup(path);
    }
    for (const char *at = getenv("PATH"); at != NULL && *at != '\0';) {
        size_t n = strcspn(at, ":");
        (void)snprintf(path, sizeof(path), "%.*s/%s", (int)n, at, argv0);
        if (path[0] == '/' && access(path, X_OK) == 0)
            return strdup(path);
        at += n + (at[n] == ':');
    }
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (n < 0)
        return NULL;
    path[n] = '\0';
    return strdup(path);
}

static bool is_ours_alone(const char *setting)
{
    static const char *const names[] = {
        HANDOVER_ENVIRONMENT "=", "LISTEN_PID=",          "LISTEN_FDS=",
        "LISTEN_FDNAMES=",        "SERVER_STARTER_PORT=", "WATCHDOG_PID="};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strncmp(setting, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static char **make_environment(char *channel)
{
    size_t n = 0, kept = 0;

    while (environ[n] != NULL)
        n++;
    char **made = calloc(n + 2, sizeof(*made));
    for (size_t i = 0; made != NULL && i < n; i++)
        if (!is_ours_alone(environ[i]))
            made[kept++] = environ[i];
    if (made != NULL)
        made[kept] = channel;
    return made;
}

/* As if it had been started by whoever started us: none of our signals blocked. */
static int set_attributes(posix_spawnattr_t *attr, bool own_group)
{
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    sigset_t mask, usual;

    signals_unblocked(&mask);
    (void)sigemptyset(&usual);
    (void)sigaddset(&usual, SIGPIPE);
    if (own_group)
        flags = (short)(flags | POSIX_SPAWN_SETPGROUP);
    int err = posix_spawnattr_setflags(attr, flags);
    if (err == 0)
        err = posix_spawnattr_setsigmask(attr, &mask);
    if (err == 0)
        err = posix_spawnattr_setsigdefault(attr, &usual);
    return err;
}

/* posix_spawn(3) and not fork(2): there are threads, and locks that they hold. */
static int spawn_with(struct succession *succession, int channel, int words)
{
    const struct succession_config *config = &succession->config;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    char setting[64];

    (void)snprintf(setting, sizeof(setting), HANDOVER_ENVIRONMENT "=%d", channel);
    char **environment = make_environment(setting);
    if (environment == NULL)
        return ENOMEM;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawnattr_init(&attr);
    int err = set_attributes(&attr, config->own_group);
    /* A descriptor onto itself: glibc takes its FD_CLOEXEC away. */
    if (err == 0)
        err = posix_spawn_file_actions_adddup2(&actions, channel, channel);
    for (size_t i = 0; err == 0 && i < config->keep_count; i++)
        err = posix_spawn_file_actions_adddup2(&actions, config->keep_fds[i], config->keep_fds[i]);
    if (err == 0)
        err = posix_spawn_file_actions_adddup2(&actions, words, STDERR_FILENO);
    if (err == 0)
        err = posix_spawn(&succession->pid, config->binary, &actions, &attr, config->argv,
                          environment);
    if (err != 0)
        succession->pid = 0;
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    free(environment);
    return err;
}

static int say_hello(struct succession *succession)
{
    struct handover_message hello;

    handover_begin(&hello, HANDOVER_HELLO);
    handover_put_number(&hello, HANDOVER_GENERATION, succession->generation + 1);
    handover_put_number(&hello, HANDOVER_IS_MASTER, succession->config.timing.stays);
    handover_put_number(&hello, HANDOVER_RUNS_APP, succession->config.runs_app);
    handover_put_fd(&hello, STDERR_FILENO);
    return handover_send(succession->channel, &hello);
}

static int spawn(struct succession *succession)
{
    int channel[2] = {-1, -1}, words[2] = {-1, -1};

    succession_release(succession);
    succession->offered = succession->tail_bytes = 0;
    succession->all_offered = false;
    succession->crowded_until_ns = 0;
    succession->status = succession->broken = 0;
    succession->ready.size = 0;
    int err = -handover_pair(channel);
    if (err == 0 && pipe2(words, O_CLOEXEC) != 0)
        err = errno;
    if (err == 0)
        err = spawn_with(succession, channel[1], words[1]);
    if (err == 0) {
        succession->channel = channel[0];
        succession->words_fd = words[0];
        (void)fcntl(words[0], F_SETFL, O_NONBLOCK);
        succession->pid_fd = (int)syscall(SYS_pidfd_open, succession->pid, 0);
        if (succession->pid_fd < 0 || say_hello(succession) != 0) {
            (void)kill(succession->pid, SIGKILL);
            (void)waitpid(succession->pid, NULL, 0);
            succession->pid = 0;
            err = EAGAIN;
        }
    } else {
        close_fd(&channel[0]);
        close_fd(&words[0]);
    }
    close_fd(&channel[1]);
    close_fd(&words[1]);
    if (err != 0)
        succession_release(succession);
    return err;
}

/* ---- what is to be said about it ---- */

/* Its last lines, as one. */
static const char *last_words(struct succession *succession, char *text, size_t size)
{
    size_t n = succession->tail_bytes, begin = n, lines = 0, at = 0;

    while (n > 0 && succession->tail[n - 1] == '\n')
        n--;
    for (begin = n; begin > 0; begin--)
        if (succession->tail[begin - 1] == '\n' && ++lines == 3)
            break;
    for (size_t i = begin; i < n && at + 4 < size; i++) {
        unsigned char c = (unsigned char)succession->tail[i];
        if (c == '\n') {
            memcpy(text + at, " | ", 3);
            at += 3;
        } else if (c >= 0x20) {
            text[at++] = (char)c;
        }
    }
    text[at] = '\0';
    return text;
}

static void describe_end(const struct succession *succession, char *text, size_t size)
{
    int status = succession->status;

    if (succession->spawn_error != 0)
        (void)snprintf(text, size, "cannot start %s: %s", succession->config.binary,
                       strerrordesc_np(succession->spawn_error));
    else if (WIFSIGNALED(status))
        (void)snprintf(text, size, "it was ended by SIG%s", sigabbrev_np(WTERMSIG(status)));
    else
        (void)snprintf(text, size, "it exited with status %d", WEXITSTATUS(status));
}

static void log_failure(struct succession *succession)
{
    char reason[512], end[256], words[800], why[HANDOVER_WHY_SIZE], took[CLOCK_TEXT_SIZE];
    const struct handover_message said = {.version = succession->broken_version};

    describe_end(succession, end, sizeof(end));
    switch (succession->restart.failure) {
    case RESTART_FAILED_TIMEOUT:
        (void)snprintf(reason, sizeof(reason), "it was not ready after %s, and was killed",
                       clock_format_duration(succession->restart.config.timeout_ns, took));
        break;
    case RESTART_FAILED_BROKEN:
        (void)snprintf(reason, sizeof(reason), "%s", handover_why(succession->broken, &said, why));
        break;
    case RESTART_FAILED_PROBATION:
        (void)snprintf(reason, sizeof(reason), "%s after it had been ready, in its probation", end);
        break;
    case RESTART_FAILED_COMMIT:
        (void)snprintf(reason, sizeof(reason), "%s when it was to accept", end);
        break;
    default:
        (void)snprintf(reason, sizeof(reason), "%s", end);
        break;
    }
    (void)last_words(succession, words, sizeof(words));
    log_line(LOG_LEVEL_ERROR, "restart-failed",
             json_pack("{s:o, s:o}", "reason", log_json_text(reason), "said", log_json_text(words)),
             "restart failed, going on as before: %s%s%s", reason,
             words[0] != '\0' ? "; its last words: " : "", words);
}

static void report(struct succession *succession)
{
    if (succession->restart.failure != RESTART_FAILED_NOT) /* else it was said: given up */
        log_failure(succession);
    if (succession->config.hooks->failed != NULL)
        succession->config.hooks->failed(succession->config.arg);
}

/* ---- driving it ---- */

static void happen(struct succession *succession, enum restart_event event);

static void start(struct succession *succession)
{
    succession->spawn_error = spawn(succession);
    if (succession->config.hooks->began != NULL)
        succession->config.hooks->began(succession->config.arg);
    if (succession->spawn_error != 0) {
        happen(succession, RESTART_ON_EXIT);
        return;
    }
    log_line(LOG_LEVEL_INFO, "restart-begun",
             json_pack("{s:I, s:I}", "pid", (json_int_t)succession->pid, "generation",
                       (json_int_t)(succession->generation + 1)),
             "starting generation %llu: process %ld",
             (unsigned long long)(succession->generation + 1), (long)succession->pid);
}

static void commit(struct succession *succession)
{
    struct handover_message message;

    handover_begin(&message, HANDOVER_COMMIT);
    if (succession->config.hooks->commit != NULL)
        succession->config.hooks->commit(succession->config.arg, &message);
    int err = succession->channel >= 0 ? handover_send(succession->channel, &message) : -EPIPE;
    if (err != 0) {
        succession->broken = err;
        happen(succession, RESTART_ON_BROKEN);
        return;
    }
    log_line(LOG_LEVEL_INFO, "restart-commit",
             json_pack("{s:I}", "pid", (json_int_t)succession->pid),
             "generation %llu is told to accept: process %ld",
             (unsigned long long)(succession->generation + 1), (long)succession->pid);
}

static void retire(struct succession *succession)
{
    succession->generation++;
    if (succession->config.hooks->serves != NULL)
        succession->config.hooks->serves(succession->config.arg);
    log_line(LOG_LEVEL_INFO, "restart-done",
             json_pack("{s:I, s:I}", "pid", (json_int_t)succession->pid, "generation",
                       (json_int_t)succession->generation),
             "generation %llu serves: process %ld", (unsigned long long)succession->generation,
             (long)succession->pid);
    /* Before that, since this process may end with it: the next one is the successor's to do. */
    if (succession->restart.state == RESTART_HANDED && restart_take_again(&succession->restart))
        (void)kill(succession->pid, SIGHUP);
    succession->config.hooks->retire(succession->config.arg, succession);
}

void succession_hurry(struct succession *succession)
{
    uint64_t due_ns = clock_now_ns() + SUCCESSION_HURRY_NS;

    if (succession->restart.state == RESTART_LEAVING && due_ns < succession->restart.due_ns)
        succession->restart.due_ns = due_ns;
}

void succession_send_stop(int channel, pid_t pid, unsigned signals, bool is_final)
{
    struct handover_message message;

    handover_begin(&message, HANDOVER_STOP);
    handover_put_number(&message, HANDOVER_SIGNALS, signals);
    handover_put_number(&message, HANDOVER_IS_FINAL, is_final);
    if ((channel < 0 || handover_send(channel, &message) != 0) && pid > 0)
        (void)kill(pid, SIGTERM);
}

static void stop(const struct succession *succession)
{
    const struct succession_hooks *hooks = succession->config.hooks;

    log_line(LOG_LEVEL_WARN, "restart-stopped", NULL,
             "told to stop before process %ld has taken over: it accepts already, and is told, too",
             (long)succession->pid);
    succession_send_stop(succession->channel, succession->pid,
                         hooks->count_signals(succession->config.arg), true);
}

/* What it had accepted is lost with it, so that must not be silent. */
static void log_kill(const struct succession *succession)
{
    const struct handover_message said = {.version = succession->broken_version};
    char why[HANDOVER_WHY_SIZE];

    log_line(LOG_LEVEL_ERROR, "restart-killed", NULL,
             "process %ld was told to accept, and then to stop, and is killed: %s",
             (long)succession->pid,
             succession->broken != 0 ? handover_why(succession->broken, &said, why)
                                     : "it has not answered");
}

static void happen(struct succession *succession, enum restart_event event)
{
    unsigned actions = restart_on(&succession->restart, event, clock_now_ns());

    if ((actions & RESTART_DO_REMEMBER) != 0)
        log_line(LOG_LEVEL_INFO, "restart-again", NULL,
                 "a restart is under way: another one will follow it");
    if ((actions & RESTART_DO_REFUSE) != 0)
        log_line(LOG_LEVEL_WARN, "restart-refused", NULL,
                 "no restart: this process is on its way out");
    if ((actions & RESTART_DO_KILL) != 0 && event == RESTART_ON_STOP)
        log_line(LOG_LEVEL_INFO, "restart-given-up", NULL,
                 "the restart is given up: this process is on its way out");
    if ((actions & RESTART_DO_KILL) != 0 && succession->restart.state == RESTART_LEAVING)
        log_kill(succession);
    if ((actions & RESTART_DO_KILL) != 0 && succession->pid > 0)
        (void)kill(succession->pid, SIGKILL);
    if ((actions & RESTART_DO_STOP) != 0)
        stop(succession);
    if ((actions & RESTART_DO_BEQUEATH) != 0 && succession->config.hooks->bequeath != NULL)
        succession->config.hooks->bequeath(succession->config.arg, succession);
    if ((actions & RESTART_DO_REPORT) != 0)
        report(succession);
    if ((actions & RESTART_DO_RECLAIM) != 0 && succession->config.hooks->reclaim != NULL)
        succession->config.hooks->reclaim(succession->config.arg);
    if ((actions & RESTART_DO_RETIRE) != 0)
        retire(succession);
    if ((actions & RESTART_DO_COMMIT) != 0)
        commit(succession);
    if ((actions & RESTART_DO_SPAWN) != 0)
        start(succession);
    if (succession->pid == 0 && restart_take_again(&succession->restart))
        succession_request(succession, "again", "");
}

void succession_request(struct succession *succession, const char *trigger, const char *detail)
{
    log_line(
        LOG_LEVEL_INFO, "restart-asked",
        json_pack("{s:o, s:o}", "trigger", log_json_text(trigger), "detail", log_json_text(detail)),
        "%s%s%s: restart", trigger, detail[0] != '\0' ? " " : "", detail);
    if (succession->config.hooks->may_begin != NULL &&
        !succession->config.hooks->may_begin(succession->config.arg))
        return;
    happen(succession, RESTART_ON_REQUEST);
}

void succession_tell(struct succession *succession, enum restart_event event)
{
    happen(succession, event);
}

/* ---- what it says ---- */

#define CROWDED_NS (5 * NS_PER_MS)

static void offer_listeners(struct succession *succession)
{
    const struct succession_hooks *hooks = succession->config.hooks;
    struct handover_message message;
    int pair[2], err = 0;

    while (err == 0 && hooks->offer(succession->config.arg, succession->offered, &message))
        if ((err = handover_send(succession->channel, &message)) == 0)
            succession->offered++;
    if (err == 0 && succession->conns_fd < 0 && (err = handover_pair(pair)) == 0) {
        succession->conns_fd = pair[0];
        handover_begin(&message, HANDOVER_BEGIN);
        handover_put_fd(&message, pair[1]);
        if (hooks->begin != NULL)
            hooks->begin(succession->config.arg, &message);
        err = handover_send(succession->channel, &message);
        (void)close(pair[1]);
        if (err != 0)
            close_fd(&succession->conns_fd);
    }
    if (err == -EAGAIN) { /* poll(2) says when there is room; not for descriptors, though */
        succession->crowded_until_ns = clock_now_ns() + CROWDED_NS;
        return;
    }
    succession->all_offered = true;
    if (err == 0 || err == -EPIPE)
        return; /* gone: its exit will be seen */
    succession->broken = err;
    happen(succession, RESTART_ON_BROKEN);
}

static void on_message(struct succession *succession, struct handover_message *message)
{
    if (message->type == HANDOVER_READY) {
        bool news = succession->restart.state == RESTART_STARTING;
        if (news) {
            close_fd(&succession->stderr_fd);
            succession->stderr_fd = handover_take_fd(message, 0);
            succession->ready = *message;
            succession->ready.fd_count = 0;
        }
        happen(succession, RESTART_ON_READY);
        if (succession->restart.state == RESTART_PROBATION)
            log_line(LOG_LEVEL_INFO, "restart-ready",
                     json_pack("{s:I}", "pid", (json_int_t)succession->pid),
                     "generation %llu is ready: process %ld",
                     (unsigned long long)(succession->generation + 1), (long)succession->pid);
        if (news && succession->config.hooks->ready != NULL)
            succession->config.hooks->ready(succession->config.arg);
    } else if (message->type == HANDOVER_SETTLED) {
        happen(succession, RESTART_ON_SETTLED);
    } else if (succession->config.hooks->message != NULL) {
        succession->config.hooks->message(succession->config.arg, message);
    }
}

static void hear(struct succession *succession)
{
    struct handover_message message;
    int err;

    while (succession->channel >= 0 &&
           (err = handover_receive(succession->channel, &message)) != -EAGAIN) {
        if (err == 0) {
            on_message(succession, &message);
            handover_release(&message);
            continue;
        }
        close_fd(&succession->channel);
        if (err == -EPIPE) /* its exit, if it is one, is seen by itself */
            return;
        succession->broken = err;
        succession->broken_version = message.version;
        happen(succession, RESTART_ON_BROKEN);
    }
}

/* Pass its words on, and keep the last ones. */
static void hear_words(struct succession *succession)
{
    char bytes[1024];
    ssize_t n;

    while (succession->words_fd >= 0 &&
           (n = read(succession->words_fd, bytes, sizeof(bytes))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return;
        log_pass(bytes, (size_t)n);
        size_t keep = (size_t)n < SUCCESSION_TAIL / 2 ? SUCCESSION_TAIL - (size_t)n : 0;
        if (succession->tail_bytes > keep) {
            memmove(succession->tail, succession->tail + succession->tail_bytes - keep, keep);
            succession->tail_bytes = keep;
        }
        memcpy(succession->tail + succession->tail_bytes, bytes, (size_t)n);
        succession->tail_bytes += (size_t)n;
    }
    close_fd(&succession->words_fd);
}

static void see_exit(struct succession *succession)
{
    hear(succession); /* what it said before counts: it may be somebody else's process by then */
    if (succession->pid <= 0 ||
        waitpid(succession->pid, &succession->status, WNOHANG) != succession->pid)
        return;
    hear_words(succession);
    succession->pid = 0;
    succession_release(succession);
    happen(succession, RESTART_ON_EXIT);
    bool ends_too =
        succession->restart.state == RESTART_STOPPED || succession->restart.state == RESTART_HANDED;
    if (ends_too && succession->config.hooks->left != NULL)
        succession->config.hooks->left(succession->config.arg);
}

/* ---- polling ---- */

static bool is_offering(const struct succession *succession)
{
    return succession->restart.state == RESTART_STARTING && !succession->all_offered;
}

void succession_poll(const struct succession *succession, struct pollfd fds[SUCCESSION_FDS])
{
    bool offering = is_offering(succession) && clock_now_ns() >= succession->crowded_until_ns;

    fds[0] = (struct pollfd){.fd = succession->channel,
                             .events = (short)(POLLIN | (offering ? POLLOUT : 0))};
    fds[1] = (struct pollfd){.fd = succession->words_fd, .events = POLLIN};
    fds[2] = (struct pollfd){.fd = succession->pid_fd, .events = POLLIN};
}

static bool may_pass(const struct succession *succession)
{
    const struct succession_hooks *hooks = succession->config.hooks;

    return succession->restart.state != RESTART_PROBATION || hooks->may_commit == NULL ||
           hooks->may_commit(succession->config.arg);
}

void succession_handle(struct succession *succession, const struct pollfd fds[SUCCESSION_FDS])
{
    if ((fds[0].revents & POLLOUT) != 0 && fds[0].fd == succession->channel &&
        !succession->all_offered)
        offer_listeners(succession);
    if ((fds[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
        hear_words(succession);
    if ((fds[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
        hear(succession);
    if ((fds[2].revents & POLLIN) != 0 && succession->pid > 0)
        see_exit(succession);
    if (clock_now_ns() >= succession->restart.due_ns && may_pass(succession))
        happen(succession, RESTART_ON_TIME);
}

uint64_t succession_due_ns(const struct succession *succession)
{
    uint64_t due_ns = succession->restart.due_ns;

    if (is_offering(succession) && succession->crowded_until_ns > clock_now_ns() &&
        succession->crowded_until_ns < due_ns)
        return succession->crowded_until_ns;
    return due_ns;
}

int succession_left_status(const struct succession *succession)
{
    int status = WIFEXITED(succession->status) ? WEXITSTATUS(succession->status) : -1;

    if (status == COORD_EXIT_CLEAN || status == COORD_EXIT_DEADLINE || status == COORD_EXIT_FORCED)
        return status;
    return succession->restart.failure != RESTART_FAILED_NOT ? COORD_EXIT_DEADLINE
                                                             : COORD_EXIT_CLEAN;
}

int succession_take_conns(struct succession *succession)
{
    int fd = succession->conns_fd;
    succession->conns_fd = -1;
    return fd;
}

void succession_take_child(struct succession *succession, pid_t *ret_pid, int *ret_pid_fd,
                           int *ret_channel)
{
    *ret_pid = succession->pid;
    *ret_pid_fd = succession->pid_fd;
    *ret_channel = succession->channel;
    succession->pid = 0;
    succession->pid_fd = succession->channel = -1;
}

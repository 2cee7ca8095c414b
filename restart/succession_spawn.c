/* Starts the successor: the path of the binary, environment, signal mask, descriptors, and the
 * first message. */

#include "succession_p.h"

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

#include "child.h"
#include "file.h"
#include "kill.h"
#include "signals.h"

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
        MESSAGE_ENVIRONMENT "=", "LISTEN_PID=",          "LISTEN_FDS=",
        "LISTEN_FDNAMES=",       "SERVER_STARTER_PORT=", "WATCHDOG_PID="};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strncmp(setting, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* The successor starts with our signals blocked. A signal that comes before its signal thread runs
 * stays pending. */
static int set_attributes(posix_spawnattr_t *attr, bool own_group)
{
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
    sigset_t mask, usual;

    signals_blocked(&mask);
    (void)sigemptyset(&usual);
    (void)sigaddset(&usual, SIGPIPE);
    (void)sigaddset(&usual, SIGXFSZ);
    if (own_group)
        flags = (short)(flags | POSIX_SPAWN_SETPGROUP);
    int err = posix_spawnattr_setflags(attr, flags);
    if (err == 0)
        err = posix_spawnattr_setsigmask(attr, &mask);
    if (err == 0)
        err = posix_spawnattr_setsigdefault(attr, &usual);
    return err;
}

/* posix_spawn(3), because after fork(2) in a process with threads, locks may stay locked. */
static int spawn_with(struct succession *succession, int channel, int words)
{
    const struct succession_config *config = &succession->config;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    char setting[64];

    (void)snprintf(setting, sizeof(setting), MESSAGE_ENVIRONMENT "=%d", channel);
    char **environment = child_environment(is_ours_alone, setting);
    if (environment == NULL)
        return ENOMEM;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawnattr_init(&attr);
    int err = set_attributes(&attr, config->own_group);
    /* dup2 of a descriptor onto itself: glibc clears FD_CLOEXEC. */
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
    struct message hello;

    handover_begin(&hello, HANDOVER_HELLO);
    message_put_number(&hello, HANDOVER_GENERATION, succession->generation + 1);
    message_put_number(&hello, HANDOVER_IS_MASTER, succession->config.timing.stays);
    message_put_number(&hello, HANDOVER_RUNS_APP, succession->config.runs_app);
    if (succession->config.open_files != 0)
        message_put_number(&hello, HANDOVER_OPEN_FILES, succession->config.open_files);
    message_put_fd(&hello, STDERR_FILENO);
    return message_send(succession->channel, &hello);
}

int succession_spawn(struct succession *succession)
{
    int channel[2] = {-1, -1}, words[2] = {-1, -1};

    succession->failure[0] = '\0';
    succession->offered = succession->tail_bytes = 0;
    succession->all_offered = false;
    succession->crowded_until_ns = 0;
    succession->status = succession->broken = 0;
    succession->ready.size = 0;
    int err = -message_pair(channel);
    if (err == 0 && pipe2(words, O_CLOEXEC) != 0)
        err = errno;
    if (err == 0)
        err = spawn_with(succession, channel[1], words[1]);
    if (err == 0) {
        succession->channel = channel[0];
        succession->child_stderr_fd = words[0];
        (void)fcntl(words[0], F_SETFL, O_NONBLOCK);
        succession->pid_fd = (int)syscall(SYS_pidfd_open, succession->pid, 0);
        if (succession->pid_fd < 0 || say_hello(succession) != 0) {
            /* Without HELLO it would end by itself. */
            file_close(&succession->channel);
            (void)kill_process(succession->pid, SIGKILL, "process");
            (void)waitpid(succession->pid, NULL, 0);
            succession->pid = 0;
            err = EAGAIN;
        }
    } else {
        file_close(&channel[0]);
        file_close(&words[0]);
    }
    file_close(&channel[1]);
    file_close(&words[1]);
    return err;
}

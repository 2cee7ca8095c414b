/* Starts a script, by posix_spawn(3): after fork(2) in a process with threads, locks may stay
 * locked, and the memory of a large server would be copied.
 *
 * The script has descriptors 0 to 2 and no other; a session of its own, so a process group that can
 * be ended as a whole, and no terminal; no signal blocked or ignored; its folder as the working
 * directory; the limit on open files that this process began with. It runs as the user of this
 * process. */

#include "cgi_p.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "cgi_vars.h"
#include "file.h"
#include "thread.h"

/* Of the script's side; -1: /dev/null instead. */
struct ends {
    int in, out, error;
};

/* The worker gives way; its script is a process like others. */
static short use_usual_policy(posix_spawnattr_t *attr)
{
    static const struct sched_param none;

    if (!thread_gives_way() || posix_spawnattr_setschedpolicy(attr, SCHED_OTHER) != 0 ||
        posix_spawnattr_setschedparam(attr, &none) != 0)
        return 0;
    return POSIX_SPAWN_SETSCHEDULER;
}

static int set_attributes(posix_spawnattr_t *attr)
{
    sigset_t none, all;

    (void)sigemptyset(&none);
    /* Not sigfillset(3): it leaves out two signals of glibc's own, which posix_spawn(3) would then
     * leave ignored. */
    memset(&all, 0xff, sizeof(all));
    int err =
        posix_spawnattr_setflags(attr, (short)(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                               POSIX_SPAWN_SETSID | use_usual_policy(attr)));
    if (err == 0)
        err = posix_spawnattr_setsigmask(attr, &none);
    if (err == 0)
        err = posix_spawnattr_setsigdefault(attr, &all);
    return err;
}

static int set_actions(posix_spawn_file_actions_t *actions, const struct cgi_run *run,
                       const struct ends *ends)
{
    int err = ends->in >= 0 ? posix_spawn_file_actions_adddup2(actions, ends->in, STDIN_FILENO)
                            : posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null",
                                                               O_RDONLY, 0);
    if (err == 0)
        err = posix_spawn_file_actions_adddup2(actions, ends->out, STDOUT_FILENO);
    if (err == 0)
        err = posix_spawn_file_actions_adddup2(actions, ends->error, STDERR_FILENO);
    if (err == 0)
        err = posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
    if (err == 0)
        err = posix_spawn_file_actions_addchdir_np(actions, run->script->folder);
    return err;
}

/* One argument: the words of a query (section 4.4) have made many a script run what it was not
 * meant to. */
static int spawn(struct cgi_run *run, const struct ends *ends)
{
    char *argv[] = {(char *)(uintptr_t)run->script->path, NULL};
    char **environment = cgi_vars_make(&run->cgi->settings, run->exchange, run->script);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    pid_t pid = 0;

    if (environment == NULL)
        return ENOMEM;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawnattr_init(&attr);
    int err = set_attributes(&attr);
    if (err == 0)
        err = set_actions(&actions, run, ends);
    if (err == 0) {
        claim_begin(&run->claim, run->cgi->settings.owner);
        err = posix_spawn(&pid, run->script->path, &actions, &attr, argv, environment);
        claim_made(&run->claim, err == 0 ? pid : 0);
    }
    run->pid = err == 0 ? pid : 0;
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    free(environment);
    return err;
}

/* No attribute of posix_spawn(3) sets a limit, so the script has it a moment after its start. */
static void limit_files(const struct cgi_run *run)
{
    if (run->cgi->settings.files.rlim_max > 0)
        (void)prlimit(run->pid, RLIMIT_NOFILE, &run->cgi->settings.files, NULL);
}

/* Our end does not block; the script's does. ret[0] is read from. */
static int open_pipe(int ret[2], int ours)
{
    if (pipe2(ret, O_CLOEXEC) != 0)
        return errno;
    (void)fcntl(ret[ours], F_SETFL, O_NONBLOCK);
    return 0;
}

/* Descriptors below 3 would be overwritten while those of the script are put there. A server fills
 * them at its start (base/process/standard_fds.h); a program that uses the library may not. */
static int open_pipes(struct cgi_run *run, struct ends *ends)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1}, error[2] = {-1, -1};
    int err = run->exchange->body_bytes > 0 ? open_pipe(in, 1) : 0;

    if (err == 0)
        err = open_pipe(out, 0);
    if (err == 0)
        err = open_pipe(error, 0);
    *ends = (struct ends){in[0], out[1], error[1]};
    run->in_fd = in[1];
    run->out_fd = out[0];
    run->error_fd = error[0];
    if (err == 0 && ((in[0] >= 0 && in[0] <= STDERR_FILENO) || out[1] <= STDERR_FILENO ||
                     error[1] <= STDERR_FILENO))
        err = EBADF;
    return err;
}

int cgi_spawn(struct cgi_run *run)
{
    struct ends ends;
    int err = open_pipes(run, &ends);

    run->pid_fd = -1;
    if (err == 0)
        err = spawn(run, &ends);
    file_close(&ends.in);
    file_close(&ends.out);
    file_close(&ends.error);
    if (err == 0 && (run->pid_fd = pidfd_open(run->pid, 0)) < 0) {
        err = errno;
        (void)claim_signal(&run->claim, SIGKILL, "a script");
        claim_reap(&run->claim, &run->status);
    } else if (err == 0) {
        limit_files(run);
    }
    if (err != 0) {
        file_close(&run->in_fd);
        file_close(&run->out_fd);
        file_close(&run->error_fd);
    }
    return -err;
}

#include "kill.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include "log.h"

bool kill_process(pid_t pid, int signo, const char *what)
{
    if (kill(pid, signo) == 0 || errno == ESRCH)
        return true;
    int err = errno;
    bool is_group = pid < 0;
    long number = is_group ? -(long)pid : (long)pid;
    log_line(LOG_LEVEL_ERROR, "kill-failed",
             json_pack("{s:I, s:s}", "pid", (json_int_t)number, "signal", sigabbrev_np(signo)),
             "cannot send SIG%s to %s %s%ld: %s%s", sigabbrev_np(signo), what,
             is_group ? "in process group " : "", number, strerrordesc_np(err),
             err == EPERM ? " (it runs as another user: that takes CAP_KILL)" : "");
    return false;
}

bool kill_finds(pid_t pid)
{
    return kill(pid, 0) == 0 || errno == EPERM;
}

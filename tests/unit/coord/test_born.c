/* What a process inherits of the one that starts it, and the end of a child that another has waited
 * for: standard_fds.h, signals.h, child.h. Each test forks the process that it is about. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "child.h"
#include "coord.h"
#include "signals.h"
#include "standard_fds.h"

/* Run `life` in a child process; it has to return true. */
static void assert_in_child(bool (*life)(void))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        _exit(life() ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* ---- descriptors ---- */

static bool is_null(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3) &&
           (fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0;
}

static bool fills_all(void)
{
    for (int fd = 0; fd < 3; fd++)
        (void)close(fd);
    standard_fds_fill();
    int next = open("/dev/zero", O_RDONLY);
    return is_null(0) && is_null(1) && is_null(2) && next > 2 && write(2, "x", 1) == 1 &&
           standard_fds_was_closed(0) && standard_fds_was_closed(1) && standard_fds_was_closed(2);
}

static bool fills_what_is_closed(void)
{
    struct stat before, after;
    int file = open("/proc/self/stat", O_RDONLY);
    bool good = dup2(file, 0) == 0 && dup2(file, 2) == 2 && fstat(0, &before) == 0;
    (void)close(1);
    standard_fds_fill();
    return good && fstat(0, &after) == 0 && after.st_ino == before.st_ino && is_null(1) &&
           !is_null(2) && !standard_fds_was_closed(0) && standard_fds_was_closed(1) &&
           !standard_fds_was_closed(2) && !standard_fds_was_closed(3) &&
           !standard_fds_was_closed(-1);
}

static void test_closed_standard_descriptors_are_filled(void **state)
{
    (void)state;
    assert_in_child(fills_all);
    assert_in_child(fills_what_is_closed);
}

/* ---- dispositions and masks ---- */

static bool is_ignored(int signo)
{
    struct sigaction action;
    return sigaction(signo, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

static bool undoes_what_was_ignored(void)
{
    static const int reset[] = {SIGCHLD, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGWINCH};

    for (size_t i = 0; i < sizeof(reset) / sizeof(reset[0]); i++)
        (void)signal(reset[i], SIG_IGN);
    (void)signal(SIGRTMIN + 5, SIG_IGN);
    (void)signal(SIGTTOU, SIG_IGN);
    if (signals_block() != 0)
        return false;
    for (size_t i = 0; i < sizeof(reset) / sizeof(reset[0]); i++)
        if (is_ignored(reset[i]))
            return false;
    return !is_ignored(SIGRTMIN + 5) && is_ignored(SIGTTOU) && is_ignored(SIGPIPE) &&
           is_ignored(SIGXFSZ);
}

static bool undoes_what_was_blocked(void)
{
    sigset_t all, now;

    (void)sigfillset(&all);
    (void)sigprocmask(SIG_BLOCK, &all, NULL);
    if (signals_block() != 0 || sigprocmask(SIG_BLOCK, NULL, &now) != 0)
        return false;
    return sigismember(&now, SIGALRM) == 0 && sigismember(&now, SIGSEGV) == 0 &&
           sigismember(&now, SIGTERM) == 1 && sigismember(&now, SIGCHLD) == 1;
}

static void test_what_the_parent_ignored_and_blocked_is_undone(void **state)
{
    (void)state;
    assert_in_child(undoes_what_was_ignored);
    assert_in_child(undoes_what_was_blocked);
}

/* Sent as the kernel, or as another process, would; a process may do so to itself alone. */
static bool is_meant(int signo, int code, pid_t sender)
{
    siginfo_t info = {.si_signo = signo, .si_code = code}, got;
    sigset_t set;

    info.si_pid = sender;
    signals_wanted(&set);
    if (syscall(SYS_rt_sigqueueinfo, getpid(), signo, &info) != 0 ||
        sigwaitinfo(&set, &got) != signo)
        abort();
    return signals_is_meant(signo, got.si_code, got.si_pid);
}

static bool honours_nohup(void)
{
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGQUIT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    return signals_block() == 0 && is_ignored(SIGHUP) && is_ignored(SIGQUIT) &&
           !is_meant(SIGHUP, SI_KERNEL, 0) &&       /* the terminal is gone */
           !is_meant(SIGHUP, SI_USER, getsid(0)) && /* the shell says that it is */
           is_meant(SIGHUP, SI_USER, getppid()) && !is_meant(SIGQUIT, SI_KERNEL, 0) &&
           is_meant(SIGQUIT, SI_USER, getsid(0)) && is_meant(SIGINT, SI_KERNEL, 0) &&
           is_meant(SIGTERM, SI_KERNEL, 0);
}

static bool takes_all_otherwise(void)
{
    (void)signal(SIGHUP, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    return signals_block() == 0 && is_meant(SIGHUP, SI_KERNEL, 0) &&
           is_meant(SIGHUP, SI_USER, getsid(0)) && is_meant(SIGINT, SI_KERNEL, 0);
}

static bool honours_nohup_apart(void)
{
    /* The parent of this process is to be another than the leader of its session. */
    int status;
    pid_t pid = setsid() > 0 ? fork() : -1;
    if (pid == 0) {
        pid_t inner = fork();
        if (inner == 0)
            _exit(honours_nohup() ? 0 : 1);
        _exit(waitpid(inner, &status, 0) == inner && status == 0 ? 0 : 1);
    }
    return waitpid(pid, &status, 0) == pid && status == 0;
}

static void test_what_was_ignored_of_the_terminal_stays_so(void **state)
{
    (void)state;
    assert_in_child(honours_nohup_apart);
    assert_in_child(takes_all_otherwise);
}

/* ---- children ---- */

static pid_t start_one(int status)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(status);
    return pid;
}

static void wait_until_ended(pid_t pid)
{
    siginfo_t info;
    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR)
        ;
}

static void test_a_child_that_has_ended_tells_how(void **state)
{
    char text[CHILD_TEXT_SIZE];
    int status = 77;
    (void)state;
    pid_t pid = fork();
    if (pid == 0)
        for (;;)
            (void)pause();
    assert_false(child_has_ended(pid, &status));
    assert_int_equal(status, 77);
    assert_int_equal(kill(pid, SIGKILL), 0);
    wait_until_ended(pid);
    assert_true(child_has_ended(pid, &status));
    assert_string_equal(child_describe(status, text), "was ended by SIGKILL");
    assert_int_equal(child_exit_status(status), 128 + SIGKILL);
    pid = start_one(3);
    wait_until_ended(pid);
    assert_true(child_has_ended(pid, &status));
    assert_string_equal(child_describe(status, text), "exited with status 3");
    assert_int_equal(child_exit_status(status), 3);
}

static void test_a_child_that_another_has_waited_for_is_gone(void **state)
{
    char text[CHILD_TEXT_SIZE];
    int status = 77;
    (void)state;
    pid_t pid = start_one(0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(child_has_ended(pid, &status));
    assert_int_equal(status, CHILD_LOST);
    assert_false(WIFEXITED(status));
    assert_false(WIFSIGNALED(status));
    assert_non_null(strstr(child_describe(status, text), "is gone"));
    assert_int_equal(child_exit_status(status), EXIT_STATUS_UNAVAILABLE);
}

static bool loses_one_to_the_kernel(void)
{
    int status;
    (void)signal(SIGCHLD, SIG_IGN);
    pid_t pid = start_one(0);
    while (!child_has_ended(pid, &status)) /* as a caller that polls */
        (void)poll(NULL, 0, 1);
    return status == CHILD_LOST;
}

static void test_a_child_that_the_kernel_has_reaped_is_gone(void **state)
{
    (void)state;
    assert_in_child(loses_one_to_the_kernel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed_standard_descriptors_are_filled),
        cmocka_unit_test(test_what_the_parent_ignored_and_blocked_is_undone),
        cmocka_unit_test(test_what_was_ignored_of_the_terminal_stays_so),
        cmocka_unit_test(test_a_child_that_has_ended_tells_how),
        cmocka_unit_test(test_a_child_that_another_has_waited_for_is_gone),
        cmocka_unit_test(test_a_child_that_the_kernel_has_reaped_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

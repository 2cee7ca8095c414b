/* The specification of base/process/claim.h: children that their own threads wait for, beside a
 * reaper of orphans, and the end of their groups. */

#include "claim.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "wakeup.h"

#define FOREVER_NS (clock_now_ns() + 60 * NS_PER_S)

static int owner, other;
static int bell;

static int set_up(void **state)
{
    (void)state;
    bell = wakeup_open();
    (void)alarm(120);
    return bell >= 0 ? 0 : -1;
}

static int clean_up(void **state)
{
    (void)state;
    claims_reaper_ends();
    (void)close(bell);
    (void)alarm(0);
    return 0;
}

/* A group of one, that waits for a signal, or exits at once. */
static pid_t start_child(bool exits)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)setpgid(0, 0);
        if (!exits)
            (void)pause();
        _exit(7);
    }
    assert_true(pid > 0);
    (void)setpgid(pid, pid); /* whoever comes first */
    return pid;
}

static void claim_child(struct claim *claim, const void *whose, bool exits)
{
    claim_begin(claim, whose);
    claim_made(claim, start_child(exits));
}

/* As waitid(2) with WNOWAIT sees it. */
static void wait_until_dead(pid_t pid)
{
    siginfo_t info;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
}

static bool is_rung(void)
{
    struct pollfd fd = {.fd = bell, .events = POLLIN};
    bool rung = poll(&fd, 1, 0) == 1;
    wakeup_drain(bell);
    return rung;
}

static void test_the_reaper_leaves_a_claimed_child_and_takes_others(void **state)
{
    struct claim claim;
    int status;
    (void)state;
    claim_child(&claim, &owner, true);
    pid_t pid = claim.pid, orphan = start_child(true);
    wait_until_dead(pid);
    wait_until_dead(orphan);
    assert_false(claims_reap_orphan(pid, bell));
    assert_true(claims_reap_orphan(orphan, bell));
    assert_int_equal(waitpid(orphan, &status, WNOHANG), -1);
    assert_false(is_rung());
    claim_reap(&claim, &status);
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_true(is_rung()); /* now there may be another one to look at */
    assert_true(claims_reap_orphan(pid, bell));
}

static void test_the_reaper_leaves_all_while_one_is_being_started(void **state)
{
    struct claim claim;
    int status;
    (void)state;
    claim_begin(&claim, &owner);
    pid_t pid = start_child(true);
    wait_until_dead(pid);
    assert_false(claims_reap_orphan(pid, bell)); /* before it is known whose it is */
    assert_false(is_rung());
    claim_made(&claim, pid);
    assert_true(is_rung());
    assert_false(claims_reap_orphan(pid, bell));
    claim_reap(&claim, &status);
    assert_int_equal(WEXITSTATUS(status), 7);
}

static void test_a_start_that_failed_leaves_no_claim(void **state)
{
    struct claim claim;
    (void)state;
    claim_begin(&claim, &owner);
    claim_made(&claim, 0);
    assert_int_equal(claims_kill(&owner, 0), 0);
}

static void test_the_end_of_the_process_kills_the_groups_of_one_owner(void **state)
{
    struct claim mine, theirs;
    int status;
    (void)state;
    claim_child(&mine, &owner, false);
    claim_child(&theirs, &other, false);
    assert_int_equal(claims_kill(&owner, 0), 1);
    claim_reap(&mine, &status);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_int_equal(claims_kill(&owner, FOREVER_NS), 0); /* it does not wait for the others */
    assert_true(claim_signal(&theirs, SIGTERM, "a child"));
    claim_reap(&theirs, &status);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

static void *reap(void *arg)
{
    int status;
    claim_reap(arg, &status);
    return (void *)(intptr_t)status;
}

static void test_the_end_of_the_process_waits_for_those_that_end(void **state)
{
    struct claim claim;
    pthread_t thread;
    void *status;
    (void)state;
    claim_child(&claim, &owner, false);
    pid_t pid = claim.pid;
    assert_int_equal(pthread_create(&thread, NULL, reap, &claim), 0);
    assert_int_equal(kill(-pid, SIGTERM), 0);
    assert_int_equal(claims_kill(&owner, FOREVER_NS), 0);
    (void)pthread_join(thread, &status);
    assert_int_equal(WTERMSIG((int)(intptr_t)status), SIGTERM);
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, clean_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_the_reaper_leaves_a_claimed_child_and_takes_others),
        T(test_the_reaper_leaves_all_while_one_is_being_started),
        T(test_a_start_that_failed_leaves_no_claim),
        T(test_the_end_of_the_process_kills_the_groups_of_one_owner),
        T(test_the_end_of_the_process_waits_for_those_that_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

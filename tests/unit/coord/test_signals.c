/* The specification of signals.h, one claim a test. Signals concern a whole process, so each test
 * forks one: the child runs a coordinator on a fake server, and writes its log and its own messages
 * to a pipe; the parent sends signals and reads.
 *
 * No test sleeps: the parent waits for a message on the pipe before it goes on. The kernel drops a
 * signal that is sent while the same one is pending, so a test that needs several either sends
 * different ones or waits until the child has taken the last one. alarm(2) ends a test that hangs.
 */

#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"

#define HANG_S 60
#define FAR (3600 * NS_PER_S)

/* ---- the child ---- */

/* What the fake server does when the coordinator calls its close function: */
enum manner {
    OBEDIENT, /* all is closed and answered */
    BUSY,     /* the listeners close, one request never ends */
    STUCK,    /* the callback never returns */
};

static enum manner manner;      /* of the child; set before the fork */
static uint64_t lame_duck_ns;   /* of the child */
static struct coord *coord;     /* the child's */
static struct coord_census now; /* coordinator's thread */

/* A word for the parent: one write, as a line of the log is. */
static void say(const char *word)
{
    if (write(STDERR_FILENO, word, strlen(word)) < 0)
        abort();
}

static void fake_lame_duck(void *server, bool on)
{
    (void)server;
    say(on ? "<lame duck>\n" : "<ready>\n");
}

static void fake_close(void *server)
{
    (void)server;
    now = (struct coord_census){.active = manner == BUSY, .connections = manner == BUSY};
    say("<close>\n");
    while (manner == STUCK)
        pause();
}

static void fake_nothing(void *server)
{
    (void)server;
}

static void fake_let_go(void *server, uint64_t spread_ns)
{
    (void)server;
    (void)spread_ns;
}

static void fake_give_up(void *server, unsigned classes)
{
    (void)server;
    (void)classes;
}

static void fake_list(void *server, bool freeze, struct coord_requests *ret_list)
{
    (void)server;
    (void)ret_list;
    say(freeze ? "<freeze>\n" : "<list>\n");
}

static void fake_census(void *server, struct coord_census *ret_census)
{
    (void)server;
    *ret_census = now;
}

static const struct coord_server_ops fake_ops = {
    .lame_duck = fake_lame_duck,
    .close_listeners = fake_close,
    .finish = fake_let_go,
    .release_idle = fake_let_go,
    .give_up = fake_give_up,
    .list_requests = fake_list,
    .cut = fake_nothing,
    .census = fake_census,
};

static void must(bool good)
{
    if (!good)
        abort();
}

static void make_coord(void)
{
    const struct coord_config config = {
        .ops = &fake_ops, .drain = {lame_duck_ns, .deadline_ns = FAR, .idle_grace_ns = FAR}};
    now = (struct coord_census){.listeners = 1, .active = 1, .connections = 1};
    must(coord_create(&config, &coord) == 0);
}

/* What server/main.c does, in small. */
static int serve(void)
{
    struct signals *signals = NULL;
    make_coord();
    must(signals_start(coord, &signals) == 0);
    say("<started>\n");
    int status = coord_run(coord);
    signals_stop(signals);
    coord_destroy(coord);
    return status;
}

static int child_serves(void)
{
    must(signals_block() == 0);
    return serve();
}

/* ---- the parent ---- */

static pid_t child = -1;
static int words = -1; /* what the child says */
static char said[1 << 16];
static size_t said_bytes;

/* Returns in the parent; the child ends with the status that `life` returns. */
static void start(int (*life)(void))
{
    int ends[2];
    (void)fflush(NULL);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(SIGABRT, SIG_DFL);
        alarm(HANG_S);
        (void)dup2(ends[1], STDERR_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        log_init(LOG_FORMAT_TEXT, false);
        exit(life()); /* not _exit: the leak sanitizer looks at exit */
    }
    close(ends[1]);
    words = ends[0];
    said_bytes = 0;
    said[0] = '\0';
}

/* Read on until the child has written `word` for the `nth` time, or has ended. */
static bool hear(const char *word, unsigned nth)
{
    for (;;) {
        unsigned n = 0;
        for (const char *at = said; (at = strstr(at, word)) != NULL; at++)
            n++;
        if (n >= nth)
            return true;
        ssize_t got = read(words, said + said_bytes, sizeof(said) - 1 - said_bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        said_bytes += (size_t)got;
        said[said_bytes] = '\0';
    }
}

static void wait_for(const char *word)
{
    if (!hear(word, 1))
        fail_msg("the child ended without \"%s\":\n%s", word, said);
}

static void send_signal(int signo)
{
    assert_int_equal(kill(child, signo), 0);
}

/* Returns the exit status, or the negative number of the signal that ended the child. */
static int reap(void)
{
    int status;
    while (hear("there is no such word", 1))
        ;
    close(words);
    words = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    child = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Also checks that no sanitizer has reported anything. */
static void assert_ends_with(int want)
{
    int status = reap();
    if (status != want || strstr(said, "Sanitizer") != NULL ||
        strstr(said, "runtime error") != NULL)
        fail_msg("status %d, not %d:\n%s", status, want, said);
}

static int setup(void **state)
{
    (void)state;
    alarm(HANG_S);
    manner = OBEDIENT;
    lame_duck_ns = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (child > 0) {
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
        child = -1;
    }
    if (words >= 0)
        close(words);
    words = -1;
    alarm(0);
    return 0;
}

/* ---- the first signal ---- */

static void assert_drains_on(int signo, const char *name)
{
    char begun[64];
    (void)snprintf(begun, sizeof(begun), "%s received from process %ld: draining", name,
                   (long)getpid());
    start(child_serves);
    wait_for("<started>");
    send_signal(signo);
    assert_ends_with(EXIT_STATUS_CLEAN);
    assert_non_null(strstr(said, begun));
    assert_non_null(strstr(said, "<close>"));
}

static void test_sigterm_drains_and_the_log_names_its_sender(void **state)
{
    (void)state;
    assert_drains_on(SIGTERM, "SIGTERM");
}

static void test_sigint_drains(void **state)
{
    (void)state;
    assert_drains_on(SIGINT, "SIGINT");
}

static void test_sigquit_drains_and_leaves_no_core(void **state)
{
    (void)state;
    assert_drains_on(SIGQUIT, "SIGQUIT");
}

static int child_signals_itself_early(void)
{
    must(signals_block() == 0);
    must(kill(getpid(), SIGTERM) == 0); /* pending: no thread takes it */
    say("<still here>\n");
    return serve();
}

static void test_a_signal_between_block_and_start_is_not_lost(void **state)
{
    (void)state;
    start(child_signals_itself_early);
    assert_ends_with(EXIT_STATUS_CLEAN);
    assert_non_null(strstr(said, "<still here>"));
    assert_non_null(strstr(said, "SIGTERM received from process"));
}

static void test_a_signal_to_a_child_that_may_not_have_started_is_not_lost(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        /* Blocked across the fork, so that it cannot arrive before signals_block(). */
        sigset_t term;
        sigemptyset(&term);
        sigaddset(&term, SIGTERM);
        assert_int_equal(pthread_sigmask(SIG_BLOCK, &term, NULL), 0);
        start(child_serves);
        assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &term, NULL), 0);
        send_signal(SIGTERM);
        assert_ends_with(EXIT_STATUS_CLEAN);
    }
}

static void *be_a_bystander(void *arg)
{
    for (;;)
        pause();
    return arg;
}

static int child_with_bystanders(void)
{
    pthread_t thread;
    must(signals_block() == 0);
    for (int i = 0; i < 4; i++) {
        must(pthread_create(&thread, NULL, be_a_bystander, NULL) == 0);
        must(pthread_detach(thread) == 0);
    }
    return serve();
}

static void test_threads_started_after_the_block_are_not_hit(void **state)
{
    (void)state;
    manner = BUSY;
    start(child_with_bystanders);
    wait_for("<started>");
    send_signal(SIGTERM);
    wait_for("<close>");
    send_signal(SIGQUIT);
    assert_ends_with(EXIT_STATUS_FORCED);
}

static int child_raises(void)
{
    must(signals_block() == 0);
    must(pthread_kill(pthread_self(), SIGTERM) ==
         0); /* to this thread: no other thread can take it */
    sigset_t pending;
    must(sigpending(&pending) == 0);
    return sigismember(&pending, SIGTERM);
}

static void test_a_blocked_signal_waits(void **state)
{
    (void)state;
    start(child_raises);
    assert_ends_with(1);
}

/* ---- the second, the third ---- */

static void test_second_signal_forces(void **state)
{
    (void)state;
    manner = BUSY;
    start(child_serves);
    wait_for("<started>");
    send_signal(SIGTERM);
    wait_for("listeners closed"); /* it was taken */
    send_signal(SIGTERM);
    assert_ends_with(EXIT_STATUS_FORCED);
    assert_non_null(strstr(said, "<freeze>"));
    assert_non_null(strstr(said, "forced by SIGTERM"));
}

static void test_the_second_may_be_another_signal(void **state)
{
    (void)state;
    manner = BUSY;
    start(child_serves);
    wait_for("<started>");
    send_signal(SIGTERM);
    wait_for("listeners closed");
    send_signal(SIGINT);
    assert_ends_with(EXIT_STATUS_FORCED);
    assert_non_null(strstr(said, "forced by SIGINT"));
}

static void test_second_signal_ends_a_lame_duck(void **state)
{
    (void)state;
    manner = BUSY;
    lame_duck_ns = FAR;
    start(child_serves);
    wait_for("<started>");
    send_signal(SIGTERM);
    wait_for("lame duck for");
    send_signal(SIGTERM);
    assert_ends_with(EXIT_STATUS_FORCED);
}

static void test_two_pending_signals_are_the_first_and_the_second(void **state)
{
    (void)state;
    manner = BUSY;
    start(child_serves);
    wait_for("<started>");
    send_signal(SIGTERM);
    send_signal(SIGQUIT);
    assert_ends_with(EXIT_STATUS_FORCED);
}

static void test_third_signal_leaves_though_the_coordinator_is_stuck(void **state)
{
    (void)state;
    manner = STUCK;
    start(child_serves);
    wait_for("<started>");
    send_signal(SIGTERM);
    wait_for("<close>"); /* and from there it does not return */
    send_signal(SIGINT);
    send_signal(SIGQUIT);
    assert_ends_with(EXIT_STATUS_FORCED);
    assert_null(strstr(said, "<freeze>"));
}

/* The same signal three times. Of two pending ones the kernel hands out the lower number first, so
 * the word on SIGUSR1 says that SIGINT before it was taken. */
static void test_three_times_the_same_signal_leaves_too(void **state)
{
    (void)state;
    manner = STUCK;
    start(child_serves);
    wait_for("<started>");
    send_signal(SIGINT);
    wait_for("<close>");
    send_signal(SIGINT);
    send_signal(SIGUSR1);
    wait_for("SIGUSR1 received");
    send_signal(SIGINT);
    assert_ends_with(EXIT_STATUS_FORCED);
}

static void test_two_signals_end_a_stuck_coordinator(void **state)
{
    (void)state;
    manner = STUCK;
    start(child_serves);
    wait_for("<started>");
    send_signal(SIGTERM);
    wait_for("<close>");
    send_signal(SIGINT);
    send_signal(SIGUSR1);
    wait_for("SIGUSR1 received"); /* both were taken, and the process is there */
    send_signal(0);
    int status;
    assert_int_equal(waitpid(child, &status, WNOHANG), 0);
}

/* ---- the others ---- */

static void test_sighup_and_sigusr_do_not_end_it(void **state)
{
    (void)state;
    start(child_serves);
    wait_for("<started>");
    send_signal(SIGHUP);
    send_signal(SIGUSR1);
    send_signal(SIGUSR2);
    wait_for("SIGHUP received: ignored, this server does not use it");
    wait_for("SIGUSR1 received: ignored, this server does not use it");
    wait_for("SIGUSR2 received: ignored, this server does not use it");
    assert_null(strstr(said, "<lame duck>"));
    send_signal(SIGTERM);
    assert_ends_with(EXIT_STATUS_CLEAN);
}

static void test_sighup_is_not_a_second_signal(void **state)
{
    (void)state;
    manner = BUSY;
    start(child_serves);
    wait_for("<started>");
    send_signal(SIGTERM);
    wait_for("listeners closed");
    for (unsigned i = 1; i <= 3; i++) {
        send_signal(SIGHUP);
        assert_true(hear("SIGHUP received", i));
    }
    assert_null(strstr(said, "<freeze>"));
    send_signal(SIGTERM);
    assert_ends_with(EXIT_STATUS_FORCED);
}

static bool take_hup(void *arg, int signo)
{
    must(arg == &now);
    say(signo == SIGHUP ? "<hup>\n" : "<other>\n");
    return signo == SIGHUP;
}

static int child_hands_on(void)
{
    must(signals_block() == 0);
    signals_on_spare(take_hup, &now);
    return serve();
}

static void test_spare_signals_go_to_the_application(void **state)
{
    (void)state;
    start(child_hands_on);
    wait_for("<started>");
    send_signal(SIGHUP);
    wait_for("SIGHUP received: passed on to the application");
    send_signal(SIGUSR2);
    wait_for("SIGUSR2 received: ignored, this server does not use it");
    send_signal(SIGWINCH);
    assert_true(hear("<other>", 2)); /* offered, and not worth a line */
    send_signal(SIGTERM);
    assert_ends_with(EXIT_STATUS_CLEAN);
    assert_null(strstr(said, "SIGWINCH"));
}

static int child_lingers_behind_its_drain(void)
{
    struct signals *signals = NULL;
    must(signals_block() == 0);
    signals_on_spare(take_hup, &now);
    make_coord();
    must(signals_start(coord, &signals) == 0);
    say("<started>\n");
    int status = coord_run(coord);
    say("<over>\n");
    must(kill(getpid(), SIGINT) == 0);
    sigset_t pending; /* until the thread has taken it */
    do {
        sched_yield();
        must(sigpending(&pending) == 0);
    } while (sigismember(&pending, SIGINT) == 1);
    signals_stop(signals);
    coord_destroy(coord);
    return status;
}

static void test_a_signal_after_the_drain_is_spare_too(void **state)
{
    (void)state;
    start(child_lingers_behind_its_drain);
    wait_for("<started>");
    send_signal(SIGTERM);
    wait_for("<over>");
    wait_for("<other>");
    assert_ends_with(EXIT_STATUS_CLEAN);
}

static int child_counts_children(void)
{
    sigset_t pending;
    must(signals_block() == 0);
    pid_t grandchild = fork();
    must(grandchild >= 0);
    if (grandchild == 0)
        _exit(0);
    must(waitpid(grandchild, NULL, 0) == grandchild);
    must(sigpending(&pending) == 0);
    return sigismember(&pending, SIGCHLD) == 1 ? 42 : 1;
}

static void test_sigchld_is_left_to_its_signalfd(void **state)
{
    (void)state;
    start(child_counts_children);
    assert_ends_with(42);
}

static int child_writes_into_nothing(void)
{
    int ends[2];
    must(signals_block() == 0);
    must(pipe(ends) == 0);
    must(close(ends[0]) == 0);
    ssize_t done = write(ends[1], "x", 1);
    return done < 0 && errno == EPIPE ? 42 : 1;
}

static void test_sigpipe_is_ignored(void **state)
{
    (void)state;
    start(child_writes_into_nothing);
    assert_ends_with(42);
}

static void test_sigkill_is_out_of_reach(void **state)
{
    (void)state;
    start(child_serves);
    wait_for("<started>");
    send_signal(SIGKILL);
    assert_int_equal(reap(), -SIGKILL);
}

/* ---- stop ---- */

static int child_stops_at_once(void)
{
    struct signals *signals = NULL;
    must(signals_block() == 0);
    make_coord();
    for (int i = 0; i < 100; i++) {
        must(signals_start(coord, &signals) == 0);
        signals_stop(signals); /* also before the thread has come to its wait */
    }
    enum coord_phase phase = coord_get_phase(coord);
    coord_destroy(coord);
    return (int)phase;
}

static void test_stop_ends_the_thread_and_asks_for_nothing(void **state)
{
    (void)state;
    start(child_stops_at_once);
    assert_ends_with(PHASE_RUNNING);
    assert_string_equal(said, "");
}

static int child_stops_nothing(void)
{
    signals_stop(NULL);
    return 42;
}

static void test_stop_of_nothing_is_allowed(void **state)
{
    (void)state;
    start(child_stops_nothing);
    assert_ends_with(42);
}

static int child_is_signalled_after_stop(void)
{
    struct signals *signals = NULL;
    must(signals_block() == 0);
    make_coord();
    must(signals_start(coord, &signals) == 0);
    signals_stop(signals);
    must(kill(getpid(), SIGTERM) == 0);
    must(kill(getpid(), SIGHUP) == 0);
    coord_destroy(coord);
    return 42; /* they stay blocked: nothing can spoil the exit status any more */
}

static void test_a_signal_after_stop_does_not_spoil_the_status(void **state)
{
    (void)state;
    start(child_is_signalled_after_stop);
    assert_ends_with(42);
}

/* ---- claims that coord/ does not keep yet ---- */

static void test_a_stray_real_time_signal_does_not_deafen_it(void **state)
{
    (void)state;
    start(child_serves);
    wait_for("<started>");
    alarm(5); /* it hangs, if it fails */
    send_signal(SIGRTMIN + 1);
    send_signal(SIGHUP);
    wait_for("SIGHUP received");
    assert_int_equal(kill(child, SIGTERM), 0);
    assert_ends_with(EXIT_STATUS_CLEAN);
}

static void *undrain_each_time(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        must(coord_wait_phase(coord, PHASE_LAME_DUCK, CLOCK_NEVER) == 0);
        must(coord_undrain(coord));
        while (coord_get_phase(coord) != PHASE_RUNNING)
            sched_yield();
        say("<undone>\n");
    }
    return NULL;
}

static int child_undrains(void)
{
    pthread_t thread;
    must(signals_block() == 0);
    struct signals *signals = NULL;
    make_coord();
    must(signals_start(coord, &signals) == 0);
    must(pthread_create(&thread, NULL, undrain_each_time, NULL) == 0);
    say("<started>\n");
    int status = coord_run(coord);
    pthread_join(thread, NULL);
    signals_stop(signals);
    coord_destroy(coord);
    return status;
}

static void test_a_signal_that_was_undone_does_not_count(void **state)
{
    (void)state;
    manner = BUSY;
    lame_duck_ns = FAR;
    start(child_undrains);
    wait_for("<started>");
    for (unsigned i = 1; i <= 3; i++) {
        send_signal(SIGTERM);
        if (!hear("<undone>", i))
            fail_msg("it left at signal %u:\n%s", i, said);
    }
    send_signal(SIGTERM);
    assert_true(hear("lame duck for", 4));
    send_signal(SIGTERM);
    assert_ends_with(EXIT_STATUS_FORCED);
}

#define claim(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_sigterm_drains_and_the_log_names_its_sender),
        claim(test_sigint_drains),
        claim(test_sigquit_drains_and_leaves_no_core),
        claim(test_a_signal_between_block_and_start_is_not_lost),
        claim(test_a_signal_to_a_child_that_may_not_have_started_is_not_lost),
        claim(test_threads_started_after_the_block_are_not_hit),
        claim(test_a_blocked_signal_waits),
        claim(test_second_signal_forces),
        claim(test_the_second_may_be_another_signal),
        claim(test_second_signal_ends_a_lame_duck),
        claim(test_two_pending_signals_are_the_first_and_the_second),
        claim(test_third_signal_leaves_though_the_coordinator_is_stuck),
        claim(test_three_times_the_same_signal_leaves_too),
        claim(test_two_signals_end_a_stuck_coordinator),
        claim(test_sighup_and_sigusr_do_not_end_it),
        claim(test_sighup_is_not_a_second_signal),
        claim(test_spare_signals_go_to_the_application),
        claim(test_a_signal_after_the_drain_is_spare_too),
        claim(test_sigchld_is_left_to_its_signalfd),
        claim(test_sigpipe_is_ignored),
        claim(test_sigkill_is_out_of_reach),
        claim(test_stop_ends_the_thread_and_asks_for_nothing),
        claim(test_stop_of_nothing_is_allowed),
        claim(test_a_signal_after_stop_does_not_spoil_the_status),
        claim(test_a_stray_real_time_signal_does_not_deafen_it),
        claim(test_a_signal_that_was_undone_does_not_count),
    };
    return cmocka_run_group_tests_name("signals", tests, NULL, NULL);
}

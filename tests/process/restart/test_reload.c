/* `lastcall reload`: it waits for the outcome of a restart in place, and ends with it. And what a
 * master says of a first worker that cannot start. */

#include "as_manager.h"
#include "command.h"
#include "with_restart.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "loopback.h"

#define LISTEN "listen: {host: 127.0.0.1, port: 0}\n"

static const char *admin(void)
{
    static char text[160];
    (void)snprintf(text, sizeof(text), "unix:%s", in_folder("admin.sock"));
    return text;
}

static void start_with(struct process *p, const char *mode, const char *more)
{
    char text[512];

    (void)snprintf(text, sizeof(text), LISTEN "%s", more);
    process_start_configured(p, ARGS("-m", mode, "--admin", admin(), "-c", write_conf(text)));
    process_wait_log(p, "admin on ");
    if (strcmp(mode, "master") == 0)
        process_wait_log(p, "generation 1 serves");
}

/* `lastcall reload` ends with `want`, and says `text`. */
static void reload(int want, const char *text)
{
    struct command command;

    command_run(&command, want, ARGS(NULL, "reload", "--admin", admin()));
    assert_contains(want == 0 ? command.out : command.err, text);
    command_release(&command);
}

static pid_t last_of(struct process *p, unsigned generation)
{
    pid_t pid;
    assert_generation(p, generation, &pid);
    return pid;
}

/* ---- it serves ---- */

static void test_reload_returns_when_the_successor_serves(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, "worker", "");
    reload(0, "generation 2 serves (process ");
    stop(&p, last_of(&p, 2));
    process_release(&p);
}

static void test_reload_of_a_master_returns_when_the_worker_serves(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, "master", "");
    reload(0, "generation 2 serves (process ");
    reload(0, "generation 3 serves (process ");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* ---- it does not ---- */

static void fails_with_78(const char *mode)
{
    struct process p;

    start_with(&p, mode, "");
    (void)write_conf(LISTEN "nonsense: 1\n");
    reload(78,
           "lastcall reload: the restart failed, generation 1 goes on: it exited with status 78");
    assert_serves(&p);
    (void)write_conf(LISTEN);
    reload(0, "generation 2 serves");
    stop(&p, strcmp(mode, "master") == 0 ? p.pid : last_of(&p, 2));
    process_release(&p);
}

static void test_reload_ends_with_the_status_of_a_wrong_configuration(void **state)
{
    (void)state;
    fails_with_78("worker");
}

static void test_reload_of_a_master_ends_with_that_status_too(void **state)
{
    (void)state;
    fails_with_78("master");
}

static void test_reload_of_a_binary_that_is_gone_fails(void **state)
{
    struct process p;
    (void)state;
    const char *path = use_own_binary();
    start_with(&p, "master", "");
    assert_int_equal(unlink(path), 0);
    (void)setenv("LASTCALL_BINARY", program, 1);
    reload(69, "cannot start ");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* Two at once: each reports the outcome of a restart that began after its request. */
static void test_reload_waits_for_one_that_is_under_way(void **state)
{
    struct process p;
    struct command first, second;
    (void)state;
    start_with(&p, "master", "");
    command_start(&first, ARGS(NULL, "reload", "--admin", admin()));
    command_start(&second, ARGS(NULL, "reload", "--admin", admin()));
    command_expect(&first, 0);
    command_expect(&second, 0);
    command_release(&first);
    command_release(&second);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_reload_in_a_drain_is_refused(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, "master", "drain: {lame-duck: 60s}\n");
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "lame duck for ");
    reload(1, "cannot restart: this process is draining");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 4);
    process_release(&p);
}

static void test_reload_finds_a_server_by_its_process_id(void **state)
{
    char text[224], number[24];
    struct process p;
    struct command command;
    (void)state;
    (void)snprintf(text, sizeof(text), "mkdir -p -m 700 %s", in_folder("run/lastcall"));
    assert_int_equal(system(text), 0);
    (void)setenv("XDG_RUNTIME_DIR", in_folder("run"), 1);
    (void)snprintf(text, sizeof(text), "unix:%s", in_folder("run/lastcall/a.sock"));
    process_start_configured(&p, ARGS(MASTER, "--admin", text, "-c", write_conf(LISTEN)));
    process_wait_log(&p, "generation 1 serves");
    (void)snprintf(number, sizeof(number), "%ld", (long)p.pid); /* the master's, not the worker's */
    command_run(&command, 0, ARGS(NULL, "reload", "--pid", number));
    assert_contains(command.out, "generation 2 serves");
    command_release(&command);
    command_run(&command, 69, ARGS(NULL, "reload", "--pid", "1"));
    assert_contains(command.err, "no admin socket in the default folders belongs to process 1");
    command_release(&command);
    (void)unsetenv("XDG_RUNTIME_DIR");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* ---- a first start ---- */

static void test_a_first_start_that_fails_is_no_restart(void **state)
{
    char address[64];
    uint16_t port;
    struct process p;
    (void)state;
    int fd = listen_here(&port, 8);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", port);
    process_spawn(&p, ARGS(MASTER, "--admin", "off", "--listen", address));
    process_expect(&p, LIMIT_MS, 69);
    assert_contains(p.log, "cannot start the first worker: it exited with status 69");
    assert_contains(p.log, "stop it or choose another --listen");
    assert_lacks(p.log, "this process goes on");
    process_release(&p);
    process_spawn(&p, ARGS(MASTER, "--admin", address, "--listen", "127.0.0.1:0"));
    process_expect(&p, LIMIT_MS, 69);
    assert_contains(p.log, "the admin listener: cannot listen on ");
    assert_contains(p.log, "stop it or choose another --admin");
    assert_lacks(p.log, "choose another --listen");
    process_release(&p);
    (void)close(fd);
}

/* ---- the journal of systemd ---- */

/* In the child: its standard error is the journal. */
static void be_under_the_journal(void)
{
    char name[64];
    struct stat st;

    if (fstat(STDERR_FILENO, &st) != 0)
        _exit(126);
    (void)snprintf(name, sizeof(name), "%lu:%lu", (unsigned long)st.st_dev,
                   (unsigned long)st.st_ino);
    (void)setenv("JOURNAL_STREAM", name, 1);
}

/* Also the worker's output into the pipe to its master, and the master's quotes of it. */
static void test_lines_for_the_journal_have_a_priority_and_no_time(void **state)
{
    struct process p;
    (void)state;
    process_in_child = be_under_the_journal;
    start_with(&p, "master", "");
    process_in_child = NULL;
    process_wait_log(&p, "\n<6>listening on ");
    process_wait_log(&p, "\n<6>generation 1 serves");
    (void)write_conf(LISTEN "nonsense: 1\n");
    process_signal(&p, SIGHUP);
    process_wait_log(&p,
                     "\n<3>error: restart failed, this process goes on: it exited with status 78; "
                     "its last lines: error: ");
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "\n<6>SIGTERM received from process ");
    process_expect(&p, LIMIT_MS, 0);
    assert_lacks(p.log, "\n20"); /* no line begins with a year */
    process_release(&p);
}

/* ---- the watchdog of a service manager ---- */

/* Read messages to the manager until one has `text`.     Owner: static memory. */
static const char *wait_told(int manager, const char *text)
{
    static char told[1024];

    do {
        ssize_t n = recv(manager, told, sizeof(told) - 1, 0);
        if (n < 0)
            fail_msg("the manager is not told %s", text);
        told[n] = '\0';
    } while (strstr(told, text) == NULL);
    return told;
}

/* The manager ignores a successor's messages until it is the main process, and the next beat comes
 * only after half the limit. So the predecessor sends a beat at the hand-over; otherwise the
 * manager would kill a service that is reloaded often. */
static void tells_the_watchdog(const char *mode)
{
    struct process p;
    int manager = listen_as_manager(in_folder("notify"));
    bool is_master = strcmp(mode, "master") == 0;

    (void)setenv("WATCHDOG_USEC", "3600000000", 1);
    start_with(&p, mode, "");
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("NOTIFY_SOCKET");
    (void)wait_told(manager, "READY=1");
    process_signal(&p, SIGHUP);
    (void)wait_told(manager, "RELOADING=1");
    if (is_master)
        (void)wait_told(manager, "WATCHDOG=1");
    else
        assert_contains(wait_told(manager, "MAINPID="), "WATCHDOG=1");
    stop(&p, is_master ? p.pid : last_of(&p, 2));
    process_release(&p);
    (void)close(manager);
}

static void test_a_hand_over_tells_the_watchdog(void **state)
{
    (void)state;
    tells_the_watchdog("worker");
}

static void test_a_master_tells_the_watchdog_of_a_new_worker(void **state)
{
    (void)state;
    tells_the_watchdog("master");
}

/* ---- what a successor says ---- */

/* Others write to the same log: half a line of each would be none. */
static void test_half_a_line_of_a_successor_waits_for_its_end(void **state)
{
    char fake[1024];
    struct process p;
    (void)state;
    const char *path = use_own_binary();
    process_start(&p, NULL, ARGS(QUICK));
    (void)snprintf(fake, sizeof(fake),
                   FAKE "sys.stderr.write('half of')\nsys.stderr.flush()\n"
                        "open('%s', 'w').close()\n"
                        "while not os.path.exists('%s'): time.sleep(0.01)\n"
                        "sys.stderr.write(' a line\\n')\nsys.exit(1)\n",
                   in_folder("began"), in_folder("goes-on"));
    write_file(path, fake);
    process_signal(&p, SIGHUP);
    while (access(in_folder("began"), F_OK) != 0)
        (void)process_says(&p, "there is no such line", 5);
    (void)process_says(&p, "half of", 300); /* it must not come: there is no event to wait for */
    process_signal(&p, SIGHUP);
    process_wait_log(&p, "another one will follow");
    write_file(in_folder("goes-on"), "");
    process_wait_log(&p, "\nhalf of a line\n");
    (void)setenv("LASTCALL_BINARY", program, 1);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* ---- without a listen, for the sockets of a service manager ---- */

static void test_a_check_accepts_a_file_without_listen(void **state)
{
    struct command command;
    (void)state;
    const char *conf = write_conf("");
    command_run(&command, 0, ARGS(NULL, "-t", "-c", conf));
    assert_contains(command.err, "there is no listen in ");
    assert_contains(command.err, "socket activation");
    command_release(&command);
    command_run(&command, 78, ARGS(NULL, "-c", conf)); /* without sockets from a manager */
    assert_contains(command.err, "no socket from a service manager");
    command_release(&command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reload_returns_when_the_successor_serves),
        TEST(test_reload_of_a_master_returns_when_the_worker_serves),
        TEST(test_reload_ends_with_the_status_of_a_wrong_configuration),
        TEST(test_reload_of_a_master_ends_with_that_status_too),
        TEST(test_reload_of_a_binary_that_is_gone_fails),
        TEST(test_reload_waits_for_one_that_is_under_way),
        TEST(test_reload_in_a_drain_is_refused),
        TEST(test_reload_finds_a_server_by_its_process_id),
        TEST(test_a_first_start_that_fails_is_no_restart),
        TEST(test_lines_for_the_journal_have_a_priority_and_no_time),
        TEST(test_a_hand_over_tells_the_watchdog),
        TEST(test_a_master_tells_the_watchdog_of_a_new_worker),
        TEST(test_half_a_line_of_a_successor_waits_for_its_end),
        TEST(test_a_check_accepts_a_file_without_listen),
    };
    return cmocka_run_group_tests(tests, with_restart_set_up, with_restart_clean_up);
}

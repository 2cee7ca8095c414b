/* Names that the operator gives, and what stands there: the real process refuses at its start what
 * it could not write at its end, spares devices, FIFOs and links, and waits for none of them. */

#include "process.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "skip.h"

#define LIMIT_MS 20000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define TEST(f) cmocka_unit_test_teardown(f, process_kill_left)

static const char *write_file(const char *name, const char *text)
{
    const char *path = in_directory(name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
    return path;
}

static mode_t type_of(const char *path)
{
    struct stat st = {0};
    return lstat(path, &st) == 0 ? st.st_mode & S_IFMT : 0;
}

static mode_t mode_of(const char *path)
{
    struct stat st = {0};
    return stat(path, &st) == 0 ? st.st_mode & 07777 : 0;
}

static char *read_file(const char *path)
{
    char *text = calloc(1, 1 << 16);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(fd >= 0 && text != NULL);
    assert_true(read(fd, text, (1 << 16) - 1) >= 0);
    (void)close(fd);
    return text;
}

static void drain(struct process *p)
{
    process_signal(p, SIGTERM);
    process_expect(p, LIMIT_MS, 0);
}

/* ---- files that cannot be written ---- */

static const char *no_folder(void)
{
    char text[600];

    (void)snprintf(text, sizeof(text),
                   "listen: {host: 127.0.0.1, port: 0}\ndrain: {report: %s/none/report.json}\n"
                   "hosts: {default: {paths: {/: {handler: hello}}}}\n",
                   directory);
    return write_file("no-folder.conf", text);
}

static void test_a_report_without_a_folder_is_refused_in_every_mode(void **state)
{
    static const char *const modes[] = {"", "master", "daemon"};
    struct process p;
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const char *report = in_directory("none/report.json"), *log = in_directory("error-log");
        (void)unlink(log);
        if (i == 0)
            process_spawn(&p, ARGS("--listen", "127.0.0.1:0", "--report", report));
        else
            process_spawn(&p, ARGS("--listen", "127.0.0.1:0", "--report", report, "--mode",
                                   modes[i], "--error-log", log));
        process_expect(&p, LIMIT_MS, 78);
        char *said = i == 0 ? strdup(p.log) : read_file(log);
        assert_contains(said, "cannot write the report to ");
        assert_contains(said, "its folder does not exist (create it)");
        assert_lacks(said, "listening on ");
        free(said);
        process_release(&p);
    }
}

static void test_a_report_without_a_folder_fails_the_test_of_a_file(void **state)
{
    struct process p;
    (void)state;
    process_spawn(&p, ARGS("-t", "-c", no_folder()));
    process_expect(&p, LIMIT_MS, 78);
    assert_contains(p.log, "its folder does not exist (create it)");
    process_release(&p);
}

static void test_a_pid_file_without_a_folder_fails_the_test_of_a_file(void **state)
{
    struct process p;
    (void)state;
    process_spawn(&p,
                  ARGS("-t", "--listen", "127.0.0.1:0", "--pid-file", in_directory("none/pid")));
    process_expect(&p, LIMIT_MS, 78);
    assert_contains(p.log, "cannot write the pid file to ");
    process_release(&p);
}

static void test_a_report_that_is_a_folder_is_refused(void **state)
{
    struct process p;
    (void)state;
    process_spawn(&p, ARGS("--listen", "127.0.0.1:0", "--report", directory));
    process_expect(&p, LIMIT_MS, 78);
    assert_contains(p.log, ": Is a directory");
    process_release(&p);
}

/* ---- what is spared ---- */

static void test_a_report_is_for_its_group_and_replaced_whole(void **state)
{
    struct process p;
    const char *report = write_file("report.json", "old");
    (void)state;
    process_start(&p, NULL, ARGS("--report", report));
    drain(&p);
    assert_int_equal(mode_of(report), 0640);
    char *text = read_file(report);
    assert_contains(text, "\"outcome\": \"quiet\"");
    free(text);
    process_release(&p);
}

static void test_a_report_follows_a_link(void **state)
{
    struct process p;
    const char *link = in_directory("report.link"), *file = in_directory("report.file");
    (void)state;
    assert_int_equal(symlink(file, link), 0);
    process_start(&p, NULL, ARGS("--report", link));
    drain(&p);
    assert_int_equal(type_of(link), S_IFLNK);
    char *text = read_file(file);
    assert_contains(text, "\"outcome\": \"quiet\"");
    free(text);
    process_release(&p);
}

/* A container's /dev/stdout is such a link, to a pipe that another program reads. */
static void test_a_report_to_standard_error_comes_out_there(void **state)
{
    struct process p;
    const char *link = in_directory("stderr");
    (void)state;
    assert_int_equal(symlink("/proc/self/fd/2", link), 0);
    process_start(&p, NULL, ARGS("--report", link));
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "\"outcome\": \"quiet\"");
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(type_of(link), S_IFLNK);
    process_release(&p);
}

static void test_a_report_to_a_fifo_is_read_from_it(void **state)
{
    struct process p;
    const char *fifo = in_directory("report.fifo");
    (void)state;
    assert_int_equal(mkfifo(fifo, 0600), 0);
    int reader = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    process_start(&p, NULL, ARGS("--report", fifo));
    drain(&p);
    char text[4096] = "";
    assert_true(read(reader, text, sizeof(text) - 1) > 0);
    assert_contains(text, "\"outcome\": \"quiet\"");
    assert_int_equal(type_of(fifo), S_IFIFO);
    (void)close(reader);
    process_release(&p);
}

static void test_a_report_to_a_fifo_without_a_reader_holds_nothing_up(void **state)
{
    struct process p;
    const char *fifo = in_directory("unread.fifo");
    (void)state;
    assert_int_equal(mkfifo(fifo, 0600), 0);
    process_start(&p, NULL, ARGS("--report", fifo));
    drain(&p);
    assert_contains(p.log, "cannot write the report ");
    assert_contains(p.log, ": the FIFO has no reader");
    assert_int_equal(type_of(fifo), S_IFIFO);
    process_release(&p);
}

static void test_a_pid_file_follows_a_link(void **state)
{
    struct process p;
    const char *link = in_directory("pid.link"), *file = in_directory("pid.file");
    (void)state;
    assert_int_equal(symlink(file, link), 0);
    process_start(&p, NULL, ARGS("--pid-file", link));
    assert_serves(&p);
    assert_int_equal(type_of(link), S_IFLNK);
    char *text = read_file(file);
    assert_int_equal(strtol(text, NULL, 10), p.pid);
    free(text);
    drain(&p);
    process_release(&p);
}

/* ---- logs ---- */

static const char *with_access_log(const char *log)
{
    char text[600];

    (void)snprintf(text, sizeof(text),
                   "listen: {host: 127.0.0.1, port: 0}\naccess-log: %s\n"
                   "hosts: {default: {paths: {/: {handler: hello}}}}\n",
                   log);
    return write_file("log.conf", text);
}

static void test_a_log_at_a_fifo_without_a_reader_holds_no_start_up(void **state)
{
    struct process p;
    const char *fifo = in_directory("log.fifo");
    (void)state;
    assert_int_equal(mkfifo(fifo, 0600), 0);
    process_start_configured(&p, ARGS("-c", with_access_log(fifo)));
    drain(&p);
    assert_int_equal(type_of(fifo), S_IFIFO);
    process_release(&p);
}

/* The signal thread opens it again, and must still take signals after that. */
static void test_a_log_that_became_a_fifo_stops_no_signal(void **state)
{
    struct process p;
    const char *log = in_directory("became.log");
    (void)state;
    process_start_configured(&p, ARGS("-c", with_access_log(log)));
    assert_int_equal(unlink(log), 0);
    assert_int_equal(mkfifo(log, 0600), 0);
    assert_int_equal(chmod(log, 0666), 0); /* the server may run as nobody by now */
    process_signal(&p, SIGUSR1);
    process_wait_log(&p, "opened 1 log file again");
    drain(&p);
    process_release(&p);
}

static void test_root_logs_through_no_link_of_a_stranger(void **state)
{
    struct process p;
    const char *log = in_directory("stranger.log");
    (void)state;
    skip_unless_root();
    assert_int_equal(symlink(in_directory("of-root"), log), 0);
    assert_int_equal(lchown(log, 65534, 65534), 0);
    process_spawn(&p, ARGS("-c", with_access_log(log)));
    process_expect(&p, LIMIT_MS, 78);
    assert_contains(p.log, "a symbolic link in the path does not belong to root");
    assert_int_equal(type_of(in_directory("of-root")), 0);
    process_release(&p);
}

/* The configuration's user must reach it. */
static int make_open_directory(void **state)
{
    return make_directory(state) != 0 || chmod(directory, 0755) != 0 ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_report_without_a_folder_is_refused_in_every_mode),
        TEST(test_a_report_without_a_folder_fails_the_test_of_a_file),
        TEST(test_a_pid_file_without_a_folder_fails_the_test_of_a_file),
        TEST(test_a_report_that_is_a_folder_is_refused),
        TEST(test_a_report_is_for_its_group_and_replaced_whole),
        TEST(test_a_report_follows_a_link),
        TEST(test_a_report_to_standard_error_comes_out_there),
        TEST(test_a_report_to_a_fifo_is_read_from_it),
        TEST(test_a_report_to_a_fifo_without_a_reader_holds_nothing_up),
        TEST(test_a_pid_file_follows_a_link),
        TEST(test_a_log_at_a_fifo_without_a_reader_holds_no_start_up),
        TEST(test_a_log_that_became_a_fifo_stops_no_signal),
        TEST(test_root_logs_through_no_link_of_a_stranger),
    };
    return cmocka_run_group_tests_name("paths", tests, make_open_directory, remove_directory);
}

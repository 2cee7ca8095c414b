/* The real process with FIFOs, devices and sockets where files are served from: they are answered
 * 403, and never hold up the loop. */

#include "with_config.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "skip.h"

/* One loop: what holds it up holds up the next request, too. */
#define FILES(more)                                                                                \
    LISTEN "num-threads: 1\nhosts:\n  default:\n    paths:\n"                                      \
           "      /:\n        file.dir: @/root\n        file.dirlisting: ON\n" more                \
           "      /hello: {handler: hello}\n"                                                      \
           "      /one: {file.file: @/root/fifo}\n"

static void make_root(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    (void)mkdir(in_directory("root"), 0755);
    (void)mkdir(in_directory("root/folder"), 0755);
    (void)mkdir(in_directory("root/plain"), 0755);
    assert_true(mkfifo(in_directory("root/fifo"), 0666) == 0 || errno == EEXIST);
    (void)mkfifo(in_directory("root/page.html.gz"), 0666);
    (void)mkfifo(in_directory("root/only.html.gz"), 0666);
    (void)mkfifo(in_directory("root/folder/index.html"), 0666);
    assert_true(symlink("fifo", in_directory("root/link")) == 0 || errno == EEXIST);
    write_file("root/page.html", "<p>a page");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", in_directory("root/socket"));
    (void)bind(fd, (struct sockaddr *)&address, sizeof(address));
    (void)close(fd);
}

static void assert_answers(const struct process *p, const char *path, const char *want)
{
    char request[128];

    (void)snprintf(request, sizeof(request),
                   "GET %s HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n", path);
    assert_answer(p, request, want);
    assert_answer(p, GET("/hello"), "Hello World");
}

static void test_what_is_no_file_is_answered_403(void **state)
{
    struct process p;
    (void)state;
    make_root();
    start(&p, FILES(""));
    assert_answers(&p, "/fifo", "HTTP/1.1 403 ");
    assert_answers(&p, "/link", "HTTP/1.1 403 ");
    assert_answers(&p, "/socket", "HTTP/1.1 403 ");
    assert_answers(&p, "/folder/", "HTTP/1.1 403 ");
    assert_answers(&p, "/fifo/", "HTTP/1.1 404 ");
    assert_answers(&p, "/page.html", "<p>a page");
    assert_answers(&p, "/nothing", "HTTP/1.1 404 ");
    assert_answers(&p, "/one", "HTTP/1.1 403 ");
    int fd = client_connect(&p); /* a list of names opens none of them */
    client_send(fd, "GET /plain/ HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    char *answer = client_read_until(fd, NULL);
    assert_contains(answer, "HTTP/1.1 200 ");
    free(answer);
    (void)close(fd);
    stop(&p);
    process_release(&p);
}

static void test_an_invalid_prepared_file_is_passed_over(void **state)
{
    struct process p;
    (void)state;
    make_root();
    start(&p, FILES("        file.send-compressed: gunzip\n"));
    assert_answers(&p, "/page.html", "<p>a page");
    assert_answers(&p, "/only.html", "HTTP/1.1 403 ");
    stop(&p);
    process_release(&p);
}

static void test_an_error_document_that_is_no_file_does_not_stop_the_loop(void **state)
{
    struct process p;
    (void)state;
    make_root();
    start(&p, FILES("        error-doc: {status: 404, url: /fifo}\n"));
    assert_answers(&p, "/nothing", "HTTP/1.1 404 ");
    stop(&p);
    process_release(&p);
}

/* A writer that waits for a reader goes on waiting: to look at a FIFO must not open it. */
static void test_a_writer_of_a_fifo_is_not_disturbed(void **state)
{
    struct process p;
    (void)state;
    make_root();
    start(&p, FILES(""));
    pid_t writer = fork();
    assert_true(writer >= 0);
    if (writer == 0) {
        int fd = open(in_directory("root/fifo"), O_WRONLY);
        _exit(fd >= 0 && write(fd, "whole", 5) == 5 ? 0 : 1);
    }
    for (unsigned i = 0; i < 20; i++)
        assert_answers(&p, "/fifo", "HTTP/1.1 403 ");
    int fd = open(in_directory("root/fifo"), O_RDONLY), status;
    char text[8] = "";
    assert_int_equal(read(fd, text, sizeof(text)), 5);
    assert_int_equal(waitpid(writer, &status, 0), writer);
    assert_int_equal(status, 0);
    (void)close(fd);
    stop(&p);
    process_release(&p);
}

/* A node of our own, of the device that gives zeros for ever. Wants the right to make it. */
static void test_a_device_is_answered_403(void **state)
{
    struct process p;
    (void)state;
    make_root();
    if (mknod(in_directory("root/device"), S_IFCHR | 0666, makedev(1, 5)) != 0 && errno != EEXIST)
        skip_test("needs the right to make a device");
    start(&p, FILES(""));
    assert_answers(&p, "/device", "HTTP/1.1 403 ");
    stop(&p);
    process_release(&p);
}

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_no_file_is_answered_403),
        TEST(test_an_invalid_prepared_file_is_passed_over),
        TEST(test_an_error_document_that_is_no_file_does_not_stop_the_loop),
        TEST(test_a_writer_of_a_fifo_is_not_disturbed),
        TEST(test_a_device_is_answered_403),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 300); /* a hang is a failure */
    return cmocka_run_group_tests_name("special_files", tests, with_config_set_up,
                                       remove_directory);
}

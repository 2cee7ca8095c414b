/* The body, and the file that it becomes. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "fake_exchange.h"
#include "library_double.h"

static lc_server *server;
static int dir;

static int set_up(void **state)
{
    server = lc_new();
    if (make_directory(state) != 0)
        return 1;
    dir = open(directory, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    return dir < 0;
}

static int tear_down(void **state)
{
    (void)close(dir);
    return remove_directory(state) != 0 || lc_free(server) != 0;
}

static void call(const char *pattern, lc_handler handler, const char *body)
{
    struct lc_answer answer = LC_ANSWER_INIT;

    assert_int_equal(lc_handle(server, pattern, handler, NULL), 0);
    char request[64];
    (void)snprintf(request, sizeof(request), "POST %s", pattern);
    assert_int_equal(lc_call(server, request, NULL, body, strlen(body), &answer), 0);
    assert_int_equal(answer.status, 200);
    lc_answer_free(&answer);
}

/* ---- reading ---- */

static void read_it(lc_req *r, void *user)
{
    char to[8];
    size_t bytes;

    (void)user;
    assert_int_equal(lc_body_size(r), 5);
    assert_memory_equal(lc_body(r, &bytes), "12345", 5);
    assert_int_equal(bytes, 5);
    assert_memory_equal(lc_body(r, NULL), "12345", 5);
    assert_int_equal(lc_read(r, to, 0), 0);
    assert_int_equal(lc_read(r, to, 3), 3);
    assert_memory_equal(to, "123", 3);
    assert_int_equal(lc_read(r, NULL, 3), LC_E_ARG);
    assert_int_equal(lc_read(r, to, 8), 2);
    assert_memory_equal(to, "45", 2);
    assert_int_equal(lc_read(r, to, 8), 0);
    assert_int_equal(lc_send(r, 200, NULL, NULL), 0);
}

static void read_nothing(lc_req *r, void *user)
{
    char to[8];
    size_t bytes = 1;

    (void)user;
    assert_int_equal(lc_body_size(r), 0);
    assert_non_null(lc_body(r, &bytes));
    assert_int_equal(bytes, 0);
    assert_int_equal(lc_read(r, to, 8), 0);
    assert_int_equal(lc_send(r, 200, NULL, NULL), 0);
}

static void test_a_body_is_read(void **state)
{
    (void)state;
    call("/read", read_it, "12345");
    call("/nothing", read_nothing, "");
}

/* ---- saving ---- */

static void expect_file(const char *name, const char *text)
{
    char bytes[64] = "";
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(read(fd, bytes, sizeof(bytes) - 1), strlen(text));
    assert_string_equal(bytes, text);
    (void)close(fd);
}

static unsigned files_in_folder(void)
{
    char command[512];
    unsigned count = 0;

    (void)snprintf(command, sizeof(command), "ls -A %s | wc -l", directory);
    FILE *from = popen(command, "r");
    assert_int_equal(fscanf(from, "%u", &count), 1);
    (void)pclose(from);
    return count;
}

static void save(lc_req *r, void *user)
{
    (void)user;
    assert_int_equal(lc_save_body(r, dir, "new", LC_NEW), 0);
    expect_file("new", "body");
    assert_int_equal(lc_save_body(r, dir, "new", LC_NEW), -EEXIST);
    assert_int_equal(lc_save_body(r, dir, "new", LC_SYNC), 0);
    assert_int_equal(symlinkat("new", dir, "link"), 0);
    assert_int_equal(lc_save_body(r, dir, "link", LC_SYNC | LC_NEW), -EEXIST);
    assert_int_equal(lc_save_body(r, dir, "link", LC_SYNC), 0);
    expect_file("link", "body"); /* O_NOFOLLOW: no link any more */
    assert_int_equal(mkdirat(dir, "folder", 0700), 0);
    assert_int_equal(lc_save_body(r, dir, "folder", 0), -EISDIR);
    assert_int_equal(files_in_folder(), 3); /* nothing else is left */
    assert_int_equal(lc_send(r, 200, NULL, NULL), 0);
}

static void test_a_body_becomes_a_file(void **state)
{
    struct stat st;

    (void)state;
    mode_t before = umask(027);
    call("/save", save, "body");
    (void)umask(before);
    assert_int_equal(fstatat(dir, "new", &st, 0), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(st.st_nlink, 1);
}

static void save_wrongly(lc_req *r, void *user)
{
    static const char *const names[] = {NULL, "", ".", "..", "a/b", "/tmp/a", "../a"};

    (void)user;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_int_equal(lc_save_body(r, dir, names[i], 0), LC_E_ARG);
    assert_int_equal(lc_save_body(r, dir, "wrong", 8), LC_E_ARG);
    assert_int_equal(lc_save_body(r, -1, "wrong", 0), -EBADF);
    assert_int_equal(lc_send(r, 200, NULL, NULL), 0);
}

static void test_a_name_does_not_lead_out_of_the_folder(void **state)
{
    (void)state;
    call("/wrong", save_wrongly, "body");
}

/* A file system without O_TMPFILE is hard to come by: open(2) of /proc is one without files at all.
 */
static void save_nowhere(lc_req *r, void *user)
{
    int proc = open("/proc", O_DIRECTORY | O_RDONLY | O_CLOEXEC);

    (void)user;
    assert_true(lc_save_body(r, proc, "x", 0) < 0);
    (void)close(proc);
    assert_int_equal(lc_send(r, 200, NULL, NULL), 0);
}

static void test_where_no_file_can_be(void **state)
{
    (void)state;
    call("/nowhere", save_nowhere, "body");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_body_is_read),
        cmocka_unit_test(test_a_body_becomes_a_file),
        cmocka_unit_test(test_a_name_does_not_lead_out_of_the_folder),
        cmocka_unit_test(test_where_no_file_can_be),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

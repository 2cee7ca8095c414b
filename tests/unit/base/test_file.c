/* What is written to a name that others have given, whatever stands there: files are made whole,
 * links are followed and stay, and what is no file is written through and never waited for. */

#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "directory.h"
#include "skip.h"

#define HANG_S 20
#define STRANGER 65534
#define claim(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static char path[512], other[512];

/* A name that no other test of this program has. */
static int set_up(void **state)
{
    static unsigned count;

    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)alarm(HANG_S); /* what waits for ever is ended here */
    (void)snprintf(path, sizeof(path), "%s/path-%u", directory, count);
    (void)snprintf(other, sizeof(other), "%s/other-%u", directory, count++);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)alarm(0);
    (void)umask(022);
    return 0;
}

static mode_t type_of(const char *name)
{
    struct stat st = {0};
    return lstat(name, &st) == 0 ? st.st_mode & S_IFMT : 0;
}

static void make_file(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
}

static void assert_holds(const char *name, const char *want)
{
    char text[256] = "";
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(read(fd, text, sizeof(text) - 1) >= 0);
    (void)close(fd);
    assert_string_equal(text, want);
}

/* ---- files ---- */

static void test_a_file_has_the_mode_that_is_asked_for(void **state)
{
    struct stat st;
    (void)state;
    (void)umask(077);
    assert_int_equal(file_write_whole_as(path, "one", 0640), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(file_write_whole(path, "two"), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_holds(path, "two");
}

static void test_a_reader_of_the_old_file_goes_on_with_it(void **state)
{
    char text[8] = "";
    (void)state;
    make_file(path, "old");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(file_write_whole(path, "new and longer"), 0);
    assert_int_equal(read(fd, text, sizeof(text) - 1), 3);
    assert_string_equal(text, "old");
    (void)close(fd);
}

static void test_a_relative_path_is_one_from_here(void **state)
{
    char before[512];
    (void)state;
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(directory), 0);
    int err = file_write_whole(strrchr(path, '/') + 1, "here");
    assert_int_equal(chdir(before), 0);
    assert_int_equal(err, 0);
    assert_holds(path, "here");
}

static void test_a_missing_folder_is_an_error(void **state)
{
    char below[600];
    (void)state;
    (void)snprintf(below, sizeof(below), "%s/report", path);
    assert_int_equal(file_check_writable(below), -ENOENT);
    assert_int_equal(file_write_whole(below, "x"), -ENOENT);
    make_file(path, "no folder");
    assert_int_equal(file_check_writable(below), -ENOTDIR);
    assert_int_equal(file_check_writable(""), -ENOENT);
}

static void test_a_folder_disk_or_socket_is_refused(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)state;
    assert_int_equal(file_check_writable(directory), -EISDIR);
    assert_int_equal(file_write_whole(directory, "x"), -EISDIR);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.100s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(file_check_writable(path), -ENOTSUP);
    assert_int_equal(file_write_whole(path, "x"), -ENOTSUP);
    assert_int_equal(type_of(path), S_IFSOCK);
    (void)close(fd);
    /* A disk that is not there: nothing can be written to it, whatever fails. */
    if (mknod(other, S_IFBLK | 0600, makedev(7, 4095)) == 0)
        assert_int_equal(file_check_writable(other), -ENOTSUP);
}

/* ---- links ---- */

static void test_a_link_is_followed_and_stays(void **state)
{
    (void)state;
    make_file(other, "before");
    assert_int_equal(symlink(other, path), 0);
    assert_int_equal(file_check_writable(path), 0);
    assert_int_equal(file_write_whole(path, "text"), 0);
    assert_int_equal(type_of(path), S_IFLNK);
    assert_int_equal(type_of(other), S_IFREG);
    assert_holds(other, "text");
}

static void test_a_link_to_nothing_is_followed_too(void **state)
{
    (void)state;
    assert_int_equal(symlink(strrchr(other, '/') + 1, path), 0);
    assert_int_equal(file_check_writable(path), 0);
    assert_int_equal(file_write_whole(path, "text"), 0);
    assert_int_equal(type_of(path), S_IFLNK);
    assert_holds(other, "text");
}

static void test_links_in_a_circle_end(void **state)
{
    (void)state;
    assert_int_equal(symlink(other, path), 0);
    assert_int_equal(symlink(path, other), 0);
    assert_int_equal(file_check_writable(path), -ELOOP);
    assert_int_equal(file_write_whole(path, "x"), -ELOOP);
}

static void test_root_follows_no_link_of_a_stranger(void **state)
{
    char inner[600], log[1200];
    (void)state;
    skip_unless_root();
    make_file(other, "untouched");
    assert_int_equal(symlink(other, path), 0);
    assert_int_equal(lchown(path, STRANGER, STRANGER), 0);
    assert_int_equal(file_check_writable(path), -ELOOP);
    assert_int_equal(file_write_whole(path, "x"), -ELOOP);
    assert_int_equal(file_open_log(path), -ELOOP);
    assert_int_equal(file_open(path, O_WRONLY | O_CREAT, 0644), -ELOOP);
    assert_int_equal(type_of(path), S_IFLNK);
    assert_holds(other, "untouched");
    /* Nor one in the middle of the way. */
    (void)snprintf(inner, sizeof(inner), "%s.dir", path);
    assert_int_equal(symlink(directory, inner), 0);
    assert_int_equal(lchown(inner, STRANGER, STRANGER), 0);
    (void)snprintf(log, sizeof(log), "%s/%s.log", inner, strrchr(path, '/') + 1);
    assert_int_equal(file_open_log(log), -ELOOP);
}

/* ---- what is no file ---- */

static void test_a_fifo_without_a_reader_is_left_at_once(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(file_check_writable(path), 0);
    assert_int_equal(file_write_whole(path, "text"), -ENXIO); /* -ETIMEDOUT: it has waited */
    assert_int_equal(type_of(path), S_IFIFO);
}

static void test_a_fifo_is_written_through(void **state)
{
    char text[16] = "";
    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_int_equal(file_write_whole(path, "text"), 0);
    assert_int_equal(read(reader, text, sizeof(text) - 1), 4);
    assert_string_equal(text, "text");
    assert_int_equal(type_of(path), S_IFIFO);
    (void)close(reader);
}

/* More than a pipe holds; the test does not read it. */
static char *long_text(void)
{
    size_t n = 1 << 20;
    char *text = malloc(n + 1);
    assert_non_null(text);
    memset(text, 'x', n);
    text[n] = '\0';
    return text;
}

static void test_a_reader_that_takes_nothing_is_left_in_bounded_time(void **state)
{
    char *text = long_text();
    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_int_equal(file_write_whole(path, text), -ETIMEDOUT);
    (void)close(reader);
    free(text);
}

static void *read_all(void *arg)
{
    char bytes[4096];
    size_t *total = arg;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    for (ssize_t n; (n = read(fd, bytes, sizeof(bytes))) > 0;)
        *total += (size_t)n;
    (void)close(fd);
    return NULL;
}

static void test_a_reader_that_takes_it_gets_all_of_it(void **state)
{
    char *text = long_text();
    size_t total = 0;
    pthread_t reader;
    int err;
    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(pthread_create(&reader, NULL, read_all, &total), 0);
    while ((err = file_write_whole(path, text)) == -ENXIO)
        ; /* it has not opened it yet */
    assert_int_equal(pthread_join(reader, NULL), 0);
    assert_int_equal(err, 0);
    assert_int_equal(total, strlen(text));
    free(text);
}

static void test_a_device_is_written_through(void **state)
{
    (void)state;
    /* A node of our own for what takes everything. */
    if (mknod(path, S_IFCHR | 0600, makedev(1, 3)) != 0)
        skip_test("needs the right to make a device");
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        skip_test("the file system of the temporary folder has no devices");
    (void)close(fd);
    assert_int_equal(file_write_whole(path, "text"), 0);
    assert_int_equal(type_of(path), S_IFCHR);
}

static void test_a_link_to_a_descriptor_of_ours_is_that_descriptor(void **state)
{
    char link[64], text[16] = "";
    int ends[2];
    (void)state;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", ends[1]);
    assert_int_equal(symlink(link, path), 0);
    assert_int_equal(file_check_writable(path), 0);
    assert_int_equal(file_write_whole(path, "text"), 0);
    assert_int_equal(read(ends[0], text, sizeof(text) - 1), 4);
    assert_string_equal(text, "text");
    assert_int_equal(type_of(path), S_IFLNK);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* What came before is in front of it: the descriptor has an offset. */
static void test_a_descriptor_of_a_file_goes_on_where_it_was(void **state)
{
    char link[64];
    (void)state;
    int fd = open(other, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    assert_int_equal(write(fd, "log,", 4), 4);
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    assert_int_equal(file_write_whole(link, "report,"), 0);
    assert_int_equal(write(fd, "log", 3), 3);
    assert_holds(other, "log,report,log");
    (void)close(fd);
}

/* ---- logs, and files to read ---- */

static void test_a_log_at_a_fifo_needs_no_reader(void **state)
{
    char text[16] = "";
    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    int fd = file_open_log(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "line\n", 5), 5);
    int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_int_equal(read(reader, text, sizeof(text) - 1), 5);
    assert_string_equal(text, "line\n");
    assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0); /* a reader that is too slow loses lines */
    (void)close(reader);
    (void)close(fd);
}

static void test_a_log_is_appended_to(void **state)
{
    (void)state;
    make_file(path, "before\n");
    int fd = file_open_log(path);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFL) & (O_APPEND | O_NONBLOCK), O_APPEND);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(write(fd, "line\n", 5), 5);
    assert_holds(path, "before\nline\n");
    (void)close(fd);
}

static void test_only_a_regular_file_is_opened_as_one(void **state)
{
    (void)state;
    assert_int_equal(file_open_regular(path), -ENOENT);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(file_open_regular(path), -ENOTSUP);
    make_file(other, "x");
    int fd = file_open_regular(other);
    assert_true(fd >= 0);
    (void)close(fd);
}

static void test_a_folder_is_synced(void **state)
{
    (void)state;
    assert_int_equal(file_sync_folder(directory), 0);
    assert_int_equal(file_sync_folder(path), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_a_file_has_the_mode_that_is_asked_for),
        claim(test_a_reader_of_the_old_file_goes_on_with_it),
        claim(test_a_relative_path_is_one_from_here),
        claim(test_a_missing_folder_is_an_error),
        claim(test_a_folder_disk_or_socket_is_refused),
        claim(test_a_link_is_followed_and_stays),
        claim(test_a_link_to_nothing_is_followed_too),
        claim(test_links_in_a_circle_end),
        claim(test_root_follows_no_link_of_a_stranger),
        claim(test_a_fifo_without_a_reader_is_left_at_once),
        claim(test_a_fifo_is_written_through),
        claim(test_a_reader_that_takes_nothing_is_left_in_bounded_time),
        claim(test_a_reader_that_takes_it_gets_all_of_it),
        claim(test_a_device_is_written_through),
        claim(test_a_link_to_a_descriptor_of_ours_is_that_descriptor),
        claim(test_a_descriptor_of_a_file_goes_on_where_it_was),
        claim(test_a_log_at_a_fifo_needs_no_reader),
        claim(test_a_log_is_appended_to),
        claim(test_only_a_regular_file_is_opened_as_one),
        claim(test_a_folder_is_synced),
    };
    return cmocka_run_group_tests_name("file", tests, make_directory, remove_directory);
}

/* Files that are unpacked for a client that takes no gzip: what is damaged cuts its own answer, and
 * nothing else. */

#include "with_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "h2_by_hand.h"

#define LAST_CHUNK "\r\n0\r\n\r\n"
#define FILES                                                                                      \
    LISTEN "num-threads: 1\nfile.send-compressed: gunzip\n"                                        \
           "hosts: {default: {paths: {/: {file.dir: @/root}, /hello: {handler: hello}}}}\n"

static int make_files(void **state)
{
    char command[1024];

    if (with_config_set_up(state) != 0)
        return -1;
    const char *root = in_directory("root");
    /* The numbers of a file have no end in common with those of another. */
    (void)snprintf(
        command, sizeof(command),
        "mkdir -p %s && cd %s && seq 1 20000 | gzip > whole.txt.gz && "
        "cp whole.txt.gz middle.txt.gz && "
        "printf XXXXXXXX | dd of=middle.txt.gz bs=1 seek=9000 conv=notrunc 2> /dev/null && "
        "head -c 20000 whole.txt.gz > cut.txt.gz && "
        "head -c 12 whole.txt.gz > head.txt.gz && echo none > none.txt.gz && "
        "(seq 1 10000 | gzip; seq 10001 20000 | gzip) > two.txt.gz && "
        "(seq 1 20000 | gzip; head -c 3000 /dev/zero) > padded.txt.gz && chmod -R a+rX .",
        root, root);
    return system(command);
}

/* All that comes for it, with the header. */
static char *ask_for(const struct process *p, const char *path)
{
    char request[128];
    int fd = client_connect(p);

    (void)snprintf(request, sizeof(request),
                   "GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", path);
    client_send(fd, request);
    char *answer = client_read_until(fd, NULL);
    (void)close(fd);
    return answer;
}

static void end(struct process *p)
{
    assert_serves(p);
    finish(p);
}

static void test_a_file_is_unpacked_to_its_end(void **state)
{
    static const char *const paths[] = {"/whole.txt", "/two.txt", "/padded.txt"};
    struct process p;

    (void)state;
    start(&p, FILES);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        char *answer = ask_for(&p, paths[i]);
        assert_contains(answer, "HTTP/1.1 200 ");
        assert_contains(answer, "\n10001\n");
        assert_contains(answer, "\n20000\n" LAST_CHUNK);
        free(answer);
    }
    end(&p);
}

static void test_a_file_that_is_damaged_or_not_whole_cuts_its_answer(void **state)
{
    static const char *const paths[] = {"/none.txt", "/head.txt", "/middle.txt", "/cut.txt"};
    struct process p;

    (void)state;
    start(&p, FILES);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        char *answer = ask_for(&p, paths[i]);
        assert_lacks(answer, LAST_CHUNK);
        assert_lacks(answer, "\n20000\n");
        free(answer);
        process_wait_log_times(&p, "cannot be unpacked", (unsigned)i + 1);
    }
    end(&p);
}

static void test_over_http2_its_stream_is_reset(void **state)
{
    static const char *const paths[] = {"/none.txt", "/head.txt", "/middle.txt", "/cut.txt"};
    struct process p;

    (void)state;
    start(&p, FILES);
    int fd = h2_connect(&p, false);
    for (uint32_t i = 0; i < 4; i++) {
        h2_send_get(fd, 2 * i + 1, paths[i]);
        assert_true(h2_await_error(fd, 2 * i + 1) > 0);
    }
    h2_send_get(fd, 9, "/hello");
    assert_int_equal(h2_await_status(fd, 9), 200);
    (void)close(fd);
    end(&p);
}

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_file_is_unpacked_to_its_end),
        TEST(test_a_file_that_is_damaged_or_not_whole_cuts_its_answer),
        TEST(test_over_http2_its_stream_is_reset),
    };
    (void)alarm(240); /* a hang is a failure */
    return cmocka_run_group_tests_name("gunzip", tests, make_files, remove_directory);
}

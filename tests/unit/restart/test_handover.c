/* What a process and its successor exchange: a listener passes with what is known of it, invalid
 * messages are refused, and no descriptor leaks. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "handover.h"
#include "inherit.h"
#include "predecessor.h"
#include "with_channel.h"

static void test_other_version_is_named(void **state)
{
    const struct channel *pair = *state;
    struct message out, in;
    char why[HANDOVER_WHY_SIZE];

    message_begin(&out, HANDOVER_VERSION + 8, HANDOVER_HELLO);
    assert_int_equal(message_send(pair->fds[0], &out), 0);
    assert_int_equal(handover_receive(pair->fds[1], &in), -EPROTONOSUPPORT);
    assert_non_null(strstr(handover_why(-EPROTONOSUPPORT, &in, why), "uses version 9"));
}

/* ---- what is inherited ---- */

static int listen_on(struct sockaddr_storage *ret_address, socklen_t *ret_length, int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *ret_length = sizeof(*ret_address);
    memset(ret_address, 0, sizeof(*ret_address));
    assert_true(fd >= 0);
    assert_int_equal(listen(fd, 8), 0); /* on a port that is free */
    assert_int_equal(getsockname(fd, (struct sockaddr *)ret_address, ret_length), 0);
    return fd;
}

static void test_listener_passes_with_all_that_is_known_of_it(void **state)
{
    const struct channel *pair = *state;
    struct inherited item = {.is_held = true, .device = 5, .inode = 6};
    struct inheritance list = {0};
    struct message message;

    item.fd = listen_on(&item.address, &item.address_length, AF_INET);
    (void)strcpy(item.name, "127.0.0.1:80");
    inherit_put(&item, &message);
    assert_int_equal(message_send(pair->fds[0], &message), 0);
    assert_int_equal(handover_receive(pair->fds[1], &message), 0);
    assert_int_equal(inherit_add(&list, &message), 0);
    message_release(&message);
    assert_int_equal(list.count, 1);
    struct inherited *got =
        inherit_find(&list, (const struct sockaddr *)&item.address, item.address_length, false);
    assert_non_null(got);
    assert_null(
        inherit_find(&list, (const struct sockaddr *)&item.address, item.address_length, true));
    assert_true(got->is_held && got->device == 5 && got->inode == 6);
    assert_string_equal(got->name, "127.0.0.1:80");
    assert_true(got->id != 0 && got->id == handover_socket_id(item.fd)); /* one socket, one id */
    assert_ptr_equal(inherit_left_over(&list, true), got);
    inherit_release(&list);
    (void)close(item.fd);
}

static void test_random_fields_are_no_listener(void **state)
{
    const struct channel *pair = *state;
    struct inherited item = {.fd = STDERR_FILENO, .address_length = sizeof(struct sockaddr_in)};
    struct inheritance list = {0};
    struct message good, in;
    unsigned accepted = 0;

    inherit_put(&item, &good);
    srandom(1);
    for (unsigned i = 0; i < 20000; i++) {
        struct message mutant = good;
        for (long flips = 1 + random() % 4; flips > 0; flips--)
            mutant.bytes[random() % (long)good.size] = (uint8_t)random();
        assert_int_equal(message_send(pair->fds[0], &mutant), 0);
        if (handover_receive(pair->fds[1], &in) == 0) {
            accepted++;
            (void)inherit_add(&list, &in); /* standard error is no listener */
            message_release(&in);
        }
    }
    assert_true(accepted > 0); /* some of it came far enough to matter */
    assert_int_equal(list.count, 0);
    inherit_release(&list);
}

static void test_environment_is_taken_and_cleared(void **state)
{
    struct inheritance list = {0};
    struct sockaddr_storage address;
    socklen_t length;
    char text[64], error[256];
    int fd = listen_on(&address, &length, AF_INET6);

    (void)state;
    (void)snprintf(text, sizeof(text), "[::]:80=%d", fd);
    assert_int_equal(setenv("SERVER_STARTER_PORT", text, 1), 0);
    assert_int_equal(inherit_from_environment(&list, error, sizeof(error)), 0);
    assert_null(getenv("SERVER_STARTER_PORT"));
    assert_true(list.count == 1 && list.is_activation && list.items[0].is_held);
    assert_true(list.items[0].is_dual); /* as the kernel makes them */
    inherit_release(&list);
}

static void test_bad_environment_is_one_line(void **state)
{
    static const struct {
        const char *name, *text, *want;
    } bad[] = {
        {"SERVER_STARTER_PORT", "80", "80: want ADDRESS=DESCRIPTOR"},
        {"SERVER_STARTER_PORT", "80=x", "80=x: want ADDRESS=DESCRIPTOR"},
        {"SERVER_STARTER_PORT", "80=0", "descriptor 0 of SERVER_STARTER_PORT is not a listening"},
        {"LISTEN_FDS", "many", "LISTEN_FDS=many: want a number"},
    };
    char error[256], pid[24];

    (void)state;
    (void)snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct inheritance list = {0};
        (void)setenv("LISTEN_PID", pid, 1);
        (void)setenv(bad[i].name, bad[i].text, 1);
        assert_int_equal(inherit_from_environment(&list, error, sizeof(error)), -EINVAL);
        if (strstr(error, bad[i].want) == NULL)
            fail_msg("no `%s` in `%s`", bad[i].want, error);
        assert_null(getenv(bad[i].name));
    }
}

static void test_sockets_of_another_process_are_left_alone(void **state)
{
    struct inheritance list = {0};
    char error[256];

    (void)state;
    (void)setenv("LISTEN_PID", "1", 1);
    (void)setenv("LISTEN_FDS", "3", 1);
    assert_int_equal(inherit_from_environment(&list, error, sizeof(error)), 0);
    assert_int_equal(list.count, 0);
}

/* ---- the beginning, as a successor sees it ---- */

static void expect_refusal(const struct channel *pair, const char *want)
{
    struct predecessor predecessor;
    char text[24], error[256] = "";
    int fd = dup(pair->fds[1]);

    (void)snprintf(text, sizeof(text), "%d", fd);
    (void)setenv(MESSAGE_ENVIRONMENT, text, 1);
    assert_true(predecessor_open(&predecessor, error, sizeof(error)) < 0); /* closes it */
    if (strstr(error, want) == NULL)
        fail_msg("no `%s` in `%s`", want, error);
    assert_null(getenv(MESSAGE_ENVIRONMENT));
}

static void test_successor_refuses_garbage(void **state)
{
    const struct channel *pair = *state;
    assert_int_equal(send(pair->fds[0], "hello", 5, MSG_NOSIGNAL), 5);
    expect_refusal(pair, "sent an invalid message");
}

static void test_successor_wants_to_be_greeted(void **state)
{
    const struct channel *pair = *state;
    struct message message;
    handover_begin(&message, HANDOVER_BEGIN);
    message_put_fd(&message, STDERR_FILENO);
    assert_int_equal(message_send(pair->fds[0], &message), 0);
    expect_refusal(pair, "sent an invalid message");
}

static void test_successor_refuses_a_descriptor_that_is_no_listener(void **state)
{
    const struct channel *pair = *state;
    struct message message;
    handover_begin(&message, HANDOVER_HELLO);
    message_put_fd(&message, STDERR_FILENO);
    assert_int_equal(message_send(pair->fds[0], &message), 0);
    handover_begin(&message, HANDOVER_LISTENER);
    message_put(&message, HANDOVER_ADDRESS, &(struct sockaddr){0}, sizeof(struct sockaddr));
    message_put_fd(&message, STDERR_FILENO);
    assert_int_equal(message_send(pair->fds[0], &message), 0);
    expect_refusal(pair, "sent an invalid message");
}

static void test_successor_skips_messages_of_a_later_day(void **state)
{
    const struct channel *pair = *state;
    struct message message;
    struct predecessor predecessor;
    char text[24], error[256];
    int fd = dup(pair->fds[1]);

    handover_begin(&message, HANDOVER_HELLO);
    message_put_number(&message, HANDOVER_GENERATION, 8);
    assert_int_equal(message_send(pair->fds[0], &message), 0);
    handover_begin(&message, (enum handover_type)999);
    message_put_fd(&message, STDERR_FILENO);
    assert_int_equal(message_send(pair->fds[0], &message), 0);
    handover_begin(&message, HANDOVER_BEGIN);
    assert_int_equal(message_send(pair->fds[0], &message), 0);
    (void)snprintf(text, sizeof(text), "%d", fd);
    (void)setenv(MESSAGE_ENVIRONMENT, text, 1);
    assert_int_equal(predecessor_open(&predecessor, error, sizeof(error)), 0);
    assert_int_equal(predecessor.generation, 8);
    assert_int_equal(predecessor.conns_fd, -1);
    predecessor_release(&predecessor);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, channel_set_up, channel_tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(test_other_version_is_named),
        TEST(test_random_fields_are_no_listener),
        TEST(test_listener_passes_with_all_that_is_known_of_it),
        TEST(test_environment_is_taken_and_cleared),
        TEST(test_bad_environment_is_one_line),
        TEST(test_sockets_of_another_process_are_left_alone),
        TEST(test_successor_refuses_garbage),
        TEST(test_successor_wants_to_be_greeted),
        TEST(test_successor_refuses_a_descriptor_that_is_no_listener),
        TEST(test_successor_skips_messages_of_a_later_day),
    };
    (void)alarm(120);
    return cmocka_run_group_tests_name("handover", tests, NULL, NULL);
}

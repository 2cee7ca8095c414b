/* Messages between processes: they arrive as they were sent, anything else is refused, and no
 * descriptor leaks. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "message.h"
#include "with_channel.h"

#define VERSION 3

enum { TYPE = 5, OTHER_TYPE };
enum { TAG_NUMBER = 1, TAG_TEXT, TAG_NUMBERS, TAG_ABSENT };

static void test_what_is_written_is_read(void **state)
{
    const struct channel *pair = *state;
    struct message out, in;
    uint64_t ids[2] = {7, UINT64_MAX}, got[4];
    char text[16];

    message_begin(&out, VERSION, TYPE);
    message_put_number(&out, TAG_NUMBER, 42);
    message_put_text(&out, TAG_TEXT, "127.0.0.1:80");
    message_put(&out, TAG_NUMBERS, ids, sizeof(ids));
    message_put_fd(&out, STDERR_FILENO);
    assert_int_equal(message_send(pair->fds[0], &out), 0);
    assert_int_equal(message_receive(pair->fds[1], VERSION, &in), 0);
    assert_int_equal(in.type, TYPE);
    assert_int_equal(message_get_number(&in, TAG_NUMBER, 0), 42);
    assert_string_equal(message_get_text(&in, TAG_TEXT, text, sizeof(text)), "127.0.0.1:80");
    assert_string_equal(message_get_text(&in, TAG_TEXT, text, 4), "127");
    assert_int_equal(message_get_numbers(&in, TAG_NUMBERS, got, 4), 2);
    assert_true(got[0] == 7 && got[1] == UINT64_MAX);
    assert_int_equal(message_get_number(&in, TAG_ABSENT, 99), 99);
    int fd = message_take_fd(&in, 0);
    assert_true(fd > STDERR_FILENO && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(message_take_fd(&in, 0), -1);
    assert_int_equal(message_take_fd(&in, 1), -1);
    message_release(&in);
    (void)close(fd);
    assert_int_equal(message_receive(pair->fds[1], VERSION, &in), -EAGAIN);
}

static void test_unknown_field_is_skipped(void **state)
{
    const struct channel *pair = *state;
    struct message out, in;

    message_begin(&out, VERSION, TYPE);
    message_put(&out, 60000, "of a later day", 14);
    message_put_number(&out, TAG_NUMBER, 3);
    assert_int_equal(message_send(pair->fds[0], &out), 0);
    assert_int_equal(message_receive(pair->fds[1], VERSION, &in), 0);
    assert_int_equal(message_get_number(&in, TAG_NUMBER, 0), 3);
}

static void test_message_that_is_too_long_is_not_sent(void **state)
{
    const struct channel *pair = *state;
    static const char bytes[MESSAGE_BYTES_MAX];
    struct message out, in;

    message_begin(&out, VERSION, TYPE);
    message_put(&out, TAG_NUMBERS, bytes, sizeof(bytes));
    assert_int_equal(message_send(pair->fds[0], &out), -EMSGSIZE);
    assert_int_equal(message_receive(pair->fds[1], VERSION, &in), -EAGAIN);
}

static void test_more_descriptors_than_fit_are_not_sent(void **state)
{
    const struct channel *pair = *state;
    struct message out;

    message_begin(&out, VERSION, TYPE);
    for (unsigned i = 0; i <= MESSAGE_FDS_MAX; i++)
        message_put_fd(&out, STDERR_FILENO);
    assert_int_equal(message_send(pair->fds[0], &out), -EMSGSIZE);
}

/* A message with descriptors beside it, of any bytes. */
static void send_raw(int fd, const void *bytes, size_t n, unsigned descriptors)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(64 * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n};
    struct msghdr out = {.msg_iov = &part, .msg_iovlen = 1};

    memset(&control, 0, sizeof(control));
    if (descriptors > 0) {
        out.msg_control = &control;
        out.msg_controllen = CMSG_SPACE(descriptors * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&out);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(descriptors * sizeof(int));
        for (unsigned i = 0; i < descriptors; i++)
            memcpy(CMSG_DATA(rights) + i * sizeof(int), &(int){STDERR_FILENO}, sizeof(int));
    }
    assert_int_equal(sendmsg(fd, &out, MSG_NOSIGNAL), (ssize_t)n);
}

static void test_garbage_is_refused_and_its_descriptors_closed(void **state)
{
    const struct channel *pair = *state;
    struct message in;

    send_raw(pair->fds[0], "GET / HTTP/1.1\r\n\r\n", 18, 3);
    assert_int_equal(message_receive(pair->fds[1], VERSION, &in), -EPROTO);
    send_raw(pair->fds[0], "x", 1, 1);
    assert_int_equal(message_receive(pair->fds[1], VERSION, &in), -EPROTO);
}

/* The bytes of a good message. */
static size_t good_bytes(const struct channel *pair, uint8_t *bytes, size_t size)
{
    struct message out;

    message_begin(&out, VERSION, TYPE);
    message_put_text(&out, TAG_TEXT, "unix:/run/x");
    message_put_number(&out, TAG_NUMBER, 1);
    assert_int_equal(message_send(pair->fds[0], &out), 0);
    ssize_t n = recv(pair->fds[1], bytes, size, 0);
    assert_true(n > 0);
    return (size_t)n;
}

static void test_other_version_is_refused_and_named(void **state)
{
    const struct channel *pair = *state;
    struct message in;
    uint8_t bytes[256];
    size_t n = good_bytes(pair, bytes, sizeof(bytes));

    bytes[4] = 9; /* the byte after the magic */
    send_raw(pair->fds[0], bytes, n, 2);
    assert_int_equal(message_receive(pair->fds[1], VERSION, &in), -EPROTONOSUPPORT);
    assert_int_equal(in.version, 9);
}

static void test_truncation_anywhere_is_refused_or_harmless(void **state)
{
    const struct channel *pair = *state;
    struct message in;
    uint8_t bytes[256];
    size_t n = good_bytes(pair, bytes, sizeof(bytes));

    for (size_t cut = 1; cut < n; cut++) {
        send_raw(pair->fds[0], bytes, cut, 1);
        int err = message_receive(pair->fds[1], VERSION, &in);
        /* At the end of a field it is a shorter message. */
        assert_true(err == -EPROTO || err == 0);
        if (err == 0)
            (void)message_get_number(&in, TAG_NUMBER, 0);
        message_release(&in);
    }
}

static void test_bytes_at_random_do_no_harm(void **state)
{
    const struct channel *pair = *state;
    struct message in;
    uint8_t bytes[256];
    size_t n = good_bytes(pair, bytes, sizeof(bytes));
    unsigned accepted = 0;

    srandom(1);
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t mutant[256];
        memcpy(mutant, bytes, n);
        for (long flips = 1 + random() % 4; flips > 0; flips--)
            mutant[random() % (long)n] = (uint8_t)random();
        send_raw(pair->fds[0], mutant, 1 + (size_t)random() % n, (unsigned)(random() % 3));
        if (message_receive(pair->fds[1], VERSION, &in) == 0) {
            accepted++;
            (void)message_get_number(&in, TAG_NUMBER, 0);
        }
        message_release(&in);
    }
    assert_true(accepted > 0); /* some of it came far enough to matter */
}

static void test_end_of_the_other_side_is_an_error(void **state)
{
    struct channel *pair = *state;
    struct message message;

    message_begin(&message, VERSION, TYPE);
    (void)close(pair->fds[0]);
    assert_int_equal(message_receive(pair->fds[1], VERSION, &message), -EPIPE);
    assert_int_equal(message_send(pair->fds[1], &message), -EPIPE);
    pair->fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC); /* for the teardown */
}

static void test_messages_of_a_sender_that_left_ours_unread_arrive(void **state)
{
    struct channel *pair = *state;
    struct message message;

    message_begin(&message, VERSION, TYPE);
    assert_int_equal(message_send(pair->fds[1], &message),
                     0); /* the other side does not read this */
    message_begin(&message, VERSION, OTHER_TYPE);
    assert_int_equal(message_send(pair->fds[0], &message), 0);
    (void)close(pair->fds[0]);
    assert_int_equal(message_receive(pair->fds[1], VERSION, &message), 0);
    assert_int_equal(message.type, OTHER_TYPE);
    assert_int_equal(message_receive(pair->fds[1], VERSION, &message), -EPIPE);
    pair->fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC); /* for the teardown */
}

static void test_reader_that_does_not_read_is_not_waited_for(void **state)
{
    const struct channel *pair = *state;
    struct message out, in;
    unsigned sent = 0, got = 0;

    message_begin(&out, VERSION, TYPE);
    message_put_fd(&out, STDERR_FILENO);
    while (message_send(pair->fds[0], &out) == 0)
        sent++;
    assert_true(sent > 0 && sent < 1000000);
    assert_int_equal(message_send(pair->fds[0], &out), -EAGAIN);
    while (message_receive(pair->fds[1], VERSION, &in) == 0) {
        got++;
        message_release(&in);
    }
    assert_int_equal(got, sent); /* what was taken arrives */
}

static void test_peer_must_have_our_user_and_a_channel(void **state)
{
    const struct channel *pair = *state;
    int stream[2];
    pid_t pid;

    assert_int_equal(message_check_peer(pair->fds[1], &pid), 0);
    assert_int_equal(pid, getpid());
    assert_int_equal(message_check_peer(STDIN_FILENO, &pid) == 0, false);
    assert_int_equal(message_check_peer(250, &pid), -EBADF);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, stream), 0);
    assert_int_equal(message_check_peer(stream[0], &pid), -EPROTOTYPE);
    (void)close(stream[0]);
    (void)close(stream[1]);
    if (geteuid() != 0)
        return;
    /* A socket that an ordinary user made is not for root. */
    assert_int_equal(seteuid(65534), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, stream), 0);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(message_check_peer(stream[0], &pid), -EPERM);
    (void)close(stream[0]);
    (void)close(stream[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, channel_set_up, channel_tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(test_what_is_written_is_read),
        TEST(test_unknown_field_is_skipped),
        TEST(test_message_that_is_too_long_is_not_sent),
        TEST(test_more_descriptors_than_fit_are_not_sent),
        TEST(test_garbage_is_refused_and_its_descriptors_closed),
        TEST(test_other_version_is_refused_and_named),
        TEST(test_truncation_anywhere_is_refused_or_harmless),
        TEST(test_bytes_at_random_do_no_harm),
        TEST(test_end_of_the_other_side_is_an_error),
        TEST(test_messages_of_a_sender_that_left_ours_unread_arrive),
        TEST(test_reader_that_does_not_read_is_not_waited_for),
        TEST(test_peer_must_have_our_user_and_a_channel),
    };
    (void)alarm(120);
    return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}

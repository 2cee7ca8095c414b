/* The wire between a process and its successor: what is written is read, what is no message is
 * refused, and no descriptor is ever left behind. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "handover.h"
#include "inherit.h"
#include "upstream.h"

static unsigned open_files(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

struct pair {
    int fds[2];
    unsigned files;
};

static int set_up(void **state)
{
    static struct pair pair;
    pair.files = open_files();
    assert_int_equal(handover_pair(pair.fds), 0);
    *state = &pair;
    return 0;
}

/* Whatever a test did, there are as many descriptors as before. */
static int tear_down(void **state)
{
    const struct pair *pair = *state;
    (void)close(pair->fds[0]);
    (void)close(pair->fds[1]);
    return open_files() == pair->files ? 0 : -1;
}

static void test_what_is_written_is_read(void **state)
{
    const struct pair *pair = *state;
    struct handover_message out, in;
    uint64_t ids[2] = {7, UINT64_MAX}, got[4];
    char text[16];

    handover_begin(&out, HANDOVER_READY);
    handover_put_number(&out, HANDOVER_GENERATION, 42);
    handover_put_text(&out, HANDOVER_NAME, "127.0.0.1:80");
    handover_put(&out, HANDOVER_TAKEN, ids, sizeof(ids));
    handover_put_fd(&out, STDERR_FILENO);
    assert_int_equal(handover_send(pair->fds[0], &out), 0);
    assert_int_equal(handover_receive(pair->fds[1], &in), 0);
    assert_int_equal(in.type, HANDOVER_READY);
    assert_int_equal(handover_get_number(&in, HANDOVER_GENERATION, 0), 42);
    assert_string_equal(handover_get_text(&in, HANDOVER_NAME, text, sizeof(text)), "127.0.0.1:80");
    assert_string_equal(handover_get_text(&in, HANDOVER_NAME, text, 4), "127");
    assert_int_equal(handover_get_ids(&in, HANDOVER_TAKEN, got, 4), 2);
    assert_true(got[0] == 7 && got[1] == UINT64_MAX);
    assert_int_equal(handover_get_number(&in, HANDOVER_DUAL, 99), 99);
    int fd = handover_take_fd(&in, 0);
    assert_true(fd > STDERR_FILENO && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(handover_take_fd(&in, 0), -1);
    assert_int_equal(handover_take_fd(&in, 1), -1);
    handover_release(&in);
    (void)close(fd);
    assert_int_equal(handover_receive(pair->fds[1], &in), -EAGAIN);
}

static void test_field_that_nobody_knows_is_skipped(void **state)
{
    const struct pair *pair = *state;
    struct handover_message out, in;

    handover_begin(&out, HANDOVER_HELLO);
    handover_put(&out, 60000, "of a later day", 14);
    handover_put_number(&out, HANDOVER_GENERATION, 3);
    assert_int_equal(handover_send(pair->fds[0], &out), 0);
    assert_int_equal(handover_receive(pair->fds[1], &in), 0);
    assert_int_equal(handover_get_number(&in, HANDOVER_GENERATION, 0), 3);
}

static void test_message_that_is_too_long_is_not_sent(void **state)
{
    const struct pair *pair = *state;
    static const char bytes[HANDOVER_BYTES_MAX];
    struct handover_message out, in;

    handover_begin(&out, HANDOVER_READY);
    handover_put(&out, HANDOVER_TAKEN, bytes, sizeof(bytes));
    assert_int_equal(handover_send(pair->fds[0], &out), -EMSGSIZE);
    assert_int_equal(handover_receive(pair->fds[1], &in), -EAGAIN);
}

static void test_more_descriptors_than_fit_are_not_sent(void **state)
{
    const struct pair *pair = *state;
    struct handover_message out;

    handover_begin(&out, HANDOVER_CONNS);
    for (unsigned i = 0; i <= HANDOVER_FDS_MAX; i++)
        handover_put_fd(&out, STDERR_FILENO);
    assert_int_equal(handover_send(pair->fds[0], &out), -EMSGSIZE);
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
    const struct pair *pair = *state;
    struct handover_message in;
    char why[HANDOVER_WHY_SIZE];

    send_raw(pair->fds[0], "GET / HTTP/1.1\r\n\r\n", 18, 3);
    assert_int_equal(handover_receive(pair->fds[1], &in), -EPROTO);
    send_raw(pair->fds[0], "x", 1, 1);
    assert_int_equal(handover_receive(pair->fds[1], &in), -EPROTO);
    assert_string_equal(handover_why(-EPROTO, &in, why), "what comes there is no hand-over");
}

/* The bytes of a good message. */
static size_t good_bytes(const struct pair *pair, uint8_t *bytes, size_t size)
{
    struct handover_message out;

    handover_begin(&out, HANDOVER_LISTENER);
    handover_put_text(&out, HANDOVER_NAME, "unix:/run/x");
    handover_put_number(&out, HANDOVER_HELD, 1);
    assert_int_equal(handover_send(pair->fds[0], &out), 0);
    ssize_t n = recv(pair->fds[1], bytes, size, 0);
    assert_true(n > 0);
    return (size_t)n;
}

static void test_other_version_is_named(void **state)
{
    const struct pair *pair = *state;
    struct handover_message in;
    uint8_t bytes[256];
    char why[HANDOVER_WHY_SIZE];
    size_t n = good_bytes(pair, bytes, sizeof(bytes));

    bytes[4] = 9; /* behind the magic */
    send_raw(pair->fds[0], bytes, n, 2);
    assert_int_equal(handover_receive(pair->fds[1], &in), -EPROTONOSUPPORT);
    assert_non_null(strstr(handover_why(-EPROTONOSUPPORT, &in, why), "speaks version 9"));
}

static void test_truncation_anywhere_is_refused_or_harmless(void **state)
{
    const struct pair *pair = *state;
    struct handover_message in;
    uint8_t bytes[256];
    size_t n = good_bytes(pair, bytes, sizeof(bytes));

    for (size_t cut = 1; cut < n; cut++) {
        send_raw(pair->fds[0], bytes, cut, 1);
        int err = handover_receive(pair->fds[1], &in);
        /* At the end of a field it is a shorter message. */
        assert_true(err == -EPROTO || err == 0);
        if (err == 0)
            (void)handover_get_number(&in, HANDOVER_HELD, 0);
        handover_release(&in);
    }
}

static void test_bytes_at_random_do_no_harm(void **state)
{
    const struct pair *pair = *state;
    struct handover_message in;
    uint8_t bytes[256];
    size_t n = good_bytes(pair, bytes, sizeof(bytes));
    struct inheritance list = {0};
    unsigned accepted = 0;

    srandom(1);
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t mutant[256];
        memcpy(mutant, bytes, n);
        for (long flips = 1 + random() % 4; flips > 0; flips--)
            mutant[random() % (long)n] = (uint8_t)random();
        send_raw(pair->fds[0], mutant, 1 + (size_t)random() % n, (unsigned)(random() % 3));
        if (handover_receive(pair->fds[1], &in) == 0) {
            accepted++;
            (void)inherit_add(&list, &in); /* standard error is no listener */
        }
        handover_release(&in);
    }
    assert_true(accepted > 0); /* some of it came far enough to matter */
    assert_int_equal(list.count, 0);
    inherit_release(&list);
}

static void test_end_of_the_other_side_is_told(void **state)
{
    struct pair *pair = *state;
    struct handover_message message;

    handover_begin(&message, HANDOVER_COMMIT);
    (void)close(pair->fds[0]);
    assert_int_equal(handover_receive(pair->fds[1], &message), -EPIPE);
    assert_int_equal(handover_send(pair->fds[1], &message), -EPIPE);
    pair->fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC); /* for the teardown */
}

static void test_last_words_of_one_that_has_not_listened_are_heard(void **state)
{
    struct pair *pair = *state;
    struct handover_message message;

    handover_begin(&message, HANDOVER_SETTLED);
    assert_int_equal(handover_send(pair->fds[1], &message), 0); /* nobody reads this */
    handover_begin(&message, HANDOVER_STOP);
    assert_int_equal(handover_send(pair->fds[0], &message), 0);
    (void)close(pair->fds[0]);
    assert_int_equal(handover_receive(pair->fds[1], &message), 0);
    assert_int_equal(message.type, HANDOVER_STOP);
    assert_int_equal(handover_receive(pair->fds[1], &message), -EPIPE);
    pair->fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC); /* for the teardown */
}

static void test_reader_that_does_not_read_is_not_waited_for(void **state)
{
    const struct pair *pair = *state;
    struct handover_message out, in;
    unsigned sent = 0, got = 0;

    handover_begin(&out, HANDOVER_CONNS);
    handover_put_fd(&out, STDERR_FILENO);
    while (handover_send(pair->fds[0], &out) == 0)
        sent++;
    assert_true(sent > 0 && sent < 1000000);
    assert_int_equal(handover_send(pair->fds[0], &out), -EAGAIN);
    while (handover_receive(pair->fds[1], &in) == 0) {
        got++;
        handover_release(&in);
    }
    assert_int_equal(got, sent); /* what was taken arrives */
}

static void test_peer_has_to_be_one_of_us_on_a_socket_of_this_kind(void **state)
{
    const struct pair *pair = *state;
    int stream[2];
    pid_t pid;

    assert_int_equal(handover_check_peer(pair->fds[1], &pid), 0);
    assert_int_equal(pid, getpid());
    assert_int_equal(handover_check_peer(STDIN_FILENO, &pid) == 0, false);
    assert_int_equal(handover_check_peer(250, &pid), -EBADF);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, stream), 0);
    assert_int_equal(handover_check_peer(stream[0], &pid), -EPROTOTYPE);
    (void)close(stream[0]);
    (void)close(stream[1]);
    if (geteuid() != 0)
        return;
    /* A socket that an ordinary user made is not for root. */
    assert_int_equal(seteuid(65534), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, stream), 0);
    assert_int_equal(seteuid(0), 0);
    assert_int_equal(handover_check_peer(stream[0], &pid), -EPERM);
    (void)close(stream[0]);
    (void)close(stream[1]);
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
    const struct pair *pair = *state;
    struct inherited item = {.switch_fd = -1, .is_held = true, .device = 5, .inode = 6};
    struct inheritance list = {0};
    struct handover_message message;

    item.fd = listen_on(&item.address, &item.address_length, AF_INET);
    (void)strcpy(item.name, "127.0.0.1:80");
    inherit_put(&item, &message);
    assert_int_equal(handover_send(pair->fds[0], &message), 0);
    assert_int_equal(handover_receive(pair->fds[1], &message), 0);
    assert_int_equal(inherit_add(&list, &message), 0);
    handover_release(&message);
    assert_int_equal(list.count, 1);
    struct inherited *got =
        inherit_find(&list, (const struct sockaddr *)&item.address, item.address_length, false);
    assert_non_null(got);
    assert_null(
        inherit_find(&list, (const struct sockaddr *)&item.address, item.address_length, true));
    assert_true(got->is_held && got->device == 5 && got->inode == 6 && got->switch_fd == -1);
    assert_string_equal(got->name, "127.0.0.1:80");
    assert_true(got->id != 0 && got->id == handover_socket_id(item.fd)); /* one socket, one id */
    assert_ptr_equal(inherit_left_over(&list, true), got);
    inherit_release(&list);
    (void)close(item.fd);
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
        {"SERVER_STARTER_PORT", "80=0", "descriptor 0 of SERVER_STARTER_PORT is no listening"},
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

static void expect_refusal(const struct pair *pair, const char *want)
{
    struct upstream upstream;
    char text[24], error[256] = "";
    int fd = dup(pair->fds[1]);

    (void)snprintf(text, sizeof(text), "%d", fd);
    (void)setenv(HANDOVER_ENVIRONMENT, text, 1);
    assert_true(upstream_open(&upstream, error, sizeof(error)) < 0); /* closes it */
    if (strstr(error, want) == NULL)
        fail_msg("no `%s` in `%s`", want, error);
    assert_null(getenv(HANDOVER_ENVIRONMENT));
}

static void test_successor_refuses_garbage(void **state)
{
    const struct pair *pair = *state;
    send_raw(pair->fds[0], "hello", 5, 2);
    expect_refusal(pair, "is no hand-over");
}

static void test_successor_wants_to_be_greeted(void **state)
{
    const struct pair *pair = *state;
    struct handover_message message;
    handover_begin(&message, HANDOVER_BEGIN);
    handover_put_fd(&message, STDERR_FILENO);
    assert_int_equal(handover_send(pair->fds[0], &message), 0);
    expect_refusal(pair, "is no hand-over");
}

static void test_successor_refuses_a_listener_that_is_none(void **state)
{
    const struct pair *pair = *state;
    struct handover_message message;
    handover_begin(&message, HANDOVER_HELLO);
    handover_put_fd(&message, STDERR_FILENO);
    assert_int_equal(handover_send(pair->fds[0], &message), 0);
    handover_begin(&message, HANDOVER_LISTENER);
    handover_put(&message, HANDOVER_ADDRESS, &(struct sockaddr){0}, sizeof(struct sockaddr));
    handover_put_fd(&message, STDERR_FILENO);
    assert_int_equal(handover_send(pair->fds[0], &message), 0);
    expect_refusal(pair, "is no hand-over");
}

static void test_successor_skips_messages_of_a_later_day(void **state)
{
    const struct pair *pair = *state;
    struct handover_message message;
    struct upstream upstream;
    char text[24], error[256];
    int fd = dup(pair->fds[1]);

    handover_begin(&message, HANDOVER_HELLO);
    handover_put_number(&message, HANDOVER_GENERATION, 8);
    assert_int_equal(handover_send(pair->fds[0], &message), 0);
    handover_begin(&message, (enum handover_type)999);
    handover_put_fd(&message, STDERR_FILENO);
    assert_int_equal(handover_send(pair->fds[0], &message), 0);
    handover_begin(&message, HANDOVER_BEGIN);
    assert_int_equal(handover_send(pair->fds[0], &message), 0);
    (void)snprintf(text, sizeof(text), "%d", fd);
    (void)setenv(HANDOVER_ENVIRONMENT, text, 1);
    assert_int_equal(upstream_open(&upstream, error, sizeof(error)), 0);
    assert_int_equal(upstream.generation, 8);
    assert_int_equal(upstream.conns_fd, -1);
    upstream_release(&upstream);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(test_what_is_written_is_read),
        TEST(test_field_that_nobody_knows_is_skipped),
        TEST(test_message_that_is_too_long_is_not_sent),
        TEST(test_more_descriptors_than_fit_are_not_sent),
        TEST(test_garbage_is_refused_and_its_descriptors_closed),
        TEST(test_other_version_is_named),
        TEST(test_truncation_anywhere_is_refused_or_harmless),
        TEST(test_bytes_at_random_do_no_harm),
        TEST(test_end_of_the_other_side_is_told),
        TEST(test_last_words_of_one_that_has_not_listened_are_heard),
        TEST(test_reader_that_does_not_read_is_not_waited_for),
        TEST(test_peer_has_to_be_one_of_us_on_a_socket_of_this_kind),
        TEST(test_listener_passes_with_all_that_is_known_of_it),
        TEST(test_environment_is_taken_and_cleared),
        TEST(test_bad_environment_is_one_line),
        TEST(test_sockets_of_another_process_are_left_alone),
        TEST(test_successor_refuses_garbage),
        TEST(test_successor_wants_to_be_greeted),
        TEST(test_successor_refuses_a_listener_that_is_none),
        TEST(test_successor_skips_messages_of_a_later_day),
    };
    (void)alarm(120);
    return cmocka_run_group_tests_name("handover", tests, NULL, NULL);
}

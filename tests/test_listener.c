/* Listeners: what the lossless close needs of the kernel, shown one by one. */

#include "listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "tls.h"

static struct listener_list list;
static char error[512];
static char path[64];

static int setup(void **state)
{
    (void)state;
    memset(&list, 0, sizeof(list));
    error[0] = '\0';
    (void)snprintf(path, sizeof(path), "/tmp/lastcall-listener-%ld.sock", (long)getpid());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    listener_list_release(&list);
    (void)unlink(path);
    return 0;
}

static struct listener *open_one(const char *text)
{
    assert_int_equal(listener_open(&list, text, error, sizeof(error)), 0);
    return &list.items[0];
}

static struct listener *open_unix(void)
{
    char text[80];
    (void)snprintf(text, sizeof(text), "unix:%s", path);
    return open_one(text);
}

/* A client whose connect(2) does not block; returns its socket. */
static int begin_connect(const struct listener *listener)
{
    struct sockaddr_storage to;
    socklen_t length = sizeof(to);
    assert_int_equal(getsockname(listener->fd, (struct sockaddr *)&to, &length), 0);
    int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&to, length) != 0 && errno != EINPROGRESS) {
        int err = errno;
        (void)close(fd);
        return -err;
    }
    return fd;
}

static int begin_connect_unix(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void)strcpy(to.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        int err = errno;
        (void)close(fd);
        return -err;
    }
    return fd;
}

static bool is_connected(int fd, int wait_ms)
{
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    int err = 0;
    socklen_t length = sizeof(err);
    if (poll(&writable, 1, wait_ms) != 1)
        return false;
    (void)getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &length);
    return err == 0;
}

/* ---- addresses ---- */

static void test_names_say_what_was_bound(void **state)
{
    (void)state;
    struct listener *listener = open_one("127.0.0.1:0");
    assert_int_equal(strncmp(listener->name, "127.0.0.1:", 10), 0);
    assert_true(atoi(listener->name + 10) > 0);
    assert_int_equal(listener_open(&list, "[::1]:0", error, sizeof(error)), 0);
    assert_int_equal(strncmp(list.items[1].name, "[::1]:", 6), 0);
    assert_int_equal(listener_open(&list, "0", error, sizeof(error)), 0);
    assert_int_equal(list.count, 3);
}

static void test_no_address_leaves_nothing_behind(void **state)
{
    static const char *const texts[] = {
        "",    "x",     "127.0.0.1", "127.0.0.1:",   "127.0.0.1:x",
        ":80", "[::1]", "[::1]80",   "::1:80",       "1.2.3.4:65536",
        "-1",  "unix:", "[]:80",     "127.0.0.1: 80"};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        error[0] = '\0';
        if (listener_open(&list, texts[i], error, sizeof(error)) != -EINVAL)
            fail_msg("`%s` passed for an address", texts[i]);
        assert_int_equal(list.count, 0);
        assert_int_equal(strncmp(error, "cannot listen on ", 17), 0);
    }
}

static void test_path_too_long_is_refused(void **state)
{
    char text[256] = "unix:/";
    (void)state;
    memset(text + 6, 'a', 200);
    assert_int_equal(listener_open(&list, text, error, sizeof(error)), -EINVAL);
    assert_non_null(strstr(error, "the path must have 1 to 107 bytes"));
}

/* ---- TCP ---- */

static void newcomer_is_kept_out(const char *address)
{
    struct listener *listener = open_one(address);
    int before = begin_connect(listener);
    assert_true(is_connected(before, 1000));
    assert_int_equal(listener_stop_newcomers(listener), 0);
    int after = begin_connect(listener);
    assert_true(after >= 0);
    assert_false(is_connected(after, 50)); /* its SYN was dropped; it tries again after 1 s */

    /* Who was in the queue is accepted, and works. */
    int served = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(served >= 0);
    assert_int_equal(send(before, "ping", 4, 0), 4);
    char got[8];
    assert_int_equal(recv(served, got, sizeof(got), 0), 4);
    (void)close(served);
    (void)close(before);
    (void)close(after);
}

static void test_filter_keeps_newcomers_out_and_the_queue_whole(void **state)
{
    (void)state;
    newcomer_is_kept_out("127.0.0.1:0");
}

static void test_filter_works_over_ipv6(void **state)
{
    (void)state;
    newcomer_is_kept_out("[::1]:0");
}

static void test_queue_length_counts_the_unaccepted(void **state)
{
    int fds[5];
    (void)state;
    struct listener *listener = open_one("127.0.0.1:0");
    assert_int_equal(listener_queue_length(listener), 0);
    for (int i = 0; i < 5; i++) {
        fds[i] = begin_connect(listener);
        assert_true(is_connected(fds[i], 1000));
        assert_int_equal(listener_queue_length(listener), i + 1);
    }
    (void)close(accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC));
    assert_int_equal(listener_queue_length(listener), 4);
    for (int i = 0; i < 5; i++)
        (void)close(fds[i]);
}

static void test_round_trip_times_are_known_over_tcp_only(void **state)
{
    int pair[2];
    (void)state;
    struct listener *listener = open_one("127.0.0.1:0");
    int client = begin_connect(listener);
    assert_true(is_connected(client, 1000));
    int served = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(listener_peer_rtt_ns(served) > 0);
    assert_true(listener_peer_min_rtt_ns(served) > 0);
    (void)close(served);
    (void)close(client);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(listener_peer_rtt_ns(pair[0]), 0);
    assert_int_equal(listener_peer_min_rtt_ns(pair[0]), 0);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

/* ---- Unix domain ---- */

static void test_unix_listener_refuses_newcomers_and_keeps_its_queue(void **state)
{
    struct stat st;
    (void)state;
    struct listener *listener = open_unix();
    int before = begin_connect_unix();
    assert_true(before >= 0);
    assert_int_equal(send(before, "ping", 4, 0), 4);
    /* A second name shows that it is the socket that refuses, not the missing file. */
    char second[80];
    (void)snprintf(second, sizeof(second), "%s.2", path);
    (void)unlink(second);
    assert_int_equal(link(path, second), 0);
    assert_int_equal(listener_stop_newcomers(listener), 0);
    assert_int_equal(stat(path, &st), -1);
    assert_int_equal(begin_connect_unix(), -ENOENT);
    assert_int_equal(rename(second, path), 0);
    assert_int_equal(begin_connect_unix(), -ECONNREFUSED);

    int served = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(served >= 0);
    char got[8];
    assert_int_equal(recv(served, got, sizeof(got), 0), 4);
    assert_int_equal(accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC), -1);
    assert_true(errno == EAGAIN || errno == EINVAL); /* dry, for good */
    (void)close(served);
    (void)close(before);
}

static void test_unix_close_leaves_a_successors_file_alone(void **state)
{
    struct stat st;
    (void)state;
    struct listener *listener = open_unix();
    assert_int_equal(unlink(path), 0);
    FILE *file = fopen(path, "w"); /* another one of the same name */
    assert_non_null(file);
    (void)fclose(file);
    listener_close(listener);
    assert_int_equal(stat(path, &st), 0);
}

/* ---- what TLS records tell without their keys ---- */

/* Records of these kinds and lengths wait on a socket; the last may be cut short. */
static int with_records(const char *kinds_and_lengths)
{
    int pair[2];
    unsigned kind, length;
    int used;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    for (const char *at = kinds_and_lengths; sscanf(at, "%u:%u %n", &kind, &length, &used) == 2;
         at += used) {
        unsigned char record[600] = {(unsigned char)kind, 3, 3, (unsigned char)(length >> 8),
                                     (unsigned char)length};
        assert_true(length + 5 <= sizeof(record));
        assert_int_equal(write(pair[1], record, length + 5), length + 5);
    }
    (void)close(pair[1]);
    return pair[0];
}

static void assert_unread(const char *records, bool done, bool want)
{
    int fd = with_records(records);
    assert_int_equal(tls_has_unread_request(fd, done), want);
    (void)close(fd);
}

static void test_unread_request_is_told_from_handshake_and_farewell(void **state)
{
    (void)state;
    assert_unread("", true, false);
    assert_unread("23:120 ", true, true);
    assert_unread("23:19 ", true, false);            /* TLS 1.3: close_notify */
    assert_unread("21:26 ", true, false);            /* TLS 1.2: the same */
    assert_unread("23:120 23:19 ", true, true);      /* asked, and gone */
    assert_unread("22:512 ", false, false);          /* a ClientHello */
    assert_unread("20:1 23:53 ", false, false);      /* the end of a handshake */
    assert_unread("20:1 23:53 23:90 ", false, true); /* and a request with it */
    assert_unread("20:1 22:40 23:90 ", false, true); /* the same in TLS 1.2, with a ticket */
    assert_unread("20:1 22:40 ", false, false);
}

static void test_peer_that_says_farewell_is_leaving(void **state)
{
    int pair[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_false(tls_peer_is_leaving(pair[0]));
    assert_int_equal(write(pair[1], "\x17\3\3\0\x13", 5), 5);
    assert_true(tls_peer_is_leaving(pair[0]));
    assert_int_equal(recv(pair[0], (char[5]){0}, 5, 0), 5);
    assert_int_equal(write(pair[1], "\x17\3\3\0\x90", 5), 5); /* the next request */
    assert_false(tls_peer_is_leaving(pair[0]));
    (void)close(pair[1]);
    assert_true(tls_peer_is_leaving(pair[0]));
    (void)close(pair[0]);
}

int main(void)
{
    (void)alarm(60);
#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CLAIM(test_names_say_what_was_bound),
        CLAIM(test_no_address_leaves_nothing_behind),
        CLAIM(test_path_too_long_is_refused),
        CLAIM(test_filter_keeps_newcomers_out_and_the_queue_whole),
        CLAIM(test_filter_works_over_ipv6),
        CLAIM(test_queue_length_counts_the_unaccepted),
        CLAIM(test_round_trip_times_are_known_over_tcp_only),
        CLAIM(test_unix_listener_refuses_newcomers_and_keeps_its_queue),
        CLAIM(test_unix_close_leaves_a_successors_file_alone),
        CLAIM(test_unread_request_is_told_from_handshake_and_farewell),
        CLAIM(test_peer_that_says_farewell_is_leaving),
    };
    return cmocka_run_group_tests_name("listener", tests, NULL, NULL);
}

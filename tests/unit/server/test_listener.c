/* Listeners: what the lossless close needs of the kernel, shown one by one. */

#include "listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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
static bool wants_ipv4; /* clients connect to an IPv6 listener over IPv4 */

static int setup(void **state)
{
    (void)state;
    memset(&list, 0, sizeof(list));
    error[0] = '\0';
    wants_ipv4 = false;
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
    if (wants_ipv4) {
        struct sockaddr_in in = {.sin_family = AF_INET,
                                 .sin_port = ((const struct sockaddr_in6 *)&to)->sin6_port,
                                 .sin_addr = {htonl(INADDR_LOOPBACK)}};
        memcpy(&to, &in, sizeof(in));
        length = sizeof(in);
    }
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

static void test_no_address_leaves_no_listener(void **state)
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

static int accept_from(const struct listener *listener)
{
    struct pollfd readable = {.fd = listener->fd, .events = POLLIN};
    assert_int_equal(poll(&readable, 1, 5000), 1);
    int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static void assert_hears(int fd, const char *text)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    char got[16] = "";
    assert_int_equal(poll(&readable, 1, 5000), 1);
    assert_int_equal(recv(fd, got, sizeof(got) - 1, 0), (int)strlen(text));
    assert_string_equal(got, text);
}

static bool is_readable(int fd, int wait_ms)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    return poll(&readable, 1, wait_ms) == 1;
}

static void newcomer_is_kept_out(const char *address)
{
    struct listener *listener = open_one(address);
    int before = begin_connect(listener);
    bool had_limit;
    assert_true(is_connected(before, 1000));
    assert_int_equal(listener_stop_newcomers(listener), 0);
    int after = begin_connect(listener);
    assert_true(after >= 0);
    assert_false(is_connected(after, 50)); /* its SYN was dropped; it tries again after 1 s */

    /* A connection that was in the queue can be accepted, and works. */
    int served = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(served >= 0);
    assert_int_equal(send(before, "ping", 4, 0), 4);
    assert_hears(served, "ping");
    assert_int_equal(listener_lift_hops(listener, served, &had_limit), 0);
    assert_false(had_limit);
    (void)close(served);
    (void)close(before);
    (void)close(after);
}

/* TCP_DEFER_ACCEPT ignores the bare last ACK, so the client is connected and the handshake is still
 * under way here: until data comes. */
static void handshake_under_way_completes(const char *address)
{
    int seconds = 30;
    struct listener *listener = open_one(address);
    bool had_limit;

    assert_int_equal(
        setsockopt(listener->fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds)), 0);
    int client = begin_connect(listener);
    assert_true(is_connected(client, 1000));
    assert_int_equal(listener_queue_length(listener), 0);
    assert_false(listener_may_have_limited(listener));
    assert_int_equal(listener_stop_newcomers(listener), 0);
    assert_true(listener_may_have_limited(listener));

    assert_int_equal(send(client, "one", 3, 0), 3);
    int served = accept_from(listener);
    assert_hears(served, "one"); /* it came with the ACK */
    assert_int_equal(send(client, "two", 3, 0), 3);
    assert_false(is_readable(served, 50)); /* the connection has the limit */
    assert_int_equal(listener_lift_hops(listener, served, &had_limit), 0);
    assert_true(had_limit);
    assert_hears(served, "two"); /* sent again */
    assert_int_equal(send(client, "three", 5, 0), 5);
    assert_hears(served, "three");
    assert_int_equal(send(served, "four", 4, 0), 4);
    assert_hears(client, "four");
    (void)close(served);
    (void)close(client);
}

static void test_newcomers_are_kept_out_and_the_queue_is_whole(void **state)
{
    (void)state;
    newcomer_is_kept_out("127.0.0.1:0");
}

static void test_newcomers_are_kept_out_over_ipv6(void **state)
{
    (void)state;
    newcomer_is_kept_out("[::1]:0");
}

static void test_newcomers_over_ipv4_are_kept_out_of_an_ipv6_listener(void **state)
{
    (void)state;
    wants_ipv4 = true;
    newcomer_is_kept_out("0");
}

static void test_handshake_under_way_completes(void **state)
{
    (void)state;
    handshake_under_way_completes("127.0.0.1:0");
}

static void test_handshake_under_way_completes_over_ipv6(void **state)
{
    (void)state;
    handshake_under_way_completes("[::1]:0");
}

static void test_handshake_over_ipv4_completes_at_an_ipv6_listener(void **state)
{
    (void)state;
    wants_ipv4 = true;
    handshake_under_way_completes("0");
}

/* As in a process that takes over from one that died while it closed. */
static void test_listener_that_was_closing_is_opened_again(void **state)
{
    (void)state;
    struct listener *listener = open_one("0");
    assert_int_equal(listener_stop_newcomers(listener), 0);
    assert_int_equal(listener_reopen(listener), 0);
    assert_true(listener_may_have_limited(listener)); /* what waits in its queue */
    for (int i = 0; i < 2; i++, wants_ipv4 = true) {
        bool had_limit;
        int client = begin_connect(listener);
        assert_true(is_connected(client, 1000));
        int served = accept_from(listener);
        assert_int_equal(listener_lift_hops(listener, served, &had_limit), 0);
        assert_false(had_limit);
        (void)close(served);
        (void)close(client);
    }
    assert_int_equal(listener_reopen(listener), 0);
    assert_false(listener_may_have_limited(listener));
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
    assert_true(errno == EAGAIN || errno == EINVAL); /* the queue stays empty */
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

/* The restart thread describes it, and sends it when a stop may have closed it. */
static void test_described_listener_stays_open(void **state)
{
    struct listener *listener = open_one("127.0.0.1:0");
    struct inherited item;
    int listens = 0;
    socklen_t length = sizeof(listens);
    (void)state;
    listener_describe(listener, &item);
    assert_true(item.fd >= 0);
    assert_int_equal(fcntl(item.fd, F_GETFD), FD_CLOEXEC);
    listener_close(listener);
    assert_int_equal(getsockopt(item.fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length), 0);
    assert_int_equal(listens, 1);
    (void)close(item.fd);
    listener_describe(listener, &item);
    assert_int_equal(item.fd, -1);
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
        CLAIM(test_no_address_leaves_no_listener),
        CLAIM(test_path_too_long_is_refused),
        CLAIM(test_newcomers_are_kept_out_and_the_queue_is_whole),
        CLAIM(test_newcomers_are_kept_out_over_ipv6),
        CLAIM(test_newcomers_over_ipv4_are_kept_out_of_an_ipv6_listener),
        CLAIM(test_handshake_under_way_completes),
        CLAIM(test_handshake_under_way_completes_over_ipv6),
        CLAIM(test_handshake_over_ipv4_completes_at_an_ipv6_listener),
        CLAIM(test_listener_that_was_closing_is_opened_again),
        CLAIM(test_queue_length_counts_the_unaccepted),
        CLAIM(test_round_trip_times_are_known_over_tcp_only),
        CLAIM(test_unix_listener_refuses_newcomers_and_keeps_its_queue),
        CLAIM(test_unix_close_leaves_a_successors_file_alone),
        CLAIM(test_described_listener_stays_open),
        CLAIM(test_unread_request_is_told_from_handshake_and_farewell),
        CLAIM(test_peer_that_says_farewell_is_leaving),
    };
    return cmocka_run_group_tests_name("listener", tests, NULL, NULL);
}

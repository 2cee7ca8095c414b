/* The address of a Redis server, and the limits on requests to it. The server is a socket that
 * sends what the test wants. */

#include "redis.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "certificate.h"
#include "clock.h"
#include "loopback.h"
#include "skip.h"

/* ---- the url ---- */

static void expect_url(const char *text, const char *host, int port, unsigned db, const char *user,
                       const char *password)
{
    struct redis_url url;
    const char *wanted = redis_url_parse(text, &url);
    if (wanted != NULL)
        fail_msg("%s: %s", text, wanted);
    assert_string_equal(url.host, host);
    assert_int_equal(url.port, port);
    assert_int_equal(url.db, db);
    assert_string_equal(url.user != NULL ? url.user : "-", user);
    assert_string_equal(url.password != NULL ? url.password : "-", password);
    redis_url_release(&url);
}

static void test_url_names_host_port_database_and_user(void **state)
{
    (void)state;
    expect_url("redis://localhost", "localhost", 6379, 0, "-", "-");
    expect_url("redis://localhost/", "localhost", 6379, 0, "-", "-");
    expect_url("redis://10.0.0.1:7000/3", "10.0.0.1", 7000, 3, "-", "-");
    expect_url("redis://[::1]:7000/3", "::1", 7000, 3, "-", "-");
    expect_url("redis://[fe80::1]", "fe80::1", 6379, 0, "-", "-");
    expect_url("redis://:secret@h", "h", 6379, 0, "-", "secret");
    expect_url("redis://me:s%40e%3acret@h:1/15", "h", 1, 15, "me", "s@e:cret");
    expect_url("redis://me:p@ss@h", "h", 6379, 0, "me", "p@ss");
    expect_url("redis://h?db=4", "h", 6379, 4, "-", "-");
}

static void test_url_names_a_unix_socket_and_a_stream(void **state)
{
    struct redis_url url;
    char text[REDIS_URL_SIZE];
    (void)state;
    assert_null(
        redis_url_parse("unix:/run/re%20dis.sock?db=2&user=me&password=a%26b&stream=q", &url));
    assert_null(url.host);
    assert_string_equal(url.path, "/run/re dis.sock");
    assert_string_equal(url.password, "a&b");
    assert_string_equal(url.user, "me");
    assert_string_equal(url.stream, "q");
    assert_string_equal(redis_url_text(&url, text), "unix:/run/re dis.sock?db=2");
    redis_url_release(&url);
    assert_null(redis_url_parse("redis://me:secret@[::1]:7/1?stream=a%3Ab", &url));
    assert_string_equal(url.stream, "a:b");
    assert_string_equal(redis_url_text(&url, text), "redis://[::1]:7/1");
    redis_url_release(&url);
}

static void test_bad_url_is_refused_without_repeating_it(void **state)
{
    static const char *const bad[] = {
        "",
        "http://secret",
        "redis:secret",
        "redis://",
        "redis://secret@h",
        "redis://:secret@",
        "redis://:secret@h:0",
        "redis://:secret@h:65536",
        "redis://:secret@h:x",
        "redis://:secret@h:1:2",
        "redis://:secret@h/x",
        "redis://:secret@h/65536",
        "redis://:secret@h/1/2",
        "redis://:secret%@h",
        "redis://:secret%4@h",
        "redis://:secret%zz@h",
        "redis://:secret%00@h",
        "redis://:secret@[::1",
        "redis://:secret@[::1]x",
        "redis://:secret@h?db=",
        "redis://:secret@h?secret=1",
        "redis://:secret@h?stream=",
        "redis://:secret@h?password=secret",
        "unix:",
        "unix:secret",
        "unix:/",
        "unix://secret",
        "unix:/secret?db=-1",
        "redis://:secret@h?ca-file=/secret",
        "redis://:secret@h?verify=off",
        "rediss:secret",
        "rediss://",
        "rediss://:secret@h?ca-file=",
        "rediss://:secret@h?key-file=/secret",
        "rediss://:secret@h?verify=secret",
        "rediss://:secret@h?ca-file=/secret&verify=off",
        "rediss://:secret@h?password=secret",
        "unix:/secret?ca-file=/secret",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct redis_url url = {.port = 77};
        const char *wanted = redis_url_parse(bad[i], &url);
        if (wanted == NULL)
            fail_msg("%s is taken", bad[i]);
        assert_null(strstr(wanted, "secret"));
        assert_int_equal(url.port, 77);
    }
}

static void test_url_of_tls_names_its_files(void **state)
{
    struct redis_url url;
    char text[REDIS_URL_SIZE];
    (void)state;
    assert_null(redis_url_parse("rediss://me:secret@h:7/2?ca-file=/c%20a&cert-file=/c&key-file=/k"
                                "&stream=q",
                                &url));
    assert_true(url.is_tls && !url.trusts_all);
    assert_string_equal(url.ca_file, "/c a");
    assert_string_equal(url.cert_file, "/c");
    assert_string_equal(url.key_file, "/k");
    assert_string_equal(url.stream, "q");
    assert_int_equal(url.db, 2);
    assert_string_equal(redis_url_text(&url, text), "rediss://h:7/2");
    redis_url_release(&url);
    assert_null(redis_url_parse("rediss://h?verify=off", &url));
    assert_true(url.is_tls && url.trusts_all);
    redis_url_release(&url);
    assert_null(redis_url_parse("rediss://h?verify=on", &url));
    assert_false(url.trusts_all);
    redis_url_release(&url);
}

static void expect_not_loaded(const char *query, const char *want)
{
    char text[256], error[REDIS_TLS_ERROR_SIZE];
    struct redis_url url;
    (void)snprintf(text, sizeof(text), "rediss://:secret@h?%s", query);
    assert_null(redis_url_parse(text, &url));
    assert_int_equal(redis_tls_load(&url, error), -EINVAL);
    if (strstr(error, want) == NULL)
        fail_msg("no `%s` in: %s", want, error);
    assert_null(url.tls);
    redis_url_release(&url);
}

static void test_bad_files_of_tls_are_named(void **state)
{
    char folder[] = "/tmp/lastcall-redis-tls-XXXXXX", key[64], other[64], certificate[64];
    char query[256], error[REDIS_TLS_ERROR_SIZE];
    struct redis_url url;
    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(key, sizeof(key), "%s/key", folder);
    (void)snprintf(other, sizeof(other), "%s/other", folder);
    (void)snprintf(certificate, sizeof(certificate), "%s/cert", folder);
    certificate_write(other, certificate);
    certificate_write(key, certificate); /* no longer that of `other` */

    expect_not_loaded("ca-file=/no/such", "ca-file=/no/such: No such file or directory");
    expect_not_loaded("cert-file=/no/such", "cert-file=/no/such: No such file or directory");
    (void)snprintf(query, sizeof(query), "ca-file=%s", key);
    expect_not_loaded(query, key);
    (void)snprintf(query, sizeof(query), "cert-file=%s", certificate);
    expect_not_loaded(query, "key-file="); /* it is not in the same file */
    (void)snprintf(query, sizeof(query), "cert-file=%s&key-file=%s", certificate, other);
    expect_not_loaded(query, "key-file=");
    (void)snprintf(query, sizeof(query), "rediss://h?cert-file=%s&key-file=%s", certificate, key);
    assert_null(redis_url_parse(query, &url));
    assert_int_equal(redis_tls_load(&url, error), 0);
    assert_non_null(url.tls);
    redis_url_release(&url);
    (void)unlink(key);
    (void)unlink(other);
    (void)unlink(certificate);
    (void)rmdir(folder);
}

static void test_password_is_the_first_line_of_a_file(void **state)
{
    struct redis_url url;
    char path[] = "/tmp/lastcall-password-XXXXXX";
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_null(redis_url_parse("redis://:old@h", &url));
    assert_int_equal(redis_url_read_password(&url, path), -EINVAL);
    assert_int_equal(write(fd, "new one\r\nnot this\n", 18), 18);
    assert_int_equal(redis_url_read_password(&url, path), 0);
    assert_string_equal(url.password, "new one");
    (void)close(fd);
    (void)unlink(path);
    assert_int_equal(redis_url_read_password(&url, path), -ENOENT);
    assert_string_equal(url.password, "new one");
    redis_url_release(&url);
}

/* ---- the connection ---- */

struct peer {
    int listener;
    const char *says; /* sent to each client, after its first bytes */
    pthread_t thread;
    struct redis_url url;
    char heard[256];
};

static void *peer_thread(void *arg)
{
    struct peer *peer = arg;
    int fd = accept4(peer->listener, NULL, NULL, SOCK_CLOEXEC);
    ssize_t n = fd >= 0 ? recv(fd, peer->heard, sizeof(peer->heard) - 1, 0) : -1;

    if (n > 0 && peer->says != NULL) {
        (void)send(fd, peer->says, strlen(peer->says), MSG_NOSIGNAL);
        while (recv(fd, peer->heard + n, 1, 0) > 0) /* until the other side closes */
            ;
    }
    if (fd >= 0)
        (void)close(fd);
    return NULL;
}

static void peer_start(struct peer *peer, const char *says)
{
    uint16_t port;
    char url[64];

    if (!redis_is_built())
        skip_test("built without hiredis");
    memset(peer, 0, sizeof(*peer));
    peer->says = says;
    peer->listener = listen_here(&port, 8);
    (void)snprintf(url, sizeof(url), "redis://me:secret@127.0.0.1:%u/0", port);
    assert_null(redis_url_parse(url, &peer->url));
    assert_int_equal(pthread_create(&peer->thread, NULL, peer_thread, peer), 0);
}

static void peer_stop(struct peer *peer)
{
    (void)shutdown(peer->listener, SHUT_RD);
    (void)pthread_join(peer->thread, NULL);
    (void)close(peer->listener);
    redis_url_release(&peer->url);
}

static void test_server_that_says_nothing_is_left_in_time(void **state)
{
    struct peer peer;
    struct redis *redis = NULL;
    char error[REDIS_ERROR_SIZE];
    (void)state;
    peer_start(&peer, "+OK\r\n"); /* it answers AUTH, but not SELECT */
    assert_int_equal(redis_open(&peer.url, -1, clock_now_ns() + 50 * NS_PER_MS, &redis, error),
                     -ETIMEDOUT);
    assert_string_equal(error, "it does not answer");
    assert_null(redis);
    peer_stop(&peer);
}

static void test_call_is_cancelled_by_a_descriptor(void **state)
{
    struct peer peer;
    struct redis *redis = NULL;
    char error[REDIS_ERROR_SIZE];
    int cancel = eventfd(1, EFD_CLOEXEC);
    (void)state;
    peer_start(&peer, "+OK\r\n");
    assert_int_equal(redis_open(&peer.url, cancel, clock_now_ns() + 60 * NS_PER_S, &redis, error),
                     -ECANCELED);
    peer_stop(&peer);
    (void)close(cancel);
}

static void test_refusal_is_shown_in_the_servers_words(void **state)
{
    struct peer peer;
    struct redis *redis = NULL;
    char error[REDIS_ERROR_SIZE];
    (void)state;
    peer_start(&peer, "-WRONGPASS so not\r\n");
    assert_int_equal(redis_open(&peer.url, -1, clock_now_ns() + 10 * NS_PER_S, &redis, error),
                     -EREMOTEIO);
    assert_string_equal(error, "WRONGPASS so not");
    peer_stop(&peer);
}

static void test_garbage_ends_the_connection(void **state)
{
    struct peer peer;
    struct redis *redis = NULL;
    char error[REDIS_ERROR_SIZE];
    (void)state;
    peer_start(&peer, "HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_int_equal(redis_open(&peer.url, -1, clock_now_ns() + 10 * NS_PER_S, &redis, error),
                     -EPROTO);
    assert_non_null(strstr(error, "Protocol error"));
    peer_stop(&peer);
}

static void test_address_without_a_server(void **state)
{
    struct peer peer;
    struct redis *redis = NULL;
    char error[REDIS_ERROR_SIZE];
    (void)state;
    peer_start(&peer, NULL);
    (void)shutdown(peer.listener, SHUT_RD);
    (void)pthread_join(peer.thread, NULL);
    (void)close(peer.listener);
    assert_int_equal(redis_open(&peer.url, -1, clock_now_ns() + 10 * NS_PER_S, &redis, error),
                     -ECONNREFUSED);
    assert_string_equal(error, "Connection refused");
    redis_url_release(&peer.url);
}

static void test_answers_to_several_commands_come_in_order(void **state)
{
    struct peer peer;
    struct redis *redis = NULL;
    struct redis_reply *reply = NULL;
    char error[REDIS_ERROR_SIZE];
    uint64_t until_ns = clock_now_ns() + 10 * NS_PER_S;
    (void)state;
    peer_start(&peer, "+OK\r\n+OK\r\n:7\r\n-NO way\r\n*2\r\n$1\r\nx\r\n$-1\r\n");
    assert_int_equal(redis_open(&peer.url, -1, until_ns, &redis, error), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(redis_send(redis, 1, (const char *const[]){"PING"}, NULL), 0);
    assert_int_equal(redis_take(redis, until_ns, &reply), 0);
    assert_int_equal(redis_reply_integer(reply), 7);
    redis_reply_free(reply);
    assert_int_equal(redis_take(redis, until_ns, &reply), -EREMOTEIO);
    assert_string_equal(redis_error(redis), "NO way");
    assert_int_equal(redis_take(redis, until_ns, &reply), 0);
    assert_int_equal(redis_reply_count(reply), 2);
    assert_string_equal(redis_reply_text(redis_reply_at(reply, 0), NULL), "x");
    assert_true(redis_reply_is_nil(redis_reply_at(reply, 1)));
    assert_null(redis_reply_at(reply, 2));
    redis_reply_free(reply);
    redis_close(redis);
    peer_stop(&peer);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url_names_host_port_database_and_user),
        cmocka_unit_test(test_url_names_a_unix_socket_and_a_stream),
        cmocka_unit_test(test_bad_url_is_refused_without_repeating_it),
        cmocka_unit_test(test_url_of_tls_names_its_files),
        cmocka_unit_test(test_bad_files_of_tls_are_named),
        cmocka_unit_test(test_password_is_the_first_line_of_a_file),
        cmocka_unit_test(test_server_that_says_nothing_is_left_in_time),
        cmocka_unit_test(test_call_is_cancelled_by_a_descriptor),
        cmocka_unit_test(test_refusal_is_shown_in_the_servers_words),
        cmocka_unit_test(test_garbage_ends_the_connection),
        cmocka_unit_test(test_address_without_a_server),
        cmocka_unit_test(test_answers_to_several_commands_come_in_order),
    };
    (void)alarm(120);
    return cmocka_run_group_tests_name("redis", tests, NULL, NULL);
}

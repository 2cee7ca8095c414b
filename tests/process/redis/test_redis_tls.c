/* Redis over TLS, with a real redis-server: which servers the connection trusts, its errors for
 * others; and that registration, queue and replay work over it. */

#include "redis.h"

#include "archive_made.h"
#include "certificate.h"
#include "process.h"
#include "queue.h"
#include "redis_server.h"
#include "target.h"
#include "tool.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "loopback.h"

#define LIMIT_MS 20000
#define LIMIT_NS (LIMIT_MS * NS_PER_MS)
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define LARGE (4u << 20)

static char directory[] = "/tmp/lastcall-redis-tls-XXXXXX";
static char key[64], certificate[64], other_key[64], other_certificate[64];
static struct redis_server redis;

/* ---- connections ---- */

static int open_at(const char *text, int cancel_fd, uint64_t limit_ns, struct redis **ret_redis,
                   char error[REDIS_ERROR_SIZE])
{
    struct redis_url url;
    char tls_error[REDIS_TLS_ERROR_SIZE];
    const char *wanted = redis_url_parse(text, &url);

    if (wanted != NULL)
        fail_msg("%s: %s", text, wanted);
    if (redis_tls_load(&url, tls_error) != 0)
        fail_msg("%s: %s", text, tls_error);
    int err = redis_open(&url, cancel_fd, clock_now_ns() + limit_ns, ret_redis, error);
    redis_url_release(&url); /* it is not needed any more */
    return err;
}

/* `format` is a URL with the port of the server as its %d. */
static void expect_no_way(const char *format, int want, const char *words)
{
    char url[320], error[REDIS_ERROR_SIZE] = "";
    struct redis *connection = NULL;

    (void)snprintf(url, sizeof(url), format, redis.port);
    int err = open_at(url, -1, LIMIT_NS, &connection, error);
    if (err != want || strstr(error, words) == NULL)
        fail_msg("%s: %d `%s` instead of %d `%s`", url, err, error, want, words);
    assert_null(connection);
}

static void begin(bool asks, const char *password)
{
    redis_server_need();
    redis_server_init(&redis);
    redis_server_use_tls(&redis, key, certificate, asks);
    redis_server_start(&redis, password, NULL);
}

static struct redis *connect_here(void)
{
    char error[REDIS_ERROR_SIZE];
    struct redis *connection;

    if (open_at(redis.url, -1, LIMIT_NS, &connection, error) != 0)
        fail_msg("%s", error);
    return connection;
}

static void test_server_is_believed_by_its_certificate_alone(void **state)
{
    char url[320];
    (void)state;
    begin(false, "s3cret");
    redis_close(connect_here());
    expect_no_way("rediss://:s3cret@127.0.0.1:%d", -EPROTO, "its certificate: self-signed");
    (void)snprintf(url, sizeof(url), "rediss://:s3cret@127.0.0.1:%%d?ca-file=%s",
                   other_certificate);
    expect_no_way(url, -EPROTO, "its certificate: ");
    (void)snprintf(url, sizeof(url), "rediss://:s3cret@localhost:%%d?ca-file=%s", certificate);
    expect_no_way(url, -EPROTO, "its certificate: hostname mismatch");
    expect_no_way("rediss://:no@127.0.0.1:%d?verify=off", -EREMOTEIO, "WRONGPASS");
    redis_server_stop(&redis);
}

static void test_name_in_the_certificate_counts(void **state)
{
    char url[320], error[REDIS_ERROR_SIZE];
    struct redis *connection;
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_use_tls(&redis, other_key, other_certificate, false); /* for localhost */
    redis.key = NULL; /* a client by the address would not come in: plain until it is up */
    redis_server_start(&redis, NULL,
                       ARGS("--tls-port", "0", "--tls-cert-file", other_certificate,
                            "--tls-key-file", other_key, "--tls-ca-cert-file", other_certificate,
                            "--tls-auth-clients", "no"));
    uint16_t port = free_port();
    (void)snprintf(url, sizeof(url), "CONFIG SET tls-port %u", port);
    free(redis_server_ask(&redis, url));
    (void)snprintf(url, sizeof(url), "rediss://localhost:%u?ca-file=%s", port, other_certificate);
    assert_int_equal(open_at(url, -1, LIMIT_NS, &connection, error), 0);
    redis_close(connection);
    (void)snprintf(url, sizeof(url), "rediss://127.0.0.1:%u?ca-file=%s", port, other_certificate);
    assert_int_equal(open_at(url, -1, LIMIT_NS, &connection, error), -EPROTO);
    assert_string_equal(error, "its certificate: IP address mismatch");
    redis_server_stop(&redis);
}

static void test_client_certificate_is_sent_on_request(void **state)
{
    char url[320], error[REDIS_ERROR_SIZE] = "";
    struct redis *connection = NULL;
    (void)state;
    begin(true, NULL);
    redis_close(connect_here());
    /* With TLS 1.3 the server's refusal comes after the handshake. */
    (void)snprintf(url, sizeof(url), "rediss://127.0.0.1:%d?ca-file=%s", redis.port, certificate);
    int err = open_at(url, -1, LIMIT_NS, &connection, error);
    assert_true(err == -EPROTO || err == -ECONNRESET);
    assert_null(connection);
    redis_server_stop(&redis);
}

static void test_one_side_without_tls(void **state)
{
    char url[64], error[REDIS_ERROR_SIZE];
    struct redis *connection = NULL;
    (void)state;
    begin(false, NULL);
    expect_no_way("redis://127.0.0.1:%d", -ECONNRESET, "");
    redis_server_stop(&redis);
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, NULL);
    (void)snprintf(url, sizeof(url), "rediss://127.0.0.1:%d?verify=off", redis.port);
    assert_int_equal(open_at(url, -1, 100 * NS_PER_MS, &connection, error), -ETIMEDOUT);
    assert_string_equal(error, "it does not answer in TLS");
    redis_server_stop(&redis);
}

static void test_silent_server_is_left_in_time(void **state)
{
    char url[64], error[REDIS_ERROR_SIZE];
    struct redis *connection = NULL;
    uint16_t port;
    int listener = listen_here(&port, 8), cancel = eventfd(1, EFD_CLOEXEC);
    (void)state;
    redis_server_need();
    (void)snprintf(url, sizeof(url), "rediss://127.0.0.1:%u?verify=off", port);
    assert_int_equal(open_at(url, -1, 50 * NS_PER_MS, &connection, error), -ETIMEDOUT);
    assert_string_equal(error, "it does not answer in TLS");
    assert_int_equal(open_at(url, cancel, LIMIT_NS, &connection, error), -ECANCELED);
    assert_null(connection);
    (void)close(cancel);
    (void)close(listener);
}

static void test_large_values_pass_whole(void **state)
{
    char *value = malloc(LARGE + 1);
    struct redis_reply *reply;
    size_t length = 0;
    (void)state;
    begin(false, NULL);
    struct redis *connection = connect_here();
    uint64_t until_ns = clock_now_ns() + LIMIT_NS;
    assert_non_null(value);
    for (size_t i = 0; i < LARGE; i++)
        value[i] = (char)('a' + i * 7 % 26);
    value[LARGE] = '\0';
    /* Sent at once, taken in order. */
    assert_int_equal(redis_send(connection, 3, ARGS("SET", "large", value), NULL), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(redis_send(connection, 2, ARGS("GET", "large"), NULL), 0);
    assert_int_equal(redis_take(connection, until_ns, &reply), 0);
    redis_reply_free(reply);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(redis_take(connection, until_ns, &reply), 0);
        const char *text = redis_reply_text(reply, &length);
        assert_int_equal(length, LARGE);
        assert_memory_equal(text, value, LARGE);
        redis_reply_free(reply);
    }
    redis_close(connection);
    free(value);
    redis_server_stop(&redis);
}

/* SIGPIPE would end this program. */
static void test_server_that_is_killed_is_an_error_and_no_signal(void **state)
{
    struct redis_reply *reply = NULL;
    (void)state;
    begin(false, NULL);
    struct redis *connection = connect_here();
    assert_int_equal(
        redis_call(connection, clock_now_ns() + LIMIT_NS, 1, ARGS("PING"), NULL, &reply), 0);
    redis_reply_free(reply);
    redis_server_stop(&redis);
    for (unsigned i = 0; i < 3; i++)
        assert_true(
            redis_call(connection, clock_now_ns() + LIMIT_NS, 1, ARGS("PING"), NULL, &reply) < 0);
    assert_true(redis_error(connection)[0] != '\0');
    redis_close(connection);
}

/* ---- the users of connections ---- */

static void test_registration_is_made_and_withdrawn(void **state)
{
    struct process p;
    (void)state;
    begin(true, "s3cret");
    process_start(&p, NULL, ARGS("--threads", "1", "--register", redis.url, "--register-key", "k"));
    redis_server_wait(&redis, "EXISTS k", "1");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    redis_server_expect(&redis, "EXISTS k", "0");
    assert_null(strstr(p.log, "s3cret"));
    assert_non_null(strstr(p.log, "rediss://127.0.0.1:"));
    process_release(&p);
    redis_server_stop(&redis);
}

static void test_archive_goes_to_the_stream_and_out_of_it(void **state)
{
    char archive[64], from[600], error[QUEUE_ERROR_SIZE];
    struct queue *queue;
    struct target target;
    struct tool command;
    (void)state;
    begin(true, "s3cret");
    (void)snprintf(archive, sizeof(archive), "%s/unfinished-20260101.ndjson", directory);
    made_archive(archive, 100);
    const struct queue_config config = {.dir = directory, .url = redis.url, .stream = "q"};
    if (queue_create(&config, &queue, error) != 0)
        fail_msg("%s", error);
    assert_int_equal(queue_start(queue, NULL), 0);
    assert_int_equal(queue_wait(queue, clock_now_ns() + LIMIT_NS), 0);
    queue_leave(queue);
    queue_stop(queue);
    queue_destroy(queue);
    redis_server_expect(&redis, "XLEN q", "100");

    target_start(&target);
    (void)snprintf(from, sizeof(from), "%s&stream=q", redis.url);
    tool_run(&command, 0, ARGS("unfinished", "--from", from, "--count"));
    assert_non_null(strstr(command.text, "100 open"));
    tool_release(&command);
    tool_run(&command, 0, ARGS("replay", "--from", from, "--to", target.url));
    assert_null(strstr(command.text, "s3cret"));
    tool_release(&command);
    assert_int_equal(target_count(&target), 100);
    redis_server_expect(&redis, "XLEN q", "0");
    target_close(&target);
    target_release(&target);
    redis_server_stop(&redis);
}

/* ---- all ---- */

static int set_up(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    (void)snprintf(key, sizeof(key), "%s/key", directory);
    (void)snprintf(certificate, sizeof(certificate), "%s/cert", directory);
    (void)snprintf(other_key, sizeof(other_key), "%s/other-key", directory);
    (void)snprintf(other_certificate, sizeof(other_certificate), "%s/other-cert", directory);
    certificate_write_for(key, certificate, "IP:127.0.0.1");
    certificate_write_for(other_key, other_certificate, "DNS:localhost");
    return 0;
}

static int tear_down(void **state)
{
    char command[64];
    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

static int end_all(void **state)
{
    (void)process_kill_left(state);
    (void)tool_kill_left(state);
    return redis_server_kill_left(state);
}

#define TEST(name) cmocka_unit_test_teardown(name, end_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_server_is_believed_by_its_certificate_alone),
        TEST(test_name_in_the_certificate_counts),
        TEST(test_client_certificate_is_sent_on_request),
        TEST(test_one_side_without_tls),
        TEST(test_silent_server_is_left_in_time),
        TEST(test_large_values_pass_whole),
        TEST(test_server_that_is_killed_is_an_error_and_no_signal),
        TEST(test_registration_is_made_and_withdrawn),
        TEST(test_archive_goes_to_the_stream_and_out_of_it),
    };
    (void)alarm(300); /* a hang is a failure */
    return cmocka_run_group_tests_name("redis_tls", tests, set_up, tear_down);
}

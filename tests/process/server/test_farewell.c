/* How TLS connections end: with close_notify (RFC 8446 section 6.1), in every case, so that a
 * client can tell an end from a truncation. An end of file alone fails these tests. */

#include "with_config.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>

#include <cmocka.h>

#include "expect.h"
#include "tls_client.h"

#define CONF(seconds)                                                                              \
    "listen: {host: 127.0.0.1, port: 0, ssl: {certificate-file: @/a.crt, key-file: @/a.key}}\n"    \
    "http1-request-timeout: " seconds "\nhttp2-idle-timeout: " seconds                             \
    "\ndrain: {idle-grace: 100ms}\n"                                                               \
    "hosts: {default: {paths: {/: {handler: hello}, /sleep: {handler: sleep}}}}\n"

#define H2_SETTINGS "\0\0\0\x04\0\0\0\0\0"
#define H2_PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" H2_SETTINGS
/* HEADERS of stream 1, its end: GET, https, the authority "a", and a path of its own. */
#define H2_GET_HELLO                                                                               \
    "\0\0\x06\x01\x05\0\0\0\x01\x82\x87\x84\x41\x01"                                               \
    "a"
#define H2_GET_SLEEP                                                                               \
    "\0\0\x14\x01\x05\0\0\0\x01\x82\x87\x41\x01"                                                   \
    "a"                                                                                            \
    "\x04\x0d"                                                                                     \
    "/sleep?ms=300"
#define H2_GOAWAY "\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define H2_PING_ON_A_STREAM                                                                        \
    "\0\0\x08\x06\0\0\0\0\x03"                                                                     \
    "12345678"

struct way {
    const char *what;
    const char *alpn;
    const char *text;
    size_t len;
    bool drain; /* the process gets SIGTERM then */
};

#define WAY(what, alpn, text, drain)                                                               \
    {                                                                                              \
        what, alpn, text, sizeof(text) - 1, drain                                                  \
    }

static const struct way ways[] = {
    WAY("HTTP/1, closed after the answer", NULL,
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false),
    WAY("HTTP/1.0", NULL, "GET / HTTP/1.0\r\n\r\n", false),
    WAY("HTTP/1, refused", NULL, "GET / HTTP/1.1\r\n\r\n", false),
    WAY("HTTP/1, nothing but line ends", NULL, "\r\n\r\n", false),
    WAY("HTTP/1, silent until the time-out", NULL, "", false),
    WAY("HTTP/1, half a head until the time-out", NULL, "GET / HTT", false),
    WAY("HTTP/1, idle until the time-out", "\x08http/1.1", GET("/"), false),
    WAY("HTTP/1, idle in a drain", NULL, GET("/"), true),
    WAY("HTTP/1, answered in a drain", NULL, GET("/sleep?ms=300"), true),
    WAY("HTTP/2, silent until the time-out", "\x02h2", "", false),
    WAY("HTTP/2, idle until the time-out", "\x02h2", H2_PREFACE H2_GET_HELLO, false),
    WAY("HTTP/2, no preface", "\x02h2", GET("/"), false),
    WAY("HTTP/2, the client's GOAWAY", "\x02h2", H2_PREFACE H2_GET_HELLO H2_GOAWAY, false),
    WAY("HTTP/2, a broken frame", "\x02h2", H2_PREFACE H2_PING_ON_A_STREAM, false),
    WAY("HTTP/2, silent in a drain", "\x02h2", "", true),
    WAY("HTTP/2, idle in a drain", "\x02h2", H2_PREFACE H2_GET_HELLO, true),
    WAY("HTTP/2, answered in a drain", "\x02h2", H2_PREFACE H2_GET_SLEEP, true),
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

/* Read until the end, and return how the connection ended. */
static void assert_says_farewell(SSL *ssl, const struct way *way)
{
    char text[65536];
    int n;

    while ((n = tls_read(ssl, text, sizeof(text))) > 0)
        ;
    int how = SSL_get_error(ssl, n);
    if (how != SSL_ERROR_ZERO_RETURN)
        fail_msg("%s, %s: it ended without close_notify (%d, %s, %s)", way->what,
                 SSL_get_version(ssl), how, strerrordesc_np(errno),
                 ERR_error_string(ERR_peek_error(), NULL));
}

static SSL *begin(const struct process *p, const struct way *way, int version)
{
    char bytes[4096];
    SSL *ssl = tls_connect(client_connect(p),
                           &(struct tls_options){.alpn = way->alpn, .version_max = version});

    assert_non_null(ssl);
    if (way->len > 0)
        assert_int_equal(SSL_write(ssl, way->text, (int)way->len), (int)way->len);
    if (way->drain && way->len > 0 && strstr(way->what, "idle") != NULL)
        assert_true(tls_read(ssl, bytes, sizeof(bytes)) > 0);
    return ssl;
}

static void look_at_ends(int version, bool drain)
{
    struct process p;
    SSL *ssls[WAYS] = {NULL};

    start(&p, drain ? CONF("20") : CONF("1")); /* each ends in its own way, and no other one */
    for (size_t i = 0; i < WAYS; i++)
        if (ways[i].drain == drain)
            ssls[i] = begin(&p, &ways[i], version);
    if (drain)
        process_signal(&p, SIGTERM);
    for (size_t i = 0; i < WAYS; i++)
        if (ssls[i] != NULL)
            assert_says_farewell(ssls[i], &ways[i]);
    for (size_t i = 0; i < WAYS; i++)
        if (ssls[i] != NULL)
            tls_cut(ssls[i]);
    if (drain)
        process_expect(&p, LIMIT_MS, 0);
    else
        stop(&p);
    process_release(&p);
}

static void test_tls_1_3_ends_with_close_notify(void **state)
{
    (void)state;
    look_at_ends(TLS1_3_VERSION, false);
}

static void test_tls_1_2_ends_with_close_notify(void **state)
{
    (void)state;
    look_at_ends(TLS1_2_VERSION, false);
}

static void test_tls_1_3_ends_with_close_notify_in_a_drain(void **state)
{
    (void)state;
    look_at_ends(TLS1_3_VERSION, true);
}

static void test_tls_1_2_ends_with_close_notify_in_a_drain(void **state)
{
    (void)state;
    look_at_ends(TLS1_2_VERSION, true);
}

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_tls_1_3_ends_with_close_notify),
        TEST(test_tls_1_2_ends_with_close_notify),
        TEST(test_tls_1_3_ends_with_close_notify_in_a_drain),
        TEST(test_tls_1_2_ends_with_close_notify_in_a_drain),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 300); /* a hang is a failure */
    return cmocka_run_group_tests_name("farewell", tests, with_config_set_up, remove_directory);
}

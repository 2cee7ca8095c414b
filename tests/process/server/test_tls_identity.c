/* The real process: a TLS session that began at one listener is not resumed at another (a client
 * that is led to another port must not find the session of the one that it meant there), though one
 * process seals the tickets of both. At its own listener it is resumed, whatever host it is for. */

#include "with_config.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "loopback.h"
#include "tls_client.h"

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

/* A whole visit as `host`. Returns a session to come back with; *ret_resumed: this visit did.
 * Frees `session`. */
static SSL_SESSION *visit(const struct process *p, const char *host, int version,
                          SSL_SESSION *session, bool *ret_resumed)
{
    char answer[1024];
    const struct tls_options options = {.name = host, .session = session, .version_max = version};
    SSL *ssl = tls_connect(client_connect(p), &options);

    assert_non_null(ssl);
    assert_int_equal(SSL_version(ssl), version);
    *ret_resumed = SSL_session_reused(ssl) == 1;
    tls_write(ssl, GET("/"));
    tls_read_until(ssl, answer, sizeof(answer), "Hello World");
    SSL_SESSION *next = SSL_get1_session(ssl); /* TLS 1.3 sends it before the answer */
    tls_hang_up(ssl);
    SSL_SESSION_free(session);
    return next;
}

/* Is a session of one taken at the other? */
static bool is_taken(const struct process *from, const struct process *to, const char *host,
                     int version)
{
    bool resumed;

    SSL_SESSION *session = visit(from, host, version, NULL, &resumed);
    assert_false(resumed);
    SSL_SESSION_free(visit(to, host, version, session, &resumed));
    return resumed;
}

/* Two listeners, with the certificates of those names. */
static void start_two(struct process *p, const char *one, const char *other, const char *more)
{
    char text[1024];

    (void)snprintf(text, sizeof(text),
                   "hosts:\n"
                   "  one.test:\n    listen: {host: 127.0.0.1, port: %u, ssl: {certificate-file: "
                   "@/%s.crt, key-file: @/%s.key}}\n    paths: {/: {handler: hello}}\n"
                   "  other.test:\n    listen: {host: 127.0.0.1, port: %u, ssl: {certificate-file: "
                   "@/%s.crt, key-file: @/%s.key}}\n    paths: {/: {handler: hello}}\n%s",
                   free_port(), one, one, free_port(), other, other, more);
    start(p, text);
}

static void test_a_session_is_its_listeners_own(void **state)
{
    static const char *const more[] = {"", "ssl-session-resumption: {mode: ticket}\n",
                                       "ssl-session-resumption: {mode: cache}\n"};
    (void)state;
    for (size_t i = 0; i < 6; i++) {
        struct process p;
        start_two(&p, "a", i % 2 == 0 ? "a" : "b", more[i / 2]);
        const struct process one = listener(&p, 0), other = listener(&p, 1);
        for (size_t j = 0; j < 2; j++) {
            assert_true(is_taken(&one, &one, NULL, versions[j]));
            assert_true(is_taken(&other, &other, NULL, versions[j]));
            if (is_taken(&one, &other, NULL, versions[j]) ||
                is_taken(&other, &one, NULL, versions[j]))
                fail_msg("%zu, %x: resumed at another listener", i, (unsigned)versions[j]);
        }
        stop(&p);
        process_release(&p);
    }
}

static void test_a_session_of_any_host_is_resumed_at_its_listener(void **state)
{
    struct process p;
    (void)state;
    start(&p,
          "hosts:\n" HOST("first.test", "    listen: {host: 127.0.0.1, port: 0, " SSL("a") "}\n")
              HOST("second.test", "    listen: {host: 127.0.0.1, port: 0, " SSL("b") "}\n"));
    for (size_t j = 0; j < 2; j++) {
        assert_true(is_taken(&p, &p, "first.test", versions[j]));
        assert_true(is_taken(&p, &p, "second.test", versions[j]));
    }
    stop(&p);
    process_release(&p);
}

/* With keys from a file the next process opens the tickets; with another certificate at the same
 * address it is not the same server. */
static void test_a_session_ends_with_the_certificate(void **state)
{
    static const char keys[] = "ssl-session-resumption: {mode: ticket, ticket-store: file, "
                               "ticket-file: @/keys}\n";
    static const char *const names[] = {"a", "b"};
    char text[512];
    (void)state;
    (void)write_file("keys",
                     "- name: 000102030405060708090a0b0c0d0e0f\n  cipher: aes-256-cbc\n"
                     "  hash: sha256\n  not_before: 1500000000\n  not_after: 4000000000\n  key: "
                     "a1b2c3d4e5f60718a1b2c3d4e5f60718a1b2c3d4e5f60718a1b2c3d4e5f60718"
                     "a1b2c3d4e5f60718a1b2c3d4e5f60718a1b2c3d4e5f60718a1b2c3d4e5f60718"
                     "a1b2c3d4e5f60718a1b2c3d4e5f60718a1b2c3d4e5f60718a1b2c3d4e5f60718\n");
    for (size_t i = 0; i < 2; i++) {
        struct process p, next;
        (void)snprintf(text, sizeof(text),
                       "listen: {host: 127.0.0.1, port: 0, " SSL("a") "}\n%s" HELLO, keys);
        start(&p, text);
        (void)snprintf(text, sizeof(text),
                       "listen: {host: 127.0.0.1, port: 0, ssl: {certificate-file: @/%s.crt, "
                       "key-file: @/%s.key}}\n%s" HELLO,
                       names[i], names[i], keys);
        start(&next, text);
        for (size_t j = 0; j < 2; j++)
            assert_int_equal(is_taken(&p, &next, NULL, versions[j]), i == 0);
        stop(&p);
        stop(&next);
        process_release(&p);
        process_release(&next);
    }
}

#define PLAIN(test) cmocka_unit_test_teardown(test, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAIN(test_a_session_is_its_listeners_own),
        PLAIN(test_a_session_of_any_host_is_resumed_at_its_listener),
        PLAIN(test_a_session_ends_with_the_certificate),
    };
    return cmocka_run_group_tests(tests, with_config_set_up, remove_directory);
}

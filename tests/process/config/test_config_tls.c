/* The real process with a configuration file: TLS, the sessions that are resumed, and the PROXY
 * line. */

#include "with_config.h"

#include <openssl/pem.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "tls_client.h"

/* ---- TLS ---- */

static SSL *shake_hands(int fd, const char *name, SSL_SESSION *session, int version_max)
{
    return tls_connect(
        fd, &(struct tls_options){.name = name, .session = session, .version_max = version_max});
}

static void assert_says_hello(SSL *ssl, const char *request)
{
    char text[4096];
    tls_write(ssl, request);
    tls_read_until(ssl, text, sizeof(text), "Hello World\n");
}

/* Which certificate is shown to a client that asks for `name`. */
static void assert_shows(const struct process *p, const char *name, const char *file)
{
    SSL *ssl = shake_hands(client_connect(p), name, NULL, 0);
    assert_non_null(ssl);
    FILE *pem = fopen(in_directory(file), "r");
    assert_non_null(pem);
    X509 *want = PEM_read_X509(pem, NULL, NULL, NULL), *got = SSL_get1_peer_certificate(ssl);
    (void)fclose(pem);
    if (X509_cmp(want, got) != 0)
        fail_msg("%s is not shown %s", name != NULL ? name : "(no name)", file);
    X509_free(want);
    X509_free(got);
    assert_says_hello(ssl, GET("/"));
    tls_hang_up(ssl);
}

#define LISTEN_TLS(name, more)                                                                     \
    "listen: {host: 127.0.0.1, port: 0, ssl: {certificate-file: @/" name ".crt, key-file: @/" name \
    ".key" more "}}\n"

static void test_certificate_is_chosen_by_name(void **state)
{
    struct process p;
    (void)state;
    start(&p, "hosts:\n" HOST("a.test", "    " LISTEN_TLS("a", ""))
                  HOST("b.test", "    " LISTEN_TLS("b", ""))
                      HOST("'*.c.test'", "    " LISTEN_TLS("c", ""))
                          HOST("b2.test", "    " LISTEN_TLS("b", "")));
    assert_int_equal(strncmp(p.address, "tls:127.0.0.1:", 14), 0);
    assert_shows(&p, "a.test", "a.crt");
    assert_shows(&p, "b.test", "b.crt");
    assert_shows(&p, "B.TEST", "b.crt");
    assert_shows(&p, "b2.test", "b.crt");
    assert_shows(&p, "www.c.test", "c.crt");
    assert_shows(&p, "c.test", "a.crt");
    assert_shows(&p, "unknown.test", "a.crt");
    assert_shows(&p, NULL, "a.crt");
    stop(&p);
    process_release(&p);
}

static void test_global_certificate_is_shown_unless_a_host_has_its_own(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN_TLS("a", "") "hosts:\n" HOST("b.test", "    " LISTEN_TLS("b", ""))
                  HOST("c.test", ""));
    assert_shows(&p, "b.test", "b.crt");
    assert_shows(&p, "c.test", "a.crt");
    assert_shows(&p, NULL, "a.crt");
    process_release(&p);
}

static void test_versions_have_limits(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN_TLS("a", ", minimum-version: TLSv1.3") HELLO);
    assert_null(shake_hands(client_connect(&p), NULL, NULL, TLS1_2_VERSION));
    SSL *ssl = shake_hands(client_connect(&p), NULL, NULL, 0);
    assert_int_equal(SSL_version(ssl), TLS1_3_VERSION);
    tls_hang_up(ssl);
    process_release(&p);
    start(&p, LISTEN_TLS("a", ", max-version: tlsv1.2, cipher-suite: ECDHE-ECDSA-AES256-GCM-SHA384")
                  HELLO);
    ssl = shake_hands(client_connect(&p), NULL, NULL, 0);
    assert_non_null(ssl);
    assert_int_equal(SSL_version(ssl), TLS1_2_VERSION);
    assert_string_equal(SSL_get_cipher_name(ssl), "ECDHE-ECDSA-AES256-GCM-SHA384");
    tls_hang_up(ssl);
    process_release(&p);
}

/* A session to resume. TLS 1.3 sends it after the handshake, so read until the answer.
 * Owner: the caller. */
static SSL_SESSION *visit_and_keep(const struct process *p, int version)
{
    SSL *ssl = shake_hands(client_connect(p), NULL, NULL, version);
    assert_non_null(ssl);
    assert_int_equal(SSL_version(ssl), version);
    assert_int_equal(SSL_session_reused(ssl), 0);
    assert_says_hello(ssl, GET("/"));
    SSL_SESSION *session = SSL_get1_session(ssl);
    tls_hang_up(ssl);
    return session;
}

/* Frees the session. */
static bool is_resumed(const struct process *p, SSL_SESSION *session, int version)
{
    SSL *ssl = shake_hands(client_connect(p), NULL, session, version);
    assert_non_null(ssl);
    bool resumed = SSL_session_reused(ssl) == 1;
    assert_says_hello(ssl, GET("/"));
    tls_hang_up(ssl);
    SSL_SESSION_free(session);
    return resumed;
}

#define TICKET_KEY(name, byte)                                                                     \
    "- name: " name "\n  cipher: aes-256-cbc\n  hash: sha256\n  key: " byte byte byte byte byte    \
        byte byte byte byte byte byte byte "\n  not_before: 1500000000\n  not_after: 4000000000\n"
#define NAME_1 "000102030405060708090a0b0c0d0e0f"
#define BYTES_8 "a1b2c3d4e5f60718"

static void test_sessions_are_resumed_as_the_mode_says(void **state)
{
    static const struct {
        const char *mode;
        bool resumed, survives;
    } cases[] = {
        {"{mode: off}", false, false},
        {"{mode: cache}", true, false},
        {"{mode: ticket}", true, false},
        {"{mode: all}", true, false},
        {"{mode: ticket, ticket-store: file, ticket-file: @/keys}", true, true},
        {"{mode: ticket, ticket-store: file, ticket-file: @/none}", false, false},
    };
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    char text[512];
    (void)state;
    (void)write_file("keys", TICKET_KEY(NAME_1, BYTES_8));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct process p, next;
        SSL_SESSION *kept[2];
        (void)snprintf(text, sizeof(text), "%s" LISTEN_TLS("a", "") "ssl-session-resumption: %s\n",
                       HELLO, cases[i].mode);
        start(&p, text);
        for (size_t j = 0; j < 2; j++) {
            bool resumed = is_resumed(&p, visit_and_keep(&p, versions[j]), versions[j]);
            if (resumed != cases[i].resumed)
                fail_msg("%s with %x: %s", cases[i].mode, (unsigned)versions[j],
                         resumed ? "resumed" : "not resumed");
            kept[j] = visit_and_keep(&p, versions[j]);
        }
        start(&next, text);
        for (size_t j = 0; j < 2; j++)
            if (is_resumed(&next, kept[j], versions[j]) != cases[i].survives)
                fail_msg("%s with %x: %s by the next process", cases[i].mode, (unsigned)versions[j],
                         cases[i].survives ? "not resumed" : "resumed");
        stop(&p);
        stop(&next);
        process_release(&p);
        process_release(&next);
    }
}

/* A restart must not cost each client a whole handshake: the successor has the keys. */
static void test_sessions_outlive_a_restart(void **state)
{
    static const char *const modes[] = {"worker", "master"};
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const char *const flags[] = {"-m", modes[i], "--restart-probation", "0", NULL};
        SSL_SESSION *kept[2];
        bool resumed[2];
        struct process p;
        char conf[512]; /* with a user that may start it again */
        (void)snprintf(conf, sizeof(conf), "user: %s\n" LISTEN_TLS("a", "") HELLO, own_user_name());
        start_with(&p, conf, flags);
        for (size_t j = 0; j < 2; j++)
            kept[j] = visit_and_keep(&p, versions[j]);
        process_signal(&p, SIGHUP);
        process_wait_log(&p, "generation 2 serves: process ");
        process_wait_log(&p, "drained in "); /* the one before has left the listener */
        pid_t next = (pid_t)strtol(strstr(p.log, "2 serves: process ") + 18, NULL, 10);
        for (size_t j = 0; j < 2; j++)
            resumed[j] = is_resumed(&p, kept[j], versions[j]);
        assert_int_equal(kill(next, SIGTERM), 0);
        process_expect(&p, LIMIT_MS, 0);
        process_release(&p);
        assert_true(resumed[0] && resumed[1]);
    }
}

static void test_ticket_file_that_is_missing_or_bad_does_not_stop_the_start(void **state)
{
    static const char *const files[][2] = {
        {"none", "@/none: cannot read it: No such file or directory"},
        {"bad-keys", "@/bad-keys:1:3: the key has no usable cipher"},
    };
    char text[512];
    (void)state;
    (void)write_file("bad-keys", "- name: " NAME_1 "\n  cipher: rot13\n");
    for (size_t i = 0; i < 2; i++) {
        struct process p;
        (void)snprintf(text, sizeof(text),
                       LISTEN_TLS("a", "") "ssl-session-resumption:\n  mode: ticket\n"
                                           "  ticket-store: file\n  ticket-file: @/%s\n" HELLO,
                       files[i][0]);
        start(&p, text);
        assert_contains(p.log, "warning: no session ticket keys: ");
        assert_contains(p.log, expanded(files[i][1]));
        SSL *ssl = shake_hands(client_connect(&p), NULL, NULL, 0);
        assert_non_null(ssl);
        assert_says_hello(ssl, GET("/"));
        tls_hang_up(ssl);
        stop(&p);
        process_release(&p);
    }
}

/* ---- the PROXY line ---- */

#define PROXY_LINE "PROXY TCP4 192.0.2.7 203.0.113.1 5555 80\r\n"

static void test_proxy_line_is_the_clients_address(void **state)
{
    struct process p;
    (void)state;
    start(&p, "listen: {host: 127.0.0.1, port: 0, proxy-protocol: ON}\n"
              "access-log: {path: @/access, format: '%h %r'}\n" HELLO);
    assert_answer(&p, PROXY_LINE GET("/with"), "Hello World");
    assert_answer(&p, GET("/without"), "Hello World");
    stop(&p);
    process_release(&p);
    char *log = read_file(in_directory("access"));
    assert_int_equal(lines_of(log), 2);
    assert_contains(log, "192.0.2.7 GET /with HTTP/1.1\n");
    assert_contains(log, "127.0.0.1 GET /without HTTP/1.1\n");
    free(log);
}

static void test_proxy_line_that_is_not_expected_is_no_request(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN HELLO);
    int fd = client_connect(&p);
    client_send(fd, PROXY_LINE GET("/"));
    char *answer = client_read_until(fd, NULL);
    assert_lacks(answer, "Hello World");
    free(answer);
    (void)close(fd);
    process_release(&p);
}

static void test_proxy_line_comes_before_the_handshake(void **state)
{
    struct process p;
    (void)state;
    start(&p, "listen: {host: 127.0.0.1, port: 0, proxy-protocol: ON, " SSL(
                  "a") "}\n"
                       "access-log: {path: @/access-tls, format: '%h %r'}\n" HELLO);
    int fd = client_connect(&p);
    client_send(fd, PROXY_LINE);
    SSL *ssl = shake_hands(fd, NULL, NULL, 0);
    assert_non_null(ssl);
    assert_says_hello(ssl, GET("/with"));
    tls_hang_up(ssl);
    ssl = shake_hands(client_connect(&p), NULL, NULL, 0);
    assert_non_null(ssl);
    assert_says_hello(ssl, GET("/without"));
    tls_hang_up(ssl);
    stop(&p);
    process_release(&p);
    char *log = read_file(in_directory("access-tls"));
    assert_int_equal(lines_of(log), 2);
    assert_contains(log, "192.0.2.7 GET /with HTTP/1.1\n");
    assert_contains(log, "127.0.0.1 GET /without HTTP/1.1\n");
    free(log);
}

/* ---- all ---- */

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_certificate_is_chosen_by_name),
        TEST(test_global_certificate_is_shown_unless_a_host_has_its_own),
        TEST(test_versions_have_limits),
        TEST(test_sessions_are_resumed_as_the_mode_says),
        TEST(test_sessions_outlive_a_restart),
        TEST(test_ticket_file_that_is_missing_or_bad_does_not_stop_the_start),
        TEST(test_proxy_line_is_the_clients_address),
        TEST(test_proxy_line_that_is_not_expected_is_no_request),
        TEST(test_proxy_line_comes_before_the_handshake),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 600); /* a hang is a failure */
    return cmocka_run_group_tests_name("config_tls", tests, with_config_set_up, remove_directory);
}

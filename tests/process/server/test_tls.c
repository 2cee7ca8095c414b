/* The real process over TLS: handshakes, records and close_notify during a drain. */

#include "process.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <jansson.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "certificate.h"
#include "tls_client.h"
#include "skip.h"

#define LIMIT_MS 20000

static char certificate[64], key[64], other_key[64];

#define WITH_TLS(...)                                                                              \
    ((const char *const[]){"--cert", certificate, "--key", key, __VA_ARGS__, NULL})

static void start(struct process *p, const char *const *argv)
{
    process_start(p, "tls:127.0.0.1:0", argv);
}

static SSL *shake_hands(const struct process *p, const char *alpn)
{
    SSL *ssl = tls_connect(client_connect(p), &(struct tls_options){.alpn = alpn});

    assert_non_null(ssl);
    return ssl;
}

#define HTTP1 "\x08http/1.1"
#define HTTP2 "\x02h2"

/* Everything until the end. Truncated, if the end came without the server's close_notify. */
static void read_all(SSL *ssl, char *text, size_t size)
{
    size_t got = 0;
    int n;

    while (got < size - 1 && (n = tls_read(ssl, text + got, size - 1 - got)) > 0)
        got += (size_t)n;
    text[got] = '\0';
    assert_int_equal(SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN, SSL_RECEIVED_SHUTDOWN);
}

/* One loop takes connections and data in their order: what came before this is handed over. */
static void wait_until_busy(const struct process *p)
{
    char text[1024];

    for (unsigned i = 0; i < 3; i++) {
        SSL *ssl = shake_hands(p, HTTP1);
        tls_write(ssl, GET("/hello"));
        tls_read_until(ssl, text, sizeof(text), "Hello World\n");
        tls_cut(ssl);
    }
}

static void test_request_in_flight_is_answered_and_ends_with_a_farewell(void **state)
{
    struct process p;
    char text[4096];
    (void)state;
    start(&p, WITH_TLS("--threads", "1"));
    SSL *ssl = shake_hands(&p, HTTP1);
    tls_write(ssl, GET("/sleep?ms=1500"));
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    read_all(ssl, text, sizeof(text));
    assert_non_null(strstr(text, "Connection: close"));
    assert_non_null(strstr(text, "\r\n\r\n0\n"));
    tls_cut(ssl);
    process_expect(&p, LIMIT_MS, 0);
    assert_non_null(strstr(p.log, "listening on tls:127.0.0.1:"));
    process_release(&p);
}

static void test_silent_tls_clients_do_not_hold_the_exit(void **state)
{
    struct process p;
    int silent[5];
    SSL *shaken[4];
    char text[64];
    (void)state;
    start(&p, WITH_TLS("--threads", "1", "--idle-grace", "100ms", "--deadline", "30s"));
    for (unsigned i = 0; i < 5; i++)
        silent[i] = client_connect(&p);
    for (unsigned i = 0; i < 4; i++) /* two of them have yet to send HTTP/2's preface */
        shaken[i] = shake_hands(&p, i < 2 ? HTTP1 : HTTP2);
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_non_null(strstr(p.log, "9 idle connections released"));
    for (unsigned i = 0; i < 4; i++) {
        if (i < 2) {
            read_all(shaken[i], text, sizeof(text));
            assert_string_equal(text, "");
        } else { /* SETTINGS, and GOAWAY: nothing was taken */
            assert_in_range(tls_read(shaken[i], text, sizeof(text)), 9 + 17, sizeof(text));
            assert_memory_equal(text, "\0\0\0\4\0\0\0\0\0\0\0\x08\7\0\0\0\0\0\0\0\0\0", 22);
        }
        tls_cut(shaken[i]);
    }
    for (unsigned i = 0; i < 5; i++)
        (void)close(silent[i]);
    process_release(&p);
}

enum fit { FITS, FAREWELL_DOES_NOT, ANSWER_DOES_NOT };

/* The state of an answer that the client does not read: has the kernel all of it, and close_notify?
 * Bounded; a wrong guess only makes the search take another way. */
static enum fit look_at_answer(const struct process *admin)
{
    unsigned waits = 0, closes = 0;

    while (waits < 20 && closes < 5) {
        json_t *status = admin_status(admin);
        double open = admin_number(status, "connections.open");
        double lingers = admin_number(status, "connections.lingering");
        bool answered = admin_number(status, "requests.in_flight") == 0 &&
                        admin_number(status, "requests.answered") > 0;
        json_decref(status);
        if (open == 0 || lingers > 0)
            return FITS;
        if (answered)
            closes++;
        else
            waits++;
        (void)usleep(5000); /* a loop that waits for a client to read has no event */
    }
    return closes > 0 ? FAREWELL_DOES_NOT : ANSWER_DOES_NOT;
}

/* One client that asks for a file of that many bytes and reads nothing, and then a stop. */
static enum fit ask_for_much(const char *folder, off_t bytes)
{
    const int small = 4096;
    char path[96];
    struct process p;

    (void)snprintf(path, sizeof(path), "%s/large", folder);
    assert_int_equal(truncate(path, bytes), 0);
    start(&p, WITH_TLS("--threads", "1", "--linger", "2s", "--deadline", "60s", "--root", folder));
    struct process admin = admin_of(&p);
    SSL *ssl = shake_hands(&p, HTTP1);
    (void)setsockopt(SSL_get_fd(ssl), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    tls_write(ssl, "GET /files/large HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    enum fit fit = look_at_answer(&admin);
    process_signal(&p, fit == FAREWELL_DOES_NOT ? SIGTERM : SIGKILL);
    process_expect(&p, LIMIT_MS, fit == FAREWELL_DOES_NOT ? 0 : 128 + SIGKILL);
    tls_cut(ssl);
    process_release(&p);
    return fit;
}

/* The kernel takes the whole answer, and then has no room for close_notify: which size that takes
 * is its own affair, to within the thirty bytes of the farewell, so it is searched for. */
static void test_client_that_stops_reading_before_the_farewell_lingers(void **state)
{
    char folder[] = "/tmp/lastcall-tls-XXXXXX", path[96];
    off_t least = 1 << 14, most = 1 << 24;
    enum fit fit = FITS;
    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/large", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fclose(file);
    for (unsigned i = 0; i < 40 && fit != FAREWELL_DOES_NOT && most - least > 1; i++) {
        off_t bytes = least + (most - least) / 2;
        fit = ask_for_much(folder, bytes);
        if (fit == FITS)
            least = bytes;
        else
            most = bytes;
    }
    (void)unlink(path);
    (void)rmdir(folder);
    if (fit != FAREWELL_DOES_NOT)
        skip_test("found no size that leaves no room for the farewell");
}

static void test_farewell_without_an_end_of_file_leaves_it_idle(void **state)
{
    struct process p;
    char text[1024];
    (void)state;
    start(&p, WITH_TLS("--threads", "1", "--idle-grace", "50ms", "--deadline", "30s"));
    SSL *ssl = shake_hands(&p, HTTP1);
    tls_write(ssl, GET("/hello"));
    tls_read_until(ssl, text, sizeof(text), "Hello World\n");
    (void)SSL_shutdown(ssl); /* and the socket stays open */
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    tls_cut(ssl);
    process_release(&p);
}

static void test_request_that_is_arriving_is_waited_for(void **state)
{
    struct process p;
    char text[4096];
    (void)state;
    start(&p, WITH_TLS("--threads", "1", "--idle-grace", "20ms"));
    SSL *ssl = shake_hands(&p, HTTP1);
    tls_write(ssl, "POST /sleep?ms=1 HTTP/1.1\r\nHost: t\r\nContent-Le");
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    tls_write(ssl, "ngth: 6\r\n\r\nabc");
    tls_write(ssl, "def");
    read_all(ssl, text, sizeof(text));
    assert_non_null(strstr(text, "\r\n\r\n6\n"));
    tls_cut(ssl);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_half_a_record_is_a_request_that_is_arriving(void **state)
{
    struct process p;
    char text[4096], record[256];
    (void)state;
    start(&p, WITH_TLS("--threads", "1", "--idle-grace", "20ms"));
    SSL *ssl = shake_hands(&p, HTTP1);
    int fd = SSL_get_fd(ssl);
    BIO *net = BIO_new(BIO_s_mem());
    assert_non_null(net);
    SSL_set0_wbio(ssl, net);
    tls_write(ssl, GET("/hello"));
    int bytes = BIO_read(net, record, sizeof(record));
    assert_in_range(bytes, 40, 255);
    assert_int_equal(write(fd, record, 20), 20);
    wait_until_busy(&p);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "listeners closed");
    struct pollfd nothing = {.fd = fd, .events = POLLRDHUP};
    assert_int_equal(poll(&nothing, 1, 60), 0); /* past the grace: it is not idle */
    assert_int_equal(write(fd, record + 20, (size_t)bytes - 20), bytes - 20);
    read_all(ssl, text, sizeof(text));
    assert_non_null(strstr(text, "Hello World"));
    tls_cut(ssl);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void leave_and_come_back(bool with_a_farewell)
{
    struct process p;
    char text[1024];

    start(&p, WITH_TLS("--workers", "1", "--threads", "1"));
    SSL *ssl = shake_hands(&p, HTTP1);
    /* Reads the session tickets, too: with them unread, the close would be a reset. */
    tls_write(ssl, GET("/hello"));
    tls_read_until(ssl, text, sizeof(text), "Hello World\n");
    tls_write(ssl, GET("/sleep?ms=60000"));
    wait_until_busy(&p);
    if (with_a_farewell)
        (void)SSL_shutdown(ssl);
    tls_cut(ssl);
    ssl = shake_hands(&p, HTTP1);
    tls_write(ssl, GET("/sleep?ms=0")); /* the only worker is free again, or this takes a minute */
    tls_read_until(ssl, text, sizeof(text), "\r\n\r\n0\n");
    tls_cut(ssl);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static void test_client_that_leaves_cancels_its_job(void **state)
{
    (void)state;
    leave_and_come_back(true);
    leave_and_come_back(false);
}

static void test_unread_request_at_the_deadline_is_on_record(void **state)
{
    struct process p;
    char text[1024];
    (void)state;
    start(&p, WITH_TLS("--deadline", "0", "--threads", "1"));
    SSL *ssl = shake_hands(&p, HTTP1);
    tls_write(ssl, GET("/hello"));
    tls_read_until(ssl, text, sizeof(text), "Hello World\n");
    process_signal(&p, SIGSTOP);
    tls_write(ssl, GET("/hello"));
    process_signal(&p, SIGTERM);
    process_signal(&p, SIGCONT);
    /* Answered or on record, as its loop comes to it first or the coordinator does. */
    int status = process_wait(&p, LIMIT_MS);
    bool answered = tls_read(ssl, text, sizeof(text)) > 0;
    assert_int_equal(status, answered ? 0 : 3);
    assert_true(answered || strstr(p.log, "unfinished: ? ?") != NULL);
    tls_cut(ssl);
    process_release(&p);
}

static void refuse(const char *const *argv, int status, const char *line)
{
    struct process p;

    process_spawn(&p, argv);
    process_expect(&p, LIMIT_MS, status);
    if (strstr(p.log, line) == NULL)
        fail_msg("no `%s` in:\n%s", line, p.log);
    assert_ptr_equal(strchr(p.log, '\n'), p.log + p.log_bytes - 1); /* one line */
    process_release(&p);
}

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define LISTEN "--listen", "tls:127.0.0.1:0"

static void test_bad_certificates_and_keys_are_one_line(void **state)
{
    (void)state;
    refuse(ARGS(LISTEN), 64, "cannot listen on tls:127.0.0.1:0: TLS needs --cert and --key");
    refuse(ARGS("--cert", certificate, "--key", key), 64, "--cert and --key need each other and a");
    refuse(ARGS(LISTEN, "--cert", certificate), 64, "TLS needs --cert and --key");
    refuse(ARGS(LISTEN, "--cert", "/no/file", "--key", key), 78,
           "cannot use the certificate in /no/file: No such file or directory");
    refuse(ARGS(LISTEN, "--cert", key, "--key", key), 78, "cannot use the certificate in ");
    refuse(ARGS(LISTEN, "--cert", certificate, "--key", certificate), 78, "cannot use the key in ");
    refuse(ARGS(LISTEN, "--cert", certificate, "--key", other_key), 78,
           "does not match the certificate in ");
}

static int set_up(void **state)
{
    char unused[64];

    (void)state;
    (void)snprintf(certificate, sizeof(certificate), "/tmp/lastcall-tls-%ld.cert", (long)getpid());
    (void)snprintf(key, sizeof(key), "/tmp/lastcall-tls-%ld.key", (long)getpid());
    (void)snprintf(other_key, sizeof(other_key), "/tmp/lastcall-tls-%ld.other", (long)getpid());
    (void)snprintf(unused, sizeof(unused), "/tmp/lastcall-tls-%ld.unused", (long)getpid());
    certificate_write(key, certificate);
    certificate_write(other_key, unused);
    (void)signal(SIGPIPE, SIG_IGN); /* SSL_write() has no MSG_NOSIGNAL */
    return unlink(unused);
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(certificate) | unlink(key) | unlink(other_key);
}

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_request_in_flight_is_answered_and_ends_with_a_farewell),
        TEST(test_silent_tls_clients_do_not_hold_the_exit),
        TEST(test_client_that_stops_reading_before_the_farewell_lingers),
        TEST(test_farewell_without_an_end_of_file_leaves_it_idle),
        TEST(test_request_that_is_arriving_is_waited_for),
        TEST(test_half_a_record_is_a_request_that_is_arriving),
        TEST(test_client_that_leaves_cancels_its_job),
        TEST(test_unread_request_at_the_deadline_is_on_record),
        TEST(test_bad_certificates_and_keys_are_one_line),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("tls", tests, set_up, tear_down);
}

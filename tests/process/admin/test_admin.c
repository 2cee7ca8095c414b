/* The admin listener of the real process: every row of docs/admin-api.md, every refusal, its
 * socket, and its bounds. What it shows of a drain is in test_admin_drain.c. */

#include "admin_client.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "fault.h"
#include "skip.h"

#define LIMIT_MS 20000
#define ARGS(...) ((const char *const[]){"--threads", "1", __VA_ARGS__, NULL})
#define JSON "Content-Type: application/json\r\n"
#define BEARER(secret) JSON "Authorization: Bearer " secret "\r\n"

static char address[128]; /* unix:, in that directory */

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    (void)fclose(file);
}

static struct process start(struct process *p)
{
    process_start(p, NULL, ARGS("--admin", address));
    return admin_of(p);
}

/* Is it still serving, as if there had been no request? */
static void assert_is_running(const struct process *admin)
{
    json_t *status = admin_status(admin);
    assert_string_equal(admin_text(status, "phase"), "running");
    assert_true(json_is_null(admin_at(status, "drain")));
    json_decref(status);
}

/* ---- the rows ---- */

static void test_every_question_has_its_answer(void **state)
{
    struct process p, admin;
    (void)state;
    admin = start(&p);
    admin_expect(&admin, "GET", "/livez", "", NULL, 200, "\r\n\r\nlive\n");
    admin_expect(&admin, "GET", "/readyz", "", NULL, 200, "\r\n\r\nready\n");
    admin_expect(&admin, "GET", "/readyz?verbose", "", NULL, 200, "\r\n\r\nready\n");
    admin_expect(&admin, "GET", "/metrics", "", NULL, 200,
                 "content-type: text/plain; version=0.0.4");
    admin_expect(&admin, "GET", "/metrics", "", NULL, 200,
                 "lastcall_drain_phase{phase=\"running\"} 1\n");
    admin_expect(&admin, "GET", "/status", "", NULL, 200, "content-type: application/json");
    admin_expect(&admin, "GET", "/", "", NULL, 200, "<!doctype html>");
    admin_expect(&admin, "GET", "/", "", NULL, 200,
                 "content-security-policy: default-src 'none'; style-src 'unsafe-inline'; "
                 "script-src 'unsafe-inline'; connect-src 'self'\r\n");
    static const char *const paths[] = {"/", "/livez", "/readyz", "/metrics", "/status", "/events"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        char *answer = admin_call(&admin, "HEAD", paths[i], "", NULL);
        assert_contains(answer, "HTTP/1.1 200 OK");
        assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
        free(answer);
    }
    process_release(&p);
}

static void test_status_has_every_field(void **state)
{
    static const char *const numbers[] = {"schema",
                                          "pid",
                                          "uptime_s",
                                          "requests.in_flight",
                                          "requests.answered",
                                          "requests.given_up",
                                          "requests.shed",
                                          "requests.per_second",
                                          "connections.open",
                                          "connections.lingering",
                                          "connections.accepted",
                                          "connections.idle_released",
                                          "connections.max",
                                          "pool.workers",
                                          "pool.running",
                                          "pool.queued",
                                          "pool.queue",
                                          "pool.taken",
                                          "pool.refused",
                                          "oldest.0.age_ms",
                                          "oldest.0.body_bytes",
                                          "oldest.0.sent_bytes",
                                          "oldest_left_out"};
    struct process p, admin;
    (void)state;
    process_start(
        &p, NULL,
        ARGS("--admin", address, "--workers", "3", "--queue", "7", "--max-connections", "100"));
    admin = admin_of(&p);
    int fd = client_connect(&p);
    client_send(fd,
                "POST /sleep?ms=15000 HTTP/1.1\r\nHost: example\r\nContent-Length: 5\r\n\r\nhello");
    admin_wait_text(&admin, "oldest.0.state", "running");
    json_t *status = admin_status(&admin);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        (void)admin_number(status, numbers[i]);
    assert_int_equal((pid_t)admin_number(status, "pid"), p.pid);
    assert_string_equal(admin_text(status, "server"), "lastcall/" LASTCALL_VERSION);
    assert_string_equal(admin_text(status, "phase"), "running");
    assert_true(json_is_true(admin_at(status, "ready")));
    assert_true(json_is_true(admin_at(status, "live")));
    assert_string_equal(admin_text(status, "listeners.0"), p.address);
    assert_int_equal((int)admin_number(status, "requests.in_flight"), 1);
    assert_int_equal((int)admin_number(status, "connections.open"), 1);
    assert_int_equal((int)admin_number(status, "connections.max"), 100);
    assert_int_equal((int)admin_number(status, "pool.workers"), 3);
    assert_int_equal((int)admin_number(status, "pool.queue"), 7);
    assert_string_equal(admin_text(status, "oldest.0.method"), "POST");
    assert_string_equal(admin_text(status, "oldest.0.path"), "/sleep?ms=15000");
    assert_string_equal(admin_text(status, "oldest.0.authority"), "example");
    assert_string_equal(admin_text(status, "oldest.0.state"), "running");
    assert_int_equal((int)admin_number(status, "oldest.0.body_bytes"), 5);
    assert_true(json_is_null(admin_at(status, "drain")));
    json_decref(status);
    (void)close(fd);
    process_release(&p);
}

static void test_log_level_holds_from_the_order_on(void **state)
{
    struct process p, admin;
    (void)state;
    admin = start(&p);
    admin_order(&admin, "/log-level", "{\"level\": \"warning\"}", 200, "{\"level\":\"warning\"}");
    admin_order(&admin, "/log-level", "{\"level\": \"debug\"}", 400, "bad-request");
    admin_order(&admin, "/log-level", "{}", 400, "bad-request");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_null(strstr(p.log, "SIGTERM"));
    process_release(&p);
}

/* ---- refusals ---- */

static void test_what_is_not_there_is_404(void **state)
{
    static const char *const paths[] = {
        "/nothing",         "/status/",       "//status",  "/./status", "/x/../status",
        "/../status",       "/%2e%2e/status", "/stat%75s", "/STATUS",   "/livez/../../etc/passwd",
        "/drain/../status", "/events/x"};
    struct process p, admin;
    (void)state;
    admin = start(&p);
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        admin_expect(&admin, "GET", paths[i], "", NULL, 404, "\"not-found\"");
    admin_expect(&admin, "GET", "*", "", NULL, 400, "\"bad-request\""); /* that is for OPTIONS */
    admin_order(&admin, "/x/../drain", "{}", 404, "\"not-found\"");
    assert_is_running(&admin);
    process_release(&p);
}

static void test_wrong_method_is_405_and_names_the_right_ones(void **state)
{
    static const char *const shown[] = {"/", "/livez", "/readyz", "/metrics", "/status", "/events"};
    static const char *const orders[] = {"/drain", "/undrain", "/log-level"};
    struct process p, admin;
    (void)state;
    admin = start(&p);
    for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
        admin_expect(&admin, "POST", shown[i], "", "", 405, "allow: GET, HEAD\r\n");
        admin_expect(&admin, "DELETE", shown[i], "", NULL, 405, "\"method-not-allowed\"");
    }
    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
        admin_expect(&admin, "GET", orders[i], "", NULL, 405, "allow: POST\r\n");
        admin_expect(&admin, "PUT", orders[i], JSON, "{}", 405, "\"method-not-allowed\"");
    }
    assert_is_running(&admin);
    process_release(&p);
}

static void test_bad_bodies_are_refused(void **state)
{
    static const char *const bodies[] = {"{",
                                         "[]",
                                         "1",
                                         "\"5s\"",
                                         "{\"deadline\": 5}",
                                         "{\"deadline\": \"soon\"}",
                                         "{\"deadline\": \"-1s\"}",
                                         "{\"deadline\": \"25h\"}",
                                         "{\"reason\": 1}",
                                         "{\"reason\": null}",
                                         "{\"dealine\": \"5s\"}",
                                         "{\"deadline\": \"5s\", \"deadline\": \"6s\"}",
                                         "{} {}",
                                         "{\"reason\": \"\\ud800\"}",
                                         "{\"reason\": \"a\\u0000b\"}"};
    struct process p, admin;
    (void)state;
    admin = start(&p);
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++)
        admin_order(&admin, "/drain", bodies[i], 400, "\"bad-request\"");
    admin_expect(&admin, "POST", "/drain", "", "{}", 400, "\"bad-request\"");
    admin_expect(&admin, "POST", "/drain", "Content-Type: text/plain\r\n", "{}", 400,
                 "\"bad-request\"");
    admin_expect(&admin, "POST", "/drain", "Content-Type: application/jsonp\r\n", "{}", 400,
                 "\"bad-request\"");
    admin_order(&admin, "/undrain", "{\"x\": 1}", 400, "\"bad-request\"");
    char reason[160]; /* as long as a trigger's detail may be, and a byte more */
    (void)snprintf(reason, sizeof(reason), "{\"reason\": \"%096d\"}", 0);
    admin_order(&admin, "/drain", reason, 400, "\"bad-request\"");
    assert_is_running(&admin);
    process_release(&p);
}

static void test_large_bodies_are_refused(void **state)
{
    static char body[5000];
    struct process p, admin;
    (void)state;
    admin = start(&p);
    memset(body, ' ', sizeof(body) - 1);
    body[0] = '{';
    body[4095] = '}';
    body[4096] = '\0';
    admin_order(&admin, "/log-level", body, 400, "level"); /* read, and found wanting */
    body[4096] = ' ';
    admin_order(&admin, "/drain", body, 413, "\"too-large\"");
    /* Refused by the library while it arrives, and before. */
    admin_expect(&admin, "POST", "/drain", JSON "Content-Length: 1000000000\r\n", NULL, 413,
                 "\"too-large\"");
    admin_expect(&admin, "POST", "/drain", JSON "Content-Length: many\r\n", NULL, 400,
                 "\"bad-request\"");
    assert_is_running(&admin);
    process_release(&p);
}

static void test_what_is_no_request_is_400(void **state)
{
    static const char *const requests[] = {"GARBAGE\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"};
    struct process p, admin;
    (void)state;
    admin = start(&p);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        int fd = client_connect(&admin);
        client_send(fd, requests[i]);
        char *answer = client_read_until(fd, NULL);
        assert_contains(answer, "HTTP/1.1 400 ");
        free(answer);
        (void)close(fd);
    }
    assert_is_running(&admin);
    process_release(&p);
}

static void test_tcp_without_a_token_file_answers_questions_only(void **state)
{
    struct process p, admin;
    (void)state;
    process_start(&p, NULL, ARGS("--admin", "127.0.0.1:0"));
    admin = admin_of(&p);
    admin_expect(&admin, "GET", "/readyz", "", NULL, 200, "ready");
    admin_expect(&admin, "GET", "/readyz", "Host: web.example\r\n", NULL, 200, "ready");
    admin_order(&admin, "/drain", "{}", 403, "\"forbidden\"");
    admin_order(&admin, "/undrain", "{}", 403, "token file");
    admin_order(&admin, "/log-level", "{\"level\": \"error\"}", 403, "\"forbidden\"");
    admin_expect(&admin, "POST", "/drain", BEARER(""), "{}", 403, "\"forbidden\"");
    assert_is_running(&admin);
    process_release(&p);
}

static void test_orders_over_tcp_want_the_secret(void **state)
{
    struct process p, admin;
    const char *file = in_directory("token");
    (void)state;
    write_file(file, "s3cret\nnot this\n");
    process_start(&p, NULL, ARGS("--admin", "127.0.0.1:0", "--admin-token-file", file));
    admin = admin_of(&p);
    static const char *const wrong[] = {
        JSON,
        JSON "Authorization: s3cret\r\n",
        JSON "Authorization: Basic s3cret\r\n",
        JSON "Authorization: Bearer\r\n",
        BEARER("s3cre"),
        BEARER("s3crets"),
        BEARER("S3cret"),
        BEARER("not this"),
        BEARER("\"s3cret\""),
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        admin_expect(&admin, "POST", "/drain", wrong[i], "{}", 401, "\"unauthorized\"");
    admin_expect(&admin, "POST", "/drain", JSON, "{}", 401, "www-authenticate: Bearer\r\n");
    assert_is_running(&admin);
    admin_expect(&admin, "POST", "/log-level", BEARER("s3cret"), "{\"level\": \"info\"}", 200,
                 "info");
    admin_expect(&admin, "POST", "/drain", BEARER("s3cret"), NULL, 202, "{\"began\":true}");
    process_expect(&p, LIMIT_MS, 0);
    (void)unlink(file);
    process_release(&p);
}

static void test_orders_from_other_origins_are_refused(void **state)
{
    static const char *const wrong[] = {
        "Host: web.example\r\n",
        "Host: localhost.example\r\n",
        "Host: 127.0.0.1.example:80\r\n",
        "Host: localhost\r\nOrigin: http://web.example\r\n",
        "Host: localhost\r\nOrigin: null\r\n",
        "Host: localhost\r\nOrigin: http://localhost:1\r\n",
        "Host: localhost\r\nOrigin: https://localhost\r\n",
        "Host: localhost\r\nOrigin: http://localhost.web.example\r\n",
        "Host: web.example\r\nOrigin: http://web.example\r\n", /* its DNS leads here */
    };
    static const char *const right[] = {"Host: localhost\r\n", "Host: LOCALHOST:9\r\n",
                                        "Host: 127.0.0.1:9\r\n", "Host: [::1]:9\r\n",
                                        "Host: localhost:9\r\nOrigin: http://localhost:9\r\n"};
    const char *file = in_directory("token");
    struct process p, admin;
    char more[256];
    (void)state;
    write_file(file, "s3cret");
    process_start(&p, NULL, ARGS("--admin", "127.0.0.1:0", "--admin-token-file", file));
    admin = admin_of(&p);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        (void)snprintf(more, sizeof(more), BEARER("s3cret") "%s", wrong[i]);
        admin_expect(&admin, "POST", "/drain", more, "{}", 403, "\"forbidden\"");
    }
    admin_expect(&admin, "POST", "/drain", BEARER("s3cret") "Host: [::1].example\r\n", "{}", 400,
                 "\"bad-request\""); /* no host can be named so */
    assert_is_running(&admin);
    for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
        (void)snprintf(more, sizeof(more), BEARER("s3cret") "%s", right[i]);
        admin_expect(&admin, "POST", "/log-level", more, "{\"level\": \"info\"}", 200, "info");
    }
    (void)unlink(file);
    process_release(&p);
}

/* Over a Unix socket any Host is allowed. A request with an Origin comes from a browser: it must be
 * a local one. */
static void test_origins_count_over_a_unix_socket_too(void **state)
{
    struct process p, admin;
    const char *body = "{\"level\": \"info\"}";
    (void)state;
    admin = start(&p);
    admin_expect(&admin, "POST", "/log-level", JSON "Host: web.example\r\n", body, 200, "info");
    admin_expect(&admin, "POST", "/log-level",
                 JSON "Host: localhost:9\r\nOrigin: http://localhost:9\r\n", body, 200, "info");
    admin_expect(&admin, "POST", "/log-level", JSON "Origin: http://web.example\r\n", body, 403,
                 "\"forbidden\"");
    admin_expect(&admin, "POST", "/log-level",
                 JSON "Host: web.example\r\nOrigin: http://web.example\r\n", body, 403,
                 "\"forbidden\"");
    process_release(&p);
}

/* ---- the socket ---- */

static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static void test_socket_is_its_owners_alone_and_goes_with_the_process(void **state)
{
    struct process p, admin;
    struct stat st;
    (void)state;
    mode_t before = umask(0); /* it does not hang on that */
    admin = start(&p);
    (void)umask(before);
    assert_int_equal(lstat(admin_path(&admin), &st), 0);
    assert_int_equal(st.st_mode, S_IFSOCK | 0600);
    assert_int_equal(st.st_uid, geteuid());
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_false(is_there(admin_path(&admin)));
    process_release(&p);
}

static void test_socket_belongs_to_the_user_that_root_becomes(void **state)
{
    const struct passwd *nobody = getpwnam("nobody");
    struct process p, admin;
    struct stat st;
    (void)state;
    skip_unless_root();
    if (nobody == NULL)
        skip_test("needs a user nobody");
    process_start(&p, NULL, ARGS("--admin", address, "--user", "nobody"));
    admin = admin_of(&p);
    assert_int_equal(lstat(admin_path(&admin), &st), 0);
    assert_int_equal(st.st_uid, nobody->pw_uid);
    assert_int_equal(st.st_mode, S_IFSOCK | 0600);
    admin_order(&admin, "/drain", "{}", 202, "true");
    process_expect(&p, LIMIT_MS, 0);
    (void)unlink(admin_path(&admin)); /* the folder is root's: it could not */
    process_release(&p);
}

static void test_usual_socket_is_named_after_the_port(void **state)
{
    struct process p, admin;
    char file[64];
    (void)state;
    process_start(&p, NULL, NULL);
    admin = admin_of(&p);
    (void)snprintf(file, sizeof(file), "/lastcall/%u.sock", p.port);
    assert_contains(admin.address, file);
    admin_order(&admin, "/drain", "{}", 202, "true");
    process_expect(&p, LIMIT_MS, 0);
    assert_false(is_there(admin_path(&admin)));
    process_release(&p);
}

static void test_stale_socket_is_replaced_and_one_in_use_is_not(void **state)
{
    struct process first, second, third, admin;
    char name[32];
    (void)state;
    (void)snprintf(name, sizeof(name), "test-%ld", (long)getpid());
    process_start(&first, NULL, ARGS("--admin-name", name));
    admin = admin_of(&first);
    assert_contains(admin.address, name);
    process_signal(&first, SIGKILL);
    process_expect(&first, LIMIT_MS, 128 + SIGKILL);
    assert_true(is_there(admin_path(&admin)));
    process_release(&first);

    process_start(&first, NULL, ARGS("--admin-name", name));
    admin = admin_of(&first);
    /* The default socket is a convenience: the server runs without it. */
    process_start(&second, NULL, ARGS("--admin-name", name));
    assert_contains(second.log, "no admin listener: unix:");
    assert_contains(second.log, "belongs to another process");
    process_signal(&second, SIGTERM);
    process_expect(&second, LIMIT_MS, 0);
    process_release(&second);
    /* With --admin the same address is an error. */
    process_spawn(&third, ARGS("--listen", "127.0.0.1:0", "--admin", admin.address));
    process_expect(&third, LIMIT_MS, 69);
    assert_contains(third.log, "cannot listen on unix:");
    process_release(&third);
    admin_order(&admin, "/drain", "{}", 202, "true"); /* it was not harmed */
    process_expect(&first, LIMIT_MS, 0);
    process_release(&first);
}

static void test_file_that_took_the_sockets_place_is_left_alone(void **state)
{
    struct process p, admin;
    (void)state;
    admin = start(&p);
    assert_int_equal(unlink(admin_path(&admin)), 0);
    write_file(admin_path(&admin), "somebody else's\n");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_int_equal(unlink(admin_path(&admin)), 0);
    process_release(&p);
}

static void test_off_opens_no_admin_listener(void **state)
{
    struct process p;
    (void)state;
    process_start(&p, NULL, ARGS("--admin", "off"));
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    assert_null(strstr(p.log, "admin"));
    process_release(&p);
}

static void test_file_configures_it_and_a_check_opens_nothing(void **state)
{
    struct process p, admin;
    const char *conf = in_directory("conf"), *token = in_directory("token");
    char text[512];
    (void)state;
    (void)snprintf(
        text, sizeof(text),
        "listen: {host: 127.0.0.1, port: 0}\nadmin: {listen: \"%s\", name: web, token-file: "
        "%s}\nhosts: {default: {paths: {/: {handler: hello}}}}\n",
        address, token);
    write_file(conf, text);
    write_file(token, "s3cret\n");
    process_spawn(&p, ARGS("-t", "-c", conf));
    process_expect(&p, LIMIT_MS, 0);
    assert_false(is_there(address + 5));
    process_release(&p);
    process_start_configured(&p, ARGS("-c", conf));
    admin = admin_of(&p);
    assert_string_equal(admin.address, address);
    admin_expect(&admin, "GET", "/readyz", "", NULL, 200, "ready");
    process_release(&p);
    (void)unlink(address + 5);
    (void)unlink(conf);
    (void)unlink(token);
}

static void test_invalid_settings_are_refused(void **state)
{
    const struct {
        const char *const *args;
        int status;
        const char *want;
    } cases[] = {
        {ARGS("--admin", "tls:127.0.0.1:0"), 64, "--admin tls:127.0.0.1:0: want PORT"},
        {ARGS("--admin", "nonsense"), 64, "--admin nonsense: want PORT"},
        {ARGS("--admin", "unix:"), 64, "want PORT"},
        {ARGS("--admin-name", "../x"), 64, "--admin-name ../x: want"},
        {ARGS("--admin-name", ".x"), 64, "want"},
        {ARGS("--listen", "127.0.0.1:0", "--admin", "unix:/nowhere/at/all"), 69,
         "cannot listen on unix:/nowhere/at/all"},
        {ARGS("--listen", "127.0.0.1:0", "--admin-token-file", "/nowhere"), 78, "/nowhere"},
        {ARGS("--listen", "127.0.0.1:0", "--admin-token-file", "/dev/null"), 78, "is empty"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct process p;
        process_spawn(&p, cases[i].args);
        process_expect(&p, LIMIT_MS, cases[i].status);
        assert_contains(p.log, cases[i].want);
        process_release(&p);
    }
}

/* ---- bounds ---- */

static size_t open_files(const struct process *p)
{
    char path[64];
    size_t n = 0;
    (void)snprintf(path, sizeof(path), "/proc/%ld/fd", (long)p->pid);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        n++;
    (void)closedir(folder);
    return n;
}

#define CROWD 100

static void test_connections_are_bounded_and_the_silent_ones_make_room(void **state)
{
    struct process p, admin;
    int fds[CROWD];
    char byte;
    (void)state;
    admin = start(&p);
    admin_expect(&admin, "GET", "/livez", "", NULL, 200, "live");
    size_t before = open_files(&p);
    for (unsigned i = 0; i < CROWD; i++)
        fds[i] = client_connect(&admin);
    for (unsigned i = 0; i < 3; i++)
        admin_expect(&admin, "GET", "/livez", "", NULL, 200, "live");
    assert_in_range(open_files(&p), before, before + 65);
    assert_int_equal(client_recv(fds[0], &byte, 1, 0), 0); /* it had been silent longest */
    client_send(fds[CROWD - 1], GET("/livez"));
    client_expect(fds[CROWD - 1], "200 OK");
    for (unsigned i = 0; i < CROWD; i++)
        (void)close(fds[i]);
    process_release(&p);
}

#define STREAMS 16

/* Is one more watcher refused? */
static bool is_too_many(const struct process *admin)
{
    int fd = client_connect(admin);
    client_send(fd, "GET /events HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    char *answer = client_read_until(fd, "\n\n"); /* the first event, or all of a refusal */
    bool refused = strstr(answer, "HTTP/1.1 503 ") != NULL;
    if (refused)
        assert_contains(answer, "\"busy\"");
    free(answer);
    (void)close(fd);
    return refused;
}

static void test_watchers_are_bounded(void **state)
{
    struct process p, admin;
    int fds[STREAMS];
    (void)state;
    admin = start(&p);
    for (unsigned i = 0; i < STREAMS; i++) {
        fds[i] = client_connect(&admin);
        client_send(fds[i], GET("/events"));
        char *first = client_read_until(fds[i], "\n\n");
        assert_contains(first, "content-type: text/event-stream");
        assert_contains(first, "event: status\ndata: {\"schema\":1,");
        free(first);
    }
    assert_true(is_too_many(&admin));
    for (unsigned i = 0; i < STREAMS; i++)
        (void)close(fds[i]);
    /* The next events find out that they have gone. */
    while (is_too_many(&admin))
        ;
    process_release(&p);
}

/* ---- while nothing else moves ---- */

static void test_it_answers_while_every_worker_is_busy(void **state)
{
    struct process p, admin;
    int fds[3];
    (void)state;
    process_start(&p, NULL, ARGS("--admin", address, "--workers", "1", "--queue", "1"));
    admin = admin_of(&p);
    for (unsigned i = 0; i < 2; i++) {
        fds[i] = client_connect(&p);
        client_send(fds[i], GET("/sleep?ms=60000"));
        admin_wait_number(&admin, i == 0 ? "pool.running" : "pool.queued", 1);
    }
    fds[2] = client_connect(&p);
    client_send(fds[2], GET("/sleep?ms=1"));
    client_expect(fds[2], " 503 ");
    admin_expect(&admin, "GET", "/livez", "", NULL, 200, "live");
    admin_expect(&admin, "GET", "/readyz", "", NULL, 200, "ready");
    json_t *status = admin_status(&admin);
    assert_int_equal((int)admin_number(status, "requests.shed"), 1);
    assert_int_equal((int)admin_number(status, "pool.refused"), 1);
    json_decref(status);
    for (unsigned i = 0; i < 3; i++)
        (void)close(fds[i]);
    process_release(&p);
}

/* The test holds the loop's thread by ptrace(2). */
static void test_it_answers_while_the_loop_is_stuck_and_says_so(void **state)
{
    struct process p, admin;
    struct fault_hold hold;
    (void)state;
    process_start(&p, NULL, ARGS("--admin", address, "--watchdog-stall", "600ms"));
    admin = admin_of(&p);
    assert_serves(&p);
    if (!fault_hold_thread(&hold, p.pid, "loop-0")) {
        process_release(&p);
        skip_test("needs ptrace(2)");
    }
    process_wait_log(&p, "loop 0 has not turned for ");
    admin_expect(&admin, "GET", "/livez", "", NULL, 503, "stalled");
    admin_expect(&admin, "GET", "/metrics", "", NULL, 200, "lastcall_stalls_total 1\n");
    json_t *status = admin_status(&admin);
    assert_true(json_is_false(admin_at(status, "live")));
    json_decref(status);
    fault_let_go(&hold);
    bool live;
    do {
        char *answer = admin_call(&admin, "GET", "/livez", "", NULL);
        live = strstr(answer, " 200 ") != NULL;
        free(answer);
    } while (!live);
    process_release(&p);
}

static int set_up(void **state)
{
    if (make_directory(state) != 0)
        return -1;
    (void)snprintf(address, sizeof(address), "unix:%s/admin.sock", directory);
    return setenv("XDG_RUNTIME_DIR", directory, 1); /* for users that may not write to /run */
}

static int tear_down(void **state)
{
    (void)state;
    (void)rmdir(in_directory("lastcall"));
    (void)unlink(address + 5);
    return rmdir(directory);
}

#define claim(f) cmocka_unit_test_teardown(f, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_every_question_has_its_answer),
        claim(test_status_has_every_field),
        claim(test_log_level_holds_from_the_order_on),
        claim(test_what_is_not_there_is_404),
        claim(test_wrong_method_is_405_and_names_the_right_ones),
        claim(test_bad_bodies_are_refused),
        claim(test_large_bodies_are_refused),
        claim(test_what_is_no_request_is_400),
        claim(test_tcp_without_a_token_file_answers_questions_only),
        claim(test_orders_over_tcp_want_the_secret),
        claim(test_orders_from_other_origins_are_refused),
        claim(test_origins_count_over_a_unix_socket_too),
        claim(test_socket_is_its_owners_alone_and_goes_with_the_process),
        claim(test_socket_belongs_to_the_user_that_root_becomes),
        claim(test_usual_socket_is_named_after_the_port),
        claim(test_stale_socket_is_replaced_and_one_in_use_is_not),
        claim(test_file_that_took_the_sockets_place_is_left_alone),
        claim(test_off_opens_no_admin_listener),
        claim(test_file_configures_it_and_a_check_opens_nothing),
        claim(test_invalid_settings_are_refused),
        claim(test_connections_are_bounded_and_the_silent_ones_make_room),
        claim(test_watchers_are_bounded),
        claim(test_it_answers_while_every_worker_is_busy),
        claim(test_it_answers_while_the_loop_is_stuck_and_says_so),
    };
    return cmocka_run_group_tests_name("admin", tests, set_up, tear_down);
}

/* The configurations in deploy/conf, as they are but for ports, paths and users: each is started,
 * asked and drained. */

#include "process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "certificate.h"
#include "directory.h"
#include "expect.h"
#include "tls_client.h"
#include "skip.h"

#define LIMIT_MS 20000

static pid_t php_fpm;

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* ---- an example, moved to where a test may run it ---- */

struct change {
    const char *from, *to;
};

/* `from` has to be there: an example that has changed must not be half tested. */
static char *replace_all(char *text, const char *from, const char *to)
{
    char *at = strstr(text, from);

    if (at == NULL)
        fail_msg("no `%s` in the example", from);
    for (; at != NULL; at = strstr(at, from)) {
        size_t before = (size_t)(at - text), rest = strlen(at + strlen(from));
        char *grown = malloc(before + strlen(to) + rest + 1);
        assert_non_null(grown);
        memcpy(grown, text, before);
        (void)strcpy(grown + before, to);
        (void)strcpy(grown + before + strlen(to), at + strlen(from));
        free(text);
        text = grown;
        at = text + before + strlen(to);
    }
    return text;
}

static char *read_example(const char *name)
{
    char path[512];
    struct stat st;

    (void)snprintf(path, sizeof(path), "%s/conf/%s", LASTCALL_DEPLOY_FOLDER, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    char *text = calloc(1, (size_t)st.st_size + 1);
    assert_non_null(text);
    assert_int_equal(read(fd, text, (size_t)st.st_size), st.st_size);
    (void)close(fd);
    return text;
}

/* Write the example with `changes` (a NULL ends them) to a file of our own. */
static const char *move_example(const char *name, const struct change *changes)
{
    const char *path = in_directory(name);
    char mine[64], *text = read_example(name);
    const char *user = strstr(text, "user: www-data") != NULL ? "user: www-data" : "user: lastcall";

    text = replace_all(text, "/run/lastcall.pid", in_directory("lastcall.pid"));
    (void)snprintf(mine, sizeof(mine), "user: %s", own_user_name());
    text = replace_all(text, user, mine);
    for (; changes->from != NULL; changes++)
        text = replace_all(text, changes->from, changes->to);
    write_file(path, text);
    free(text);
    return path;
}

/* The port of the `n`th listener (from 0) in the log. */
static uint16_t port_of(const struct process *p, unsigned n)
{
    const char *at = p->log;
    for (unsigned i = 0; i <= n; i++) {
        at = strstr(at, "listening on ");
        assert_non_null(at);
        at += strlen("listening on ");
    }
    const char *end = at + strcspn(at, "\n");
    while (end > at && end[-1] != ':')
        end--;
    return (uint16_t)strtoul(end, NULL, 10);
}

/* `last`: what the log says of the last listener. */
static void start_example(struct process *p, const char *conf, const char *last)
{
    process_start_configured(p, (const char *const[]){"-c", conf, NULL});
    process_wait_log(p, last);
}

static void end_example(struct process *p)
{
    process_signal(p, SIGTERM);
    process_expect(p, LIMIT_MS, 0);
    assert_contains(p->log, "drained in ");
    process_release(p);
}

/* ---- the tests ---- */

static void test_static_site(void **state)
{
    struct process p;
    (void)state;
    const char *conf = move_example(
        "static-site.conf",
        (const struct change[]){{"listen:\n  port: 80", "listen: {host: 127.0.0.1, port: 0}"},
                                {"/var/log/lastcall/access.log", in_directory("access.log")},
                                {"/var/www/html", in_directory("html")},
                                {NULL, NULL}});
    start_example(&p, conf, "listening on 127.0.0.1:");
    assert_answer(&p, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\nthe index\n");
    assert_answer(&p, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "cache-control: max-age=86400\r\n");
    assert_answer(&p, "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\nlost\n");
    end_example(&p);
}

/* Over TLS, with this host as SNI; the server's certificate goes to `ret_certificate`. */
static char *ask_tls(const struct process *p, const char *host, X509 **ret_certificate)
{
    char request[128], *answer = calloc(1, 65536);
    size_t size = 0;
    int n;

    SSL *ssl = tls_connect(client_connect(p), &(struct tls_options){.name = host});
    assert_true(answer != NULL && ssl != NULL);
    *ret_certificate = SSL_get1_peer_certificate(ssl);
    assert_non_null(*ret_certificate);
    (void)snprintf(request, sizeof(request),
                   "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host);
    tls_write(ssl, request);
    while (size < 65535 && (n = tls_read(ssl, answer + size, 65535 - size)) > 0)
        size += (size_t)n;
    tls_cut(ssl);
    return answer;
}

static void test_several_hosts(void **state)
{
    struct process p, upstream;
    X509 *www, *api, *other;
    char here[64];
    (void)state;
    process_start(&upstream, NULL, (const char *const[]){NULL});
    (void)snprintf(here, sizeof(here), "http://127.0.0.1:%u/hello", upstream.port);
    /* Ports of their own, known beforehand: two hosts have to name the same one. */
    struct process probe;
    process_start(&probe, NULL, (const char *const[]){NULL});
    char port[16];
    (void)snprintf(port, sizeof(port), "port: %u", probe.port);
    process_signal(&probe, SIGTERM);
    process_expect(&probe, LIMIT_MS, 0);
    process_release(&probe);
    char with_host[64];
    (void)snprintf(with_host, sizeof(with_host), "host: 127.0.0.1\n      %s", port);
    const char *conf =
        move_example("several-hosts.conf",
                     (const struct change[]){{"port: 443", with_host},
                                             {"listen: 80", "listen: {host: 127.0.0.1, port: 0}"},
                                             {"/etc/ssl/lastcall", directory},
                                             {"/var/log/lastcall", directory},
                                             {"/var/www/www", in_directory("html")},
                                             {"http://127.0.0.1:3000/", here},
                                             {NULL, NULL}});
    start_example(&p, conf, "listening on 127.0.0.1:");
    p.port = port_of(&p, 0);
    char *answer = ask_tls(&p, "www.example.com", &www);
    assert_contains(answer, "the index");
    free(answer);
    answer = ask_tls(&p, "api.example.com", &api);
    assert_contains(answer, "Hello World");
    free(answer);
    answer = ask_tls(&p, "nobody.test", &other);
    free(answer);
    assert_int_not_equal(X509_cmp(www, api), 0);
    assert_int_equal(X509_cmp(www, other), 0);
    X509_free(www);
    X509_free(api);
    X509_free(other);
    p.port = port_of(&p, 1);
    assert_answer(&p, "GET / HTTP/1.1\r\nHost: old.example.com\r\n\r\n",
                  "location: https://www.example.com/\r\n");
    end_example(&p);
    end_example(&upstream);
}

static void test_reverse_proxy(void **state)
{
    struct process p, upstream;
    char here[64];
    (void)state;
    process_start(&upstream, NULL, (const char *const[]){NULL});
    (void)snprintf(here, sizeof(here), "http://127.0.0.1:%u/", upstream.port);
    const char *conf = move_example(
        "reverse-proxy.conf",
        (const struct change[]){{"port: 80\n", "host: 127.0.0.1\n  port: 0\n"},
                                {"port: 443", "host: 127.0.0.2\n  port: 0"},
                                {"lame-duck: 5s", "lame-duck: 0s"},
                                {"/etc/ssl/lastcall/cert.pem", in_directory("www.pem")},
                                {"/etc/ssl/lastcall/key.pem", in_directory("www.key")},
                                {"/var/log/lastcall", directory},
                                {"http://127.0.0.1:3000/", here},
                                {NULL, NULL}});
    start_example(&p, conf, "listening on tls:127.0.0.2:");
    assert_answer(&p, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\nHello World\n");
    end_example(&p);
    end_example(&upstream);
}

/* ---- PHP ---- */

static const char *find_php_fpm(void)
{
    static char path[300];
    const struct dirent *entry;
    DIR *sbin = opendir("/usr/sbin");

    path[0] = '\0';
    while (sbin != NULL && (entry = readdir(sbin)) != NULL)
        if (strncmp(entry->d_name, "php-fpm", 7) == 0)
            (void)snprintf(path, sizeof(path), "/usr/sbin/%s", entry->d_name);
    if (sbin != NULL)
        (void)closedir(sbin);
    return path[0] != '\0' ? path : NULL;
}

static void start_php_fpm(const char *binary)
{
    char conf[1024];
    struct stat st;

    (void)snprintf(conf, sizeof(conf),
                   "[global]\nerror_log = %s\ndaemonize = no\n[www]\n%slisten = %s\n"
                   "listen.mode = 0666\npm = static\npm.max_children = 2\n",
                   in_directory("php.log"),
                   geteuid() == 0 ? "user = nobody\ngroup = nogroup\n" : "",
                   in_directory("php.sock"));
    write_file(in_directory("php-fpm.conf.own"), conf);
    php_fpm = fork();
    assert_true(php_fpm >= 0);
    if (php_fpm == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        int nowhere = open("/dev/null", O_RDWR);
        (void)dup2(nowhere, STDOUT_FILENO);
        (void)dup2(nowhere, STDERR_FILENO);
        execl(binary, binary, "-n", "-y", in_directory("php-fpm.conf.own"), (char *)NULL);
        _exit(127);
    }
    for (unsigned i = 0; stat(in_directory("php.sock"), &st) != 0; i++) {
        assert_true(i < 10000);
        assert_int_equal(waitpid(php_fpm, NULL, WNOHANG), 0);
        (void)poll(NULL, 0, 1);
    }
}

static int stop_php_fpm(void **state)
{
    if (php_fpm > 0) {
        (void)kill(php_fpm, SIGQUIT);
        (void)waitpid(php_fpm, NULL, 0);
        php_fpm = 0;
    }
    return process_kill_left(state);
}

/* HTTP/1.0: without a length, up to the end. */
static void assert_whole_answer(const struct process *p, const char *request, const char *want)
{
    int fd = client_connect(p);
    client_send(fd, request);
    char *answer = client_read_until(fd, NULL);
    assert_contains(answer, want);
    free(answer);
    (void)close(fd);
}

static void test_php_fpm(void **state)
{
    struct process p;
    const char *binary = find_php_fpm();
    (void)state;
    if (binary == NULL)
        skip_test("needs php-fpm (apt-get install php-fpm)");
    start_php_fpm(binary);
    const char *conf = move_example(
        "php-fpm.conf",
        (const struct change[]){{"listen:\n  port: 80", "listen: {host: 127.0.0.1, port: 0}"},
                                {"/run/php/php-fpm.sock", in_directory("php.sock")},
                                {"/var/log/lastcall", directory},
                                {"/var/www/html", in_directory("php")},
                                {NULL, NULL}});
    start_example(&p, conf, "listening on 127.0.0.1:");
    assert_whole_answer(&p, "GET /sum.php?a=3&b=4 HTTP/1.0\r\nHost: a\r\n\r\n", "\r\n\r\n7");
    assert_whole_answer(&p,
                        "POST /body.php HTTP/1.0\r\nHost: a\r\nContent-Type: text/plain\r\n"
                        "Content-Length: 5\r\n\r\nhello",
                        "\r\n\r\nolleh");
    assert_whole_answer(&p, "GET / HTTP/1.0\r\nHost: a\r\n\r\n", "\r\n\r\nfront:");
    assert_whole_answer(&p, "GET /made/up HTTP/1.0\r\nHost: a\r\n\r\n", "\r\n\r\nfront:/made/up");
    assert_whole_answer(&p, "GET /style.css HTTP/1.0\r\nHost: a\r\n\r\n",
                        "content-type: text/css\r\n");
    /* A slow script is a request in flight like any other. */
    int fd = client_connect(&p);
    client_send(fd, "GET /slow.php HTTP/1.0\r\nHost: a\r\n\r\n");
    struct stat st;
    for (unsigned i = 0; stat(in_directory("php/began"), &st) != 0; i++) {
        assert_true(i < 10000);
        (void)poll(NULL, 0, 1);
    }
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "1 request in flight");
    process_wait_log(&p, "listeners closed");
    write_file(in_directory("php/go-on"), "");
    char *answer = client_read_until(fd, NULL);
    assert_contains(answer, "\r\n\r\nslept");
    free(answer);
    (void)close(fd);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* ---- the folder ---- */

static int set_up(void **state)
{
    if (make_directory(state) != 0 || chmod(directory, 0755) != 0 ||
        mkdir(in_directory("html"), 0755) != 0 || mkdir(in_directory("php"), 0755) != 0 ||
        chmod(in_directory("php"), 0777) != 0)
        return -1;
    write_file(in_directory("html/index.html"), "the index\n");
    write_file(in_directory("html/404.html"), "lost\n");
    write_file(in_directory("php/sum.php"), "<?php echo $_GET['a'] + $_GET['b'];");
    write_file(in_directory("php/body.php"),
               "<?php echo strrev(file_get_contents('php://input'));");
    write_file(in_directory("php/index.php"),
               "<?php echo 'front:' . ($_SERVER['PATH_INFO'] ?? '');");
    write_file(in_directory("php/style.css"), "a {}\n");
    write_file(in_directory("php/slow.php"),
               "<?php touch(__DIR__ . '/began'); for ($i = 0; $i < 10000 && "
               "!file_exists(__DIR__ . '/go-on'); $i++) { usleep(1000); clearstatcache(); } "
               "echo 'slept';");
    certificate_write(in_directory("www.key"), in_directory("www.pem"));
    certificate_write(in_directory("api.key"), in_directory("api.pem"));
    return 0;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)
    static const struct CMUnitTest tests[] = {
        TEST(test_static_site),
        TEST(test_reverse_proxy),
        TEST(test_several_hosts),
        cmocka_unit_test_teardown(test_php_fpm, stop_php_fpm),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 240); /* a hang is a failure */
    return cmocka_run_group_tests_name("examples", tests, set_up, remove_directory);
}

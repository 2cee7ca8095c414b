/* The real process with a configuration file: what it refuses and says of it, and what the
 * directives of h2o's main program and our own do. */

#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "certificate.h"

#define LIMIT_MS 20000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define GET_FROM(host, path) "GET " path " HTTP/1.1\r\nHost: " host "\r\n\r\n"
#define GET(path) GET_FROM("test", path)

#define HELLO "hosts: {default: {paths: {/: {handler: hello}}}}\n"
#define LISTEN "listen: {host: 127.0.0.1, port: 0}\n"
#define PATH(directive) LISTEN "hosts:\n  default:\n    paths:\n      /:\n        " directive "\n"
#define SSL(name) "ssl: {certificate-file: @/" name ".crt, key-file: @/" name ".key}"

static char directory[] = "/tmp/lastcall-config-XXXXXX";

/* ---- files ---- */

static const char *in_directory(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *path = paths[next++ % 8];
    (void)snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
    return path;
}

/* Each `@` in `text` stands for the directory. */
static void write_expanded(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '@')
            (void)fputs(directory, out);
        else
            (void)fputc(*text, out);
    }
}

/* Returns the path, good for some more calls. */
static const char *write_file(const char *name, const char *text)
{
    const char *path = in_directory(name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    write_expanded(file, text);
    assert_int_equal(fclose(file), 0);
    return path;
}

static const char *expanded(const char *text)
{
    static char buffers[4][1024];
    static unsigned next;
    char *buffer = buffers[next++ % 4];
    FILE *out = fmemopen(buffer, sizeof(buffers[0]), "w");
    assert_non_null(out);
    write_expanded(out, text);
    assert_int_equal(fclose(out), 0);
    return buffer;
}

static char *read_file(const char *path)
{
    char *text = calloc(1, 65536);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    (void)!fread(text, 1, 65535, file);
    (void)fclose(file);
    return text;
}

static bool is_there(const char *name)
{
    struct stat st;
    return lstat(in_directory(name), &st) == 0;
}

static void assert_contains(const char *text, const char *want)
{
    if (text == NULL || strstr(text, want) == NULL)
        fail_msg("no `%s` in:\n%s", want, text != NULL ? text : "(nothing)");
}

static void assert_lacks(const char *text, const char *unwanted)
{
    if (strstr(text, unwanted) != NULL)
        fail_msg("`%s` in:\n%s", unwanted, text);
}

/* ---- processes ---- */

static void start_with(struct process *p, const char *text, const char *const *more)
{
    const char *args[16] = {"-c", write_file("x.conf", text)};
    for (size_t i = 0; more != NULL && more[i] != NULL; i++)
        args[2 + i] = more[i];
    process_start_configured(p, args);
}

static void start(struct process *p, const char *text)
{
    start_with(p, text, NULL);
}

static void stop(struct process *p)
{
    process_signal(p, SIGTERM);
    process_expect(p, LIMIT_MS, 0);
}

/* The n-th line of `listening on`, from 0, as a process to connect to. Borrowed from `p`. */
static struct process listener(struct process *p, unsigned n)
{
    for (;;) {
        const char *at = p->log;
        for (unsigned i = 0; at != NULL && i <= n; i++)
            if ((at = strstr(at, "listening on ")) != NULL)
                at += strlen("listening on ");
        if (at != NULL && strchr(at, '\n') != NULL) {
            struct process to = *p;
            size_t length = strcspn(at, "\n");
            assert_true(length < sizeof(to.address));
            memcpy(to.address, at, length);
            to.address[length] = '\0';
            const char *colon = strrchr(to.address, ':');
            to.port = (uint16_t)strtoul(colon + 1, NULL, 10);
            return to;
        }
        struct pollfd log = {.fd = p->log_fd, .events = POLLIN};
        char bytes[1024];
        assert_int_equal(poll(&log, 1, LIMIT_MS), 1);
        ssize_t got = read(p->log_fd, bytes, sizeof(bytes));
        assert_true(got > 0);
        p->log = realloc(p->log, p->log_bytes + (size_t)got + 1);
        memcpy(p->log + p->log_bytes, bytes, (size_t)got);
        p->log_bytes += (size_t)got;
        p->log[p->log_bytes] = '\0';
    }
}

static void assert_answer(const struct process *p, const char *request, const char *want)
{
    int fd = client_connect(p);
    client_send(fd, request);
    char *answer = client_read_answer(fd);
    (void)close(fd);
    assert_contains(answer, want);
    free(answer);
}

/* ---- refusals ---- */

static unsigned lines_of(const char *text)
{
    unsigned lines = 0;
    for (; (text = strchr(text, '\n')) != NULL; text++)
        lines++;
    return lines;
}

static void assert_ends(const char *const *argv, int status, unsigned lines, const char *line)
{
    struct process p;
    process_spawn(&p, argv);
    process_expect(&p, LIMIT_MS, status);
    assert_contains(p.log, expanded(line));
    if (lines_of(p.log) != lines)
        fail_msg("%u lines in place of %u:\n%s", lines_of(p.log), lines, p.log);
    process_release(&p);
}

/* Checked, and started: one line, the same. */
static void assert_refused(const char *text, const char *line)
{
    const char *path = write_file("x.conf", text);
    assert_ends(ARGS("-t", "-c", path), 78, 1, line);
    assert_ends(ARGS("-c", path), 78, 1, line);
}

struct refusal {
    const char *text, *line;
};

static void assert_all_refused(const struct refusal *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_refused(cases[i].text, cases[i].line);
}

#define ASSERT_ALL_REFUSED(cases) assert_all_refused(cases, sizeof(cases) / sizeof((cases)[0]))

static void test_unknown_keys_are_refused_wherever_they_are(void **state)
{
    static const struct refusal cases[] = {
        {LISTEN "nonsense: 1\n" HELLO, "error: @/x.conf:2:1: unknown command: nonsense"},
        {LISTEN "hosts:\n  default:\n    nonsense: 1\n    paths: {/: {handler: hello}}\n",
         "@/x.conf:4:5: unknown command: nonsense"},
        {PATH("nonsense: 1"), "@/x.conf:6:9: unknown command: nonsense"},
        {"listen: {port: 0, prot: 1}\n" HELLO,
         "@/x.conf:1:19: listen: unknown key prot; known are host, port, type, "},
        {"listen: {port: 0, [a]: 1}\n" HELLO, "@/x.conf:1:19: listen: unknown key (not a text)"},
        {"listen:\n  port: 0\n  ssl:\n    certificate-file: @/a.crt\n    keyfile: b\n" HELLO,
         "@/x.conf:5:5: listen: unknown key keyfile; known are certificate-file, "},
        {LISTEN "pool: {worker: 1}\n" HELLO,
         "@/x.conf:2:8: pool: unknown key worker; known are workers, queue, max-bodies"},
        {LISTEN "drain:\n  deadline: 1s\n  dealine: 1s\n" HELLO,
         "@/x.conf:4:3: drain: unknown key dealine; known are deadline, lame-duck, "},
        {LISTEN "ssl-session-resumption: {mode: off, lifetme: 5}\n" HELLO,
         "@/x.conf:2:37: ssl-session-resumption: unknown key lifetme; known are mode, "},
    };
    (void)state;
    ASSERT_ALL_REFUSED(cases);
}

static void test_wrong_types_are_refused(void **state)
{
    static const struct refusal cases[] = {
        {"8080\n", "@/x.conf:1:1: node must be a MAPPING"},
        {"- a\n", "@/x.conf:1:1: node must be a MAPPING"},
        {"---\n", "@/x.conf:2:1: node must be a MAPPING"},
        {LISTEN "[a]: 1\n" HELLO, "@/x.conf:2:1: command must be a string"},
        {"listen: [1, 2]\n" HELLO, "@/x.conf:1:9: listen: want a port, or a mapping"},
        {"listen: {port: {a: 1}}\n" HELLO,
         "@/x.conf:1:16: listen: port must be a text or a number"},
        {"listen: {port: 0, host: [a]}\n" HELLO, "@/x.conf:1:25: listen: host must be a text"},
        {"listen: {port: 0, proxy-protocol: maybe}\n" HELLO, "@/x.conf:1:35: listen: argument "},
        {"listen: {port: 0, ssl: ON}\n" HELLO, "@/x.conf:1:24: listen: ssl must be a mapping"},
        {"listen: {port: 0, ssl: {certificate-file: [a]}}\n" HELLO,
         "@/x.conf:1:43: listen: every key of ssl has one text or number"},
        {LISTEN "pool: 1\n" HELLO, "@/x.conf:2:7: pool: argument cannot be a scalar"},
        {LISTEN "pool: {workers: [1]}\n" HELLO, "@/x.conf:2:17: pool: pool.workers must be a text"},
        {LISTEN "user: [a]\n" HELLO, "@/x.conf:2:7: user: argument cannot be a sequence"},
        {LISTEN "num-threads: {}\n" HELLO, "@/x.conf:2:14: num-threads: argument cannot be a "},
        {LISTEN "ssl-session-resumption: off\n" HELLO,
         "@/x.conf:2:25: ssl-session-resumption: argument cannot be a scalar"},
        {LISTEN "access-log: [a]\n" HELLO, "@/x.conf:2:13: access-log: node must be a scalar or a"},
        {PATH("handler: [hello]"), "@/x.conf:6:18: handler: argument cannot be a sequence"},
        {LISTEN "hosts: 1\n", "@/x.conf:2:8: hosts: argument cannot be a scalar"},
        {LISTEN "hosts: {default: {paths: {/: 1}}}\n", "@/x.conf:2:"},
        {LISTEN "hosts:\n  [a]: {paths: {/: {handler: hello}}}\n", "@/x.conf:3:3: hosts: key "},
    };
    (void)state;
    ASSERT_ALL_REFUSED(cases);
}

static void test_bad_values_are_refused(void **state)
{
    static const struct refusal cases[] = {
        {LISTEN "drain: {deadline: 10}\n" HELLO,
         "@/x.conf:2:19: drain: drain.deadline 10: want a duration such as 250ms, 10s or 2m"},
        {LISTEN "drain: {deadline: soon}\n" HELLO, "@/x.conf:2:19: drain: drain.deadline soon: "},
        {LISTEN "drain: {idle-grace: -1s}\n" HELLO, "@/x.conf:2:21: drain: drain.idle-grace -1s: "},
        {LISTEN "drain:\n  deadline: 1s\n  settle-max: 2s\n" HELLO,
         "@/x.conf:4:15: drain: drain.settle-max 2s: want a duration from 1ms to 900ms"},
        {LISTEN "drain: {report: ''}\n" HELLO, "@/x.conf:2:17: drain: drain.report : want a text"},
        {LISTEN "pool: {max-bodies: 1KB}\n" HELLO,
         "@/x.conf:2:20: pool: pool.max-bodies 1KB: want a size from 1024KB to 1048576MB"},
        {LISTEN "pool: {workers: 0}\n" HELLO,
         "@/x.conf:2:17: pool: pool.workers 0: want a whole number from 1 to 4096"},
        {LISTEN "num-threads: 0\n" HELLO, "@/x.conf:2:14: num-threads: num-threads 0: want a "},
        {LISTEN "max-connections: many\n" HELLO, "@/x.conf:2:18: max-connections: "},
        {LISTEN "tcp-fastopen: x\n" HELLO, "@/x.conf:2:15: tcp-fastopen: tcp-fastopen x: want a "},
        {LISTEN "num-name-resolution-threads: 0\n" HELLO,
         "@/x.conf:2:30: num-name-resolution-threads: 0: want a whole number from 1 to 1024"},
        {LISTEN "temp-buffer-path: @/none\n" HELLO,
         "@/x.conf:2:19: temp-buffer-path: cannot make files in @/none: No such file"},
        {LISTEN "pid-file: ''\n" HELLO, "@/x.conf:2:11: pid-file: pid-file : want a text that is"},
        {LISTEN "limit-request-body: many\n" HELLO, "@/x.conf:2:21: limit-request-body: argument "},
        {LISTEN "user: nobody-knows\n" HELLO, "@/x.conf:2:7: user: there is no user nobody-knows"},
        {LISTEN "http2-max-concurrent-requests-per-connection: 0\n" HELLO,
         "@/x.conf:2:47: http2-max-concurrent-requests-per-connection: 0: want a whole number"},
        {PATH("proxy.reverse.url: 'http://[unix:/a/path/that/is/far/too/long/for/the/name/of/a/"
              "socket/and/goes/on/and/on/until/there/are/more/than/108/bytes]/'"),
         "@/x.conf:6:28: proxy.reverse.url: the path of a Unix socket must have 1 to 107 bytes"},
        {PATH("handler: nonsense"), "@/x.conf:6:18: handler: no handler nonsense; there are ready"},
        {PATH("redirect: {status: 200, url: /}"), "@/x.conf:6:28: redirect: value of property "},
        {PATH("proxy.reverse.url: nonsense"), "@/x.conf:6:28: proxy.reverse.url: failed to parse"},
    };
    (void)state;
    ASSERT_ALL_REFUSED(cases);
}

static void test_bad_listeners_are_refused(void **state)
{
    static const struct refusal cases[] = {
        {"listen: 65536\n" HELLO,
         "@/x.conf:1:9: listen: port 65536: want a number from 0 to 65535"},
        {"listen: http\n" HELLO, "@/x.conf:1:9: listen: port http: want a number from 0 to "},
        {"listen: -1\n" HELLO, "@/x.conf:1:9: listen: port -1: want a number from 0 to 65535"},
        {"listen: ''\n" HELLO, "@/x.conf:1:9: listen: port : want a number from 0 to 65535"},
        {"listen: {host: 127.0.0.1}\n" HELLO, "@/x.conf:1:9: listen: it has no port"},
        {"listen: {host: 300.0.0.1, port: 0}\n" HELLO,
         "@/x.conf:1:16: listen: cannot listen on 300.0.0.1:0: "},
        {"listen: {port: 0, type: udp}\n" HELLO, "@/x.conf:1:25: listen: type udp: want tcp or "},
        {"listen: {port: 0, permission: 600}\n" HELLO,
         "@/x.conf:1:9: listen: owner, group and permission are for type: unix"},
        {"listen: {port: @/s, type: unix, permission: 888}\n" HELLO,
         ": listen: permission must be an octal number up to 777"},
        {"listen:\n  port: @/s\n  type: unix\n  owner: nobody-knows\n" HELLO,
         "@/x.conf:4:10: listen: there is no user nobody-knows"},
        {"listen:\n  port: @/s\n  type: unix\n  group: nobody-knows\n" HELLO,
         "@/x.conf:4:10: listen: there is no group nobody-knows"},
        {"listen: {port: '', type: unix}\n" HELLO,
         "@/x.conf:1:16: listen: the path of a Unix socket must have 1 to 107 bytes"},
        {LISTEN LISTEN HELLO, "@/x.conf:2:9: listen: 127.0.0.1:0 is given twice"},
        {"listen: {port: @/s, type: unix}\nlisten: {port: @/s, type: unix}\n" HELLO,
         "@/x.conf:2:9: listen: unix:@/s is given twice"},
        {"hosts:\n  default:\n    listen: &l {host: 127.0.0.1, port: 0}\n    listen: *l\n"
         "    paths: {/: {handler: hello}}\n",
         "@/x.conf:3:13: listen: 127.0.0.1:0 is given twice"},
        {LISTEN "hosts:\n  default:\n    listen: {host: 127.0.0.1, port: 0, proxy-protocol: ON}\n"
                "    paths: {/: {handler: hello}}\n",
         "@/x.conf:4:13: listen: proxy-protocol of 127.0.0.1:0 is OFF elsewhere"},
        {LISTEN "hosts:\n  default:\n    listen: {host: 127.0.0.1, port: 0, " SSL(
             "a") "}\n"
                  "    paths: {/: {handler: hello}}\n",
         "@/x.conf:4:13: listen: 127.0.0.1:0 has no ssl elsewhere"},
    };
    (void)state;
    ASSERT_ALL_REFUSED(cases);
    assert_false(is_there("s"));
}

static void test_bad_certificates_and_keys_are_refused(void **state)
{
#define LISTEN_SSL(more) "listen:\n  host: 127.0.0.1\n  port: 0\n  ssl:\n" more HELLO
#define CRT(file) "    certificate-file: @/" file "\n"
#define KEY(file) "    key-file: @/" file "\n"
    static const struct refusal cases[] = {
        {LISTEN_SSL(CRT("a.crt")), "@/x.conf:5:5: listen: ssl has no key-file"},
        {LISTEN_SSL(KEY("a.key")), "@/x.conf:5:5: listen: ssl has no certificate-file"},
        {LISTEN_SSL(CRT("none") KEY("a.key")),
         "@/x.conf:5:23: listen: cannot use the certificate in @/none: No such file or directory"},
        {LISTEN_SSL(CRT("a.crt") KEY("none")),
         "@/x.conf:6:15: listen: cannot use the key in @/none: No such file or directory"},
        {LISTEN_SSL(CRT("a.crt") "    key-file: @\n"),
         "@/x.conf:6:15: listen: cannot use the key in @: "},
        {LISTEN_SSL(CRT("a.crt") KEY("a.crt")), "@/x.conf:6:15: listen: cannot use the key in "},
        {LISTEN_SSL(CRT("a.key") KEY("a.key")), "@/x.conf:5:23: listen: cannot use the certi"},
        {LISTEN_SSL(CRT("a.crt") KEY("b.key")),
         "@/x.conf:6:15: listen: the key in @/b.key is not the one of the certificate in @/a.crt"},
        {LISTEN_SSL(CRT("a.crt") KEY("a.key") "    minimum-version: tls9\n"),
         "@/x.conf:7:22: listen: minimum-version tls9: want tlsv1, "},
        {LISTEN_SSL(CRT("a.crt") KEY("a.key") "    cipher-suite: ROT13\n"),
         "@/x.conf:7:19: listen: OpenSSL knows no cipher of ROT13"},
        {LISTEN_SSL(CRT("a.crt") KEY("a.key") "    cipher-preference: mine\n"),
         "@/x.conf:7:24: listen: cipher-preference must be client or server"},
        {LISTEN_SSL(CRT("a.crt") KEY("a.key") "    dh-file: @/a.crt\n"),
         "@/x.conf:7:14: listen: cannot use the DH parameters in @/a.crt: "},
    };
    (void)state;
    ASSERT_ALL_REFUSED(cases);
    if (geteuid() == 0)
        return; /* who may read everything */
    (void)write_file("secret.key", "");
    assert_int_equal(chmod(in_directory("secret.key"), 0), 0);
    assert_refused(LISTEN_SSL(CRT("a.crt") KEY("secret.key")),
                   "@/x.conf:6:15: listen: cannot use the key in @/secret.key: Permission denied");
}

static void test_bad_session_resumption_is_refused(void **state)
{
#define RESUME(how) LISTEN "ssl-session-resumption:\n" how HELLO
    static const struct refusal cases[] = {
        {RESUME("  mode: on\n"), "@/x.conf:3:9: ssl-session-resumption: mode must be off, all, "},
        {RESUME("  lifetime: 5\n"), "@/x.conf:3:3: ssl-session-resumption: it has no mode"},
        {RESUME("  mode: ticket\n  ticket-store: file\n"),
         "@/x.conf:4:17: ssl-session-resumption: ticket-store file wants a ticket-file"},
        {RESUME("  mode: ticket\n  ticket-store: memcached\n"),
         "@/x.conf:4:17: ssl-session-resumption: ticket-store memcached: sessions are kept in "},
        {RESUME("  mode: ticket\n  ticket-cipher: rot13\n"),
         "ssl-session-resumption: OpenSSL has no rot13 for tickets"},
        {RESUME("  mode: ticket\n  ticket-hash: crc\n"),
         "ssl-session-resumption: OpenSSL has no crc for tickets"},
        {RESUME("  mode: ticket\n  lifetime: 1h\n"), "@/x.conf:4:13: ssl-session-resumption: "},
        {RESUME("  mode: ticket\n  lifetime: -5\n"), "@/x.conf:4:13: ssl-session-resumption: "},
        {RESUME("  mode: ticket\n  lifetime: 0\n"), "@/x.conf:4:13: ssl-session-resumption: "},
    };
    (void)state;
    ASSERT_ALL_REFUSED(cases);
}

static void test_directives_in_the_wrong_place_are_refused(void **state)
{
    static const struct refusal cases[] = {
        {PATH("drain.deadline: 1s"), "@/x.conf:6:25: drain.deadline: there are no deadlines of "},
        {LISTEN "drain.deadline: 1s\n" HELLO, "@/x.conf:2:17: drain.deadline: there are no "},
        {PATH("drain: {deadline: 1s}"), "@/x.conf:6:16: drain: it is for the whole server"},
        {LISTEN "hosts:\n  default:\n    pool: {workers: 1}\n    paths: {/: {handler: hello}}\n",
         "@/x.conf:4:11: pool: it is for the whole server; set it beside hosts"},
        {PATH("listen: 0"), "@/x.conf:6:9: listen: the command cannot be used at this level"},
        {LISTEN "handler: hello\n" HELLO, "@/x.conf:2:1: handler: the command cannot be used at "},
        {PATH("mruby.handler: |\n          Proc.new do |env|\n          end"),
         "@/x.conf:7:24: mruby.handler: lastcall has no mruby; move the handler into an "},
        {PATH("mruby.handler-file: x.rb"), "@/x.conf:6:29: mruby.handler-file: lastcall has no "},
    };
    (void)state;
    ASSERT_ALL_REFUSED(cases);
}

static void test_half_a_configuration_is_refused(void **state)
{
    static const struct refusal cases[] = {
        {LISTEN, "@/x.conf:1:1: mandatory configuration directive `hosts` is missing"},
        {LISTEN "hosts: {}\n", "@/x.conf:2:8: hosts: the mapping cannot be empty"},
        {LISTEN "hosts:\n  default:\n    access-log: /dev/null\n",
         "@/x.conf:4:5: mandatory configuration directive `paths` is missing"},
        {HELLO, "@/x.conf:1:1: there is no listen in it, and no --listen beside it"},
        {"", "error: @/x.conf:1:1: nothing in it"},
        {"# nothing\n", "@/x.conf:2:1: nothing in it"},
    };
    (void)state;
    ASSERT_ALL_REFUSED(cases);
}

static void test_what_is_no_yaml_is_refused(void **state)
{
    static const struct refusal cases[] = {
        {"a: [1, 2\n", "@/x.conf:2:1: while parsing a flow sequence: "},
        {"a: &x [*x]\n", "@/x.conf:1:8: *x stands for something that contains it"},
        {"a: *x\n", "@/x.conf:1:4: no anchor &x for this alias"},
        {LISTEN HELLO "---\n" HELLO, "@/x.conf:3:1: a second document; only one is read"},
        {LISTEN "hosts: !file @/none\n", "@/x.conf:2:8: cannot read @/none: No such file or dir"},
        {LISTEN "hosts: !file @/inner.conf\n", "@/inner.conf:3:18: handler: no handler nonsense"},
        {LISTEN "server-name: \xff\xfe\n" HELLO, "@/x.conf:2:14: not a text: invalid leading "},
    };
    static const char junk[] = "\x7f"
                               "ELF\2\1\1\0\0\0";
    (void)state;
    (void)write_file("inner.conf", "default:\n  paths:\n    /: {handler: nonsense}\n");
    ASSERT_ALL_REFUSED(cases);
    FILE *file = fopen(in_directory("junk"), "w");
    assert_int_equal(fwrite(junk, 1, sizeof(junk), file), sizeof(junk));
    (void)fclose(file);
    assert_ends(ARGS("-c", in_directory("junk")), 78, 1, "@/junk:1:1: not a text: ");
    assert_ends(ARGS("-t", "-c", in_directory("junk")), 78, 1, "@/junk:1:1: not a text: ");
}

static void test_what_is_no_file_is_refused(void **state)
{
    static const struct {
        const char *name, *line;
    } cases[] = {
        {"none", "error: @/none: cannot read it: No such file or directory"},
        {"", "error: @/: cannot read it: is a directory"},
        {"fifo", "error: @/fifo:1:1: nothing in it"},
        {"large", "error: @/large: cannot read it: larger than 4 MiB"},
    };
    (void)state;
    assert_int_equal(mkfifo(in_directory("fifo"), 0600), 0);
    assert_int_equal(truncate(write_file("large", LISTEN HELLO), 100 << 20), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_ends(ARGS("-t", "-c", in_directory(cases[i].name)), 78, 1, cases[i].line);
        assert_ends(ARGS("-c", in_directory(cases[i].name)), 78, 1, cases[i].line);
    }
    assert_int_equal(truncate(in_directory("large"), 0), 0);
}

static void test_command_line_faults_are_status_64(void **state)
{
    const char *good = write_file("x.conf", LISTEN HELLO);
    (void)state;
    assert_ends(ARGS("-c"), 64, 1, "lastcall: -c: wants a value; see lastcall --help");
    assert_ends(ARGS("-c", ""), 64, 1, "--conf: want a text that is not empty");
    assert_ends(ARGS("-m", "x", "-c", good), 64, 1,
                "--mode x: want worker, master, daemon or test");
    assert_ends(ARGS("-c", good, "--root", "/tmp"), 64, 1, "--root and --conf: the file says ");
    assert_ends(ARGS("-c", good, "--proxy", "http://127.0.0.1:1/"), 64, 1, "--proxy and --conf: ");
    assert_ends(ARGS("-c", good, "--deadline", "soon"), 64, 1, "--deadline soon: want a duration");
    assert_ends(ARGS("-c", good, "--cert", "a"), 64, 1, "--cert and --key want each other");
    assert_ends(ARGS("-c", good, "-x"), 64, 1, "-x: no such option");
}

static void test_address_in_use_is_status_69_and_has_its_line(void **state)
{
    struct process p;
    char text[256], line[256];
    (void)state;
    start(&p, LISTEN HELLO);
    (void)snprintf(text, sizeof(text), "\nlisten: {port: %u, host: 127.0.0.1}\n" HELLO, p.port);
    (void)snprintf(line, sizeof(line),
                   "error: @/y.conf:2:9: listen: cannot listen on 127.0.0.1:%u: Address already in "
                   "use",
                   p.port);
    const char *path = write_file("y.conf", text);
    assert_ends(ARGS("-c", path), 69, 1, line);
    (void)write_file("z.conf", "listen: {type: unix, port: @/none/s}\n" HELLO);
    assert_ends(ARGS("-c", in_directory("z.conf")), 69, 1,
                "@/z.conf:1:9: listen: cannot listen on unix:@/none/s: No such file or directory");
    (void)write_file("z.conf", "listen: {type: unix, port: @/x.conf}\n" HELLO);
    assert_ends(ARGS("-c", in_directory("z.conf")), 69, 1,
                "@/z.conf:1:9: listen: cannot listen on unix:@/x.conf: a file that is not a ");
    process_release(&p);
}

static void test_refusal_leaves_no_socket_behind(void **state)
{
    (void)state;
    assert_refused("listen: {type: unix, port: @/half.sock}\nnonsense: 1\n" HELLO,
                   "@/x.conf:2:1: unknown command: nonsense");
    assert_false(is_there("half.sock"));
    /* Directives that come before hosts in any order; this one is read last. */
    assert_refused("listen: {type: unix, port: @/half.sock}\n" PATH("handler: nonsense"),
                   "@/x.conf:7:18: handler: no handler nonsense");
    assert_false(is_there("half.sock"));
}

/* What only a start can find out. libh2o says itself why it can not write an access log. */
static void test_logs_that_can_not_be_written_are_refused_at_the_start(void **state)
{
    (void)state;
    const char *path = write_file("x.conf", LISTEN "access-log: @/none/log\n" HELLO);
    assert_ends(ARGS("-c", path), 78, 1, "error: @/x.conf:2:13: access-log: cannot log to @/none/");
    path = write_file("x.conf", LISTEN "access-log: {path: @/log, format: '%'}\n" HELLO);
    assert_ends(ARGS("-c", path), 78, 2, "error: @/x.conf:2:13: access-log: cannot log to @/log");
    path = write_file("x.conf", LISTEN "error-log: @/none/log\n" HELLO);
    assert_ends(ARGS("-c", path), 78, 1, "error: cannot log to @/none/log: No such file");
}

/* What is given up with a warning, not refused. */
static void test_directives_without_use_here_are_warned_of(void **state)
{
    (void)state;
    const char *path =
        write_file("x.conf", LISTEN "crash-handler: x\nnum-ocsp-updaters: 1\n" HELLO);
    assert_ends(ARGS("-t", "-c", path), 0, 2, "warning: @/x.conf:2:16: crash-handler: ignored: ");
    assert_ends(ARGS("-t", "-c", path), 0, 2,
                "warning: @/x.conf:3:20: num-ocsp-updaters: ignored: OCSP responses are not st");
    path = write_file("x.conf",
                      "listen: {host: 127.0.0.1, port: 0, ssl: {certificate-file: @/a.crt, "
                      "key-file: @/a.key, ocsp-update-interval: 5, neverbleed: ON}}\n" HELLO);
    assert_ends(ARGS("-t", "-c", path), 0, 2, "listen: ocsp-update-interval is ignored");
    assert_ends(ARGS("-t", "-c", path), 0, 2, "listen: neverbleed is ignored");
}

static void test_json_log_has_the_place_as_fields(void **state)
{
    struct process p;
    (void)state;
    process_spawn(&p,
                  ARGS("--log-format", "json", "-c", write_file("x.conf", LISTEN "x: 1\n" HELLO)));
    process_expect(&p, LIMIT_MS, 78);
    json_t *line = json_loads(p.log, 0, NULL);
    assert_non_null(line);
    assert_string_equal(json_string_value(json_object_get(line, "file")), in_directory("x.conf"));
    assert_int_equal(json_integer_value(json_object_get(line, "line")), 2);
    assert_int_equal(json_integer_value(json_object_get(line, "column")), 1);
    json_decref(line);
    process_release(&p);
}

/* ---- -t ---- */

static void assert_checks(const char *options)
{
    char command[512], said[512] = "";
    (void)snprintf(command, sizeof(command), "exec \"$LASTCALL_BINARY\" %s 2>&1", options);
    FILE *out = popen(command, "re");
    assert_non_null(out);
    size_t n = fread(said, 1, sizeof(said) - 1, out);
    said[n] = '\0';
    assert_int_equal(pclose(out), 0);
    assert_string_equal(said, "configuration OK\n");
}

static void test_check_of_a_good_file_says_so_and_opens_nothing(void **state)
{
    struct process p;
    char text[512], options[256];
    (void)state;
    start(&p, LISTEN HELLO);
    (void)snprintf(text, sizeof(text),
                   "listen: {host: 127.0.0.1, port: %u}\n" /* in use */
                   "listen: {type: unix, port: @/check.sock, permission: 600}\n"
                   "pid-file: @/check.pid\nerror-log: @/check.log\naccess-log: @/check.access\n"
                   "drain: {report: @/check.report}\n" HELLO,
                   p.port);
    const char *path = write_file("y.conf", text);
    (void)snprintf(options, sizeof(options), "-t -c %s", path);
    assert_checks(options);
    (void)snprintf(options, sizeof(options), "--test --conf %s", path);
    assert_checks(options);
    (void)snprintf(options, sizeof(options), "-m test -c %s", path);
    assert_checks(options);
    (void)snprintf(options, sizeof(options), "-tc %s --listen 127.0.0.1:%u", path, p.port);
    assert_checks(options);
    assert_checks("-t"); /* of flags alone */
    assert_false(is_there("check.sock"));
    assert_false(is_there("check.pid"));
    assert_false(is_there("check.log"));
    assert_false(is_there("check.access"));
    assert_false(is_there("check.report"));
    process_release(&p);
}

/* ---- listen ---- */

static void test_listen_takes_a_port_or_a_mapping(void **state)
{
    struct process p;
    (void)state;
    start(&p, "listen: 0\n" HELLO);
    assert_non_null(strstr(p.address, "0.0.0.0:"));
    assert_answer(&p, GET("/"), "Hello World");
    process_release(&p);
    start(&p, "listen: {port: 0, host: 127.0.0.1, type: tcp}\nlisten: {port: 0, host: '::1'}\n"
              "listen: {port: @/l.sock, type: unix}\n" HELLO);
    struct process v4 = listener(&p, 0), v6 = listener(&p, 1), local = listener(&p, 2);
    assert_int_equal(strncmp(v4.address, "127.0.0.1:", 10), 0);
    assert_int_equal(strncmp(v6.address, "[::1]:", 6), 0);
    assert_string_equal(local.address, expanded("unix:@/l.sock"));
    assert_answer(&v4, GET("/"), "Hello World");
    assert_answer(&v6, GET("/"), "Hello World");
    assert_answer(&local, GET("/"), "Hello World");
    stop(&p);
    assert_false(is_there("l.sock"));
    process_release(&p);
}

static void test_unix_socket_has_the_owner_and_mode_that_are_given(void **state)
{
    struct process p;
    struct stat st;
    const struct passwd *nobody = getpwnam("nobody");
    bool root = geteuid() == 0 && nobody != NULL;
    char text[256];
    (void)state;
    (void)snprintf(text, sizeof(text),
                   "listen: {port: @/m.sock, type: unix, permission: 640%s}\n" HELLO,
                   root ? ", owner: nobody" : "");
    start(&p, text);
    assert_int_equal(lstat(in_directory("m.sock"), &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_int_equal(st.st_mode & 07777, 0640);
    if (root) {
        assert_int_equal(st.st_uid, nobody->pw_uid);
        assert_int_equal(st.st_gid, nobody->pw_gid); /* nobody said otherwise */
    }
    assert_answer(&p, GET("/"), "Hello World");
    process_release(&p);
    if (!root)
        return;
    start(&p, "listen: {port: @/m.sock, type: unix, owner: nobody, group: root}\n" HELLO);
    assert_int_equal(lstat(in_directory("m.sock"), &st), 0);
    assert_int_equal(st.st_uid, nobody->pw_uid);
    assert_int_equal(st.st_gid, 0);
    process_release(&p);
}

#define HOST(name, listen)                                                                         \
    "  " name ":\n" listen "    header.set: \"x-host: " name "\"\n"                                \
    "    paths: {/: {handler: hello}}\n"

static void test_global_listener_serves_every_host(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "hosts:\n" HOST("a.test", "") HOST("b.test", "") HOST("'*.c.test'", ""));
    assert_answer(&p, GET_FROM("a.test", "/"), "x-host: a.test\r\n");
    assert_answer(&p, GET_FROM("b.test", "/"), "x-host: b.test\r\n");
    assert_answer(&p, GET_FROM("x.c.test", "/"), "x-host: '*.c.test'\r\n");
    assert_answer(&p, GET_FROM("unknown.test", "/"), "x-host: a.test\r\n");
    process_release(&p);
}

static void test_hosts_may_share_an_address_of_theirs(void **state)
{
    struct process p;
    (void)state;
    start(&p, "hosts:\n" HOST("a.test", "    " LISTEN) HOST("b.test", "    " LISTEN)
                  HOST("c.test", "    listen: {type: unix, port: @/c.sock}\n"));
    struct process shared = listener(&p, 0), alone = listener(&p, 1);
    assert_answer(&shared, GET_FROM("a.test", "/"), "x-host: a.test\r\n");
    assert_answer(&shared, GET_FROM("b.test", "/"), "x-host: b.test\r\n");
    assert_answer(&shared, GET_FROM("c.test", "/"),
                  "x-host: a.test\r\n"); /* not there: the first */
    assert_answer(&alone, GET_FROM("c.test", "/"), "x-host: c.test\r\n");
    assert_answer(&alone, GET_FROM("a.test", "/"), "x-host: c.test\r\n");
    process_release(&p);
}

static void test_global_address_that_a_host_names_too_stays_global(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "hosts:\n" HOST("a.test", "") HOST("b.test", "    " LISTEN));
    assert_answer(&p, GET_FROM("a.test", "/"), "x-host: a.test\r\n");
    assert_answer(&p, GET_FROM("b.test", "/"), "x-host: b.test\r\n");
    stop(&p);
    assert_null(strstr(strstr(p.log, "listening on ") + 1, "listening on ")); /* one socket */
    process_release(&p);
}

/* ---- TLS ---- */

static SSL_CTX *client;

/* Handshake on a connected socket; NULL if it fails. Owner: the caller, see hang_up(). */
static SSL *shake_hands(int fd, const char *name, SSL_SESSION *session, int version_max)
{
    SSL *ssl = SSL_new(client);
    assert_non_null(ssl);
    if (name != NULL)
        assert_int_equal(SSL_set_tlsext_host_name(ssl, name), 1);
    if (version_max != 0)
        assert_int_equal(SSL_set_max_proto_version(ssl, version_max), 1);
    if (session != NULL)
        assert_int_equal(SSL_set_session(ssl, session), 1);
    assert_int_equal(SSL_set_fd(ssl, fd), 1);
    if (SSL_connect(ssl) == 1)
        return ssl;
    SSL_free(ssl);
    (void)close(fd);
    return NULL;
}

static void hang_up(SSL *ssl)
{
    int fd = SSL_get_fd(ssl);
    (void)SSL_shutdown(ssl); /* else the session counts as broken */
    SSL_free(ssl);
    (void)close(fd);
}

static void assert_says_hello(SSL *ssl, const char *request)
{
    char text[4096];
    size_t got = 0;
    assert_int_equal(SSL_write(ssl, request, (int)strlen(request)), (int)strlen(request));
    for (text[0] = '\0'; strstr(text, "Hello World\n") == NULL; text[got] = '\0') {
        int n = SSL_read(ssl, text + got, (int)(sizeof(text) - 1 - got));
        if (n <= 0)
            fail_msg("no hello, but: %s", text);
        got += (size_t)n;
    }
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
        fail_msg("%s is not shown %s", name != NULL ? name : "(nobody)", file);
    X509_free(want);
    X509_free(got);
    assert_says_hello(ssl, GET("/"));
    hang_up(ssl);
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
    hang_up(ssl);
    process_release(&p);
    start(&p, LISTEN_TLS("a", ", max-version: tlsv1.2, cipher-suite: ECDHE-ECDSA-AES256-GCM-SHA384")
                  HELLO);
    ssl = shake_hands(client_connect(&p), NULL, NULL, 0);
    assert_non_null(ssl);
    assert_int_equal(SSL_version(ssl), TLS1_2_VERSION);
    assert_string_equal(SSL_get_cipher_name(ssl), "ECDHE-ECDSA-AES256-GCM-SHA384");
    hang_up(ssl);
    process_release(&p);
}

/* A session to come back with. TLS 1.3 sends it behind the handshake, so before the answer.
 * Owner: the caller. */
static SSL_SESSION *visit_and_keep(const struct process *p, int version)
{
    SSL *ssl = shake_hands(client_connect(p), NULL, NULL, version);
    assert_non_null(ssl);
    assert_int_equal(SSL_version(ssl), version);
    assert_int_equal(SSL_session_reused(ssl), 0);
    assert_says_hello(ssl, GET("/"));
    SSL_SESSION *session = SSL_get1_session(ssl);
    hang_up(ssl);
    return session;
}

/* Frees the session. */
static bool is_resumed(const struct process *p, SSL_SESSION *session, int version)
{
    SSL *ssl = shake_hands(client_connect(p), NULL, session, version);
    assert_non_null(ssl);
    bool resumed = SSL_session_reused(ssl) == 1;
    assert_says_hello(ssl, GET("/"));
    hang_up(ssl);
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
        start_with(&p, LISTEN_TLS("a", "") HELLO, flags);
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
        hang_up(ssl);
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
    hang_up(ssl);
    ssl = shake_hands(client_connect(&p), NULL, NULL, 0);
    assert_non_null(ssl);
    assert_says_hello(ssl, GET("/without"));
    hang_up(ssl);
    stop(&p);
    process_release(&p);
    char *log = read_file(in_directory("access-tls"));
    assert_int_equal(lines_of(log), 2);
    assert_contains(log, "192.0.2.7 GET /with HTTP/1.1\n");
    assert_contains(log, "127.0.0.1 GET /without HTTP/1.1\n");
    free(log);
}

/* ---- the process ---- */

static void test_max_connections_holds_others_back(void **state)
{
    struct process p;
    char byte;
    (void)state;
    start(&p, LISTEN "max-connections: 1\nnum-threads: 1\n" HELLO);
    int first = client_connect(&p);
    client_send(first, GET("/"));
    char *answer = client_read_answer(first);
    assert_contains(answer, "Hello World");
    free(answer);
    int second = client_connect(&p);
    client_send(second, GET("/"));
    for (unsigned i = 0; i < 3; i++) { /* turns of the one loop, in which it is not looked at */
        client_send(first, GET("/"));
        answer = client_read_answer(first);
        assert_contains(answer, "Hello World");
        free(answer);
    }
    assert_int_equal(recv(second, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    (void)close(first);
    answer = client_read_answer(second);
    assert_contains(answer, "Hello World");
    free(answer);
    (void)close(second);
    process_release(&p);
}

static void test_pid_file_is_there_while_it_runs(void **state)
{
    struct process p;
    char pid[32];
    (void)state;
    /* The first answer comes from a loop that may be ahead of the file; the drain is behind it. */
    start(&p, LISTEN "pid-file: @/pid\ndrain: {lame-duck: 1m}\n" HELLO);
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "SIGTERM received");
    char *text = read_file(in_directory("pid"));
    (void)snprintf(pid, sizeof(pid), "%ld\n", (long)p.pid);
    assert_string_equal(text, pid);
    free(text);
    process_signal(&p, SIGTERM);
    (void)process_wait(&p, LIMIT_MS);
    assert_false(is_there("pid"));
    process_release(&p);
}

static void test_files_of_root_are_opened_before_it_is_given_up(void **state)
{
    struct process p;
    char pid[32];
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(mkdir(in_directory("of-root"), 0755), 0);
    start(&p, LISTEN "pid-file: @/of-root/pid\naccess-log: @/of-root/access\n"
                     "drain: {lame-duck: 1m}\n" HELLO);
    assert_answer(&p, GET("/"), "Hello World");
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "SIGTERM received");
    char *text = read_file(in_directory("of-root/pid"));
    (void)snprintf(pid, sizeof(pid), "%ld\n", (long)p.pid);
    assert_string_equal(text, pid);
    free(text);
    process_signal(&p, SIGTERM);
    (void)process_wait(&p, LIMIT_MS);
    text = read_file(in_directory("of-root/pid"));
    assert_string_equal(text, ""); /* nobody may not remove it */
    free(text);
    text = read_file(in_directory("of-root/access"));
    assert_contains(text, "GET / HTTP/1.1");
    free(text);
    process_release(&p);
    assert_ends(
        ARGS("-c", write_file("x.conf", LISTEN "drain: {report: @/of-root/report}\n" HELLO)), 78, 1,
        "error: cannot write the report to @/of-root/report: user nobody may not ");
}

static void test_error_log_takes_over_from_standard_error(void **state)
{
    struct process p;
    (void)state;
    assert_int_equal(mkfifo(in_directory("error-log"), 0600), 0);
    int fifo = open(in_directory("error-log"), O_RDWR | O_NONBLOCK | O_CLOEXEC);
    assert_true(fifo >= 0);
    process_spawn(&p, ARGS("-c", write_file("x.conf", LISTEN "error-log: @/error-log\n" HELLO)));
    int standard_error = p.log_fd;
    p.log_fd = fifo;
    process_wait_log(&p, "listening on ");
    process_signal(&p, SIGTERM);
    process_wait_log(&p, "drained in ");
    process_expect(&p, LIMIT_MS, 0);
    char byte;
    assert_int_equal(read(standard_error, &byte, 1), 0);
    (void)close(standard_error);
    process_release(&p);
    /* A plain file is made, and appended to. */
    (void)write_file("plain-log", "before\n");
    process_spawn(&p, ARGS("-c", write_file("x.conf", LISTEN "error-log: @/plain-log\n"
                                                             "pid-file: @/none/pid\n" HELLO)));
    process_expect(&p, LIMIT_MS,
                   geteuid() == 0 ? 78 : 69); /* before, or when it is to be written */
    assert_int_equal(p.log_bytes, 0);
    char *text = read_file(in_directory("plain-log"));
    assert_int_equal(strncmp(text, "before\n", 7), 0);
    assert_contains(text, "error: cannot start: ");
    free(text);
    process_release(&p);
}

static void assert_runs_as(const struct process *p, const char *name)
{
    char path[64], ids[128];
    const struct passwd *user = getpwnam(name);
    assert_non_null(user);
    (void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)p->pid);
    char *status = read_file(path);
    (void)snprintf(ids, sizeof(ids), "\nUid:\t%u\t%u\t%u\t%u\n", user->pw_uid, user->pw_uid,
                   user->pw_uid, user->pw_uid);
    assert_contains(status, ids);
    (void)snprintf(ids, sizeof(ids), "\nGid:\t%u\t%u\t%u\t%u\n", user->pw_gid, user->pw_gid,
                   user->pw_gid, user->pw_gid);
    assert_contains(status, ids);
    if (user->pw_uid != 0) {
        assert_contains(status, "\nCapPrm:\t0000000000000000\n");
        assert_contains(status, "\nCapEff:\t0000000000000000\n");
    }
    free(status);
}

static void test_root_becomes_nobody_or_who_is_named(void **state)
{
    struct process p;
    (void)state;
    if (geteuid() != 0 || getpwnam("nobody") == NULL || getpwnam("daemon") == NULL)
        skip();
    start(&p, LISTEN HELLO);
    assert_runs_as(&p, "nobody");
    process_release(&p);
    start(&p, LISTEN "user: daemon\n" HELLO);
    assert_runs_as(&p, "daemon");
    process_release(&p);
    start(&p, LISTEN "user: root\n" HELLO);
    assert_runs_as(&p, "root");
    process_release(&p);
    start_with(&p, LISTEN "user: root\n" HELLO, ARGS("--user", "daemon"));
    assert_runs_as(&p, "daemon");
    process_release(&p);
    process_start(&p, NULL, NULL); /* without a file, nobody said that it should */
    assert_runs_as(&p, "root");
    process_release(&p);
}

static void test_drain_as_nobody_warns_of_nothing(void **state)
{
    struct process p;
    (void)state;
    if (geteuid() != 0)
        skip();
    start(&p, LISTEN
          "listen: {host: '::1', port: 0}\nlisten: {type: unix, port: @/n.sock}\n"
          "listen: {host: 127.0.0.2, port: 0, " SSL("a") "}\n"
                                                         "drain: {report: @/report-n}\n" HELLO);
    assert_runs_as(&p, "nobody");
    assert_answer(&p, GET("/"), "Hello World");
    stop(&p);
    assert_contains(p.log, "drained in ");
    assert_lacks(p.log, "warning");
    assert_true(is_there("report-n"));
    process_release(&p);
}

/* ---- what the file says, and what flags say ---- */

static void test_drain_is_as_the_file_says(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "drain: {deadline: 7s, report: @/report}\n" HELLO);
    stop(&p);
    assert_contains(p.log, "draining, 0 requests in flight on 0 connections, deadline 7s");
    process_release(&p);
    char *report = read_file(in_directory("report"));
    json_t *parsed = json_loads(report, 0, NULL);
    assert_non_null(parsed);
    json_decref(parsed);
    free(report);
}

static void test_deadline_of_the_file_ends_the_drain(void **state)
{
    struct process p;
    (void)state;
    start(&p, "drain: {deadline: 50ms}\nnum-threads: 1\n" PATH("handler: sleep"));
    int fd = client_connect(&p);
    client_send(fd, GET("/?ms=60000"));
    for (unsigned i = 0; i < 3; i++) /* turns of the one loop: it is in a worker */
        assert_answer(&p, GET("/?ms=0"), "200 OK");
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 3);
    assert_contains(p.log, "deadline 50ms");
    assert_contains(p.log, "unfinished: GET /?ms=60000");
    (void)close(fd);
    process_release(&p);
}

static void test_pool_is_as_the_file_says(void **state)
{
    struct process p;
    struct pollfd fds[3];
    (void)state;
    start(&p, "pool: {workers: 1, queue: 1}\n" PATH("handler: sleep"));
    for (unsigned i = 0; i < 3; i++) {
        fds[i] = (struct pollfd){.fd = client_connect(&p), .events = POLLIN};
        client_send(fds[i].fd, GET("/?ms=60000"));
    }
    /* One in the worker and one in the queue at most: who is answered now was sent away. */
    assert_true(poll(fds, 3, LIMIT_MS) > 0);
    for (unsigned i = 0; i < 3; i++) {
        if ((fds[i].revents & POLLIN) != 0) {
            char *answer = client_read_answer(fds[i].fd);
            assert_contains(answer, "HTTP/1.1 503 ");
            free(answer);
        }
        (void)close(fds[i].fd);
    }
    process_release(&p);
}

/* The bodies of what is at a worker or waits for one, all together. */
static void test_bodies_have_no_more_memory_than_the_file_says(void **state)
{
    static const char head[] =
        "POST /?ms=60000 HTTP/1.1\r\nHost: test\r\nContent-Length: 700000\r\n\r\n";
    static char body[700000];
    struct process p;
    struct pollfd fds[2];
    (void)state;
    memset(body, 'x', sizeof(body) - 1);
    start(&p, "pool: {max-bodies: 1MB}\n" PATH("handler: sleep"));
    for (unsigned i = 0; i < 2; i++) {
        fds[i] = (struct pollfd){.fd = client_connect(&p), .events = POLLIN};
        client_send(fds[i].fd, head);
        client_send(fds[i].fd, body);
        client_send(fds[i].fd, "x");
    }
    assert_int_equal(poll(fds, 2, LIMIT_MS), 1); /* one of them has the room */
    struct pollfd *refused = (fds[0].revents & POLLIN) != 0 ? &fds[0] : &fds[1];
    char *answer = client_read_answer(refused->fd);
    assert_contains(answer, "HTTP/1.1 503 ");
    assert_contains(answer, "fill the memory");
    free(answer);
    for (unsigned i = 0; i < 2; i++)
        (void)close(fds[i].fd);
    process_release(&p);
}

static void test_flags_override_the_file(void **state)
{
    struct process p;
    (void)state;
    start_with(&p, "drain: {deadline: 7s}\n" LISTEN HELLO, ARGS("--deadline", "3s"));
    stop(&p);
    assert_contains(p.log, "deadline 3s");
    process_release(&p);
    /* But what it says has to be right. */
    assert_ends(
        ARGS("--deadline", "3s", "-c", write_file("x.conf", LISTEN "drain: {deadline: x}\n" HELLO)),
        78, 1, "@/x.conf:2:19: drain: drain.deadline x: want a duration");
}

static void test_listen_flag_replaces_the_listeners_of_the_file(void **state)
{
    struct process p;
    (void)state;
    start_with(&p,
               "listen: {type: unix, port: @/f.sock}\nhosts:\n" HOST(
                   "a.test", "    listen: {type: unix, port: @/g.sock}\n") HOST("b.test", ""),
               ARGS("--listen", "127.0.0.1:0"));
    assert_int_equal(strncmp(p.address, "127.0.0.1:", 10), 0);
    assert_answer(&p, GET_FROM("a.test", "/"), "x-host: a.test\r\n");
    assert_answer(&p, GET_FROM("b.test", "/"), "x-host: b.test\r\n");
    assert_false(is_there("f.sock"));
    assert_false(is_there("g.sock"));
    process_release(&p);
    start_with(&p, HELLO, ARGS("--listen", "127.0.0.1:0")); /* and stands in for them */
    assert_answer(&p, GET("/"), "Hello World");
    process_release(&p);
}

static void test_directive_given_twice_counts_as_given_last(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "drain: {deadline: 7s}\ndrain: {linger: 1s}\ndrain: {deadline: 4s}\n" HELLO);
    stop(&p);
    assert_contains(p.log, "deadline 4s");
    process_release(&p);
}

/* ---- what is served ---- */

static void test_handlers_of_our_own_can_be_anywhere(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "hosts:\n  default:\n    paths:\n      /h: {handler: hello}\n"
                     "      /s: {handler: sleep}\n      /t: {handler: stream}\n");
    assert_answer(&p, GET("/h"), "Hello World");
    assert_answer(&p, "POST /s?ms=1 HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello",
                  "\r\n\r\n5\n");
    assert_answer(&p, GET("/t?kb=3&ms=1"), "\r\nContent-Length: 3072\r\n");
    assert_answer(&p, GET("/other"), " 404 ");
    process_release(&p);
}

static void assert_body_is_answered(const struct process *p, size_t bytes, const char *want)
{
    char head[128];
    int fd = client_connect(p);
    (void)snprintf(head, sizeof(head), "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: %zu\r\n\r\n",
                   bytes);
    client_send(fd, head);
    char *body = malloc(bytes + 1);
    memset(body, 'x', bytes);
    for (size_t sent = 0; sent < bytes;) { /* refused ones need not be taken */
        ssize_t n = send(fd, body + sent, bytes - sent, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    free(body);
    char *answer = client_read_answer(fd);
    assert_contains(answer, want);
    free(answer);
    (void)close(fd);
}

static void test_body_limit_is_16_mib_or_what_is_given(void **state)
{
    struct process p;
    (void)state;
    start(&p, PATH("handler: sleep"));
    assert_body_is_answered(&p, 16 << 20, "\r\n\r\n16777216\n");
    int fd = client_connect(&p); /* its header is enough */
    client_send(fd, "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 16777217\r\n\r\n");
    char *answer = client_read_until(fd, "\r\n\r\n");
    assert_contains(answer, "HTTP/1.1 413 ");
    free(answer);
    (void)close(fd);
    process_release(&p);
    start(&p, "limit-request-body: 10\n" PATH("handler: sleep"));
    assert_body_is_answered(&p, 10, "\r\n\r\n10\n");
    assert_body_is_answered(&p, 11, "HTTP/1.1 413 ");
    process_release(&p);
}

static void test_status_page_has_our_block(void **state)
{
    struct process p;
    (void)state;
    start(&p, "num-threads: 2\nmax-connections: 50\n" PATH("status: ON"));
    int fd = client_connect(&p);
    client_send(fd, "GET /json HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    char *answer = client_read_until(fd, NULL);
    (void)close(fd);
    assert_contains(answer, "HTTP/1.1 200 ");
    const char *begin = strchr(strstr(answer, "\r\n\r\n"), '{');
    assert_non_null(begin);
    json_t *status = json_loads(begin, JSON_DISABLE_EOF_CHECK, NULL);
    if (status == NULL)
        fail_msg("no JSON: %s", answer);
    assert_int_equal(json_integer_value(json_object_get(status, "worker-threads")), 2);
    assert_int_equal(json_integer_value(json_object_get(status, "max-connections")), 50);
    assert_int_equal(json_integer_value(json_object_get(status, "listeners")), 1);
    assert_int_equal(json_integer_value(json_object_get(status, "connections")), 1);
    assert_non_null(json_object_get(status, "server-version"));
    assert_non_null(json_object_get(status, "uptime"));
    json_decref(status);
    free(answer);
    process_release(&p);
}

static void test_included_file_is_found_from_the_working_directory(void **state)
{
    struct process p;
    char before[4096];
    (void)state;
    (void)write_file("hosts.inc", "default: {paths: !file paths.inc}\n");
    (void)write_file("paths.inc", "/: {handler: hello}\n");
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(directory), 0);
    start(&p, LISTEN "hosts: !file hosts.inc\n");
    assert_int_equal(chdir(before), 0);
    assert_answer(&p, GET("/"), "Hello World");
    process_release(&p);
}

static void test_server_name_and_access_log(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "server-name: 'who asks'\naccess-log: @/access-2\n" HELLO);
    assert_answer(&p, GET("/a"), "\r\nServer: who asks\r\n");
    stop(&p);
    process_release(&p);
    char *log = read_file(in_directory("access-2"));
    assert_contains(log, "127.0.0.1 - - [");
    assert_contains(log, "] \"GET /a HTTP/1.1\" 200 12 \"-\" \"-\"\n");
    free(log);
    start(&p, LISTEN HELLO);
    assert_answer(&p, GET("/"), "\r\nServer: lastcall\r\n");
    process_release(&p);
}

static void test_merged_and_aliased_parts_are_served(void **state)
{
    struct process p;
    (void)state;
    start(&p, LISTEN "hosts:\n  a.test: &a\n    paths: {/: {handler: hello}}\n  b.test:\n"
                     "    <<: *a\n    header.set: 'x-host: b'\n");
    assert_answer(&p, GET_FROM("b.test", "/"), "x-host: b\r\n");
    assert_answer(&p, GET_FROM("a.test", "/"), "Hello World");
    process_release(&p);
}

/* ---- all ---- */

static int set_up(void **state)
{
    char binary[4096];
    const char *given = getenv("LASTCALL_BINARY");
    (void)state;
    /* It is run from another directory too, and by a shell. */
    if (realpath(given != NULL ? given : "build/release/lastcall", binary) == NULL ||
        setenv("LASTCALL_BINARY", binary, 1) != 0)
        return -1;
    client = SSL_CTX_new(TLS_client_method());
    if (client == NULL || mkdtemp(directory) == NULL || chmod(directory, 0777) != 0)
        return -1;
    certificate_write(in_directory("a.key"), in_directory("a.crt"));
    certificate_write(in_directory("b.key"), in_directory("b.crt"));
    certificate_write(in_directory("c.key"), in_directory("c.crt"));
    return 0;
}

static int tear_down(void **state)
{
    char command[64];
    (void)state;
    SSL_CTX_free(client);
    (void)snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_unknown_keys_are_refused_wherever_they_are),
        TEST(test_wrong_types_are_refused),
        TEST(test_bad_values_are_refused),
        TEST(test_bad_listeners_are_refused),
        TEST(test_bad_certificates_and_keys_are_refused),
        TEST(test_bad_session_resumption_is_refused),
        TEST(test_directives_in_the_wrong_place_are_refused),
        TEST(test_half_a_configuration_is_refused),
        TEST(test_what_is_no_yaml_is_refused),
        TEST(test_what_is_no_file_is_refused),
        TEST(test_command_line_faults_are_status_64),
        TEST(test_address_in_use_is_status_69_and_has_its_line),
        TEST(test_refusal_leaves_no_socket_behind),
        TEST(test_logs_that_can_not_be_written_are_refused_at_the_start),
        TEST(test_directives_without_use_here_are_warned_of),
        TEST(test_json_log_has_the_place_as_fields),
        TEST(test_check_of_a_good_file_says_so_and_opens_nothing),
        TEST(test_listen_takes_a_port_or_a_mapping),
        TEST(test_unix_socket_has_the_owner_and_mode_that_are_given),
        TEST(test_global_listener_serves_every_host),
        TEST(test_hosts_may_share_an_address_of_theirs),
        TEST(test_global_address_that_a_host_names_too_stays_global),
        TEST(test_certificate_is_chosen_by_name),
        TEST(test_global_certificate_is_shown_unless_a_host_has_its_own),
        TEST(test_versions_have_limits),
        TEST(test_sessions_are_resumed_as_the_mode_says),
        TEST(test_sessions_outlive_a_restart),
        TEST(test_ticket_file_that_is_missing_or_bad_does_not_stop_the_start),
        TEST(test_proxy_line_is_the_clients_address),
        TEST(test_proxy_line_that_is_not_expected_is_no_request),
        TEST(test_proxy_line_comes_before_the_handshake),
        TEST(test_max_connections_holds_others_back),
        TEST(test_pid_file_is_there_while_it_runs),
        TEST(test_files_of_root_are_opened_before_it_is_given_up),
        TEST(test_error_log_takes_over_from_standard_error),
        TEST(test_root_becomes_nobody_or_who_is_named),
        TEST(test_drain_as_nobody_warns_of_nothing),
        TEST(test_drain_is_as_the_file_says),
        TEST(test_deadline_of_the_file_ends_the_drain),
        TEST(test_pool_is_as_the_file_says),
        TEST(test_bodies_have_no_more_memory_than_the_file_says),
        TEST(test_flags_override_the_file),
        TEST(test_listen_flag_replaces_the_listeners_of_the_file),
        TEST(test_directive_given_twice_counts_as_given_last),
        TEST(test_handlers_of_our_own_can_be_anywhere),
        TEST(test_body_limit_is_16_mib_or_what_is_given),
        TEST(test_status_page_has_our_block),
        TEST(test_included_file_is_found_from_the_working_directory),
        TEST(test_server_name_and_access_log),
        TEST(test_merged_and_aliased_parts_are_served),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 600); /* a hang is a failure */
    return cmocka_run_group_tests_name("config", tests, set_up, tear_down);
}

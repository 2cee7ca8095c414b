/* The real process with a configuration file that it refuses, or checks (-t): with one line that
 * names the place, and nothing half-started. */

#include "with_config.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- refusals ---- */

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
        {LISTEN "num-thread: 1\n" HELLO,
         "@/x.conf:2:1: unknown command: num-thread; did you mean num-threads?"},
        {PATH("proxy.revers.url: a"),
         "@/x.conf:6:9: unknown command: proxy.revers.url; did you mean proxy.reverse.url?"},
        {LISTEN "journal.dir: a\n" HELLO,
         "@/x.conf:2:1: unknown command: journal.dir; write it as `journal: {dir: ...}`"},
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

#define URLS(list) PATH("proxy.reverse.url: [" list "]")
#define A "'http://a/x'"

static void test_bad_upstreams_are_refused(void **state)
{
    static const struct refusal cases[] = {
        {URLS(""), "@/x.conf:6:28: proxy.reverse.url: 0 upstreams: want 1 to 64"},
        {URLS(A ", nonsense"), "@/x.conf:6:43: proxy.reverse.url: failed to parse URL nonsense: "},
        {URLS(A ", [b]"), "@/x.conf:6:43: proxy.reverse.url: failed to parse URL (not a text): "},
        {URLS(A ", 'http://b/'"), "@/x.conf:6:43: proxy.reverse.url: http://b/ has another path "
                                  "than the first URL: all of a "
                                  "list need the path /x"},
        {URLS(A ", " A), "@/x.conf:6:43: proxy.reverse.url: http://a/x is there twice: give it a "},
        {URLS("{weight: 2}"), "@/x.conf:6:29: proxy.reverse.url: want a url in this mapping"},
        {URLS("{url: " A ", weight: 0}"),
         "@/x.conf:6:57: proxy.reverse.url: 0: want a whole number from 1 to 256"},
        {URLS("{url: " A ", backup: maybe}"), "@/x.conf:6:57: proxy.reverse.url: argument must be"},
        {URLS("{url: " A ", wait: 1}"),
         "@/x.conf:6:49: proxy.reverse.url: unknown key wait; known are url, weight, backup"},
        {URLS("{url: " A ", backup: ON}"),
         "@/x.conf:6:28: proxy.reverse.url: all upstreams are backups: want one without"},
        {PATH("proxy.balance: random"), "@/x.conf:6:24: proxy.balance: random: want round-robin, "},
        {PATH("proxy.balance: hash(header a b)"), "@/x.conf:6:24: proxy.balance: hash(header a b)"},
        {PATH("proxy.wait: soon"), "@/x.conf:6:21: proxy.wait: argument "},
        {PATH("proxy.wait: -1"), "@/x.conf:6:21: proxy.wait: -1: want a whole number from 0 to "},
        {PATH("proxy.slow-start: 86400001"), "@/x.conf:6:27: proxy.slow-start: 86400001: want a "},
        {PATH("proxy.health: ON"), "@/x.conf:6:23: proxy.health: want OFF, or a mapping of path, "},
        {PATH("proxy.health: {interval: 100}"), "@/x.conf:6:23: proxy.health: want a path to ask "},
        {PATH("proxy.health: {path: ready}"), "@/x.conf:6:30: proxy.health: ready: want a path "},
        {PATH("proxy.health: {path: /, raise: 1}"),
         "@/x.conf:6:33: proxy.health: unknown key raise"},
        {PATH("proxy.eject: 3"),
         "@/x.conf:6:22: proxy.eject: want OFF, or a mapping of failures, "},
        {PATH("proxy.eject: {time: 2000, most: 1000}"),
         "@/x.conf:6:22: proxy.eject: most is 1000 ms, and time is 2000 ms: want most to be no "},
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
        {"listen: {host: 127.0.0.1}\n" HELLO, "@/x.conf:1:9: listen: there is no port"},
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
         "@/x.conf:6:15: listen: the key in @/b.key does not match the certificate in @/a.crt"},
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
        return; /* root may read every file */
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
         "@/x.conf:4:17: ssl-session-resumption: ticket-store file needs a ticket-file"},
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
         "@/x.conf:4:11: pool: it is for the whole server; set it outside of hosts"},
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
        {"a: &x [*x]\n", "@/x.conf:1:8: *x refers to a node that contains it"},
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
    assert_ends(ARGS("-c", good, "--cert", "a"), 64, 1, "--cert and --key need each other");
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

static void test_refusal_leaves_no_socket(void **state)
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

/* Only a start finds these errors. libh2o itself logs why it cannot write an access log. */
static void test_logs_that_cannot_be_written_are_refused_at_the_start(void **state)
{
    (void)state;
    const char *path = write_file("x.conf", LISTEN "access-log: @/none/log\n" HELLO);
    assert_ends(ARGS("-c", path), 78, 1, "error: @/x.conf:2:13: access-log: cannot log to @/none/");
    path = write_file("x.conf", LISTEN "access-log: {path: @/log, format: '%'}\n" HELLO);
    assert_ends(ARGS("-c", path), 78, 2, "error: @/x.conf:2:13: access-log: cannot log to @/log");
    path = write_file("x.conf", LISTEN "error-log: @/none/log\n" HELLO);
    assert_ends(ARGS("-c", path), 78, 1, "error: cannot log to @/none/log: No such file");
}

/* Settings that the server drops with a warning, and does not refuse. */
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

/* ---- all ---- */

#define TEST(name) cmocka_unit_test_teardown(name, process_kill_left)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_unknown_keys_are_refused_wherever_they_are),
        TEST(test_wrong_types_are_refused),
        TEST(test_bad_values_are_refused),
        TEST(test_bad_upstreams_are_refused),
        TEST(test_bad_listeners_are_refused),
        TEST(test_bad_certificates_and_keys_are_refused),
        TEST(test_bad_session_resumption_is_refused),
        TEST(test_directives_in_the_wrong_place_are_refused),
        TEST(test_half_a_configuration_is_refused),
        TEST(test_what_is_no_yaml_is_refused),
        TEST(test_what_is_no_file_is_refused),
        TEST(test_command_line_faults_are_status_64),
        TEST(test_address_in_use_is_status_69_and_has_its_line),
        TEST(test_refusal_leaves_no_socket),
        TEST(test_logs_that_cannot_be_written_are_refused_at_the_start),
        TEST(test_directives_without_use_here_are_warned_of),
        TEST(test_json_log_has_the_place_as_fields),
        TEST(test_check_of_a_good_file_says_so_and_opens_nothing),
    };
    (void)alarm(process_runs_under_valgrind() ? 1200 : 600); /* a hang is a failure */
    return cmocka_run_group_tests_name("config_refusals", tests, with_config_set_up,
                                       remove_directory);
}

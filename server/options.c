#include "options.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <yaml.h>

#include "brotli.h"
#include "cli.h"
#include "clock.h"
#include "coord.h"
#include "h2o_api.h"

enum kind {
    KIND_LISTEN,
    KIND_NUMBER,
    KIND_DURATION,
    KIND_PATH,
    KIND_DESCRIPTOR,
    KIND_ADDRESS,
    KIND_NAME,
    KIND_FORMAT,
    KIND_MODE,
    KIND_SIZE,
    KIND_LIST,
    KIND_SYNC,
    KIND_FLAG
};

struct option_row {
    const char *name;      /* as a flag; NULL: it is none */
    const char *directive; /* in a configuration file; NULL: it is none */
    char letter;           /* short for it, or 0 */
    enum kind kind;
    const char *argument; /* as --help shows it; NULL: none */
    size_t offset;        /* in struct options */
    uint64_t least, most; /* numbers and durations (nanoseconds) */
    const char *fallback; /* as --help shows it */
    const char *help;
    const char *group; /* heading before this row, or NULL */
};

#define AT(field) offsetof(struct options, field)
#define MS(n) ((n)*NS_PER_MS)
#define MIB(n) (UINT64_C(n) << 20)
#define LONG_BASE 1000 /* above every letter */
#define DAY MS(UINT64_C(24) * 3600 * 1000)

static const struct option_row rows[] = {
    {"conf", NULL, 'c', KIND_PATH, "FILE", AT(conf), 0, 0, "none",
     "serve what this configuration file says, in the language of h2o.conf; flags override it",
     "Configuration"},
    {"test", NULL, 't', KIND_FLAG, NULL, AT(test), 0, 0, NULL,
     "check the configuration and exit: status 0, or 78 and a line about what is wrong", NULL},
    {"mode", NULL, 'm', KIND_MODE, "MODE", AT(mode), 0, 0, "worker",
     "worker: serve; master: watch over a worker, and replace it when it dies or at SIGHUP; "
     "daemon: "
     "a master that leaves the terminal; test: check as --test does",
     NULL},
    {"listen", NULL, 0, KIND_LISTEN, "ADDR", 0, 0, 0, "127.0.0.1:8080",
     "accept connections here; may be given several times: 8080 (every interface), 127.0.0.1:8080, "
     "[::1]:8080, localhost:8080, unix:/path, or tls: and one of these; port 0 takes a free one",
     "Serving"},
    {"cert", NULL, 0, KIND_PATH, "FILE", AT(cert), 0, 0, "none",
     "PEM file with the certificate of the tls: listeners, its chain behind it", NULL},
    {"key", NULL, 0, KIND_PATH, "FILE", AT(key), 0, 0, "none",
     "PEM file with the key of that certificate", NULL},
    {"threads", "num-threads", 0, KIND_NUMBER, "N", AT(threads), 1, 256, "one a core",
     "event loops, one thread each", NULL},
    {"workers", "pool.workers", 0, KIND_NUMBER, "N", AT(workers), 1, 4096, "4 a core, at least 8",
     "threads for handlers that block", NULL},
    {"queue", "pool.queue", 0, KIND_NUMBER, "N", AT(queue), 1, 1048576, "1024",
     "requests that may wait for a worker; beyond it the answer is 503 with Retry-After", NULL},
    {"max-bodies", "pool.max-bodies", 0, KIND_SIZE, "SIZE", AT(max_bodies), MIB(1), MIB(1048576),
     "256MB",
     "memory for the bodies of requests that are at workers or wait for one, and as much for those "
     "that wait for the application; beyond it the answer is 503 with Retry-After",
     NULL},
    {"max-connections", "max-connections", 0, KIND_NUMBER, "N", AT(max_connections), 1, 10000000,
     "what ulimit -n allows", "accept no more than this at a time; others wait in the kernel",
     NULL},
    {"root", NULL, 0, KIND_PATH, "DIR", AT(root), 0, 0, "none",
     "serve the files of DIR under /files/", NULL},
    {"proxy", NULL, 0, KIND_PATH, "URL", AT(proxy), 0, 0, "none",
     "hand every request that is not for /files/ to the server at URL", NULL},
    {NULL, "app.url", 0, KIND_PATH, NULL, AT(app_url), 0, 0, NULL, NULL, NULL},
    {"app-health", "app.health", 0, KIND_PATH, "PATH", AT(app_health), 0, 0, "a connection",
     "the application is up when GET PATH is answered with 2xx",
     "The application, `lastcall --proxy URL -- COMMAND`"},
    {"app-start-timeout", "app.start-timeout", 0, KIND_DURATION, "DUR", AT(app_start_timeout_ns),
     MS(1), DAY, "30s", "how long it may take to be up; then this ends, with status 69", NULL},
    {"app-hold", "app.hold", 0, KIND_DURATION, "DUR", AT(app_hold_ns), 0, DAY, "10s",
     "how long a request waits while it starts, or starts again; then the answer is 503", NULL},
    {"app-grace", "app.grace", 0, KIND_DURATION, "DUR", AT(app_grace_ns), 0, DAY, "5s",
     "after the drain: from SIGTERM to SIGKILL for it", NULL},
    {"restart", "app.restart", 0, KIND_FLAG, NULL, AT(app_restart), 0, 0, NULL,
     "start it again when it ends, after 100 ms, 200 ms ... 30 s; else drain, and end with its "
     "status",
     NULL},
    {"deadline", "drain.deadline", 0, KIND_DURATION, "DUR", AT(deadline_ns), 0, DAY, "10s",
     "how long a drain may take once the listeners begin to close; then unfinished requests are "
     "reported and cut",
     "Draining"},
    {"lame-duck", "drain.lame-duck", 0, KIND_DURATION, "DUR", AT(lame_duck_ns), 0, DAY, "0",
     "before the drain: go on accepting for this long, with Connection: close on every answer, "
     "while "
     "balancers notice",
     NULL},
    {"idle-grace", "drain.idle-grace", 0, KIND_DURATION, "DUR", AT(idle_grace_ns), 0, DAY, "1s",
     "in the drain: how long an idle connection may still begin a request", NULL},
    {"spread", "drain.spread", 0, KIND_DURATION, "DUR", AT(spread_ns), 0, DAY, "0",
     "in the drain: let idle connections and HTTP/2 sessions go evenly over this time, so that "
     "their "
     "clients do not all reconnect at once",
     NULL},
    {"deadline-tunnel", "drain.deadlines.tunnel", 0, KIND_DURATION, "DUR", AT(tunnel_ns), MS(1),
     DAY, "--deadline",
     "a deadline of its own, earlier or later, for upgraded connections such as WebSocket", NULL},
    {"deadline-stream", "drain.deadlines.stream", 0, KIND_DURATION, "DUR", AT(stream_ns), MS(1),
     DAY, "--deadline", "likewise for responses that have begun", NULL},
    {"deadline-upload", "drain.deadlines.upload", 0, KIND_DURATION, "DUR", AT(upload_ns), MS(1),
     DAY, "--deadline", "likewise for requests whose body is still arriving", NULL},
    {"linger", "drain.linger", 0, KIND_DURATION, "DUR", AT(linger_ns), MS(1), DAY, "2s",
     "how long a closed connection is kept for a client that does not take its response", NULL},
    {"settle-max", "drain.settle-max", 0, KIND_DURATION, "DUR", AT(settle_max_ns), MS(1), MS(900),
     "250ms", "the most that closing the listeners may wait for handshakes under way", NULL},
    {"grace-budget", "drain.grace-budget", 0, KIND_DURATION, "DUR", AT(grace_budget_ns), 0, DAY,
     "TimeoutStopSec= of our systemd unit, if any",
     "warn at the start if a stop may take longer than this, such as a pod's "
     "terminationGracePeriodSeconds",
     NULL},
    {"when-exists", "drain.when-exists", 0, KIND_PATH, "PATH", AT(when_exists), 0, 0, "none",
     "drain as soon as this file or directory exists", NULL},
    {"when-stale", "drain.when-stale.file", 0, KIND_PATH, "FILE", AT(when_stale), 0, 0, "none",
     "drain when this file is no longer touched, as a supervisor's heartbeat is", NULL},
    {"stale-after", "drain.when-stale.after", 0, KIND_DURATION, "DUR", AT(stale_after_ns), MS(10),
     DAY, "10s", "after how long that is", NULL},
    {"when-closed", "drain.when-closed", 0, KIND_DESCRIPTOR, "FD", AT(when_closed), 0, 0, "none",
     "drain when the other side of this pipe or socket, held by the parent, closes it; 0 is "
     "standard input",
     NULL},
    {"report", "drain.report", 0, KIND_PATH, "FILE", AT(report), 0, 0, "none",
     "write what happened in the drain to FILE, as JSON", NULL},
    {"restart-timeout", "restart.timeout", 0, KIND_DURATION, "DUR", AT(restart_timeout_ns), MS(100),
     DAY, "30s", "at SIGHUP or SIGUSR2: how long the new process may take to get ready",
     "Restarting"},
    {"restart-probation", "restart.probation", 0, KIND_DURATION, "DUR", AT(restart_probation_ns), 0,
     DAY, "1s", "and how long it then has to stay alive before it is let to accept", NULL},
    {"generation-header", NULL, 0, KIND_FLAG, NULL, AT(generation_header), 0, 0, NULL,
     "say Lastcall-Generation: N in every answer, N counting the restarts", NULL},
    {"register", "register.redis.url", 0, KIND_PATH, "URL", AT(register_url), 0, 0, "none",
     "keep this server's address in Redis while it is ready: "
     "redis[s]://[[USER]:PASSWORD@]HOST[:PORT][/DB] or unix:/PATH[?db=N]",
     "Registration"},
    {"register-password-file", "register.redis.password-file", 0, KIND_PATH, "FILE",
     AT(register_password_file), 0, 0, "none", "whose first line is the password for it", NULL},
    {"register-key", "register.redis.key", 0, KIND_PATH, "TEXT", AT(register_key), 0, 0,
     "lastcall/%h:%p",
     "the key; %h is the name of this host, %p the port of the first TCP listener, %i an id of "
     "this "
     "process",
     NULL},
    {"register-address", "register.redis.address", 0, KIND_PATH, "TEXT", AT(register_address), 0, 0,
     "%h:%p", "the address that others reach this server at, with the same names", NULL},
    {"register-value", "register.redis.value", 0, KIND_PATH, "TEXT", AT(register_value), 0, 0,
     "JSON with address, id, host, pid, since",
     "what is kept under the key, with the same names and %a, the address", NULL},
    {"register-ttl", "register.redis.ttl", 0, KIND_DURATION, "DUR", AT(register_ttl_ns), MS(1000),
     DAY, "15s", "it expires so long after this process was killed; renewed every third of it",
     NULL},
    {"journal-dir", "journal.dir", 0, KIND_PATH, "DIR", AT(journal_dir), 0, 0, "none",
     "keep requests that are not answered on record in DIR, so that a crash or a deadline loses "
     "none of them; lastcall replay sends them again",
     "Unfinished requests"},
    {NULL, "journal.methods", 0, KIND_LIST, NULL, AT(journal_methods), 0, 0, NULL, NULL, NULL},
    {NULL, "journal.paths", 0, KIND_LIST, NULL, AT(journal_paths), 0, 0, NULL, NULL, NULL},
    {NULL, "journal.max-body", 0, KIND_SIZE, NULL, AT(journal_max_body), 0, MIB(16), NULL, NULL,
     NULL},
    {NULL, "journal.max-inflight-bytes", 0, KIND_SIZE, NULL, AT(journal_max_inflight_bytes),
     MIB(1) / 4, MIB(32768), NULL, NULL, NULL},
    {NULL, "journal.redact", 0, KIND_LIST, NULL, AT(journal_redact), 0, 0, NULL, NULL, NULL},
    {NULL, "journal.sync", 0, KIND_SYNC, NULL, AT(journal_msync), 0, 0, NULL, NULL, NULL},
    {"journal-redis", "journal.redis.url", 0, KIND_PATH, "URL", AT(journal_redis_url), 0, 0, "none",
     "and hand them to a stream in Redis, which many machines may share; URL as for --register",
     NULL},
    {NULL, "journal.redis.password-file", 0, KIND_PATH, NULL, AT(journal_redis_password_file), 0, 0,
     NULL, NULL, NULL},
    {"journal-redis-stream", "journal.redis.stream", 0, KIND_PATH, "NAME", AT(journal_redis_stream),
     0, 0, "lastcall:unfinished", "the name of that stream", NULL},
    {NULL, "journal.redis.maxlen", 0, KIND_NUMBER, NULL, AT(journal_redis_maxlen), 0,
     UINT64_C(1000000000), NULL, NULL, NULL},
    {NULL, "journal.hold", 0, KIND_FLAG, NULL, AT(journal_hold), 0, 0, NULL, NULL, NULL},
    {"pid-file", "pid-file", 0, KIND_PATH, "FILE", AT(pid_file), 0, 0, "none",
     "write the process id to FILE once connections are accepted; removed at exit", "Running"},
    {"user", "user", 0, KIND_PATH, "NAME", AT(user), 0, 0, NULL,
     "once the listeners are open, become this user (default: with --conf and as root, nobody)",
     NULL},
    {"error-log", "error-log", 0, KIND_PATH, "FILE", AT(error_log), 0, 0, "standard error",
     "log to FILE from the start on; mode daemon wants it", NULL},
    {"heartbeat", "heartbeat.file", 0, KIND_PATH, "FILE", AT(heartbeat), 0, 0, "none",
     "touch this file while every loop turns and the pool moves, in a drain too", NULL},
    {"heartbeat-every", "heartbeat.every", 0, KIND_DURATION, "DUR", AT(heartbeat_every_ns), MS(10),
     DAY, "1s", "how often", NULL},
    {"watchdog-stall", "watchdog.stall", 0, KIND_DURATION, "DUR", AT(stall_ns), 0, DAY, "10s",
     "say of a loop or a worker that it has not moved for so long, and at which request; 0: do not "
     "look",
     NULL},
    {NULL, "tcp-fastopen", 0, KIND_NUMBER, NULL, AT(tcp_fastopen), 0, 65535, NULL, NULL, NULL},
    {"admin", "admin.listen", 0, KIND_ADDRESS, "ADDR", AT(admin), 0, 0,
     "unix:/run/lastcall/NAME.sock, or in $XDG_RUNTIME_DIR/lastcall",
     "answer operators here: probes, metrics, status, drain and undrain; an address as for "
     "--listen "
     "(not tls:), or off",
     "Operating"},
    {"admin-name", "admin.name", 0, KIND_NAME, "NAME", AT(admin_name), 0, 0,
     "the port of the first listener", "NAME in that path", NULL},
    {"admin-token-file", "admin.token-file", 0, KIND_PATH, "FILE", AT(admin_token_file), 0, 0,
     "none",
     "let who sends the secret in the first line of FILE give orders over TCP too; without it, TCP "
     "only answers questions",
     NULL},
    {"log-format", NULL, 0, KIND_FORMAT, "text|json", AT(log_format), 0, 0, "text",
     "lines for people, or one JSON object a line, on standard error", NULL},
    {"quiet", NULL, 0, KIND_FLAG, NULL, AT(quiet), 0, 0, NULL, "log warnings and errors only",
     NULL},
    {"version", NULL, 'v', KIND_FLAG, NULL, 0, 0, 0, NULL, "print the versions and exit", NULL},
    {"help", NULL, 'h', KIND_FLAG, NULL, 0, 0, 0, NULL, "print this and exit", NULL},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* ---- help ---- */

static void print_wrapped(const char *text, size_t indent, size_t width)
{
    size_t column = indent;
    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        if (column > indent && column + 1 + word > width) {
            (void)printf("\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            (void)putchar(' ');
            column++;
        }
        (void)fwrite(text, 1, word, stdout);
        column += word;
        text += word;
        text += strspn(text, " ");
    }
    (void)putchar('\n');
}

static void print_help(void)
{
    (void)printf(
        "Usage: lastcall [OPTION]... [-- PROGRAM [ARG]...]\n       lastcall COMMAND [OPTION]...\n\n"
        "An HTTP server that stops without losing a request: SIGTERM, SIGINT or SIGQUIT "
        "drains it,\na second one cuts the drain short. PROGRAM is your application, at the URL of "
        "--proxy: started first,\nstopped last.\n");
    for (size_t i = 0; i < ROWS; i++) {
        char left[64], text[512];
        const struct option_row *row = &rows[i];
        if (row->name == NULL)
            continue;
        if (row->group != NULL)
            (void)printf("\n%s:\n", row->group);
        (void)snprintf(left, sizeof(left), "  %c%c%s--%s%s%s", row->letter != 0 ? '-' : ' ',
                       row->letter != 0 ? row->letter : ' ', row->letter != 0 ? ", " : "  ",
                       row->name, row->argument != NULL ? " " : "",
                       row->argument != NULL ? row->argument : "");
        (void)snprintf(
            text, sizeof(text), "%s%s%s%s", row->help, row->fallback != NULL ? " (default: " : "",
            row->fallback != NULL ? row->fallback : "", row->fallback != NULL ? ")" : "");
        (void)printf("%-30s", left);
        if (strlen(left) >= 30) /* a name of its own line */
            (void)printf("\n%30s", "");
        print_wrapped(text, 30, 100);
    }
    (void)fputs("\nCommands, each with its own --help:\n", stdout);
    cli_print_commands();
    (void)printf(
        "\nDurations are written 250ms, 10s, 2m, 1h.\n\n"
        "Routes without --conf and --proxy: / waits 3 s in a worker; /hello answers at once; "
        "/sleep?ms=N blocks a "
        "worker;\n/stream?kb=N&ms=M sends N KiB over M ms; /files/ serves --root.\n\n"
        "Exit status: 0 drained clean; 3 the deadline passed, unfinished requests are "
        "reported;\n4 forced by a second signal; 64 wrong usage; 69 cannot listen, or cannot "
        "start the application;\n78 wrong configuration; otherwise that of the application, which "
        "ended by itself.\n");
}

static void print_version(void)
{
    uint32_t brotli = brotli_version();

    (void)printf("lastcall %s\nlibh2o: %s\nOpenSSL: %s\nlibyaml: %s\nlibbrotli: "
                 "%u.%u.%u\njansson: %s\n",
                 LASTCALL_VERSION, H2O_VERSION, OpenSSL_version(OPENSSL_VERSION),
                 yaml_get_version_string(), brotli >> 24, brotli >> 12 & 0xfff, brotli & 0xfff,
                 JANSSON_VERSION);
}

/* ---- values ---- */

static int usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int usage(const char *format, ...)
{
    va_list args;

    (void)fputs("lastcall: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputs("; see lastcall --help\n", stderr);
    return COORD_EXIT_USAGE;
}

/* The parsers return NULL, or what is wanted; `want` has room for it. */
#define WANT_SIZE OPTIONS_WANT_SIZE

static const char *set_number(const struct option_row *row, const char *text, uint64_t *ret_number,
                              char *want)
{
    char *end;

    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && number >= row->least &&
        number <= row->most) {
        *ret_number = number;
        return NULL;
    }
    (void)snprintf(want, WANT_SIZE, "want a whole number from %llu to %llu",
                   (unsigned long long)row->least, (unsigned long long)row->most);
    return want;
}

static const char *set_duration(const struct option_row *row, const char *text, uint64_t *ret_ns,
                                char *want)
{
    char least[CLOCK_TEXT_SIZE], most[CLOCK_TEXT_SIZE];
    uint64_t ns;

    if (clock_parse_duration(text, &ns) != 0)
        return "want a duration such as 250ms, 10s or 2m";
    if (ns >= row->least && ns <= row->most) {
        *ret_ns = ns;
        return NULL;
    }
    (void)snprintf(want, WANT_SIZE, "want a duration from %s to %s",
                   row->least == 0 ? "0" : clock_format_duration(row->least, least),
                   clock_format_duration(row->most, most));
    return want;
}

/* `4096`, `64KB`, `1MB`, `2GB`; K is 1024. */
static const char *set_size(const struct option_row *row, const char *text, uint64_t *ret_bytes,
                            char *want)
{
    static const char units[] = "KMG";
    char *end;

    errno = 0;
    unsigned long long bytes = strtoull(text, &end, 10);
    const char *unit = *end != '\0' ? strchr(units, *end & ~0x20) : NULL;
    unsigned shift = unit != NULL ? 10 * (unsigned)(unit - units + 1) : 0;
    end += unit != NULL;
    end += unit != NULL && *end == 'i';
    end += unit != NULL && (*end == 'B' || *end == 'b');
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 &&
        bytes <= UINT64_MAX >> shift && bytes << shift >= row->least &&
        bytes << shift <= row->most) {
        *ret_bytes = bytes << shift;
        return NULL;
    }
    (void)snprintf(want, WANT_SIZE, "want a size from %lluKB to %lluMB, such as 512KB or 64MB",
                   (unsigned long long)row->least >> 10, (unsigned long long)row->most >> 20);
    return want;
}

static const char *set_descriptor(const char *text, int *ret_fd)
{
    char *end;
    long fd = strtol(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || *end != '\0' || fd > INT_MAX ||
        fcntl((int)fd, F_GETFD) < 0)
        return "want the number of an open descriptor";
    *ret_fd = (int)fd;
    return NULL;
}

/* What can be said without opening anything; listener_open() has the last word. */
static const char *set_address(const char *text, const char **ret_address)
{
    const char *colon = strrchr(text, ':'), *port = colon != NULL ? colon + 1 : text;
    static const char want[] =
        "want PORT, HOST:PORT, [IPV6]:PORT, unix:/PATH or off (there is no TLS on it)";

    if (strncmp(text, "tls:", 4) == 0 || strcmp(text, "unix:") == 0)
        return want;
    if (strcmp(text, "off") != 0 && strncmp(text, "unix:", 5) != 0 &&
        (port[0] == '\0' || port[strspn(port, "0123456789")] != '\0'))
        return want;
    *ret_address = text;
    return NULL;
}

/* It becomes the name of a file. */
static const char *set_name(const char *text, const char **ret_name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = strlen(text);

    if (n < 1 || n > OPTIONS_NAME_MAX || strspn(text, allowed) != n || text[0] == '.')
        return "want 1 to 48 letters, digits, dots, underscores or hyphens, no dot first";
    *ret_name = text;
    return NULL;
}

static const char *set_mode(const char *text, struct options *options)
{
    static const char *const names[] = {[OPTIONS_MODE_WORKER] = "worker",
                                        [OPTIONS_MODE_TEST] = "test",
                                        [OPTIONS_MODE_MASTER] = "master",
                                        [OPTIONS_MODE_DAEMON] = "daemon"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            options->mode = (enum options_mode)i;
            options->test = options->mode == OPTIONS_MODE_TEST;
            return NULL;
        }
    }
    return "want worker, master, daemon or test";
}

static const char *set_value(const struct option_row *row, const char *text,
                             struct options *options, char *want)
{
    void *at = (char *)options + row->offset;

    switch (row->kind) {
    case KIND_LISTEN:
        if (options->listen_count == OPTIONS_LISTEN_MAX)
            return "no more than 64 addresses";
        options->listen[options->listen_count++] = text;
        return NULL;
    case KIND_NUMBER:
        return set_number(row, text, at, want);
    case KIND_DURATION:
        return set_duration(row, text, at, want);
    case KIND_PATH:
        if (text[0] == '\0')
            return "want a text that is not empty";
        *(const char **)at = text;
        return NULL;
    case KIND_DESCRIPTOR:
        return set_descriptor(text, at);
    case KIND_ADDRESS:
        return set_address(text, at);
    case KIND_NAME:
        return set_name(text, at);
    case KIND_FORMAT:
        if (strcmp(text, "text") != 0 && strcmp(text, "json") != 0)
            return "want text or json";
        options->log_format = text[0] == 'j' ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT;
        return NULL;
    case KIND_MODE:
        return set_mode(text, options);
    case KIND_SIZE:
        return set_size(row, text, at, want);
    case KIND_LIST:
        *(const char **)at = text;
        return NULL;
    case KIND_SYNC:
        *(bool *)at = strcmp(text, "msync") == 0;
        return *(bool *)at || strcmp(text, "none") == 0 ? NULL : "want none or msync";
    case KIND_FLAG: /* on the command line it has no text */
        if (text[0] != '\0' && strcasecmp(text, "ON") != 0 && strcasecmp(text, "OFF") != 0)
            return "want ON or OFF";
        *(bool *)at = strcasecmp(text, "OFF") != 0;
        return NULL;
    }
    return NULL;
}

static bool is_set(const struct options *options, const struct option_row *row)
{
    return options->given[row - rows];
}

bool options_has_directive(const char *directive)
{
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].directive != NULL && strcmp(rows[i].directive, directive) == 0)
            return true;
    return false;
}

bool options_is_list(const char *directive)
{
    for (size_t i = 0; i < ROWS; i++)
        if (rows[i].directive != NULL && strcmp(rows[i].directive, directive) == 0)
            return rows[i].kind == KIND_LIST;
    return false;
}

/* What follows `GROUP.` in a directive; NULL: it is none of the group's. */
static const char *below(const char *directive, const char *group)
{
    size_t n = strlen(group);
    return directive != NULL && n > 0 && strncmp(directive, group, n) == 0 && directive[n] == '.'
               ? directive + n + 1
               : NULL;
}

bool options_has_group(const char *group)
{
    for (size_t i = 0; i < ROWS; i++)
        if (below(rows[i].directive, group) != NULL)
            return true;
    return false;
}

const char *options_names_of_group(const char *group, char *names)
{
    size_t n = 0;

    names[0] = '\0';
    for (size_t i = 0; i < ROWS; i++) {
        const char *name = below(rows[i].directive, group);
        size_t length = name != NULL ? strcspn(name, ".") : 0;
        /* The keys of a group below come one behind the other, and name it once. */
        if (name == NULL || (n >= length && strncmp(names + n - length, name, length) == 0))
            continue;
        n += (size_t)snprintf(names + n, OPTIONS_NAMES_SIZE - n, "%s%.*s", n > 0 ? ", " : "",
                              (int)length, name);
        if (n >= OPTIONS_NAMES_SIZE)
            break;
    }
    return names;
}

const char *options_set_directive(struct options *options, const char *directive, const char *text,
                                  char *want)
{
    struct options scratch = *options;

    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].directive == NULL || strcmp(rows[i].directive, directive) != 0)
            continue;
        /* What a flag overrides has to be right all the same. */
        return set_value(&rows[i], text, is_set(options, &rows[i]) ? &scratch : options, want);
    }
    return "there is no such setting";
}

static void set_defaults(struct options *options)
{
    uint64_t cores = (uint64_t)get_nprocs();

    memset(options, 0, sizeof(*options));
    options->threads = cores < 256 ? cores : 256;
    options->workers = 4 * cores < 8 ? 8 : 4 * cores < 4096 ? 4 * cores : 4096;
    options->queue = 1024;
    options->max_bodies = MIB(256);
    options->deadline_ns = 10 * NS_PER_S;
    options->idle_grace_ns = 1 * NS_PER_S;
    options->linger_ns = 2 * NS_PER_S;
    options->settle_max_ns = 250 * NS_PER_MS;
    options->stale_after_ns = 10 * NS_PER_S;
    options->heartbeat_every_ns = 1 * NS_PER_S;
    options->stall_ns = 10 * NS_PER_S;
    options->register_key = "lastcall/%h:%p";
    options->register_address = "%h:%p";
    options->register_ttl_ns = 15 * NS_PER_S;
    options->when_closed = -1;
    options->app_start_timeout_ns = 30 * NS_PER_S;
    options->app_hold_ns = 10 * NS_PER_S;
    options->app_grace_ns = 5 * NS_PER_S;
    options->journal_redis_stream = "lastcall:unfinished";
    options->journal_methods = "POST,PUT,PATCH,DELETE";
    options->journal_redact = "authorization,proxy-authorization,cookie";
    options->journal_max_body = MIB(1);
    options->journal_max_inflight_bytes = MIB(64);
    options->restart_timeout_ns = 30 * NS_PER_S;
    options->restart_probation_ns = 1 * NS_PER_S;
    options->conns_fd = -1;
    options->generation = 1;
}

static int set_flag(const struct option_row *row, const char *text, struct options *options)
{
    char want[WANT_SIZE];

    if (row->letter == 'h') {
        print_help();
        return 0;
    }
    if (row->letter == 'v') {
        print_version();
        return 0;
    }
    const char *wanted = set_value(row, text, options, want);
    if (wanted != NULL)
        return usage("--%s%s%s: %s", row->name, text[0] != '\0' ? " " : "", text, wanted);
    options->given[row - rows] = true;
    return -1;
}

static int check_together(struct options *options)
{
    if (options->conf != NULL && (options->root != NULL || options->proxy != NULL))
        return usage("--%s and --conf: the file says what is served",
                     options->root != NULL ? "root" : "proxy");
    if (options->command != NULL && options->conf == NULL && options->proxy == NULL)
        return usage("-- %s: where will it answer? --proxy URL says so", options->command[0]);
    if (options->command != NULL && options->conf == NULL)
        options->app_url = options->proxy;
    return -1;
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
    struct option longs[ROWS + 1] = {0};
    /* "+": what is no option ends them; ":": a missing value is told from an unknown option */
    char shorts[2 * ROWS + 3] = "+:";
    int choice, index, count = 0, letters = 2, at = optind;

    static_assert(ROWS <= OPTIONS_ROWS_MAX, "given[] has a place for each");
    set_defaults(ret_options);
    const char *slash = strrchr(argv[0], '/');
    ret_options->stands_in_for_h2o = strcmp(slash != NULL ? slash + 1 : argv[0], "h2o") == 0;
    for (size_t i = 0; i < ROWS; i++) {
        const struct option_row *row = &rows[i];
        if (row->name == NULL)
            continue;
        longs[count].name = row->name;
        longs[count].has_arg = row->argument != NULL ? required_argument : no_argument;
        longs[count++].val = LONG_BASE + (int)i;
        if (row->letter != 0) {
            shorts[letters++] = row->letter;
            if (row->argument != NULL)
                shorts[letters++] = ':';
        }
    }
    opterr = 0;
    while ((choice = getopt_long(argc, argv, shorts, longs, &index)) != -1) {
        if (choice == ':')
            return usage("%s: wants a value", argv[optind - 1]);
        if (choice == '?' && optopt > 0 && optopt < LONG_BASE)
            return usage("-%c: no such option", optopt);
        if (choice == '?')
            return usage("%s: no such option", argv[optind - 1]);
        const struct option_row *row = &rows[choice >= LONG_BASE ? choice - LONG_BASE : 0];
        for (size_t i = 0; choice < LONG_BASE && i < ROWS; i++)
            if (rows[i].letter == choice)
                row = &rows[i];
        int status = set_flag(row, optarg != NULL ? optarg : "", ret_options);
        if (status >= 0)
            return status;
        at = optind;
    }
    if (at < argc && strcmp(argv[at], "--") == 0) {
        if (optind == argc)
            return usage("--: wants the command of an application behind it");
        ret_options->command = argv + optind;
    } else if (optind < argc) {
        return usage("%s: not an option", argv[optind]);
    }
    return check_together(ret_options);
}

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
#include "clock.h"
#include "coord.h"
#include "h2o_api.h"

enum kind {
    KIND_LISTEN,
    KIND_NUMBER,
    KIND_DURATION,
    KIND_PATH,
    KIND_DESCRIPTOR,
    KIND_FORMAT,
    KIND_MODE,
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
    {"max-connections", "max-connections", 0, KIND_NUMBER, "N", AT(max_connections), 1, 10000000,
     "what ulimit -n allows", "accept no more than this at a time; others wait in the kernel",
     NULL},
    {"root", NULL, 0, KIND_PATH, "DIR", AT(root), 0, 0, "none",
     "serve the files of DIR under /files/", NULL},
    {"proxy", NULL, 0, KIND_PATH, "URL", AT(proxy), 0, 0, "none",
     "hand every request that is not for /files/ to the server at URL", NULL},
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
    {"linger", "drain.linger", 0, KIND_DURATION, "DUR", AT(linger_ns), MS(1), DAY, "2s",
     "how long a closed connection is kept for a client that does not take its response", NULL},
    {"settle-max", "drain.settle-max", 0, KIND_DURATION, "DUR", AT(settle_max_ns), MS(1), MS(900),
     "250ms", "the most that closing the listeners may wait for handshakes under way", NULL},
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
    {"pid-file", "pid-file", 0, KIND_PATH, "FILE", AT(pid_file), 0, 0, "none",
     "write the process id to FILE once connections are accepted; removed at exit", "Running"},
    {"user", "user", 0, KIND_PATH, "NAME", AT(user), 0, 0, NULL,
     "once the listeners are open, become this user (default: with --conf and as root, nobody)",
     NULL},
    {"error-log", "error-log", 0, KIND_PATH, "FILE", AT(error_log), 0, 0, "standard error",
     "log to FILE from the start on; mode daemon wants it", NULL},
    {NULL, "tcp-fastopen", 0, KIND_NUMBER, NULL, AT(tcp_fastopen), 0, 65535, NULL, NULL, NULL},
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
    (void)printf("Usage: lastcall [OPTION]...\n\n"
                 "An HTTP server that stops without losing a request: SIGTERM, SIGINT or SIGQUIT "
                 "drains it,\na second one cuts the drain short.\n");
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
        print_wrapped(text, 30, 100);
    }
    (void)printf(
        "\nDurations are written 250ms, 10s, 2m, 1h.\n\n"
        "Routes without --conf and --proxy: / waits 3 s in a worker; /hello answers at once; "
        "/sleep?ms=N blocks a "
        "worker;\n/stream?kb=N&ms=M sends N KiB over M ms; /files/ serves --root.\n\n"
        "Exit status: 0 drained clean; 3 the deadline passed, unfinished requests are "
        "reported;\n4 forced by a second signal; 64 wrong usage; 69 cannot listen; 78 wrong "
        "configuration.\n");
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
    case KIND_FORMAT:
        if (strcmp(text, "text") != 0 && strcmp(text, "json") != 0)
            return "want text or json";
        options->log_format = text[0] == 'j' ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT;
        return NULL;
    case KIND_MODE:
        return set_mode(text, options);
    case KIND_FLAG:
        *(bool *)at = true;
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
    options->deadline_ns = 10 * NS_PER_S;
    options->idle_grace_ns = 1 * NS_PER_S;
    options->linger_ns = 2 * NS_PER_S;
    options->settle_max_ns = 250 * NS_PER_MS;
    options->stale_after_ns = 10 * NS_PER_S;
    options->when_closed = -1;
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

static int check_together(const struct options *options)
{
    if (options->conf != NULL && (options->root != NULL || options->proxy != NULL))
        return usage("--%s and --conf: the file says what is served",
                     options->root != NULL ? "root" : "proxy");
    return -1;
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
    struct option longs[ROWS + 1] = {0};
    char shorts[2 * ROWS + 2] = ":"; /* ":": a missing value is told from an unknown option */
    int choice, index, count = 0, letters = 1;

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
    }
    if (optind < argc)
        return usage("%s: not an option", argv[optind]);
    return check_together(ret_options);
}

#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "clock.h"
#include "coord.h"
#include "h2o_api.h"

enum kind { KIND_LISTEN, KIND_NUMBER, KIND_DURATION, KIND_PATH, KIND_FORMAT, KIND_FLAG };

struct option_row {
    const char *name;
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
#define DAY MS(UINT64_C(24) * 3600 * 1000)

static const struct option_row rows[] = {
    {"listen", KIND_LISTEN, "ADDR", 0, 0, 0, "127.0.0.1:8080",
     "accept connections here; may be given several times: 8080 (every interface), 127.0.0.1:8080, "
     "[::1]:8080, localhost:8080, unix:/path, or tls: and one of these; port 0 takes a free one",
     "Serving"},
    {"cert", KIND_PATH, "FILE", AT(cert), 0, 0, "none",
     "PEM file with the certificate of the tls: listeners, its chain behind it", NULL},
    {"key", KIND_PATH, "FILE", AT(key), 0, 0, "none", "PEM file with the key of that certificate",
     NULL},
    {"threads", KIND_NUMBER, "N", AT(threads), 1, 256, "one a core", "event loops, one thread each",
     NULL},
    {"workers", KIND_NUMBER, "N", AT(workers), 1, 4096, "4 a core, at least 8",
     "threads for handlers that block", NULL},
    {"queue", KIND_NUMBER, "N", AT(queue), 1, 1048576, "1024",
     "requests that may wait for a worker; beyond it the answer is 503 with Retry-After", NULL},
    {"max-connections", KIND_NUMBER, "N", AT(max_connections), 1, 10000000, "what ulimit -n allows",
     "accept no more than this at a time; others wait in the kernel", NULL},
    {"root", KIND_PATH, "DIR", AT(root), 0, 0, "none", "serve the files of DIR under /files/",
     NULL},
    {"deadline", KIND_DURATION, "DUR", AT(deadline_ns), 0, DAY, "10s",
     "how long a drain may take once the listeners begin to close; then unfinished requests are "
     "reported and cut",
     "Draining"},
    {"lame-duck", KIND_DURATION, "DUR", AT(lame_duck_ns), 0, DAY, "0",
     "before the drain: go on accepting for this long, with Connection: close on every answer, "
     "while "
     "balancers notice",
     NULL},
    {"idle-grace", KIND_DURATION, "DUR", AT(idle_grace_ns), 0, DAY, "1s",
     "in the drain: how long an idle connection may still begin a request", NULL},
    {"linger", KIND_DURATION, "DUR", AT(linger_ns), MS(1), DAY, "2s",
     "how long a closed connection is kept for a client that does not take its response", NULL},
    {"settle-max", KIND_DURATION, "DUR", AT(settle_max_ns), MS(1), MS(900), "250ms",
     "the most that closing the listeners may wait for handshakes under way", NULL},
    {"report", KIND_PATH, "FILE", AT(report), 0, 0, "none",
     "write what happened in the drain to FILE, as JSON", NULL},
    {"pid-file", KIND_PATH, "FILE", AT(pid_file), 0, 0, "none",
     "write the process id to FILE once connections are accepted; removed at exit", "Running"},
    {"log-format", KIND_FORMAT, "text|json", AT(log_format), 0, 0, "text",
     "lines for people, or one JSON object a line, on standard error", NULL},
    {"quiet", KIND_FLAG, NULL, AT(quiet), 0, 0, NULL, "log warnings and errors only", NULL},
    {"version", KIND_FLAG, NULL, 0, 0, 0, NULL, "print the versions and exit", NULL},
    {"help", KIND_FLAG, NULL, 0, 0, 0, NULL, "print this and exit", NULL},
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
        if (row->group != NULL)
            (void)printf("\n%s:\n", row->group);
        (void)snprintf(left, sizeof(left), "  --%s%s%s", row->name,
                       row->argument != NULL ? " " : "",
                       row->argument != NULL ? row->argument : "");
        (void)snprintf(
            text, sizeof(text), "%s%s%s%s", row->help, row->fallback != NULL ? " (default: " : "",
            row->fallback != NULL ? row->fallback : "", row->fallback != NULL ? ")" : "");
        (void)printf("%-24s", left);
        print_wrapped(text, 24, 96);
    }
    (void)printf(
        "\nDurations are written 250ms, 10s, 2m, 1h.\n\n"
        "Routes: / waits 3 s in a worker; /hello answers at once; /sleep?ms=N blocks a "
        "worker;\n/stream?kb=N&ms=M sends N KiB over M ms; /files/ serves --root.\n\n"
        "Exit status: 0 drained clean; 3 the deadline passed, unfinished requests are "
        "reported;\n4 forced by a second signal; 64 wrong usage; 69 cannot listen; 78 wrong "
        "configuration.\n");
}

static void print_version(void)
{
    (void)printf("lastcall %s\nlibh2o: %s\nopenssl: %s\njansson: %s\n", LASTCALL_VERSION,
                 H2O_VERSION, OpenSSL_version(OPENSSL_VERSION), JANSSON_VERSION);
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

static int set_number(const struct option_row *row, const char *text, uint64_t *ret_number)
{
    char *end;

    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || number < row->least ||
        number > row->most)
        return usage("--%s %s: want a whole number from %llu to %llu", row->name, text,
                     (unsigned long long)row->least, (unsigned long long)row->most);
    *ret_number = number;
    return -1;
}

static int set_duration(const struct option_row *row, const char *text, uint64_t *ret_ns)
{
    char least[CLOCK_TEXT_SIZE], most[CLOCK_TEXT_SIZE];
    uint64_t ns;

    if (clock_parse_duration(text, &ns) != 0)
        return usage("--%s %s: want a duration such as 250ms, 10s or 2m", row->name, text);
    if (ns < row->least || ns > row->most)
        return usage("--%s %s: want a duration from %s to %s", row->name, text,
                     row->least == 0 ? "0" : clock_format_duration(row->least, least),
                     clock_format_duration(row->most, most));
    *ret_ns = ns;
    return -1;
}

static int set_value(const struct option_row *row, const char *text, struct options *options)
{
    void *at = (char *)options + row->offset;

    switch (row->kind) {
    case KIND_LISTEN:
        if (options->listen_count == OPTIONS_LISTEN_MAX)
            return usage("--listen %s: no more than %d addresses", text, OPTIONS_LISTEN_MAX);
        options->listen[options->listen_count++] = text;
        return -1;
    case KIND_NUMBER:
        return set_number(row, text, at);
    case KIND_DURATION:
        return set_duration(row, text, at);
    case KIND_PATH:
        if (text[0] == '\0')
            return usage("--%s: want a path", row->name);
        *(const char **)at = text;
        return -1;
    case KIND_FORMAT:
        if (strcmp(text, "text") != 0 && strcmp(text, "json") != 0)
            return usage("--%s %s: want text or json", row->name, text);
        options->log_format = text[0] == 'j' ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT;
        return -1;
    case KIND_FLAG:
        break;
    }
    if (strcmp(row->name, "help") == 0) {
        print_help();
        return 0;
    }
    if (strcmp(row->name, "version") == 0) {
        print_version();
        return 0;
    }
    *(bool *)at = true;
    return -1;
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
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
    struct option longs[ROWS + 1];
    int choice, index;

    set_defaults(ret_options);
    memset(longs, 0, sizeof(longs));
    for (size_t i = 0; i < ROWS; i++) {
        longs[i].name = rows[i].name;
        longs[i].has_arg = rows[i].argument != NULL ? required_argument : no_argument;
        longs[i].val = 1;
    }
    opterr = 0;
    while ((choice = getopt_long(argc, argv, ":h", longs, &index)) != -1) {
        if (choice == ':')
            return usage("%s: wants a value", argv[optind - 1]);
        if (choice == '?')
            return usage("%s: no such option", argv[optind - 1]);
        if (choice == 'h') {
            print_help();
            return 0;
        }
        int status = set_value(&rows[index], optarg, ret_options);
        if (status >= 0)
            return status;
    }
    if (optind < argc)
        return usage("%s: not an option", argv[optind]);
    if (ret_options->listen_count == 0)
        ret_options->listen[ret_options->listen_count++] = "127.0.0.1:8080";
    return -1;
}

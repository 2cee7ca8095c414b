#include "loadgen.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* lastcall-load: one load against a server on this machine, and what became of each request.
 *
 * Exit status: 0 every request was answered or refused; 1 at least one was lost or still waiting;
 * 64 wrong usage; 69 nobody could connect; 71 this machine could not run the load. */

#ifndef LASTCALL_VERSION
#define LASTCALL_VERSION "unknown"
#endif

enum { EXIT_LOST = 1, EXIT_USAGE = 64, EXIT_UNAVAILABLE = 69, EXIT_OSERR = 71 };

struct command {
    struct load_options load;
    pid_t signal_pid;
    uint32_t signal_after_ms;
    bool json;
};

/* --- the options: one table for the parser and for --help --- */

struct option_row {
    const char *name;
    const char *value; /* NULL: takes none */
    const char *help;
    bool (*parse)(struct command *cmd, const char *value);
};

static bool parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *ret_number,
                         const char **ret_rest)
{
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0 || number < min || number > max)
        return false;
    *ret_number = number;
    *ret_rest = end;
    return true;
}

/* `250ms`, `10s`, `2m`; a bare number is seconds. */
static bool parse_duration(const char *text, uint32_t *ret_ms)
{
    uint64_t number;
    const char *unit;
    uint64_t factor = 0;

    if (!parse_number(text, 0, UINT32_MAX, &number, &unit))
        return false;
    if (strcmp(unit, "ms") == 0)
        factor = 1;
    else if (strcmp(unit, "s") == 0 || *unit == '\0')
        factor = 1000;
    else if (strcmp(unit, "m") == 0)
        factor = 60000;
    if (factor == 0 || number * factor > UINT32_MAX)
        return false;
    *ret_ms = (uint32_t)(number * factor);
    return true;
}

static bool parse_count(const char *text, uint64_t min, uint64_t max, uint64_t *ret_count)
{
    const char *rest;

    return parse_number(text, min, max, ret_count, &rest) && *rest == '\0';
}

static bool parse_connections(struct command *cmd, const char *value)
{
    uint64_t n = 0;
    bool ok = parse_count(value, 1, 65536, &n);

    cmd->load.connections = (unsigned)n;
    return ok;
}

static bool parse_protocol(struct command *cmd, const char *value)
{
    static const char *const names[] = {
        [LOAD_HTTP1_CLOSE] = "close",
        [LOAD_HTTP1_KEEPALIVE] = "keepalive",
        [LOAD_HTTP2] = "h2",
    };

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(value, names[i]) == 0) {
            cmd->load.protocol = (enum load_protocol)i;
            return true;
        }
    }
    return false;
}

static bool parse_streams(struct command *cmd, const char *value)
{
    uint64_t n = 0;
    bool ok = parse_count(value, 1, 65536, &n);

    cmd->load.streams = (unsigned)n;
    return ok;
}

static bool parse_method(struct command *cmd, const char *value)
{
    cmd->load.method = value;
    return strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == strlen(value) && value[0] != '\0';
}

static bool parse_path(struct command *cmd, const char *value)
{
    cmd->load.path = value;
    return value[0] == '/' && strpbrk(value, " \t\r\n") == NULL;
}

static bool parse_body(struct command *cmd, const char *value)
{
    uint64_t n = 0;
    bool ok = parse_count(value, 0, UINT64_C(1) << 30, &n);

    cmd->load.body_bytes = (size_t)n;
    return ok;
}

static bool parse_requests(struct command *cmd, const char *value)
{
    return parse_count(value, 1, UINT64_MAX, &cmd->load.max_requests);
}

static bool parse_pause(struct command *cmd, const char *value)
{
    return parse_duration(value, &cmd->load.pause_ms);
}

static bool parse_run(struct command *cmd, const char *value)
{
    return parse_duration(value, &cmd->load.duration_ms);
}

static bool parse_patience(struct command *cmd, const char *value)
{
    return parse_duration(value, &cmd->load.patience_ms);
}

static bool parse_expect(struct command *cmd, const char *value)
{
    cmd->load.expect_body = value;
    return true;
}

static bool parse_signal(struct command *cmd, const char *value)
{
    uint64_t pid;
    const char *rest;

    if (!parse_number(value, 2, INT32_MAX, &pid, &rest))
        return false;
    cmd->signal_pid = (pid_t)pid;
    return *rest == '\0' || (*rest == ':' && parse_duration(rest + 1, &cmd->signal_after_ms));
}

static bool parse_json(struct command *cmd, const char *value)
{
    (void)value; /* takes none */
    cmd->json = true;
    return true;
}

static const struct option_row option_rows[] = {
    {"connections", "N", "clients at once, 1..65536 (default 16)", parse_connections},
    {"protocol", "NAME", "close, keepalive or h2 (default keepalive)", parse_protocol},
    {"streams", "N", "h2: requests at once on a connection (default 1)", parse_streams},
    {"method", "NAME", "(default GET, or POST with a body)", parse_method},
    {"path", "PATH", "(default /hello)", parse_path},
    {"body", "BYTES", "length of the request body (default 0)", parse_body},
    {"requests", "N", "stop after so many requests (default: no limit)", parse_requests},
    {"pause", "DUR", "between an answer and the next request (default 0)", parse_pause},
    {"duration", "DUR", "no new requests after this (default 10s)", parse_run},
    {"patience", "DUR", "then wait so long for answers (default 10s)", parse_patience},
    {"expect", "TEXT", "an answer with another body counts as lost", parse_expect},
    {"signal", "PID[:DUR]", "send SIGTERM to PID after DUR (default 1s); end when it is gone",
     parse_signal},
    {"json", NULL, "print one line of JSON", parse_json},
    {"help", NULL, "print this", NULL},
    {"version", NULL, "print the version", NULL},
};

#define ROWS (sizeof(option_rows) / sizeof(option_rows[0]))

static void print_help(void)
{
    puts("Usage: lastcall-load [OPTION]... ADDRESS\n"
         "Load a server on this machine, and tell which requests were answered, refused or lost.\n"
         "ADDRESS is 127.0.0.1:PORT, [::1]:PORT or unix:/PATH. DUR is like 250ms, 10s, 2m.\n");
    for (size_t i = 0; i < ROWS; i++) {
        char left[40];
        (void)snprintf(left, sizeof(left), "--%s %s", option_rows[i].name,
                       option_rows[i].value != NULL ? option_rows[i].value : "");
        printf("  %-22s %s\n", left, option_rows[i].help);
    }
    puts("\nExit status: 0 nothing lost, 1 requests lost or still waiting, 64 wrong usage,\n"
         "69 nobody could connect, 71 this machine could not run the load.");
}

static void fill_getopt(struct option *longs)
{
    for (size_t i = 0; i < ROWS; i++)
        longs[i] = (struct option){.name = option_rows[i].name,
                                   .has_arg = option_rows[i].value != NULL ? required_argument
                                                                           : no_argument,
                                   .val = (int)i + 1};
    longs[ROWS] = (struct option){0};
}

/* One option; -1: go on, otherwise the status to exit with. */
static int take_option(struct command *cmd, const struct option_row *row, const char *value)
{
    if (strcmp(row->name, "help") == 0) {
        print_help();
        return 0;
    }
    if (strcmp(row->name, "version") == 0) {
        puts("lastcall-load " LASTCALL_VERSION);
        return 0;
    }
    if (row->parse(cmd, value))
        return -1;
    fprintf(stderr, "lastcall-load: --%s: bad value `%s`: wants %s, %s\n", row->name, value,
            row->value, row->help);
    return EXIT_USAGE;
}

static int parse_command(int argc, char **argv, struct command *cmd)
{
    struct option longs[ROWS + 1];
    int option;

    fill_getopt(longs);
    opterr = 0; /* one line, and it is ours */
    while ((option = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
        if (option == ':' || option == '?') {
            fprintf(stderr, "lastcall-load: %s `%s` (see --help)\n",
                    option == ':' ? "a value is missing behind" : "unknown option",
                    argv[optind - 1]);
            return EXIT_USAGE;
        }
        int status = take_option(cmd, &option_rows[option - 1], optarg);
        if (status >= 0)
            return status;
    }
    if (argc - optind != 1) {
        fprintf(stderr, argc == optind ? "lastcall-load: ADDRESS is missing (see --help)\n"
                                       : "lastcall-load: more than one ADDRESS (see --help)\n");
        return EXIT_USAGE;
    }
    cmd->load.address = argv[optind];
    return -1;
}

/* --- the server under test --- */

static void send_sigterm(void *arg)
{
    const struct command *cmd = arg;

    if (kill(cmd->signal_pid, SIGTERM) != 0)
        fprintf(stderr, "lastcall-load: can not signal process %d: %s\n", (int)cmd->signal_pid,
                strerror(errno));
}

/* A zombie has closed its sockets: gone as well. The state is behind the name's last parenthesis.
 */
static bool is_zombie(pid_t pid)
{
    char path[32];
    char line[512];

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid); /* fits */
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t len = fread(line, 1, sizeof(line) - 1, file);
    (void)fclose(file); /* only read */
    line[len] = '\0';
    const char *paren = strrchr(line, ')');
    return paren != NULL && (strncmp(paren, ") Z", 3) == 0 || strncmp(paren, ") X", 3) == 0);
}

static bool is_gone(void *arg)
{
    const struct command *cmd = arg;

    return (kill(cmd->signal_pid, 0) != 0 && errno == ESRCH) || is_zombie(cmd->signal_pid);
}

/* --- the report --- */

struct report_row {
    const char *name;
    uint64_t value;
};

#define REPORT_ROWS 24

static size_t fill_report(const struct load_result *r, uint64_t wall_ns, struct report_row *rows)
{
    uint64_t rate = wall_ns > 0 ? (uint64_t)((double)r->answered * 1e9 / (double)wall_ns) : 0;
    uint64_t tail_us = r->signal_ns != 0 && r->last_answer_ns > r->signal_ns
                           ? (r->last_answer_ns - r->signal_ns) / 1000
                           : 0;
    const struct report_row all[] = {
        {"sent", r->sent},
        {"answered", r->answered},
        {"answered_2xx", r->answered_2xx},
        {"answered_503", r->answered_503},
        {"answered_other", r->answered_other},
        {"answered_after_signal", r->answered_after_signal},
        {"refused", r->refused},
        {"refused_streams", r->refused_streams},
        {"unsent", r->unsent},
        {"lost", r->lost},
        {"lost_reset", r->lost_reset},
        {"lost_eof", r->lost_eof},
        {"lost_truncated", r->lost_truncated},
        {"lost_on_reused", r->lost_on_reused},
        {"waiting", r->waiting},
        {"closes_announced", r->closes_announced},
        {"goaways", r->goaways},
        {"connects", r->connects},
        {"last_answer_after_signal_us", tail_us},
        {"latency_p50_us", r->latency_p50_us},
        {"latency_p99_us", r->latency_p99_us},
        {"latency_max_us", r->latency_max_us},
        {"wall_ms", wall_ns / 1000000},
        {"answered_per_s", rate},
    };
    _Static_assert(sizeof(all) / sizeof(all[0]) == REPORT_ROWS, "REPORT_ROWS counts them");

    memcpy(rows, all, sizeof(all));
    return REPORT_ROWS;
}

/* first_loss is our own text: no quotes, no control characters. */
static void print_report(const struct command *cmd, const struct load_result *r, uint64_t wall_ns)
{
    struct report_row rows[REPORT_ROWS];
    size_t count = fill_report(r, wall_ns, rows);

    for (size_t i = 0; i < count; i++)
        printf(cmd->json ? "%s\"%s\":%" PRIu64 : "%s%-28s %12" PRIu64 "\n",
               !cmd->json ? ""
               : i == 0   ? "{"
                          : ",",
               rows[i].name, rows[i].value);
    if (cmd->json)
        printf(",\"first_loss\":\"%s\"}\n", r->first_loss);
    else if (r->first_loss[0] != '\0')
        printf("first loss: %s\n", r->first_loss);
}

static int usage_or_system(const struct command *cmd, int error)
{
    if (error == -EINVAL) {
        fprintf(stderr,
                "lastcall-load: bad ADDRESS `%s`: wants 127.0.0.1:PORT, [::1]:PORT or unix:/PATH\n",
                cmd->load.address);
        return EXIT_USAGE;
    }
    fprintf(stderr, "lastcall-load: %u connections: %s\n", cmd->load.connections,
            error == -EMFILE ? "the limit on open files is too low (ulimit -n)" : strerror(-error));
    return EXIT_OSERR;
}

static uint64_t clock_ns(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* can not fail */
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

int main(int argc, char **argv)
{
    struct command cmd = {.load = {.protocol = LOAD_HTTP1_KEEPALIVE,
                                   .connections = 16,
                                   .duration_ms = 10000,
                                   .patience_ms = 10000},
                          .signal_after_ms = 1000};
    struct load_result result;

    int status = parse_command(argc, argv, &cmd);
    if (status >= 0)
        return status;
    if (cmd.signal_pid != 0) {
        cmd.load.signal_after_ms = cmd.signal_after_ms;
        cmd.load.on_signal = send_sigterm;
        cmd.load.server_is_gone = is_gone;
        cmd.load.on_signal_arg = cmd.load.server_is_gone_arg = &cmd;
    }
    uint64_t start_ns = clock_ns();
    int r = load_run(&cmd.load, &result);
    if (r != 0)
        return usage_or_system(&cmd, r);
    print_report(&cmd, &result, clock_ns() - start_ns);
    if (result.connects == 0)
        return EXIT_UNAVAILABLE;
    return result.lost > 0 || result.waiting > 0 ? EXIT_LOST : 0;
}

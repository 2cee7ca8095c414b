#include "loadgen_command.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* One table of options for the parser and for --help. */

#ifndef LASTCALL_VERSION
#define LASTCALL_VERSION "unknown"
#endif

struct option_row {
    const char *name;
    const char *value; /* NULL: takes none */
    const char *help;
    bool (*parse)(struct load_command *cmd, const char *value);
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

static bool parse_connections(struct load_command *cmd, const char *value)
{
    uint64_t n = 0;
    bool ok = parse_count(value, 1, 65536, &n);

    cmd->load.connections = (unsigned)n;
    return ok;
}

static bool parse_protocol(struct load_command *cmd, const char *value)
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

static bool parse_streams(struct load_command *cmd, const char *value)
{
    uint64_t n = 0;
    bool ok = parse_count(value, 1, 65536, &n);

    cmd->load.streams = (unsigned)n;
    return ok;
}

static bool parse_method(struct load_command *cmd, const char *value)
{
    cmd->load.method = value;
    return strspn(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == strlen(value) && value[0] != '\0';
}

static bool parse_path(struct load_command *cmd, const char *value)
{
    cmd->load.path = value;
    return value[0] == '/' && strpbrk(value, " \t\r\n") == NULL;
}

static bool parse_body(struct load_command *cmd, const char *value)
{
    uint64_t n = 0;
    bool ok = parse_count(value, 0, UINT64_C(1) << 30, &n);

    cmd->load.body_bytes = (size_t)n;
    return ok;
}

static bool parse_requests(struct load_command *cmd, const char *value)
{
    return parse_count(value, 1, UINT64_MAX, &cmd->load.max_requests);
}

static bool parse_pause(struct load_command *cmd, const char *value)
{
    return parse_duration(value, &cmd->load.pause_ms);
}

static bool parse_run(struct load_command *cmd, const char *value)
{
    return parse_duration(value, &cmd->load.duration_ms);
}

static bool parse_patience(struct load_command *cmd, const char *value)
{
    return parse_duration(value, &cmd->load.patience_ms);
}

static bool parse_expect(struct load_command *cmd, const char *value)
{
    cmd->load.expect_body = value;
    return true;
}

/* `TERM`, `QUIT`, `USR1`. */
static bool parse_signal_name(const char *name, int *ret_signal)
{
    for (int i = 1; i < NSIG; i++) {
        const char *known = sigabbrev_np(i);
        if (known != NULL && strcmp(name, known) == 0) {
            *ret_signal = i;
            return true;
        }
    }
    return false;
}

static bool parse_signal(struct load_command *cmd, const char *value)
{
    uint64_t pid;
    const char *rest;
    char duration[16];

    if (!parse_number(value, 2, INT32_MAX, &pid, &rest))
        return false;
    cmd->load.server_pid = (pid_t)pid;
    if (*rest == '\0')
        return true;
    size_t len = strcspn(rest + 1, ":");
    if (*rest != ':' || len >= sizeof(duration))
        return false;
    memcpy(duration, rest + 1, len);
    duration[len] = '\0';
    if (!parse_duration(duration, &cmd->load.signal_after_ms))
        return false;
    rest += 1 + len;
    return *rest == '\0' || parse_signal_name(rest + 1, &cmd->signal);
}

static bool parse_tls(struct load_command *cmd, const char *value)
{
    (void)value; /* takes none */
    cmd->load.tls = true;
    return true;
}

static bool parse_resume(struct load_command *cmd, const char *value)
{
    (void)value; /* takes none */
    cmd->load.resume = true;
    return true;
}

static bool parse_read_rate(struct load_command *cmd, const char *value)
{
    uint64_t n = 0;
    bool ok = parse_count(value, 1, UINT32_MAX, &n);

    cmd->load.read_rate = (uint32_t)n;
    return ok;
}

static bool parse_send_rate(struct load_command *cmd, const char *value)
{
    uint64_t n = 0;
    bool ok = parse_count(value, 1, UINT32_MAX, &n);

    cmd->load.send_rate = (uint32_t)n;
    return ok;
}

static bool parse_pipeline(struct load_command *cmd, const char *value)
{
    uint64_t n = 0;
    bool ok = parse_count(value, 1, 65536, &n);

    cmd->load.pipeline = (unsigned)n;
    return ok;
}

static bool parse_idle(struct load_command *cmd, const char *value)
{
    uint64_t n = 0;
    bool ok = parse_count(value, 0, 65536, &n);

    cmd->load.idle = (unsigned)n;
    return ok;
}

static bool parse_silent(struct load_command *cmd, const char *value)
{
    uint64_t n = 0;
    bool ok = parse_count(value, 0, 65536, &n);

    cmd->load.silent = (unsigned)n;
    return ok;
}

static bool parse_rate(struct load_command *cmd, const char *value)
{
    uint64_t n = 0;
    bool ok = parse_count(value, 1, 1000000, &n);

    cmd->load.rate = (uint32_t)n;
    return ok;
}

static bool parse_timeline(struct load_command *cmd, const char *value)
{
    cmd->timeline_path = value;
    return value[0] != '\0';
}

static bool parse_latencies(struct load_command *cmd, const char *value)
{
    cmd->latencies_path = value;
    return *value != '\0';
}

static bool parse_json(struct load_command *cmd, const char *value)
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
    {"tls", NULL, "over TLS; no certificate is verified", parse_tls},
    {"resume", NULL, "TLS: who has to connect again resumes the session", parse_resume},
    {"read-rate", "BYTES_PER_S", "slow readers: of each connection (default: no limit)",
     parse_read_rate},
    {"send-rate", "BYTES_PER_S", "slow senders: of each connection's bodies (default: no limit)",
     parse_send_rate},
    {"pipeline", "N", "keepalive: requests in flight on a connection (default 1)", parse_pipeline},
    {"idle", "N", "besides, N connections that make one GET first, then idle (default 0)",
     parse_idle},
    {"silent", "N", "besides, N connections that never send a byte (default 0)", parse_silent},
    {"rate", "N", "open loop: N requests a second are due, latency counts from then (default: off)",
     parse_rate},
    {"signal", "PID[:DUR[:SIG]]",
     "send SIG (default TERM) to PID after DUR (default 1s); end when it is gone", parse_signal},
    {"timeline", "FILE", "write what became of the requests, 10 ms a line, as JSON lines",
     parse_timeline},
    {"latencies", "FILE", "write how long the answers took, 100 ms a line, as JSON lines",
     parse_latencies},
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
        printf("  %-26s %s\n", left, option_rows[i].help);
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
static int take_option(struct load_command *cmd, const struct option_row *row, const char *value)
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

int load_command_parse(int argc, char **argv, struct load_command *cmd)
{
    struct option longs[ROWS + 1];
    int option;

    *cmd = (struct load_command){.load = {.protocol = LOAD_HTTP1_KEEPALIVE,
                                          .connections = 16,
                                          .duration_ms = 10000,
                                          .patience_ms = 10000,
                                          .signal_after_ms = 1000},
                                 .signal = SIGTERM};
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
    if (cmd->load.pipeline > 1 && cmd->load.protocol != LOAD_HTTP1_KEEPALIVE) {
        fprintf(stderr, "lastcall-load: --pipeline needs --protocol keepalive\n");
        return EXIT_USAGE;
    }
    return -1;
}

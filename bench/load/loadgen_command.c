#include "loadgen_command.h"

#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "flags.h"

#ifndef LASTCALL_VERSION
#define LASTCALL_VERSION "unknown"
#endif

#define DAY (24 * UINT64_C(3600) * NS_PER_S) /* in milliseconds it fits into 32 bits */
#define COLUMN 30                            /* of the help texts */

/* The values as flags.h stores them; load_options has narrower types. */
struct values {
    struct load_command command;
    uint64_t connections, streams, pipeline, idle, silent, body_bytes, rate, read_rate, send_rate;
    uint64_t pause_ns, duration_ns, patience_ns;
};

/* ---- values that need more than the table: see flag_set_cb ---- */

static const char *set_protocol(const struct flag *flag, const char *text, void *at, void *target,
                                char *want)
{
    static const char *const names[] = {
        [LOAD_HTTP1_CLOSE] = "close",
        [LOAD_HTTP1_KEEPALIVE] = "keepalive",
        [LOAD_HTTP2] = "h2",
    };

    (void)flag;
    (void)target;
    (void)want;
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *(enum load_protocol *)at = (enum load_protocol)i;
            return NULL;
        }
    }
    return "want close, keepalive or h2";
}

static const char *set_method(const struct flag *flag, const char *text, void *at, void *target,
                              char *want)
{
    (void)flag;
    (void)target;
    (void)want;
    *(const char **)at = text;
    return strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") == strlen(text) && text[0] != '\0'
               ? NULL
               : "want a method in capital letters";
}

static const char *set_path(const struct flag *flag, const char *text, void *at, void *target,
                            char *want)
{
    (void)flag;
    (void)target;
    (void)want;
    *(const char **)at = text;
    return text[0] == '/' && strpbrk(text, " \t\r\n") == NULL ? NULL : "want a path such as /hello";
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

static bool parse_signal(struct load_command *command, const char *text)
{
    char duration[16], *rest;
    uint64_t after_ns;

    if (text[0] < '0' || text[0] > '9')
        return false;
    unsigned long pid = strtoul(text, &rest, 10);
    if (pid < 2 || pid > INT32_MAX)
        return false;
    command->load.server_pid = (pid_t)pid;
    if (*rest == '\0')
        return true;
    size_t len = strcspn(rest + 1, ":");
    if (*rest != ':' || len >= sizeof(duration))
        return false;
    memcpy(duration, rest + 1, len);
    duration[len] = '\0';
    if (clock_parse_duration(duration, &after_ns) != 0 || after_ns > DAY)
        return false;
    command->load.signal_after_ms = (uint32_t)(after_ns / NS_PER_MS);
    rest += 1 + len;
    return *rest == '\0' || parse_signal_name(rest + 1, &command->signal);
}

static const char *set_signal(const struct flag *flag, const char *text, void *at, void *target,
                              char *want)
{
    (void)flag;
    (void)at;
    (void)want;
    return parse_signal(&((struct values *)target)->command, text)
               ? NULL
               : "want PID[:DUR[:SIG]], such as 4711:1s:TERM";
}

/* ---- the table ---- */

static void print_help(const struct flags *flags)
{
    puts("Usage: lastcall-load [OPTION]... ADDRESS\n"
         "Load a server on this machine and report which requests were answered, refused or lost.\n"
         "ADDRESS is 127.0.0.1:PORT, [::1]:PORT or unix:/PATH. DUR is like 250ms, 10s, 2m.\n");
    flags_print(flags);
    puts("\nExit status: 0 no request lost, 1 requests lost or without answer, 64 wrong usage,\n"
         "69 no connect succeeded, 71 this machine cannot run the load.");
}

static void print_version(const struct flags *flags)
{
    (void)flags;
    puts("lastcall-load " LASTCALL_VERSION);
}

#define AT(field) offsetof(struct values, field)

static const struct flag flag_rows[] = {
    {.name = "connections",
     .kind = FLAG_NUMBER,
     .argument = "N",
     .offset = AT(connections),
     .least = 1,
     .most = 65536,
     .fallback = "16",
     .help = "clients at once"},
    {.name = "protocol",
     .kind = FLAG_CUSTOM,
     .argument = "NAME",
     .offset = AT(command.load.protocol),
     .fallback = "keepalive",
     .help = "close, keepalive or h2",
     .set = set_protocol},
    {.name = "streams",
     .kind = FLAG_NUMBER,
     .argument = "N",
     .offset = AT(streams),
     .least = 1,
     .most = 65536,
     .fallback = "1",
     .help = "h2: requests at once on a connection"},
    {.name = "method",
     .kind = FLAG_CUSTOM,
     .argument = "NAME",
     .offset = AT(command.load.method),
     .fallback = "GET, or POST with a body",
     .help = "the method of each request",
     .set = set_method},
    {.name = "path",
     .kind = FLAG_CUSTOM,
     .argument = "PATH",
     .offset = AT(command.load.path),
     .fallback = "/hello",
     .help = "the path of each request",
     .set = set_path},
    {.name = "body",
     .kind = FLAG_NUMBER,
     .argument = "BYTES",
     .offset = AT(body_bytes),
     .most = UINT64_C(1) << 30,
     .fallback = "0",
     .help = "length of each request body"},
    {.name = "requests",
     .kind = FLAG_NUMBER,
     .argument = "N",
     .offset = AT(command.load.max_requests),
     .least = 1,
     .most = UINT64_MAX,
     .fallback = "no limit",
     .help = "stop after N requests"},
    {.name = "pause",
     .kind = FLAG_DURATION,
     .argument = "DUR",
     .offset = AT(pause_ns),
     .most = DAY,
     .fallback = "0",
     .help = "between an answer and the next request"},
    {.name = "duration",
     .kind = FLAG_DURATION,
     .argument = "DUR",
     .offset = AT(duration_ns),
     .most = DAY,
     .fallback = "10s",
     .help = "begin no requests after this"},
    {.name = "patience",
     .kind = FLAG_DURATION,
     .argument = "DUR",
     .offset = AT(patience_ns),
     .most = DAY,
     .fallback = "10s",
     .help = "then wait this long for answers"},
    {.name = "expect",
     .kind = FLAG_ANY_TEXT,
     .argument = "TEXT",
     .offset = AT(command.load.expect_body),
     .help = "count an answer with another body as lost"},
    {.name = "tls",
     .kind = FLAG_ON,
     .offset = AT(command.load.tls),
     .help = "use TLS; certificates are not verified"},
    {.name = "resume",
     .kind = FLAG_ON,
     .offset = AT(command.load.resume),
     .help = "TLS: resume the session when connecting again"},
    {.name = "read-rate",
     .kind = FLAG_NUMBER,
     .argument = "BYTES_PER_S",
     .offset = AT(read_rate),
     .least = 1,
     .most = UINT32_MAX,
     .fallback = "none",
     .help = "slow readers: limit of each connection"},
    {.name = "send-rate",
     .kind = FLAG_NUMBER,
     .argument = "BYTES_PER_S",
     .offset = AT(send_rate),
     .least = 1,
     .most = UINT32_MAX,
     .fallback = "none",
     .help = "slow senders: limit for the bodies of each connection"},
    {.name = "pipeline",
     .kind = FLAG_NUMBER,
     .argument = "N",
     .offset = AT(pipeline),
     .least = 1,
     .most = 65536,
     .fallback = "1",
     .help = "keepalive: requests in flight on a connection"},
    {.name = "idle",
     .kind = FLAG_NUMBER,
     .argument = "N",
     .offset = AT(idle),
     .most = 65536,
     .fallback = "0",
     .help = "add N connections that make one GET, then idle"},
    {.name = "silent",
     .kind = FLAG_NUMBER,
     .argument = "N",
     .offset = AT(silent),
     .most = 65536,
     .fallback = "0",
     .help = "add N connections that never send a byte"},
    {.name = "rate",
     .kind = FLAG_NUMBER,
     .argument = "N",
     .offset = AT(rate),
     .least = 1,
     .most = 1000000,
     .fallback = "off",
     .help = "open loop: N requests per second, latency counts from when each is due"},
    {.name = "signal",
     .kind = FLAG_CUSTOM,
     .argument = "PID[:DUR[:SIG]]",
     .help = "send SIG (default TERM) to PID after DUR (default 1s); end when it has exited",
     .set = set_signal},
    {.name = "until-signal",
     .kind = FLAG_ON,
     .offset = AT(command.until_signal),
     .help = "SIGTERM ends the load as --duration does"},
    {.name = "timeline",
     .kind = FLAG_TEXT,
     .argument = "FILE",
     .offset = AT(command.timeline_path),
     .help = "write the outcomes of requests as JSON lines, 10 ms each"},
    {.name = "latencies",
     .kind = FLAG_TEXT,
     .argument = "FILE",
     .offset = AT(command.latencies_path),
     .help = "write the latencies as JSON lines, 100 ms each"},
    {.name = "json", .kind = FLAG_ON, .offset = AT(command.json), .help = "print one line of JSON"},
    {.name = "help", .kind = FLAG_ACTION, .help = "print this help and exit", .act = print_help},
    {.name = "version",
     .kind = FLAG_ACTION,
     .help = "print the version and exit",
     .act = print_version},
};

/* ---- the command line ---- */

static void copy_values(const struct values *values, struct load_command *ret_command)
{
    *ret_command = values->command;
    struct load_options *load = &ret_command->load;

    load->connections = (unsigned)values->connections;
    load->streams = (unsigned)values->streams;
    load->pipeline = (unsigned)values->pipeline;
    load->idle = (unsigned)values->idle;
    load->silent = (unsigned)values->silent;
    load->body_bytes = (size_t)values->body_bytes;
    load->rate = (uint32_t)values->rate;
    load->read_rate = (uint32_t)values->read_rate;
    load->send_rate = (uint32_t)values->send_rate;
    load->pause_ms = (uint32_t)(values->pause_ns / NS_PER_MS);
    load->duration_ms = (uint32_t)(values->duration_ns / NS_PER_MS);
    load->patience_ms = (uint32_t)(values->patience_ns / NS_PER_MS);
}

int load_command_parse(int argc, char **argv, struct load_command *ret_command)
{
    struct values values = {
        .command = {.load = {.protocol = LOAD_HTTP1_KEEPALIVE, .signal_after_ms = 1000},
                    .signal = SIGTERM},
        .connections = 16,
        .duration_ns = 10 * NS_PER_S,
        .patience_ns = 10 * NS_PER_S,
    };
    const struct flags flags = {.program = "lastcall-load",
                                .rows = flag_rows,
                                .count = sizeof(flag_rows) / sizeof(flag_rows[0]),
                                .target = &values,
                                .column = COLUMN};
    int operand;
    bool dashes;

    int status = flags_parse(&flags, argc, argv, &operand, &dashes);
    if (status >= 0)
        return status;
    if (argc - operand != 1)
        return flags_usage(&flags,
                           argc == operand ? "ADDRESS is missing" : "more than one ADDRESS");
    copy_values(&values, ret_command);
    ret_command->load.address = argv[operand];
    if (ret_command->load.pipeline > 1 && ret_command->load.protocol != LOAD_HTTP1_KEEPALIVE)
        return flags_usage(&flags, "--pipeline needs --protocol keepalive");
    return -1;
}

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli_events.h"
#include "cli_fail.h"
#include "cli_options.h"
#include "cli_request.h"
#include "cli_status.h"
#include "cli_terminal.h"
#include "cli_view.h"
#include "clock.h"
#include "commands.h"

/* The commands drain and undrain. drain --wait opens the event stream before it requests the drain:
 * a drain may take less than a millisecond, and only the last event carries the exit status. */

#define SILENCE_MS 15000
#define LINE_NS (3 * NS_PER_S) /* between two lines of progress, without a terminal */

struct order {
    struct cli_server server;
    const char *deadline, *reason;
    bool wait;
};

/* POST /drain. Returns 0, and whether this request began the drain; or the exit status. */
static int request_drain(const struct order *order, bool *ret_began)
{
    json_t *answer = NULL, *body = json_object();

    if (order->deadline != NULL)
        (void)json_object_set_new(body, "deadline", json_string(order->deadline));
    if (order->reason != NULL)
        (void)json_object_set_new(body, "reason", json_string(order->reason));
    int result = cli_request(&order->server, "POST", "/drain", body, &answer);
    *ret_began = !json_is_false(json_object_get(answer, "began"));
    if (result == 0 && !*ret_began && order->deadline != NULL)
        (void)cli_fail(0, "a drain was already under way; its deadline is unchanged");
    json_decref(answer);
    json_decref(body);
    return result;
}

/* ---- the wait ---- */

struct wait {
    const struct order *order;
    struct cli_stream *stream;
    int signals;
    bool on_terminal;
    bool requested; /* the drain */
    bool seen_draining;
    bool bar_shown;
    double most; /* see cli_print_progress() */
    /* the newest line, without a terminal */
    char phase[24];
    uint64_t line_ns;
};

static void clear_bar(struct wait *wait)
{
    if (wait->bar_shown)
        (void)fputs("\r\033[K", stdout);
    wait->bar_shown = false;
}

static void show_progress(struct wait *wait, const json_t *status)
{
    size_t columns, rows;
    uint64_t now_ns = clock_now_ns();
    const char *phase = cli_text(status, "phase");

    if (wait->on_terminal) {
        cli_terminal_size(&columns, &rows);
        clear_bar(wait);
        cli_print_progress(stdout, status, true, columns - 1, &wait->most);
        wait->bar_shown = true;
    } else if (strcmp(phase, wait->phase) != 0 || now_ns - wait->line_ns >= LINE_NS) {
        (void)snprintf(wait->phase, sizeof(wait->phase), "%s", phase);
        wait->line_ns = now_ns;
        cli_print_progress(stdout, status, false, CLI_WIDTH_ANY, &wait->most);
        (void)fputc('\n', stdout);
    }
    (void)fflush(stdout);
}

/* Returns -1: continue; or the exit status. */
static int on_status(struct wait *wait)
{
    const json_t *status = cli_stream_status(wait->stream);
    bool draining = cli_has(status, "drain");

    if (!wait->requested) {
        bool began;
        wait->requested = true;
        int result = request_drain(wait->order, &began);
        if (result != 0)
            return result;
    }
    if (cli_number(status, "exit_status", -1) >= 0)
        return -1; /* the end of the stream follows */
    if (draining) {
        wait->seen_draining = true;
        show_progress(wait, status);
    } else if (wait->seen_draining) {
        clear_bar(wait);
        return cli_fail(EX_TEMPFAIL, "the drain was called off; the server goes on");
    }
    return -1;
}

static int on_signals(struct wait *wait)
{
    int signo = cli_signals_take(wait->signals);

    if (signo == 0)
        return -1;
    if (signo == SIGWINCH) {
        if (wait->seen_draining)
            show_progress(wait, cli_stream_status(wait->stream));
        return -1;
    }
    if (signo == SIGTSTP) {
        clear_bar(wait);
        (void)fflush(stdout);
        cli_signals_obey(signo);
        return -1;
    }
    if (wait->bar_shown)
        (void)fputc('\n', stdout);
    wait->bar_shown = false;
    if (wait->requested)
        (void)cli_fail(0, "the drain goes on; lastcall undrain can call it off while the listeners "
                          "are open");
    return 128 + signo;
}

static int on_end(struct wait *wait)
{
    const json_t *status = cli_stream_status(wait->stream);
    int ended = (int)cli_number(status, "exit_status", -1);

    clear_bar(wait);
    int failure = cli_stream_explain(wait->stream);
    if (failure != 0)
        return failure;
    if (ended < 0)
        return cli_fail(EX_UNAVAILABLE, "the server exited without reporting its exit status");
    cli_print_end(stdout, status, ended);
    return ended;
}

static int wait_for_end(struct wait *wait)
{
    int result = -1;

    while (result < 0) {
        switch (cli_stream_next(wait->stream, &wait->signals, 1, SILENCE_MS)) {
        case CLI_NEXT_STATUS:
            result = on_status(wait);
            break;
        case CLI_NEXT_FD:
            result = on_signals(wait);
            break;
        case CLI_NEXT_TIME:
            clear_bar(wait);
            result = cli_fail(
                EX_UNAVAILABLE, "no event from the server for %ds; %s", SILENCE_MS / 1000,
                wait->requested ? "the drain and its deadline go on" : "no drain was requested");
            break;
        case CLI_NEXT_END:
            result = on_end(wait);
            break;
        }
    }
    return result;
}

static int drain_and_wait(const struct order *order)
{
    struct wait wait = {
        .order = order, .signals = cli_signals_open(), .on_terminal = isatty(STDOUT_FILENO) == 1};
    if (wait.signals < 0)
        return cli_fail(EX_OSERR, "signals: %s", strerrordesc_np(-wait.signals));
    int result = cli_stream_open(&order->server, &wait.stream);
    if (result == 0)
        result = wait_for_end(&wait);
    cli_stream_close(wait.stream);
    return result;
}

/* ---- the commands ---- */

/* Only checks the duration: the server gets it as text. */
static const char *set_deadline(const struct flag *flag, const char *text, void *at, void *target,
                                char *want)
{
    uint64_t ns;

    (void)flag;
    (void)target;
    (void)want;
    *(const char **)at = text;
    return clock_parse_duration(text, &ns) == 0 ? NULL : "want a duration such as 250ms, 10s or 2m";
}

static const char *set_reason(const struct flag *flag, const char *text, void *at, void *target,
                              char *want)
{
    json_t *reason = json_string(text);
    bool is_text = reason != NULL;

    (void)flag;
    (void)target;
    (void)want;
    json_decref(reason);
    *(const char **)at = text;
    return is_text ? NULL : "want text in UTF-8";
}

static const struct flag drain_rows[] = {
    {.name = "wait",
     .kind = FLAG_ON,
     .offset = offsetof(struct order, wait),
     .help = "show the progress, and exit with the server's exit status"},
    {.name = "deadline",
     .kind = FLAG_CUSTOM,
     .argument = "DUR",
     .offset = offsetof(struct order, deadline),
     .fallback = "the server's",
     .help = "the deadline of this drain",
     .set = set_deadline},
    {.name = "reason",
     .is_secret = true, /* a wrong value is not UTF-8, so it is not printed */
     .kind = FLAG_CUSTOM,
     .argument = "TEXT",
     .offset = offsetof(struct order, reason),
     .help = "a reason for the server's log and report",
     .set = set_reason},
    CLI_SERVER_FLAGS(offsetof(struct order, server)),
    CLI_HELP_FLAG,
};

int cmd_drain(int argc, char **argv)
{
    struct order order = {0};
    bool began;
    struct cli_usage usage = {
        .flags = {.rows = drain_rows, .count = sizeof(drain_rows) / sizeof(drain_rows[0])},
        .command = "drain",
        .synopsis = "drain [OPTION]...",
        .about =
            "Drain a running server, as SIGTERM does: it stops accepting connections, answers the\n"
            "requests it has, and exits. Ctrl+C ends the wait, not the drain.\n\n"
            "Exit status: 0 the drain has begun; with --wait the server's: 0 drained clean, 3 the\n"
            "deadline passed, 4 a second signal cut it short; 75 the drain was called off; 130 "
            "the\n"
            "wait was interrupted; 69 no server, or it exited without reporting its status; 77 "
            "not\n"
            "permitted; 76 not an admin listener; 64 wrong usage.\n"};

    int result = cli_parse(argc, argv, &usage, &order);
    if (result >= 0)
        return result;
    result = cli_server_open(&order.server);
    if (result == 0 && order.wait) {
        result = drain_and_wait(&order);
    } else if (result == 0 && (result = request_drain(&order, &began)) == 0) {
        char name[CLI_SERVER_NAME_SIZE];
        (void)printf("%s: %s\n", cli_server_name(&order.server, name),
                     began ? "draining" : "already draining");
    }
    cli_server_close(&order.server);
    return result;
}

static const struct flag undrain_rows[] = {
    CLI_SERVER_FLAGS(0),
    CLI_HELP_FLAG,
};

int cmd_undrain(int argc, char **argv)
{
    struct cli_server server = {0};
    json_t *answer = NULL;
    struct cli_usage usage = {
        .flags = {.rows = undrain_rows, .count = sizeof(undrain_rows) / sizeof(undrain_rows[0])},
        .command = "undrain",
        .synopsis = "undrain [OPTION]...",
        .about = "Call off a drain, so that the server goes on. This is possible in the lame-duck "
                 "time,\n"
                 "before the first listener closes.\n\n"
                 "Exit status: 0 called off; 1 there is no drain, or it is past the point of no "
                 "return;\n"
                 "69 no server; 77 not permitted; 76 not an admin listener; 64 wrong usage.\n"};

    int result = cli_parse(argc, argv, &usage, &server);
    if (result >= 0)
        return result;
    result = cli_server_open(&server);
    if (result == 0 && (result = cli_request(&server, "POST", "/undrain", NULL, &answer)) == 0) {
        char name[CLI_SERVER_NAME_SIZE];
        (void)printf("%s: serving again\n", cli_server_name(&server, name));
    }
    json_decref(answer);
    cli_server_close(&server);
    return result;
}

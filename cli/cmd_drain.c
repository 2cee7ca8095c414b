#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli_admin.h"
#include "cli_p.h"
#include "cli_terminal.h"
#include "cli_view.h"
#include "clock.h"

/* drain, and undrain. To wait is to follow the server's events, from before the order: a drain can
 * be over within a millisecond, and its end is in the last event. */

#define SILENCE_MS 15000
#define LINE_NS (3 * NS_PER_S) /* between lines, where there is no terminal */

struct order {
    struct cli_server server;
    const char *deadline, *reason;
    bool wait;
};

/* Returns 0, and whether this began the drain; or the status to leave with. */
static int give(const struct order *order, bool *ret_began)
{
    json_t *answer = NULL, *body = json_object();

    if (order->deadline != NULL)
        (void)json_object_set_new(body, "deadline", json_string(order->deadline));
    if (order->reason != NULL)
        (void)json_object_set_new(body, "reason", json_string(order->reason));
    int result = cli_request(&order->server, "POST", "/drain", body, &answer);
    *ret_began = !json_is_false(json_object_get(answer, "began"));
    if (result == 0 && !*ret_began && order->deadline != NULL)
        (void)cli_fail(0, "a drain was under way already: its deadline stays what it was");
    json_decref(answer);
    json_decref(body);
    return result;
}

/* ---- the wait ---- */

struct wait {
    const struct order *order;
    struct cli_stream *stream;
    int signals;
    bool on_terminal, ordered, seen_draining;
    bool bar_shown;
    double most;    /* of what is waited for, so far */
    char phase[24]; /* of the newest line */
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

/* Returns -1: go on; or the status to leave with. */
static int on_status(struct wait *wait)
{
    const json_t *status = cli_stream_status(wait->stream);
    bool draining = cli_has(status, "drain");

    if (!wait->ordered) {
        bool began;
        wait->ordered = true;
        int result = give(wait->order, &began);
        if (result != 0)
            return result;
    }
    if (cli_number(status, "exit_status", -1) >= 0)
        return -1; /* the end follows */
    if (draining) {
        wait->seen_draining = true;
        show_progress(wait, status);
    } else if (wait->seen_draining) {
        clear_bar(wait);
        return cli_fail(EX_TEMPFAIL, "the drain was called off: the server goes on");
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
    if (wait->ordered)
        (void)cli_fail(0, "the drain goes on without being watched; lastcall undrain calls it off, "
                          "as long as the listeners are open");
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
        return cli_fail(EX_UNAVAILABLE, "the server is gone, and did not say how it ended");
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
                EX_UNAVAILABLE, "nothing heard from the server for %ds; %s", SILENCE_MS / 1000,
                wait->ordered ? "its deadline holds all the same" : "the drain was not ordered");
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

static int check(const struct order *order)
{
    uint64_t ns;

    if (order->deadline != NULL && clock_parse_duration(order->deadline, &ns) != 0)
        return cli_fail(EX_USAGE, "--deadline %s: want a duration such as 250ms, 10s or 2m",
                        order->deadline);
    json_t *reason = order->reason != NULL ? json_string(order->reason) : NULL;
    bool is_text = order->reason == NULL || reason != NULL;
    json_decref(reason);
    return is_text ? -1 : cli_fail(EX_USAGE, "--reason: want text in UTF-8");
}

int cli_drain(int argc, char **argv)
{
    struct order order = {0};
    bool began;
    const struct cli_option options[] = {
        {"wait", NULL, "show how the drain goes, and leave with the server's exit status", NULL,
         &order.wait},
        {"deadline", "DUR", "in place of the server's own, for this drain", &order.deadline, NULL},
        {"reason", "TEXT", "for its log and its report", &order.reason, NULL},
        CLI_SERVER_OPTIONS(order.server),
    };
    const struct cli_usage usage = {
        "drain [OPTION]...",
        "Drain a running server, as SIGTERM does: it takes no more connections, answers what it\n"
        "has taken, and ends. Ctrl+C ends the wait, not the drain.\n\n"
        "Exit status: 0 the drain has begun; with --wait the server's own: 0 drained clean, 3 the\n"
        "deadline passed, 4 a second signal cut it short; 75 the drain was called off; 130 the\n"
        "wait was interrupted; 69 the server is not there, or ended without a word; 77 not\n"
        "allowed; 76 not an admin listener; 64 wrong usage.\n",
        options, sizeof(options) / sizeof(options[0])};

    int result = cli_parse(argc, argv, &usage);
    if (result < 0)
        result = check(&order);
    if (result >= 0)
        return result;
    result = cli_server_open(&order.server);
    if (result == 0 && order.wait) {
        result = drain_and_wait(&order);
    } else if (result == 0 && (result = give(&order, &began)) == 0) {
        char name[CLI_SERVER_NAME_SIZE];
        (void)printf("%s: %s\n", cli_server_name(&order.server, name),
                     began ? "draining" : "draining already");
    }
    cli_server_close(&order.server);
    return result;
}

int cli_undrain(int argc, char **argv)
{
    struct cli_server server = {0};
    json_t *answer = NULL;
    const struct cli_option options[] = {CLI_SERVER_OPTIONS(server)};
    const struct cli_usage usage = {
        "undrain [OPTION]...",
        "Call a drain off and go on serving: possible as long as it is in its lame-duck time, "
        "before\n"
        "the first listener closes.\n\n"
        "Exit status: 0 called off; 1 there is no drain, or it is past the point of no return; 69\n"
        "the server is not there; 77 not allowed; 76 not an admin listener; 64 wrong usage.\n",
        options, sizeof(options) / sizeof(options[0])};

    int result = cli_parse(argc, argv, &usage);
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

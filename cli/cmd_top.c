#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli_events.h"
#include "cli_fail.h"
#include "cli_options.h"
#include "cli_request.h"
#include "cli_status.h"
#include "cli_terminal.h"
#include "cli_view.h"
#include "commands.h"

/* The command top: one frame for each event, as large as the terminal. */

#define SILENCE_MS 15000

struct settings {
    struct cli_server server;
    bool once;
};

static const struct flag flag_rows[] = {
    {.name = "once",
     .kind = FLAG_ON,
     .offset = offsetof(struct settings, once),
     .help = "print one frame as plain text and exit"},
    CLI_SERVER_FLAGS(offsetof(struct settings, server)),
    CLI_HELP_FLAG,
};

/* Upstreams have at most a third of the terminal. */
static void print_frame(FILE *out, const json_t *status, size_t columns, size_t rows,
                        size_t list_rows)
{
    cli_print_overview(out, status, columns);
    cli_print_upstreams(out, status, rows == CLI_ROWS_ANY ? rows : rows / 3, columns);
    (void)fputc('\n', out);
    cli_print_requests(out, status, list_rows, columns);
}

static size_t count_lines(const char *text)
{
    size_t lines = 0;
    for (; *text != '\0'; text++)
        lines += *text == '\n';
    return lines;
}

/* The first frame measures what comes before the list; the second gives it the remaining rows. */
static void show(const json_t *status)
{
    char *text = NULL;
    size_t size = 0, columns, rows, list_rows = 0;

    if (status == NULL)
        return;
    cli_terminal_size(&columns, &rows);
    for (bool measured = false;; measured = true) {
        FILE *out = open_memstream(&text, &size);
        if (out == NULL)
            return;
        print_frame(out, status, columns - 1, rows, list_rows);
        (void)fputs("\nq quits\n", out);
        (void)fclose(out);
        if (measured)
            break;
        size_t others = count_lines(text);
        list_rows = rows > others ? rows - others : 0;
        free(text);
    }
    char *end = text; /* a low window shows the top of the frame */
    for (size_t line = 0; *end != '\0' && line < rows; end++)
        line += *end == '\n';
    cli_screen_show(text, (size_t)(end - text));
    free(text);
}

static void on_signal(int signo, const json_t *status)
{
    if (signo != SIGWINCH) {
        cli_screen_leave();
        cli_signals_obey(signo);
        (void)cli_screen_enter(); /* after SIGTSTP and SIGCONT */
    }
    show(status);
}

/* Returns whether to quit: after `q`, or at the end of input. */
static bool on_input(int signals, const json_t *status)
{
    bool quit = false, any = false;
    int signo;
    char key;

    while ((signo = cli_signals_take(signals)) != 0) {
        any = true;
        on_signal(signo, status);
    }
    while (read(STDIN_FILENO, &key, 1) == 1) {
        any = true;
        quit = quit || key == 'q' || key == 'Q';
    }
    return quit || !any;
}

/* Print how the server ended, on the normal screen. */
static int print_end(const struct cli_stream *stream)
{
    const json_t *status = cli_stream_status(stream);
    double ended = cli_number(status, "exit_status", -1);
    int failure = cli_stream_explain(stream);

    if (failure != 0)
        return failure;
    if (ended < 0)
        return cli_fail(EX_UNAVAILABLE, "the server exited without reporting its exit status");
    cli_print_end(stdout, status, (int)ended);
    return 0;
}

static int follow(struct cli_stream *stream)
{
    const int fds[] = {cli_signals_open(), STDIN_FILENO};

    if (fds[0] < 0 || cli_screen_enter() != 0)
        return cli_fail(EX_USAGE, "not a terminal; --once prints one frame");
    for (;;) {
        switch (cli_stream_next(stream, fds, 2, SILENCE_MS)) {
        case CLI_NEXT_STATUS:
            show(cli_stream_status(stream));
            break;
        case CLI_NEXT_FD:
            if (!on_input(fds[0], cli_stream_status(stream)))
                break;
            cli_screen_leave();
            return 0;
        case CLI_NEXT_TIME:
            cli_screen_leave();
            return cli_fail(EX_UNAVAILABLE, "no event from the server for %ds", SILENCE_MS / 1000);
        case CLI_NEXT_END:
            cli_screen_leave();
            return print_end(stream);
        }
    }
}

static int once(const struct cli_server *server)
{
    json_t *status = NULL;
    int result = cli_get_status(server, &status);

    if (result == 0)
        print_frame(stdout, status, CLI_WIDTH_ANY, CLI_ROWS_ANY, CLI_ROWS_ANY);
    json_decref(status);
    return result;
}

int cmd_top(int argc, char **argv)
{
    struct settings settings = {0};
    struct cli_stream *stream = NULL;
    struct cli_usage usage = {
        .flags = {.rows = flag_rows, .count = sizeof(flag_rows) / sizeof(flag_rows[0])},
        .command = "top",
        .synopsis = "top [OPTION]...",
        .about =
            "Show the requests in flight, the oldest first, until the server exits. q quits.\n"};

    int result = cli_parse(argc, argv, &usage, &settings);
    if (result >= 0)
        return result;
    if (!settings.once && (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)))
        return cli_fail(EX_USAGE, "not a terminal; --once prints one frame");
    result = cli_server_open(&settings.server);
    if (result == 0 && settings.once)
        result = once(&settings.server);
    else if (result == 0 && (result = cli_stream_open(&settings.server, &stream)) == 0)
        result = follow(stream);
    cli_stream_close(stream);
    cli_server_close(&settings.server);
    return result;
}

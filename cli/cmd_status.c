#include <stdio.h>

#include "cli_options.h"
#include "cli_request.h"
#include "cli_view.h"
#include "commands.h"

/* The command status. */

#define ROWS 12

struct settings {
    struct cli_server server;
    bool json;
};

static const struct flag flag_rows[] = {
    {.name = "json",
     .kind = FLAG_ON,
     .offset = offsetof(struct settings, json),
     .help = "print the server's answer as JSON"},
    CLI_SERVER_FLAGS(offsetof(struct settings, server)),
    CLI_HELP_FLAG,
};

int cmd_status(int argc, char **argv)
{
    struct settings settings = {0};
    json_t *status = NULL;
    struct cli_usage usage = {
        .flags = {.rows = flag_rows, .count = sizeof(flag_rows) / sizeof(flag_rows[0])},
        .command = "status",
        .synopsis = "status [OPTION]...",
        .about = "Show what a running server is doing: its phase, requests, connections, workers, "
                 "and the\n"
                 "oldest requests in flight.\n"};

    int result = cli_parse(argc, argv, &usage, &settings);
    if (result >= 0)
        return result;
    result = cli_server_open(&settings.server);
    if (result == 0)
        result = cli_get_status(&settings.server, &status);
    if (result == 0 && settings.json) {
        (void)json_dumpf(status, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
        (void)putchar('\n');
    } else if (result == 0) {
        cli_print_overview(stdout, status, CLI_WIDTH_ANY);
        cli_print_upstreams(stdout, status, CLI_ROWS_ANY, CLI_WIDTH_ANY);
        (void)putchar('\n');
        cli_print_requests(stdout, status, ROWS, CLI_WIDTH_ANY);
    }
    json_decref(status);
    cli_server_close(&settings.server);
    return result;
}

#include <stdio.h>
#include <string.h>

#include "cli_admin.h"
#include "cli_p.h"
#include "cli_view.h"

#define ROWS 12

int cli_status(int argc, char **argv)
{
    struct cli_server server = {0};
    bool as_json = false;
    json_t *status = NULL;
    const struct cli_option options[] = {
        {"json", NULL, "the status as the server gives it, for tools", NULL, &as_json},
        CLI_SERVER_OPTIONS(server),
    };
    const struct cli_usage usage = {
        "status [OPTION]...",
        "What a running server is doing: its phase, requests, connections, workers, and the\n"
        "requests that have been in flight for longest.\n",
        options, sizeof(options) / sizeof(options[0])};

    int result = cli_parse(argc, argv, &usage);
    if (result >= 0)
        return result;
    result = cli_server_open(&server);
    if (result == 0)
        result = cli_get_status(&server, &status);
    if (result == 0 && as_json) {
        (void)json_dumpf(status, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
        (void)putchar('\n');
    } else if (result == 0) {
        cli_print_overview(stdout, status, CLI_WIDTH_ANY);
        (void)putchar('\n');
        cli_print_requests(stdout, status, ROWS, CLI_WIDTH_ANY);
    }
    json_decref(status);
    cli_server_close(&server);
    return result;
}

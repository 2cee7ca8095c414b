#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli_explain.h"
#include "cli_fail.h"
#include "cli_options.h"
#include "cli_request.h"
#include "cli_status.h"
#include "cli_text.h"
#include "commands.h"

/* The command reload: request a restart in place and wait for its outcome.
 *
 * The process that takes the request may have exited when the outcome is known. So this polls the
 * admin socket: the process that answers there reports its generation. If another restart is under
 * way, this waits for its end first, to not mistake that outcome for its own. */

#define POLL_MS 50
#define TRIES 5 /* an answer may be cut while one process replaces the other */

struct reload {
    struct cli_server server;
    /* before the restart was requested */
    json_int_t generation;
    double failed, refused;
};

static const struct flag flag_rows[] = {
    CLI_SERVER_FLAGS(offsetof(struct reload, server)),
    CLI_HELP_FLAG,
};

static void wait_for_poll(void)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    (void)nanosleep(&pause, NULL);
}

/* As cli_get_status(), but only the last of TRIES failures in a row is reported. */
static int get_status(const struct reload *reload, json_t **ret_status)
{
    for (int i = 1;; i++) {
        cli_fail_mute(i < TRIES);
        int result = cli_get_status(&reload->server, ret_status);
        cli_fail_mute(false);
        if (result == 0 || i == TRIES)
            return result;
        wait_for_poll();
    }
}

static json_int_t generation_of(const json_t *status)
{
    return json_integer_value(json_object_get(status, "generation"));
}

static const json_t *restart_of(const json_t *status)
{
    return json_object_get(status, "restart");
}

/* A drain that no restart began. */
static bool is_stopping(const json_t *status)
{
    const json_t *drain = json_object_get(status, "drain");
    const json_t *first = json_array_get(json_object_get(drain, "triggers"), 0);

    return json_is_object(drain) && strcmp(cli_text(first, "name"), "restart") != 0;
}

static void note_before(struct reload *reload, const json_t *status)
{
    reload->generation = generation_of(status);
    reload->failed = cli_number(restart_of(status), "failed", 0);
    reload->refused = cli_number(restart_of(status), "refused", 0);
}

/* Wait until no restart is under way. Returns -1: request ours now; or the exit status. */
static int wait_for_turn(struct reload *reload)
{
    for (;;) {
        json_t *status = NULL;
        int result = get_status(reload, &status);
        if (result != 0)
            return result;
        bool is_busy = json_is_true(json_object_get(restart_of(status), "under_way"));
        note_before(reload, status);
        json_decref(status);
        if (!is_busy)
            return -1;
        wait_for_poll();
    }
}

/* POST /restart. Returns -1: accepted; -2: another restart came first, wait again; or the exit
 * status. */
static int request_restart(const struct reload *reload)
{
    json_t *answer = NULL;
    int result = cli_request(&reload->server, "POST", "/restart", NULL, &answer);
    bool is_busy = json_is_true(json_object_get(answer, "under_way"));

    json_decref(answer);
    return result != 0 ? result : is_busy ? -2 : -1;
}

static int fail_with(const struct reload *reload, const json_t *status, const char *what)
{
    const json_t *last = json_object_get(restart_of(status), "last_failure");
    char reason[1500];
    int code = (int)cli_number(last, "status", EX_UNAVAILABLE);

    cli_clean(cli_text(last, "reason"), reason, sizeof(reason), SIZE_MAX);
    return cli_fail(code > 0 && code < 126 ? code : EX_UNAVAILABLE,
                    "%s, generation %lld goes on: %s", what, (long long)reload->generation, reason);
}

/* Returns -1: no outcome yet; or the exit status. */
static int judge(const struct reload *reload, const json_t *status)
{
    json_int_t generation = generation_of(status);

    if (generation > reload->generation) {
        (void)printf("generation %lld serves (process %lld)\n", (long long)generation,
                     (long long)json_integer_value(json_object_get(status, "pid")));
        return 0;
    }
    if (cli_number(restart_of(status), "failed", 0) > reload->failed)
        return fail_with(reload, status, "the restart failed");
    if (cli_number(restart_of(status), "refused", 0) > reload->refused)
        return fail_with(reload, status, "the restart was refused");
    return is_stopping(status)
               ? cli_fail(CLI_REFUSED, "the server is stopping, so there is no restart")
               : -1;
}

static int wait_for_outcome(const struct reload *reload)
{
    int result = -1;

    while (result < 0) {
        json_t *status = NULL;
        wait_for_poll();
        result = get_status(reload, &status);
        if (result == 0)
            result = judge(reload, status);
        json_decref(status);
    }
    return result;
}

static int carry_out(struct reload *reload)
{
    int result;

    do {
        result = wait_for_turn(reload);
        if (result < 0)
            result = request_restart(reload);
    } while (result == -2);
    return result < 0 ? wait_for_outcome(reload) : result;
}

int cmd_reload(int argc, char **argv)
{
    struct reload reload = {0};
    struct cli_usage usage = {
        .flags = {.rows = flag_rows, .count = sizeof(flag_rows) / sizeof(flag_rows[0])},
        .command = "reload",
        .synopsis = "reload [OPTION]...",
        .about =
            "Restart a running server in place, as SIGHUP does, and wait for the outcome. A new\n"
            "process runs the binary and the configuration that are on disk now; if it fails, the\n"
            "server goes on as before. No request is lost and no connection is refused either "
            "way.\n"
            "Ctrl+C ends the wait, not the restart.\n\n"
            "Exit status: 0 the new generation serves; otherwise the exit status of the new "
            "process,\n"
            "such as 78 for a wrong configuration, or 69 if it crashed or was not ready in time; 1 "
            "no\n"
            "restart is possible now; 69 no server; 77 not permitted; 76 not an admin listener; "
            "64\n"
            "wrong usage.\n"};

    int result = cli_parse(argc, argv, &usage, &reload);
    if (result >= 0)
        return result;
    result = cli_server_open(&reload.server);
    if (result == 0)
        result = carry_out(&reload);
    cli_server_close(&reload.server);
    return result;
}

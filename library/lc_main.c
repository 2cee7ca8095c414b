#include <stdio.h>

#include "log.h"
#include "thread.h"
#include "lc_server_p.h"

/* The program lastcall, with the handlers of its caller. The server has no thread of its own
 * here: the main thread reads the command line and the file, is the coordinator, and ends the
 * process. See struct process_front. */

static NOT_LOOKED_INTO int call_setup(lc_server *server)
{
    struct lc_called called;

    if (server->program.setup == NULL)
        return LC_OK;
    lc_called_begin(&called, server, "the function of", "lc_main()");
    LC_NOTHING_PASSES();
    int result = server->program.setup(server, server->program.user);
    lc_called_end(&called);
    return result;
}

static int set_up(void *arg)
{
    lc_server *server = arg;
    char text[LC_ERROR_SIZE + 64];

    server->program.has_listen = server->options.listen_count > 0;
    int result = call_setup(server);
    if (result != LC_OK || server->failed != LC_OK) {
        (void)snprintf(text, sizeof(text), "cannot start: %s",
                       server->error[0] != '\0' ? server->error : lc_strerror(result));
        return process_fail_with(EXIT_STATUS_CONFIG, text);
    }
    server->options.has_own_routes = lc_routes_any(server->routes);
    lc_seal(server);
    return 0;
}

static int configured(void *arg)
{
    return lc_attach_routes(arg);
}

static void coordinated(void *arg)
{
    lc_watch_steps(arg);
}

static void began(void *arg)
{
    lc_note_runs(arg);
}

/* The process may end without another call: so modules end now. */
static void over(void *arg)
{
    lc_server *server = arg;

    lc_note_over(server);
    if (server->process.pool == NULL || pool_active(server->process.pool) == 0)
        lc_modules_end(server);
    else
        server->modules = NULL; /* a handler is stuck, and may use them */
}

static const struct process_front front = {
    .set_up = set_up,
    .configured = configured,
    .coordinated = coordinated,
    .began = began,
    .over = over,
    .ops = &lc_ops,
};

int lc_main(int argc, char **argv, int (*setup)(lc_server *server, void *user), void *user)
{
    if (argc < 1 || argv == NULL || argv[0] == NULL)
        return process_fail_with(EXIT_STATUS_USAGE, "lc_main: no argv[0]");
    lc_server *server = lc_make();
    if (server == NULL)
        return process_fail_with(EXIT_STATUS_UNAVAILABLE, "no memory to start");
    server->program.setup = setup;
    server->program.user = user;
    server->process.role = PROCESS_PROGRAM;
    server->process.front = &front;
    server->process.front_arg = server;
    server->process.options = &server->options;
    server->process.argv = argv;
    server->process.status = -1;
    server->scope.speaks_for_process = true;
    const struct scope *before = scope_enter(&server->scope);
    int status = process_main(argc, argv, &server->process, &server->options);
    (void)scope_enter(before);
    server_end_thread(NULL);
    lc_release(server);
    return status;
}

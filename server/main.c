#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "coord.h"
#include "file.h"
#include "log.h"
#include "options.h"
#include "pool.h"
#include "server.h"
#include "signals.h"

/* The table of contents of the process. Threads come up in the order in which they need each other
 * and go down the other way; the main thread is the coordinator in between. */

/* The time to join threads that have nothing left to do, and those that may be stuck behind the
 * deadline, which has passed already. Builds that look for leaks give them all that a machine which
 * stands still may take from them. */
#ifdef NDEBUG
#define TEAR_DOWN_NS (200 * NS_PER_MS)
#define ABORT_DOWN_NS (5 * NS_PER_MS)
#else
#define TEAR_DOWN_NS (10 * NS_PER_S)
#define ABORT_DOWN_NS (1 * NS_PER_S)
#endif
#define PROGRESS_NS (3 * NS_PER_S)

static void on_pool_idle(void *coord)
{
    coord_poke(coord);
}

static int fail(int status, const char *what, int err)
{
    log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "cannot start: %s: %s", what,
             strerrordesc_np(-err));
    return status;
}

static int write_pid_file(const char *path)
{
    char text[24];
    (void)snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    return file_write_whole(path, text);
}

static struct server_config server_config_of(const struct options *options)
{
    return (struct server_config){
        .listen = options->listen,
        .listen_count = options->listen_count,
        .cert = options->cert,
        .key = options->key,
        .loops = (unsigned)options->threads,
        .max_connections = options->max_connections,
        .root = options->root,
        .idle_grace_ns = options->idle_grace_ns,
        .linger_ns = options->linger_ns,
        .settle_max_ns = options->settle_max_ns,
    };
}

static struct coord_config coord_config_of(const struct options *options, struct server *server)
{
    return (struct coord_config){
        .ops = &server_ops,
        .server = server,
        .drain = {.lame_duck_ns = options->lame_duck_ns,
                  .deadline_ns = options->deadline_ns,
                  .idle_grace_ns = options->idle_grace_ns},
        .report_path = options->report,
        .progress_ns = PROGRESS_NS,
    };
}

/* Everything from here on is up and running; be the coordinator until it is over. */
static int serve(const struct options *options, struct server *server, struct coord *coord,
                 struct pool *pool)
{
    struct signals *signals = NULL;

    const char *what = "threads";
    int err = server_start(server, pool, coord);
    if (err == 0 && options->pid_file != NULL) {
        what = options->pid_file;
        err = write_pid_file(options->pid_file);
    }
    if (err == 0)
        err = signals_start(coord, &signals);
    int status = err == 0 ? coord_run(coord) : fail(COORD_EXIT_UNAVAILABLE, what, err);

    if (options->pid_file != NULL && err == 0)
        (void)unlink(options->pid_file);
#ifdef NDEBUG
    /* Drained: no connection, no request, no job is left, and a process that is done should be
     * gone. Joining a dozen threads would take longer than all else behind the last response. Debug
     * and sanitizer builds do it, so that nothing can leak unseen. */
    struct coord_census left = {0};
    server_ops.census(server, &left);
    if (err == 0 && status == COORD_EXIT_CLEAN && left.connections == 0)
        _exit(status);
#endif
    /* Whoever is stuck by now, in a handler or on a slow disk, is not waited for. */
    uint64_t until_ns = clock_now_ns() + (status == 0 ? TEAR_DOWN_NS : ABORT_DOWN_NS);
    bool stuck = server_stop(server, until_ns) != 0;
    if (!stuck) /* a loop that still runs may still submit */
        stuck = pool_destroy(pool, until_ns) != 0;
    if (stuck)
        _exit(status);
    signals_stop(signals);
    return status;
}

int main(int argc, char **argv)
{
    struct options options;
    struct server *server = NULL;
    struct coord *coord = NULL;
    struct pool *pool = NULL;
    char error[512];

    int status = options_parse(argc, argv, &options);
    if (status >= 0)
        return status;
    log_init(options.log_format, options.quiet);
    int err = signals_block();
    if (err != 0)
        return fail(COORD_EXIT_UNAVAILABLE, "signals", err);

    struct server_config server_config = server_config_of(&options);
    status = server_create(&server_config, error, sizeof(error), &server);
    if (status != 0) {
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "%s", error);
        return status;
    }
    struct coord_config coord_config = coord_config_of(&options, server);
    err = coord_create(&coord_config, &coord);
    struct pool_config pool_config = {.workers = (unsigned)options.workers,
                                      .queue = (unsigned)options.queue,
                                      .on_idle = on_pool_idle,
                                      .on_idle_arg = coord};
    if (err == 0)
        err = pool_create(&pool_config, &pool);
    if (err == 0) {
        coord_attach_pool(coord, pool);
        status = serve(&options, server, coord, pool);
    } else {
        status = fail(COORD_EXIT_UNAVAILABLE, "threads", err);
    }
    coord_destroy(coord);
    server_destroy(server);
    return status;
}

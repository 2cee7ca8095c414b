#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "coord.h"
#include "file.h"
#include "log.h"
#include "logfiles.h"
#include "notify.h"
#include "options.h"
#include "pool.h"
#include "server.h"
#include "signals.h"
#include "user.h"
#include "watch.h"

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

static int fail_with(int status, const char *error)
{
    log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "%s", error);
    return status;
}

/* ---- the pid file ---- */

/* Open since before root was given up, -1: it was not. The folder, often /run, may be root's alone.
 */
static int pid_fd = -1;

static int write_pid_file(const char *path)
{
    char text[24];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (pid_fd < 0)
        return file_write_whole(path, text);
    return ftruncate(pid_fd, 0) == 0 && write(pid_fd, text, (size_t)n) == n ? 0 : -errno;
}

/* Ours only: a successor may have written its own by now. */
static void remove_pid_file(const char *path)
{
    char text[24] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool is_ours =
        fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strtol(text, NULL, 10) == (long)getpid();

    if (fd >= 0)
        (void)close(fd);
    if (is_ours && unlink(path) != 0 && pid_fd >= 0)
        (void)!ftruncate(pid_fd, 0); /* at least it names nobody */
}

/* Before root is given up. What stands there already must be a file like one of ours: the folder
 * may be others' too, and root writes where a link leads. */
static int open_pid_file(const char *path)
{
    struct stat st;

    pid_fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    if (pid_fd < 0)
        return -errno;
    if (fstat(pid_fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1)
        return 0;
    (void)close(pid_fd);
    pid_fd = -1;
    return -EEXIST;
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

static struct watch_config watch_config_of(const struct options *options)
{
    return (struct watch_config){.exists = options->when_exists,
                                 .stale_file = options->when_stale,
                                 .stale_after_ns = options->stale_after_ns,
                                 .closed_fd = options->when_closed};
}

/* Better said at the start than at the end. */
static bool can_write_beside(const char *path)
{
    char *copy = strdup(path);
    bool can = copy != NULL && access(dirname(copy), W_OK | X_OK) == 0;
    free(copy);
    return can;
}

/* The listeners and the logs are open, which may take root; the rest does not. */
static int settle(const struct options *options, struct server *server)
{
    char error[512];

    if (options->error_log != NULL) {
        if (!logfiles_redirect(options->error_log, error, sizeof(error)))
            return fail_with(COORD_EXIT_CONFIG, error);
        log_init(options->log_format, options->quiet); /* it may have been a terminal */
    }
    if (options->user == NULL)
        return 0;
    server_prepare_unprivileged(server);
    if (options->pid_file != NULL && geteuid() == 0) {
        int err = open_pid_file(options->pid_file);
        if (err != 0)
            return fail(COORD_EXIT_CONFIG, options->pid_file, err);
    }
    if (!user_become(options->user, error, sizeof(error)))
        return fail_with(COORD_EXIT_CONFIG, error);
    if (options->report != NULL && !can_write_beside(options->report)) {
        (void)snprintf(error, sizeof(error),
                       "cannot write the report to %s: user %s may not write in its folder",
                       options->report, options->user);
        return fail_with(COORD_EXIT_CONFIG, error);
    }
    return 0;
}

/* Everything from here on is up and running; be the coordinator until it is over. */
static int serve(const struct options *options, struct server *server, struct coord *coord,
                 struct pool *pool)
{
    struct signals *signals = NULL;
    struct watch *watch = NULL;

    const char *what = "threads";
    int err = server_start(server, pool, coord);
    if (err == 0 && options->pid_file != NULL) {
        what = options->pid_file;
        err = write_pid_file(options->pid_file);
    }
    if (err == 0) {
        what = "threads";
        signals_on_reopen(logfiles_reopen);
        err = signals_start(coord, &signals);
    }
    struct watch_config triggers = watch_config_of(options);
    if (err == 0 && watch_wanted(&triggers))
        err = watch_start(&triggers, coord, &watch);
    if (err == 0)
        notify_send("READY=1\nSTATUS=serving\nMAINPID=%ld", (long)getpid());
    int status = err == 0 ? coord_run(coord) : fail(COORD_EXIT_UNAVAILABLE, what, err);

    if (options->pid_file != NULL && err == 0)
        remove_pid_file(options->pid_file);
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
#ifdef NDEBUG
    /* All that is left to free is memory, and freeing it is the library's least travelled path. */
    stuck |= err == 0;
#endif
    if (stuck)
        _exit(status);
    watch_stop(watch);
    signals_stop(signals);
    return status;
}

int main(int argc, char **argv)
{
    struct options options;
    struct server *server = NULL;
    struct coord *coord = NULL;
    struct pool *pool = NULL;

    int status = options_parse(argc, argv, &options);
    if (status >= 0)
        return status;
    log_init(options.log_format, options.quiet);
    int err = signals_block();
    if (err == 0)
        err = signals_spare_children();
    if (err != 0)
        return fail(COORD_EXIT_UNAVAILABLE, "signals", err);

    status = server_create(&options, &server);
    if (status != 0)
        return status;
    if (options.test) {
        (void)puts("configuration OK");
        server_destroy(server);
        return 0;
    }
    status = settle(&options, server);
    if (status != 0) {
        server_destroy(server);
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

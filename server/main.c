#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "coord.h"
#include "file.h"
#include "log.h"
#include "logfiles.h"
#include "master.h"
#include "notify.h"
#include "options.h"
#include "pool.h"
#include "restarter.h"
#include "server.h"
#include "signals.h"
#include "succession.h"
#include "upstream.h"
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
    /* In this order: who reads the first line meanwhile reads one of the two. */
    return pwrite(pid_fd, text, (size_t)n, 0) == n && ftruncate(pid_fd, n) == 0 ? 0 : -errno;
}

static bool names_us(const char *path)
{
    char text[24] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool is_ours =
        fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strtol(text, NULL, 10) == (long)getpid();

    if (fd >= 0)
        (void)close(fd);
    return is_ours;
}

/* Ours only: a successor may have written its own by now. */
static void remove_pid_file(const char *path)
{
    if (names_us(path) && unlink(path) != 0 && pid_fd >= 0)
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

/* Better said at the start than at the end. */
static bool can_write_beside(const char *path)
{
    char *copy = strdup(path);
    bool can = copy != NULL && access(dirname(copy), W_OK | X_OK) == 0;
    free(copy);
    return can;
}

/* The listeners and the logs are open, which may take root; the rest does not. */
static int settle(const struct options *options, struct server *server, struct upstream *upstream)
{
    char error[512];

    if (options->error_log != NULL) {
        if (!logfiles_redirect(options->error_log, error, sizeof(error)))
            return fail_with(COORD_EXIT_CONFIG, error);
        log_init(options->log_format, options->quiet); /* it may have been a terminal */
    }
    /* Opened by a predecessor that had the right to. */
    if (options->pid_file != NULL && strcmp(options->pid_file, upstream->pid_file) == 0) {
        pid_fd = upstream->pid_file_fd;
        upstream->pid_file_fd = -1;
    }
    if (options->user == NULL)
        return 0;
    server_prepare_unprivileged(server);
    if (options->pid_file != NULL && !upstream->is_master && geteuid() == 0 && pid_fd < 0) {
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

/* ---- the parts ---- */

/* All that runs, in one place. */
struct process {
    const struct options *options;
    struct upstream upstream;
    char **argv;
    char *binary;
    bool is_successor; /* or a master's worker: somebody else says when to accept */
    struct restarter *restarter;
    struct server *server;
    struct coord *coord;
    struct pool *pool;
    struct signals *signals;
    struct watch *watch;
    const char *at_fault; /* what a start that failed was about, if it knows better than its part */
};

static int start_pool(struct process *process)
{
    const struct pool_config config = {.workers = (unsigned)process->options->workers,
                                       .queue = (unsigned)process->options->queue,
                                       .on_idle = on_pool_idle,
                                       .on_idle_arg = process->coord};
    int err = pool_create(&config, &process->pool);
    if (err == 0)
        coord_attach_pool(process->coord, process->pool);
    return err;
}

static int start_server(struct process *process)
{
    int err = server_start(process->server, process->pool, process->coord);

    if (process->upstream.conns_fd >= 0) /* each loop has its own */
        (void)close(process->upstream.conns_fd);
    process->upstream.conns_fd = -1;
    return err;
}

static int start_pid_file(struct process *process)
{
    process->at_fault = process->options->pid_file;
    return process->options->pid_file != NULL && !process->is_successor
               ? write_pid_file(process->options->pid_file)
               : 0;
}

static void leave_pid_file(struct process *process)
{
    if (process->options->pid_file != NULL)
        remove_pid_file(process->options->pid_file);
}

/* ---- restarts ---- */

static bool offer_listener(void *arg, size_t i, struct handover_message *ret_message)
{
    return server_offer(((struct process *)arg)->server, i, ret_message);
}

static bool is_inherited(void *arg, size_t i)
{
    return server_is_inherited(((struct process *)arg)->server, i);
}

static void describe(void *arg, struct handover_message *message)
{
    const struct process *process = arg;

    server_describe(process->server, message);
    if (!process->upstream.is_master)
        return;
    if (process->options->pid_file != NULL)
        handover_put_text(message, HANDOVER_PID_FILE, process->options->pid_file);
    handover_put_number(message, HANDOVER_TIMEOUT_NS, process->options->restart_timeout_ns);
    handover_put_number(message, HANDOVER_PROBATION_NS, process->options->restart_probation_ns);
    if (process->options->error_log != NULL)
        handover_put_fd(message, STDERR_FILENO);
}

/* Also where a successor had put its own name, and came to nothing. */
static void claim_pid_file(void *arg)
{
    const struct process *process = arg;
    const char *path = process->options->pid_file;

    if (path == NULL || process->upstream.is_master || names_us(path))
        return;
    int err = write_pid_file(path);
    if (err != 0)
        log_line(LOG_LEVEL_ERROR, "pid-file-failed", NULL, "cannot write the pid file %s: %s", path,
                 strerrordesc_np(-err));
}

static void commit(void *arg)
{
    server_open(((struct process *)arg)->server);
    claim_pid_file(arg);
}

static void followed(void *arg, const uint64_t *taken, size_t taken_count, const uint64_t *welcome,
                     size_t welcome_count, int conns_fd)
{
    server_followed(((struct process *)arg)->server, taken, taken_count, welcome, welcome_count,
                    conns_fd);
}

static const struct restarter_ops restarter_ops = {
    .offer = offer_listener,
    .is_inherited = is_inherited,
    .describe = describe,
    .commit = commit,
    .followed = followed,
    .reclaim = claim_pid_file,
};

static int start_restarter(struct process *process)
{
    const struct options *options = process->options;
    const struct restarter_config config = {
        .coord = process->coord,
        .upstream = &process->upstream,
        .timing = {.timeout_ns = options->restart_timeout_ns,
                   .probation_ns = options->restart_probation_ns},
        .argv = process->argv,
        .binary = process->binary,
        .keep_fd = options->when_closed,
        .pid_file = options->pid_file,
        .pid_file_fd = pid_fd,
        .ops = &restarter_ops,
        .arg = process,
    };
    return restarter_start(&config, &process->restarter);
}

static void stop_restarter(struct process *process)
{
    restarter_stop(process->restarter);
}

static int open_doors(struct process *process)
{
    if (!process->is_successor)
        server_open(process->server);
    return 0;
}

static void on_restart_signal(void *restarter, const char *name, const char *detail)
{
    restarter_request(restarter, name, detail);
}

static int start_signals(struct process *process)
{
    signals_on_reopen(logfiles_reopen);
    signals_on_restart(on_restart_signal, process->restarter);
    return signals_start(process->coord, &process->signals);
}

static void stop_signals(struct process *process)
{
    signals_stop(process->signals);
}

static int start_watch(struct process *process)
{
    const struct options *options = process->options;
    const struct watch_config config = {.exists = options->when_exists,
                                        .stale_file = options->when_stale,
                                        .stale_after_ns = options->stale_after_ns,
                                        .closed_fd = options->when_closed};
    return watch_wanted(&config) ? watch_start(&config, process->coord, &process->watch) : 0;
}

static void stop_watch(struct process *process)
{
    watch_stop(process->watch);
}

/* What comes up, in this order, and goes down in the other. */
static const struct part {
    const char *name;
    int (*start)(struct process *process); /* 0; a negative errno */
    /* What must be done however the process ends: others see it. May be NULL. */
    void (*leave)(struct process *process);
    /* Join and free; left out where the process ends at once. May be NULL. Loops and workers, which
     * may be stuck, are not among these: see tear_down(). */
    void (*stop)(struct process *process);
} parts[] = {
    {"worker threads", start_pool, NULL, NULL},
    {"loop threads", start_server, NULL, NULL},
    {"the pid file", start_pid_file, leave_pid_file, NULL},
    {"the restart thread", start_restarter, NULL, stop_restarter},
    {"the signal thread", start_signals, NULL, stop_signals},
    {"the watching thread", start_watch, NULL, stop_watch},
    {"the doors", open_doors, NULL, NULL}, /* last: a start that fails has accepted nothing */
};
#define PARTS (sizeof(parts) / sizeof(parts[0]))

static void leave_parts(struct process *process, size_t started)
{
    for (size_t i = started; i-- > 0;)
        if (parts[i].leave != NULL)
            parts[i].leave(process);
}

#ifdef NDEBUG
static bool is_drained(struct process *process, int status)
{
    struct coord_census left = {0};
    server_ops.census(process->server, &left);
    return status == COORD_EXIT_CLEAN && left.connections == 0;
}
#endif

/* End the threads; whoever is stuck by now, in a handler or on a slow disk, is not waited for. */
static void tear_down(struct process *process, size_t started, int status)
{
    bool ran = started == PARTS;
    (void)ran;
#ifdef NDEBUG
    /* Drained: no connection, no request, no job is left, and a process that is done should be
     * gone. Joining a dozen threads would take longer than all else behind the last response. Debug
     * and sanitizer builds do it, so that nothing can leak unseen. */
    if (ran && is_drained(process, status))
        _exit(status);
#endif
    uint64_t until_ns = clock_now_ns() + (status == 0 ? TEAR_DOWN_NS : ABORT_DOWN_NS);
    bool stuck = server_stop(process->server, until_ns) != 0;
    if (!stuck) /* a loop that still runs may still submit */
        stuck = pool_destroy(process->pool, until_ns) != 0;
#ifdef NDEBUG
    /* All that is left to free is memory, and freeing it is the library's least travelled path. */
    stuck |= ran;
#endif
    if (stuck)
        _exit(status);
    for (size_t i = started; i-- > 0;)
        if (parts[i].stop != NULL)
            parts[i].stop(process);
}

/* Bring everything up, and be the coordinator until it is over. */
static int serve(struct process *process)
{
    size_t started = 0;
    int err = 0, status;

    while (started < PARTS && (err = parts[started].start(process)) == 0) {
        process->at_fault = NULL;
        started++;
    }
    if (err == 0) {
        if (!process->is_successor) /* or else whoever started us says so, in time */
            notify_send("READY=1\nSTATUS=serving\nMAINPID=%ld", (long)getpid());
        status = coord_run(process->coord);
    } else {
        status = fail(COORD_EXIT_UNAVAILABLE,
                      process->at_fault != NULL ? process->at_fault : parts[started].name, err);
    }
    leave_parts(process, started);
    tear_down(process, started, status);
    return status;
}

/* A process that watches another one, in place of serving. */
static int be_master(struct process *process)
{
    struct master_config config = {.upstream = &process->upstream,
                                   .argv = process->argv,
                                   .binary = process->binary,
                                   .keep_fd = process->options->when_closed,
                                   .ready_fd = -1,
                                   .first_timeout_ns = process->options->restart_timeout_ns};

    if (process->options->mode == OPTIONS_MODE_DAEMON) {
        int status = master_detach(&config.ready_fd);
        if (status >= 0)
            return status;
    }
    return master_run(&config);
}

static int be_server(struct process *process, struct options *options)
{
    int err = signals_spare_children();
    if (err != 0)
        return fail(COORD_EXIT_UNAVAILABLE, "signals", err);
    int status = server_create(options, &process->server);
    if (status != 0)
        return status;
    if (options->test) {
        (void)puts("configuration OK");
        server_destroy(process->server);
        return 0;
    }
    if (options->mode == OPTIONS_MODE_DAEMON && options->error_log == NULL)
        status = fail_with(COORD_EXIT_CONFIG, "mode daemon wants an error-log: nobody will read "
                                              "what it writes to standard error");
    if (status == 0)
        status = settle(options, process->server, &process->upstream);
    if (status == 0) {
        const struct coord_config config = {.ops = &server_ops,
                                            .server = process->server,
                                            .drain = {.lame_duck_ns = options->lame_duck_ns,
                                                      .deadline_ns = options->deadline_ns,
                                                      .idle_grace_ns = options->idle_grace_ns},
                                            .report_path = options->report,
                                            .progress_ns = PROGRESS_NS};
        err = coord_create(&config, &process->coord);
        status = err == 0 ? serve(process) : fail(COORD_EXIT_UNAVAILABLE, "the coordinator", err);
    }
    coord_destroy(process->coord);
    server_destroy(process->server);
    return status;
}

int main(int argc, char **argv)
{
    struct options options;
    struct process process = {.options = &options, .argv = argv};
    char error[512];

    int status = cli_run(argc, argv);
    if (status < 0)
        status = options_parse(argc, argv, &options);
    if (status >= 0)
        return status;
    log_init(options.log_format, options.quiet);
    int err = signals_block();
    if (err != 0)
        return fail(COORD_EXIT_UNAVAILABLE, "signals", err);
    if (upstream_open(&process.upstream, error, sizeof(error)) != 0)
        return fail_with(COORD_EXIT_UNAVAILABLE, error);
    process.is_successor = process.upstream.fd >= 0;
    process.binary = succession_find_binary(argv[0]);
    options.inheritance = &process.upstream.listeners;
    options.conns_fd = process.upstream.conns_fd;
    options.generation = process.upstream.generation;
    if (process.binary == NULL)
        return fail(COORD_EXIT_UNAVAILABLE, argv[0], -ENOENT);
    if (process.upstream.is_master)
        notify_through(process.upstream.fd);
    bool watches = options.mode == OPTIONS_MODE_MASTER || options.mode == OPTIONS_MODE_DAEMON;
    status = watches && !process.is_successor ? be_master(&process) : be_server(&process, &options);
    upstream_release(&process.upstream);
    free(process.binary);
    return status;
}

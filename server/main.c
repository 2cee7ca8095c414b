#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "admin.h"
#include "app.h"
#include "budget.h"
#include "cli.h"
#include "coord.h"
#include "file.h"
#include "heartbeat.h"
#include "journal.h"
#include "log.h"
#include "logfiles.h"
#include "master.h"
#include "notify.h"
#include "options.h"
#include "pool.h"
#include "queue.h"
#include "registration.h"
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
/* What the application is given to end in when its requests are answered no more. */
#define APP_SHORT_GRACE_NS (1 * NS_PER_S)

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

/* Before root is given up: a file with a password may be root's alone. */
static int prepare_registration(const struct options *options, const struct server *server,
                                struct registration **ret_registration)
{
    char error[REGISTRATION_ERROR_SIZE] = "no memory to start";
    const struct registration_config config = {.url = options->register_url,
                                               .password_file = options->register_password_file,
                                               .ttl_ns = options->register_ttl_ns,
                                               .key = options->register_key,
                                               .address = options->register_address,
                                               .value = options->register_value,
                                               .port = options->test ? -1 : server_port(server)};

    if (config.url == NULL || registration_create(&config, ret_registration, error) == 0)
        return 0;
    return fail_with(COORD_EXIT_CONFIG, error);
}

/* Likewise. */
static int prepare_queue(const struct options *options, struct queue **ret_queue)
{
    char error[QUEUE_ERROR_SIZE];
    const struct queue_config config = {.dir = options->journal_dir,
                                        .url = options->journal_redis_url,
                                        .password_file = options->journal_redis_password_file,
                                        .stream = options->journal_redis_stream,
                                        .maxlen = options->journal_redis_maxlen};

    if (config.url == NULL || queue_create(&config, ret_queue, error) == 0)
        return 0;
    return fail_with(COORD_EXIT_CONFIG, error);
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
    struct journal *journal;
    struct queue *queue;
    struct pool *pool;
    struct signals *signals;
    struct watch *watch;
    struct admin *admin; /* NULL: there is none */
    struct heartbeat *heartbeat;
    struct budget *budget;
    struct app *app;
    struct registration *registration;
    struct rlimit files;  /* the limit on open files, before the server raised it */
    int status;           /* of the process, once it is known; -1; with `error`, of its start */
    const char *at_fault; /* what a start that failed was about, if it knows better than its part */
    char error[JOURNAL_ERROR_SIZE]; /* the whole line about a start that failed; or "" */
};

static struct journal_config journal_config(const struct options *options)
{
    return (struct journal_config){.dir = options->journal_dir,
                                   .methods = options->journal_methods,
                                   .paths = options->journal_paths,
                                   .redact = options->journal_redact,
                                   .max_body = options->journal_max_body,
                                   .max_inflight_bytes = options->journal_max_inflight_bytes,
                                   .partitions = (unsigned)options->threads,
                                   .sync = options->journal_msync ? JOURNAL_SYNC_MSYNC
                                                                  : JOURNAL_SYNC_NONE};
}

static int start_journal(struct process *process)
{
    const struct journal_config config = journal_config(process->options);

    if (config.dir == NULL)
        return 0;
    process->status = journal_open(&config, &process->journal, process->error);
    if (process->status != 0)
        return -ECANCELED; /* the line is in process->error */
    server_attach_journal(process->server, process->journal);
    coord_attach_journal(process->coord, process->journal);
    return 0;
}

static int check_journal(const struct options *options)
{
    const struct journal_config config = journal_config(options);
    char error[JOURNAL_ERROR_SIZE];
    int status = config.dir != NULL ? journal_check(&config, error) : 0;

    return status != 0 ? fail_with(status, error) : 0;
}

static void leave_journal(struct process *process)
{
    journal_leave(process->journal);
}

static int start_queue(struct process *process)
{
    return process->queue != NULL ? queue_start(process->queue, process->coord) : 0;
}

static void leave_queue(struct process *process)
{
    queue_leave(process->queue);
}

static void stop_queue(struct process *process)
{
    queue_stop(process->queue);
}

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

static int start_admin(struct process *process)
{
    return admin_start(process->admin, process->pool, process->coord);
}

static void leave_admin(struct process *process)
{
    admin_leave(process->admin);
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

/* ---- the application, `-- COMMAND` ---- */

/* Any other status is a clean drain's, which may be the application's own. */
static bool is_cut_short(int status)
{
    return status == COORD_EXIT_DEADLINE || status == COORD_EXIT_FORCED;
}

static int start_app(struct process *process)
{
    static char at_fault[320];
    const struct options *options = process->options;
    struct app_config config = {.argv = options->command,
                                .rules = {.start_timeout_ns = options->app_start_timeout_ns,
                                          .grace_ns = options->app_grace_ns,
                                          .restart = options->app_restart},
                                .files = process->files,
                                .on_hold = server_hold,
                                .on_hold_arg = process->server};

    if (!app_wanted(&config))
        return 0;
    int err = options->command != NULL
                  ? server_app_target(process->server, &config.target, &config.port)
                  : 0;
    if (err == 0)
        err = app_start(&config, process->coord, &process->app);
    if (err == -EADDRINUSE)
        (void)snprintf(at_fault, sizeof(at_fault),
                       "something answers at %.100s already, where the application %.100s is to",
                       config.target.name, options->command[0]);
    else
        (void)snprintf(at_fault, sizeof(at_fault), "the application %.200s",
                       options->command != NULL ? options->command[0] : "(none)");
    process->at_fault = at_fault;
    return err;
}

/* Nothing is in flight at it any more, or nothing is waited for. */
static void leave_app(struct process *process)
{
    uint64_t grace_ns = process->options->app_grace_ns;

    if (is_cut_short(process->status) && grace_ns > APP_SHORT_GRACE_NS)
        grace_ns = APP_SHORT_GRACE_NS;
    app_stop(process->app, grace_ns);
}

static void stop_app(struct process *process)
{
    app_destroy(process->app);
}

/* SIGHUP and the like: for the application, if there is one. */
static bool take_spare_signal(void *data, int signo)
{
    struct process *process = data;
    return process->app != NULL && app_signal(process->app, signo);
}

/* ---- restarts ---- */

static bool offer_listener(void *arg, size_t i, struct handover_message *ret_message)
{
    struct process *process = arg;
    size_t of_server = server_listener_count(process->server);

    return i < of_server ? server_offer(process->server, i, ret_message)
                         : admin_offer(process->admin, i - of_server, ret_message);
}

static bool is_inherited(void *arg, size_t i)
{
    const struct process *process = arg;
    size_t of_server = server_listener_count(process->server);

    return i < of_server ? server_is_inherited(process->server, i)
                         : admin_is_inherited(process->admin, i - of_server);
}

static void describe(void *arg, struct handover_message *message)
{
    const struct process *process = arg;

    uint64_t of_admin[8];

    server_describe(process->server, of_admin, admin_ids(process->admin, of_admin, 8), message);
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

/* From here on it is this process that serves. */
static void take_charge(struct process *process)
{
    server_open(process->server);
    admin_accept(process->admin);
    registration_begin(process->registration);
}

static void commit(void *arg)
{
    take_charge(arg);
    claim_pid_file(arg);
}

static void followed(void *arg, const uint64_t *taken, size_t taken_count, const uint64_t *welcome,
                     size_t welcome_count, int conns_fd)
{
    struct process *process = arg;

    admin_followed(process->admin, taken, taken_count);
    registration_hand_over(process->registration);
    server_followed(process->server, taken, taken_count, welcome, welcome_count, conns_fd);
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
    int err = restarter_start(&config, &process->restarter);
    if (err == 0 && options->command == NULL)
        admin_set_restarter(process->admin, process->restarter);
    return err;
}

static void stop_restarter(struct process *process)
{
    restarter_stop(process->restarter);
}

static int open_doors(struct process *process)
{
    if (!process->is_successor)
        take_charge(process);
    return 0;
}

static void on_restart_signal(void *restarter, const char *name, const char *detail)
{
    restarter_request(restarter, name, detail);
}

static int start_signals(struct process *process)
{
    signals_on_reopen(logfiles_reopen);
    signals_on_spare(take_spare_signal, process);
    /* Not with an application: a successor would start another one. The signals are the
     * application's then. */
    if (process->options->command == NULL)
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

static bool is_moving(void *server)
{
    return server_is_moving(server);
}

static int start_heartbeat(struct process *process)
{
    const struct heartbeat_config config = {.file = process->options->heartbeat,
                                            .every_ns = process->options->heartbeat_every_ns,
                                            .is_moving = is_moving,
                                            .arg = process->server};
    return heartbeat_wanted(&config) ? heartbeat_start(&config, &process->heartbeat) : 0;
}

static void stop_heartbeat(struct process *process)
{
    heartbeat_stop(process->heartbeat);
}

static struct drain_config drain_config(const struct options *options)
{
    return (struct drain_config){.lame_duck_ns = options->lame_duck_ns,
                                 .deadline_ns = options->deadline_ns,
                                 .idle_grace_ns = options->idle_grace_ns,
                                 .spread_ns = options->spread_ns,
                                 .class_ns = {[DRAIN_TUNNEL] = options->tunnel_ns,
                                              [DRAIN_STREAM] = options->stream_ns,
                                              [DRAIN_UPLOAD] = options->upload_ns}};
}

static int start_budget(struct process *process)
{
    const struct options *options = process->options;
    const struct drain_config drain = drain_config(options);
    return budget_start(&drain, options->linger_ns, options->grace_budget_ns, &process->budget);
}

static void stop_budget(struct process *process)
{
    budget_stop(process->budget);
}

static int start_registration(struct process *process)
{
    return process->registration != NULL ? registration_start(process->registration, process->coord)
                                         : 0;
}

static void leave_registration(struct process *process)
{
    registration_leave(process->registration);
}

static void stop_registration(struct process *process)
{
    registration_stop(process->registration);
}

/* What comes up, in this order, and goes down in the other. */
static const struct part {
    const char *name;
    int (*start)(struct process *process); /* 0; a negative errno */
    /* What must be done however the process ends: others see it. May be NULL. */
    void (*leave)(struct process *process);
    /* Join and free; left out where the process ends at once. May be NULL. Loops and workers, which
     * may be stuck, are not among these, nor is who looks at them: see tear_down(). */
    void (*stop)(struct process *process);
} parts[] = {
    {"the in-flight record", start_journal, leave_journal, NULL}, /* freed last of all, by main() */
    {"the retry queue", start_queue, leave_queue, stop_queue},
    {"worker threads", start_pool, NULL, NULL},
    {"loop threads", start_server, NULL, NULL}, /* they wait for the last row */
    {"the admin listener", start_admin, leave_admin, NULL},
    {"the application", start_app, leave_app, stop_app},
    {"the restart thread", start_restarter, NULL, stop_restarter},
    {"the signal thread", start_signals, NULL, stop_signals},
    {"the watching thread", start_watch, NULL, stop_watch},
    {"the heartbeat", start_heartbeat, NULL, stop_heartbeat},
    {"the look at the stop time-out", start_budget, NULL, stop_budget},
    {"the pid file", start_pid_file, leave_pid_file, NULL},
    {"the registration", start_registration, leave_registration, stop_registration},
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
    return !is_cut_short(status) && left.connections == 0;
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
    uint64_t until_ns = clock_now_ns() + (is_cut_short(status) ? ABORT_DOWN_NS : TEAR_DOWN_NS);
    bool stuck = admin_stop(process->admin, until_ns) != 0; /* it looks at loops and pool */
    if (!stuck)
        stuck = server_stop(process->server, until_ns) != 0;
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
        /* With an application once that is up, see app.c; a successor's READY is said by whoever
         * started it, in time. */
        if (process->options->command == NULL && !process->is_successor)
            notify_send("READY=1\nSTATUS=serving\nMAINPID=%ld", (long)getpid());
        status = coord_run(process->coord);
    } else if (process->error[0] != '\0') {
        status = fail_with(process->status, process->error);
    } else {
        status = fail(COORD_EXIT_UNAVAILABLE,
                      process->at_fault != NULL ? process->at_fault : parts[started].name, err);
    }
    process->status = status;
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
    int spared = signals_spare_children();
    if (spared != 0)
        return fail(COORD_EXIT_UNAVAILABLE, "signals", spared);
    (void)getrlimit(RLIMIT_NOFILE, &process->files);
    int status = server_create(options, &process->server);
    if (status != 0)
        return status;
    status = prepare_registration(options, process->server, &process->registration);
    if (status == 0)
        status = prepare_queue(options, &process->queue);
    if (status == 0 && options->test)
        status = check_journal(options);
    if (status == 0 && options->test)
        (void)puts("configuration OK");
    if (status == 0 && options->mode == OPTIONS_MODE_DAEMON && options->error_log == NULL)
        status = fail_with(COORD_EXIT_CONFIG, "mode daemon wants an error-log: nobody will read "
                                              "what it writes to standard error");
    if (status == 0 && !options->test)
        status = admin_open(options, process->server, &process->admin);
    if (status == 0 && !options->test)
        status = server_settle_inheritance(process->server);
    if (status == 0 && !options->test)
        status = settle(options, process->server, &process->upstream);
    if (status == 0 && !options->test) {
        const struct coord_config config = {.ops = &server_ops,
                                            .server = process->server,
                                            .drain = drain_config(options),
                                            .report_path = options->report,
                                            .progress_ns = PROGRESS_NS};
        int err = coord_create(&config, &process->coord);
        status = err == 0 ? serve(process) : fail(COORD_EXIT_UNAVAILABLE, "the coordinator", err);
    }
    admin_destroy(process->admin);
    registration_destroy(process->registration);
    queue_destroy(process->queue);
    coord_destroy(process->coord);
    server_destroy(process->server);
    journal_destroy(process->journal);
    return status;
}

int main(int argc, char **argv)
{
    struct options options;
    struct process process = {.options = &options, .argv = argv, .status = -1};
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

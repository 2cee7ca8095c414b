#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "logfiles.h"
#include "notify.h"
#include "pid_file.h"
#include "process.h"
#include "settings.h"
#include "user.h"

/* The table of the process's subsystems. They start in the order in which they need each other and
 * stop in the reverse order; in between the main thread is the coordinator. */

/* How long to wait for threads that have nothing left to do (TEAR_DOWN), and after the deadline for
 * threads that may be stuck (ABORT_DOWN). Debug builds wait longer: they look for leaks, also on
 * slow machines. */
#ifdef NDEBUG
#define TEAR_DOWN_NS (200 * NS_PER_MS)
#define ABORT_DOWN_NS (5 * NS_PER_MS)
#else
#define TEAR_DOWN_NS (10 * NS_PER_S)
#define ABORT_DOWN_NS (1 * NS_PER_S)
#endif

int process_fail(int status, const char *what, int err)
{
    log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "cannot start: %s: %s", what,
             strerrordesc_np(-err));
    return status;
}

int process_fail_with(int status, const char *error)
{
    log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "%s", error);
    return status;
}

/* Every other status ends a clean drain; it may be the application's own. */
bool process_is_cut_short(int status)
{
    return status == EXIT_STATUS_DEADLINE || status == EXIT_STATUS_FORCED;
}

static void on_pool_idle(void *coord)
{
    coord_poke(coord);
}

/* The coordinator's callback: see coord_attach_archive(). */
static void archive(void *arg, bool forced, bool loops_are_quiet, uint64_t until_ns,
                    struct coord_archived *ret_archived)
{
    struct journal_archived archived;

    journal_archive(arg, forced ? UNFINISHED_REASON_FORCED : UNFINISHED_REASON_DEADLINE,
                    loops_are_quiet, until_ns, &archived);
    *ret_archived = (struct coord_archived){.count = archived.count, .left = archived.left};
    memcpy(ret_archived->path, archived.path, sizeof(archived.path));
}

static int start_journal(struct process *process)
{
    const struct journal_config config = settings_journal(process->options);

    if (config.dir == NULL)
        return 0;
    process->status = journal_open(&config, &process->journal, process->error);
    if (process->status != 0)
        return -ECANCELED; /* process->error has the line */
    server_attach_journal(process->server, process->journal);
    coord_attach_archive(process->coord, archive, process->journal);
    return 0;
}

int process_check_journal(const struct options *options)
{
    struct journal_config config = settings_journal(options);
    char error[JOURNAL_ERROR_SIZE];

    config.is_made =
        config.dir != NULL && options->user != NULL && user_may_make_folder(config.dir);
    int status = config.dir != NULL ? journal_check(&config, error) : 0;

    return status != 0 ? process_fail_with(status, error) : 0;
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
                                       .loops = (unsigned)process->options->threads,
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

    if (process->predecessor.conns_fd >= 0) /* each loop has a copy */
        (void)close(process->predecessor.conns_fd);
    process->predecessor.conns_fd = -1;
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
               ? pid_file_write(process->options->pid_file)
               : 0;
}

static void leave_pid_file(struct process *process)
{
    if (process->options->pid_file != NULL)
        pid_file_remove(process->options->pid_file);
}

static int begin_serving(struct process *process)
{
    if (!process->is_successor)
        process_take_charge(process);
    return 0;
}

static int start_signals(struct process *process)
{
    signals_on_reopen(process_reopen_logs, process);
    signals_on_spare(process_take_spare_signal, process);
    /* A process with an application of its own does not restart, because the successor would start
     * the application a second time: the application gets these signals. */
    if (!process_owns_app(process))
        signals_on_restart(process_on_restart_signal, process->restarter);
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

static int start_budget(struct process *process)
{
    const struct options *options = process->options;
    const struct drain_config drain = settings_drain(options);
    const struct budget_tail tail = {.linger_ns = options->linger_ns,
                                     .app_grace_ns =
                                         options->command != NULL ? options->app_grace_ns : 0};
    return budget_start(&drain, &tail, options->grace_budget_ns, &process->budget);
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

/* Started in this order, stopped in the reverse order. */
static const struct subsystem {
    const char *name;
    int (*start)(struct process *process); /* 0; a negative errno */
    /* Work that other processes see, so it is done however this one ends. May be NULL. */
    void (*leave)(struct process *process);
    /* Join and free; skipped if the process ends at once. May be NULL. tear_down() stops the loops,
     * the workers and the threads that inspect them, because those may be stuck. */
    void (*stop)(struct process *process);
} subsystems[] = {
    {"the in-flight record", start_journal, leave_journal, NULL}, /* main() frees it last */
    {"the retry queue", start_queue, leave_queue, stop_queue},
    {"worker threads", start_pool, NULL, NULL},
    {"loops", start_server, NULL, NULL}, /* they accept after the last row */
    {"the admin listener", start_admin, leave_admin, NULL},
    {"the pid file", start_pid_file, leave_pid_file, NULL},
    {"the application", process_start_app, process_leave_app, process_stop_app},
    {"the watching thread", start_watch, NULL, stop_watch},
    {"the heartbeat", start_heartbeat, NULL, stop_heartbeat},
    {"the look at the stop time-out", start_budget, NULL, stop_budget},
    {"the registration", start_registration, leave_registration, stop_registration},
    /* In a successor it reports READY: everything that may fail comes before it. */
    {"the restart thread", process_start_restarter, process_leave_restarter,
     process_stop_restarter},
    {"the signal thread", start_signals, NULL, stop_signals},
    {"accepting", begin_serving, NULL, NULL}, /* last: a start that fails has accepted nothing */
};
#define SUBSYSTEMS (sizeof(subsystems) / sizeof(subsystems[0]))

static void leave_subsystems(struct process *process, size_t started)
{
    for (size_t i = started; i-- > 0;)
        if (subsystems[i].leave != NULL)
            subsystems[i].leave(process);
}

#ifdef NDEBUG
static bool is_drained(struct process *process, int status)
{
    struct coord_census left = {0};
    server_ops.census(process->server, &left);
    return !process_is_cut_short(status) && left.connections == 0;
}
#endif

/* End the threads. A thread that is stuck, in a handler or on a slow disk, is not waited for. */
static void tear_down(struct process *process, size_t started, int status)
{
    bool ran = started == SUBSYSTEMS;
    (void)ran;
#ifdef NDEBUG
    /* Drained: no connection, request or job is left, so end at once. Joining a dozen threads would
     * take longer than everything else after the last response. Debug and sanitizer builds join
     * them, to find leaks. */
    if (ran && is_drained(process, status))
        _exit(status);
#endif
    uint64_t until_ns =
        clock_now_ns() + (process_is_cut_short(status) ? ABORT_DOWN_NS : TEAR_DOWN_NS);
    bool stuck = admin_stop(process->admin, until_ns) != 0; /* it reads loops and pool */
    if (!stuck)
        stuck = server_stop(process->server, until_ns) != 0;
    if (!stuck && process->pool != NULL) { /* a loop that still runs may still submit */
        pool_close(process->pool);
        stuck = pool_wait_idle(process->pool, until_ns) != 0;
    }
#ifdef NDEBUG
    /* Only memory is left to free, and libh2o's code for that is little tested. */
    stuck |= ran;
#endif
    if (stuck)
        _exit(status);
    for (size_t i = started; i-- > 0;)
        if (subsystems[i].stop != NULL)
            subsystems[i].stop(process);
}

void process_end_threads(struct process *process, int status)
{
    if (pool_destroy(process->pool, clock_now_ns() + TEAR_DOWN_NS) != 0)
        _exit(status);
}

int process_serve(struct process *process)
{
    size_t started = 0;
    int err = 0, status;

    while (started < SUBSYSTEMS && (err = subsystems[started].start(process)) == 0) {
        process->at_fault = NULL;
        started++;
    }
    if (err == 0) {
        /* With an application, READY follows once that is up (see app.c). The process that started
         * a successor reports READY for it. */
        if (!process_owns_app(process) && !process->is_successor)
            notify_send("READY=1\nSTATUS=serving\nMAINPID=%ld", (long)getpid());
        status = coord_run(process->coord);
    } else if (process->error[0] != '\0') {
        status = process_fail_with(process->status, process->error);
    } else {
        status = process_fail(
            EXIT_STATUS_UNAVAILABLE,
            process->at_fault != NULL ? process->at_fault : subsystems[started].name, err);
    }
    process->status = status;
    leave_subsystems(process, started);
    tear_down(process, started, process->status);
    return process->status;
}

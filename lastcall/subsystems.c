#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "claim.h"
#include "log.h"
#include "logfiles.h"
#include "notify.h"
#include "pid_file.h"
#include "process.h"
#include "settings.h"
#include "user.h"

/* The table of the process's subsystems. They start in the order in which they need each other and
 * stop in the reverse order; in between a thread is the coordinator. */

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
                                       .on_idle_arg = process->coord,
                                       .on_driver_end = server_end_thread};
    int err = pool_create(&config, &process->pool);
    if (err == 0)
        coord_attach_pool(process->coord, process->pool);
    return err;
}

/* After the deadline, how long scripts of CGI have from their SIGTERM on, if there is nothing else
 * to do. Debug builds wait longer, also on slow machines. */
#ifdef NDEBUG
#define SCRIPTS_NS (100 * NS_PER_MS)
#else
#define SCRIPTS_NS (2 * NS_PER_S)
#endif

/* No script outlives the server; when a drain is over none runs. */
static void leave_pool(struct process *process)
{
    unsigned killed = claims_kill(process->server, clock_now_ns() + SCRIPTS_NS);

    if (killed > 0)
        log_line(LOG_LEVEL_WARN, "scripts-killed", NULL,
                 "SIGKILL to %u script%s still running, with their process groups", killed,
                 killed == 1 ? "" : "s");
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
    if (process->role == PROCESS_PROGRAM && !process_owns_app(process))
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
    enum process_role least; /* others start without it */
    const char *name;
    int (*start)(struct process *process); /* 0; a negative errno */
    /* Work that other processes see, so it is done however this one ends. May be NULL. */
    void (*leave)(struct process *process);
    /* Join and free; skipped if the process ends at once. May be NULL. process_stop_loops() stops
     * the loops, the workers and the threads that inspect them, because those may be stuck. */
    void (*stop)(struct process *process);
} subsystems[] = {
    /* What is freed last: the record, the pool and the server, by the caller. */
    {PROCESS_EMBEDDED, "the in-flight record", start_journal, leave_journal, NULL},
    {PROCESS_EMBEDDED, "the retry queue", start_queue, leave_queue, stop_queue},
    {PROCESS_EMBEDDED, "worker threads", start_pool, leave_pool, NULL},
    {PROCESS_EMBEDDED, "loops", start_server, NULL, NULL}, /* they accept after the last row */
    {PROCESS_EMBEDDED, "the admin listener", start_admin, leave_admin, NULL},
    {PROCESS_EMBEDDED, "the pid file", start_pid_file, leave_pid_file, NULL},
    {PROCESS_PROGRAM, "the application", process_start_app, process_leave_app, process_stop_app},
    {PROCESS_EMBEDDED, "the watching thread", start_watch, NULL, stop_watch},
    {PROCESS_EMBEDDED, "the heartbeat", start_heartbeat, NULL, stop_heartbeat},
    {PROCESS_RUNNER, "the look at the stop time-out", start_budget, NULL, stop_budget},
    {PROCESS_EMBEDDED, "the registration", start_registration, leave_registration,
     stop_registration},
    /* In a successor it reports READY: everything that may fail comes before it. */
    {PROCESS_PROGRAM, "the restart thread", process_start_restarter, process_leave_restarter,
     process_stop_restarter},
    {PROCESS_RUNNER, "the signal thread", start_signals, NULL, stop_signals},
    /* Last: a start that fails has accepted nothing. */
    {PROCESS_EMBEDDED, "accepting", begin_serving, NULL, NULL},
};
#define SUBSYSTEMS (sizeof(subsystems) / sizeof(subsystems[0]))

static bool has(const struct process *process, size_t i)
{
    return process->role >= subsystems[i].least;
}

int process_start(struct process *process)
{
    int err = 0;

    while (process->started < SUBSYSTEMS &&
           (!has(process, process->started) ||
            (err = subsystems[process->started].start(process)) == 0)) {
        process->at_fault = NULL;
        process->started++;
    }
    if (err == 0)
        return 0;
    process->start_error = process->error[0] == '\0' ? err : 0;
    if (process->error[0] != '\0')
        return process_fail_with(process->status, process->error);
    return process_fail(
        EXIT_STATUS_UNAVAILABLE,
        process->at_fault != NULL ? process->at_fault : subsystems[process->started].name, err);
}

bool process_has_started(const struct process *process)
{
    return process->started == SUBSYSTEMS;
}

void process_leave(struct process *process)
{
    for (size_t i = process->started; i-- > 0;)
        if (subsystems[i].leave != NULL && has(process, i))
            subsystems[i].leave(process);
}

int process_stop_loops(struct process *process, uint64_t until_ns)
{
    if (admin_stop(process->admin, until_ns) != 0) /* it reads loops and pool */
        return -EBUSY;
    if (server_stop(process->server, until_ns) != 0)
        return -EBUSY;
    if (process->pool == NULL)
        return 0;
    pool_close(process->pool); /* a loop that still runs may still submit */
    return pool_wait_idle(process->pool, until_ns) != 0 ? -EBUSY : 0;
}

void process_stop(struct process *process)
{
    while (process->started > 0) {
        process->started--;
        if (subsystems[process->started].stop != NULL && has(process, process->started))
            subsystems[process->started].stop(process);
    }
}

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "logfiles.h"
#include "notify.h"
#include "pid_file.h"
#include "process.h"

/* The parts of the process. They come up in the order in which they need each other and go down the
 * other way; the main thread is the coordinator in between. */

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

/* Any other status is a clean drain's, which may be the application's own. */
bool process_is_cut_short(int status)
{
    return status == COORD_EXIT_DEADLINE || status == COORD_EXIT_FORCED;
}

static void on_pool_idle(void *coord)
{
    coord_poke(coord);
}

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

int process_check_journal(const struct options *options)
{
    const struct journal_config config = journal_config(options);
    char error[JOURNAL_ERROR_SIZE];
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
               ? pid_file_write(process->options->pid_file)
               : 0;
}

static void leave_pid_file(struct process *process)
{
    if (process->options->pid_file != NULL)
        pid_file_remove(process->options->pid_file);
}

static int open_doors(struct process *process)
{
    if (!process->is_successor)
        process_take_charge(process);
    return 0;
}

static int start_signals(struct process *process)
{
    signals_on_reopen(logfiles_reopen);
    signals_on_spare(process_take_spare_signal, process);
    /* Not with an application: a successor would start another one. The signals are the
     * application's then. */
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

struct drain_config process_drain_config(const struct options *options)
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
    const struct drain_config drain = process_drain_config(options);
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
    {"loop threads", start_server, NULL, NULL}, /* they accept from the last row on */
    {"the admin listener", start_admin, leave_admin, NULL},
    {"the pid file", start_pid_file, leave_pid_file, NULL},
    {"the application", process_start_app, process_leave_app, process_stop_app},
    {"the watching thread", start_watch, NULL, stop_watch},
    {"the heartbeat", start_heartbeat, NULL, stop_heartbeat},
    {"the look at the stop time-out", start_budget, NULL, stop_budget},
    {"the registration", start_registration, leave_registration, stop_registration},
    /* As a successor it says READY: what may fail comes before it. */
    {"the restart thread", process_start_restarter, process_leave_restarter,
     process_stop_restarter},
    {"the signal thread", start_signals, NULL, stop_signals},
    {"the doors", open_doors, NULL, NULL}, /* a start that fails has accepted nothing */
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
    return !process_is_cut_short(status) && left.connections == 0;
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
    uint64_t until_ns =
        clock_now_ns() + (process_is_cut_short(status) ? ABORT_DOWN_NS : TEAR_DOWN_NS);
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
int process_serve(struct process *process)
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
        if (!process_owns_app(process) && !process->is_successor)
            notify_send("READY=1\nSTATUS=serving\nMAINPID=%ld", (long)getpid());
        status = coord_run(process->coord);
    } else if (process->error[0] != '\0') {
        status = process_fail_with(process->status, process->error);
    } else {
        status =
            process_fail(COORD_EXIT_UNAVAILABLE,
                         process->at_fault != NULL ? process->at_fault : parts[started].name, err);
    }
    process->status = status;
    leave_parts(process, started);
    tear_down(process, started, process->status);
    return process->status;
}

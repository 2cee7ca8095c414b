#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "code_pages.h"
#include "config.h"
#include "log.h"
#include "logfiles.h"
#include "master.h"
#include "notify.h"
#include "pid_file.h"
#include "process.h"
#include "settings.h"
#include "succession.h"
#include "user.h"

/* What the program does after main() (program/main.c) and lc_main() (library/lc_main.c): the
 * process watches over a worker as a master, or is a server. A server reads its configuration, does
 * what needs root, drops privileges, and starts its subsystems (subsystems.c). */

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

/* Open what needs root, drop privileges, and check the paths as the user that remains. The
 * listeners are open. */
static int drop_privileges(struct server *server, const struct options *options,
                           struct predecessor *predecessor)
{
    char error[512];

    if (options->error_log != NULL) {
        if (!logfiles_redirect(server_logfiles(server), options->error_log, error, sizeof(error)))
            return process_fail_with(EXIT_STATUS_CONFIG, error);
        log_init(options->log_format, options->quiet); /* standard error is a file now */
    }
    /* The predecessor opened it, and may have had more rights. */
    if (options->pid_file != NULL && strcmp(options->pid_file, predecessor->pid_file) == 0) {
        pid_file_take(predecessor->pid_file_fd);
        predecessor->pid_file_fd = -1;
    }
    if (options->user == NULL)
        return process_check_paths(options);
    if (options->pid_file != NULL && !predecessor->is_master && geteuid() == 0 &&
        pid_file_fd() < 0) {
        int err = pid_file_open(options->pid_file);
        if (err != 0)
            return process_fail(EXIT_STATUS_CONFIG, options->pid_file, err);
    }
    if (options->journal_dir != NULL && geteuid() == 0)
        user_make_folder(options->user, options->journal_dir);
    if (!user_become(options->user, error, sizeof(error)))
        return process_fail_with(EXIT_STATUS_CONFIG, error);
    return process_check_paths(options); /* this user may write less than root */
}

static int be_master(struct process *process)
{
    struct master_config config = {.predecessor = &process->predecessor,
                                   .argv = process->argv,
                                   .binary = process->binary,
                                   .command = process->options->command,
                                   .keep_fd = process->options->when_closed,
                                   .ready_fd = -1,
                                   .first_timeout_ns = process->options->restart_timeout_ns,
                                   .force_after_ns = process->options->force_after_ns};

    if (process->options->mode == OPTIONS_MODE_DAEMON) {
        int status = master_detach(&config.ready_fd);
        if (status >= 0)
            return status;
    }
    return master_run(&config);
}

/* With --test: what else could stop the start? */
static int check_only(const struct options *options)
{
    int status = process_check_journal(options);

    return status == 0 ? process_check_paths(options) : status;
}

/* Do everything that needs root, then drop privileges. */
static int make_ready(struct process *process, const struct options *options)
{
    const struct admin_config admin = settings_admin(options);
    int status = process_read_secrets(process);

    if (status != 0)
        return status;
    if (options->test)
        return check_only(options);
    if (options->mode == OPTIONS_MODE_DAEMON && options->error_log == NULL)
        return process_fail_with(EXIT_STATUS_CONFIG, "mode daemon needs an error-log: nobody reads "
                                                     "its standard error");
    status = admin_open(&admin, process->server, &process->admin);
    if (status == 0)
        status = server_settle_inheritance(process->server);
    return status == 0 ? drop_privileges(process->server, options, &process->predecessor) : status;
}

#ifdef NDEBUG
static bool is_drained(const struct process *process, int status)
{
    struct coord_census left = {0};
    server_ops.census(process->server, &left);
    return !process_is_cut_short(status) && left.connections == 0;
}
#endif

/* End the threads. A thread that is stuck, in a handler or on a slow disk, is not waited for. */
static void tear_down(struct process *process, int status)
{
    bool ran = process_has_started(process);
    (void)ran;
#ifdef NDEBUG
    /* Drained: no connection, request or job is left, so end at once. Joining a dozen threads would
     * take longer than everything else after the last response. Debug and sanitizer builds join
     * them, to find leaks. */
    if (ran && is_drained(process, status)) {
        (void)fflush(stdout); /* of handlers; no thread writes there any more */
        _exit(status);
    }
#endif
    uint64_t until_ns =
        clock_now_ns() + (process_is_cut_short(status) ? ABORT_DOWN_NS : TEAR_DOWN_NS);
    bool stuck = process_stop_loops(process, until_ns) != 0;
#ifdef NDEBUG
    /* Only memory is left to free, which the kernel does faster. */
    stuck |= ran;
#endif
    if (stuck)
        _exit(status);
    process_stop(process);
}

#ifdef NDEBUG /* tear_down() ends at once */
static void on_step(void *arg, enum coord_phase phase)
{
    (void)arg;
    /* The process will end, and the last response is mostly the settle time away. */
    if (phase == PHASE_CLOSING)
        code_pages_drop();
}
#endif

/* Start everything, be the coordinator until the drain is over, and stop everything; by _exit(2) if
 * a thread is stuck or nothing is left to do. Returns the exit status. */
static int serve(struct process *process)
{
    process->front->coordinated(process->front_arg);
    int status = process_start(process);

    if (status == 0) {
        process->front->began(process->front_arg);
#ifdef NDEBUG
        coord_on_step(process->coord, on_step, NULL);
#endif
        /* With an application, READY follows once that is up (see app.c). The process that started
         * a successor reports READY for it. */
        if (!process_owns_app(process) && !process->is_successor)
            notify_send("READY=1\nSTATUS=serving\nMAINPID=%ld", (long)getpid());
        status = coord_run(process->coord);
    }
    process->status = status;
    process_leave(process); /* may change the status */
    process->front->over(process->front_arg);
    tear_down(process, process->status);
    return process->status;
}

/* The buffer of a body grows by doubling. glibc would keep the smaller buffers, and so hold twice
 * the memory of the bodies; when each is mapped by itself, free(3) returns it at once (mallopt(3)).
 */
#define MAPPED_FROM (128 << 10)
#define TRIMMED_FROM (1 << 20)

static void tune_memory(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, MAPPED_FROM);
    (void)mallopt(M_TRIM_THRESHOLD, TRIMMED_FROM); /* setting one ends glibc's tuning of both */
}

/* A restart in place inherits the limit that the predecessor has raised. */
static void find_files_limit(struct process *process, struct options *options)
{
    uint64_t first = process->predecessor.open_files;

    if (getrlimit(RLIMIT_NOFILE, &process->files) != 0)
        return;
    if (first != 0 && first < process->files.rlim_cur)
        process->files.rlim_cur = first;
    options->files = process->files;
}

static int be_server(struct process *process, struct options *options)
{
    tune_memory();
    int err = signals_spare_children();
    if (err != 0)
        return process_fail(EXIT_STATUS_UNAVAILABLE, "signals", err);
    find_files_limit(process, options);
    int status = process->front->set_up(process->front_arg);
    if (status == 0)
        status = process_read_configuration(process, options);
    if (status == 0)
        status = process->front->configured(process->front_arg);
    if (status == 0)
        status = make_ready(process, options);
    if (status == 0 && options->test)
        (void)puts("configuration OK");
    else if (status == 0 &&
             (status = process_create_coord(process, process->front->ops, process->front_arg)) == 0)
        status = serve(process);
    if (pid_file_fd() >= 0) /* the start failed before the subsystem that removes it */
        pid_file_remove(options->pid_file);
    admin_destroy(process->admin);
    registration_destroy(process->registration);
    queue_destroy(process->queue);
    server_destroy(process->server);
    /* after the loops' memory: see pool_start_loop() */
    if (pool_destroy(process->pool, clock_now_ns() + TEAR_DOWN_NS) != 0)
        _exit(status);
    coord_destroy(process->coord); /* a worker may have been telling it that the pool is idle */
    journal_destroy(process->journal);
    return status;
}

static bool is_master(const struct process *process)
{
    enum options_mode mode = process->options->mode;

    return (mode == OPTIONS_MODE_MASTER || mode == OPTIONS_MODE_DAEMON) && !process->is_successor;
}

/* What the predecessor or the master passed to this process. */
static int take_inheritance(struct process *process, struct options *options)
{
    char error[512];

    if (predecessor_open(&process->predecessor, error, sizeof(error)) != 0)
        return process_fail_with(EXIT_STATUS_UNAVAILABLE, error);
    process->is_successor = process->predecessor.fd >= 0;
    options->inheritance = &process->predecessor.listeners;
    options->conns_fd = process->predecessor.conns_fd;
    options->generation = process->predecessor.generation;
    options->master_pid = process->predecessor.is_master ? process->predecessor.pid : 0;
    if (process->predecessor.is_master)
        notify_through(predecessor_notify, &process->predecessor);
    return 0;
}

int process_main(int argc, char **argv, struct process *process, struct options *options)
{
    int err = signals_block();
    int status = options_parse(argc, argv, options);

    if (status >= 0)
        return status;
    log_init(options->log_format, options->quiet);
    if (err != 0)
        return process_fail(EXIT_STATUS_UNAVAILABLE, "signals", err);
    status = take_inheritance(process, options);
    if (status != 0)
        return status;
    process->binary = succession_find_binary(argv[0]);
    if (process->binary == NULL)
        return process_fail(EXIT_STATUS_UNAVAILABLE, argv[0], -ENOENT);
    status = is_master(process) ? be_master(process) : be_server(process, options);
    predecessor_release(&process->predecessor);
    free(process->binary);
    return status;
}

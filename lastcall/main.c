#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli_launch.h"
#include "config.h"
#include "early.h"
#include "log.h"
#include "logfiles.h"
#include "master.h"
#include "notify.h"
#include "pid_file.h"
#include "process.h"
#include "settings.h"
#include "standard_fds.h"
#include "succession.h"
#include "user.h"

/* The table of contents. The process runs a command, or watches over a worker as a master, or is a
 * server. A server reads its configuration, does what needs root, drops privileges, and starts its
 * subsystems (subsystems.c). */

#define PROGRESS_NS (3 * NS_PER_S)

/* Open what needs root, drop privileges, and check the paths as the user that remains. The
 * listeners are open. */
static int drop_privileges(const struct options *options, struct predecessor *predecessor)
{
    char error[512];

    if (options->error_log != NULL) {
        if (!logfiles_redirect(options->error_log, error, sizeof(error)))
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

/* Both read files with passwords, which may be readable by root only. */
static int read_secrets(struct process *process)
{
    const struct options *options = process->options;
    char registration_error[REGISTRATION_ERROR_SIZE] = "no memory to start";
    char queue_error[QUEUE_ERROR_SIZE];
    const struct registration_config registration =
        settings_registration(options, options->test ? -1 : server_port(process->server));
    const struct queue_config queue = settings_queue(options);

    if (registration.url != NULL &&
        registration_create(&registration, &process->registration, registration_error) != 0)
        return process_fail_with(EXIT_STATUS_CONFIG, registration_error);
    if (queue.url != NULL && queue_create(&queue, &process->queue, queue_error) != 0)
        return process_fail_with(EXIT_STATUS_CONFIG, queue_error);
    return 0;
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

/* Read the configuration and open the listeners. */
static int read_configuration(struct process *process, struct options *options)
{
    int status = server_create(options->inheritance, &process->server);

    if (status == 0)
        status = config_apply(options, process->server);
    if (status != 0)
        return status;
    const struct server_config config = settings_server(options);
    return server_configure(process->server, &config, options->test);
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
    int status = read_secrets(process);

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
    return status == 0 ? drop_privileges(options, &process->predecessor) : status;
}

static int run(struct process *process)
{
    const struct coord_config config = {.ops = &server_ops,
                                        .server = process->server,
                                        .drain = settings_drain(process->options),
                                        .report_path = process->options->report,
                                        .progress_ns = PROGRESS_NS};
    int err = coord_create(&config, &process->coord);

    return err == 0 ? process_serve(process)
                    : process_fail(EXIT_STATUS_UNAVAILABLE, "the coordinator", err);
}

static int be_server(struct process *process, struct options *options)
{
    int err = signals_spare_children();
    if (err != 0)
        return process_fail(EXIT_STATUS_UNAVAILABLE, "signals", err);
    (void)getrlimit(RLIMIT_NOFILE, &process->files);
    int status = read_configuration(process, options);
    if (status == 0)
        status = make_ready(process, options);
    if (status == 0 && options->test)
        (void)puts("configuration OK");
    else if (status == 0)
        status = run(process);
    if (pid_file_fd() >= 0) /* the start failed before the subsystem that removes it */
        pid_file_remove(options->pid_file);
    admin_destroy(process->admin);
    registration_destroy(process->registration);
    queue_destroy(process->queue);
    server_destroy(process->server);
    process_end_threads(process, status); /* after the loops' memory: see pool_start_loop() */
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

int main(int argc, char **argv)
{
    struct options options;
    struct process process = {.options = &options, .argv = argv, .status = -1};

    standard_fds_fill();
    if (cli_names_command(argc, argv)) {
        early_undo();
        return cli_run(argc, argv);
    }
    int err = signals_block();
    int status = options_parse(argc, argv, &options);
    if (status >= 0)
        return status;
    log_init(options.log_format, options.quiet);
    if (err != 0)
        return process_fail(EXIT_STATUS_UNAVAILABLE, "signals", err);
    status = take_inheritance(&process, &options);
    if (status != 0)
        return status;
    process.binary = succession_find_binary(argv[0]);
    if (process.binary == NULL)
        return process_fail(EXIT_STATUS_UNAVAILABLE, argv[0], -ENOENT);
    status = is_master(&process) ? be_master(&process) : be_server(&process, &options);
    predecessor_release(&process.predecessor);
    free(process.binary);
    return status;
}

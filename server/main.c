#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "log.h"
#include "logfiles.h"
#include "master.h"
#include "notify.h"
#include "pid_file.h"
#include "process.h"
#include "succession.h"
#include "user.h"

/* The table of contents: a command, a master, or a server; what a server needs while it may still
 * be root; then its parts (parts.c), until it is over. */

#define PROGRESS_NS (3 * NS_PER_S)

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
            return process_fail_with(COORD_EXIT_CONFIG, error);
        log_init(options->log_format, options->quiet); /* it may have been a terminal */
    }
    /* Opened by a predecessor that had the right to. */
    if (options->pid_file != NULL && strcmp(options->pid_file, upstream->pid_file) == 0) {
        pid_file_take(upstream->pid_file_fd);
        upstream->pid_file_fd = -1;
    }
    if (options->user == NULL)
        return 0;
    server_prepare_unprivileged(server);
    if (options->pid_file != NULL && !upstream->is_master && geteuid() == 0 && pid_file_fd() < 0) {
        int err = pid_file_open(options->pid_file);
        if (err != 0)
            return process_fail(COORD_EXIT_CONFIG, options->pid_file, err);
    }
    if (!user_become(options->user, error, sizeof(error)))
        return process_fail_with(COORD_EXIT_CONFIG, error);
    if (options->report != NULL && !can_write_beside(options->report)) {
        (void)snprintf(error, sizeof(error),
                       "cannot write the report to %s: user %s may not write in its folder",
                       options->report, options->user);
        return process_fail_with(COORD_EXIT_CONFIG, error);
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
    return process_fail_with(COORD_EXIT_CONFIG, error);
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
    return process_fail_with(COORD_EXIT_CONFIG, error);
}

/* A process that watches another one, in place of serving. */
static int be_master(struct process *process)
{
    struct master_config config = {.upstream = &process->upstream,
                                   .argv = process->argv,
                                   .binary = process->binary,
                                   .command = process->options->command,
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

/* What has to be done, or looked at, before root is given up; and that. With options->test it is
 * only looked at. */
static int make_ready(struct process *process, struct options *options)
{
    int status = prepare_registration(options, process->server, &process->registration);
    if (status == 0)
        status = prepare_queue(options, &process->queue);
    if (status == 0 && options->test)
        status = process_check_journal(options);
    if (status != 0 || options->test)
        return status;
    if (options->mode == OPTIONS_MODE_DAEMON && options->error_log == NULL)
        return process_fail_with(COORD_EXIT_CONFIG, "mode daemon wants an error-log: nobody will "
                                                    "read what it writes to standard error");
    status = admin_open(options, process->server, &process->admin);
    if (status == 0)
        status = server_settle_inheritance(process->server);
    return status == 0 ? settle(options, process->server, &process->upstream) : status;
}

static int run(struct process *process)
{
    const struct coord_config config = {.ops = &server_ops,
                                        .server = process->server,
                                        .drain = process_drain_config(process->options),
                                        .report_path = process->options->report,
                                        .progress_ns = PROGRESS_NS};
    int err = coord_create(&config, &process->coord);

    return err == 0 ? process_serve(process)
                    : process_fail(COORD_EXIT_UNAVAILABLE, "the coordinator", err);
}

static int be_server(struct process *process, struct options *options)
{
    int err = signals_spare_children();
    if (err != 0)
        return process_fail(COORD_EXIT_UNAVAILABLE, "signals", err);
    (void)getrlimit(RLIMIT_NOFILE, &process->files);
    int status = server_create(options, &process->server);
    if (status != 0)
        return status;
    status = make_ready(process, options);
    if (status == 0 && options->test)
        (void)puts("configuration OK");
    else if (status == 0)
        status = run(process);
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
        return process_fail(COORD_EXIT_UNAVAILABLE, "signals", err);
    if (upstream_open(&process.upstream, error, sizeof(error)) != 0)
        return process_fail_with(COORD_EXIT_UNAVAILABLE, error);
    process.is_successor = process.upstream.fd >= 0;
    process.binary = succession_find_binary(argv[0]);
    options.inheritance = &process.upstream.listeners;
    options.conns_fd = process.upstream.conns_fd;
    options.generation = process.upstream.generation;
    if (process.binary == NULL)
        return process_fail(COORD_EXIT_UNAVAILABLE, argv[0], -ENOENT);
    if (process.upstream.is_master)
        notify_through(process.upstream.fd);
    bool watches = options.mode == OPTIONS_MODE_MASTER || options.mode == OPTIONS_MODE_DAEMON;
    status = watches && !process.is_successor ? be_master(&process) : be_server(&process, &options);
    upstream_release(&process.upstream);
    free(process.binary);
    return status;
}

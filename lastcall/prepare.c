#include "config.h"
#include "process.h"
#include "settings.h"

/* What comes before the subsystems start: the configuration, the listeners, the coordinator. */

#define PROGRESS_NS (3 * NS_PER_S)

int process_read_configuration(struct process *process, struct options *options)
{
    int status = server_create(options->inheritance, &process->server);

    if (status == 0)
        status = config_apply(options, process->server);
    if (status != 0)
        return status;
    const struct server_config config = settings_server(options);
    return server_configure(process->server, &config, options->test);
}

/* Both read files with passwords. */
int process_read_secrets(struct process *process)
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

int process_create_coord(struct process *process, const struct coord_server_ops *ops, void *server)
{
    struct coord_config config = {.ops = ops,
                                  .server = server,
                                  .drain = settings_drain(process->options),
                                  .report_path = process->options->report,
                                  .progress_ns = PROGRESS_NS};
    if (process->role == PROCESS_EMBEDDED)
        config.drain.force_after_ns = CLOCK_NEVER;
    int err = coord_create(&config, &process->coord);

    return err == 0 ? 0 : process_fail(EXIT_STATUS_UNAVAILABLE, "the coordinator", err);
}

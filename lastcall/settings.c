#include "settings.h"

struct server_config settings_server(const struct options *options)
{
    return (struct server_config){.threads = options->threads,
                                  .workers = options->workers,
                                  .queue = options->queue,
                                  .max_bodies = options->max_bodies,
                                  .stream_bytes = options->stream_bytes,
                                  .max_connections = options->max_connections,
                                  .max_arriving = options->max_arriving,
                                  .stall_ns = options->stall_ns,
                                  .max_header_fields = options->max_header_fields,
                                  .max_header_size = options->max_header_size,
                                  .max_header_block = options->max_header_block,
                                  .host_may_differ = options->stands_in_for_h2o,
                                  .progress_rate = options->progress_rate,
                                  .progress_window_ns = options->progress_window_ns,
                                  .progress_head_ns = options->progress_head_ns,
                                  .progress_idle_ns = options->progress_idle_ns,
                                  .idle_grace_ns = options->idle_grace_ns,
                                  .linger_ns = options->linger_ns,
                                  .settle_max_ns = options->settle_max_ns,
                                  .class_ns = {[DRAIN_TUNNEL] = options->tunnel_ns,
                                               [DRAIN_STREAM] = options->stream_ns,
                                               [DRAIN_UPLOAD] = options->upload_ns},
                                  .has_app = options->command != NULL,
                                  .app_hold_ns = options->app_hold_ns,
                                  .journal_hold = options->journal_hold,
                                  .generation_header = options->generation_header,
                                  .generation = options->generation,
                                  .conns_fd = options->conns_fd,
                                  .is_embedded = options->is_embedded};
}

struct admin_config settings_admin(const struct options *options)
{
    return (struct admin_config){.address = options->admin,
                                 .name = options->admin_name,
                                 .token_file = options->admin_token_file,
                                 .user = options->user,
                                 .journal_dir = options->journal_dir,
                                 .inheritance = options->inheritance,
                                 .master_pid = options->master_pid};
}

struct drain_config settings_drain(const struct options *options)
{
    return (struct drain_config){.lame_duck_ns = options->lame_duck_ns,
                                 .deadline_ns = options->deadline_ns,
                                 .idle_grace_ns = options->idle_grace_ns,
                                 .spread_ns = options->spread_ns,
                                 .force_after_ns = options->force_after_ns,
                                 .class_ns = {[DRAIN_TUNNEL] = options->tunnel_ns,
                                              [DRAIN_STREAM] = options->stream_ns,
                                              [DRAIN_UPLOAD] = options->upload_ns}};
}

struct journal_config settings_journal(const struct options *options)
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

struct queue_config settings_queue(const struct options *options)
{
    return (struct queue_config){.dir = options->journal_dir,
                                 .url = options->journal_redis_url,
                                 .password_file = options->journal_redis_password_file,
                                 .stream = options->journal_redis_stream,
                                 .maxlen = options->journal_redis_maxlen};
}

struct registration_config settings_registration(const struct options *options, int port)
{
    return (struct registration_config){.url = options->register_url,
                                        .password_file = options->register_password_file,
                                        .ttl_ns = options->register_ttl_ns,
                                        .key = options->register_key,
                                        .address = options->register_address,
                                        .value = options->register_value,
                                        .port = port};
}

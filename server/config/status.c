#include "status.h"

#include <stdio.h>
#include <time.h>

#include "clock.h"
#include "loop.h"

/* libh2o passes a simple status handler only its configuration. */
static h2o_iovec_t on_status(void *data, h2o_globalconf_t *conf, h2o_req_t *req)
{
    struct server *server = container_of(conf, struct server, globalconf);
    char now_text[H2O_TIMESTR_LOG_LEN + 1], start_text[H2O_TIMESTR_LOG_LEN + 1], *text;
    time_t now = time(NULL);
    uint64_t sessions = 0;

    (void)data;
    for (unsigned i = 0; i < server->config.threads; i++)
        sessions += count_get(&server->loops[i].counts.accepted);
    h2o_time2str_log(now_text, now);
    h2o_time2str_log(start_text, server->launched);
    int n = asprintf(
        &text,
        ",\n \"server-version\": \"%s\",\n \"openssl-version\": \"%s\",\n \"current-time\": "
        "\"%s\",\n \"restart-time\": \"%s\",\n \"uptime\": %lld,\n \"generation\": %llu,\n "
        "\"connections\": %llu,\n \"max-connections\": %llu,\n \"listeners\": %zu,\n "
        "\"worker-threads\": %llu,\n \"num-sessions\": %llu",
        LASTCALL_VERSION, OpenSSL_version(OPENSSL_VERSION), now_text, start_text,
        (long long)((clock_now_ns() - server->launched_ns) / NS_PER_S),
        (unsigned long long)server->config.generation,
        (unsigned long long)atomic_load_explicit(&server->open_connections, memory_order_relaxed),
        (unsigned long long)server->max_connections, server->listeners.count,
        (unsigned long long)server->config.threads, (unsigned long long)sessions);
    if (n < 0)
        return (h2o_iovec_t){NULL, 0};
    h2o_iovec_t block = h2o_strdup(&req->pool, text, (size_t)n);
    free(text);
    return block;
}

void status_register(struct server *server)
{
    h2o_config_register_simple_status_handler(&server->globalconf,
                                              (h2o_iovec_t){H2O_STRLIT("main")}, on_status);
}

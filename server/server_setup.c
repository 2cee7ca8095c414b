#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "conn.h"
#include "exit_status.h"
#include "limit.h"
#include "log.h"
#include "logfiles.h"
#include "mends.h"
#include "replaced.h"
#include "server_state.h"

/* A server before it starts: libh2o, the settings and the limits. */

#define ARRIVING_LEAST (64 << 20)

static int fail(int status, const char *error)
{
    log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "%s", error);
    return status;
}

/* A body that is larger than the limit would never arrive. */
static uint64_t arriving_limit(const struct server *server)
{
    uint64_t given = server->config.max_arriving;
    uint64_t largest = server->globalconf.max_request_entity_size;
    uint64_t usual = 2 * largest > ARRIVING_LEAST ? 2 * largest : ARRIVING_LEAST;

    if (given != 0 && given < largest)
        log_line(LOG_LEVEL_WARN, "limit-bodies", NULL,
                 "max-arriving-bodies is %llu bytes, less than limit-request-body (%llu): larger "
                 "bodies are refused with 503",
                 (unsigned long long)given, (unsigned long long)largest);
    return given != 0 ? given : usual;
}

static int set_up_tickets(struct server *server)
{
    static const struct tickets_config usual = {
        .cache = true, .tickets = true, .lifetime = TICKETS_LIFETIME};
    char error[256];
    bool any = false;

    for (size_t i = 0; i < server->listeners.count; i++)
        any |= server->listeners.items[i].tls != NULL;
    if (any && server->tickets == NULL &&
        (server->tickets = tickets_new(&usual, error, sizeof(error))) == NULL)
        return fail(EXIT_STATUS_CONFIG, error);
    for (size_t i = 0; i < server->listeners.count; i++) {
        const struct listener *listener = &server->listeners.items[i];
        if (listener->tls == NULL)
            continue;
        tickets_apply(server->tickets, listener->tls);
        if (!tls_identify(listener->tls, (const struct sockaddr *)&listener->address))
            return fail(EXIT_STATUS_UNAVAILABLE, "OpenSSL has no SHA-256");
        tls_each(listener->tls, conn_watch_handshakes, NULL);
    }
    return 0;
}

/* The library must call our replacements of its functions, or none of its faults is mended. */
static int check_library(const h2o_globalconf_t *conf)
{
    char error[REPLACED_ERROR_SIZE];

    if (replaced_check(conf->server_name, error, sizeof(error))) {
        if (!mends_are_on())
            log_line(LOG_LEVEL_WARN, "unmended", NULL,
                     "LASTCALL_UNMENDED=1: libh2o runs with its known faults, some of which let a "
                     "client end this process (docs/dev/mends.md)");
        return 0;
    }
    if (mends_are_on()) {
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL,
                 "cannot start: %s (set LASTCALL_UNMENDED=1 to run without the mends)", error);
        return EXIT_STATUS_UNAVAILABLE;
    }
    log_line(LOG_LEVEL_WARN, "unmended", NULL,
             "LASTCALL_UNMENDED=1: going on although %s: libh2o runs with its known faults "
             "(docs/dev/mends.md)",
             error);
    return 0;
}

/* Prepare the library for the configuration. */
static int set_up_library(struct server *server)
{
    h2o_globalconf_t *conf = &server->globalconf;

    h2o_config_init(conf);
    int status = check_library(conf);
    if (status != 0)
        return status;
    if (mends_are_on())
        h2_headers_init();
    if (!library_log_init())
        log_line(LOG_LEVEL_WARN, "library", NULL,
                 "libh2o writes its own lines to standard error as they are");
    conf->server_name = (h2o_iovec_t){H2O_STRLIT("lastcall")};
    return 0;
}

bool server_has_library(char *error, size_t error_size)
{
    char cause[REPLACED_ERROR_SIZE];

    if (!replaced_init(error, error_size))
        return false;
    if (!mends_are_on() || replaced_check_calls(cause, sizeof(cause)))
        return true;
    (void)snprintf(error, error_size,
                   "%s: it was there before; load liblastcall first, or link -llastcall before it",
                   cause);
    return false;
}

int server_create(struct inheritance *inheritance, struct server **ret_server)
{
    char error[REPLACED_ERROR_SIZE];
    struct server *server = calloc(1, sizeof(*server));

    if (server == NULL)
        return fail(EXIT_STATUS_UNAVAILABLE, "no memory to start");
    if (!replaced_init(error, sizeof(error))) { /* LASTCALL_UNMENDED=1 does not help here */
        free(server);
        return fail(EXIT_STATUS_UNAVAILABLE, error);
    }
    server->listeners.inheritance = inheritance;
    server->logfiles = logfiles_create();
    server->launched = time(NULL);
    server->launched_ns = clock_now_ns();
    server->successor.conns_fd = -1;
    (void)pthread_mutex_init(&server->mu, NULL);
    (void)pthread_mutex_init(&server->list_mu, NULL);
    clock_cond_init(&server->listed);
    int status = set_up_library(server);
    if (status != 0) {
        server_destroy(server);
        return status;
    }
    *ret_server = server;
    return 0;
}

int server_configure(struct server *server, const struct server_config *config, bool dry_run)
{
    h2o_globalconf_t *conf = &server->globalconf;

    server->config = *config;
    /* relaxed: before the loops start */
    atomic_store_explicit(&server->holding, config->has_app, memory_order_relaxed);
    int status = set_up_tickets(server);
    /* libh2o empties this cache in every turn of a loop: it only serves streams that open the same
     * file in one turn. */
    conf->filecache.capacity = conf->http2.max_concurrent_requests_per_connection * 2;
    server->max_connections = limit_connections(server);
    if (status == 0 && !dry_run)
        status = limit_check_files(server);
    server->max_arriving = arriving_limit(server);
    return status;
}

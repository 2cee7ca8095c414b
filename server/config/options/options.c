#include "options.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "app_settings.h"
#include "clock.h"
#include "coord.h"
#include "exit_status.h"
#include "options_p.h"
#include "stops.h"

/* The command line: the defaults, then the flags, then what they say together. */

void options_init(struct options *options)
{
    uint64_t cores = (uint64_t)get_nprocs();

    memset(options, 0, sizeof(*options));
    options->threads = cores < 256 ? cores : 256;
    options->workers = 4 * cores < 8 ? 8 : 4 * cores < 4096 ? 4 * cores : 4096;
    options->queue = 1024;
    options->max_bodies = 256 << 20;
    options->stream_bytes = 64 << 10;
    options->max_header_fields = 256;
    options->max_header_size = 64 << 10;
    options->max_header_block = 64 << 10;
    options->progress_rate = 240;
    options->progress_window_ns = 30 * NS_PER_S;
    options->progress_head_ns = 10 * NS_PER_S;
    options->progress_idle_ns = 60 * NS_PER_S;
    options->deadline_ns = 10 * NS_PER_S;
    options->idle_grace_ns = 1 * NS_PER_S;
    options->linger_ns = 2 * NS_PER_S;
    options->settle_max_ns = 250 * NS_PER_MS;
    options->force_after_ns = STOPS_APART_NS;
    options->stale_after_ns = 10 * NS_PER_S;
    options->heartbeat_every_ns = 1 * NS_PER_S;
    options->stall_ns = 10 * NS_PER_S;
    options->register_key = "lastcall/%h:%p";
    options->register_address = "%h:%p";
    options->register_ttl_ns = 15 * NS_PER_S;
    options->when_closed = -1;
    options->app_start_timeout_ns = 30 * NS_PER_S;
    options->app_hold_ns = 10 * NS_PER_S;
    options->app_grace_ns = 5 * NS_PER_S;
    options->journal_redis_stream = "lastcall:unfinished";
    options->journal_methods = "POST,PUT,PATCH,DELETE";
    options->journal_redact = "authorization,proxy-authorization,cookie";
    options->journal_max_body = 1 << 20;
    options->journal_max_inflight_bytes = 64 << 20;
    options->restart_timeout_ns = 30 * NS_PER_S;
    options->restart_probation_ns = 1 * NS_PER_S;
    options->conns_fd = -1;
    options->generation = 1;
}

/* ---- an application without an address ---- */

/* The first port that the kernel gives to connections and to those who ask for any (ip(7)). */
static unsigned first_given_port(void)
{
    unsigned first = 0;
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");

    if (file == NULL || fscanf(file, "%u", &first) != 1)
        first = 32768;
    if (file != NULL)
        (void)fclose(file);
    return first;
}

/* This port of 127.0.0.1, or any if it is 0. Errors: 0, and errno. The socket is closed: with one
 * still bound to the port, a program that does not set SO_REUSEADDR could not use it. */
static uint16_t try_port(uint16_t port)
{
    struct sockaddr_in here = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(here);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return 0;
    bool is_bound = bind(fd, (struct sockaddr *)&here, sizeof(here)) == 0 &&
                    getsockname(fd, (struct sockaddr *)&here, &length) == 0;
    int err = errno;
    (void)close(fd);
    errno = err;
    return is_bound ? ntohs(here.sin_port) : 0;
}

/* A port that nobody has now, and that the kernel gives to nobody: the application may need a while
 * until it listens, and ends when it is restarted. */
static uint16_t find_port(void)
{
    unsigned first = first_given_port(), below = first > 30000 ? 30000 : first;

    for (unsigned tries = 0; tries < 64 && below > 11024; tries++) {
        uint16_t random, port;
        if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
            break;
        port = try_port((uint16_t)(10000 + random % (below - 10000)));
        if (port != 0)
            return port;
    }
    return try_port(0);
}

/* The first process picks, and its workers find the port in their environment. Errors: false, and
 * errno. */
static bool pick_address(struct options *options)
{
    static char url[40];
    const char *picked = getenv(APP_PORT_ENVIRONMENT);
    unsigned long port = picked != NULL ? strtoul(picked, NULL, 10) : 0;
    char text[8];

    if (port == 0 || port > UINT16_MAX)
        port = find_port();
    if (port == 0)
        return false;
    (void)snprintf(text, sizeof(text), "%lu", port);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%lu", port);
    options->proxy[options->proxy_count++] = url;
    return setenv(APP_PORT_ENVIRONMENT, text, 1) == 0;
}

static int check_together(const struct flags *flags, struct options *options)
{
    if (options->conf != NULL && (options->root != NULL || options->proxy_count > 0))
        return flags_usage(flags, "--%s and --conf: the file says what is served",
                           options->root != NULL ? "root" : "proxy");
    bool picks = options->command != NULL && options->conf == NULL && options->proxy_count == 0;
    if (!picks && getenv(APP_PORT_ENVIRONMENT) != NULL) /* another process's */
        (void)unsetenv(APP_PORT_ENVIRONMENT);
    if (picks && !pick_address(options)) {
        (void)fprintf(stderr, "lastcall: no free port of 127.0.0.1 for the application %s: %s\n",
                      options->command[0], strerrordesc_np(errno));
        return EXIT_STATUS_UNAVAILABLE;
    }
    if (options->command != NULL && options->conf == NULL)
        options->app_url = options->proxy[0];
    return -1;
}

int options_parse(int argc, char **argv, struct options *ret_options)
{
    const struct flags flags = {.program = "lastcall",
                                .rows = options_rows,
                                .count = options_row_count,
                                .target = ret_options,
                                .given = ret_options->given,
                                .column = 30,
                                .is_command = true};
    int operands;
    bool has_dashes;

    options_init(ret_options);
    const char *slash = strrchr(argv[0], '/');
    ret_options->stands_in_for_h2o = strcmp(slash != NULL ? slash + 1 : argv[0], "h2o") == 0;
    int status = flags_parse(&flags, argc, argv, &operands, &has_dashes);
    if (status >= 0)
        return status;
    if (has_dashes && operands == argc)
        return flags_usage(&flags, "--: wants the command of an application after it");
    if (!has_dashes && operands < argc)
        return flags_usage(&flags, "%s: not an option", argv[operands]);
    if (has_dashes)
        ret_options->command = argv + operands;
    return check_together(&flags, ret_options);
}

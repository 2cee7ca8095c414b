#include "config_p.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "log.h"
#include "probe.h"

/* Where the application answers (`app`), and whether its settings fit together. */

static bool parse(const char *url, h2o_url_t *ret_url)
{
    return url != NULL && h2o_url_parse(url, strlen(url), ret_url) == 0;
}

bool config_app_is_at(const struct options *options, const char *url)
{
    h2o_url_t its, app;

    return options->command != NULL && parse(options->app_url, &app) && parse(url, &its) &&
           h2o_url_hosts_are_equal(&its, &app) && h2o_url_get_port(&its) == h2o_url_get_port(&app);
}

static int fail(int status, const char *error)
{
    log_line(LOG_LEVEL_ERROR, "configuration", NULL, "%s", error);
    return status;
}

bool config_is_path(const char *text)
{
    for (const char *at = text; *at != '\0'; at++)
        if (!isgraph((unsigned char)*at))
            return false;
    return text[0] == '/';
}

int config_app_check(const struct config_reader *reader)
{
    const struct options *options = reader->options;
    h2o_url_t url;
    char error[512];

    if (options->app_health != NULL && !config_is_path(options->app_health)) {
        (void)snprintf(error, sizeof(error),
                       "app.health %.200s: want a path that begins with / and has no spaces",
                       options->app_health);
        return fail(EXIT_STATUS_CONFIG, error);
    }
    if (options->app_url != NULL && !parse(options->app_url, &url)) {
        (void)snprintf(error, sizeof(error),
                       "app.url %.200s: want http://HOST:PORT/ or "
                       "http://[unix:/path]/",
                       options->app_url);
        return fail(EXIT_STATUS_CONFIG, error);
    }
    if (options->command == NULL) {
        if (options->app_url != NULL && !options->test)
            log_line(LOG_LEVEL_WARN, "configuration", NULL,
                     "app.url is %s, but there is no command after --: nothing is started",
                     options->app_url);
        return 0;
    }
    if (options->app_url == NULL) {
        (void)snprintf(error, sizeof(error),
                       "-- %.200s: where will it answer? app: {url: ...} in %.200s says so",
                       options->command[0], options->conf);
        return fail(EXIT_STATUS_CONFIG, error);
    }
    if (options->app_health != NULL && url.scheme != &H2O_URL_SCHEME_HTTP)
        return fail(EXIT_STATUS_CONFIG, "app.health works over http only");
    if (!reader->hands_on_to_app)
        log_line(LOG_LEVEL_WARN, "configuration", NULL,
                 "no path forwards requests to the application at %s: no request waits for it",
                 options->app_url);
    return 0;
}

int config_app_target(const struct options *options, struct probe_target *ret_target,
                      uint16_t *ret_port)
{
    const char *health = options->app_health;
    struct sockaddr_un un;
    h2o_url_t url;

    if (!parse(options->app_url, &url))
        return -EINVAL;
    bool is_unix = h2o_url_host_to_sun(url.host, &un) == NULL;
    *ret_port = is_unix ? 0 : h2o_url_get_port(&url);
    char *host = strndup(url.host.base, url.host.len);
    if (host == NULL)
        return -ENOMEM;
    int err = is_unix ? probe_target_init(ret_target, un.sun_path, NULL, 0, health)
                      : probe_target_init(ret_target, NULL, host, *ret_port, health);
    if (err != 0)
        log_line(LOG_LEVEL_ERROR, "start-failed", NULL, "cannot find the host %s of %s", host,
                 options->app_url);
    free(host);
    return err;
}

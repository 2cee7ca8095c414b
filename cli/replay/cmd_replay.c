#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli_options.h"
#include "clock.h"
#include "commands.h"
#include "redis.h"
#include "replay_exit.h"
#include "replay_file.h"
#include "replay_redis.h"
#include "replay_run.h"

/* The command replay. */

#define ATTEMPTS 5
#define CONCURRENCY 4
#define TIMEOUT_NS (30 * NS_PER_S)
#define CLAIM_AFTER_NS (60 * NS_PER_S)
#define UNIX_URL "http://localhost"

struct settings {
    const char *from;
    const char *password_file;
    uint64_t claim_after_ns;
    uint64_t max_age_ns;
    struct replay_filter filter;
    struct replay_plan plan;
    struct redis_url url; /* if --from is one */
};

/* ---- values: see flag_set_cb ---- */

static const char *set_from(const struct flag *flag, const char *text, void *at, void *target,
                            char *want)
{
    struct settings *settings = target;

    (void)flag;
    (void)at;
    (void)want;
    settings->from = text;
    if (!replay_is_redis(text))
        return NULL;
    redis_url_release(&settings->url);
    const char *wanted = redis_url_parse(text, &settings->url);
    return wanted == NULL && settings->url.stream == NULL ? "want ?stream=NAME at its end" : wanted;
}

/* The URL has no path: each request has its own. */
static bool is_server_url(const char *text)
{
    CURLU *url = curl_url();
    char *scheme = NULL, *path = NULL, *query = NULL, *user = NULL;

    bool fine = url != NULL && curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
                curl_url_get(url, CURLUPART_PATH, &path, 0) == CURLUE_OK &&
                strcmp(path, "/") == 0 && curl_url_get(url, CURLUPART_QUERY, &query, 0) != 0 &&
                curl_url_get(url, CURLUPART_USER, &user, 0) != 0;
    curl_free(scheme);
    curl_free(path);
    curl_free(query);
    curl_free(user);
    curl_url_cleanup(url);
    return fine;
}

static const char *set_to(const struct flag *flag, const char *text, void *at, void *target,
                          char *want)
{
    struct replay_plan *plan = &((struct settings *)target)->plan;

    (void)flag;
    (void)at;
    (void)want;
    plan->to = text;
    plan->target.url = text;
    if (strncmp(text, "unix:/", 6) == 0) {
        plan->target.socket = text + strlen("unix:");
        plan->target.url = UNIX_URL;
        return NULL;
    }
    return is_server_url(text) ? NULL
                               : "want http://HOST[:PORT], https://HOST[:PORT] or unix:/PATH";
}

static const char *add_only(const struct flag *flag, const char *text, void *at, void *target,
                            char *want)
{
    struct replay_filter *filter = &((struct settings *)target)->filter;
    const char *wanted = replay_check_only(text);

    (void)flag;
    (void)at;
    (void)want;
    if (wanted == NULL && filter->only_count == REPLAY_ONLY_MAX)
        wanted = "want at most 32 of these";
    if (wanted == NULL)
        filter->only[filter->only_count++] = text;
    return wanted;
}

static const char *add_header(const struct flag *flag, const char *text, void *at, void *settings,
                              char *want)
{
    struct replay_target *target = &((struct settings *)settings)->plan.target;
    size_t name = strcspn(text, ":");

    (void)flag;
    (void)at;
    (void)want;
    if (name == 0 || text[name] != ':' || strcspn(text, " \t\r\n") < name ||
        strpbrk(text, "\r\n") != NULL)
        return "want NAME: VALUE";
    if (target->header_count == REPLAY_HEADERS_MAX)
        return "want at most 32 of these";
    target->headers[target->header_count++] = text;
    return NULL;
}

static const char *set_ca_file(const struct flag *flag, const char *text, void *at, void *target,
                               char *want)
{
    (void)flag;
    (void)target;
    (void)want;
    *(const char **)at = text;
    return access(text, R_OK) == 0 ? NULL : strerrordesc_np(errno);
}

static const char *set_host(const struct flag *flag, const char *text, void *at, void *target,
                            char *want)
{
    (void)flag;
    (void)target;
    (void)want;
    *(const char **)at = text;
    return strpbrk(text, " \t\r\n") == NULL && text[0] != '\0' ? NULL : "want a host";
}

/* ---- the table ---- */

#define AT(field) offsetof(struct settings, field)
#define LONGEST (30 * 24 * UINT64_C(3600) * NS_PER_S)

static const struct flag flag_rows[] = {
    {.name = "from",
     .is_secret = true, /* a URL of Redis may contain a password */
     .kind = FLAG_CUSTOM,
     .argument = "PLACE",
     .help = "an archive file, a journal folder, or a stream in Redis",
     .set = set_from},
    {.name = "to",
     .kind = FLAG_CUSTOM,
     .argument = "URL",
     .help = "http://host:port, https://host:port or unix:/path",
     .set = set_to},
    {.name = "only",
     .kind = FLAG_CUSTOM,
     .argument = "WHAT",
     .help = "METHOD, a path pattern such as '/orders*', reason:deadline|forced|crashed, or "
             "class:never-started|idempotent|may-have-run; may be repeated: a request must match "
             "one value of each kind that is given",
     .set = add_only},
    {.name = "include-may-have-run",
     .kind = FLAG_ON,
     .offset = AT(filter.include_may_have_run),
     .help = "send requests of the class may-have-run too"},
    {.name = "include-parked",
     .kind = FLAG_ON,
     .offset = AT(filter.include_parked),
     .help = "send requests that were parked before too"},
    {.name = "include-queued",
     .kind = FLAG_ON,
     .offset = AT(filter.include_queued),
     .help = "send requests that are in a stream already too"},
    {.name = "max-age",
     .kind = FLAG_DURATION,
     .argument = "DUR",
     .offset = AT(max_age_ns),
     .least = NS_PER_MS,
     .most = LONGEST,
     .help = "skip requests that were received longer ago"},
    {.name = "max-rate",
     .kind = FLAG_NUMBER,
     .argument = "N",
     .offset = AT(plan.max_rate),
     .least = 1,
     .most = 1000000,
     .fallback = "no limit",
     .help = "send at most N requests per second"},
    {.name = "concurrency",
     .kind = FLAG_NUMBER,
     .argument = "N",
     .offset = AT(plan.concurrency),
     .least = 1,
     .most = 1024,
     .fallback = "4",
     .help = "requests under way at once; 1 keeps their order"},
    {.name = "max-attempts",
     .kind = FLAG_NUMBER,
     .argument = "N",
     .offset = AT(plan.max_attempts),
     .least = 1,
     .most = 1000,
     .fallback = "5",
     .help = "attempts for one request in this run"},
    {.name = "timeout",
     .kind = FLAG_DURATION,
     .argument = "DUR",
     .offset = AT(plan.target.timeout_ns),
     .least = NS_PER_MS,
     .most = LONGEST,
     .fallback = "30s",
     .help = "how long to wait for one answer"},
    {.name = "cacert",
     .kind = FLAG_CUSTOM,
     .argument = "FILE",
     .offset = AT(plan.target.ca_file),
     .fallback = "the system's",
     .help = "PEM file of authorities for https://",
     .set = set_ca_file},
    {.name = "host",
     .kind = FLAG_CUSTOM,
     .argument = "NAME",
     .offset = AT(plan.target.host),
     .help = "replace the Host header",
     .set = set_host},
    {.name = "header",
     .is_secret = true,
     .kind = FLAG_CUSTOM,
     .argument = "'NAME: VALUE'",
     .help = "add a header, and replace the request's own of that name; for headers that are "
             "redacted on record, such as Authorization",
     .set = add_header},
    {.name = "password-file",
     .kind = FLAG_TEXT,
     .argument = "FILE",
     .offset = AT(password_file),
     .help = "its first line is the password for Redis"},
    {.name = "claim-after",
     .kind = FLAG_DURATION,
     .argument = "DUR",
     .offset = AT(claim_after_ns),
     .least = NS_PER_MS,
     .most = LONGEST,
     .fallback = "1m, or twice the timeout",
     .help = "take entries that another replayer has not touched for so long"},
    {.name = "dry-run",
     .kind = FLAG_ON,
     .offset = AT(plan.dry_run),
     .help = "only print what would be sent"},
    {.name = "quiet", .kind = FLAG_ON, .offset = AT(plan.quiet), .help = "print no progress"},
    CLI_HELP_FLAG,
};

static struct cli_usage usage = {
    .flags = {.rows = flag_rows, .count = sizeof(flag_rows) / sizeof(flag_rows[0])},
    .command = "replay",
    .synopsis = "replay --from FILE|DIR|redis[s]://HOST/DB?stream=NAME --to URL [OPTION]...",
    .about =
        "Send the requests again that a server received and did not answer. Each gets the headers\n"
        "Idempotency-Key (its id on record, or the client's own key) and Lastcall-Replay (the "
        "number\n"
        "of the attempt). An answer of 2xx settles a request; 408, 425, 429, 5xx and no answer "
        "are\n"
        "tried again; any other answer parks it. If the command is stopped, even by SIGKILL, run "
        "it\n"
        "again to continue: every request arrives at least once.\n",
    .after =
        "Exit status: 0 all settled; 1 requests were parked or are left; 64 wrong usage; 66 the\n"
        "source cannot be read; 69 the target or Redis cannot be reached; 74 an outcome cannot be\n"
        "written; 75 another replayer uses the source; 130 interrupted.\n"};

/* ---- the whole command line ---- */

static int check_together(struct settings *settings)
{
    uint64_t timeout_ns = settings->plan.target.timeout_ns;

    settings->filter.max_age_ms = settings->max_age_ns / NS_PER_MS;
    if (settings->from == NULL)
        return cli_usage_error(
            &usage, "--from: want an archive file, a journal folder or a stream in Redis");
    if (settings->plan.to == NULL && !settings->plan.dry_run)
        return cli_usage_error(&usage, "--to: want the URL of the server to send to");
    if (settings->claim_after_ns == 0)
        settings->claim_after_ns =
            2 * timeout_ns > CLAIM_AFTER_NS ? 2 * timeout_ns : CLAIM_AFTER_NS;
    if (settings->claim_after_ns <= timeout_ns)
        return cli_usage_error(
            &usage,
            "--claim-after: want more than --timeout, or another replayer could claim a request "
            "that is under way");
    if (replay_is_redis(settings->from) && settings->filter.include_parked)
        return cli_usage_error(&usage,
                               "--include-parked: parked requests are in another stream; replay "
                               "stream=%s:parked",
                               settings->url.stream);
    return -1;
}

static int open_source(struct settings *settings, struct replay_source **ret_source)
{
    char error[REPLAY_ERROR_SIZE] = "out of memory";
    int status;

    if (!replay_is_redis(settings->from)) {
        status = replay_file_open(settings->from, &settings->filter, settings->plan.dry_run,
                                  ret_source, error);
    } else {
        char tls_error[REDIS_TLS_ERROR_SIZE];
        if (redis_tls_load(&settings->url, tls_error) != 0)
            return cli_usage_error(&usage, "--from: %s", tls_error);
        int err = settings->password_file != NULL
                      ? redis_url_read_password(&settings->url, settings->password_file)
                      : 0;
        if (err != 0)
            return cli_usage_error(&usage, "--password-file %s: %s", settings->password_file,
                                   err == -EINVAL ? "its first line is empty"
                                                  : strerrordesc_np(-err));
        status = replay_redis_open(&settings->url, &settings->filter, settings->plan.dry_run,
                                   settings->claim_after_ns, ret_source, error);
    }
    if (status != 0)
        (void)fprintf(stderr, "lastcall replay: %s\n", error);
    return status;
}

int cmd_replay(int argc, char **argv)
{
    struct replay_source *source = NULL;
    struct settings settings = {
        .plan = {.to = NULL,
                 .concurrency = CONCURRENCY,
                 .max_attempts = ATTEMPTS,
                 .target = {.timeout_ns = TIMEOUT_NS}},
    };

    int status = cli_parse(argc, argv, &usage, &settings);
    if (status < 0)
        status = check_together(&settings);
    if (status < 0)
        status = open_source(&settings, &source);
    if (status == 0 && source != NULL) {
        if (settings.plan.to == NULL)
            settings.plan.to = "--to"; /* only for the message of a dry run */
        status = replay_run(&settings.plan, source);
        source->ops->close(source);
    }
    redis_url_release(&settings.url);
    return status;
}

#include "replay.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replay_run.h"

#define ATTEMPTS 5
#define CONCURRENCY 4
#define TIMEOUT_NS (30 * NS_PER_S)
#define CLAIM_AFTER_NS (60 * NS_PER_S)
#define UNIX_URL "http://localhost"

struct settings {
    const char *from;
    const char *password_file;
    uint64_t claim_after_ns;
    struct replay_filter filter;
    struct replay_plan plan;
    struct redis_url url; /* of --from, where it is one */
};

static const char help[] =
    "Usage: lastcall replay --from FILE|DIR|redis[s]://HOST/DB?stream=NAME --to URL [OPTION]...\n"
    "\n"
    "Sends requests again that a server had taken and not answered. Each carries Idempotency-Key,\n"
    "its id on record (or the client's own), and Lastcall-Replay, the number of the attempt.\n"
    "2xx settles it; 408, 425, 429, 5xx and no answer are tried again; anything else parks it.\n"
    "Stopped at any point, even by SIGKILL, the same command goes on where it was: every request\n"
    "arrives at least once.\n"
    "\n"
    "  --from PLACE              an archive file, a journal folder, or a stream in Redis\n"
    "  --to URL                  http://host:port, https://host:port or unix:/path\n"
    "  --only WHAT               METHOD, a path pattern such as '/orders*', "
    "reason:deadline|forced|\n"
    "                            crashed|shed, class:never-started|idempotent|may-have-run; may "
    "be\n"
    "                            given several times: any of those of one kind, and every kind\n"
    "  --include-may-have-run    also those that may have run already\n"
    "  --include-parked          also those that were parked before\n"
    "  --include-queued          also those of a file that went to a stream already\n"
    "  --max-age DUR             none that were received longer ago\n"
    "  --max-rate N              no more than N a second\n"
    "  --concurrency N           so many at a time; 1 keeps their order (default: 4)\n"
    "  --max-attempts N          at one request, in this run (default: 5)\n"
    "  --timeout DUR             for one answer (default: 30s)\n"
    "  --cacert FILE             PEM, who vouches for an https:// target (default: the system's)\n"
    "  --host NAME               in place of the Host that a request came with\n"
    "  --header 'NAME: VALUE'    send this, too, in place of the request's own of that name; for\n"
    "                            what is redacted on record, such as Authorization\n"
    "  --password-file FILE      its first line is the password for Redis\n"
    "  --claim-after DUR         take over what another replayer has not touched for so long\n"
    "                            (default: 1m, or twice the timeout)\n"
    "  --dry-run                 only show what would be sent\n"
    "  --quiet                   no progress\n"
    "\n"
    "Exit status: 0 all settled; 1 something was parked, or is left; 64 wrong usage; 66 nothing "
    "can\n"
    "be read there; 69 the target or Redis is away; 74 a decision cannot be noted; 75 another\n"
    "replayer works on it; 130 interrupted.\n";

enum choice {
    CHOICE_FROM = 1000,
    CHOICE_TO,
    CHOICE_ONLY,
    CHOICE_MAY_HAVE_RUN,
    CHOICE_PARKED,
    CHOICE_QUEUED,
    CHOICE_MAX_AGE,
    CHOICE_MAX_RATE,
    CHOICE_CONCURRENCY,
    CHOICE_MAX_ATTEMPTS,
    CHOICE_TIMEOUT,
    CHOICE_CACERT,
    CHOICE_HOST,
    CHOICE_HEADER,
    CHOICE_PASSWORD_FILE,
    CHOICE_CLAIM_AFTER,
    CHOICE_DRY_RUN,
    CHOICE_QUIET,
    CHOICE_HELP
};

static const struct option longs[] = {
    {"from", required_argument, NULL, CHOICE_FROM},
    {"to", required_argument, NULL, CHOICE_TO},
    {"only", required_argument, NULL, CHOICE_ONLY},
    {"include-may-have-run", no_argument, NULL, CHOICE_MAY_HAVE_RUN},
    {"include-parked", no_argument, NULL, CHOICE_PARKED},
    {"include-queued", no_argument, NULL, CHOICE_QUEUED},
    {"max-age", required_argument, NULL, CHOICE_MAX_AGE},
    {"max-rate", required_argument, NULL, CHOICE_MAX_RATE},
    {"concurrency", required_argument, NULL, CHOICE_CONCURRENCY},
    {"max-attempts", required_argument, NULL, CHOICE_MAX_ATTEMPTS},
    {"timeout", required_argument, NULL, CHOICE_TIMEOUT},
    {"cacert", required_argument, NULL, CHOICE_CACERT},
    {"host", required_argument, NULL, CHOICE_HOST},
    {"header", required_argument, NULL, CHOICE_HEADER},
    {"password-file", required_argument, NULL, CHOICE_PASSWORD_FILE},
    {"claim-after", required_argument, NULL, CHOICE_CLAIM_AFTER},
    {"dry-run", no_argument, NULL, CHOICE_DRY_RUN},
    {"quiet", no_argument, NULL, CHOICE_QUIET},
    {"help", no_argument, NULL, CHOICE_HELP},
    {NULL, 0, NULL, 0},
};

static int usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int usage(const char *format, ...)
{
    va_list args;

    (void)fputs("lastcall replay: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputs("; see lastcall replay --help\n", stderr);
    return REPLAY_EXIT_USAGE;
}

/* ---- values; each returns NULL, or what is wanted ---- */

static const char *set_number(const char *text, unsigned most, unsigned *ret_number)
{
    static char want[64];
    char *end;

    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && number >= 1 &&
        number <= most) {
        *ret_number = (unsigned)number;
        return NULL;
    }
    (void)snprintf(want, sizeof(want), "want a whole number from 1 to %u", most);
    return want;
}

static const char *set_duration(const char *text, uint64_t least_ns, uint64_t *ret_ns)
{
    uint64_t ns;

    if (clock_parse_duration(text, &ns) != 0 || ns < least_ns)
        return "want a duration such as 500ms, 30s or 12h";
    *ret_ns = ns;
    return NULL;
}

static const char *add_only(struct replay_filter *filter, const char *text)
{
    const char *wanted = replay_check_only(text);

    if (wanted == NULL && filter->only_count == REPLAY_ONLY_MAX)
        wanted = "no more than 32 of them";
    if (wanted == NULL)
        filter->only[filter->only_count++] = text;
    return wanted;
}

static const char *add_header(struct replay_target *target, const char *text)
{
    size_t name = strcspn(text, ":");

    if (name == 0 || text[name] != ':' || strcspn(text, " \t\r\n") < name ||
        strpbrk(text, "\r\n") != NULL)
        return "want NAME: VALUE";
    if (target->header_count == REPLAY_HEADERS_MAX)
        return "no more than 32 of them";
    target->headers[target->header_count++] = text;
    return NULL;
}

/* Without a path: that is the requests' own. */
static const char *set_target(struct replay_target *target, const char *text)
{
    CURLU *url = curl_url();
    char *scheme = NULL, *path = NULL, *query = NULL, *user = NULL;

    if (strncmp(text, "unix:/", 6) == 0) {
        target->socket = text + strlen("unix:");
        target->url = UNIX_URL;
        curl_url_cleanup(url);
        return NULL;
    }
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
    target->url = text;
    return fine ? NULL : "want http://HOST[:PORT], https://HOST[:PORT] or unix:/PATH, and no more";
}

static const char *set_from(struct settings *settings, const char *text)
{
    settings->from = text;
    if (!replay_is_redis(text))
        return NULL;
    redis_url_release(&settings->url);
    const char *wanted = redis_url_parse(text, &settings->url);
    return wanted == NULL && settings->url.stream == NULL ? "want ?stream=NAME behind it" : wanted;
}

static const char *set_max_age(struct replay_filter *filter, const char *text)
{
    uint64_t ns = 0;
    const char *wanted = set_duration(text, NS_PER_MS, &ns);

    filter->max_age_ms = ns / NS_PER_MS;
    return wanted;
}

static const char *set_flag(struct settings *settings, int choice)
{
    switch (choice) {
    case CHOICE_MAY_HAVE_RUN:
        settings->filter.include_may_have_run = true;
        break;
    case CHOICE_PARKED:
        settings->filter.include_parked = true;
        break;
    case CHOICE_QUEUED:
        settings->filter.include_queued = true;
        break;
    case CHOICE_DRY_RUN:
        settings->plan.dry_run = true;
        break;
    default:
        settings->plan.quiet = true;
        break;
    }
    return NULL;
}

static const char *set_value(struct settings *settings, int choice, const char *text)
{
    struct replay_plan *plan = &settings->plan;

    switch (choice) {
    case CHOICE_FROM:
        return set_from(settings, text);
    case CHOICE_TO:
        plan->to = text;
        return set_target(&plan->target, text);
    case CHOICE_ONLY:
        return add_only(&settings->filter, text);
    case CHOICE_MAX_AGE:
        return set_max_age(&settings->filter, text);
    case CHOICE_MAX_RATE:
        return set_number(text, 1000000, &plan->max_rate);
    case CHOICE_CONCURRENCY:
        return set_number(text, 1024, &plan->concurrency);
    case CHOICE_MAX_ATTEMPTS:
        return set_number(text, 1000, &plan->max_attempts);
    case CHOICE_TIMEOUT:
        return set_duration(text, NS_PER_MS, &plan->target.timeout_ns);
    case CHOICE_CACERT:
        plan->target.ca_file = text;
        return access(text, R_OK) == 0 ? NULL : strerrordesc_np(errno);
    case CHOICE_HOST:
        plan->target.host = text;
        return strpbrk(text, " \t\r\n") == NULL && text[0] != '\0' ? NULL : "want a host";
    case CHOICE_HEADER:
        return add_header(&plan->target, text);
    case CHOICE_PASSWORD_FILE:
        settings->password_file = text;
        return NULL;
    case CHOICE_CLAIM_AFTER:
        return set_duration(text, NS_PER_MS, &settings->claim_after_ns);
    default:
        return set_flag(settings, choice);
    }
}

/* ---- the whole command line ---- */

static const char *name_of(int choice)
{
    for (const struct option *option = longs; option->name != NULL; option++)
        if (option->val == choice)
            return option->name;
    return "?";
}

static int check_together(struct settings *settings)
{
    uint64_t timeout_ns = settings->plan.target.timeout_ns;

    if (settings->from == NULL)
        return usage("--from: want an archive file, a journal folder or a stream in Redis");
    if (settings->plan.to == NULL && !settings->plan.dry_run)
        return usage("--to: want the URL of the server to send to");
    if (settings->claim_after_ns == 0)
        settings->claim_after_ns =
            2 * timeout_ns > CLAIM_AFTER_NS ? 2 * timeout_ns : CLAIM_AFTER_NS;
    if (settings->claim_after_ns <= timeout_ns)
        return usage(
            "--claim-after: want more than --timeout: a request that is under way must not "
            "be taken for left");
    if (replay_is_redis(settings->from) && settings->filter.include_parked)
        return usage("--include-parked: what was parked is in a stream of its own: replay "
                     "stream=%s:parked",
                     settings->url.stream);
    return -1;
}

static int parse(int argc, char **argv, struct settings *settings)
{
    int choice;

    opterr = 0;
    optind = 0; /* once more from the start */
    while ((choice = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
        if (choice == CHOICE_HELP) {
            (void)fputs(help, stdout);
            return 0;
        }
        if (choice == ':')
            return usage("%s: wants a value", argv[optind - 1]);
        if (choice == '?')
            return usage("%s: no such option", argv[optind - 1]);
        const char *wanted = set_value(settings, choice, optarg);
        if (wanted == NULL)
            continue;
        /* The URL of Redis may hold a password. */
        bool secret = choice == CHOICE_FROM || choice == CHOICE_HEADER;
        return usage("--%s%s%s: %s", name_of(choice), secret ? "" : " ", secret ? "" : optarg,
                     wanted);
    }
    if (optind < argc)
        return usage("%s: not an option", argv[optind]);
    return check_together(settings);
}

static int open_source(struct settings *settings, struct replay_source **ret_source)
{
    char error[REPLAY_ERROR_SIZE] = "no memory";
    int status;

    if (!replay_is_redis(settings->from)) {
        status = replay_file_open(settings->from, &settings->filter, settings->plan.dry_run,
                                  ret_source, error);
    } else {
        char tls_error[REDIS_TLS_ERROR_SIZE];
        if (redis_tls_load(&settings->url, tls_error) != 0)
            return usage("--from: %s", tls_error);
        int err = settings->password_file != NULL
                      ? redis_url_read_password(&settings->url, settings->password_file)
                      : 0;
        if (err != 0)
            return usage("--password-file %s: %s", settings->password_file,
                         err == -EINVAL ? "its first line is empty" : strerrordesc_np(-err));
        status = replay_redis_open(&settings->url, &settings->filter, settings->plan.dry_run,
                                   settings->claim_after_ns, ret_source, error);
    }
    if (status != 0)
        (void)fprintf(stderr, "lastcall replay: %s\n", error);
    return status;
}

int replay_command(int argc, char **argv)
{
    struct replay_source *source = NULL;
    struct settings settings = {
        .plan = {.to = NULL,
                 .concurrency = CONCURRENCY,
                 .max_attempts = ATTEMPTS,
                 .target = {.timeout_ns = TIMEOUT_NS}},
    };

    int status = parse(argc, argv, &settings);
    if (status < 0)
        status = open_source(&settings, &source);
    if (status == 0 && source != NULL) {
        if (settings.plan.to == NULL)
            settings.plan.to = "--to"; /* a dry run needs none */
        status = replay_run(&settings.plan, source);
        source->ops->close(source);
    }
    redis_url_release(&settings.url);
    return status;
}

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_options.h"
#include "commands.h"
#include "log.h"
#include "replay_exit.h"
#include "replay_redis.h"
#include "replay_show.h"
#include "unfinished_walk.h"

/* The command unfinished. */

#define ID_LEAST 6 /* digits of an id for --show */

enum manner { MANNER_LIST, MANNER_COUNT, MANNER_JSON, MANNER_SHOW };

struct view {
    enum manner manner;
    const char *id; /* MANNER_SHOW: its beginning */
    size_t shown;
    size_t on_record; /* of `shown`: not archived yet */
    size_t by_outcome[DISPOSITION_OUTCOME_COUNT];
    size_t open_by_class[UNFINISHED_CLASS_COUNT]; /* open or failed: a replay sends them */
};

static enum disposition_outcome outcome_of(const struct unfinished_entry *entry)
{
    return entry->disposition != NULL ? entry->disposition->outcome : DISPOSITION_NONE;
}

/* ---- output ---- */

static void list_one(const struct unfinished_entry *entry)
{
    char began[UNFINISHED_TIME_SIZE];

    (void)printf("%s  %-7s  %s  ", entry->request->id, disposition_outcome_name(outcome_of(entry)),
                 unfinished_format_time(entry->request->began_ms, began));
    replay_show_request(entry->request);
    if (entry->request->gap != UNFINISHED_GAP_NONE)
        (void)printf(", incomplete: %s", unfinished_gap_name(entry->request->gap));
    if (entry->disposition != NULL && entry->disposition->status != 0)
        (void)printf(", answer %d", entry->disposition->status);
    if (entry->disposition != NULL && entry->disposition->attempt != 0)
        (void)printf(", attempt %u", entry->disposition->attempt);
    (void)putchar('\n');
}

static json_t *fate(const struct unfinished_entry *entry)
{
    char at[UNFINISHED_TIME_SIZE];
    json_t *fate = json_pack("{s:s, s:s}", "outcome", disposition_outcome_name(outcome_of(entry)),
                             "place", entry->place);
    const struct disposition *disposition = entry->disposition;

    if (fate != NULL && entry->pid != 0)
        (void)json_object_set_new(fate, "on_record_of", json_integer((json_int_t)entry->pid));
    if (fate == NULL || disposition == NULL)
        return fate;
    (void)json_object_set_new(fate, "status", json_integer(disposition->status));
    (void)json_object_set_new(fate, "attempt", json_integer(disposition->attempt));
    if (disposition->at_ms != 0)
        (void)json_object_set_new(fate, "at",
                                  json_string(unfinished_format_time(disposition->at_ms, at)));
    if (disposition->answer != NULL)
        (void)json_object_set_new(fate,
                                  disposition->outcome == DISPOSITION_QUEUED ? "stream" : "answer",
                                  log_json_text(disposition->answer));
    return fate;
}

static void json_one(const struct unfinished_entry *entry)
{
    json_t *root = json_loadb(entry->line, entry->len, 0, NULL);

    (void)json_object_set_new(root, "became", fate(entry));
    char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
    if (text != NULL)
        (void)puts(text);
    free(text);
    json_decref(root);
}

/* Plain text is printed, any other body only described. */
static void show_body(const struct unfinished *request)
{
    bool is_text = true;

    for (size_t i = 0; i < request->body.len; i++) {
        unsigned char c = (unsigned char)request->body.base[i];
        is_text &= c == '\n' || c == '\t' || c == '\r' || (c >= 0x20 && c < 0x7f);
    }
    if (request->body.base == NULL && request->body_bytes > 0)
        (void)printf("(a body of %llu bytes, not stored; sha256 %s)\n",
                     (unsigned long long)request->body_bytes, request->sha256);
    else if (!is_text)
        (void)printf("(a body of %zu bytes, not plain text; see --json)\n", request->body.len);
    else if (request->body.len > 0)
        (void)printf("%.*s\n", (int)request->body.len, request->body.base);
}

static void show_fate(const struct unfinished_entry *entry)
{
    const struct disposition *disposition = entry->disposition;
    char at[UNFINISHED_TIME_SIZE];

    (void)printf("%s: %s", entry->place, disposition_outcome_name(outcome_of(entry)));
    if (disposition != NULL && disposition->at_ms != 0)
        (void)printf(" at %s", unfinished_format_time(disposition->at_ms, at));
    if (disposition != NULL && disposition->attempt != 0)
        (void)printf(", attempt %u", disposition->attempt);
    if (disposition != NULL && disposition->status != 0)
        (void)printf(", answer %d", disposition->status);
    (void)putchar('\n');
    if (disposition != NULL && disposition->answer != NULL) {
        char *text = NULL;
        json_t *answer = log_json_text(disposition->answer);
        text = json_dumps(answer, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        (void)printf("%s: %s\n", disposition->outcome == DISPOSITION_QUEUED ? "stream" : "answer",
                     text != NULL ? text : "");
        free(text);
        json_decref(answer);
    }
}

static void show_one(const struct unfinished_entry *entry)
{
    const struct unfinished *request = entry->request;
    char time[UNFINISHED_TIME_SIZE];

    (void)printf("id: %s\nfrom: %s, at %s, by %s, %s", request->id, request->client,
                 unfinished_format_time(request->began_ms, time), request->server,
                 unfinished_state_name(request->state));
    if (entry->pid != 0)
        (void)printf("; not archived yet, process %llu exited without answering\n",
                     (unsigned long long)entry->pid);
    else
        (void)printf("; archived at %s after %.0f ms\n",
                     unfinished_format_time(request->archived_ms, time), request->age_ms);
    show_fate(entry);
    (void)putchar('\n');
    replay_show_request(request);
    (void)putchar('\n');
    for (size_t i = 0; i < request->header_count; i++) {
        replay_show_text(&request->headers[i].name);
        (void)fputs(": ", stdout);
        replay_show_text(&request->headers[i].value);
        (void)printf("%s\n", request->headers[i].redacted ? " (redacted)" : "");
    }
    (void)putchar('\n');
    show_body(request);
}

static void visit(void *arg, const struct unfinished_entry *entry)
{
    struct view *view = arg;
    enum disposition_outcome outcome = outcome_of(entry);

    if (view->id != NULL && strncmp(entry->request->id, view->id, strlen(view->id)) != 0)
        return;
    view->shown++;
    view->on_record += entry->pid != 0;
    view->by_outcome[outcome]++;
    if (outcome == DISPOSITION_NONE || outcome == DISPOSITION_FAILED)
        view->open_by_class[entry->request->class]++;
    if (view->manner == MANNER_LIST)
        list_one(entry);
    else if (view->manner == MANNER_JSON)
        json_one(entry);
    else if (view->manner == MANNER_SHOW)
        show_one(entry);
}

static void print_counts(FILE *out, const struct view *view, size_t garbage)
{
    (void)fprintf(out, "%zu request%s", view->shown, view->shown == 1 ? "" : "s");
    for (size_t i = 0; i < DISPOSITION_OUTCOME_COUNT; i++)
        (void)fprintf(out, "%s%zu %s", i == 0 ? ": " : ", ", view->by_outcome[i],
                      disposition_outcome_name((enum disposition_outcome)i));
    (void)fputs("; to be sent:", out);
    for (size_t i = 0; i < UNFINISHED_CLASS_COUNT; i++)
        (void)fprintf(out, "%s %zu %s", i == 0 ? "" : ",", view->open_by_class[i],
                      unfinished_class_name((enum unfinished_class)i));
    if (view->on_record > 0)
        (void)fprintf(
            out,
            "; %zu not archived yet: the process was killed (the next start or a replay archives "
            "%s)",
            view->on_record, view->on_record == 1 ? "it" : "them");
    if (garbage > 0)
        (void)fprintf(out, "; %zu lines are not requests", garbage);
    (void)fputc('\n', out);
}

/* ---- the command line ---- */

struct settings {
    const char *from;
    const char *password_file;
    const char *id; /* --show */
    bool count, json;
};

static const char *set_id(const struct flag *flag, const char *text, void *at, void *target,
                          char *want)
{
    (void)flag;
    (void)target;
    (void)want;
    *(const char **)at = text;
    return strlen(text) >= ID_LEAST ? NULL : "want at least 6 digits of an id";
}

static const struct flag flag_rows[] = {
    {.name = "from",
     .is_secret = true, /* a URL of Redis may contain a password */
     .kind = FLAG_TEXT,
     .argument = "PLACE",
     .offset = offsetof(struct settings, from),
     .fallback = "this folder",
     .help = "an archive file, a journal folder, or a stream in Redis"},
    {.name = "count",
     .kind = FLAG_ON,
     .offset = offsetof(struct settings, count),
     .help = "print only the counts"},
    {.name = "json",
     .kind = FLAG_ON,
     .offset = offsetof(struct settings, json),
     .help = "print one JSON object per line: the request, its outcome in `became`"},
    {.name = "show",
     .kind = FLAG_CUSTOM,
     .argument = "ID",
     .offset = offsetof(struct settings, id),
     .help = "print one request in full; the first 6 digits of its id suffice",
     .set = set_id},
    {.name = "password-file",
     .kind = FLAG_TEXT,
     .argument = "FILE",
     .offset = offsetof(struct settings, password_file),
     .help = "its first line is the password for Redis"},
    CLI_HELP_FLAG,
};

static struct cli_usage usage = {
    .flags = {.rows = flag_rows, .count = sizeof(flag_rows) / sizeof(flag_rows[0])},
    .command = "unfinished",
    .synopsis = "unfinished [--from FILE|DIR|redis[s]://HOST/DB?stream=NAME] [OPTION]...",
    .about =
        "List the requests that a server received and did not answer, with their outcomes: open,\n"
        "settled, parked, failed (to be tried again) or queued (in a Redis stream). In a folder "
        "this\n"
        "includes the records of processes that were killed.\n",
    .after = "Exit status: 0; 1 no request has the id; 64 wrong usage; 66, 69 the place cannot be "
             "read.\n"};

static int walk(const struct settings *settings, struct view *view, size_t *ret_garbage)
{
    struct redis_url url = {0};

    if (!replay_is_redis(settings->from))
        return unfinished_walk_path(settings->from, visit, view, ret_garbage);
    const char *wanted = redis_url_parse(settings->from, &url);
    if (wanted == NULL && url.stream == NULL)
        wanted = "want ?stream=NAME at its end";
    if (wanted == NULL && settings->password_file != NULL &&
        redis_url_read_password(&url, settings->password_file) != 0)
        wanted = "the first line of --password-file cannot be read";
    char tls_error[REDIS_TLS_ERROR_SIZE];
    if (wanted == NULL && redis_tls_load(&url, tls_error) != 0)
        wanted = tls_error;
    int status = wanted != NULL ? cli_usage_error(&usage, "--from: %s", wanted)
                                : unfinished_walk_redis(&url, visit, view, ret_garbage);
    redis_url_release(&url);
    return status;
}

int cmd_unfinished(int argc, char **argv)
{
    struct settings settings = {.from = "."};
    size_t garbage = 0;
    int status = cli_parse(argc, argv, &usage, &settings);

    if (status >= 0)
        return status;
    struct view view = {.id = settings.id,
                        .manner = settings.id != NULL ? MANNER_SHOW
                                  : settings.json     ? MANNER_JSON
                                  : settings.count    ? MANNER_COUNT
                                                      : MANNER_LIST};
    status = walk(&settings, &view, &garbage);
    if (view.manner == MANNER_COUNT || (view.manner == MANNER_LIST && status == 0))
        print_counts(view.manner == MANNER_COUNT ? stdout : stderr, &view, garbage);
    if (status == 0 && view.manner == MANNER_SHOW && view.shown == 0) {
        (void)fprintf(stderr, "lastcall unfinished: %s: no request with this id in %s\n", view.id,
                      replay_is_redis(settings.from) ? "the stream" : settings.from);
        return REPLAY_EXIT_LEFT;
    }
    return status;
}

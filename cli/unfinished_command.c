#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "replay.h"
#include "replay_p.h"
#include "unfinished_walk.h"

#define ID_LEAST 6 /* of its digits, to be shown */

enum manner { MANNER_LIST, MANNER_COUNT, MANNER_JSON, MANNER_SHOW };

struct view {
    enum manner manner;
    const char *id; /* MANNER_SHOW: its beginning */
    size_t shown;
    size_t by_outcome[MARK_OUTCOME_COUNT];
    size_t open_by_class[UNFINISHED_CLASS_COUNT]; /* open or failed: still to be sent */
};

static const char help[] =
    "Usage: lastcall unfinished [--from FILE|DIR|redis[s]://HOST/DB?stream=NAME] [OPTION]\n"
    "\n"
    "Lists the requests that a server had taken and not answered, and what became of each: open,\n"
    "settled, parked, failed (to be tried again) or queued (handed to a stream in Redis).\n"
    "\n"
    "  --from PLACE          an archive file, a journal folder, or a stream (default: this "
    "folder)\n"
    "  --count               only how many\n"
    "  --json                one JSON object a line: the request, and under `became` its fate\n"
    "  --show ID             all of one request; the beginning of its id will do\n"
    "  --password-file FILE  its first line is the password for Redis\n"
    "\n"
    "Exit status: 0; 1 nothing has the id; 64 wrong usage; 66, 69 the place cannot be read.\n";

static enum mark_outcome outcome_of(const struct unfinished_entry *entry)
{
    return entry->mark != NULL ? entry->mark->outcome : MARK_NONE;
}

/* ---- the manners ---- */

static void list_one(const struct unfinished_entry *entry)
{
    char began[UNFINISHED_TIME_SIZE];

    (void)printf("%s  %-7s  %s  ", entry->request->id, mark_outcome_name(outcome_of(entry)),
                 unfinished_format_time(entry->request->began_ms, began));
    replay_show_request(entry->request);
    if (entry->request->gap != UNFINISHED_GAP_NONE)
        (void)printf(", incomplete: %s", unfinished_gap_name(entry->request->gap));
    if (entry->mark != NULL && entry->mark->status != 0)
        (void)printf(", answer %d", entry->mark->status);
    if (entry->mark != NULL && entry->mark->attempt != 0)
        (void)printf(", attempt %u", entry->mark->attempt);
    (void)putchar('\n');
}

static json_t *fate(const struct unfinished_entry *entry)
{
    char at[UNFINISHED_TIME_SIZE];
    json_t *fate = json_pack("{s:s, s:s}", "outcome", mark_outcome_name(outcome_of(entry)), "place",
                             entry->place);
    const struct mark *mark = entry->mark;

    if (fate == NULL || mark == NULL)
        return fate;
    (void)json_object_set_new(fate, "status", json_integer(mark->status));
    (void)json_object_set_new(fate, "attempt", json_integer(mark->attempt));
    if (mark->at_ms != 0)
        (void)json_object_set_new(fate, "at", json_string(unfinished_format_time(mark->at_ms, at)));
    if (mark->answer != NULL)
        (void)json_object_set_new(fate, mark->outcome == MARK_QUEUED ? "stream" : "answer",
                                  log_json_text(mark->answer));
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

/* Text for a terminal as it is, anything else as what it is. */
static void show_body(const struct unfinished *request)
{
    bool is_text = true;

    for (size_t i = 0; i < request->body.len; i++) {
        unsigned char c = (unsigned char)request->body.base[i];
        is_text &= c == '\n' || c == '\t' || c == '\r' || (c >= 0x20 && c < 0x7f);
    }
    if (request->body.base == NULL && request->body_bytes > 0)
        (void)printf("(a body of %llu bytes, not kept; sha256 %s)\n",
                     (unsigned long long)request->body_bytes, request->sha256);
    else if (!is_text)
        (void)printf("(a body of %zu bytes that is no plain text; see --json)\n",
                     request->body.len);
    else if (request->body.len > 0)
        (void)printf("%.*s\n", (int)request->body.len, request->body.base);
}

static void show_fate(const struct unfinished_entry *entry)
{
    const struct mark *mark = entry->mark;
    char at[UNFINISHED_TIME_SIZE];

    (void)printf("%s: %s", entry->place, mark_outcome_name(outcome_of(entry)));
    if (mark != NULL && mark->at_ms != 0)
        (void)printf(" at %s", unfinished_format_time(mark->at_ms, at));
    if (mark != NULL && mark->attempt != 0)
        (void)printf(", attempt %u", mark->attempt);
    if (mark != NULL && mark->status != 0)
        (void)printf(", answer %d", mark->status);
    (void)putchar('\n');
    if (mark != NULL && mark->answer != NULL) {
        char *text = NULL;
        json_t *answer = log_json_text(mark->answer);
        text = json_dumps(answer, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        (void)printf("%s: %s\n", mark->outcome == MARK_QUEUED ? "stream" : "answer",
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
    enum mark_outcome outcome = outcome_of(entry);

    if (view->id != NULL && strncmp(entry->request->id, view->id, strlen(view->id)) != 0)
        return;
    view->shown++;
    view->by_outcome[outcome]++;
    if (outcome == MARK_NONE || outcome == MARK_FAILED)
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
    for (size_t i = 0; i < MARK_OUTCOME_COUNT; i++)
        (void)fprintf(out, "%s%zu %s", i == 0 ? ": " : ", ", view->by_outcome[i],
                      mark_outcome_name((enum mark_outcome)i));
    (void)fputs("; to be sent:", out);
    for (size_t i = 0; i < UNFINISHED_CLASS_COUNT; i++)
        (void)fprintf(out, "%s %zu %s", i == 0 ? "" : ",", view->open_by_class[i],
                      unfinished_class_name((enum unfinished_class)i));
    if (garbage > 0)
        (void)fprintf(out, "; %zu lines are no requests", garbage);
    (void)fputc('\n', out);
}

/* ---- the command line ---- */

static int usage(const char *what, const char *wanted)
{
    (void)fprintf(stderr, "lastcall unfinished: %s: %s; see lastcall unfinished --help\n", what,
                  wanted);
    return REPLAY_EXIT_USAGE;
}

struct place {
    const char *from;
    const char *password_file;
};

static int parse(int argc, char **argv, struct view *view, struct place *place)
{
    static const struct option longs[] = {{"from", required_argument, NULL, 'f'},
                                          {"count", no_argument, NULL, 'c'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"show", required_argument, NULL, 's'},
                                          {"help", no_argument, NULL, 'h'},
                                          {"password-file", required_argument, NULL, 'p'},
                                          {NULL, 0, NULL, 0}};
    int choice;

    opterr = 0;
    optind = 0; /* once more from the start */
    while ((choice = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
        switch (choice) {
        case 'f':
            place->from = optarg;
            break;
        case 'p':
            place->password_file = optarg;
            break;
        case 'c':
            view->manner = MANNER_COUNT;
            break;
        case 'j':
            view->manner = MANNER_JSON;
            break;
        case 's':
            view->manner = MANNER_SHOW;
            view->id = optarg;
            if (strlen(optarg) < ID_LEAST)
                return usage("--show", "want at least 6 digits of an id");
            break;
        case 'h':
            (void)fputs(help, stdout);
            return 0;
        default:
            return usage(argv[optind - 1], choice == ':' ? "wants a value" : "no such option");
        }
    }
    return optind < argc ? usage(argv[optind], "not an option") : -1;
}

static int walk(const struct place *place, struct view *view, size_t *ret_garbage)
{
    struct redis_url url = {0};

    if (!replay_is_redis(place->from))
        return unfinished_walk_path(place->from, visit, view, ret_garbage);
    const char *wanted = redis_url_parse(place->from, &url);
    if (wanted == NULL && url.stream == NULL)
        wanted = "want ?stream=NAME behind it";
    if (wanted == NULL && place->password_file != NULL &&
        redis_url_read_password(&url, place->password_file) != 0)
        wanted = "the first line of --password-file cannot be read";
    char tls_error[REDIS_TLS_ERROR_SIZE];
    if (wanted == NULL && redis_tls_load(&url, tls_error) != 0)
        wanted = tls_error;
    int status = wanted != NULL ? usage("--from", wanted)
                                : unfinished_walk_redis(&url, visit, view, ret_garbage);
    redis_url_release(&url);
    return status;
}

int unfinished_command(int argc, char **argv)
{
    struct place place = {.from = "."};
    struct view view = {.manner = MANNER_LIST};
    size_t garbage = 0;
    int status = parse(argc, argv, &view, &place);

    if (status >= 0)
        return status;
    status = walk(&place, &view, &garbage);
    if (view.manner == MANNER_COUNT || (view.manner == MANNER_LIST && status == 0))
        print_counts(view.manner == MANNER_COUNT ? stdout : stderr, &view, garbage);
    if (status == 0 && view.manner == MANNER_SHOW && view.shown == 0) {
        (void)fprintf(stderr, "lastcall unfinished: %s: nothing has this id in %s\n", view.id,
                      replay_is_redis(place.from) ? "the stream" : place.from);
        return REPLAY_EXIT_LEFT;
    }
    return status;
}

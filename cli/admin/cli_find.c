#include "cli_find.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli_fail.h"
#include "cli_http.h"
#include "cli_status.h"

/* The default socket is the only one that accepts a connection. A killed server leaves its socket
 * file, which refuses connections. */

#define SHOWN_MAX 16
#define ASK_MS 2000L /* time limit for each of several servers */

struct live {
    char *path;
    bool has_answered; /* to pick() */
};

struct found {
    struct live *live;
    size_t live_count;
    char *refused; /* the first path that this user may not open */
};

static void add_live(struct found *found, const char *path)
{
    struct live *grown = realloc(found->live, (found->live_count + 1) * sizeof(*grown));
    char *copy = strdup(path);

    if (grown != NULL)
        found->live = grown;
    if (grown == NULL || copy == NULL) {
        free(copy);
        return;
    }
    grown[found->live_count++] = (struct live){.path = copy};
}

static void note_socket(struct found *found, const char *path)
{
    int err = cli_try_socket(path);

    if (err == -EACCES && found->refused == NULL)
        found->refused = strdup(path);
    if (err == 0)
        add_live(found, path);
}

static void search_folder(struct found *found, const char *folder)
{
    char path[PATH_MAX];
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, NULL, alphasort);

    if (count < 0 && errno == EACCES && found->refused == NULL)
        found->refused = strdup(folder);
    for (int i = 0; i < count; i++) {
        size_t n = strlen(entries[i]->d_name);
        if (n > 5 && strcmp(entries[i]->d_name + n - 5, ".sock") == 0) {
            (void)snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
            note_socket(found, path);
        }
        free(entries[i]);
    }
    free(entries);
}

/* GET /status; NULL: no answer.     Owner: the caller. */
static json_t *ask_status(const char *path, long limit_ms)
{
    struct cli_server server = {.socket_path = (char *)path, .url = (char *)"http://localhost"};
    struct curl_slist *fields = NULL;
    struct cli_body body = {0};
    CURL *easy = cli_easy_open(&server, "/status", &fields);

    if (easy == NULL)
        return NULL;
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, limit_ms);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, cli_body_write);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, &body);
    json_t *status = curl_easy_perform(easy) == CURLE_OK && body.text != NULL
                         ? json_loads(body.text, 0, NULL)
                         : NULL;
    curl_easy_cleanup(easy);
    curl_slist_free_all(fields);
    free(body.text);
    if (cli_is_status(status))
        return status;
    json_decref(status);
    return NULL;
}

/* The process and its listeners, for the list of servers. */
static void describe(const char *path, char *text, size_t size)
{
    json_t *status = ask_status(path, ASK_MS);

    (void)snprintf(text, size, "no answer");
    if (status != NULL) {
        char listeners[160];
        (void)snprintf(text, size, "process %lld, %s",
                       (long long)json_integer_value(json_object_get(status, "pid")),
                       cli_listeners(status, listeners, sizeof(listeners)));
    }
    json_decref(status);
}

static int fail_several(const struct found *found)
{
    char *lines = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&lines, &size);

    if (out == NULL)
        return cli_fail(EX_OSERR, "out of memory");
    for (size_t i = 0; i < found->live_count && i < SHOWN_MAX; i++) {
        char text[224];
        describe(found->live[i].path, text, sizeof(text));
        (void)fprintf(out, "\n    --socket %s    (%s)", found->live[i].path, text);
    }
    if (found->live_count > SHOWN_MAX)
        (void)fprintf(out, "\n    and %zu more", found->live_count - SHOWN_MAX);
    (void)fclose(out);
    int status = cli_fail(EX_USAGE, "%zu servers are running; name one of them:%s",
                          found->live_count, lines);
    free(lines);
    return status;
}

static int fail_none(const struct found *found, const char *const *folders)
{
    if (found->refused != NULL)
        return cli_fail(EX_NOPERM,
                        "%s: permission denied: the socket is for root and the user that the "
                        "server runs as",
                        found->refused);
    if (folders[0] != NULL && folders[1] != NULL)
        return cli_fail(EX_UNAVAILABLE,
                        "no running server has its admin socket in %s or %s; give its address with "
                        "--socket or --admin",
                        folders[0], folders[1]);
    return cli_fail(
        EX_UNAVAILABLE,
        "no running server has its admin socket in %s; give its address with --socket or "
        "--admin",
        folders[0] != NULL ? folders[0] : "the default folders");
}

static bool belongs_to(struct live *live, long pid, long limit_ms)
{
    json_t *status = ask_status(live->path, limit_ms);
    bool is = status != NULL && (json_integer_value(json_object_get(status, "pid")) == pid ||
                                 json_integer_value(json_object_get(status, "service_pid")) == pid);

    live->has_answered = status != NULL;
    json_decref(status);
    return is;
}

static struct live *ask_all(struct found *found, long pid, long limit_ms)
{
    for (size_t i = 0; i < found->live_count; i++)
        if (!found->live[i].has_answered && belongs_to(&found->live[i], pid, limit_ms))
            return &found->live[i];
    return NULL;
}

static int pick(struct found *found, long pid, char **ret_path)
{
    struct live *its = ask_all(found, pid, ASK_MS);
    size_t silent = 0;
    char note[96] = "";

    if (its == NULL) /* a machine under load may need longer */
        its = ask_all(found, pid, CLI_ANSWER_MS);
    if (its != NULL) {
        *ret_path = its->path;
        its->path = NULL;
        return 0;
    }
    for (size_t i = 0; i < found->live_count; i++)
        silent += !found->live[i].has_answered;
    if (silent > 0)
        (void)snprintf(note, sizeof(note), " (%zu of %zu servers there did not answer)", silent,
                       found->live_count);
    return cli_fail(EX_UNAVAILABLE,
                    "no admin socket in the default folders belongs to process %ld; it may have "
                    "`admin: off`, or "
                    "an address that --socket or --admin must give%s",
                    pid, note);
}

int cli_find_socket(const char *const *folders, long pid, char **ret_path)
{
    struct found found = {0};
    int status = 0;

    for (size_t i = 0; folders[i] != NULL; i++)
        search_folder(&found, folders[i]);
    if (pid > 0 && (found.live_count > 0 || found.refused == NULL)) {
        status = pick(&found, pid, ret_path);
    } else if (found.live_count == 1) {
        *ret_path = found.live[0].path;
        found.live[0].path = NULL;
    } else {
        status = found.live_count > 0 ? fail_several(&found) : fail_none(&found, folders);
    }
    for (size_t i = 0; i < found.live_count; i++)
        free(found.live[i].path);
    free(found.live);
    free(found.refused);
    return status;
}

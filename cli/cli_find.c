#include "cli_admin_p.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli_p.h"
#include "cli_view.h"

/* The default socket: the only one in the folders for them that somebody listens on. Those that a
 * killed server left behind refuse a connect, and are passed over. */

#define FOUND_MAX 16
#define ASK_MS 2000L /* a server that is one of several */

struct found {
    char *live[FOUND_MAX];
    size_t live_count, left_out;
    char *refused; /* the first that this user may not open */
};

int cli_try_socket(const char *path)
{
    struct sockaddr_un there = {.sun_family = AF_UNIX};
    int fd, err = 0;

    if (strlen(path) >= sizeof(there.sun_path))
        return -ENAMETOOLONG;
    (void)strcpy(there.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&there, sizeof(there)) != 0)
        err = errno == EAGAIN ? 0 : -errno; /* its queue is full: somebody listens */
    (void)close(fd);
    return err;
}

static void note(struct found *found, const char *path)
{
    int err = cli_try_socket(path);

    if (err == -EACCES && found->refused == NULL)
        found->refused = strdup(path);
    if (err != 0)
        return;
    if (found->live_count < FOUND_MAX)
        found->live[found->live_count++] = strdup(path);
    else
        found->left_out++;
}

static void search(struct found *found, const char *folder)
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
            note(found, path);
        }
        free(entries[i]);
    }
    free(entries);
}

/* Where a server listens, for the list; says nothing where it does not answer. */
static void describe(const char *path, char *text, size_t size)
{
    struct cli_server server = {.socket_path = (char *)path, .url = (char *)"http://localhost"};
    struct curl_slist *fields = NULL;
    struct cli_body body = {0};
    CURL *easy = cli_easy_open(&server, "/status", &fields);

    (void)snprintf(text, size, "it does not answer");
    if (easy == NULL)
        return;
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, ASK_MS);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, cli_body_write);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, &body);
    json_t *status = curl_easy_perform(easy) == CURLE_OK && body.text != NULL
                         ? json_loads(body.text, 0, NULL)
                         : NULL;
    if (cli_is_status(status)) {
        char listeners[160];
        (void)snprintf(text, size, "process %lld, %s",
                       (long long)json_integer_value(json_object_get(status, "pid")),
                       cli_listeners(status, listeners, sizeof(listeners)));
    }
    json_decref(status);
    curl_easy_cleanup(easy);
    free(body.text);
}

static int fail_several(const struct found *found)
{
    char *lines = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&lines, &size);

    if (out == NULL)
        return cli_fail(EX_OSERR, "no memory");
    for (size_t i = 0; i < found->live_count; i++) {
        char text[224];
        describe(found->live[i], text, sizeof(text));
        (void)fprintf(out, "\n    --socket %s    (%s)", found->live[i], text);
    }
    if (found->left_out > 0)
        (void)fprintf(out, "\n    and %zu more", found->left_out);
    (void)fclose(out);
    int status = cli_fail(EX_USAGE, "%zu servers are running; say which one:%s",
                          found->live_count + found->left_out, lines);
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
                        "no running server has its admin socket in %s or %s; --socket or --admin "
                        "says where it is",
                        folders[0], folders[1]);
    return cli_fail(EX_UNAVAILABLE,
                    "no running server has its admin socket in %s; --socket or --admin says where "
                    "it is",
                    folders[0] != NULL ? folders[0] : "the usual folders");
}

int cli_find_socket(const char *const *folders, char **ret_path)
{
    struct found found = {0};
    int status = 0;

    for (size_t i = 0; folders[i] != NULL; i++)
        search(&found, folders[i]);
    if (found.live_count == 1 && found.left_out == 0) {
        *ret_path = found.live[0];
        found.live[0] = NULL;
    } else {
        status = found.live_count > 0 ? fail_several(&found) : fail_none(&found, folders);
    }
    for (size_t i = 0; i < found.live_count; i++)
        free(found.live[i]);
    free(found.refused);
    return status;
}

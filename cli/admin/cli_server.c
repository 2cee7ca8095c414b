#include "cli_server.h"

#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "cli_fail.h"
#include "cli_find.h"
#include "cli_http.h"

static int read_token(const char *path, char **ret_token)
{
    char line[CLI_TOKEN_MAX];
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return cli_fail(errno == EACCES ? EX_NOPERM : EX_NOINPUT,
                        "--token-file %s: cannot read it: %s", path, strerrordesc_np(errno));
    bool got = fgets(line, sizeof(line), file) != NULL;
    (void)fclose(file);
    if (got)
        line[strcspn(line, "\r\n")] = '\0';
    if (!got || line[0] == '\0')
        return cli_fail(EX_NOINPUT, "--token-file %s: its first line, the secret, is empty", path);
    for (const char *at = line; *at != '\0'; at++)
        if ((unsigned char)*at <= ' ' || *at == 0x7f)
            return cli_fail(EX_NOINPUT,
                            "--token-file %s: the secret contains a space or a control character",
                            path);
    *ret_token = strdup(line);
    return *ret_token != NULL ? 0 : cli_fail(EX_OSERR, "out of memory");
}

static int set_url(struct cli_server *server, const char *text)
{
    CURLU *url = curl_url();
    char *scheme = NULL;
    size_t n = strlen(text);

    if (url == NULL)
        return cli_fail(EX_OSERR, "out of memory");
    bool is_http = curl_url_set(url, CURLUPART_URL, text, CURLU_DEFAULT_SCHEME) == CURLUE_OK &&
                   curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                   (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    curl_free(scheme);
    curl_url_cleanup(url);
    if (!is_http)
        return cli_fail(EX_USAGE, "--admin %s: want a URL such as http://127.0.0.1:9090", text);
    while (n > 0 && text[n - 1] == '/')
        n--;
    if (asprintf(&server->url, "%s%.*s", strstr(text, "://") == NULL ? "http://" : "", (int)n,
                 text) < 0)
        server->url = NULL;
    return server->url != NULL ? 0 : cli_fail(EX_OSERR, "out of memory");
}

static int set_socket(struct cli_server *server, char *path)
{
    server->socket_path = path;
    /* Only for the Host header, which does not matter on a Unix socket. */
    server->url = strdup("http://localhost");
    if (path == NULL || server->url == NULL)
        return cli_fail(EX_OSERR, "out of memory");
    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return cli_fail(EX_USAGE, "--socket %s: longer than a socket path may be", path);
    return 0;
}

static int find_default(struct cli_server *server, long pid)
{
    char runtime[PATH_MAX] = "", *path = NULL;
    const char *base = getenv("XDG_RUNTIME_DIR");

    if (base != NULL && base[0] == '/')
        (void)snprintf(runtime, sizeof(runtime), "%s/lastcall", base);
    const char *const folders[] = {"/run/lastcall", runtime[0] != '\0' ? runtime : NULL, NULL};
    int status = cli_find_socket(folders, pid, &path);
    return status != 0 ? status : set_socket(server, path);
}

int cli_server_open(struct cli_server *server)
{
    int status = 0;
    char *end;

    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    if ((server->socket != NULL) + (server->admin != NULL) + (server->pid != NULL) > 1)
        return cli_fail(EX_USAGE, "--socket, --admin and --pid: give only one of these");
    long pid = server->pid != NULL ? strtol(server->pid, &end, 10) : 0;
    if (server->pid != NULL && (pid <= 0 || *end != '\0'))
        return cli_fail(EX_USAGE, "--pid %s: want a process id", server->pid);
    if (server->token_file != NULL)
        status = read_token(server->token_file, &server->token);
    if (status != 0)
        return status;
    if (server->socket != NULL)
        return set_socket(server, strdup(server->socket));
    if (server->admin != NULL && strncmp(server->admin, "unix:", 5) == 0) /* as the log prints it */
        return set_socket(server, strdup(server->admin + 5));
    return server->admin != NULL ? set_url(server, server->admin) : find_default(server, pid);
}

void cli_server_close(struct cli_server *server)
{
    free(server->socket_path);
    free(server->url);
    free(server->token);
    server->socket_path = server->url = server->token = NULL;
    curl_global_cleanup();
}

const char *cli_server_name(const struct cli_server *server, char buf[CLI_SERVER_NAME_SIZE])
{
    (void)snprintf(buf, CLI_SERVER_NAME_SIZE, "%s",
                   server->socket_path != NULL ? server->socket_path : server->url);
    return buf;
}

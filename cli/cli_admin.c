#include "cli_admin_p.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "cli_p.h"
#include "cli_view.h"

#define CONNECT_MS 5000L
#define ANSWER_MS 10000L
#define TOKEN_MAX 4096

/* ---- which server ---- */

static int read_token(const char *path, char **ret_token)
{
    char line[TOKEN_MAX];
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
                            "--token-file %s: the secret has a space or a control character in it",
                            path);
    *ret_token = strdup(line);
    return *ret_token != NULL ? 0 : cli_fail(EX_OSERR, "no memory");
}

static int set_url(struct cli_server *server, const char *text)
{
    CURLU *url = curl_url();
    char *scheme = NULL;
    size_t n = strlen(text);

    if (url == NULL)
        return cli_fail(EX_OSERR, "no memory");
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
    return server->url != NULL ? 0 : cli_fail(EX_OSERR, "no memory");
}

static int set_socket(struct cli_server *server, char *path)
{
    server->socket_path = path;
    /* The name is for nobody: on a Unix socket any Host will do. */
    server->url = strdup("http://localhost");
    if (path == NULL || server->url == NULL)
        return cli_fail(EX_OSERR, "no memory");
    if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return cli_fail(EX_USAGE, "--socket %s: longer than the path of a socket can be", path);
    return 0;
}

static int find_default(struct cli_server *server)
{
    char runtime[PATH_MAX] = "", *path = NULL;
    const char *base = getenv("XDG_RUNTIME_DIR");

    if (base != NULL && base[0] == '/')
        (void)snprintf(runtime, sizeof(runtime), "%s/lastcall", base);
    const char *const folders[] = {"/run/lastcall", runtime[0] != '\0' ? runtime : NULL, NULL};
    int status = cli_find_socket(folders, &path);
    return status != 0 ? status : set_socket(server, path);
}

int cli_server_open(struct cli_server *server)
{
    int status = 0;

    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    if (server->socket != NULL && server->admin != NULL)
        return cli_fail(EX_USAGE, "--socket and --admin: one of them names the server");
    if (server->token_file != NULL)
        status = read_token(server->token_file, &server->token);
    if (status != 0)
        return status;
    if (server->socket != NULL)
        return set_socket(server, strdup(server->socket));
    if (server->admin != NULL && strncmp(server->admin, "unix:", 5) == 0) /* as the server says */
        return set_socket(server, strdup(server->admin + 5));
    return server->admin != NULL ? set_url(server, server->admin) : find_default(server);
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

/* ---- one request ---- */

size_t cli_body_write(char *bytes, size_t one, size_t size, void *arg)
{
    struct cli_body *body = arg;

    (void)one; /* always 1 */
    if (size > CLI_SSE_MAX - body->bytes)
        return 0;
    char *larger = realloc(body->text, body->bytes + size + 1);
    if (larger == NULL)
        return 0;
    body->text = larger;
    memcpy(body->text + body->bytes, bytes, size);
    body->bytes += size;
    body->text[body->bytes] = '\0';
    return size;
}

CURL *cli_easy_open(const struct cli_server *server, const char *path,
                    struct curl_slist **ret_fields)
{
    char url[1024], bearer[TOKEN_MAX + 32];
    CURL *easy = curl_easy_init();

    if (easy == NULL)
        return NULL;
    (void)snprintf(url, sizeof(url), "%s%s", server->url, path);
    (void)curl_easy_setopt(easy, CURLOPT_URL, url);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* whatever the environment says */
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    (void)curl_easy_setopt(easy, CURLOPT_USERAGENT, "lastcall/" LASTCALL_VERSION);
    if (server->socket_path != NULL)
        (void)curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, server->socket_path);
    if (server->token != NULL) {
        (void)snprintf(bearer, sizeof(bearer), "Authorization: Bearer %s", server->token);
        *ret_fields = curl_slist_append(*ret_fields, bearer);
    }
    return easy;
}

static int explain_hang_up(const char *name)
{
    return cli_fail(EX_UNAVAILABLE,
                    "%s: the connection ended before the answer did: has the server ended?", name);
}

static int explain_connect(const char *name, const struct cli_server *server, CURL *easy)
{
    long number = 0;

    (void)curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
    int err = (int)number;
    if (server->socket_path != NULL) /* libcurl does not always know */
        err = -cli_try_socket(server->socket_path);
    if (err == EACCES || err == EPERM)
        return cli_fail(EX_NOPERM,
                        "%s: permission denied: the socket is for root and the user that the "
                        "server runs as",
                        name);
    if (err == ENOENT)
        return cli_fail(EX_UNAVAILABLE, "%s: there is no such socket: has the server ended?", name);
    if (err == ECONNREFUSED)
        return cli_fail(EX_UNAVAILABLE, "%s: nobody listens there: has the server ended?", name);
    if (err == 0) /* it was there, and had hung up before libcurl looked */
        return explain_hang_up(name);
    return cli_fail(EX_UNAVAILABLE, "%s: cannot connect: %s", name, strerrordesc_np(err));
}

int cli_explain_curl(const struct cli_server *server, CURL *easy, CURLcode code)
{
    char name[CLI_SERVER_NAME_SIZE];

    (void)cli_server_name(server, name);
    switch (code) {
    case CURLE_COULDNT_CONNECT:
        return explain_connect(name, server, easy);
    case CURLE_OPERATION_TIMEDOUT:
        return cli_fail(EX_UNAVAILABLE,
                        "%s: no answer within %lds: the server is stuck, or this "
                        "is no admin listener",
                        name, ANSWER_MS / 1000);
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_PARTIAL_FILE:
        return explain_hang_up(name);
    case CURLE_UNSUPPORTED_PROTOCOL: /* the scheme has been looked at: what came is no HTTP */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_WRITE_ERROR: /* ours: more than an answer may have */
        return cli_fail(EX_PROTOCOL, "%s: this is no admin listener: its answer is none", name);
    default:
        return cli_fail(EX_UNAVAILABLE, "%s: %s", name, curl_easy_strerror(code));
    }
}

/* What the server says of an order that it does not take; NULL: it speaks otherwise. */
static const char *error_text(const json_t *answer, const char *key)
{
    return json_string_value(json_object_get(json_object_get(answer, "error"), key));
}

int cli_explain_answer(const struct cli_server *server, long http, const char *text)
{
    char name[CLI_SERVER_NAME_SIZE];
    json_t *answer = text != NULL ? json_loads(text, 0, NULL) : NULL;
    const char *code = error_text(answer, "code"), *message = error_text(answer, "message");
    char shown[512];
    int status;

    (void)cli_server_name(server, name);
    cli_clean(message != NULL ? message : "", shown, sizeof(shown), SIZE_MAX);
    if (code == NULL || message == NULL)
        status = cli_fail(EX_PROTOCOL, "%s: this is no admin listener: it answers with status %ld",
                          name, http);
    else if (strcmp(code, "unauthorized") == 0)
        status = cli_fail(EX_NOPERM, "%s: %s%s", name, shown,
                          server->token == NULL ? "; --token-file names the secret" : "");
    else if (strcmp(code, "forbidden") == 0)
        status = cli_fail(EX_NOPERM, "%s: %s", name, shown);
    else if (http == 409)
        status = cli_fail(CLI_REFUSED, "%s", shown);
    else if (strcmp(code, "bad-request") == 0 || strcmp(code, "too-large") == 0)
        status = cli_fail(EX_USAGE, "%s: %s", name, shown);
    else
        status = cli_fail(EX_PROTOCOL, "%s: %s", name, shown);
    json_decref(answer);
    return status;
}

bool cli_is_status(const json_t *status)
{
    return json_integer_value(json_object_get(status, "schema")) == 1;
}

int cli_explain_schema(const struct cli_server *server, const json_t *status)
{
    char name[CLI_SERVER_NAME_SIZE];
    const json_t *schema = json_object_get(status, "schema");

    (void)cli_server_name(server, name);
    if (!json_is_integer(schema))
        return cli_fail(EX_PROTOCOL, "%s: this is no admin listener: its status is not one", name);
    return cli_fail(EX_PROTOCOL,
                    "%s: its status has schema %lld, and this lastcall knows schema 1: use the one "
                    "that the server was started from",
                    name, (long long)json_integer_value(schema));
}

static int read_answer(const struct cli_server *server, const char *text, json_t **ret_answer)
{
    char name[CLI_SERVER_NAME_SIZE];
    json_t *answer = text != NULL ? json_loads(text, 0, NULL) : NULL;

    if (json_is_object(answer)) {
        *ret_answer = answer;
        return 0;
    }
    json_decref(answer);
    return cli_fail(EX_PROTOCOL, "%s: this is no admin listener: it answers, but not in JSON",
                    cli_server_name(server, name));
}

int cli_request(const struct cli_server *server, const char *method, const char *path,
                const json_t *body, json_t **ret_answer)
{
    struct curl_slist *fields = NULL;
    struct cli_body answer = {0};
    long http = 0;
    int status = 0;
    CURL *easy = cli_easy_open(server, path, &fields);
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;

    if (easy == NULL || (body != NULL && text == NULL)) {
        status = cli_fail(EX_OSERR, "no memory");
        goto done;
    }
    if (text != NULL)
        fields = curl_slist_append(fields, "Content-Type: application/json");
    if (strcmp(method, "GET") != 0)
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, text != NULL ? text : "");
    (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, fields);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, ANSWER_MS);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, cli_body_write);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, &answer);
    CURLcode code = curl_easy_perform(easy);
    (void)curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &http);
    if (code != CURLE_OK)
        status = cli_explain_curl(server, easy, code);
    else if (http < 200 || http >= 300)
        status = cli_explain_answer(server, http, answer.text);
    else
        status = read_answer(server, answer.text, ret_answer);
done:
    if (easy != NULL)
        curl_easy_cleanup(easy);
    curl_slist_free_all(fields);
    free(answer.text);
    free(text);
    return status;
}

int cli_get_status(const struct cli_server *server, json_t **ret_status)
{
    json_t *answer = NULL;
    int status = cli_request(server, "GET", "/status", NULL, &answer);

    if (status == 0 && !cli_is_status(answer)) {
        status = cli_explain_schema(server, answer);
        json_decref(answer);
    } else if (status == 0) {
        *ret_status = answer;
    }
    return status;
}

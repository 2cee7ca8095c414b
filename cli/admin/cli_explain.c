#include "cli_explain.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli_fail.h"
#include "cli_http.h"
#include "cli_text.h"

static int explain_hang_up(const char *name)
{
    return cli_fail(
        EX_UNAVAILABLE,
        "%s: the connection closed before the answer was complete; the server may have exited",
        name);
}

static int explain_connect(const char *name, const struct cli_server *server, CURL *easy)
{
    long number = 0;

    (void)curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
    int err = (int)number;
    if (server->socket_path != NULL) /* libcurl does not always report it */
        err = -cli_try_socket(server->socket_path);
    if (err == EACCES || err == EPERM)
        return cli_fail(EX_NOPERM,
                        "%s: permission denied: the socket is for root and the user that the "
                        "server runs as",
                        name);
    if (err == ENOENT)
        return cli_fail(EX_UNAVAILABLE, "%s: no such socket; the server may have exited", name);
    if (err == ECONNREFUSED)
        return cli_fail(EX_UNAVAILABLE, "%s: connection refused; the server may have exited", name);
    if (err == 0) /* the server listens again, but closed libcurl's connection */
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
                        "%s: no answer within %lds: the server is stuck, or this is not an admin "
                        "listener",
                        name, CLI_ANSWER_MS / 1000);
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_PARTIAL_FILE:
        return explain_hang_up(name);
    case CURLE_UNSUPPORTED_PROTOCOL: /* not the URL's scheme, which was checked: the answer */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_WRITE_ERROR: /* cli_body_write() refused a larger answer */
        return cli_fail(EX_PROTOCOL,
                        "%s: not an admin listener: its answer is not HTTP, or is too large", name);
    default:
        return cli_fail(EX_UNAVAILABLE, "%s: %s", name, curl_easy_strerror(code));
    }
}

/* A field of the error object in an answer; NULL: the answer has another form. */
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
        status = cli_fail(EX_PROTOCOL, "%s: not an admin listener: it answers with status %ld",
                          name, http);
    else if (strcmp(code, "unauthorized") == 0)
        status = cli_fail(EX_NOPERM, "%s: %s%s", name, shown,
                          server->token == NULL ? "; give the secret with --token-file" : "");
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

int cli_explain_schema(const struct cli_server *server, const json_t *status)
{
    char name[CLI_SERVER_NAME_SIZE];
    const json_t *schema = json_object_get(status, "schema");

    (void)cli_server_name(server, name);
    if (!json_is_integer(schema))
        return cli_fail(EX_PROTOCOL, "%s: not an admin listener: its status has no schema", name);
    return cli_fail(
        EX_PROTOCOL,
        "%s: its status has schema %lld, but this lastcall knows only schema 1; use the "
        "lastcall that the server runs",
        name, (long long)json_integer_value(schema));
}

#include "cli_request.h"

#include <stdlib.h>
#include <string.h>

#include "cli_explain.h"
#include "cli_fail.h"
#include "cli_http.h"
#include "cli_status.h"

static int read_answer(const struct cli_server *server, const char *text, json_t **ret_answer)
{
    char name[CLI_SERVER_NAME_SIZE];
    json_t *answer = text != NULL ? json_loads(text, 0, NULL) : NULL;

    if (json_is_object(answer)) {
        *ret_answer = answer;
        return 0;
    }
    json_decref(answer);
    return cli_fail(EX_PROTOCOL, "%s: not an admin listener: its answer is not JSON",
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
        status = cli_fail(EX_OSERR, "out of memory");
        goto done;
    }
    if (text != NULL)
        fields = curl_slist_append(fields, "Content-Type: application/json");
    if (strcmp(method, "GET") != 0)
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, text != NULL ? text : "");
    (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
    (void)curl_easy_setopt(easy, CURLOPT_HTTPHEADER, fields);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, CLI_ANSWER_MS);
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

#include "admin_answer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

/* Writing the answers of the admin listener. */

static const char *reason_of(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 202:
        return "Accepted";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 413:
        return "Payload Too Large";
    default:
        return "Service Unavailable";
    }
}

void admin_add_header(h2o_req_t *req, const char *name, const char *value)
{
    h2o_add_header_by_str(&req->pool, &req->res.headers, name, strlen(name), 0, NULL, value,
                          strlen(value));
}

void admin_begin_answer(h2o_req_t *req, int status, const char *type)
{
    req->res.status = status;
    req->res.reason = reason_of(status);
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, type, strlen(type));
    admin_add_header(req, "cache-control", "no-store");
    admin_add_header(req, "x-content-type-options", "nosniff");
}

int admin_answer(h2o_req_t *req, int status, const char *type, const char *text, size_t bytes)
{
    admin_begin_answer(req, status, type);
    req->res.content_length = bytes;
    h2o_send_inline(req, text, bytes);
    return 0;
}

int admin_answer_text(h2o_req_t *req, int status, const char *text)
{
    return admin_answer(req, status, "text/plain; charset=utf-8", text, strlen(text));
}

int admin_answer_json(h2o_req_t *req, int status, json_t *json)
{
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;

    json_decref(json);
    if (text == NULL)
        return admin_answer_text(req, 503, "no memory\n");
    (void)admin_answer(req, status, CONTENT_JSON, text, strlen(text));
    free(text);
    return 0;
}

int admin_answer_error(h2o_req_t *req, int status, const char *code, const char *format, ...)
{
    char message[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    return admin_answer_json(
        req, status,
        json_pack("{s:{s:s, s:o}}", "error", "code", code, "message", log_json_text(message)));
}

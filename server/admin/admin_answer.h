#ifndef LASTCALL_ADMIN_ANSWER_H
#define LASTCALL_ADMIN_ANSWER_H

/* Answers of the admin listener, for the files that answer requests. They return 0, as libh2o's
 * handlers do.     Thread: the admin thread. */

#include <jansson.h>

#include "h2o_api.h"

#define CONTENT_JSON "application/json"

void admin_add_header(h2o_req_t *req, const char *name, const char *value);
/* Status and header of an answer that the caller sends. */
void admin_begin_answer(h2o_req_t *req, int status, const char *type);
int admin_answer(h2o_req_t *req, int status, const char *type, const char *text, size_t bytes);
int admin_answer_text(h2o_req_t *req, int status, const char *text);
/* Takes ownership of `json`, which may be NULL. */
int admin_answer_json(h2o_req_t *req, int status, json_t *json);
/* {"error": {"code": ..., "message": ...}} */
int admin_answer_error(h2o_req_t *req, int status, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif

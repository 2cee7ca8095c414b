#include "request_p.h"

#include <errno.h>
#include <string.h>

/* The status and the header fields of an answer. */

#define MOST_FIELDS 100
#define MOST_BYTES 16384 /* of one field */

int lc_answer_failed(struct lc_request *request, int result)
{
    if (request->failed == 0)
        request->failed = result;
    return request->failed;
}

/* RFC 9110 section 5.6.2 */
bool lc_is_token(const char *text)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    const char *at = text;

    for (; *at != '\0'; at++) {
        char c = (char)(*at | 0x20);
        if (!(c >= 'a' && c <= 'z' && *at != '{' && (unsigned char)*at < 0x80) &&
            !(*at >= '0' && *at <= '9') && strchr(others, *at) == NULL)
            return false;
    }
    return at > text && at - text <= 256;
}

bool lc_is_field_value(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;

    for (; *at != '\0'; at++)
        if ((*at < 0x20 && *at != '\t') || *at == 0x7f)
            return false;
    return at - (const unsigned char *)text <= MOST_BYTES;
}

/* What the server writes itself, and what belongs to a connection (RFC 9110 section 7.6.1, RFC 9113
 * section 8.2.2). */
static bool is_reserved(const char *name)
{
    static const char *const reserved[] = {"connection", "content-length",   "date",
                                           "keep-alive", "proxy-connection", "server",
                                           "te",         "trailer",          "transfer-encoding",
                                           "upgrade"};

    for (size_t i = 0; i < sizeof(reserved) / sizeof(reserved[0]); i++)
        if (lc_same_name(name, reserved[i]))
            return true;
    return false;
}

const char *lc_answer_field(const struct lc_request *request, const char *name)
{
    const struct exchange_answer_field *field = request->exchange->answer_fields;

    while (field != NULL && !lc_same_name(field->name, name))
        field = field->next;
    return field != NULL ? field->value : NULL;
}

void lc_remove_field(struct lc_request *request, const char *name)
{
    struct exchange_answer_field **at = &request->exchange->answer_fields;

    while (*at != NULL)
        if (lc_same_name((*at)->name, name)) {
            *at = (*at)->next;
            request->fields--;
        } else {
            at = &(*at)->next;
        }
}

static int append(struct lc_request *request, const char *name, const char *value)
{
    struct exchange *exchange = request->exchange;
    struct exchange_answer_field **at = &exchange->answer_fields;

    if (request->fields == MOST_FIELDS)
        return LC_E_FULL;
    struct exchange_answer_field *field = exchange->ops->alloc(exchange, sizeof(*field));
    char *name_copy = lc_copy(request, name, strlen(name));
    char *value_copy = lc_copy(request, value, strlen(value));
    if (field == NULL || name_copy == NULL || value_copy == NULL)
        return -ENOMEM;
    for (char *c = name_copy; *c != '\0'; c++) /* HTTP/2 wants it so */
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
    *field = (struct exchange_answer_field){NULL, name_copy, value_copy};
    while (*at != NULL)
        at = &(*at)->next;
    *at = field;
    request->fields++;
    return 0;
}

int lc_put_field(struct lc_request *request, const char *name, const char *value, bool is_added)
{
    if (lc_same_name(name, "content-type")) {
        request->exchange->content_type =
            value != NULL ? lc_copy(request, value, strlen(value)) : NULL;
        return value != NULL && request->exchange->content_type == NULL ? -ENOMEM : 0;
    }
    if (!is_added)
        lc_remove_field(request, name);
    return value != NULL ? append(request, name, value) : 0;
}

static int put(struct lc_request *request, const char *name, const char *value, bool is_added)
{
    if (request == NULL)
        return LC_E_THREAD;
    if (request->failed != 0)
        return request->failed;
    if (request->answered == LC_STREAM)
        return LC_E_STATE;
    if (name == NULL || !lc_is_token(name) || is_reserved(name) || (value == NULL && is_added) ||
        (value != NULL && !lc_is_field_value(value)))
        return lc_answer_failed(request, LC_E_ARG);
    int err = lc_put_field(request, name, value, is_added);
    return err == 0 ? 0 : lc_answer_failed(request, err);
}

int lc_set_header(lc_req *req, const char *name, const char *value)
{
    return put(LC_HELD(req), name, value, false);
}

int lc_add_header(lc_req *req, const char *name, const char *value)
{
    return put(LC_HELD(req), name, value, true);
}

int lc_status(lc_req *req, int status)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    if (request->failed != 0)
        return request->failed;
    if (request->answered != LC_NOT_ANSWERED)
        return request->answered == LC_STREAM ? LC_E_STATE : LC_E_TWICE;
    if (status < 200 || status > 599)
        return lc_answer_failed(request, LC_E_ARG);
    request->exchange->status = status;
    return 0;
}

#include "cgi_head.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static int wrong(char error[CGI_HEAD_ERROR], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int wrong(char error[CGI_HEAD_ERROR], const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(error, CGI_HEAD_ERROR, format, args);
    va_end(args);
    return -EBADMSG;
}

/* ---- where it ends ---- */

size_t cgi_head_end(const char *bytes, size_t count, size_t from)
{
    /* The empty line may have begun in the bytes that were looked at before. */
    const char *at = bytes + (from > 2 ? from - 2 : 0), *end = bytes + count;

    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        size_t n = (size_t)(at - bytes);
        if (n == 0 || bytes[n - 1] == '\n' || (n == 1 && bytes[0] == '\r') ||
            (n >= 2 && bytes[n - 1] == '\r' && bytes[n - 2] == '\n'))
            return n + 1;
        at++;
    }
    return 0;
}

/* ---- one field ---- */

/* RFC 9110, section 5.6.2. */
static bool is_token_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_value_char(char c)
{
    return (unsigned char)c >= ' ' ? c != 0x7f : c == '\t';
}

static bool begins_with(const char *name, const char *prefix)
{
    return strncasecmp(name, prefix, strlen(prefix)) == 0;
}

static bool is_among(const char *name, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool is_dropped(const char *name)
{
    static const char *const names[] = {"Connection", "Date", "Keep-Alive", "Proxy-Connection",
                                        "Server",     "TE",   "Trailer",    "Upgrade"};

    return is_among(name, names, sizeof(names) / sizeof(names[0])) || begins_with(name, "X-CGI-");
}

/* "404", "404 Not Found"; 1xx is no answer. */
static int read_status(const char *value)
{
    int status = 0;

    for (size_t i = 0; i < 3; i++) {
        if (value[i] < '0' || value[i] > '9')
            return -1;
        status = status * 10 + (value[i] - '0');
    }
    bool ends = value[3] == '\0' || value[3] == ' ';
    return ends && status >= 200 && status <= 599 ? status : -1;
}

static int64_t read_length(const char *value)
{
    int64_t length = 0;

    if (*value == '\0')
        return -1;
    for (; *value != '\0'; value++) {
        if (*value < '0' || *value > '9' || length > (INT64_MAX - 9) / 10)
            return -1;
        length = length * 10 + (*value - '0');
    }
    return length;
}

struct reader {
    struct cgi_head *head;
    bool has_status;
    char *error;
};

static int twice(const struct reader *reader, const char *name)
{
    return wrong(reader->error, "%.40s appears twice", name);
}

/* Take a field that means something to the server. *ret_taken: it was one. */
static int take_own(struct reader *reader, const char *name, const char *value, bool *ret_taken)
{
    struct cgi_head *head = reader->head;

    *ret_taken = true;
    if (strcasecmp(name, "Status") == 0) {
        if (reader->has_status)
            return twice(reader, name);
        reader->has_status = true;
        head->status = read_status(value);
        return head->status > 0 ? 0 : wrong(reader->error, "Status: %.40s: want 200 to 599", value);
    }
    if (strcasecmp(name, "Content-Length") == 0) {
        if (head->length >= 0)
            return twice(reader, name);
        head->length = read_length(value);
        return head->length >= 0 ? 0
                                 : wrong(reader->error,
                                         "Content-Length: %.40s: want a number of "
                                         "bytes",
                                         value);
    }
    if (strcasecmp(name, "Content-Type") == 0) {
        if (head->content_type != NULL)
            return twice(reader, name);
        head->content_type = value;
        return *value != '\0' ? 0 : wrong(reader->error, "Content-Type is empty");
    }
    if (strcasecmp(name, "Transfer-Encoding") == 0)
        return wrong(reader->error, "Transfer-Encoding: the server sets it");
    *ret_taken = is_dropped(name);
    return 0;
}

static int take_field(struct reader *reader, const char *name, const char *value)
{
    struct cgi_head *head = reader->head;
    bool taken;
    int err = take_own(reader, name, value, &taken);

    if (err != 0 || taken)
        return err;
    if (strcasecmp(name, "Location") == 0) {
        if (head->location != NULL)
            return twice(reader, name);
        head->location = value;
        if (*value == '\0')
            return wrong(reader->error, "Location is empty");
    }
    if (head->count == CGI_HEAD_FIELDS)
        return wrong(reader->error, "more than %d fields", CGI_HEAD_FIELDS);
    head->fields[head->count].name = name;
    head->fields[head->count].value = value;
    head->count++;
    return 0;
}

/* ---- all of them ---- */

/* A line without its end; `line` is terminated. */
static int read_line(struct reader *reader, char *line, size_t bytes)
{
    size_t name = 0, begin, end = bytes;

    while (name < bytes && is_token_char(line[name]))
        name++;
    if (name == 0 || name == bytes || line[name] != ':')
        return wrong(reader->error, "not a header field: %.60s", line);
    for (size_t i = name; i < bytes; i++)
        if (!is_value_char(line[i]))
            return wrong(reader->error, "a control character in %.40s", line);
    begin = name + 1;
    while (begin < end && (line[begin] == ' ' || line[begin] == '\t'))
        begin++;
    while (end > begin && (line[end - 1] == ' ' || line[end - 1] == '\t'))
        end--;
    line[name] = line[end] = '\0';
    return take_field(reader, line, line + begin);
}

int cgi_head_parse(char *bytes, size_t count, struct cgi_head *ret_head, char error[CGI_HEAD_ERROR])
{
    struct reader reader = {.head = ret_head, .error = error};
    int err = 0;

    *ret_head = (struct cgi_head){.bytes = count, .length = -1};
    for (char *at = bytes, *end = bytes + count; err == 0 && at < end;) {
        char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (line_end == NULL)
            return wrong(error, "its last line has no end");
        size_t n = (size_t)(line_end - at);
        if (n > 0 && at[n - 1] == '\r')
            n--;
        at[n] = '\0';
        if (n > 0)
            err = read_line(&reader, at, n);
        at = line_end + 1;
    }
    if (err != 0)
        return err;
    /* Section 6.2: each kind of answer has at least one of these. */
    if (!reader.has_status && ret_head->content_type == NULL && ret_head->location == NULL)
        return wrong(error, "none of Content-Type, Location and Status");
    if (!reader.has_status)
        ret_head->status = ret_head->location != NULL ? 302 : 200;
    return 0;
}

#include "cgi_vars.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All variables are in one piece of memory: first it is measured, then written. */

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct writer {
    const struct cgi_settings *settings;
    char **array; /* NULL: measure only */
    char *at;
    size_t left; /* bytes, from `at` on */
    size_t count, bytes;
};

static bool is_configured(const struct cgi_settings *settings, const char *name, size_t bytes)
{
    for (size_t i = 0; i < settings->env_count; i++)
        if (strncmp(settings->env[i], name, bytes) == 0 && settings->env[i][bytes] == '=')
            return true;
    return false;
}

/* `text` is there already, or was just written to writer->at. */
static void push(struct writer *writer, char *text)
{
    if (writer->array != NULL)
        writer->array[writer->count] = text;
    writer->count++;
}

static void advance(struct writer *writer, size_t bytes)
{
    writer->bytes += bytes;
    if (writer->array == NULL)
        return;
    writer->at += bytes;
    writer->left -= bytes;
}

static void put(struct writer *writer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A variable, unless the configuration has its own. */
static void put(struct writer *writer, const char *format, ...)
{
    va_list args;

    if (is_configured(writer->settings, format, strcspn(format, "=")))
        return;
    va_start(args, format);
    int n = vsnprintf(writer->at, writer->left, format, args);
    va_end(args);
    if (n < 0)
        return;
    push(writer, writer->at);
    advance(writer, (size_t)n + 1);
}

/* ---- of the request ---- */

static const char *field_of(const struct exchange *exchange, const char *name)
{
    for (size_t i = 0; i < exchange->field_count; i++)
        if (strcmp(exchange->fields[i].name, name) == 0)
            return exchange->fields[i].value;
    return NULL;
}

/* The request does not say which of our addresses it came to, so name and port are those that the
 * client used. */
static void put_server(struct writer *writer, const struct exchange *exchange)
{
    const char *name = exchange->authority != NULL ? exchange->authority : "";
    const char *port = strrchr(name, ':');
    const char *usual = exchange->is_https ? "443" : "80";

    if (port != NULL && strchr(port, ']') != NULL) /* in an IPv6 address */
        port = NULL;
    int bytes = port != NULL ? (int)(port - name) : (int)strlen(name);
    if (bytes > 0)
        put(writer, "SERVER_NAME=%.*s", bytes, name);
    else
        put(writer, "SERVER_NAME=%s", "localhost");
    put(writer, "SERVER_PORT=%s", port != NULL && port[1] != '\0' ? port + 1 : usual);
    if (exchange->version >= 0x200)
        put(writer, "SERVER_PROTOCOL=HTTP/2.0");
    else
        put(writer, "SERVER_PROTOCOL=HTTP/%u.%u", exchange->version >> 8, exchange->version & 0xff);
    put(writer, "SERVER_SOFTWARE=lastcall/%s", LASTCALL_VERSION);
    if (exchange->is_https)
        put(writer, "HTTPS=on");
}

static void put_request(struct writer *writer, const struct exchange *exchange)
{
    const char *type = field_of(exchange, "content-type");

    put(writer, "GATEWAY_INTERFACE=CGI/1.1");
    put(writer, "REQUEST_METHOD=%s", exchange->method);
    put(writer, "REQUEST_URI=%s", exchange->path);
    put(writer, "QUERY_STRING=%s", exchange->query);
    put(writer, "REMOTE_ADDR=%s", exchange->peer);
    put(writer, "REMOTE_HOST=%s", exchange->peer);
    if (exchange->peer_port != 0)
        put(writer, "REMOTE_PORT=%u", exchange->peer_port);
    if (exchange->body_bytes > 0 || field_of(exchange, "content-length") != NULL)
        put(writer, "CONTENT_LENGTH=%zu", exchange->body_bytes);
    if (type != NULL)
        put(writer, "CONTENT_TYPE=%s", type);
}

static void put_script(struct writer *writer, const struct cgi_script *script)
{
    put(writer, "SCRIPT_NAME=%s", script->name);
    put(writer, "SCRIPT_FILENAME=%s", script->path);
    if (script->info[0] == '\0')
        return;
    put(writer, "PATH_INFO=%s", script->info);
    put(writer, "PATH_TRANSLATED=%s%s", writer->settings->dir, script->info);
}

/* ---- HTTP_* ---- */

/* Section 4.1.18 leaves out what has a variable of its own, and what is for the server alone.
 * HTTP_PROXY is a setting of many HTTP clients: a field of the request must not become one
 * (CVE-2016-5385). A name with an underscore would hide another one with a hyphen. */
static bool is_passed(const struct cgi_settings *settings, const char *name)
{
    static const char *const own[] = {
        "connection",
        "content-length",
        "content-type",
        "expect",
        "keep-alive",
        "proxy",
        "te",
        "trailer",
        "upgrade",
        "proxy-authorization",
        "proxy-connection",
        "transfer-encoding",
    };

    if (name[0] == '\0' || name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0')
        return false;
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (strcmp(name, own[i]) == 0)
            return false;
    return settings->authorization || strcmp(name, "authorization") != 0;
}

static bool came_before(const struct exchange *exchange, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (strcmp(exchange->fields[i].name, exchange->fields[index].name) == 0)
            return true;
    return false;
}

static void append(struct writer *writer, const char *text, size_t bytes)
{
    if (writer->array != NULL)
        memcpy(writer->at, text, bytes);
    advance(writer, bytes);
}

static void append_name(struct writer *writer, const char *name)
{
    for (; *name != '\0'; name++) {
        char c = *name == '-' ? '_' : *name >= 'a' && *name <= 'z' ? (char)(*name - 32) : *name;
        append(writer, &c, 1);
    }
}

/* Fields of one name are one variable, as if the client had sent a list (RFC 9110, section 5.3);
 * Cookie is joined with a semicolon (RFC 9113, section 8.2.3). */
static void put_field(struct writer *writer, const struct exchange *exchange, size_t index)
{
    const char *name = exchange->fields[index].name;
    const char *joint = strcmp(name, "cookie") == 0 ? "; " : ", ";

    push(writer, writer->at);
    append(writer, "HTTP_", 5);
    append_name(writer, name);
    append(writer, "=", 1);
    for (size_t i = index; i < exchange->field_count; i++) {
        if (strcmp(exchange->fields[i].name, name) != 0)
            continue;
        if (i > index)
            append(writer, joint, 2);
        append(writer, exchange->fields[i].value, strlen(exchange->fields[i].value));
    }
    append(writer, "", 1);
}

static void put_fields(struct writer *writer, const struct exchange *exchange)
{
    for (size_t i = 0; i < exchange->field_count; i++)
        if (is_passed(writer->settings, exchange->fields[i].name) && !came_before(exchange, i))
            put_field(writer, exchange, i);
    if (field_of(exchange, "host") == NULL && exchange->authority != NULL &&
        exchange->authority[0] != '\0')
        put(writer, "HTTP_HOST=%s", exchange->authority); /* HTTP/2 */
}

/* ---- all ---- */

static void put_all(struct writer *writer, const struct exchange *exchange,
                    const struct cgi_script *script)
{
    put(writer, DEFAULT_PATH);
    put_server(writer, exchange);
    put_request(writer, exchange);
    put_script(writer, script);
    put_fields(writer, exchange);
    for (size_t i = 0; i < writer->settings->env_count; i++)
        push(writer, (char *)(uintptr_t)writer->settings->env[i]);
}

char **cgi_vars_make(const struct cgi_settings *settings, const struct exchange *exchange,
                     const struct cgi_script *script)
{
    struct writer writer = {.settings = settings};

    put_all(&writer, exchange, script);
    size_t array_bytes = (writer.count + 1) * sizeof(char *);
    char **array = malloc(array_bytes + writer.bytes);
    if (array == NULL)
        return NULL;
    writer = (struct writer){.settings = settings,
                             .array = array,
                             .at = (char *)array + array_bytes,
                             .left = writer.bytes};
    put_all(&writer, exchange, script);
    array[writer.count] = NULL;
    return array;
}

bool cgi_env_is_valid(const char *text)
{
    size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");

    return n > 0 && text[n] == '=' && (text[0] < '0' || text[0] > '9') &&
           strncmp(text, "HTTP_", 5) != 0;
}

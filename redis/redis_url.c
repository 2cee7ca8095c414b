#include "redis_url.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_PORT 6379
#define DB_MOST 65535
#define PASSWORD_SIZE 512

static const char *const no_memory = "there is no memory left";

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The text of `length` bytes, with its %XX decoded. */
static const char *decode(const char *text, size_t length, char **ret_text)
{
    char *decoded = malloc(length + 1);
    size_t n = 0;

    if (decoded == NULL)
        return no_memory;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
            int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
            if (low < 0 || high * 16 + low == 0) {
                free(decoded);
                return "want two hexadecimal digits after each %, and not 00";
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        decoded[n++] = c;
    }
    decoded[n] = '\0';
    free(*ret_text);
    *ret_text = decoded;
    return NULL;
}

static bool parse_number(const char *text, size_t length, unsigned most, unsigned *ret_number)
{
    unsigned number = 0;

    if (length == 0 || length > 6)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
        number = number * 10 + (unsigned)(text[i] - '0');
    }
    if (number > most)
        return false;
    *ret_number = number;
    return true;
}

static const char *parse_db(const char *text, size_t length, struct redis_url *url)
{
    return parse_number(text, length, DB_MOST, &url->db) ? NULL
                                                         : "want the number of a database, as in "
                                                           "redis://host/0";
}

static bool is_named(const char *name, size_t length, const char *want)
{
    return length == strlen(want) && strncmp(name, want, length) == 0;
}

static const char *parse_verify(const char *value, size_t length, struct redis_url *url)
{
    if (!is_named(value, length, "on") && !is_named(value, length, "off"))
        return "want verify=on or verify=off";
    url->trusts_all = length == 3;
    return NULL;
}

/* Where the value of this name goes; NULL: the name is unknown. */
static char **find_text(struct redis_url *url, const char *name, size_t length)
{
    if (is_named(name, length, "stream"))
        return &url->stream;
    if (url->path != NULL && is_named(name, length, "user"))
        return &url->user;
    if (url->path != NULL && is_named(name, length, "password"))
        return &url->password;
    if (url->is_tls && is_named(name, length, "ca-file"))
        return &url->ca_file;
    if (url->is_tls && is_named(name, length, "cert-file"))
        return &url->cert_file;
    if (url->is_tls && is_named(name, length, "key-file"))
        return &url->key_file;
    return NULL;
}

static const char *check_query(const struct redis_url *url)
{
    if (url->key_file != NULL && url->cert_file == NULL)
        return "key-file= needs a cert-file=";
    if (url->trusts_all && url->ca_file != NULL)
        return "ca-file= and verify=off contradict each other";
    return NULL;
}

/* The settings after the `?`. */
static const char *parse_query(const char *query, struct redis_url *url)
{
    const char *wrong = NULL;

    while (wrong == NULL && *query != '\0') {
        size_t length = strcspn(query, "&"), name = strcspn(query, "=&");
        const char *value = query + name + (query[name] == '=');
        size_t value_length = length - (size_t)(value - query);
        char **text = value_length > 0 ? find_text(url, query, name) : NULL;
        if (text != NULL)
            wrong = decode(value, value_length, text);
        else if (is_named(query, name, "db"))
            wrong = parse_db(value, value_length, url);
        else if (url->is_tls && is_named(query, name, "verify"))
            wrong = parse_verify(value, value_length, url);
        else if (url->is_tls)
            return "want db=N, stream=NAME, ca-file=, cert-file=, key-file= or verify=off after "
                   "the ?";
        else
            return url->path != NULL ? "want db=N, user=, password= or stream= after the ?"
                                     : "want db=N or stream=NAME after the ?";
        query += length + (query[length] == '&');
    }
    return wrong != NULL ? wrong : check_query(url);
}

static const char *parse_user(const char *text, size_t length, struct redis_url *url)
{
    const char *colon = memchr(text, ':', length);
    const char *wrong = NULL;

    if (colon == NULL)
        return "want [USER]:PASSWORD before the @";
    if (colon > text)
        wrong = decode(text, (size_t)(colon - text), &url->user);
    return wrong != NULL ? wrong
                         : decode(colon + 1, length - (size_t)(colon + 1 - text), &url->password);
}

static const char *parse_host(const char *text, size_t length, struct redis_url *url)
{
    bool is_v6 = length > 0 && text[0] == '[';
    const char *end = memchr(text, is_v6 ? ']' : ':', length);
    unsigned port = DEFAULT_PORT;

    if (is_v6 && end == NULL)
        return "want ] after an IPv6 address";
    size_t host = end != NULL ? (size_t)(end - text) : length;
    const char *rest = text + host + (is_v6 ? 1 : 0);
    size_t rest_length = length - (size_t)(rest - text);
    if (rest_length > 0 &&
        (rest[0] != ':' || !parse_number(rest + 1, rest_length - 1, 65535, &port) || port == 0))
        return "want a port from 1 to 65535 after the host";
    url->port = (int)port;
    size_t skip = is_v6 ? 1 : 0;
    if (host == skip)
        return "want a host, as in redis://host:6379/0";
    url->host = strndup(text + skip, host - skip);
    return url->host != NULL ? NULL : no_memory;
}

static const char *parse_tcp(const char *text, struct redis_url *url)
{
    size_t authority = strcspn(text, "/?");
    const char *at = memrchr(text, '@', authority), *wrong = NULL;
    const char *host = at != NULL ? at + 1 : text;

    if (at != NULL)
        wrong = parse_user(text, (size_t)(at - text), url);
    if (wrong == NULL)
        wrong = parse_host(host, authority - (size_t)(host - text), url);
    text += authority;
    size_t path = strcspn(text, "?");
    if (wrong == NULL && path > 1)
        wrong = parse_db(text + 1, path - 1, url);
    if (wrong == NULL && text[path] == '?')
        wrong = parse_query(text + path + 1, url);
    return wrong;
}

static const char *parse_unix(const char *text, struct redis_url *url)
{
    size_t path = strcspn(text, "?");
    const char *wrong = text[0] == '/' && text[1] != '/' && path > 1
                            ? decode(text, path, &url->path)
                            : "want unix:/ and the rest of an absolute path";

    return wrong == NULL && text[path] == '?' ? parse_query(text + path + 1, url) : wrong;
}

const char *redis_url_parse(const char *text, struct redis_url *ret_url)
{
    struct redis_url url = {0};
    const char *wrong;

    url.is_tls = strncmp(text, "rediss://", 9) == 0;
    if (url.is_tls || strncmp(text, "redis://", 8) == 0)
        wrong = parse_tcp(text + (url.is_tls ? 9 : 8), &url);
    else if (strncmp(text, "unix:", 5) == 0)
        wrong = parse_unix(text + 5, &url);
    else
        wrong = "want redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], the same with rediss:// for TLS, "
                "or unix:/PATH[?db=N]";
    if (wrong != NULL) {
        redis_url_release(&url);
        return wrong;
    }
    *ret_url = url;
    return NULL;
}

static void forget(char *secret)
{
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

int redis_url_read_password(struct redis_url *url, const char *path)
{
    char text[PASSWORD_SIZE];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    int err = n < 0 ? -errno : 0;
    (void)close(fd);
    if (err != 0)
        return err;
    text[n] = '\0';
    text[strcspn(text, "\r\n")] = '\0';
    bool is_empty = text[0] == '\0';
    char *password = is_empty ? NULL : strdup(text);
    err = is_empty ? -EINVAL : password == NULL ? -ENOMEM : 0;
    explicit_bzero(text, sizeof(text));
    if (err != 0)
        return err;
    forget(url->password);
    url->password = password;
    return 0;
}

int redis_url_read(struct redis_url *ret_url, const char *text, const char *password_file,
                   const char *setting, char *error, size_t error_size)
{
    const char *wanted = redis_url_parse(text, ret_url);
    char tls_error[REDIS_TLS_ERROR_SIZE];

    if (wanted != NULL) { /* the text may hold a password: do not repeat it */
        (void)snprintf(error, error_size, "%s.url: %s", setting, wanted);
        return -EINVAL;
    }
    int err = redis_tls_load(ret_url, tls_error);
    if (err != 0) {
        (void)snprintf(error, error_size, "%s.url: %s", setting, tls_error);
        return err;
    }
    if (password_file != NULL)
        err = redis_url_read_password(ret_url, password_file);
    if (err != 0) {
        (void)snprintf(error, error_size, "%s.password-file %.200s: %s", setting, password_file,
                       err == -EINVAL ? "its first line is empty" : strerrordesc_np(-err));
        return -EINVAL;
    }
    return 0;
}

const char *redis_url_text(const struct redis_url *url, char buf[REDIS_URL_SIZE])
{
    bool is_v6 = url->host != NULL && strchr(url->host, ':') != NULL;

    if (url->path != NULL)
        (void)snprintf(buf, REDIS_URL_SIZE, "unix:%s?db=%u", url->path, url->db);
    else
        (void)snprintf(buf, REDIS_URL_SIZE, "redis%s://%s%s%s:%d/%u", url->is_tls ? "s" : "",
                       is_v6 ? "[" : "", url->host, is_v6 ? "]" : "", url->port, url->db);
    return buf;
}

void redis_url_release(struct redis_url *url)
{
    free(url->host);
    free(url->path);
    free(url->user);
    forget(url->password);
    free(url->stream);
    free(url->ca_file);
    free(url->cert_file);
    free(url->key_file);
    SSL_CTX_free(url->tls);
    memset(url, 0, sizeof(*url));
}

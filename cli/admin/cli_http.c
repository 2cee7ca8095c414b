#include "cli_http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli_sse.h"

#define CONNECT_MS 5000L

size_t cli_body_write(char *bytes, size_t one, size_t size, void *arg)
{
    struct cli_body *body = arg;

    (void)one; /* libcurl: always 1 */
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
    char url[1024], bearer[CLI_TOKEN_MAX + 32];
    CURL *easy = curl_easy_init();

    if (easy == NULL)
        return NULL;
    (void)snprintf(url, sizeof(url), "%s%s", server->url, path);
    (void)curl_easy_setopt(easy, CURLOPT_URL, url);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* ignores http_proxy */
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

int cli_try_socket(const char *path)
{
    struct sockaddr_un there = {.sun_family = AF_UNIX};
    int fd, err = 0;

    if (strlen(path) >= sizeof(there.sun_path))
        return -ENAMETOOLONG;
    (void)strcpy(there.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, (struct sockaddr *)&there, sizeof(there)) != 0)
        err = errno == EAGAIN ? 0
                              : -errno; /* EAGAIN: the accept queue is full, so a server listens */
    (void)close(fd);
    return err;
}

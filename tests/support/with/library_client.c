#include "library_client.h"

#include <curl/curl.h>
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const long versions[] = {CURL_HTTP_VERSION_1_1, CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE};
void *const library_http1 = (void *)&versions[0], *const library_http2 = (void *)&versions[1];

static CURL *curl;
static int at_port;
static size_t room; /* of got.body */
static int (*on_piece)(const char *bytes, size_t size);

struct library_got got;

int library_version(const void *protocol)
{
    return protocol == library_http1 ? 11 : 20;
}

int library_client_begin(int port)
{
    at_port = port;
    curl = curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK ? curl_easy_init() : NULL;
    return curl != NULL ? 0 : -1;
}

void library_client_end(void)
{
    curl_easy_cleanup(curl);
    curl_global_cleanup();
    free(got.body);
    got.body = NULL;
}

void library_on_piece(int (*piece)(const char *bytes, size_t size))
{
    on_piece = piece;
}

static size_t take_header(char *bytes, size_t one, size_t size, void *arg)
{
    size_t used = strlen(got.headers);
    bool in_name = true;

    (void)one, (void)arg;
    if (size >= 5 && memcmp(bytes, "HTTP/", 5) == 0)
        used = 0; /* after 100 Continue */
    for (size_t i = 0; i < size && used < sizeof(got.headers) - 1; i++) {
        in_name &= bytes[i] != ':';
        got.headers[used++] = in_name ? (char)tolower((unsigned char)bytes[i]) : bytes[i];
    }
    got.headers[used] = '\0';
    return size;
}

static size_t take_body(char *bytes, size_t one, size_t size, void *arg)
{
    (void)one, (void)arg;
    while (got.size + size + 1 > room) { /* twice as much: sanitizers copy at each realloc(3) */
        room = room * 2;
        got.body = realloc(got.body, room);
    }
    memcpy(got.body + got.size, bytes, size);
    got.size += size;
    got.body[got.size] = '\0';
    return on_piece == NULL || on_piece(bytes, size) ? size : 0;
}

void library_ask_for(const void *protocol, const char *method, const char *path,
                     const char *const *fields, const void *body, size_t size)
{
    char url[1024];
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", at_port, path);
    for (; fields != NULL && *fields != NULL; fields++)
        list = curl_slist_append(list, *fields);
    got.status = 0;
    got.size = 0;
    got.headers[0] = '\0';
    room = 4096;
    got.body = realloc(got.body, room);
    got.body[0] = '\0';
    curl_easy_reset(curl);
    /* libcurl 7.88 sends HTTP/2's preface again on a connection that it kept. */
    (void)curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, protocol == library_http2 ? 1L : 0L);
    (void)curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, protocol == library_http2 ? 1L : 0L);
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, *(const long *)protocol);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, list);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT, 300L); /* a machine may be busy */
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    if (strcmp(method, "HEAD") == 0)
        (void)curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    if (body != NULL) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    }
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
    CURLcode result = curl_easy_perform(curl);
    got.is_broken = result != CURLE_OK;
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &got.status);
    curl_slist_free_all(list);
    on_piece = NULL;
}

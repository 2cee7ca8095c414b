#include "with_cgi.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

#define PATIENCE_MS 60000

int with_cgi_set_up(void **state)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
    if (with_config_set_up(state) != 0)
        return -1;
    /* A server that root starts may become another user. */
    return mkdir(in_directory("cgi"), 0755) != 0 || chmod(directory, 0777) != 0 ? -1 : 0;
}

/* ---- scripts ---- */

void write_program(const char *name, const char *text)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "cgi/%s", name);
    (void)unlink(in_directory(path));
    assert_int_equal(chmod(write_file(path, text), 0755), 0);
}

void write_script(const char *name, const char *text)
{
    char *whole = NULL;

    assert_true(asprintf(&whole, "#!/bin/sh\n%s\n", text) > 0);
    write_program(name, whole);
    free(whole);
}

/* ---- the client ---- */

struct bytes {
    char *at;
    size_t count, room;
};

static size_t gather(char *data, size_t size, size_t n, void *arg)
{
    struct bytes *bytes = arg;

    if (bytes->count + size * n + 1 > bytes->room) {
        bytes->room = 2 * (bytes->count + size * n + 1);
        bytes->at = realloc(bytes->at, bytes->room);
    }
    memcpy(bytes->at + bytes->count, data, size * n);
    bytes->count += size * n;
    bytes->at[bytes->count] = '\0';
    return size * n;
}

void request(const struct process *p, enum http http, const char *path, const char *body,
             size_t count, struct answer_of *ret_answer)
{
    struct bytes bytes = {.at = calloc(1, 64), .room = 64},
                 head = {.at = calloc(1, 64), .room = 64};
    struct curl_slist *fields = curl_slist_append(NULL, "Expect:");
    CURL *curl = curl_easy_init();
    char url[512];

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", p->port, path);
    fields = curl_slist_append(fields, "Proxy: http://evil.example/");
    fields = curl_slist_append(fields, "Authorization: Basic c2VjcmV0");
    fields = curl_slist_append(fields, "Content-Type: application/x-test");
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)2 * PATIENCE_MS);
    (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
    (void)curl_easy_setopt(
        curl, CURLOPT_HTTP_VERSION,
        (long)(http == HTTP_2 ? CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE : CURL_HTTP_VERSION_1_1));
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, gather);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, &bytes);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, gather);
    (void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, &head);
    if (body != NULL) {
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
        (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)count);
    }
    *ret_answer = (struct answer_of){.is_whole = curl_easy_perform(curl) == CURLE_OK};
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &ret_answer->status);
    ret_answer->body = bytes.at;
    ret_answer->bytes = bytes.count;
    ret_answer->head = head.at;
    curl_slist_free_all(fields);
    curl_easy_cleanup(curl);
}

void answer_of_release(struct answer_of *answer)
{
    free(answer->body);
    free(answer->head);
}

void assert_get(const struct process *p, const char *path, long status, const char *want)
{
    struct answer_of answer;

    request(p, HTTP_1, path, NULL, 0, &answer);
    if (answer.status != status)
        fail_msg("%s: %ld, not %ld: %s", path, answer.status, status, answer.body);
    assert_true(answer.is_whole);
    assert_contains(answer.body, want);
    answer_of_release(&answer);
}

/* ---- FIFOs ---- */

int make_fifo(const char *name)
{
    (void)unlink(in_directory(name));
    assert_int_equal(mkfifo(in_directory(name), 0666), 0);
    assert_int_equal(chmod(in_directory(name), 0666), 0);
    int fd = open(in_directory(name), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

void wait_fifo_begin(int fd)
{
    struct pollfd begin = {.fd = fd, .events = POLLIN};
    char byte;

    assert_int_equal(poll(&begin, 1, PATIENCE_MS), 1);
    assert_int_equal(read(fd, &byte, 1), 1);
}

void wait_fifo_end(int fd)
{
    struct pollfd end = {.fd = fd};

    assert_int_equal(poll(&end, 1, PATIENCE_MS), 1);
    assert_true((end.revents & POLLHUP) != 0);
    (void)close(fd);
}

/* open(2) waits until the script has opened it. */
void open_fifo(const char *name)
{
    int fd = open(in_directory(name), O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    (void)close(fd);
}

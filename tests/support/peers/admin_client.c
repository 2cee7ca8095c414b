#include "admin_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

#define PATIENCE_MS 60000

struct process admin_of(struct process *process)
{
    struct process admin = {.pid = process->pid};

    process_wait_log(process, "admin on ");
    const char *at = strstr(process->log, "admin on ") + strlen("admin on ");
    size_t length = strcspn(at, "\n");
    assert_true(length < sizeof(admin.address));
    memcpy(admin.address, at, length);
    const char *colon = strrchr(admin.address, ':');
    if (strncmp(admin.address, "unix:", 5) != 0 && colon != NULL)
        admin.port = (uint16_t)strtoul(colon + 1, NULL, 10);
    return admin;
}

const char *admin_path(const struct process *admin)
{
    assert_int_equal(strncmp(admin->address, "unix:", 5), 0);
    return admin->address + 5;
}

char *admin_call(const struct process *admin, const char *method, const char *path,
                 const char *more, const char *body)
{
    char *request = NULL, length[64] = "";

    if (body != NULL)
        (void)snprintf(length, sizeof(length), "Content-Length: %zu\r\n", strlen(body));
    int n = asprintf(&request, "%s %s HTTP/1.1\r\n%sConnection: close\r\n%s%s\r\n%s", method, path,
                     strcasestr(more, "host:") == NULL ? "Host: localhost\r\n" : "", length, more,
                     body != NULL ? body : "");
    assert_true(n > 0);
    int fd = client_connect(admin);
    client_send(fd, request);
    free(request);
    char *answer = client_read_until(fd, NULL);
    (void)close(fd);
    return answer;
}

void admin_expect(const struct process *admin, const char *method, const char *path,
                  const char *more, const char *body, int status, const char *want)
{
    char *answer = admin_call(admin, method, path, more, body), line[16];

    (void)snprintf(line, sizeof(line), "HTTP/1.1 %d ", status);
    if (strncmp(answer, line, strlen(line)) != 0 || strstr(answer, want) == NULL)
        fail_msg("%s %s: not %d with `%s`:\n%s", method, path, status, want, answer);
    if (status >= 400 && status != 503) { /* every refusal is whole JSON */
        const char *json = strstr(answer, "\r\n\r\n") + 4;
        json_t *error = json_loads(json, 0, NULL);
        assert_non_null(admin_text(error, "error.code"));
        assert_non_null(admin_text(error, "error.message"));
        assert_contains(answer, "content-type: application/json");
        json_decref(error);
    }
    free(answer);
}

void admin_order(const struct process *admin, const char *path, const char *body, int status,
                 const char *want)
{
    admin_expect(admin, "POST", path, "Content-Type: application/json\r\n", body, status, want);
}

json_t *admin_status(const struct process *admin)
{
    char *answer = admin_call(admin, "GET", "/status", "", NULL);
    assert_contains(answer, "HTTP/1.1 200 ");
    json_t *status = json_loads(strstr(answer, "\r\n\r\n") + 4, 0, NULL);
    if (status == NULL)
        fail_msg("no JSON: %s", answer);
    free(answer);
    return status;
}

json_t *admin_at(const json_t *status, const char *path)
{
    json_t *at = (json_t *)(uintptr_t)status;
    char key[64];

    while (at != NULL && *path != '\0') {
        size_t n = strcspn(path, ".");
        (void)snprintf(key, sizeof(key), "%.*s", (int)n, path);
        at = json_is_array(at) ? json_array_get(at, strtoul(key, NULL, 10))
                               : json_object_get(at, key);
        path += n + (path[n] == '.');
    }
    return at;
}

double admin_number(const json_t *status, const char *path)
{
    const json_t *number = admin_at(status, path);
    if (!json_is_number(number))
        fail_msg("%s is no number", path);
    return json_number_value(number);
}

const char *admin_text(const json_t *status, const char *path)
{
    const char *text = json_string_value(admin_at(status, path));
    if (text == NULL)
        fail_msg("%s is no text", path);
    return text;
}

double admin_metric(const struct process *admin, const char *name)
{
    char *answer = admin_call(admin, "GET", "/metrics", "", NULL), line[128];

    (void)snprintf(line, sizeof(line), "\n%s ", name);
    const char *at = strstr(answer, line);
    if (at == NULL)
        fail_msg("no %s in:\n%s", name, answer);
    double value = strtod(at + strlen(line), NULL);
    free(answer);
    return value;
}

static void rest(void)
{
    /* The interface reports no change by itself, so the caller polls it. */
    const struct timespec moment = {.tv_nsec = 5 * 1000 * 1000};
    (void)nanosleep(&moment, NULL);
}

void admin_wait_text(const struct process *admin, const char *path, const char *want)
{
    uint64_t until_ns = now_ns() + PATIENCE_MS * NS_PER_MS;

    for (;;) {
        json_t *status = admin_status(admin);
        const char *text = json_string_value(admin_at(status, path));
        bool is = text != NULL && strcmp(text, want) == 0;
        json_decref(status);
        if (is)
            return;
        if (now_ns() > until_ns)
            fail_msg("%s is not %s", path, want);
        rest();
    }
}

void admin_wait_number(const struct process *admin, const char *path, double least)
{
    uint64_t until_ns = now_ns() + PATIENCE_MS * NS_PER_MS;

    for (;;) {
        json_t *status = admin_status(admin);
        double number = admin_number(status, path);
        json_decref(status);
        if (number >= least)
            return;
        if (now_ns() > until_ns)
            fail_msg("%s is %g, not %g", path, number, least);
        rest();
    }
}

void admin_wait_in_flight(struct process *process, unsigned least)
{
    const struct process admin = admin_of(process);

    admin_wait_number(&admin, "requests.in_flight", least);
}

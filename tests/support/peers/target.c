#include "target.h"

#include "loopback.h"
#include "process.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define LIMIT_S 30
#define HEAD_MOST 65536

struct connection {
    struct target *target;
    int fd;
};

/* ---- one request ---- */

static const char *header(const char *head, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = strstr(head, "\r\n"); at != NULL; at = strstr(at + 2, "\r\n"))
        if (strncasecmp(at + 2, name, n) == 0 && at[2 + n] == ':')
            return at + 2 + n + 1 + strspn(at + 2 + n + 1, " ");
    return NULL;
}

/* Byte by byte: the bytes after the head belong to the body. */
static char *read_head(int fd)
{
    char *head = malloc(HEAD_MOST);
    size_t n = 0;

    while (head != NULL && n < HEAD_MOST - 1 && client_recv(fd, head + n, 1, 0) == 1) {
        head[++n] = '\0';
        if (n >= 4 && memcmp(head + n - 4, "\r\n\r\n", 4) == 0)
            return head;
    }
    free(head);
    return NULL;
}

static struct target_request *read_request(int fd)
{
    struct target_request *request = calloc(1, sizeof(*request));
    const char *value;

    if (request == NULL || (request->head = read_head(fd)) == NULL) {
        free(request);
        return NULL;
    }
    value = header(request->head, "Content-Length");
    request->body_bytes = value != NULL ? strtoul(value, NULL, 10) : 0;
    request->body = malloc(request->body_bytes + 1);
    for (size_t n = 0; n < request->body_bytes;) {
        ssize_t got = client_recv(fd, request->body + n, request->body_bytes - n, 0);
        if (got <= 0) { /* a truncated body does not count as a request */
            free(request->head);
            free(request->body);
            free(request);
            return NULL;
        }
        n += (size_t)got;
    }
    value = header(request->head, "Idempotency-Key");
    if (value != NULL)
        (void)snprintf(request->key, sizeof(request->key), "%.*s", (int)strcspn(value, "\r"),
                       value);
    value = header(request->head, "Lastcall-Replay");
    request->attempt = value != NULL ? (unsigned)strtoul(value, NULL, 10) : 0;
    return request;
}

/* 0: close the connection without an answer. */
static int status_for(const struct target_request *request, size_t seen)
{
    const char *path = strchr(request->head, ' ') + 1;

    if (strncmp(path, "/status/", 8) == 0)
        return atoi(path + 8);
    if (strncmp(path, "/flaky/", 7) == 0)
        return seen <= (size_t)atoi(path + 7) ? 503 : 200;
    if (strncmp(path, "/drop/", 6) == 0)
        return seen <= (size_t)atoi(path + 6) ? 0 : 200;
    return 200;
}

static bool is_held_locked(const struct target *target, size_t number)
{
    return target->held || (target->held_from != 0 && number >= target->held_from);
}

/* Returns how many with its key there are by now. */
static size_t keep(struct target *target, struct target_request *request)
{
    size_t seen = 0;

    (void)pthread_mutex_lock(&target->mu);
    request->next = target->requests;
    target->requests = request;
    size_t number = ++target->count;
    for (const struct target_request *at = request; at != NULL; at = at->next)
        seen += strcmp(at->key, request->key) == 0;
    (void)pthread_cond_broadcast(&target->changed);
    while (is_held_locked(target, number) && !target->over)
        (void)pthread_cond_wait(&target->changed, &target->mu);
    (void)pthread_mutex_unlock(&target->mu);
    return seen;
}

static void *serve_connection(void *arg)
{
    struct connection *connection = arg;
    struct target *target = connection->target;
    struct target_request *request;
    char answer[160];
    int fd = connection->fd, status = 200;

    free(connection);
    while (status != 0 && (request = read_request(fd)) != NULL) {
        bool head_only = strncmp(request->head, "HEAD ", 5) == 0;
        status = status_for(request, keep(target, request));
        int n = snprintf(answer, sizeof(answer), "HTTP/1.1 %d So\r\nContent-Length: 12\r\n\r\n%s",
                         status, head_only ? "" : "the answer.\n");
        if (status != 0 && send(fd, answer, (size_t)n, MSG_NOSIGNAL) != n)
            break;
    }
    (void)close(fd);
    (void)pthread_mutex_lock(&target->mu);
    target->threads--;
    (void)pthread_cond_broadcast(&target->changed);
    (void)pthread_mutex_unlock(&target->mu);
    return NULL;
}

static void *accept_thread(void *arg)
{
    struct target *target = arg;
    int fd;

    while ((fd = accept4(target->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0 || errno == EINTR) {
        struct connection *connection = malloc(sizeof(*connection));
        const struct timeval patience = {.tv_sec = LIMIT_S};
        pthread_t thread;
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        connection->target = target;
        connection->fd = fd;
        (void)pthread_mutex_lock(&target->mu);
        target->threads++;
        (void)pthread_mutex_unlock(&target->mu);
        if (pthread_create(&thread, NULL, serve_connection, connection) != 0)
            abort();
        (void)pthread_detach(thread);
    }
    return NULL;
}

/* ---- for the test ---- */

void target_start_again(struct target *target)
{
    struct sockaddr_in here = {.sin_family = AF_INET};
    int one = 1;

    if (target->port == 0)
        target->port = free_port();
    target->over = target->held = false;
    target->held_from = 0;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    here.sin_port = htons((uint16_t)target->port);
    target->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(target->listener >= 0);
    (void)setsockopt(target->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    assert_int_equal(bind(target->listener, (struct sockaddr *)&here, sizeof(here)), 0);
    assert_int_equal(listen(target->listener, 256), 0);
    (void)snprintf(target->url, sizeof(target->url), "http://127.0.0.1:%d", target->port);
    assert_int_equal(pthread_create(&target->thread, NULL, accept_thread, target), 0);
}

void target_start(struct target *target)
{
    memset(target, 0, sizeof(*target));
    (void)pthread_mutex_init(&target->mu, NULL);
    (void)pthread_cond_init(&target->changed, NULL);
    target_start_again(target);
}

void target_close(struct target *target)
{
    (void)shutdown(target->listener, SHUT_RDWR);
    (void)pthread_join(target->thread, NULL);
    (void)close(target->listener);
    (void)pthread_mutex_lock(&target->mu);
    target->over = true;
    (void)pthread_cond_broadcast(&target->changed);
    while (target->threads > 0) /* each ends with its client, or at its time-out */
        (void)pthread_cond_wait(&target->changed, &target->mu);
    (void)pthread_mutex_unlock(&target->mu);
}

void target_release(struct target *target)
{
    if (!target->over)
        target_close(target);
    while (target->requests != NULL) {
        struct target_request *request = target->requests;
        target->requests = request->next;
        free(request->head);
        free(request->body);
        free(request);
    }
    (void)pthread_cond_destroy(&target->changed);
    (void)pthread_mutex_destroy(&target->mu);
}

void target_hold(struct target *target, bool held)
{
    (void)pthread_mutex_lock(&target->mu);
    target->held = held;
    (void)pthread_cond_broadcast(&target->changed);
    (void)pthread_mutex_unlock(&target->mu);
}

void target_hold_from(struct target *target, size_t count)
{
    (void)pthread_mutex_lock(&target->mu);
    target->held_from = count;
    (void)pthread_cond_broadcast(&target->changed);
    (void)pthread_mutex_unlock(&target->mu);
}

void target_wait(struct target *target, size_t count)
{
    struct timespec until;
    int err = 0;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LIMIT_S;
    (void)pthread_mutex_lock(&target->mu);
    while (target->count < count && err == 0)
        err = pthread_cond_timedwait(&target->changed, &target->mu, &until);
    size_t got = target->count;
    (void)pthread_mutex_unlock(&target->mu);
    if (got < count)
        fail_msg("the target got %zu requests instead of %zu", got, count);
}

size_t target_count(struct target *target)
{
    (void)pthread_mutex_lock(&target->mu);
    size_t count = target->count;
    (void)pthread_mutex_unlock(&target->mu);
    return count;
}

size_t target_count_key(struct target *target, const char *key)
{
    size_t count = 0;

    (void)pthread_mutex_lock(&target->mu);
    for (const struct target_request *at = target->requests; at != NULL; at = at->next)
        count += strcmp(at->key, key) == 0;
    (void)pthread_mutex_unlock(&target->mu);
    return count;
}

const struct target_request *target_find(struct target *target, const char *key)
{
    const struct target_request *found;

    (void)pthread_mutex_lock(&target->mu);
    for (found = target->requests; found != NULL && strcmp(found->key, key) != 0;
         found = found->next)
        ;
    (void)pthread_mutex_unlock(&target->mu);
    return found;
}

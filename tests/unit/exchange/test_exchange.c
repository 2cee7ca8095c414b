/* What a handler of a program sees of its request, how its answer leaves, and how it learns that
 * the request is cancelled. */

#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "expect.h"
#include "with_server.h"

static sem_t entered, gate, told;
static _Atomic int result;
static _Atomic unsigned calls;

static int setup(void **state)
{
    (void)state;
    sem_init(&entered, 0, 0);
    sem_init(&gate, 0, 0);
    sem_init(&told, 0, 0);
    result = 0;
    calls = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)serve_end_left(state);
    sem_destroy(&entered);
    sem_destroy(&gate);
    sem_destroy(&told);
    return 0;
}

static const char *field(const struct exchange *exchange, const char *name)
{
    for (size_t i = 0; i < exchange->field_count; i++)
        if (strcmp(exchange->fields[i].name, name) == 0)
            return exchange->fields[i].value;
    return "(none)";
}

static void add_field(struct exchange *exchange, const char *name, const char *value)
{
    struct exchange_answer_field **at = &exchange->answer_fields;
    struct exchange_answer_field *added = exchange->ops->alloc(exchange, sizeof(*added));

    assert_non_null(added);
    while (*at != NULL)
        at = &(*at)->next;
    *added = (struct exchange_answer_field){.name = name, .value = value};
    *at = added;
}

/* ---- the request ---- */

static void echo(struct exchange *exchange, void *user)
{
    exchange_print(
        exchange, "%s %s [%s] from %s port %s, %x %s, host %s, X-A %s, length %s: %.*s\n",
        exchange->method, exchange->path, exchange->query, exchange->peer,
        exchange->peer_port > 0 ? "known" : "none", exchange->version,
        exchange->is_https ? "https" : "http", field(exchange, "host"), field(exchange, "x-a"),
        field(exchange, "content-length"), (int)exchange->body_bytes, exchange->body);
    assert_string_equal(user, "the user's");
}

static const struct served echoes[] = {{"/a/", {.handler = echo, .user = "the user's"}},
                                       {"POST /a/b", {.handler = echo, .user = "the user's"}},
                                       {.pattern = NULL}};

static void test_a_handler_gets_the_request(void **state)
{
    (void)state;
    serve(echoes, NULL);
    assert_answer(
        &served_at,
        "POST /a/b?c=d HTTP/1.1\r\nHost: here\r\nX-A: A value\r\nContent-Length: 4\r\n\r\nbody",
        "POST /a/b?c=d [c=d] from 127.0.0.1 port known, 101 http, host here, X-A A value, "
        "length 4: body\n");
    assert_answer(&served_at, "GET /a/x HTTP/1.0\r\n\r\n", "100 http");
}

static void test_what_no_route_takes_is_404(void **state)
{
    (void)state;
    serve(echoes, NULL);
    assert_answer(&served_at, GET("/hello"), "HTTP/1.1 404 ");
    assert_answer(&served_at, GET("/"), "HTTP/1.1 404 ");
}

static void test_another_method_is_405_with_allow(void **state)
{
    static const struct served posts[] = {{"POST /p", {.handler = echo}}, {.pattern = NULL}};

    (void)state;
    serve(posts, NULL);
    char *answer = client_ask(&served_at, GET("/p"));
    assert_contains(answer, "HTTP/1.1 405 Method Not Allowed\r\n");
    assert_contains(answer, "allow: POST\r\n");
    free(answer);
}

static void test_a_configured_path_comes_first(void **state)
{
    static const char *const flags[] = {"--root", "/", NULL};
    static const struct served files[] = {{"/files/", {.handler = echo, .user = "the user's"}},
                                          {.pattern = NULL}};

    (void)state;
    serve(files, flags);
    assert_answer(&served_at, GET("/files/etc/hostname"), "HTTP/1.1 200 OK\r\n");
    assert_answer(&served_at, GET("/files/no/such/file"), "GET /files/no/such/file []");
}

/* ---- the answer ---- */

static void answer_with_fields(struct exchange *exchange, void *user)
{
    (void)user;
    exchange->status = 418;
    exchange->content_type = "text/x-pot";
    add_field(exchange, "X-First", "1");
    add_field(exchange, "ETag", "\"e\"");
    add_field(exchange, "X-First", "2");
    add_field(exchange, "Content-Length", "7000");
    add_field(exchange, "X-Bad", "a\r\nX-Smuggled: b");
    add_field(exchange, "X Bad", "c");
    exchange_print(exchange, "short and stout");
}

static void test_an_answer_has_its_status_and_fields(void **state)
{
    static const struct served pots[] = {{"/pot", {.handler = answer_with_fields}},
                                         {.pattern = NULL}};

    (void)state;
    serve(pots, NULL);
    char *answer = client_ask(&served_at, GET("/pot"));
    assert_contains(answer, "HTTP/1.1 418 Client Error\r\n");
    assert_contains(answer, "Content-Length: 15\r\n");
    assert_contains(answer, "content-type: text/x-pot\r\n");
    assert_contains(answer, "X-First: 1\r\nETag: \"e\"\r\nX-First: 2\r\n\r\nshort and stout");
    assert_lacks(answer, "7000");
    assert_lacks(answer, "Bad");
    assert_lacks(answer, "Smuggled");
    free(answer);
}

static void answer_nothing(struct exchange *exchange, void *user)
{
    (void)user;
    exchange->status = atoi(exchange->query);
    exchange_print(exchange, "four");
}

static void test_an_answer_without_a_body_has_none(void **state)
{
    static const struct served nothings[] = {{"/n", {.handler = answer_nothing}},
                                             {.pattern = NULL}};

    (void)state;
    serve(nothings, NULL);
    int fd = client_connect(&served_at);
    client_send(fd, GET("/n?204")
                        GET("/n?304") "HEAD /n?200 HTTP/1.1\r\nHost: t\r\n\r\n" GET("/n?200"));
    char *all = client_read_until(fd, "four");
    assert_contains(all, "HTTP/1.1 204 No Content\r\n");
    assert_contains(all, "HTTP/1.1 304 Not Modified\r\n");
    assert_int_equal(count_in(all, "Content-Length: 4\r\n"), 2);
    assert_int_equal(count_in(all, "four"), 1);
    assert_int_equal(count_in(all, "HTTP/1.1 200 OK\r\n"), 2);
    free(all);
    (void)close(fd);
}

static void count_call(void *owner)
{
    (void)owner;
    calls++;
}

static void answer_owned(struct exchange *exchange, void *user)
{
    (void)user;
    exchange->text = (char *)(uintptr_t) "static";
    exchange->text_bytes = 6;
    exchange->free_text = count_call;
}

static void test_an_owned_body_is_freed_once(void **state)
{
    static const struct served owners[] = {{"/o", {.handler = answer_owned}}, {.pattern = NULL}};

    (void)state;
    serve(owners, NULL);
    assert_answer(&served_at, GET("/o"), "\r\n\r\nstatic");
    assert_int_equal(serve_end(), 0);
    assert_int_equal(calls, 1);
}

static void allocate(struct exchange *exchange, void *user)
{
    unsigned bytes = 0;
    char *first = exchange->ops->alloc(exchange, 100000), *more;

    (void)user;
    memset(first, 1, 100000);
    while ((more = exchange->ops->alloc(exchange, 1000)) != NULL) {
        memset(more, 2, 1000);
        bytes += 1000;
    }
    exchange_print(exchange, "%s %s",
                   bytes < EXCHANGE_ALLOC_MOST && bytes > EXCHANGE_ALLOC_MOST / 2 ? "bounded" : "?",
                   first[0] == 1 && first[99999] == 1 ? "kept" : "?");
}

static void test_memory_is_bounded(void **state)
{
    static const struct served allocators[] = {{"/m", {.handler = allocate}}, {.pattern = NULL}};

    (void)state;
    serve(allocators, NULL);
    assert_answer(&served_at, GET("/m"), "bounded kept");
}

/* ---- limits ---- */

static void wait_for_end(struct exchange *exchange, void *user)
{
    (void)user;
    sem_post(&entered);
    result = exchange->ops->wait(exchange, -1, true);
    exchange_print(exchange, "woken\n");
    sem_post(&told);
}

static void test_a_body_over_the_routes_limit_is_413(void **state)
{
    static const struct served small[] = {
        {"/s", {.handler = echo, .user = "the user's", .max_body = 3}}, {.pattern = NULL}};

    (void)state;
    serve(small, NULL);
    assert_answer(&served_at, "POST /s HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\nbody",
                  "HTTP/1.1 413 ");
    assert_answer(&served_at, "POST /s HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nbod",
                  ": bod\n");
}

static void test_a_request_that_takes_too_long_is_503(void **state)
{
    static const struct served slow[] = {{"/w", {.handler = wait_for_end, .timeout_ms = 50}},
                                         {"/a", {.handler = echo, .user = "the user's"}},
                                         {.pattern = NULL}};

    (void)state;
    serve(slow, NULL);
    int fd = client_connect(&served_at);
    client_send(fd, GET("/w"));
    client_expect(fd, "HTTP/1.1 503 ");
    await(&told);
    assert_int_equal(result, EXCHANGE_TIMEOUT);
    client_send(fd, GET("/a")); /* the connection is as good as before */
    client_expect(fd, "GET /a");
    (void)close(fd);
    assert_int_equal(serve_end(), 0);
}

static void test_a_handler_on_the_loop_answers(void **state)
{
    static const struct served here[] = {
        {"/a", {.handler = echo, .user = "the user's", .on_loop = true}}, {.pattern = NULL}};

    (void)state;
    serve(here, NULL);
    for (unsigned i = 0; i < 3; i++)
        assert_answer(&served_at, GET("/a"), "GET /a");
}

/* ---- cancellation ---- */

static const struct served waits[] = {{"/w", {.handler = wait_for_end}}, {.pattern = NULL}};

static void test_a_client_that_leaves_wakes_the_handler(void **state)
{
    (void)state;
    serve(waits, NULL);
    int fd = client_connect(&served_at);
    client_send(fd, GET("/w"));
    await(&entered);
    (void)close(fd);
    await(&told);
    assert_int_equal(result, EXCHANGE_GONE);
    assert_int_equal(serve_end(), 0);
}

static void test_a_drain_wakes_those_that_wait_for_it(void **state)
{
    (void)state;
    serve(waits, NULL);
    int fd = client_connect(&served_at);
    client_send(fd, GET("/w"));
    await(&entered);
    serve_drain(-1);
    client_expect(fd, "woken\n");
    assert_int_equal(result, EXCHANGE_DRAINING);
    (void)close(fd);
    assert_int_equal(serve_end(), 0);
}

static void wait_and_see_time(struct exchange *exchange, void *user)
{
    (void)user;
    assert_int_equal(exchange->ops->time_left(exchange), -1);
    sem_post(&entered);
    result = exchange->ops->wait(exchange, -1, true);
    assert_int_equal(result, EXCHANGE_DRAINING);
    int64_t left = exchange->ops->time_left(exchange);
    result = exchange->ops->wait(exchange, -1, false);
    calls = left <= 100 ? 1 : 2;
    sem_post(&told);
}

static void test_the_deadline_aborts(void **state)
{
    static const struct served seers[] = {{"/w", {.handler = wait_and_see_time}},
                                          {.pattern = NULL}};

    (void)state;
    serve(seers, NULL);
    int fd = client_connect(&served_at);
    client_send(fd, GET("/w"));
    await(&entered);
    serve_drain(100);
    await(&told);
    assert_int_equal(result, EXCHANGE_ABORTED);
    assert_int_equal(serve_end(), 3);
    (void)close(fd);
}

static void poll_for_cancel(struct exchange *exchange, void *user)
{
    int fd = exchange->ops->cancel_fd(exchange);
    struct pollfd cancelled = {.fd = fd, .events = POLLIN};

    (void)user;
    assert_int_equal(exchange->ops->cancel_fd(exchange), fd);
    sem_post(&entered);
    if (poll(&cancelled, 1, -1) == 1)
        result = exchange->ops->cancelled(exchange);
    sem_post(&told);
}

static void test_a_descriptor_is_readable_once_it_is_cancelled(void **state)
{
    static const struct served pollers[] = {{"/p", {.handler = poll_for_cancel}},
                                            {.pattern = NULL}};

    (void)state;
    serve(pollers, NULL);
    int fd = client_connect(&served_at);
    client_send(fd, GET("/p"));
    await(&entered);
    (void)close(fd);
    await(&told);
    assert_int_equal(result, EXCHANGE_GONE);
}

static void on_cancel(void *arg)
{
    assert_ptr_equal(arg, &calls);
    sem_post(&told);
    sem_wait(&gate); /* may block */
    calls++;
}

static void set_hook(struct exchange *exchange, void *user)
{
    (void)user;
    assert_int_equal(exchange->ops->on_cancel(exchange, on_cancel, &calls), 0);
    sem_post(&entered);
    (void)exchange->ops->wait(exchange, -1, false);
    sem_wait(&told); /* it runs: to take it back before that would be right as well */
    sem_post(&entered);
    assert_int_equal(exchange->ops->on_cancel(exchange, NULL, NULL), 0);
    result = (int)calls;
    sem_post(&entered);
}

static void test_a_function_is_called_and_waited_for(void **state)
{
    static const struct served hooks[] = {{"/h", {.handler = set_hook}}, {.pattern = NULL}};

    (void)state;
    serve(hooks, NULL);
    int fd = client_connect(&served_at);
    client_send(fd, GET("/h"));
    await(&entered);
    (void)close(fd);
    await(&entered);
    sem_post(&gate);
    await(&entered);
    assert_int_equal(result, 1); /* it had returned when it was taken back */
    assert_int_equal(serve_end(), 0);
    assert_int_equal(calls, 1);
}

static void set_hook_late(struct exchange *exchange, void *user)
{
    (void)user;
    sem_post(&entered);
    (void)exchange->ops->wait(exchange, -1, false);
    sem_post(&gate);
    assert_int_equal(exchange->ops->on_cancel(exchange, on_cancel, &calls), 0);
    result = (int)calls;
    sem_post(&entered);
}

static void test_a_function_that_is_set_late_is_called_at_once(void **state)
{
    static const struct served hooks[] = {{"/h", {.handler = set_hook_late}}, {.pattern = NULL}};

    (void)state;
    serve(hooks, NULL);
    int fd = client_connect(&served_at);
    client_send(fd, GET("/h"));
    await(&entered);
    (void)close(fd);
    await(&entered);
    assert_int_equal(result, 1);
}

#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(test_a_handler_gets_the_request),
        CLAIM(test_what_no_route_takes_is_404),
        CLAIM(test_another_method_is_405_with_allow),
        CLAIM(test_a_configured_path_comes_first),
        CLAIM(test_an_answer_has_its_status_and_fields),
        CLAIM(test_an_answer_without_a_body_has_none),
        CLAIM(test_an_owned_body_is_freed_once),
        CLAIM(test_memory_is_bounded),
        CLAIM(test_a_body_over_the_routes_limit_is_413),
        CLAIM(test_a_request_that_takes_too_long_is_503),
        CLAIM(test_a_handler_on_the_loop_answers),
        CLAIM(test_a_client_that_leaves_wakes_the_handler),
        CLAIM(test_a_drain_wakes_those_that_wait_for_it),
        CLAIM(test_the_deadline_aborts),
        CLAIM(test_a_descriptor_is_readable_once_it_is_cancelled),
        CLAIM(test_a_function_is_called_and_waited_for),
        CLAIM(test_a_function_that_is_set_late_is_called_at_once),
    };
    return cmocka_run_group_tests_name("exchange", tests, NULL, NULL);
}

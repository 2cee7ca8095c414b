/* What a program registers: routes, middleware, names, what each worker has. */

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lc_p.h"
#include "library_double.h"
#include "log_seen.h"
#include "user_route.h"

static lc_server *server;
static struct lc_answer answer;

static int set_up(void **state)
{
    (void)state;
    server = lc_new();
    log_seen_reset();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lc_answer_free(&answer);
    return server != NULL ? lc_free(server) : 0;
}

static void get(const char *request)
{
    lc_answer_free(&answer);
    answer.size = sizeof(answer);
    assert_int_equal(lc_call(server, request, NULL, "1234", 4, &answer), 0);
}

static void say(lc_req *r, void *user)
{
    assert_int_equal(lc_send(r, 200, NULL, user), 0);
}

/* ---- routes ---- */

static void test_requests_find_their_route(void **state)
{
    (void)state;
    assert_int_equal(lc_handle(server, "GET /a", say, "a"), 0);
    assert_int_equal(lc_handle(server, "POST /a", say, "post a"), 0);
    assert_int_equal(lc_handle(server, "/b/", say, "b"), 0);
    get("GET /a");
    assert_string_equal(answer.body, "a");
    get("HEAD /a");
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.count, 0);
    get("POST /x/../a?b");
    assert_string_equal(answer.body, "post a");
    get("DELETE /a");
    assert_int_equal(answer.status, 405);
    assert_string_equal(answer.headers,
                        "content-type: text/plain; charset=utf-8\r\nallow: GET, HEAD, POST\r\n");
    get("GET /c");
    assert_int_equal(answer.status, 404);
    assert_true(lc_routes_any(lc_routes_of(server)));
}

static void test_the_first_mistake_is_kept(void **state)
{
    (void)state;
    assert_false(lc_routes_any(lc_routes_of(server)));
    assert_int_equal(lc_handle(server, "/a/{x}", say, NULL), 0);
    assert_int_equal(lc_handle(server, "/{y}/b", say, NULL), LC_E_ARG);
    assert_non_null(strstr(lc_errmsg(server), "\"/{y}/b\" overlaps \"/a/{x}\""));
    assert_int_equal(lc_handle(server, "b", say, NULL), LC_E_ARG);
    assert_int_equal(lc_handle(server, NULL, say, NULL), LC_E_ARG);
    assert_int_equal(lc_handle(server, "/b", NULL, NULL), LC_E_ARG);
    assert_int_equal(lc_handle(NULL, "/b", say, NULL), LC_E_ARG);
    assert_non_null(strstr(lc_errmsg(server), "overlaps"));
}

static void test_nothing_is_registered_after_the_start(void **state)
{
    (void)state;
    double_start(server, NULL);
    assert_int_equal(lc_handle(server, "/a", say, NULL), LC_E_STATE);
    assert_int_equal(lc_use(server, "/", say, NULL), LC_E_STATE);
    assert_int_equal(lc_name(server, "a", say, NULL), LC_E_STATE);
    assert_int_equal(lc_files(server, "/a", "/srv"), LC_E_STATE);
    assert_int_equal(lc_each_worker(server, NULL, NULL, NULL), LC_E_STATE);
}

static void test_what_comes_too_late_is_logged_once(void **state)
{
    (void)state;
    double_start(server, NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(lc_handle(server, "/late", say, NULL), LC_E_STATE);
        assert_int_equal(lc_use(server, "/late", say, NULL), LC_E_STATE);
        assert_int_equal(lc_name(server, "late", say, NULL), LC_E_STATE);
        assert_int_equal(lc_files(server, "/late", "/"), LC_E_STATE);
    }
    assert_int_equal(log_seen("too-late", "lc_handle(): "), 1);
    assert_int_equal(log_seen("too-late", "lc_use(): "), 1);
    assert_int_equal(log_seen("too-late", "lc_name(): "), 1);
    assert_int_equal(log_seen("too-late", "lc_files(): "), 1);
}

static int freed;

static void free_user(void *user)
{
    assert_string_equal(user, "user");
    freed++;
}

static void test_options_of_a_route(void **state)
{
    struct lc_route_options options = LC_ROUTE_OPTIONS_INIT;

    (void)state;
    options.max_body = 3;
    options.free_user = free_user;
    assert_int_equal(lc_handle_with(server, "/small", say, "user", &options), 0);
    get("POST /small");
    assert_int_equal(answer.status, 413);
    options.max_body = 4;
    assert_int_equal(lc_handle_with(server, "/enough", say, "user", &options), 0);
    get("POST /enough");
    assert_int_equal(answer.status, 200);
    freed = 0;
    assert_int_equal(lc_handle_with(server, "/small", say, "user", &options), LC_E_ARG);
    assert_int_equal(freed, 1); /* also when the call fails */
    assert_int_equal(lc_handle_with(NULL, "/small", say, "user", &options), LC_E_ARG);
    assert_int_equal(freed, 2);
    options.timeout_ms = -1;
    assert_int_equal(lc_handle_with(server, "/t", say, "user", &options), LC_E_ARG);
    options.timeout_ms = INT64_MAX;
    assert_int_equal(lc_handle_with(server, "/t", say, "user", &options), LC_E_ARG);
    options.timeout_ms = 0;
    options.flags = 4;
    assert_int_equal(lc_handle_with(server, "/t", say, "user", &options), LC_E_ARG);
    options.flags = 0;
    assert_int_equal(freed, 5);
    options.size = 8;
    assert_int_equal(lc_handle_with(server, "/t", say, "user", &options), LC_E_ARG);
    options.size = sizeof(options) + 64; /* of a program that was built with a newer header */
    struct {
        struct lc_route_options options;
        char more[64];
    } newer = {options, ""};
    assert_int_equal(lc_handle_with(server, "/newer", say, "user", &newer.options), 0);
    (void)lc_free(server);
    server = NULL;
    assert_int_equal(freed, 5 + 3);
}

static void sleep_long(lc_req *r, void *user)
{
    (void)user;
    assert_true(lc_time_left(r) >= 0 && lc_time_left(r) <= 20);
    assert_int_equal(lc_sleep(r, 1000000), LC_E_TIMEOUT);
    assert_int_equal(lc_cancelled(r), LC_E_TIMEOUT);
    assert_int_equal(lc_write(r, "x", 1), LC_E_TIMEOUT);
}

static void test_a_time_limit(void **state)
{
    struct lc_route_options options = LC_ROUTE_OPTIONS_INIT;

    (void)state;
    options.timeout_ms = 20;
    assert_int_equal(lc_handle_with(server, "/", sleep_long, NULL, &options), 0);
    lc_answer_free(&answer);
    answer.size = sizeof(answer);
    (void)lc_call(server, "GET /", NULL, NULL, 0, &answer);
    assert_int_equal(log_seen_all(), 0);
}

/* ---- middleware ---- */

static char order[128];

static void note(lc_req *r, void *user)
{
    (void)strcat(order, user);
    lc_next(r);
    (void)strcat(order, user);
    assert_int_equal(lc_set_header(r, "x-seen", user), 0);
}

static void note_twice(lc_req *r, void *user)
{
    note(r, user);
    lc_next(r);
}

static void guard(lc_req *r, void *user)
{
    (void)user;
    if (lc_query(r, "key") == NULL)
        assert_int_equal(lc_send(r, 401, NULL, "no key"), 0);
    else
        lc_next(r);
}

static void handler(lc_req *r, void *user)
{
    (void)strcat(order, "handler ");
    say(r, user);
}

static void test_middleware_is_called_in_order(void **state)
{
    (void)state;
    assert_int_equal(lc_use(server, "/", note, "1 "), 0);
    assert_int_equal(lc_use(server, "/admin", guard, NULL), 0);
    assert_int_equal(lc_use(server, "/", note_twice, "2 "), 0);
    assert_int_equal(lc_handle(server, "/", handler, "root"), 0);
    assert_int_equal(lc_handle(server, "/admin/{x}", handler, "admin"), 0);
    order[0] = '\0';
    get("GET /");
    assert_string_equal(order, "1 2 handler 2 1 ");
    assert_string_equal(answer.headers, "x-seen: 1 \r\n");
    assert_string_equal(answer.body, "root");
    static const char *const guarded[] = {"GET /admin/x", "GET /%61dmin/x", "GET /b/../admin/x",
                                          "GET /b/%2e%2e/admin/x?x=key"};
    for (size_t i = 0; i < 4; i++) {
        order[0] = '\0';
        get(guarded[i]);
        assert_int_equal(answer.status, 401);
        assert_string_equal(order, "1 1 ");
    }
    get("GET /admin/x?key");
    assert_string_equal(answer.body, "admin");
    assert_int_equal(lc_use(server, "admin", guard, NULL), LC_E_ARG);
    assert_int_equal(lc_use(server, "/{x}", guard, NULL), LC_E_ARG);
    assert_int_equal(lc_use(server, "/", NULL, NULL), LC_E_ARG);
    assert_int_equal(lc_use(NULL, "/", guard, NULL), LC_E_ARG);
}

/* The one further out calls lc_next() again after the guard has refused. */
static void test_a_second_next_does_not_pass_the_guard(void **state)
{
    (void)state;
    assert_int_equal(lc_use(server, "/", note_twice, "1 "), 0);
    assert_int_equal(lc_use(server, "/", guard, NULL), 0);
    assert_int_equal(lc_handle(server, "/", handler, "root"), 0);
    order[0] = '\0';
    get("GET /");
    assert_int_equal(answer.status, 401);
    assert_string_equal(order, "1 1 ");
    order[0] = '\0';
    get("GET /?key");
    assert_string_equal(order, "1 handler 1 ");
}

static void spoil(lc_req *r, void *user)
{
    (void)user;
    lc_next(r);
    assert_int_equal(lc_set_header(r, "x-frame-options", "DENY\r\nx"), LC_E_ARG);
}

static unsigned texts_freed;

static void count_free(void *owner)
{
    (void)owner;
    texts_freed++;
}

static void say_owned(lc_req *r, void *user)
{
    assert_int_equal(lc_send_owned(r, 200, NULL, user, 4, count_free, NULL), 0);
}

static void test_an_answer_is_never_sent_without_a_refused_header(void **state)
{
    (void)state;
    assert_int_equal(lc_use(server, "/", spoil, NULL), 0);
    assert_int_equal(lc_handle(server, "/", say, "root"), 0);
    assert_int_equal(lc_handle(server, "/owned", say_owned, "text"), 0);
    get("GET /");
    assert_int_equal(answer.status, 500);
    assert_int_equal(log_seen("answer-failed", ""), 1);
    get("GET /owned");
    assert_int_equal(answer.status, 500);
    assert_int_equal(texts_freed, 1);
}

static void swallow(lc_req *r, void *user)
{
    (void)r, (void)user;
}

static void test_middleware_that_does_neither_is_no_answer(void **state)
{
    (void)state;
    assert_int_equal(lc_use(server, "/", swallow, NULL), 0);
    assert_int_equal(lc_handle(server, "/", say, "x"), 0);
    get("GET /");
    assert_int_equal(answer.status, 500);
    assert_int_equal(log_seen("no-answer", ""), 1);
}

/* ---- names and paths ---- */

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(lc_name(server, "notes", say, "x"), 0);
    assert_int_equal(lc_name(server, "notes", say, "x"), LC_E_ARG);
    assert_int_equal(lc_name(server, "", say, "x"), LC_E_ARG);
    assert_int_equal(lc_name(server, "other", NULL, "x"), LC_E_ARG);
    assert_int_equal(lc_name(NULL, "other", say, "x"), LC_E_ARG);
    assert_non_null(lc_routes_named(lc_routes_of(server), "notes"));
    assert_null(lc_routes_named(lc_routes_of(server), "other"));
    assert_true(lc_routes_any(lc_routes_of(server)));
}

static void test_paths_that_need_no_code(void **state)
{
    (void)state;
    assert_int_equal(lc_files(server, "/f", "/srv"), 0);
    assert_string_equal(double_path(server), "/f file.dir /srv");
    assert_int_equal(lc_proxy(server, "/p", "http://127.0.0.1:1/"), 0);
    assert_string_equal(double_path(server), "/p proxy.reverse.url http://127.0.0.1:1/");
    assert_int_equal(lc_cgi(server, "/c", "/cgi"), 0);
    assert_string_equal(double_path(server), "/c handler.cgi /cgi");
    assert_int_equal(lc_files(server, "f", "/srv"), LC_E_ARG);
    assert_int_equal(lc_files(server, "/f", ""), LC_E_ARG);
    assert_int_equal(lc_files(NULL, "/f", "/srv"), LC_E_ARG);
}

/* ---- what each worker has ---- */

static struct {
    pthread_mutex_t mu;
    unsigned begun, ended, next_worker;
    bool fails;
} workers = {.mu = PTHREAD_MUTEX_INITIALIZER};

struct mine {
    pthread_t thread;
    unsigned worker;
};

static void *begin(unsigned worker, void *user)
{
    assert_string_equal(user, "user");
    if (workers.fails)
        return NULL;
    struct mine *mine = malloc(sizeof(*mine));
    *mine = (struct mine){pthread_self(), worker};
    (void)pthread_mutex_lock(&workers.mu);
    workers.begun++;
    assert_int_equal(worker, workers.next_worker++);
    (void)pthread_mutex_unlock(&workers.mu);
    return mine;
}

static void end(void *own, void *user)
{
    assert_string_equal(user, "user");
    free(own);
    (void)pthread_mutex_lock(&workers.mu);
    workers.ended++;
    (void)pthread_mutex_unlock(&workers.mu);
}

static void use_own(lc_req *r, void *user)
{
    const struct mine *mine = lc_own(r);

    (void)user;
    assert_non_null(mine);
    assert_true(pthread_equal(mine->thread, pthread_self()));
    assert_int_equal(lc_sendf(r, 200, NULL, "%u", mine->worker), 0);
}

static void *call_twice(void *arg)
{
    struct lc_answer mine = LC_ANSWER_INIT;
    unsigned first;

    (void)arg;
    assert_int_equal(lc_call(server, "GET /", NULL, NULL, 0, &mine), 0);
    first = (unsigned)atoi(mine.body);
    lc_answer_free(&mine);
    assert_int_equal(lc_call(server, "GET /", NULL, NULL, 0, &mine), 0);
    assert_int_equal(atoi(mine.body), first);
    lc_answer_free(&mine);
    return NULL;
}

static void test_each_thread_has_its_own(void **state)
{
    pthread_t thread;

    (void)state;
    workers.begun = workers.ended = workers.next_worker = 0;
    workers.fails = false;
    assert_int_equal(lc_each_worker(server, begin, end, "user"), 0);
    assert_int_equal(lc_each_worker(server, begin, end, "user"), LC_E_STATE);
    assert_int_equal(lc_handle(server, "/", use_own, NULL), 0);
    assert_int_equal(lc_routes_attach(lc_routes_of(server), NULL), 0);
    assert_int_equal(workers.begun, 1); /* to see that it can */
    assert_int_equal(workers.ended, 1);
    (void)call_twice(NULL);
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(pthread_create(&thread, NULL, call_twice, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(workers.begun, 2 + i);
        assert_int_equal(workers.ended, 1 + i); /* with its thread */
    }
    (void)lc_free(server);
    server = NULL;
    assert_int_equal(workers.ended, 4); /* and this thread's */
}

static sem_t has_called;

static void *call_and_end(void *arg)
{
    struct lc_answer mine = LC_ANSWER_INIT;

    (void)arg;
    if (lc_call(server, "GET /", NULL, NULL, 0, &mine) == 0)
        lc_answer_free(&mine);
    sem_post(&has_called);
    return NULL; /* its own is ended here, or with the server */
}

/* A thread of the program may end while another frees the server: see end note, own.c. */
static void test_a_thread_ends_while_the_server_is_freed(void **state)
{
    pthread_t thread;

    (void)state;
    sem_init(&has_called, 0, 0);
    for (unsigned round = 0; round < 500; round++) {
        if (server == NULL)
            server = lc_new();
        workers.begun = workers.ended = workers.next_worker = 0;
        assert_int_equal(lc_each_worker(server, begin, end, "user"), 0);
        assert_int_equal(lc_handle(server, "/", use_own, NULL), 0);
        assert_int_equal(pthread_create(&thread, NULL, call_and_end, NULL), 0);
        while (sem_wait(&has_called) != 0)
            ;
        for (volatile unsigned i = 0; i < round * 20; i++)
            ; /* the two sides meet a little later each round */
        (void)lc_free(server);
        server = NULL;
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(workers.begun, 1);
        assert_int_equal(workers.ended, 1);
    }
    sem_destroy(&has_called);
}

static void test_a_worker_that_is_not_ready_answers_503(void **state)
{
    (void)state;
    workers.begun = workers.ended = workers.next_worker = 0;
    workers.fails = true;
    assert_int_equal(lc_each_worker(server, begin, end, "user"), 0);
    assert_int_equal(lc_handle(server, "/", use_own, NULL), 0);
    assert_int_equal(lc_routes_attach(lc_routes_of(server), NULL), LC_E_CONFIG);
    get("GET /");
    assert_int_equal(answer.status, 503);
    assert_int_equal(log_seen("worker-not-ready", ""), 1);
    workers.fails = false;
    workers.next_worker = 2;
    get("GET /");
    assert_int_equal(answer.status, 200);
}

static void *own_inline(unsigned worker, void *user)
{
    (void)worker, (void)user;
    fail_msg("a loop has none");
    return NULL;
}

static void have_none(lc_req *r, void *user)
{
    assert_null(lc_own(r));
    say(r, user);
}

static void test_a_loop_has_none(void **state)
{
    struct lc_route_options options = LC_ROUTE_OPTIONS_INIT;

    (void)state;
    options.flags = LC_INLINE;
    assert_int_equal(lc_each_worker(server, own_inline, NULL, NULL), 0);
    assert_int_equal(lc_handle_with(server, "/", have_none, "x", &options), 0);
    get("GET /");
    assert_int_equal(answer.status, 200);
}

/* ---- lc_call() itself ---- */

static void test_what_is_no_request_is_refused(void **state)
{
    static const char *const wrong[] = {"",   "GET",       "GET ",        "GET a", "GET /a b",
                                        " /", "GET /\r\n", "G\r\nX: T /", "G,T /"};

    (void)state;
    assert_int_equal(lc_handle(server, "/", say, "x"), 0);
    answer.size = sizeof(answer);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(lc_call(server, wrong[i], NULL, NULL, 0, &answer), LC_E_ARG);
    assert_int_equal(lc_call(server, "GET /", "nonsense", NULL, 0, &answer), LC_E_ARG);
    assert_int_equal(lc_call(server, "GET /", "a b: c", NULL, 0, &answer), LC_E_ARG);
    assert_int_equal(lc_call(server, "GET /", NULL, NULL, 1, &answer), LC_E_ARG);
    assert_int_equal(lc_call(NULL, "GET /", NULL, NULL, 0, &answer), LC_E_ARG);
    answer.size = 0;
    assert_int_equal(lc_call(server, "GET /", NULL, NULL, 0, &answer), LC_E_ARG);
    lc_answer_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_requests_find_their_route, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_first_mistake_is_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_comes_too_late_is_logged_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_is_registered_after_the_start, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_options_of_a_route, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_time_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_middleware_is_called_in_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_second_next_does_not_pass_the_guard, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_an_answer_is_never_sent_without_a_refused_header,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_middleware_that_does_neither_is_no_answer, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_paths_that_need_no_code, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_each_thread_has_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_thread_ends_while_the_server_is_freed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_worker_that_is_not_ready_answers_503, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_loop_has_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_no_request_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

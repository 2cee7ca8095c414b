/* The registration in a real Redis: there while the process is ready, gone when it is not, and
 * never in the way of serving or of the exit, whatever state Redis is in. */

#include "process.h"
#include "redis_server.h"
#include "registration.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "coord.h"
#include "expect.h"

#define LIMIT_MS 20000
#define ARGS(...) ((const char *const[]){"--threads", "1", __VA_ARGS__, NULL})

static void drain(struct process *p)
{
    process_signal(p, SIGTERM);
    process_expect(p, LIMIT_MS, 0);
}

/* ---- a Redis that is well ---- */

static void test_address_is_there_while_ready_and_gone_after(void **state)
{
    struct redis_server redis;
    struct process p;
    char host[256], address[300], key[320], command[330];
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, NULL);
    process_start(&p, NULL, ARGS("--register", redis.url));
    assert_int_equal(gethostname(host, sizeof(host)), 0);
    (void)snprintf(address, sizeof(address), "%s:%u", host, p.port);
    (void)snprintf(key, sizeof(key), "lastcall/%s", address);
    (void)snprintf(command, sizeof(command), "GET %s", key);
    redis_server_wait(&redis, command, "!(nil)");

    char *text = redis_server_ask(&redis, command);
    json_t *value = json_loads(text, 0, NULL);
    assert_non_null(value);
    assert_string_equal(json_string_value(json_object_get(value, "address")), address);
    assert_string_equal(json_string_value(json_object_get(value, "host")), host);
    assert_int_equal(json_integer_value(json_object_get(value, "pid")), p.pid);
    assert_int_equal(strlen(json_string_value(json_object_get(value, "id"))), 16);
    json_decref(value);
    free(text);
    (void)snprintf(command, sizeof(command), "PTTL %s", key);
    char *ttl = redis_server_ask(&redis, command);
    assert_in_range(strtol(ttl, NULL, 10), 1, 15000);
    free(ttl);

    drain(&p);
    (void)snprintf(command, sizeof(command), "EXISTS %s", key);
    redis_server_expect(&redis, command, "0");
    assert_contains(p.log, "withdrew lastcall/");
    process_release(&p);
    redis_server_stop(&redis);
}

static void test_registration_is_renewed(void **state)
{
    struct redis_server redis;
    struct process p;
    long before = 0;
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, NULL);
    process_start(&p, NULL,
                  ARGS("--register", redis.url, "--register-key", "k", "--register-ttl", "3s",
                       "--register-value", "at %a", "--register-address", "me:%p"));
    redis_server_wait(&redis, "EXISTS k", "1");
    for (unsigned renewals = 0; renewals < 2;) { /* the time left falls, and rises again */
        char *text = redis_server_ask(&redis, "PTTL k");
        long left = strtol(text, NULL, 10);
        free(text);
        assert_in_range(left, 1, 3000);
        renewals += before != 0 && left > before + 100;
        before = left;
        (void)poll(NULL, 0, 20);
    }
    char want[32], *value = redis_server_ask(&redis, "GET k");
    (void)snprintf(want, sizeof(want), "at me:%u", p.port);
    assert_string_equal(value, want);
    free(value);
    drain(&p);
    process_release(&p);
    redis_server_stop(&redis);
}

/* Balancers learn of it before a single connection is refused. */
static void test_address_is_gone_in_lame_duck_while_it_still_accepts(void **state)
{
    struct redis_server redis;
    struct process p;
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, NULL);
    process_start(&p, NULL,
                  ARGS("--register", redis.url, "--register-key", "k", "--lame-duck", "60s"));
    redis_server_wait(&redis, "EXISTS k", "1");
    process_signal(&p, SIGTERM);
    redis_server_wait(&redis, "EXISTS k", "0");
    assert_serves(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 4);
    process_release(&p);
    redis_server_stop(&redis);
}

static void test_address_expires_after_a_killed_process(void **state)
{
    struct redis_server redis;
    struct process p;
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, NULL);
    process_start(&p, NULL,
                  ARGS("--register", redis.url, "--register-key", "k", "--register-ttl", "1s"));
    redis_server_wait(&redis, "EXISTS k", "1");
    process_signal(&p, SIGKILL);
    process_expect(&p, LIMIT_MS, 128 + SIGKILL);
    redis_server_wait(&redis, "EXISTS k", "0");
    process_release(&p);
    redis_server_stop(&redis);
}

/* A successor on the same address has its own id in the value. */
static void test_what_another_process_has_set_stays(void **state)
{
    struct redis_server redis;
    struct process old, new;
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, NULL);
    const char *const *args = ARGS("--register", redis.url, "--register-key", "k",
                                   "--register-address", "same:1", "--register-ttl", "1s");
    process_start(&old, NULL, args);
    redis_server_wait(&redis, "EXISTS k", "1");
    char *first = redis_server_ask(&redis, "GET k");
    process_start(&new, NULL, args);
    char differs[512];
    (void)snprintf(differs, sizeof(differs), "!%s", first);
    redis_server_wait(&redis, "GET k", differs);
    char *second = redis_server_ask(&redis, "GET k");
    process_wait_log(&old, "is held by another process"); /* at its renewal */
    drain(&old);
    assert_contains(old.log, "belongs to another process");
    redis_server_expect(&redis, "GET k", second);
    assert_null(strstr(new.log, "is held by"));
    drain(&new);
    redis_server_expect(&redis, "EXISTS k", "0");
    free(first);
    free(second);
    process_release(&old);
    process_release(&new);
    redis_server_stop(&redis);
}

static void test_unix_socket_user_and_password_file_in_a_configuration(void **state)
{
    struct redis_server redis;
    struct process p;
    char path[] = "/tmp/lastcall-register-XXXXXX", password[128];
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, NULL);
    redis_server_expect(&redis, "ACL SETUSER web on >s3cret ~k +select +eval +get +set +del", "OK");
    (void)snprintf(password, sizeof(password), "%s.password", redis.socket);
    FILE *file = fopen(password, "w");
    assert_non_null(file);
    (void)fputs("s3cret\n", file);
    (void)fclose(file);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)dprintf(
        fd,
        "listen: {host: 127.0.0.1, port: 0}\nnum-threads: 1\nuser: %s\n"
        "register: {redis: {url: \"unix:%s?user=web\", key: k, ttl: 5s, address: \"a:%%p\","
        " password-file: %s}}\n"
        "hosts: {default: {paths: {/hello: {handler: hello}}}}\n",
        own_user_name(), redis.socket, password);
    process_start_configured(&p, (const char *const[]){"-c", path, NULL});
    redis_server_wait(&redis, "EXISTS k", "1");
    drain(&p);
    redis_server_expect(&redis, "EXISTS k", "0");
    assert_null(strstr(p.log, "s3cret"));
    process_release(&p);
    (void)close(fd);
    (void)unlink(path);
    (void)unlink(password);
    redis_server_stop(&redis);
}

/* ---- undrain, which this build does not offer from outside the process ---- */

static void do_nothing(void *server)
{
    (void)server;
}

static void do_nothing_bool(void *server, bool on)
{
    (void)server;
    (void)on;
}

static void list_nothing(void *server, bool freeze, struct coord_requests *ret_list)
{
    (void)server;
    (void)freeze;
    memset(ret_list, 0, sizeof(*ret_list));
}

static void spread_nothing(void *server, uint64_t spread_ns)
{
    (void)server;
    (void)spread_ns;
}

static void give_up_nothing(void *server, unsigned classes)
{
    (void)server;
    (void)classes;
}

static void count_nothing(void *server, struct coord_census *ret_census)
{
    (void)server;
    memset(ret_census, 0, sizeof(*ret_census));
}

static const struct coord_server_ops fake_ops = {.lame_duck = do_nothing_bool,
                                                 .close_listeners = do_nothing,
                                                 .finish = spread_nothing,
                                                 .release_idle = spread_nothing,
                                                 .give_up = give_up_nothing,
                                                 .list_requests = list_nothing,
                                                 .cut = do_nothing,
                                                 .census = count_nothing};

static void *coordinate(void *coord)
{
    (void)coord_run(coord);
    return NULL;
}

static void test_undrain_brings_it_back(void **state)
{
    struct redis_server redis;
    struct registration *registration;
    struct coord *coord;
    pthread_t thread;
    char error[REGISTRATION_ERROR_SIZE];
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, NULL);
    const struct coord_config config = {.ops = &fake_ops,
                                        .drain = {.lame_duck_ns = 60 * NS_PER_S, .deadline_ns = 1}};
    const struct registration_config entry = {
        .url = redis.url, .ttl_ns = 30 * NS_PER_S, .key = "k", .address = "a"};
    assert_int_equal(coord_create(&config, &coord), 0);
    assert_int_equal(registration_create(&entry, &registration, error), 0);
    assert_int_equal(registration_start(registration, coord), 0);
    registration_begin(registration);
    assert_int_equal(pthread_create(&thread, NULL, coordinate, coord), 0);
    for (unsigned i = 0; i < 3; i++) {
        redis_server_wait(&redis, "EXISTS k", "1");
        coord_request_drain(coord, "test", "");
        redis_server_wait(&redis, "EXISTS k", "0");
        assert_true(coord_undrain(coord));
    }
    redis_server_wait(&redis, "EXISTS k", "1");
    coord_request_drain(coord, "test", "");
    (void)coord_signal(coord, SIGTERM, 0);
    (void)coord_signal(coord, SIGTERM, 0); /* no lame duck */
    (void)pthread_join(thread, NULL);
    registration_leave(registration);
    redis_server_expect(&redis, "EXISTS k", "0");
    registration_stop(registration);
    registration_destroy(registration);
    coord_destroy(coord);
    redis_server_stop(&redis);
}

/* ---- a Redis that is not ---- */

static void test_redis_that_comes_later_gets_it(void **state)
{
    struct redis_server redis;
    struct process p;
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    process_start(&p, NULL, ARGS("--register", redis.url, "--register-key", "k"));
    process_wait_log(&p, "cannot register as k in redis://127.0.0.1:");
    assert_contains(p.log, "Connection refused");
    assert_serves(&p);
    redis_server_start(&redis, NULL, NULL);
    redis_server_wait(&redis, "EXISTS k", "1");
    process_wait_log(&p, "registered ");
    drain(&p);
    assert_int_equal(count_in(p.log, "cannot register"), 1);
    redis_server_expect(&redis, "EXISTS k", "0");
    process_release(&p);
    redis_server_stop(&redis);
}

static void test_redis_that_restarts_gets_it_again(void **state)
{
    struct redis_server redis;
    struct process p;
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, NULL);
    process_start(&p, NULL,
                  ARGS("--register", redis.url, "--register-key", "k", "--register-ttl", "1s"));
    redis_server_wait(&redis, "EXISTS k", "1");
    redis_server_stop(&redis);
    process_wait_log(&p, "cannot register as k");
    assert_serves(&p);
    redis_server_start(&redis, NULL, NULL);
    redis_server_wait(&redis, "EXISTS k", "1");
    process_wait_log_times(&p, "registered ", 2); /* the server logs it after Redis has the key */
    drain(&p);
    assert_int_equal(count_in(p.log, "cannot register"), 1);
    process_release(&p);
    redis_server_stop(&redis);
}

static void test_exit_does_not_wait_for_a_redis_that_is_gone(void **state)
{
    struct redis_server redis;
    struct process p;
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, NULL);
    process_start(&p, NULL, ARGS("--register", redis.url, "--register-key", "k"));
    process_wait_log(&p, "registered ");
    redis_server_stop(&redis);
    uint64_t from_ns = now_ns();
    drain(&p);
    assert_true(p.exited_ns - from_ns < 10000 * NS_PER_MS);
    assert_contains(p.log, "k could not be withdrawn: it expires by itself within 15s");
    process_release(&p);
}

static void test_redis_that_stands_still_holds_up_nothing(void **state)
{
    struct redis_server redis;
    struct process p;
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, NULL);
    assert_int_equal(kill(redis.pid, SIGSTOP), 0);
    process_start(&p, NULL, ARGS("--register", redis.url, "--register-key", "k"));
    assert_serves(&p);
    process_wait_log(&p, "it does not answer");
    assert_serves(&p);
    assert_int_equal(kill(redis.pid, SIGCONT), 0);
    redis_server_wait(&redis, "EXISTS k", "1");
    assert_int_equal(kill(redis.pid, SIGSTOP), 0);
    uint64_t from_ns = now_ns();
    drain(&p);
    assert_true(p.exited_ns - from_ns < 10000 * NS_PER_MS);
    assert_int_equal(kill(redis.pid, SIGCONT), 0);
    process_release(&p);
    redis_server_stop(&redis);
}

static void test_full_redis_is_tried_again(void **state)
{
    struct redis_server redis;
    struct process p;
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, (const char *const[]){"--maxmemory", "1", NULL});
    process_start(&p, NULL, ARGS("--register", redis.url, "--register-key", "k"));
    process_wait_log(&p, "cannot register as k");
    assert_contains(p.log, "OOM");
    assert_serves(&p);
    redis_server_expect(&redis, "CONFIG SET maxmemory 0", "OK");
    redis_server_wait(&redis, "EXISTS k", "1");
    drain(&p);
    process_release(&p);
    redis_server_stop(&redis);
}

static void test_wrong_password_is_refused_and_not_logged(void **state)
{
    struct redis_server redis;
    struct process p;
    char url[128];
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, "right", NULL);
    (void)snprintf(url, sizeof(url), "redis://:wr0ng@127.0.0.1:%d", redis.port);
    process_start(&p, NULL, ARGS("--register", url, "--register-key", "k"));
    process_wait_log(&p, "WRONGPASS");
    assert_serves(&p);
    drain(&p);
    assert_null(strstr(p.log, "wr0ng"));
    process_release(&p);
    redis_server_stop(&redis);
}

/* ---- settings that the start refuses ---- */

static void expect_refused(const char *listen, const char *url, const char *flag, const char *value,
                           const char *want)
{
    struct process p;
    process_spawn(&p, ARGS("--listen", listen, "--register", url, flag, value));
    process_expect(&p, LIMIT_MS, 78);
    assert_contains(p.log, want);
    assert_null(strstr(p.log, "s3cret"));
    process_release(&p);
}

static void test_wrong_settings_are_refused_at_the_start(void **state)
{
    (void)state;
    redis_server_need();
    expect_refused("127.0.0.1:0", "rediss://:s3cret@h?ca-file=/nowhere/ca", "--register-key", "k",
                   "register.redis.url: ca-file=/nowhere/ca: No such file");
    expect_refused("127.0.0.1:0", "redis://:s3cret@h:x", "--register-key", "k",
                   "want a port from 1 to 65535");
    expect_refused("127.0.0.1:0", "redis://h", "--register-key", "a%q", "%q is unknown");
    expect_refused("127.0.0.1:0", "redis://h", "--register-value", "50%", "register.redis.value");
    expect_refused("127.0.0.1:0", "redis://h", "--register-password-file", "/nowhere/s",
                   "register.redis.password-file /nowhere/s: No such file");
    expect_refused("unix:/tmp/lastcall-register.sock", "redis://h", "--register-key", "k",
                   "no TCP listener has a port for %p");
    (void)unlink("/tmp/lastcall-register.sock");
}

static int clean_up(void **state)
{
    (void)process_kill_left(state);
    return redis_server_kill_left(state);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, clean_up)
    static const struct CMUnitTest tests[] = {
        TEST(test_address_is_there_while_ready_and_gone_after),
        TEST(test_registration_is_renewed),
        TEST(test_address_is_gone_in_lame_duck_while_it_still_accepts),
        TEST(test_address_expires_after_a_killed_process),
        TEST(test_what_another_process_has_set_stays),
        TEST(test_unix_socket_user_and_password_file_in_a_configuration),
        TEST(test_undrain_brings_it_back),
        TEST(test_redis_that_comes_later_gets_it),
        TEST(test_redis_that_restarts_gets_it_again),
        TEST(test_exit_does_not_wait_for_a_redis_that_is_gone),
        TEST(test_redis_that_stands_still_holds_up_nothing),
        TEST(test_full_redis_is_tried_again),
        TEST(test_wrong_password_is_refused_and_not_logged),
        TEST(test_wrong_settings_are_refused_at_the_start),
    };
    (void)alarm(240);
    return cmocka_run_group_tests_name("register", tests, NULL, clean_up);
}

/* No loss: full closed-loop load in every shape, a signal in the middle, and not one request lost.
 * LASTCALL_RUNS says how often each shape is run (3 by default), LASTCALL_TEST which ones alone (a
 * pattern for their names, such as `HTTP/2*`). */

#include "process.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "certificate.h"
#include "loadgen.h"

#define CONNECTIONS 64
#define SIGNAL_AFTER_MS 250

static char certificate_path[64], key_path[64];

struct shape {
    const char *name;
    const char *listen; /* NULL: a free port of 127.0.0.1 */
    const char *const *args;
    struct load_options load;
};

/* Both are long enough for a slow machine under a sanitizer, and for one that stands still: no test
 * here is about the deadline, or about clients that are silent for longer than the grace. */
#define PATIENT "--threads", "2", "--deadline", "60s", "--idle-grace", "10s"
#define TLS "tls:127.0.0.1:0"
#define WITH_TLS ARGS("--cert", certificate_path, "--key", key_path)
#define ARGS(...) ((const char *const[]){PATIENT, __VA_ARGS__, NULL})
#define PLAIN ((const char *const[]){PATIENT, NULL})

static const struct shape shapes[] = {
    {"a new connection a request", NULL, PLAIN, {.protocol = LOAD_HTTP1_CLOSE}},
    {"keep-alive without pause", NULL, PLAIN, {.protocol = LOAD_HTTP1_KEEPALIVE}},
    {"keep-alive with 5 ms pauses", NULL, PLAIN, {.protocol = LOAD_HTTP1_KEEPALIVE, .pause_ms = 5}},
    {"keep-alive with 50 ms pauses",
     NULL,
     PLAIN,
     {.protocol = LOAD_HTTP1_KEEPALIVE, .pause_ms = 50}},
    {"POST with a body",
     NULL,
     PLAIN,
     {.protocol = LOAD_HTTP1_KEEPALIVE, .body_bytes = 4096, .path = "/sleep?ms=0"}},
    {"HTTP/2 with 10 streams", NULL, PLAIN, {.protocol = LOAD_HTTP2, .streams = 10}},
    {"HTTP/2 with uploads",
     NULL,
     PLAIN,
     {.protocol = LOAD_HTTP2, .streams = 10, .body_bytes = 40000, .path = "/sleep?ms=0"}},
    {"over a Unix socket, new connections", "unix:", PLAIN, {.protocol = LOAD_HTTP1_CLOSE}},
    {"over a Unix socket, keep-alive", "unix:", PLAIN, {.protocol = LOAD_HTTP1_KEEPALIVE}},
    {"over IPv6, new connections", "[::1]:0", PLAIN, {.protocol = LOAD_HTTP1_CLOSE}},
    {"over IPv6, keep-alive", "[::1]:0", PLAIN, {.protocol = LOAD_HTTP1_KEEPALIVE}},
    {"/sleep?ms=20 on the pool",
     NULL,
     ARGS("--workers", "64"),
     {.protocol = LOAD_HTTP1_KEEPALIVE, .path = "/sleep?ms=20"}},
    {"/sleep?ms=20 on the pool, new connections",
     NULL,
     ARGS("--workers", "64"),
     {.protocol = LOAD_HTTP1_CLOSE, .path = "/sleep?ms=20"}},
    {"TLS, new connections", TLS, WITH_TLS, {.protocol = LOAD_HTTP1_CLOSE, .tls = true}},
    {"TLS, keep-alive", TLS, WITH_TLS, {.protocol = LOAD_HTTP1_KEEPALIVE, .tls = true}},
    {"TLS, keep-alive with 5 ms pauses",
     TLS,
     WITH_TLS,
     {.protocol = LOAD_HTTP1_KEEPALIVE, .tls = true, .pause_ms = 5}},
    {"TLS, HTTP/2 with uploads",
     TLS,
     WITH_TLS,
     {.protocol = LOAD_HTTP2,
      .tls = true,
      .streams = 10,
      .body_bytes = 40000,
      .path = "/sleep?ms=0"}},
};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static unsigned runs(void)
{
    const char *text = getenv("LASTCALL_RUNS");
    long n = text != NULL ? strtol(text, NULL, 10) : 3;
    return n >= 1 && n <= 10000 ? (unsigned)n : 3;
}

static void run_once(const struct shape *shape, unsigned run)
{
    struct load_options load = shape->load;
    struct load_result result;
    struct process p;
    char path[64];
    const char *listen = shape->listen;

    if (listen != NULL && strcmp(listen, "unix:") == 0) {
        (void)snprintf(path, sizeof(path), "unix:/tmp/lastcall-loss-%ld.sock", (long)getpid());
        listen = path;
    }
    process_start(&p, listen, shape->args);
    load.address = load.tls ? strchr(p.address, ':') + 1 : p.address;
    load.connections = CONNECTIONS;
    load.duration_ms = 60000;
    load.patience_ms = 60000;
    load.signal_after_ms = SIGNAL_AFTER_MS + run % 10; /* not always at the same point */
    load.signal_after_answers = 2 * CONNECTIONS;       /* on a slow machine there is load, too */
    load.on_signal = send_term;
    load.on_signal_arg = &p;
    load.server_is_gone = is_gone;
    load.server_is_gone_arg = &p;
    assert_int_equal(load_run(&load, &result), 0);
    int status = process_wait(&p, 60000);
    if (result.lost != 0 || result.waiting != 0 || status != 0)
        fail_msg("run %u: %llu lost (%llu reset, %llu eof, %llu truncated), %llu waiting of %llu "
                 "sent, status %d; first: %s; log:\n%s",
                 run, (unsigned long long)result.lost, (unsigned long long)result.lost_reset,
                 (unsigned long long)result.lost_eof, (unsigned long long)result.lost_truncated,
                 (unsigned long long)result.waiting, (unsigned long long)result.sent, status,
                 result.first_loss, p.log);
    assert_true(result.answered > CONNECTIONS);    /* there was load */
    assert_true(result.answered_after_signal > 0); /* and the signal came into it */
    assert_int_equal(result.answered_2xx, result.answered);
    process_release(&p);
}

static int make_certificate(void **state)
{
    (void)state;
    (void)snprintf(certificate_path, sizeof(certificate_path), "/tmp/lastcall-loss-%ld.cert",
                   (long)getpid());
    (void)snprintf(key_path, sizeof(key_path), "/tmp/lastcall-loss-%ld.key", (long)getpid());
    certificate_write(key_path, certificate_path);
    return 0;
}

static int remove_certificate(void **state)
{
    (void)state;
    return unlink(certificate_path) | unlink(key_path);
}

static void test_nothing_is_lost(void **state)
{
    const struct shape *shape = *state;
    for (unsigned run = 0; run < runs(); run++)
        run_once(shape, run);
}

int main(void)
{
    struct CMUnitTest tests[SHAPES];

    (void)alarm(60 + runs() * 40);
    for (size_t i = 0; i < SHAPES; i++)
        tests[i] = (struct CMUnitTest){.name = shapes[i].name,
                                       .test_func = test_nothing_is_lost,
                                       .teardown_func = process_kill_left,
                                       .initial_state = (void *)(uintptr_t)&shapes[i]};
    return cmocka_run_group_tests_name("loss", tests, make_certificate, remove_certificate);
}

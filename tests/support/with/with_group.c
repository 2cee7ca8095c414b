#include "with_group.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin_client.h"

struct process front;
unsigned front_threads = 2;
struct process upstreams[UPSTREAMS];

/* ---- upstreams ---- */

void start_upstream(unsigned i, uint16_t port, const char *more)
{
    char text[1024];

    (void)snprintf(
        text, sizeof(text),
        "listen: {host: 127.0.0.1, port: %u}\nnum-threads: 1\n%sheader.set: \"x-who: %c\"\n"
        "hosts: {default: {paths: {/: {handler: hello}, /readyz: {handler: ready}}}}\n",
        port, more, 'a' + (int)i);
    start(&upstreams[i], text);
}

void start_upstreams(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        start_upstream(i, 0, "");
}

void stop_upstream(unsigned i)
{
    process_signal(&upstreams[i], SIGTERM);
    process_expect(&upstreams[i], LIMIT_MS, 0);
    process_release(&upstreams[i]);
}

int group_tear_down(void **state)
{
    if (front.pid > 0 && front.status < 0)
        finish(&front); /* its end is clean, also for a sanitizer */
    process_release(&front);
    for (unsigned i = 0; i < UPSTREAMS; i++)
        process_release(&upstreams[i]);
    return process_kill_left(state);
}

/* ---- the front ---- */

void start_front(const char *directives, const char *urls, const uint16_t ports[UPSTREAMS])
{
    char text[2048], list[512];

    (void)snprintf(list, sizeof(list), urls, ports[0], ports[1], ports[2]);
    (void)snprintf(text, sizeof(text),
                   LISTEN "num-threads: %u\n%shosts: {default: {paths: {/: {proxy.reverse.url: "
                          "%s}}}}\n",
                   front_threads, directives, list);
    start_with(&front, text, ARGS("--admin", "127.0.0.1:0"));
}

void ports_of(uint16_t ports[UPSTREAMS])
{
    for (unsigned i = 0; i < UPSTREAMS; i++)
        ports[i] = upstreams[i].port;
}

char *ask(const char *method, const char *more)
{
    char request[512];

    (void)snprintf(request, sizeof(request),
                   "%s / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n%s\r\n",
                   method, more);
    return client_ask(&front, request);
}

char who(const char *method, const char *more)
{
    char *answer = ask(method, more);
    const char *at = strstr(answer, "x-who: ");
    char name = strstr(answer, " 200 ") != NULL && at != NULL ? at[7] : '-';

    free(answer);
    return name;
}

void count_who(unsigned n, unsigned ret_counts[4])
{
    memset(ret_counts, 0, 4 * sizeof(ret_counts[0]));
    for (unsigned i = 0; i < n; i++) {
        char name = who("GET", "");
        ret_counts[name == '-' ? 3 : name - 'a']++;
    }
}

/* Does /status show the upstream in that state (NULL: in any), and with no requests if `is_idle`?
 */
static bool is_shown(size_t i, const char *state, bool is_idle)
{
    struct process admin = admin_of(&front);
    json_t *status = admin_status(&admin);
    const json_t *one = json_array_get(admin_at(status, "upstreams"), i);
    const char *now = json_string_value(json_object_get(one, "state"));
    bool is_it = (state == NULL || strcmp(now, state) == 0) &&
                 (!is_idle || json_integer_value(json_object_get(one, "in_flight")) == 0);

    json_decref(status);
    return is_it;
}

static void wait_for(size_t i, const char *state, bool is_idle)
{
    for (unsigned tries = 0; tries < 2000; tries++) {
        if (is_shown(i, state, is_idle))
            return;
        (void)poll(NULL, 0, 10);
    }
    fail_msg("upstream %zu is not %s", i, state != NULL ? state : "idle");
}

bool is_state(size_t i, const char *want)
{
    return is_shown(i, want, false);
}

void wait_state(size_t i, const char *want)
{
    wait_for(i, want, false);
}

void wait_idle(size_t i)
{
    wait_for(i, NULL, true);
}

double metric(const char *name)
{
    struct process admin = admin_of(&front);
    return admin_metric(&admin, name);
}

#include "with_app.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include "as_manager.h"
#include "expect.h"
#include "loopback.h"
#include "skip.h"

static char gate_path[64], notify_path[64];
char url[96];
uint16_t app_port;

bool have_node(void)
{
    static int known = -1;
    if (known < 0)
        known = system("node --version >/dev/null 2>&1") == 0;
    return known == 1;
}

/* ---- the application's side ---- */

int with_app_set_up(void **state)
{
    (void)state;
    (void)snprintf(gate_path, sizeof(gate_path), "/tmp/lastcall-app-%ld.gate", (long)getpid());
    (void)snprintf(notify_path, sizeof(notify_path), "/tmp/lastcall-app-%ld.notify",
                   (long)getpid());
    (void)unlink(gate_path);
    (void)setenv("APP_GATE", gate_path, 1);
    (void)unsetenv("PORT");
    app_port = free_port();
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", app_port);
    return 0;
}

int with_app_clean_up(void **state)
{
    (void)unlink(gate_path);
    (void)unlink(notify_path);
    return process_kill_left(state);
}

void open_gate(void *unused)
{
    (void)unused;
    int fd = open(gate_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    (void)close(fd);
}

void shut_gate(void)
{
    assert_int_equal(unlink(gate_path), 0);
}

void start(struct process *p, const char *const *flags, const char *const *command)
{
    /* A busy machine starts no Python in the ten seconds that a request waits by default. */
    const char *args[40] = {"--threads",           "2",  "--proxy", url, "--app-hold", "60s",
                            "--app-start-timeout", "60s"};
    size_t n = 8;

    for (; flags != NULL && *flags != NULL; flags++)
        args[n++] = *flags;
    args[n++] = "--";
    for (; *command != NULL; command++)
        args[n++] = *command;
    assert_true(n < 40);
    process_start(p, NULL, args);
}

void start_up(struct process *p, const char *const *flags, const char *const *command)
{
    start(p, flags, command);
    process_wait_log(p, " answers at ");
}

pid_t last_pid(const struct process *p, const char *text)
{
    const char *last = NULL;
    for (const char *at = p->log; (at = strstr(at, text)) != NULL; at++)
        last = at + strlen(text);
    assert_non_null(last);
    return (pid_t)strtol(last, NULL, 10);
}

int listen_for_ready(void)
{
#ifndef LASTCALL_SYSTEMD
    skip_test("built without libsystemd");
#endif
    return listen_as_manager(notify_path);
}

char state_of(pid_t pid, pid_t *ret_parent)
{
    char path[32], text[512] = "", state = 0;
    int parent = 0;

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    (void)!read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    const char *end = strrchr(text, ')');
    if (end == NULL || sscanf(end + 1, " %c %d", &state, &parent) != 2)
        return 0;
    if (ret_parent != NULL)
        *ret_parent = parent;
    return state;
}

void wait_dead(pid_t pid)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    char state;

    while ((state = state_of(pid, NULL)) != 0 && state != 'Z') {
        if (now_ns() > until_ns)
            fail_msg("process %ld still lives (%c)", (long)pid, state);
        (void)poll(NULL, 0, 5);
    }
}

unsigned zombies_of(const struct process *p)
{
    char path[64], text[4096] = "";
    unsigned zombies = 0;

    (void)snprintf(path, sizeof(path), "ls /proc/%ld/task/", (long)p->pid);
    FILE *tasks = popen(path, "r");
    assert_non_null(tasks);
    for (long task; fscanf(tasks, "%ld", &task) == 1;) {
        (void)snprintf(path, sizeof(path), "/proc/%ld/task/%ld/children", (long)p->pid, task);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
        (void)close(fd);
        text[got > 0 ? got : 0] = '\0';
        char *end = text;
        for (long child; (child = strtol(end, &end, 10)) > 0;)
            zombies += state_of((pid_t)child, NULL) == 'Z';
    }
    (void)pclose(tasks);
    return zombies;
}

void wait_no_zombies(const struct process *p)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    while (zombies_of(p) > 0) {
        if (now_ns() > until_ns)
            fail_msg("%u zombies", zombies_of(p));
        (void)poll(NULL, 0, 5);
    }
}

/* ---- the client's side ---- */

void leaves_a_request_unfinished(const char *const *options)
{
    struct process p;

    start_up(&p, options, APP(PYTHON));
    int fd = client_connect(&p); /* a request that does not become whole */
    client_send(fd, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nsome");
    wait_taken(&p, 1);
    free(client_ask(&p, GET("/exit?status=7")));
    process_expect(&p, LIMIT_MS, 3);
    (void)close(fd);
    process_release(&p);
}

void finds_the_world_as_if_started_alone(const char *const *options)
{
    struct process p;
    struct rlimit files;
    char want[32];

    (void)snprintf(want, sizeof(want), "\"port\": \"%u\"", app_port);
    (void)setenv("NOTIFY_SOCKET", "/nowhere", 1);
    /* lastcall raises its own limit, as far as it may. */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    const struct rlimit fewer = {.rlim_cur = 500, .rlim_max = files.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &fewer), 0);
    start_up(&p, options, APP(PYTHON));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    (void)unsetenv("NOTIFY_SOCKET");
    char *answer = client_ask(&p, GET("/world"));
    assert_contains(answer, want);
    assert_contains(answer, "\"notify\": null");
    assert_contains(answer, "\"handover\": null");
    assert_contains(answer, "\"blocked\": \"0000000000000000\"");
    assert_contains(answer, "\"group\": true");
    assert_contains(answer, "\"files\": 500");
    assert_contains(answer, "\"descriptors\": {");
    assert_lacks(answer, "socket:"); /* a listener that it held would never close */
    assert_lacks(answer, "anon_inode:");
    free(answer);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

/* Lines of /proc/net/tcp that match. */
static unsigned count_sockets(const char *pattern)
{
    char command[192];
    unsigned count = 0;

    (void)snprintf(command, sizeof(command), "grep -ciE '%s' /proc/net/tcp", pattern);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    (void)!fscanf(out, "%u", &count);
    (void)pclose(out);
    return count;
}

void wait_taken(const struct process *p, unsigned connections)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;
    char sent[96], taken[96];

    (void)snprintf(sent, sizeof(sent),
                   "^ *[0-9]+: 0100007F:[0-9A-F]+ 0100007F:%04X 01 00000000:", p->port);
    (void)snprintf(taken, sizeof(taken), "^ *[0-9]+: 0100007F:%04X [0-9A-F:]+ 01 00000000:00000000",
                   p->port);
    while (count_sockets(sent) < connections || count_sockets(taken) < connections) {
        if (now_ns() > until_ns)
            fail_msg("%u of %u connections were read", count_sockets(taken), connections);
        (void)poll(NULL, 0, 5);
    }
}

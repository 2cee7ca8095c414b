#include "redis_server.h"

#include "loopback.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "redis.h"
#include "skip.h"

#define BINARY "/usr/bin/redis-server"
#define LIMIT_NS (20 * NS_PER_S)
#define ARGS_MAX 48

static pid_t left; /* one at a time is all that a test starts */

void redis_server_need(void)
{
    if (!redis_is_built())
        skip_test("built without hiredis");
    if (access(BINARY, X_OK) != 0)
        skip_test("needs redis-server (apt-get install redis-server)");
}

static void write_url(struct redis_server *server, const char *password)
{
    char query[384] = "";

    if (server->key != NULL && server->asks_who)
        (void)snprintf(query, sizeof(query), "?ca-file=%s&cert-file=%s&key-file=%s",
                       server->certificate, server->certificate, server->key);
    else if (server->key != NULL)
        (void)snprintf(query, sizeof(query), "?ca-file=%s", server->certificate);
    (void)snprintf(server->url, sizeof(server->url), "redis%s://%s%s%s127.0.0.1:%d/0%s",
                   server->key != NULL ? "s" : "", password != NULL ? ":" : "",
                   password != NULL ? password : "", password != NULL ? "@" : "", server->port,
                   query);
}

void redis_server_use_tls(struct redis_server *server, const char *key, const char *certificate,
                          bool asks)
{
    server->key = key;
    server->certificate = certificate;
    server->asks_who = asks;
    write_url(server, NULL);
}

void redis_server_init(struct redis_server *server)
{
    memset(server, 0, sizeof(*server));
    server->port = free_port();
    write_url(server, NULL);
    (void)snprintf(server->socket, sizeof(server->socket), "/tmp/lastcall-redis-%ld-%d",
                   (long)getpid(), server->port);
    (void)snprintf(server->log, sizeof(server->log), "%s.log", server->socket);
}

static void run(const struct redis_server *server, const char *password,
                const char *const *arguments)
{
    char port[16];
    const char *args[ARGS_MAX] = {BINARY,
                                  server->key != NULL ? "--tls-port" : "--port",
                                  port,
                                  "--bind",
                                  "127.0.0.1",
                                  "--save",
                                  "",
                                  "--appendonly",
                                  "no",
                                  "--dir",
                                  "/tmp",
                                  "--unixsocket",
                                  server->socket,
                                  "--unixsocketperm",
                                  "700",
                                  "--daemonize",
                                  "no"};
    size_t n = 0;

    (void)snprintf(port, sizeof(port), "%d", server->port);
    while (args[n] != NULL)
        n++;
    if (password != NULL) {
        args[n++] = "--requirepass";
        args[n++] = password;
    }
    if (server->key != NULL) {
        const char *const tls[] = {"--port",
                                   "0",
                                   "--tls-cert-file",
                                   server->certificate,
                                   "--tls-key-file",
                                   server->key,
                                   "--tls-ca-cert-file",
                                   server->certificate,
                                   "--tls-auth-clients",
                                   server->asks_who ? "yes" : "no"};
        memcpy(&args[n], tls, sizeof(tls));
        n += sizeof(tls) / sizeof(tls[0]);
    }
    for (; arguments != NULL && *arguments != NULL && n < ARGS_MAX - 1; arguments++)
        args[n++] = *arguments;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)dup2(open(server->log, O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
    execv(BINARY, (char *const *)args);
    _exit(127);
}

static struct redis *connect_to(const struct redis_server *server)
{
    char error[REDIS_ERROR_SIZE], tls_error[REDIS_TLS_ERROR_SIZE];
    struct redis_url url;
    struct redis *redis = NULL;

    assert_null(redis_url_parse(server->url, &url));
    if (redis_tls_load(&url, tls_error) != 0)
        fail_msg("%s: %s", server->url, tls_error);
    int err = redis_open(&url, -1, clock_now_ns() + LIMIT_NS, &redis, error);
    redis_url_release(&url);
    return err == 0 ? redis : NULL;
}

void redis_server_start(struct redis_server *server, const char *password,
                        const char *const *arguments)
{
    uint64_t until_ns = clock_now_ns() + LIMIT_NS;
    struct redis *redis;

    write_url(server, password);
    server->pid = fork();
    assert_true(server->pid >= 0);
    if (server->pid == 0)
        run(server, password, arguments);
    left = server->pid;
    while ((redis = connect_to(server)) == NULL) {
        if (clock_now_ns() > until_ns || waitpid(server->pid, NULL, WNOHANG) != 0)
            fail_msg("redis-server does not come up; see %s", server->log);
        (void)poll(NULL, 0, 5);
    }
    redis_close(redis);
}

void redis_server_stop(struct redis_server *server)
{
    if (server->pid == 0)
        return;
    (void)kill(server->pid, SIGKILL);
    (void)waitpid(server->pid, NULL, 0);
    (void)unlink(server->socket);
    (void)unlink(server->log);
    server->pid = left = 0;
}

int redis_server_kill_left(void **state)
{
    (void)state;
    if (left != 0) {
        (void)kill(left, SIGKILL);
        (void)waitpid(left, NULL, 0);
        left = 0;
    }
    return 0;
}

/* ---- asking ---- */

static void write_reply(FILE *out, const struct redis_reply *reply)
{
    const char *text = redis_reply_text(reply, NULL);
    size_t count = redis_reply_count(reply);

    for (size_t i = 0; i < count; i++) {
        write_reply(out, redis_reply_at(reply, i));
        (void)fputc('\n', out);
    }
    if (text != NULL)
        (void)fputs(text, out);
    else if (redis_reply_is_nil(reply))
        (void)fputs("(nil)", out);
    else if (!redis_reply_is_list(reply))
        (void)fprintf(out, "%lld", redis_reply_integer(reply));
}

char *redis_server_ask(const struct redis_server *server, const char *command)
{
    struct redis *redis = connect_to(server);
    struct redis_reply *reply = NULL;
    char words[4096], *at = words, *word, *text = NULL;
    const char *argv[64];
    size_t argc = 0, size = 0;

    if (redis == NULL)
        fail_msg("redis-server is not there for `%s`", command);
    (void)snprintf(words, sizeof(words), "%s", command);
    while ((word = strsep(&at, " ")) != NULL && argc < 64)
        argv[argc++] = word;
    if (redis_call(redis, clock_now_ns() + LIMIT_NS, argc, argv, NULL, &reply) != 0)
        fail_msg("`%s`: %s", command, redis_error(redis));
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    write_reply(out, reply);
    (void)fclose(out);
    redis_reply_free(reply);
    redis_close(redis);
    return text;
}

void redis_server_expect(const struct redis_server *server, const char *command, const char *want)
{
    char *answer = redis_server_ask(server, command);
    assert_string_equal(answer, want);
    free(answer);
}

void redis_server_wait(const struct redis_server *server, const char *command, const char *want)
{
    uint64_t until_ns = clock_now_ns() + LIMIT_NS;
    bool is_not = want[0] == '!';

    for (;;) {
        char *answer = redis_server_ask(server, command);
        if ((strcmp(answer, want + is_not) == 0) != is_not) {
            free(answer);
            return;
        }
        if (clock_now_ns() > until_ns)
            fail_msg("`%s` is still `%s` instead of `%s`", command, answer, want);
        free(answer);
        (void)poll(NULL, 0, 10);
    }
}

/* What a successor takes over besides listeners: the admin socket and the registration, both
 * without a gap; and connections that arrive when the predecessor gets its stop. */

#include "process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "admin_client.h"
#include "expect.h"
#include "handover.h"
#include "inherit.h"
#include "redis_server.h"

#define LIMIT_MS 30000
#define RESTARTS 3
#define ARGS(...)                                                                                  \
    ((const char *const[]){"--threads", "1", "--restart-probation", "20ms", "--deadline", "20s",   \
                           __VA_ARGS__, NULL})

static struct redis_server redis;

/* Restart `p`, and call `look` again and again until the next generation serves. */
static pid_t restart(struct process *p, pid_t pid, unsigned generation, void (*look)(void *),
                     void *arg)
{
    char text[64];
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    (void)snprintf(text, sizeof(text), "generation %u serves: process ", generation);
    assert_int_equal(kill(pid, SIGHUP), 0);
    while (!process_says(p, text, 1)) {
        if (now_ns() > until_ns)
            fail_msg("there is no generation %u; log:\n%s", generation, p->log);
        look(arg);
    }
    return (pid_t)strtol(strstr(p->log, text) + strlen(text), NULL, 10);
}

/* This process adopts what the ones that ended have left. */
static void wait_gone(pid_t pid, void (*look)(void *), void *arg)
{
    uint64_t until_ns = now_ns() + LIMIT_MS * NS_PER_MS;

    while (kill(pid, 0) == 0 && waitpid(pid, NULL, WNOHANG) != pid) {
        if (now_ns() > until_ns)
            fail_msg("process %ld does not end", (long)pid);
        look(arg);
        (void)poll(NULL, 0, 1);
    }
}

static void run_restarts(struct process *p, void (*look)(void *), void *arg)
{
    pid_t pid = p->pid;

    for (unsigned i = 0; i < RESTARTS; i++) {
        pid_t next = restart(p, pid, 2 + i, look, arg);
        if (pid == p->pid)
            process_expect(p, LIMIT_MS, 0);
        else
            wait_gone(pid, look, arg);
        look(arg);
        pid = next;
    }
    p->pid = pid; /* for the caller, to stop it */
    assert_int_equal(kill(pid, SIGTERM), 0);
}

static void look_at_nothing(void *arg)
{
    (void)arg;
}

static void look_at_admin(void *arg)
{
    const struct process *admin = arg;
    static const char request[] =
        "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    int fd = client_connect(admin); /* refused is a failure */

    (void)send(fd, request, strlen(request), MSG_NOSIGNAL);
    char *answer = client_read_until(fd, NULL); /* of one of the two, also in its last instant */
    assert_contains(answer, " 200 OK");
    assert_contains(answer, "live");
    free(answer);
    (void)close(fd);
}

static void test_admin_socket_answers_at_every_instant(void **state)
{
    struct process p, admin;
    char path[] = "/tmp/lastcall-passes-XXXXXX", address[64];
    (void)state;
    assert_non_null(mkdtemp(path));
    (void)snprintf(address, sizeof(address), "unix:%s/admin", path);
    process_start(&p, NULL, ARGS("--admin", address));
    admin = admin_of(&p);
    run_restarts(&p, look_at_admin, &admin);
    wait_gone(p.pid, look_at_nothing, NULL);
    assert_int_equal(access(admin_path(&admin), F_OK), -1); /* the last one took it away */
    assert_int_equal(rmdir(path), 0);
    process_release(&p);
}

static void look_at_key(void *arg)
{
    (void)arg;
    char *value = redis_server_ask(&redis, "GET service");
    assert_string_not_equal(value, "(nil)");
    free(value);
}

static void test_registration_is_there_at_every_instant(void **state)
{
    struct process p;
    (void)state;
    redis_server_need();
    redis_server_init(&redis);
    redis_server_start(&redis, NULL, NULL);
    process_start(
        &p, NULL,
        ARGS("--register", redis.url, "--register-key", "service", "--register-value", "%i"));
    redis_server_wait(&redis, "GET service", "!(nil)");
    char *first = redis_server_ask(&redis, "GET service");
    run_restarts(&p, look_at_key, NULL);
    redis_server_wait(&redis, "GET service", "(nil)"); /* by the last one's stop */
    free(first);
    process_release(&p);
    redis_server_stop(&redis);
}

/* ---- connections on the way ---- */

#define MESSAGES 40
#define ON_THE_WAY ((size_t)MESSAGES * MESSAGE_FDS_MAX)

/* We are the predecessor. */
struct predecessor {
    int listener;
    uint64_t id;
    int channel, conns; /* our ends */
    int theirs[2];
};

static void send_message(const struct predecessor *we, enum handover_type type,
                         const struct inherited *listener, int fd)
{
    struct message message;

    handover_begin(&message, type);
    if (listener != NULL)
        inherit_put(listener, &message);
    if (fd >= 0)
        message_put_fd(&message, fd);
    assert_int_equal(message_send(we->channel, &message), 0);
}

static void wait_message(const struct predecessor *we, enum handover_type type)
{
    struct message message = {0};
    int err;

    do {
        struct pollfd in = {.fd = we->channel, .events = POLLIN};
        assert_int_equal(poll(&in, 1, LIMIT_MS), 1);
        err = handover_receive(we->channel, &message);
        message_release(&message);
    } while (err == 0 && message.type != type);
    assert_int_equal(err, 0);
}

static void begin_to_precede(struct predecessor *we)
{
    struct inherited item = {.name = "127.0.0.1:0"};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int pair[2];

    memcpy(&item.address, &in, sizeof(in)); /* as in the configuration: port 0 */
    item.address_length = sizeof(in);
    item.fd = we->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(we->listener, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(listen(we->listener, 128), 0);
    item.id = we->id = handover_socket_id(we->listener);
    assert_int_equal(message_pair(pair), 0);
    we->channel = pair[0];
    we->theirs[0] = pair[1];
    assert_int_equal(message_pair(pair), 0);
    we->conns = pair[0];
    we->theirs[1] = pair[1];
    send_message(we, HANDOVER_HELLO, NULL, -1);
    send_message(we, HANDOVER_LISTENER, &item, -1);
    send_message(we, HANDOVER_BEGIN, NULL, we->theirs[1]);
}

static void start_successor(struct predecessor *we, struct process *p)
{
    char fd[16];

    (void)snprintf(fd, sizeof(fd), "%d", we->theirs[0]);
    (void)fcntl(we->theirs[0], F_SETFD, 0);
    assert_int_equal(setenv(MESSAGE_ENVIRONMENT, fd, 1), 0);
    process_spawn(p, (const char *const[]){"--listen", "127.0.0.1:0", "--threads", "1", "--admin",
                                           "off", "--idle-grace", "100ms", NULL});
    (void)unsetenv(MESSAGE_ENVIRONMENT);
    wait_message(we, HANDOVER_READY);
    send_message(we, HANDOVER_COMMIT, NULL, -1);
    wait_message(we, HANDOVER_SETTLED);
    (void)close(we->theirs[0]);
    (void)close(we->theirs[1]);
}

/* Each has an unread request in the kernel. */
static void put_on_the_way(const struct predecessor *we, const struct process *p, int *ret_clients)
{
    for (size_t i = 0; i < MESSAGES; i++) {
        struct message message;
        uint64_t came_by[MESSAGE_FDS_MAX];
        int accepted[MESSAGE_FDS_MAX];

        handover_begin(&message, HANDOVER_CONNS);
        for (size_t j = 0; j < MESSAGE_FDS_MAX; j++) {
            int client = client_connect(p);
            struct pollfd in = {.fd = we->listener, .events = POLLIN};
            assert_int_equal(poll(&in, 1, LIMIT_MS), 1);
            accepted[j] = accept4(we->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
            assert_true(accepted[j] >= 0);
            client_send(client, "GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
            came_by[j] = we->id;
            message_put_fd(&message, accepted[j]);
            ret_clients[i * MESSAGE_FDS_MAX + j] = client;
        }
        message_put(&message, HANDOVER_CAME_BY, came_by, sizeof(came_by));
        assert_int_equal(message_send(we->conns, &message), 0);
        for (size_t j = 0; j < MESSAGE_FDS_MAX; j++)
            (void)close(accepted[j]);
    }
}

static void test_successor_that_stops_takes_what_is_on_the_way(void **state)
{
    struct predecessor we;
    struct process p;
    static int clients[ON_THE_WAY];
    struct sockaddr_in in;
    socklen_t length = sizeof(in);
    struct rlimit files;
    size_t unanswered = 0;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    begin_to_precede(&we);
    start_successor(&we, &p);
    assert_int_equal(getsockname(we.listener, (struct sockaddr *)&in, &length), 0);
    (void)snprintf(p.address, sizeof(p.address), "127.0.0.1:%u", ntohs(in.sin_port));
    p.port = ntohs(in.sin_port);
    process_signal(&p, SIGSTOP); /* or it would accept, too */
    put_on_the_way(&we, &p, clients);
    process_signal(&p, SIGTERM);
    process_signal(&p, SIGCONT);
    for (size_t i = 0; i < ON_THE_WAY; i++) {
        char *answer = client_read_answer(clients[i]);
        unanswered += answer == NULL || strstr(answer, " 200 OK") == NULL;
        free(answer);
        (void)close(clients[i]);
    }
    process_expect(&p, LIMIT_MS, 0);
    if (unanswered > 0)
        fail_msg("%zu of %zu were not answered; log:\n%s", unanswered, ON_THE_WAY, p.log);
    process_release(&p);
    (void)close(we.listener);
    (void)close(we.channel);
    (void)close(we.conns);
}

static int tear_down(void **state)
{
    (void)redis_server_kill_left(state);
    return process_kill_left(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_admin_socket_answers_at_every_instant, tear_down),
        cmocka_unit_test_teardown(test_registration_is_there_at_every_instant, tear_down),
        cmocka_unit_test_teardown(test_successor_that_stops_takes_what_is_on_the_way, tear_down),
    };
    (void)alarm(240);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    return cmocka_run_group_tests_name("restart_passes", tests, NULL, NULL);
}

#include "with_upstream.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "loopback.h"

#define LIMIT_MS 20000

const char *protocol_name(enum answer_protocol protocol)
{
    static const char *const names[] = {"HTTP/1.0", "HTTP/1.1", "HTTP/2"};
    return names[protocol];
}

/* The next request of the front, on a new connection or on the one that it has kept. */
void take_connection(struct fixture *f)
{
    for (;;) {
        struct pollfd ready[] = {{.fd = f->listener, .events = POLLIN},
                                 {.fd = f->upstream, .events = POLLIN}};
        char byte;
        if (poll(ready, 2, LIMIT_MS) < 0) {
            assert_int_equal(errno, EINTR);
            continue;
        }
        assert_true(ready[0].revents != 0 || ready[1].revents != 0);
        if (ready[1].revents != 0 && client_recv(f->upstream, &byte, 1, MSG_PEEK) == 1)
            return;
        (void)close(f->upstream);
        f->upstream = -1;
        if (ready[0].revents != 0) {
            f->upstream = accept(f->listener, NULL, NULL);
            assert_true(f->upstream >= 0);
        }
    }
}

void take_request(struct fixture *f)
{
    take_connection(f);
    free(client_read_until(f->upstream, "\r\n\r\n"));
}

void end_upstream(struct fixture *f, enum upstream_end end)
{
    const struct linger now = {.l_onoff = 1};

    if (end == KEEP)
        return;
    if (end == RESET)
        assert_int_equal(setsockopt(f->upstream, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    (void)close(f->upstream);
    f->upstream = -1;
}

bool has_connection(const struct fixture *f, int wait_ms)
{
    struct pollfd ready = {.fd = f->listener, .events = POLLIN};
    int n;

    do
        n = poll(&ready, 1, wait_ms);
    while (n < 0 && errno == EINTR);
    return n > 0;
}

size_t send_what_is_taken(struct fixture *f, const char *bytes, size_t size, size_t most)
{
    struct pollfd ready = {.fd = f->upstream, .events = POLLOUT};
    size_t sent = 0;

    while (sent < most && poll(&ready, 1, 500) > 0) {
        ssize_t n = send(f->upstream, bytes, most - sent < size ? most - sent : size,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0)
            assert_int_equal(errno, EAGAIN);
        else
            sent += (size_t)n;
    }
    return sent;
}

void ask_for(struct fixture *f, enum answer_protocol protocol, bool head, const char *path)
{
    char bytes[1024];

    if (f->client < 0)
        f->client = client_connect(&f->front);
    size_t size = answer_request(protocol, head, path, bytes, sizeof(bytes));
    assert_int_equal(send(f->client, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
}

void ask(struct fixture *f, enum answer_protocol protocol, bool head)
{
    ask_for(f, protocol, head, "/x");
}

enum answer_state read_answer(struct fixture *f, enum answer_protocol protocol, bool head,
                              struct answer *ret_answer)
{
    static char bytes[1 << 20];
    enum connection_end end = CONNECTION_OPEN;
    size_t size = 0;

    for (;;) {
        enum answer_state state = answer_read(protocol, head, bytes, size, end, ret_answer);
        if (state != ANSWER_MORE || end != CONNECTION_OPEN)
            return state;
        answer_release(ret_answer);
        ssize_t n = client_recv(f->client, bytes + size, sizeof(bytes) - size, 0);
        if (n < 0 && errno == EAGAIN)
            fail_msg("nothing came for 30 s");
        if (n > 0)
            size += (size_t)n;
        else
            end = n == 0 ? CONNECTION_CLOSED : CONNECTION_RESET;
    }
}

void expect_status(struct fixture *f, int status)
{
    struct answer answer;

    assert_int_equal(read_answer(f, ANSWER_HTTP11, false, &answer), ANSWER_WHOLE);
    assert_int_equal(answer.status, status);
    answer_release(&answer);
}

void hang_up(struct fixture *f)
{
    (void)close(f->client);
    f->client = -1;
}

struct answer exchange(struct fixture *f, enum answer_protocol protocol, bool head,
                       const char *reply, enum upstream_end end, enum answer_state want)
{
    struct answer answer;

    ask(f, protocol, head);
    take_request(f);
    client_send(f->upstream, reply);
    end_upstream(f, end);
    enum answer_state got = read_answer(f, protocol, head, &answer);
    if (got != want)
        fail_msg(
            "%s, %.200s: the client sees an answer that is %s, not %s (status %d, body %s; %s)",
            protocol_name(protocol), reply, answer_state_name(got), answer_state_name(want),
            answer.status, answer.body != NULL ? answer.body : "", answer.fault);
    hang_up(f);
    return answer;
}

struct fixture *fixture_begin(void **state, uint16_t *ret_port)
{
    static struct fixture fixture;

    fixture = (struct fixture){.upstream = -1, .client = -1};
    fixture.listener = listen_here(ret_port, 16);
    *state = &fixture;
    return &fixture;
}

int fixture_start(void **state, const char *text)
{
    uint16_t port;
    struct fixture *f = fixture_begin(state, &port);
    FILE *file = fopen(in_directory("conf"), "w");

    assert_non_null(file);
    (void)fputs("listen: {host: 127.0.0.1, port: 0}\nnum-threads: 1\n", file);
    for (; *text != '\0'; text++) {
        if (*text == '@')
            (void)fprintf(file, "%u", port);
        else
            (void)fputc(*text, file);
    }
    assert_int_equal(fclose(file), 0);
    process_start_configured(&f->front,
                             (const char *const[]){"--conf", in_directory("conf"), NULL});
    return 0;
}

int fixture_tear_down(void **state)
{
    struct fixture *f = *state;

    (void)close(f->client);
    (void)close(f->upstream);
    (void)close(f->listener);
    assert_false(process_is_gone(&f->front));
    process_release(&f->front);
    return process_kill_left(state);
}

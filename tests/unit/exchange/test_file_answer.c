/* Answers whose body is in a file. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"
#include "h2_by_hand.h"
#include "with_server.h"

#define LARGE (UINT64_C(100) << 20)
#define MORE_MEMORY_KB (30 * 1024) /* what a client of a large file may cost, with slack */

static int source = -1; /* LARGE bytes, each the number of its 64 KiB */
static sem_t entered;

static uint8_t byte_at(uint64_t at)
{
    return (uint8_t)((at >> 16) * 7 + (at & 63));
}

static int make_source(void **state)
{
    static uint8_t piece[65536];

    (void)state;
    source = memfd_create("source", MFD_CLOEXEC);
    assert_true(source >= 0);
    for (uint64_t at = 0; at < LARGE; at += sizeof(piece)) {
        for (size_t i = 0; i < sizeof(piece); i++)
            piece[i] = byte_at(at + i);
        assert_int_equal(pwrite(source, piece, sizeof(piece), (off_t)at), sizeof(piece));
    }
    return 0;
}

static int setup(void **state)
{
    (void)state;
    sem_init(&entered, 0, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)serve_end_left(state);
    sem_destroy(&entered);
    return 0;
}

/* ?FROM,BYTES */
static void send_file(struct exchange *exchange, void *user)
{
    unsigned long long from = 0, bytes = 0;

    (void)user;
    (void)sscanf(exchange->query, "%llu,%llu", &from, &bytes);
    exchange->content_type = "application/octet-stream";
    exchange->file_fd = dup(source);
    exchange->file_at = from;
    exchange->file_bytes = bytes;
    sem_post(&entered);
}

static const struct served routes[] = {{"/f", {.handler = send_file}}, {.pattern = NULL}};

/* Read `bytes` of the body, which begin at `from` of the file; returns how many came. */
static uint64_t read_body(int fd, uint64_t from, uint64_t bytes)
{
    static uint8_t piece[1 << 16];
    uint64_t got = 0;
    ssize_t n = 1;

    while (got < bytes && n > 0) {
        size_t most = bytes - got < sizeof(piece) ? (size_t)(bytes - got) : sizeof(piece);
        n = client_recv(fd, piece, most, 0);
        for (ssize_t i = 0; i < n; i++)
            if (piece[i] != byte_at(from + got + (uint64_t)i))
                fail_msg("another byte at %llu", (unsigned long long)got);
        got += n > 0 ? (uint64_t)n : 0;
    }
    return got;
}

/* The head alone; the body stays in the socket. */
static void read_head(int fd, const char *want)
{
    char head[2048];
    size_t n = 0;

    while (n < 4 || memcmp(head + n - 4, "\r\n\r\n", 4) != 0) {
        assert_true(n < sizeof(head) - 1);
        assert_int_equal(client_recv(fd, head + n, 1, 0), 1);
        n++;
    }
    head[n] = '\0';
    assert_contains(head, want);
}

static void test_a_part_of_a_file_is_sent(void **state)
{
    (void)state;
    serve(routes, NULL);
    int fd = client_connect(&served_at);
    client_send(fd, GET("/f?1000,200000"));
    read_head(fd, "Content-Length: 200000\r\n");
    assert_int_equal(read_body(fd, 1000, 200000), 200000);
    client_send(fd, GET("/f?0,0"));
    read_head(fd, "Content-Length: 0\r\n");
    client_send(fd, "HEAD /f?0,5000 HTTP/1.1\r\nHost: t\r\n\r\n" GET("/f?7,1"));
    read_head(fd, "Content-Length: 5000\r\n");
    read_head(fd, "Content-Length: 1\r\n");
    assert_int_equal(read_body(fd, 7, 1), 1);
    (void)close(fd);
    assert_int_equal(serve_end(), 0);
}

static long memory_kb(void)
{
    struct rusage usage;

    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return usage.ru_maxrss;
}

static void test_a_large_file_takes_little_memory(void **state)
{
    (void)state;
    serve(routes, NULL);
    char request[128];
    long before = memory_kb();
    int fd = client_connect(&served_at);
    (void)snprintf(request, sizeof(request), GET("/f?0,%llu"), (unsigned long long)LARGE);
    client_send(fd, request);
    read_head(fd, "HTTP/1.1 200 OK\r\n");
    assert_int_equal(read_body(fd, 0, LARGE), LARGE);
    assert_true(memory_kb() - before < MORE_MEMORY_KB);
    (void)close(fd);
    assert_int_equal(serve_end(), 0);
}

static void test_a_file_that_is_too_short_looks_broken(void **state)
{
    static struct h2_got got;

    (void)state;
    serve(routes, NULL);
    int fd = client_connect(&served_at);
    char request[128];
    (void)snprintf(request, sizeof(request), GET("/f?%llu,100000"),
                   (unsigned long long)LARGE - 1000);
    client_send(fd, request);
    read_head(fd, "Content-Length: 100000\r\n");
    assert_int_equal(read_body(fd, LARGE - 1000, 100000), 1000); /* and then the end */
    (void)close(fd);

    fd = h2_connect(&served_at, false);
    (void)snprintf(request, sizeof(request), "/f?%llu,100000", (unsigned long long)LARGE - 1000);
    h2_send_get(fd, 1, request);
    assert_true(h2_await(fd, H2_RST, 1, &got));
    (void)close(fd);
    served_wait(served_active, 0);
    assert_int_equal(served_answered(), 0);
}

static uint64_t open_descriptors(void)
{
    uint64_t n = 0;

    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void test_a_client_that_leaves_closes_the_file(void **state)
{
    (void)state;
    serve(routes, NULL);
    uint64_t before = open_descriptors();
    for (unsigned i = 0; i < 5; i++) {
        int fd = client_connect(&served_at);
        client_send(fd, GET("/f?0,50000000"));
        await(&entered);
        read_head(fd, "HTTP/1.1 200 OK\r\n");
        (void)close(fd);
    }
    served_wait(open_descriptors, before); /* the connections', too */
    assert_int_equal(serve_end(), 0);
}

#define CLAIM(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(test_a_part_of_a_file_is_sent),
        CLAIM(test_a_large_file_takes_little_memory),
        CLAIM(test_a_file_that_is_too_short_looks_broken),
        CLAIM(test_a_client_that_leaves_closes_the_file),
    };
    return cmocka_run_group_tests_name("file_answer", tests, make_source, NULL);
}

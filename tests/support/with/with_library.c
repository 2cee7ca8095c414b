#include "with_library.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"

static struct library_log unread;

int library_group_setup(void **state)
{
    if (make_directory(state) != 0)
        return -1;
    FILE *file = fopen(library_conf(), "we");
    if (file == NULL)
        return -1;
    (void)fputs("hosts:\n  default:\n    paths:\n      /hello: {handler: hello}\n"
                "      /sleep: {handler: sleep}\n",
                file);
    return fclose(file);
}

int library_group_teardown(void **state)
{
    return remove_directory(state);
}

const char *library_conf(void)
{
    return in_directory("lastcall.conf");
}

/* One line at a time comes here: see lc_on_log(). */
static void on_line(int level, const char *event, const char *text, const char *json, void *user)
{
    struct library_log *log = user;

    assert_true(level >= LC_LOG_ERROR && level <= LC_LOG_INFO);
    assert_int_equal(json[0], '{');
    log->lines++;
    int n = snprintf(log->text + log->size, sizeof(log->text) - log->size, "%s: %s\n", event, text);
    if (n > 0 && (size_t)n < sizeof(log->text) - log->size)
        log->size += (size_t)n;
}

void library_log_to(lc_server *server, struct library_log *log)
{
    if (log != NULL)
        memset(log, 0, sizeof(*log));
    unread.size = 0;
    assert_int_equal(lc_on_log(server, on_line, log != NULL ? log : &unread), 0);
}

lc_server *library_new(struct library_log *log)
{
    lc_server *server = lc_new();

    assert_non_null(server);
    library_log_to(server, log);
    assert_int_equal(lc_conf(server, library_conf()), 0);
    assert_int_equal(lc_set(server, "num-threads", "2"), 0);
    assert_int_equal(lc_set(server, "drain.idle-grace", "100ms"), 0);
    assert_int_equal(lc_listen(server, "127.0.0.1:0"), 0);
    return server;
}

lc_server *library_start(struct library_log *log)
{
    lc_server *server = library_new(log);
    int result = lc_start(server);

    if (result != LC_OK)
        fail_msg("%s: %s", lc_strerror(result), lc_errmsg(server));
    return server;
}

int library_connect(int port)
{
    const struct sockaddr_in there = {.sin_family = AF_INET,
                                      .sin_port = htons((uint16_t)port),
                                      .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    if (connect(fd, (const struct sockaddr *)&there, sizeof(there)) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

int library_ask(int port, const char *path)
{
    char request[256];
    int fd = library_connect(port);

    if (fd < 0)
        return -1;
    int n = snprintf(request, sizeof(request),
                     "GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", path);
    assert_int_equal(send(fd, request, (size_t)n, MSG_NOSIGNAL), n);
    return fd;
}

int library_answer(int fd)
{
    char answer[4096];
    size_t size = 0;
    ssize_t n;

    if (fd < 0)
        return 0;
    while (size < sizeof(answer) - 1 &&
           (n = read(fd, answer + size, sizeof(answer) - 1 - size)) > 0)
        size += (size_t)n;
    answer[size] = '\0';
    (void)close(fd);
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? atoi(answer + 9) : 0;
}

int library_get(int port, const char *path)
{
    return library_answer(library_ask(port, path));
}

static size_t entries(const char *path)
{
    DIR *folder = opendir(path);
    size_t count = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    (void)closedir(folder);
    return count - 2; /* . and .. */
}

size_t library_descriptors(void)
{
    return entries("/proc/self/fd") - 1; /* the one that looks */
}

size_t library_threads(void)
{
    return entries("/proc/self/task");
}

unsigned library_cycles(unsigned usual)
{
    const char *text = getenv("LASTCALL_CYCLES");
    int cycles = text != NULL ? atoi(text) : 0;

    return cycles > 0 ? (unsigned)cycles : usual;
}

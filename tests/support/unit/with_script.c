#include "with_script.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "log.h"

#define PATIENCE_S 60
#define NS_PER_S UINT64_C(1000000000)

struct cgi_exchange fake;
struct cgi_settings settings;
static bool has_request;

/* As in a server: a script that does not read must not end the process. */
int script_begin(void **state)
{
    log_init(LOG_FORMAT_TEXT, false);
    (void)signal(SIGPIPE, SIG_IGN);
    return make_directory(state);
}

int script_finish(void **state)
{
    return remove_directory(state);
}

int script_set_up(void **state)
{
    static char dir_variable[256];

    (void)state;
    (void)snprintf(dir_variable, sizeof(dir_variable), "DIR=%s", directory);
    settings = (struct cgi_settings){.dir = directory,
                                     .mount = "/",
                                     .owner = &settings,
                                     .timeout_ns = PATIENCE_S * NS_PER_S,
                                     .write_timeout_ns = PATIENCE_S * NS_PER_S,
                                     .grace_ns = PATIENCE_S * NS_PER_S,
                                     .held_ns = PATIENCE_S * NS_PER_S,
                                     .env = {dir_variable},
                                     .env_count = 1};
    has_request = false;
    (void)alarm(2 * PATIENCE_S);
    return 0;
}

int script_clean_up(void **state)
{
    (void)state;
    (void)alarm(0);
    if (has_request)
        cgi_exchange_release(&fake);
    has_request = false;
    return 0;
}

void script_write(const char *text)
{
    const char *path = in_directory("script");

    /* A new file: the old one may still be running. */
    (void)unlink(path);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fprintf(file, "#!/bin/sh\n%s\n", text) > 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, 0755), 0);
}

void script_request(const char *method, const char *path)
{
    if (has_request)
        cgi_exchange_release(&fake);
    cgi_exchange_init(&fake, method, path);
    has_request = true;
}

void script_run(void)
{
    char error[CGI_ERROR_SIZE];
    struct cgi *cgi;

    assert_int_equal(cgi_create(&settings, &cgi, error), 0);
    cgi_handle(&fake.exchange, cgi);
    cgi_destroy(cgi);
}

void script_get(const char *text)
{
    script_write(text);
    script_request("GET", "/script");
    script_run();
}

void assert_body(const char *want)
{
    char *body = cgi_exchange_body(&fake);
    assert_string_equal(body, want);
    free(body);
}

char *script_file(const char *name)
{
    char *text = calloc(1, 65536);
    int fd = open(in_directory(name), O_RDONLY | O_CLOEXEC);

    assert_non_null(text);
    assert_true(fd >= 0);
    (void)!read(fd, text, 65535);
    (void)close(fd);
    return text;
}

int script_open_fifo(const char *name)
{
    assert_int_equal(mkfifo(in_directory(name), 0600), 0);
    int fd = open(in_directory(name), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

void script_wait_fifo(int fd)
{
    struct pollfd end = {.fd = fd};
    assert_int_equal(poll(&end, 1, PATIENCE_S * 1000), 1);
    assert_true((end.revents & POLLHUP) != 0);
    (void)close(fd);
}

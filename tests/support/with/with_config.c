#include "with_config.h"

#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "certificate.h"
#include "expect.h"

/* ---- files ---- */

/* Each `@` in `text` stands for the directory. */
static void write_expanded(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '@')
            (void)fputs(directory, out);
        else
            (void)fputc(*text, out);
    }
}

const char *write_file(const char *name, const char *text)
{
    const char *path = in_directory(name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    write_expanded(file, text);
    assert_int_equal(fclose(file), 0);
    return path;
}

const char *expanded(const char *text)
{
    static char buffers[4][1024];
    static unsigned next;
    char *buffer = buffers[next++ % 4];
    FILE *out = fmemopen(buffer, sizeof(buffers[0]), "w");
    assert_non_null(out);
    write_expanded(out, text);
    assert_int_equal(fclose(out), 0);
    return buffer;
}

char *read_file(const char *path)
{
    char *text = calloc(1, 65536);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    (void)!fread(text, 1, 65535, file);
    (void)fclose(file);
    return text;
}

bool is_there(const char *name)
{
    struct stat st;
    return lstat(in_directory(name), &st) == 0;
}

/* ---- processes ---- */

void start_with(struct process *p, const char *text, const char *const *more)
{
    const char *args[16] = {"-c", write_file("x.conf", text)};
    for (size_t i = 0; more != NULL && more[i] != NULL; i++)
        args[2 + i] = more[i];
    process_start_configured(p, args);
}

void start(struct process *p, const char *text)
{
    start_with(p, text, NULL);
}

void stop(struct process *p)
{
    process_signal(p, SIGTERM);
    process_expect(p, LIMIT_MS, 0);
}

void finish(struct process *p)
{
    stop(p);
    process_release(p);
}

struct process listener(struct process *p, unsigned n)
{
    for (;;) {
        const char *at = p->log;
        for (unsigned i = 0; at != NULL && i <= n; i++)
            if ((at = strstr(at, "listening on ")) != NULL)
                at += strlen("listening on ");
        if (at != NULL && strchr(at, '\n') != NULL) {
            struct process to = *p;
            size_t length = strcspn(at, "\n");
            assert_true(length < sizeof(to.address));
            memcpy(to.address, at, length);
            to.address[length] = '\0';
            const char *colon = strrchr(to.address, ':');
            to.port = (uint16_t)strtoul(colon + 1, NULL, 10);
            return to;
        }
        struct pollfd log = {.fd = p->log_fd, .events = POLLIN};
        char bytes[1024];
        assert_int_equal(poll(&log, 1, LIMIT_MS), 1);
        ssize_t got = read(p->log_fd, bytes, sizeof(bytes));
        assert_true(got > 0);
        p->log = realloc(p->log, p->log_bytes + (size_t)got + 1);
        memcpy(p->log + p->log_bytes, bytes, (size_t)got);
        p->log_bytes += (size_t)got;
        p->log[p->log_bytes] = '\0';
    }
}

unsigned lines_of(const char *text)
{
    unsigned lines = 0;
    for (; (text = strchr(text, '\n')) != NULL; text++)
        lines++;
    return lines;
}

void assert_accepted(const char *text)
{
    struct process p;

    process_spawn(&p, ARGS("-t", "-c", write_file("x.conf", text)));
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

void assert_ends(const char *const *argv, int status, unsigned lines, const char *line)
{
    struct process p;
    process_spawn(&p, argv);
    process_expect(&p, LIMIT_MS, status);
    assert_contains(p.log, expanded(line));
    if (lines_of(p.log) != lines)
        fail_msg("%u lines instead of %u:\n%s", lines_of(p.log), lines, p.log);
    process_release(&p);
}

/* ---- each program ---- */

int with_config_set_up(void **state)
{
    char binary[4096];
    const char *given = getenv("LASTCALL_BINARY");

    /* It is run from another directory too, and by a shell. */
    if (realpath(given != NULL ? given : "build/release/lastcall", binary) == NULL ||
        setenv("LASTCALL_BINARY", binary, 1) != 0)
        return -1;
    (void)signal(SIGPIPE, SIG_IGN); /* see tls_client.h */
    if (make_directory(state) != 0 || chmod(directory, 0777) != 0)
        return -1;
    certificate_write(in_directory("a.key"), in_directory("a.crt"));
    certificate_write(in_directory("b.key"), in_directory("b.crt"));
    certificate_write(in_directory("c.key"), in_directory("c.crt"));
    return 0;
}

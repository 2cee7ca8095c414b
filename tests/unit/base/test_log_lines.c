/* Lines of the log as others get them: several processes write to one pipe, and the journal of
 * systemd reads what is written for it. */

#include "log.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "expect.h"

#define HANG_S 120
#define WRITERS 4
#define LINES 200

static int real_stderr = -1;

static int setup(void **state)
{
    (void)state;
    alarm(HANG_S);
    (void)unsetenv("JOURNAL_STREAM");
    real_stderr = dup(STDERR_FILENO);
    return real_stderr >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    (void)dup2(real_stderr, STDERR_FILENO);
    (void)close(real_stderr);
    alarm(0);
    return 0;
}

/* `n` bytes that JSON has to escape, or that are more than one byte each. */
static char *long_text(size_t n, const char *piece)
{
    char *text = calloc(n + 8, 1);
    for (size_t at = 0; at < n; at += strlen(piece))
        (void)strcpy(text + at, piece);
    return text;
}

/* ---- many writers ---- */

static void write_lines(enum log_format format, int out)
{
    char *quotes = long_text(3000, "\""), *words = long_text(9000, "\xc3\xa9");

    (void)dup2(out, STDERR_FILENO);
    log_init(format, false);
    for (int i = 0; i < LINES; i++)
        log_line(LOG_LEVEL_WARN, "long",
                 json_pack("{s:i, s:s, s:s, s:[s,s]}", "number", i, "quotes", quotes, "words",
                           words, "list", quotes, words),
                 "%s", i % 2 == 0 ? quotes : "short");
    free(quotes);
    free(words);
    _exit(0);
}

/* All that they write to one pipe, read slowly enough for it to be full.     Owner: the caller. */
static char *read_writers(enum log_format format)
{
    char *text = NULL;
    size_t size = 0, used = 0;
    int pipe_fds[2];

    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    for (int i = 0; i < WRITERS; i++)
        if (fork() == 0)
            write_lines(format, pipe_fds[1]);
    (void)close(pipe_fds[1]);
    for (ssize_t n = 1; n > 0; used += n > 0 ? (size_t)n : 0) {
        if (size - used < 8192)
            text = realloc(text, size += 1 << 20);
        n = read(pipe_fds[0], text + used, 4000);
    }
    text[used] = '\0';
    (void)close(pipe_fds[0]);
    for (int i = 0; i < WRITERS; i++)
        assert_true(wait(NULL) > 0);
    return text;
}

static void test_json_of_several_processes_stays_whole(void **state)
{
    char *text = read_writers(LOG_FORMAT_JSON), *rest = text, *line;
    size_t lines = 0, cut = 0;
    (void)state;

    while ((line = strsep(&rest, "\n")) != NULL && line[0] != '\0') {
        json_error_t error;
        json_t *object = json_loads(line, JSON_REJECT_DUPLICATES, &error);
        if (object == NULL)
            fail_msg("line %zu is not JSON: %s: %.200s", lines, error.text, line);
        if (json_object_get(object, "lines") == NULL) { /* else: so many were dropped */
            assert_string_equal(json_string_value(json_object_get(object, "event")), "long");
            assert_true(json_is_integer(json_object_get(object, "number")));
        }
        cut += json_is_true(json_object_get(object, "cut"));
        json_decref(object);
        lines++;
    }
    assert_true(lines > 0 && cut > 0);
    free(text);
}

static void test_text_of_several_processes_stays_whole(void **state)
{
    char *text = read_writers(LOG_FORMAT_TEXT), *rest = text, *line;
    (void)state;

    while ((line = strsep(&rest, "\n")) != NULL && line[0] != '\0') {
        const char *said = strstr(line, "warning: ");
        if (said == NULL) {
            assert_contains(line, "log lines dropped");
            continue;
        }
        said += strlen("warning: ");
        if (strcmp(said, "short") != 0 && strspn(said, "\"") != strlen(said))
            fail_msg("a torn line: %.200s", line);
    }
    free(text);
}

/* A regular file takes a write of any size whole. */
static void test_a_file_gets_all_of_a_line(void **state)
{
    char *words = long_text(9000, "\xc3\xa9"), read_back[32768];
    int file = memfd_create("log", MFD_CLOEXEC);
    (void)state;

    (void)dup2(file, STDERR_FILENO);
    log_init(LOG_FORMAT_JSON, false);
    log_line(LOG_LEVEL_WARN, "long", json_pack("{s:s}", "words", words), "all of it");
    ssize_t n = pread(file, read_back, sizeof(read_back) - 1, 0);
    assert_true(n > 9000);
    read_back[n] = '\0';
    json_t *object = json_loads(read_back, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(object, "words")), words);
    assert_null(json_object_get(object, "cut"));
    json_decref(object);
    (void)close(file);
    free(words);
}

/* ---- the journal ---- */

static int journal[2];
static char heard[8192];

static void become_journal(enum log_format format)
{
    char name[64];
    struct stat st;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, journal), 0);
    (void)dup2(journal[1], STDERR_FILENO);
    assert_int_equal(fstat(STDERR_FILENO, &st), 0);
    (void)snprintf(name, sizeof(name), "%lu:%lu", (unsigned long)st.st_dev,
                   (unsigned long)st.st_ino);
    (void)setenv("JOURNAL_STREAM", name, 1);
    log_init(format, false);
}

static const char *what_journal_heard(void)
{
    ssize_t n = recv(journal[0], heard, sizeof(heard) - 1, MSG_DONTWAIT);
    heard[n > 0 ? n : 0] = '\0';
    return heard;
}

static void close_journal(void)
{
    (void)close(journal[0]);
    (void)close(journal[1]);
}

static void test_the_journal_gets_a_priority_and_no_time(void **state)
{
    (void)state;
    become_journal(LOG_FORMAT_TEXT);
    log_line(LOG_LEVEL_ERROR, "e", NULL, "it burns");
    assert_string_equal(what_journal_heard(), "<3>error: it burns\n");
    log_line(LOG_LEVEL_WARN, "w", NULL, "it smokes");
    assert_string_equal(what_journal_heard(), "<4>warning: it smokes\n");
    log_line(LOG_LEVEL_INFO, "i", NULL, "it is warm");
    assert_string_equal(what_journal_heard(), "<6>it is warm\n");
    close_journal();
}

static void test_json_is_the_same_for_the_journal(void **state)
{
    (void)state;
    become_journal(LOG_FORMAT_JSON);
    log_line(LOG_LEVEL_ERROR, "e", NULL, "it burns");
    assert_contains(what_journal_heard(), "{\"time\":\"");
    close_journal();
}

/* What a service has opened or piped since is no journal, though the variable is still there. */
static void test_another_standard_error_gets_the_time(void **state)
{
    int pipe_fds[2];
    (void)state;
    become_journal(LOG_FORMAT_TEXT);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    (void)dup2(pipe_fds[1], STDERR_FILENO);
    log_look(-1);
    log_line(LOG_LEVEL_ERROR, "e", NULL, "it burns");
    ssize_t n = read(pipe_fds[0], heard, sizeof(heard) - 1);
    heard[n > 0 ? n : 0] = '\0';
    assert_contains(heard, "Z error: it burns\n");
    assert_lacks(heard, "<3>");
    log_look(journal[1]); /* the pipe's reader passes it on to the journal */
    log_line(LOG_LEVEL_ERROR, "e", NULL, "it burns");
    n = read(pipe_fds[0], heard, sizeof(heard) - 1);
    heard[n > 0 ? n : 0] = '\0';
    assert_string_equal(heard, "<3>error: it burns\n");
    (void)close(pipe_fds[0]);
    (void)close(pipe_fds[1]);
    close_journal();
}

#define CLAIM(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLAIM(test_json_of_several_processes_stays_whole),
        CLAIM(test_text_of_several_processes_stays_whole),
        CLAIM(test_a_file_gets_all_of_a_line),
        CLAIM(test_the_journal_gets_a_priority_and_no_time),
        CLAIM(test_json_is_the_same_for_the_journal),
        CLAIM(test_another_standard_error_gets_the_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The specification of log.h, one claim a test. Standard error is a memory file while a test runs;
 * it is a socket that keeps writes apart where the claim is about writes, and a pseudo-terminal
 * where it is about the changing line. */

#include "log.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
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
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "skip.h"

#define HANG_S 60
#define REPLACEMENT "\xef\xbf\xbd"
#define TIME_LEN strlen("2024-01-01T00:00:00.000Z")

/* ---- standard error ---- */

static int real_stderr = -1, memory = -1;
static char said[1 << 20];

static void point_stderr_at(int fd)
{
    if (dup2(fd, STDERR_FILENO) != STDERR_FILENO)
        abort();
}

/* All that was written since the last call, as one text. */
static const char *what_was_said(void)
{
    ssize_t n = pread(memory, said, sizeof(said) - 1, 0);
    if (n < 0 || ftruncate(memory, 0) != 0 || lseek(memory, 0, SEEK_SET) != 0)
        abort();
    said[n] = '\0';
    return said;
}

static int setup(void **state)
{
    (void)state;
    alarm(HANG_S);
    real_stderr = dup(STDERR_FILENO);
    memory = memfd_create("stderr", MFD_CLOEXEC);
    if (real_stderr < 0 || memory < 0)
        return -1;
    point_stderr_at(memory);
    log_init(LOG_FORMAT_TEXT, false);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    point_stderr_at(real_stderr);
    close(real_stderr);
    close(memory);
    alarm(0);
    return 0;
}

/* The line without its end, and it was one line. */
static char *single_line(void)
{
    (void)what_was_said();
    char *end = strchr(said, '\n');
    assert_non_null(end);
    assert_int_equal(end[1], '\0');
    *end = '\0';
    return said;
}

/* The text after the time. */
static const char *text_line(void)
{
    const char *line = single_line();
    assert_true(strlen(line) > TIME_LEN);
    assert_int_equal(line[4], '-');
    assert_int_equal(line[TIME_LEN - 1], 'Z');
    assert_int_equal(line[TIME_LEN], ' ');
    return line + TIME_LEN + 1;
}

/* Owner: the caller. */
static json_t *json_line(void)
{
    json_error_t error;
    json_t *line = json_loads(single_line(), JSON_REJECT_DUPLICATES, &error);
    if (line == NULL)
        fail_msg("not JSON: %s: %s", error.text, said);
    return line;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    assert_non_null(text);
    return text;
}

static void assert_message(const char *want)
{
    json_t *line = json_line();
    assert_string_equal(text_of(line, "message"), want);
    json_decref(line);
}

/* ---- lines for people ---- */

static void test_a_text_line_is_time_and_message(void **state)
{
    (void)state;
    log_line(LOG_LEVEL_INFO, "event", NULL, "%d of %s", 7, "9");
    assert_string_equal(text_line(), "7 of 9");
}

static void test_the_level_is_shown_unless_it_is_info(void **state)
{
    (void)state;
    log_line(LOG_LEVEL_INFO, "event", NULL, "x");
    assert_string_equal(text_line(), "x");
    log_line(LOG_LEVEL_WARN, "event", NULL, "x");
    assert_string_equal(text_line(), "warning: x");
    log_line(LOG_LEVEL_ERROR, "event", NULL, "x");
    assert_string_equal(text_line(), "error: x");
}

static void test_event_and_fields_are_for_json_only(void **state)
{
    (void)state;
    log_line(LOG_LEVEL_INFO, "the-event", json_pack("{s:s}", "key", "value"), "message");
    assert_string_equal(text_line(), "message");
}

static void test_an_empty_message_is_a_line(void **state)
{
    (void)state;
    log_line(LOG_LEVEL_INFO, "event", NULL, "%s", "");
    assert_string_equal(text_line(), "");
}

/* ---- lines for tools ---- */

static void test_a_json_line_has_time_level_event_and_message(void **state)
{
    (void)state;
    log_init(LOG_FORMAT_JSON, false);
    log_line(LOG_LEVEL_INFO, "the-event", NULL, "7 of %d", 9);
    json_t *line = json_line();
    assert_int_equal(json_object_size(line), 4);
    assert_int_equal(strlen(text_of(line, "time")), TIME_LEN);
    assert_string_equal(text_of(line, "level"), "info");
    assert_string_equal(text_of(line, "event"), "the-event");
    assert_string_equal(text_of(line, "message"), "7 of 9");
    json_decref(line);
}

static void test_json_names_each_level(void **state)
{
    (void)state;
    static const char *const want[] = {"error", "warning", "info"};
    log_init(LOG_FORMAT_JSON, false);
    for (enum log_level level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_INFO; level++) {
        log_line(level, "event", NULL, "x");
        json_t *line = json_line();
        assert_string_equal(text_of(line, "level"), want[level]);
        json_decref(line);
    }
}

static void test_json_lines_carry_the_fields(void **state)
{
    (void)state;
    log_init(LOG_FORMAT_JSON, false);
    log_line(LOG_LEVEL_INFO, "e", json_pack("{s:s, s:i}", "who", "me", "count", 3), "x");
    json_t *line = json_line();
    assert_int_equal(json_object_size(line), 6);
    assert_string_equal(text_of(line, "who"), "me");
    assert_int_equal(json_integer_value(json_object_get(line, "count")), 3);
    json_decref(line);
}

static void test_a_field_cannot_replace_what_the_log_says(void **state)
{
    (void)state;
    log_init(LOG_FORMAT_JSON, false);
    log_line(LOG_LEVEL_INFO, "e",
             json_pack("{s:s, s:s, s:s, s:s}", "time", "never", "level", "none", "event", "f",
                       "message", "y"),
             "x");
    json_t *line = json_line();
    assert_string_not_equal(text_of(line, "time"), "never");
    assert_string_equal(text_of(line, "level"), "info");
    assert_string_equal(text_of(line, "event"), "e");
    assert_string_equal(text_of(line, "message"), "x");
    json_decref(line);
}

static void assert_stolen(enum log_format format, bool quiet)
{
    json_t *fields = json_pack("{s:i}", "n", 1);
    log_init(format, quiet);
    json_incref(fields);
    log_line(LOG_LEVEL_INFO, "event", fields, "x");
    assert_int_equal(fields->refcount, 1);
    json_decref(fields);
}

static void test_the_fields_are_stolen_whether_they_are_written_or_not(void **state)
{
    (void)state;
    assert_stolen(LOG_FORMAT_TEXT, false);
    assert_stolen(LOG_FORMAT_TEXT, true);
    assert_stolen(LOG_FORMAT_JSON, false);
    assert_stolen(LOG_FORMAT_JSON, true);
}

/* ---- quiet ---- */

static void test_quiet_drops_info_and_nothing_else(void **state)
{
    (void)state;
    for (enum log_format format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
        log_init(format, true);
        log_line(LOG_LEVEL_INFO, "event", NULL, "x");
        assert_string_equal(what_was_said(), "");
        log_line(LOG_LEVEL_WARN, "event", NULL, "x");
        assert_string_not_equal(single_line(), "");
        log_line(LOG_LEVEL_ERROR, "event", NULL, "x");
        assert_string_not_equal(single_line(), "");
    }
}

static void test_the_level_can_be_set_while_it_runs(void **state)
{
    static const char *const names[] = {"error", "warning", "info"};
    (void)state;
    log_init(LOG_FORMAT_TEXT, false);
    for (size_t i = 0; i < 3; i++) {
        enum log_level level = LOG_LEVEL_INFO;
        assert_true(log_level_named(names[i], &level));
        log_set_level(level);
        for (enum log_level line = LOG_LEVEL_ERROR; line <= LOG_LEVEL_INFO; line++) {
            log_line(line, "event", NULL, "x");
            assert_int_equal(strcmp(what_was_said(), "") != 0, line <= level);
        }
    }
    enum log_level untouched = LOG_LEVEL_WARN;
    assert_false(log_level_named("debug", &untouched));
    assert_int_equal(untouched, LOG_LEVEL_WARN);
}

/* ---- what a client may send ---- */

static void test_control_bytes_are_defused(void **state)
{
    (void)state;
    log_line(LOG_LEVEL_INFO, "event", NULL, "%s",
             "a\nb\rc\x1b[2Jd\te\x7f"
             "f\x01\x1f ");
    assert_string_equal(text_line(), "a?b?c?[2Jd?e?f?? ");
}

static void test_control_bytes_are_defused_in_json_too(void **state)
{
    (void)state;
    log_init(LOG_FORMAT_JSON, false);
    log_line(LOG_LEVEL_INFO, "event", NULL, "%s", "a\nb\x1b[2J\"\\");
    assert_message("a?b?[2J\"\\");
}

static void test_no_control_byte_passes(void **state)
{
    (void)state;
    for (int byte = 1; byte < 256; byte++) {
        log_init(LOG_FORMAT_TEXT, false);
        log_line(LOG_LEVEL_INFO, "event", NULL, "[%c]", byte);
        const char *text = text_line();
        assert_int_equal(strlen(text), 3);
        assert_false(iscntrl((unsigned char)text[1]));
        log_init(LOG_FORMAT_JSON, false);
        log_line(LOG_LEVEL_INFO, "event", NULL, "[%c]", byte);
        json_decref(json_line());
    }
}

/* U+0080 to U+009F are commands too, to a terminal that reads UTF-8: U+009B is ESC [. */
static void test_c1_controls_are_defused(void **state)
{
    (void)state;
    log_line(LOG_LEVEL_INFO, "event", NULL, "%s",
             "a\xc2\x9b"
             "2Jb");
    assert_null(strstr(text_line(), "\xc2\x9b"));
}

static void test_utf_8_is_left_alone(void **state)
{
    (void)state;
    static const char text[] = "/gr\xc3\xbc\xc3\x9f/\xe2\x82\xac/\xf0\x9f\x8d\xba";
    log_line(LOG_LEVEL_INFO, "event", NULL, "%s", text);
    assert_string_equal(text_line(), text);
    log_init(LOG_FORMAT_JSON, false);
    log_line(LOG_LEVEL_INFO, "event", NULL, "%s", text);
    assert_message(text);
}

static void test_a_message_that_is_not_utf_8_is_still_json(void **state)
{
    (void)state;
    log_init(LOG_FORMAT_JSON, false);
    log_line(LOG_LEVEL_INFO, "event", NULL, "%s", "/a\xff\xfe/b");
    assert_message("/a" REPLACEMENT REPLACEMENT "/b");
}

static void assert_json_text(const char *bytes, const char *want)
{
    json_t *text = log_json_text(bytes);
    assert_string_equal(json_string_value(text), want);
    json_decref(text);
}

static void test_json_text_keeps_what_is_utf_8(void **state)
{
    (void)state;
    assert_json_text("", "");
    assert_json_text("/plain?a=1", "/plain?a=1");
    assert_json_text("\xc3\xbc\xe2\x82\xac\xf0\x9f\x8d\xba",
                     "\xc3\xbc\xe2\x82\xac\xf0\x9f\x8d\xba");
    assert_json_text("a\nb\x01", "a\nb\x01"); /* JSON escapes them itself */
}

static void test_json_text_replaces_what_is_not(void **state)
{
    (void)state;
    assert_json_text("\xff", REPLACEMENT);
    assert_json_text("a\x80z", "a" REPLACEMENT "z");
    assert_json_text("\xc0\x80", REPLACEMENT REPLACEMENT);                 /* overlong NUL */
    assert_json_text("\xed\xa0\x80", REPLACEMENT REPLACEMENT REPLACEMENT); /* surrogate */
    assert_json_text("x\xe2\x82", "x" REPLACEMENT REPLACEMENT);            /* cut short */
    assert_json_text("\xf4\x90\x80\x80", REPLACEMENT REPLACEMENT REPLACEMENT REPLACEMENT);
}

static void test_any_pair_of_bytes_becomes_json(void **state)
{
    (void)state;
    for (int first = 1; first < 256; first++)
        for (int second = 1; second < 256; second++) {
            const char bytes[] = {(char)first, (char)second, '\0'};
            json_t *text = log_json_text(bytes);
            char *dump = json_dumps(text, JSON_ENCODE_ANY);
            assert_non_null(dump);
            json_t *again = json_loads(dump, JSON_DECODE_ANY, NULL);
            assert_true(json_equal(text, again));
            json_decref(text);
            json_decref(again);
            free(dump);
        }
}

/* ---- long lines ---- */

static char *repeated(const char *unit, size_t times)
{
    char *text = malloc(strlen(unit) * times + 1), *to = text;
    assert_non_null(text);
    for (size_t i = 0; i < times; i++)
        to = stpcpy(to, unit);
    *to = '\0';
    return text;
}

static void test_a_very_long_line_is_cut_and_stays_one_line(void **state)
{
    (void)state;
    char *text = repeated("0123456789", 10000);
    for (enum log_level level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_INFO; level++) {
        log_line(level, "event", NULL, "%s", text);
        const char *line = text_line();
        assert_true(strlen(line) > 2000 && strlen(line) < 5000);
        assert_non_null(strstr(line, "0123456789"));
    }
    free(text);
}

static void test_a_very_long_json_line_is_still_json(void **state)
{
    (void)state;
    static const char *const units[] = {"x",    "\\",       "\"",          "\x01",
                                        "\xff", "\xc3\xbc", "\xe2\x82\xac"};
    log_init(LOG_FORMAT_JSON, false);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        char *text = repeated(units[i], 20000);
        log_line(LOG_LEVEL_INFO, "event", NULL, "%s", text);
        json_t *line = json_line();
        assert_true(strlen(text_of(line, "message")) > 2000);
        json_decref(line);
        free(text);
    }
}

static void test_long_fields_are_not_cut(void **state)
{
    (void)state;
    char *text = repeated("0123456789", 10000);
    log_init(LOG_FORMAT_JSON, false);
    log_line(LOG_LEVEL_INFO, "event", json_pack("{s:s}", "path", text), "x");
    json_t *line = json_line();
    assert_string_equal(text_of(line, "path"), text);
    json_decref(line);
    free(text);
}

/* Every length around the size of the buffer: none loses its end of line, none writes past it. */
static void test_lines_of_every_length_near_the_bound_end_in_a_newline(void **state)
{
    (void)state;
    char *text = repeated("x", 4200);
    for (int length = 3950; length <= 4200; length++) {
        log_line(LOG_LEVEL_WARN, "event", NULL, "%.*s", length, text);
        assert_int_equal(strncmp(text_line(), "warning: xxx", 12), 0);
    }
    free(text);
}

/* ---- one line, one write ---- */

static void test_a_line_is_one_write(void **state)
{
    (void)state;
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    char *text = repeated("0123456789", 10000);
    point_stderr_at(pair[1]);
    log_line(LOG_LEVEL_INFO, "event", NULL, "short");
    log_line(LOG_LEVEL_WARN, "event", NULL, "%s", text);
    log_init(LOG_FORMAT_JSON, false);
    log_line(LOG_LEVEL_INFO, "event", NULL, "short");
    log_line(LOG_LEVEL_INFO, "event", NULL, "%s", text);
    point_stderr_at(memory);
    close(pair[1]);
    for (int line = 0; line < 4; line++) {
        ssize_t n = read(pair[0], said, sizeof(said));
        assert_true(n > 0);
        assert_int_equal(said[n - 1], '\n');
        assert_ptr_equal(memchr(said, '\n', (size_t)n), &said[n - 1]);
    }
    assert_int_equal(read(pair[0], said, sizeof(said)), 0);
    close(pair[0]);
    free(text);
}

#define WRITERS 4
#define LINES 250

static void *write_lines(void *arg)
{
    for (int i = 0; i < LINES; i++)
        log_line(LOG_LEVEL_INFO, "event", json_pack("{s:i}", "i", i), "%s%d", (const char *)arg, i);
    return NULL;
}

static void test_lines_of_several_threads_do_not_mix(void **state)
{
    (void)state;
    char names[WRITERS][2] = {"a", "b", "c", "d"};
    pthread_t threads[WRITERS];
    int next[WRITERS] = {0};

    log_init(LOG_FORMAT_JSON, false);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);

    (void)what_was_said();
    char *rest = said;
    for (char *line; (line = strsep(&rest, "\n")) != NULL && rest != NULL;) {
        json_t *parsed = json_loads(line, 0, NULL);
        assert_non_null(parsed);
        const char *message = text_of(parsed, "message");
        int who = message[0] - 'a';
        assert_in_range(who, 0, WRITERS - 1);
        assert_int_equal(strtol(message + 1, NULL, 10), next[who]); /* each in its order */
        next[who]++;
        json_decref(parsed);
    }
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(next[i], LINES);
}

static void test_standard_error_without_a_reader_is_no_error(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);
    close(ends[0]);
    point_stderr_at(ends[1]);
    close(ends[1]);
    log_line(LOG_LEVEL_ERROR, "event", NULL, "x");
    close(STDERR_FILENO);
    log_line(LOG_LEVEL_ERROR, "event", NULL, "x");
    point_stderr_at(memory);
    (void)signal(SIGPIPE, before);
    log_line(LOG_LEVEL_INFO, "event", NULL, "still here");
    assert_string_equal(text_line(), "still here");
}

/* ---- the changing line ---- */

static void test_without_a_terminal_there_is_no_changing_line(void **state)
{
    (void)state;
    assert_false(log_has_status_line());
    log_status("%d left", 3);
    log_status("%s", "");
    assert_string_equal(what_was_said(), "");
}

/* Standard error becomes a terminal; returns its other end, or leaves the test. */
static int open_terminal(void)
{
    struct termios raw;
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) {
        if (master >= 0)
            close(master);
        skip_test("needs a pseudo terminal");
    }
    int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(terminal >= 0);
    assert_int_equal(tcgetattr(terminal, &raw), 0);
    cfmakeraw(&raw);
    assert_int_equal(tcsetattr(terminal, TCSANOW, &raw), 0);
    point_stderr_at(terminal);
    close(terminal);
    return master;
}

/* What came out of the terminal, up to a mark that is written now. Closes it. */
static const char *shown_on(int master)
{
    static const char mark[] = "<end>";
    size_t n = 0;
    assert_int_equal(write(STDERR_FILENO, mark, strlen(mark)), strlen(mark));
    for (said[0] = '\0'; strstr(said, mark) == NULL; said[n] = '\0') {
        ssize_t got = read(master, said + n, sizeof(said) - 1 - n);
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    point_stderr_at(memory);
    close(master);
    char *end = strstr(said, mark);
    assert_non_null(end);
    *end = '\0';
    return said;
}

static void test_on_a_terminal_the_line_is_replaced_in_place(void **state)
{
    (void)state;
    int master = open_terminal();
    log_init(LOG_FORMAT_TEXT, false);
    assert_true(log_has_status_line());
    log_status("%d left", 3);
    log_status("%d left", 2);
    assert_string_equal(shown_on(master), "\r\033[K3 left\r\033[K2 left");
    log_init(LOG_FORMAT_TEXT, false);
    log_line(LOG_LEVEL_INFO, "event", NULL, "x"); /* takes the shown line off the record */
}

static void test_an_empty_text_removes_the_line_once(void **state)
{
    (void)state;
    int master = open_terminal();
    log_init(LOG_FORMAT_TEXT, false);
    log_status("%s", ""); /* none is shown: nothing to remove */
    log_status("x");
    log_status("%s", "");
    log_status("%s", "");
    assert_string_equal(shown_on(master), "\r\033[Kx\r\033[K");
}

static void test_a_log_line_takes_the_place_of_the_changing_line(void **state)
{
    (void)state;
    int master = open_terminal();
    log_init(LOG_FORMAT_TEXT, false);
    log_status("3 left");
    log_line(LOG_LEVEL_INFO, "event", NULL, "first");
    log_line(LOG_LEVEL_INFO, "event", NULL, "second");
    const char *shown = shown_on(master);
    assert_int_equal(strncmp(shown, "\r\033[K3 left\r\033[K2", 15), 0); /* and then the year */
    const char *second = strstr(shown, " first\n");
    assert_non_null(second);
    assert_null(strchr(second, '\r')); /* nothing left to erase */
    assert_non_null(strstr(second, " second\n"));
}

static void test_the_changing_line_is_defused_and_cut(void **state)
{
    (void)state;
    int master = open_terminal();
    log_init(LOG_FORMAT_TEXT, false);
    log_status("a\nb\x1b[2J");
    log_status("%s", "");
    assert_string_equal(shown_on(master), "\r\033[Ka?b?[2J\r\033[K");
}

static void test_json_and_quiet_have_no_changing_line(void **state)
{
    (void)state;
    int master = open_terminal();
    log_init(LOG_FORMAT_JSON, false);
    assert_false(log_has_status_line());
    log_status("x");
    log_init(LOG_FORMAT_TEXT, true);
    assert_false(log_has_status_line());
    log_status("x");
    assert_string_equal(shown_on(master), "");
}

#define claim(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        claim(test_a_text_line_is_time_and_message),
        claim(test_the_level_is_shown_unless_it_is_info),
        claim(test_event_and_fields_are_for_json_only),
        claim(test_an_empty_message_is_a_line),
        claim(test_a_json_line_has_time_level_event_and_message),
        claim(test_json_names_each_level),
        claim(test_json_lines_carry_the_fields),
        claim(test_a_field_cannot_replace_what_the_log_says),
        claim(test_the_fields_are_stolen_whether_they_are_written_or_not),
        claim(test_quiet_drops_info_and_nothing_else),
        claim(test_the_level_can_be_set_while_it_runs),
        claim(test_control_bytes_are_defused),
        claim(test_control_bytes_are_defused_in_json_too),
        claim(test_no_control_byte_passes),
        claim(test_c1_controls_are_defused),
        claim(test_utf_8_is_left_alone),
        claim(test_a_message_that_is_not_utf_8_is_still_json),
        claim(test_json_text_keeps_what_is_utf_8),
        claim(test_json_text_replaces_what_is_not),
        claim(test_any_pair_of_bytes_becomes_json),
        claim(test_a_very_long_line_is_cut_and_stays_one_line),
        claim(test_a_very_long_json_line_is_still_json),
        claim(test_long_fields_are_not_cut),
        claim(test_lines_of_every_length_near_the_bound_end_in_a_newline),
        claim(test_a_line_is_one_write),
        claim(test_lines_of_several_threads_do_not_mix),
        claim(test_standard_error_without_a_reader_is_no_error),
        claim(test_without_a_terminal_there_is_no_changing_line),
        claim(test_on_a_terminal_the_line_is_replaced_in_place),
        claim(test_an_empty_text_removes_the_line_once),
        claim(test_a_log_line_takes_the_place_of_the_changing_line),
        claim(test_the_changing_line_is_defused_and_cut),
        claim(test_json_and_quiet_have_no_changing_line),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}

/* What the commands are made of, without a server: events out of bytes, text for people, the bar,
 * and which socket is meant. */

#include <locale.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli_sse.h"
#include "cli_text.h"
#include "cli_find.h"
#include "cli_view.h"
#include "expect.h"
#include "directory.h"
#include "skip.h"

/* ---- events ---- */

struct heard {
    char text[512];
    unsigned count;
    size_t longest;
};

static void on_event(void *arg, const char *name, const char *data)
{
    struct heard *heard = arg;
    size_t n = strlen(heard->text), size = strlen(data);

    heard->count++;
    heard->longest = size > heard->longest ? size : heard->longest;
    (void)snprintf(heard->text + n, sizeof(heard->text) - n, "%s=%.40s;", name, data);
}

static void test_events_are_the_same_in_whatever_pieces_they_come(void **state)
{
    static const char bytes[] = ": hello\n\nevent: status\ndata: {\"a\":1}\n\n"
                                "event:status\r\ndata:one\r\ndata: two\r\n\r\n"
                                "data\rid: 7\rretry: 10\r\r"
                                "event: none\n\n"
                                "data: never ended\n";
    (void)state;
    for (size_t piece = 1; piece <= sizeof(bytes); piece++) {
        struct cli_sse sse = {0};
        struct heard heard = {0};
        for (size_t at = 0; at < sizeof(bytes) - 1; at += piece) {
            size_t left = sizeof(bytes) - 1 - at;
            cli_sse_feed(&sse, bytes + at, left < piece ? left : piece, on_event, &heard);
        }
        assert_string_equal(heard.text, "status={\"a\":1};status=one\ntwo;message=;");
        cli_sse_release(&sse);
    }
}

static void test_event_beyond_the_limit_is_dropped_and_the_next_is_not(void **state)
{
    struct cli_sse sse = {0};
    struct heard heard = {0};
    char *bytes = malloc(65536);
    (void)state;
    assert_non_null(bytes);
    memset(bytes, 'x', 65536);
    cli_sse_feed(&sse, "data: ", 6, on_event, &heard);
    for (size_t fed = 0; fed < 2 * CLI_SSE_MAX; fed += 65536)
        cli_sse_feed(&sse, bytes, 65536, on_event, &heard);
    cli_sse_feed(&sse, "\n\ndata: small\n\n", 15, on_event, &heard);
    assert_int_equal(heard.count, 1);
    assert_string_equal(heard.text, "message=small;");
    cli_sse_release(&sse);
    free(bytes);
}

/* ---- text ---- */

static void test_text_from_elsewhere_cannot_move_the_cursor(void **state)
{
    char buf[64];
    (void)state;
    assert_string_equal(cli_clean("/a\033[2J\r\n\t\x7f/b", buf, sizeof(buf), SIZE_MAX), "/a?[2J????"
                                                                                        "/b");
    /* The second control set, what turns the direction, and what is not UTF-8 at all. */
    if (strstr(setlocale(LC_CTYPE, NULL), "UTF-8") == NULL)
        skip_test("needs a locale with UTF-8");
    assert_string_equal(cli_clean("\302\233[2J\342\200\256x\377\303", buf, sizeof(buf), SIZE_MAX),
                        "?[2J?x??");
    assert_string_equal(cli_clean("gr\303\274n", buf, sizeof(buf), SIZE_MAX), "gr\303\274n");
}

static void test_text_is_cut_to_columns_and_to_its_buffer(void **state)
{
    char text[512], buf[64];
    (void)state;
    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (size_t columns = 0; columns < 40; columns++)
        assert_int_equal(strlen(cli_clean(text, buf, sizeof(buf), columns)), columns);
    assert_string_equal(cli_clean("abcdefghij", buf, sizeof(buf), 8), "abcde...");
    assert_string_equal(cli_clean("abcdefgh", buf, sizeof(buf), 8), "abcdefgh");
    for (size_t size = 1; size < sizeof(buf); size++)
        assert_true(strlen(cli_clean(text, buf, size, SIZE_MAX)) < size);
}

static void test_durations_are_for_people(void **state)
{
    char buf[CLOCK_TEXT_SIZE];
    (void)state;
    assert_string_equal(cli_duration(0.4, buf), "0ms");
    assert_string_equal(cli_duration(999, buf), "999ms");
    assert_string_equal(cli_duration(999.7, buf), "1.0s");
    assert_string_equal(cli_duration(8123.4, buf), "8.1s");
    assert_string_equal(cli_duration(59999, buf), "60s");
    assert_string_equal(cli_duration(130000, buf), "2m10s");
    assert_string_equal(cli_duration(-1, buf), "0ms");
}

/* ---- the bar ---- */

static char *progress(const json_t *status, bool with_bar, size_t width, double *most)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    cli_print_progress(out, status, with_bar, width, most);
    (void)fclose(out);
    return text;
}

static json_t *status_with(int requests, int connections)
{
    json_t *status = json_pack("{s:s, s:{s:i}, s:{s:i}, s:{s:n, s:f, s:{s:i, s:i}}}", "phase",
                               "draining", "requests", "in_flight", requests, "connections", "open",
                               connections, "drain", "lame_duck_left_ms", "left_ms", 8123.4,
                               "began_with", "in_flight", 10, "connections", 30);
    assert_non_null(status);
    return status;
}

static void test_bar_shows_what_is_done(void **state)
{
    double most = 0;
    (void)state;
    json_t *begun = status_with(10, 30), *half = status_with(5, 15), *over = status_with(0, 0);
    char *text = progress(begun, true, 85, &most);
    assert_string_equal(text, "draining  [----------------------------] "
                              "10 in flight, 30 connections, 8.1s left");
    free(text);
    text = progress(half, true, 85, &most);
    assert_string_equal(text, "draining  [##############--------------] "
                              "5 in flight, 15 connections, 8.1s left");
    free(text);
    text = progress(over, true, 85, &most);
    assert_string_equal(text, "draining  [############################] "
                              "0 in flight, 0 connections, 8.1s left");
    free(text);
    text = progress(half, false, CLI_WIDTH_ANY, &most);
    assert_string_equal(text, "draining: 5 in flight, 15 connections, 8.1s left");
    free(text);
    json_decref(begun);
    json_decref(half);
    json_decref(over);
}

static void test_progress_fits_every_terminal(void **state)
{
    json_t *status = status_with(1234567, 7654321);
    (void)state;
    for (size_t width = 0; width < 200; width++) {
        double most = 0;
        char *text = progress(status, true, width, &most);
        assert_true(strlen(text) <= width);
        free(text);
    }
    json_decref(status);
}

static json_t *status_with_upstreams(size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(
            list,
            json_pack("{s:s, s:s, s:s, s:b, s:i, s:i, s:i, s:i, s:o}", "route", "default/", "url",
                      "http://10.0.0.1:3000", "state", i == 1 ? "ejected" : "up", "backup", i == 2,
                      "in_flight", 2, "connections", 5, "requests", 900, "failures", 1,
                      "ejected_left_ms", i == 1 ? json_integer(3200) : json_null()));
    return json_pack("{s:o}", "upstreams", list);
}

static char *upstreams(json_t *status, size_t rows, size_t width)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    cli_print_upstreams(out, status, rows, width);
    (void)fclose(out);
    json_decref(status);
    return text;
}

#define UPSTREAMS_HEADING                                                                          \
    "\nIN FLIGHT  CONNECTIONS    REQUESTS  FAILURES  STATE           UPSTREAM\n"

static void test_upstreams_are_a_table(void **state)
{
    (void)state;
    char *text = upstreams(status_with_upstreams(3), CLI_ROWS_ANY, CLI_WIDTH_ANY);
    assert_string_equal(text, UPSTREAMS_HEADING
                        "        2            5         900         1  up              default/  "
                        "http://10.0.0.1:3000\n"
                        "        2            5         900         1  ejected 3.2s    default/  "
                        "http://10.0.0.1:3000\n"
                        "        2            5         900         1  up              default/  "
                        "http://10.0.0.1:3000 (backup)\n");
    free(text);
    text = upstreams(status_with_upstreams(0), CLI_ROWS_ANY, CLI_WIDTH_ANY);
    assert_string_equal(text, "");
    free(text);
}

static void test_upstreams_fit_every_terminal(void **state)
{
    (void)state;
    for (size_t rows = 0; rows < 12; rows++) {
        char *text = upstreams(status_with_upstreams(5), rows, 40);
        size_t lines = 0, column = 0;
        for (const char *at = text; *at != '\0'; at++) {
            column = *at == '\n' ? 0 : column + 1;
            assert_true(column <= 40);
            lines += *at == '\n';
        }
        assert_true(lines <= rows);
        assert_int_equal(strstr(text, " more\n") != NULL, rows > 2 && rows < 7);
        free(text);
    }
    char *text = upstreams(status_with_upstreams(5), 5, CLI_WIDTH_ANY);
    assert_contains(text, "           and 3 more\n");
    free(text);
}

/* An answer that lacks everything, or has it in another shape, is shown, if as nothing. */
static void test_status_of_any_shape_is_printed(void **state)
{
    static const char *const texts[] = {
        "{}",
        "[]",
        "{\"drain\":{}}",
        "{\"drain\":{\"triggers\":[7],\"phases\":[[]]}}",
        "{\"oldest\":[{},{\"path\":7}],\"listeners\":[1],\"requests\":[]}",
        "{\"upstreams\":7}",
        "{\"upstreams\":[7,{},{\"url\":7,\"state\":[]}]}"};
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        json_t *status = json_loads(texts[i], 0, NULL);
        char *text = NULL;
        size_t size;
        double most = 0;
        FILE *out = open_memstream(&text, &size);
        assert_non_null(status);
        assert_non_null(out);
        cli_print_overview(out, status, 80);
        cli_print_upstreams(out, status, 9, 80);
        for (size_t rows = 0; rows < 4; rows++)
            cli_print_requests(out, status, rows, 60);
        cli_print_progress(out, status, true, 80, &most);
        cli_print_end(out, status, 3);
        (void)fclose(out);
        assert_true(size > 0);
        free(text);
        json_decref(status);
    }
}

/* ---- which socket ---- */

static int listen_at(const char *path)
{
    struct sockaddr_un here = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    (void)snprintf(here.sun_path, sizeof(here.sun_path), "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&here, sizeof(here)), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static void test_only_live_socket_is_the_default(void **state)
{
    const char *const folders[] = {in_directory("nowhere"), directory, NULL};
    char *path = NULL;
    (void)state;
    assert_int_equal(cli_find_socket(folders, 0, &path), EX_UNAVAILABLE);
    int gone = listen_at(in_directory("1.sock")), other = listen_at(in_directory("2.socket"));
    (void)close(gone); /* a killed server leaves such a file */
    assert_int_equal(cli_find_socket(folders, 0, &path), EX_UNAVAILABLE);
    int live = listen_at(in_directory("8080.sock"));
    assert_int_equal(cli_find_socket(folders, 0, &path), 0);
    assert_string_equal(path, in_directory("8080.sock"));
    free(path);
    (void)close(live);
    (void)close(other);
}

#define OTHERS 20 /* more than the list of servers has room for */

/* Closes the connections of all sockets but the last, and answers that one. */
static void *answer_the_last(void *arg)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n"
                                 "{\"schema\":1,\"pid\":4711}";
    const int *fds = arg;
    char request[1024];

    for (int i = 0; i <= OTHERS; i++) {
        int probe = accept(fds[i], NULL, NULL); /* is somebody there? */
        (void)close(probe);
    }
    for (int i = 0; i <= OTHERS; i++) {
        int fd = accept(fds[i], NULL, NULL);
        if (i == OTHERS && recv(fd, request, sizeof(request), 0) > 0)
            (void)send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL);
        (void)close(fd);
    }
    return NULL;
}

static void test_server_is_found_by_its_process_among_many(void **state)
{
    char folder[160], name[32], *path = NULL;
    const char *const folders[] = {folder, NULL};
    int fds[OTHERS + 1];
    pthread_t thread;
    (void)state;
    (void)snprintf(folder, sizeof(folder), "%s", in_directory("many"));
    assert_int_equal(mkdir(folder, 0755), 0);
    for (int i = 0; i <= OTHERS; i++) {
        (void)snprintf(name, sizeof(name), "many/%02d.sock", i);
        fds[i] = listen_at(in_directory(name));
    }
    assert_int_equal(pthread_create(&thread, NULL, answer_the_last, fds), 0);
    assert_int_equal(cli_find_socket(folders, 4711, &path), 0);
    assert_string_equal(path, in_directory(name));
    free(path);
    assert_int_equal(pthread_join(thread, NULL), 0);
    for (int i = 0; i <= OTHERS; i++)
        (void)close(fds[i]);
}

static int set_up(void **state)
{
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
        (void)setlocale(LC_CTYPE, "");
    return make_directory(state);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_are_the_same_in_whatever_pieces_they_come),
        cmocka_unit_test(test_event_beyond_the_limit_is_dropped_and_the_next_is_not),
        cmocka_unit_test(test_text_from_elsewhere_cannot_move_the_cursor),
        cmocka_unit_test(test_text_is_cut_to_columns_and_to_its_buffer),
        cmocka_unit_test(test_durations_are_for_people),
        cmocka_unit_test(test_bar_shows_what_is_done),
        cmocka_unit_test(test_progress_fits_every_terminal),
        cmocka_unit_test(test_upstreams_are_a_table),
        cmocka_unit_test(test_upstreams_fit_every_terminal),
        cmocka_unit_test(test_status_of_any_shape_is_printed),
        cmocka_unit_test(test_only_live_socket_is_the_default),
        cmocka_unit_test(test_server_is_found_by_its_process_among_many),
    };
    return cmocka_run_group_tests_name("cli_parts", tests, set_up, remove_directory);
}

/* The programs of examples/, each started as its user would, and stopped under load. LASTCALL_RUNS
 * says how often (3 by default). What was answered must have been done, and nothing may be lost. */

#include "process.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <pthread.h>
#ifdef LASTCALL_SQLITE
#include <sqlite3.h>
#endif

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "loadgen.h"

#define STOP_MS 60000
#define CLIENTS 8
#define ANSWERS_BEFORE_STOP 40 /* of all clients together */
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static unsigned runs(void)
{
    const char *text = getenv("LASTCALL_RUNS");
    long n = text != NULL ? strtol(text, NULL, 10) : 3;
    return n >= 1 && n <= 10000 ? (unsigned)n : 3;
}

static void start_example(struct process *p, const char *name, const char *const *args)
{
    char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", LASTCALL_EXAMPLES_FOLDER, name);
    assert_int_equal(setenv("LASTCALL_BINARY", path, 1), 0);
    process_is_wrapped = true;
    process_start_configured(p, args);
}

/* ---- clients that send until the server has gone ---- */

struct clients;

struct client {
    struct clients *all;
    unsigned number;
    unsigned done; /* so many requests were answered with 201: the first ones */
    pthread_t thread;
};

struct clients {
    uint16_t port;
    /* Write the n-th request of a client. Returns its length. */
    size_t (*write)(char *text, size_t size, unsigned client, unsigned n);
    atomic_uint answered;
    char first_fault[256]; /* written by the client that finds it */
    atomic_uint faults;
    struct client client[CLIENTS];
};

/* connect(2) may fail: the server has stopped. -1 then. No assertions: not the test's thread. */
static int connect_or_not(uint16_t port)
{
    struct timeval patience = {.tv_sec = 60};
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* One request on a connection of its own; `answer` gets all of the answer. */
static void ask(int fd, const char *request, size_t bytes, char *answer, size_t size)
{
    size_t have = 0;

    for (size_t sent = 0; sent < bytes;) {
        ssize_t n = send(fd, request + sent, bytes - sent, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    while (have < size - 1) {
        ssize_t n = client_recv(fd, answer + have, size - 1 - have, 0);
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    answer[have] = '\0';
}

static void *send_until_gone(void *arg)
{
    static const char created[] = "HTTP/1.1 201 ";
    struct client *client = arg;
    struct clients *all = client->all;
    char request[8192], answer[1024];
    int fd;

    while ((fd = connect_or_not(all->port)) >= 0) {
        size_t bytes = all->write(request, sizeof(request), client->number, client->done);
        ask(fd, request, bytes, answer, sizeof(answer));
        (void)close(fd);
        if (strncmp(answer, created, strlen(created)) != 0) {
            if (atomic_fetch_add(&all->faults, 1) == 0)
                (void)snprintf(all->first_fault, sizeof(all->first_fault),
                               "client %u, request %u: `%.200s`", client->number, client->done,
                               answer);
            break;
        }
        client->done++;
        (void)atomic_fetch_add(&all->answered, 1);
    }
    return NULL;
}

/* Start the example, load it, stop it, and wait for all of it. */
static void stop_under_load(struct clients *all, const char *name, const char *const *args)
{
    struct process p;

    memset(all->client, 0, sizeof(all->client));
    atomic_init(&all->answered, 0);
    atomic_init(&all->faults, 0);
    start_example(&p, name, args);
    all->port = p.port;
    for (unsigned i = 0; i < CLIENTS; i++) {
        all->client[i].all = all;
        all->client[i].number = i;
        assert_int_equal(
            pthread_create(&all->client[i].thread, NULL, send_until_gone, &all->client[i]), 0);
    }
    while (atomic_load(&all->answered) < ANSWERS_BEFORE_STOP && atomic_load(&all->faults) == 0)
        (void)process_says(&p, "there is no such line", 1);
    process_signal(&p, SIGTERM);
    int status = process_wait(&p, STOP_MS);
    for (unsigned i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_join(all->client[i].thread, NULL), 0);
    if (atomic_load(&all->faults) > 0 || status != 0)
        fail_msg("%u faults, status %d; first: %s; log:\n%s", atomic_load(&all->faults), status,
                 all->first_fault, p.log);
    process_release(&p);
}

/* ---- hello ---- */

static void test_hello_loses_nothing(void **state)
{
    (void)state;
    for (unsigned run = 0; run < runs(); run++) {
        struct process p;
        struct load_result result;
        struct load_options load = {.protocol = LOAD_HTTP1_KEEPALIVE,
                                    .connections = 32,
                                    .duration_ms = 60000,
                                    .patience_ms = 60000,
                                    .signal_after_ms = 100 + run % 10,
                                    .signal_after_answers = 64,
                                    .on_signal = send_term,
                                    .on_signal_arg = &p,
                                    .server_is_gone = is_gone,
                                    .server_is_gone_arg = &p,
                                    .expect_body = "Hello World\n"};
        start_example(&p, "hello", ARGS("127.0.0.1:0"));
        load.address = p.address;
        assert_int_equal(load_run(&load, &result), 0);
        int status = process_wait(&p, STOP_MS);
        if (result.lost != 0 || result.waiting != 0 || status != 0)
            fail_msg("%llu lost, %llu waiting, status %d; log:\n%s",
                     (unsigned long long)result.lost, (unsigned long long)result.waiting, status,
                     p.log);
        assert_true(result.answered_after_signal > 0);
        assert_int_equal(result.answered_2xx, result.answered);
        process_release(&p);
    }
}

/* ---- the article ---- */

static void test_the_article_answers_who_is_in(void **state)
{
    struct process p;

    (void)state;
    start_example(&p, "article", ARGS("127.0.0.1:0"));
    int fd = client_connect(&p);
    client_send(fd, GET("/"));
    client_wait_taken(fd);
    process_signal(&p, SIGINT);
    client_expect(fd, "Hello World\n");
    (void)close(fd);
    process_expect(&p, STOP_MS, 0);
    process_release(&p);
}

/* ---- notes ---- */

#ifdef LASTCALL_SQLITE
static size_t write_note(char *text, size_t size, unsigned client, unsigned n)
{
    char body[64];
    int bytes = snprintf(body, sizeof(body), "{\"text\": \"%u-%u\"}", client, n);

    return (size_t)snprintf(text, size,
                            "POST /notes HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
                            "Content-Length: %d\r\n\r\n%s",
                            bytes, body);
}

static int count_rows(sqlite3 *db, const char *text)
{
    sqlite3_stmt *query = NULL;

    assert_int_equal(
        sqlite3_prepare_v2(db, "SELECT count(*) FROM notes WHERE text = ?", -1, &query, NULL),
        SQLITE_OK);
    assert_int_equal(sqlite3_bind_text(query, 1, text, -1, SQLITE_STATIC), SQLITE_OK);
    assert_int_equal(sqlite3_step(query), SQLITE_ROW);
    int rows = sqlite3_column_int(query, 0);
    (void)sqlite3_finalize(query);
    return rows;
}

/* Each 201 that a client saw is in the database once, and there is no row that nobody sent. */
static void check_notes(const struct clients *all, const char *path)
{
    sqlite3 *db = NULL;
    int sent = 0;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    for (unsigned i = 0; i < CLIENTS; i++)
        for (unsigned n = 0; n < all->client[i].done; n++) {
            char text[32];
            (void)snprintf(text, sizeof(text), "%u-%u", i, n);
            if (count_rows(db, text) != 1)
                fail_msg("`%s` was answered with 201, and is there %d times", text,
                         count_rows(db, text));
            sent++;
        }
    sqlite3_stmt *query = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT count(*) FROM notes", -1, &query, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_step(query), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(query, 0), sent);
    (void)sqlite3_finalize(query);
    (void)sqlite3_close(db);
}
#endif

static void test_notes_that_were_answered_are_in_the_database(void **state)
{
    (void)state;
#ifdef LASTCALL_SQLITE
    for (unsigned run = 0; run < runs(); run++) {
        struct clients all = {.write = write_note};
        /* Eight clients wait for the flush of each other's notes, for ten seconds at most. */
        char folder[64], path[80];
        (void)snprintf(folder, sizeof(folder), "%s/lastcall-notes-XXXXXX", memory_folder());
        assert_non_null(mkdtemp(folder));
        (void)snprintf(path, sizeof(path), "%s/notes.db", folder);
        stop_under_load(&all, "notes", ARGS(path, "127.0.0.1:0"));
        check_notes(&all, path);
        (void)unlink(path);
        assert_int_equal(rmdir(folder), 0); /* SQLite has removed its own files */
    }
#else
    skip();
#endif
}

/* ---- upload ---- */

#define FILE_BYTES 6000

static size_t write_upload(char *text, size_t size, unsigned client, unsigned n)
{
    int head = snprintf(text, size,
                        "PUT /files/%u-%u HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
                        "Content-Length: %d\r\n\r\n",
                        client, n, FILE_BYTES);
    memset(text + head, 'a' + (int)((client + n) % 26), FILE_BYTES);
    return (size_t)head + FILE_BYTES;
}

static void check_file(unsigned client, unsigned n)
{
    char name[32], bytes[FILE_BYTES + 1];

    (void)snprintf(name, sizeof(name), "%u-%u", client, n);
    FILE *file = fopen(in_directory(name), "re");
    if (file == NULL)
        fail_msg("%s was answered with 201, and is not there", name);
    assert_int_equal(fread(bytes, 1, sizeof(bytes), file), FILE_BYTES);
    for (size_t i = 0; i < FILE_BYTES; i++)
        assert_int_equal(bytes[i], 'a' + (int)((client + n) % 26));
    (void)fclose(file);
    assert_int_equal(unlink(in_directory(name)), 0);
}

static void test_uploads_that_were_answered_are_whole_files(void **state)
{
    (void)state;
    for (unsigned run = 0; run < runs(); run++) {
        struct clients all = {.write = write_upload};
        stop_under_load(&all, "upload", ARGS(directory, "127.0.0.1:0"));
        for (unsigned i = 0; i < CLIENTS; i++)
            for (unsigned n = 0; n < all.client[i].done; n++)
                check_file(i, n);
    }
}

/* More than limit-request-body, which is 16 MiB by default. */
#define LARGE_BYTES (20 << 20)

static void test_a_large_file_is_taken(void **state)
{
    char head[256], answer[1024];
    struct process p;
    struct stat st;
    char *request = malloc(sizeof(head) + LARGE_BYTES);

    (void)state;
    assert_non_null(request);
    int bytes = snprintf(request, sizeof(head),
                         "PUT /files/large HTTP/1.1\r\nHost: test\r\nConnection: close\r\n"
                         "Content-Length: %d\r\n\r\n",
                         LARGE_BYTES);
    memset(request + bytes, 'x', LARGE_BYTES);
    start_example(&p, "upload", ARGS(directory, "127.0.0.1:0"));
    int fd = client_connect(&p);
    ask(fd, request, (size_t)bytes + LARGE_BYTES, answer, sizeof(answer));
    (void)close(fd);
    free(request);
    assert_contains(answer, "20971520 bytes");
    assert_int_equal(stat(in_directory("large"), &st), 0);
    assert_int_equal(st.st_size, LARGE_BYTES);
    assert_int_equal(unlink(in_directory("large")), 0);
    process_signal(&p, SIGTERM);
    process_expect(&p, STOP_MS, 0);
    process_release(&p);
}

static void test_a_form_saves_its_files(void **state)
{
    static const char body[] = "--cut\r\nContent-Disposition: form-data; name=\"f\"; "
                               "filename=\"from-a-form\"\r\n\r\nits text\r\n--cut--\r\n";
    char request[512], answer[1024];
    struct process p;
    FILE *file;

    (void)state;
    start_example(&p, "upload", ARGS(directory, "127.0.0.1:0"));
    int bytes =
        snprintf(request, sizeof(request),
                 "POST /files/ HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: "
                 "multipart/form-data; boundary=cut\r\nContent-Length: %zu\r\n\r\n%s",
                 strlen(body), body);
    int fd = client_connect(&p);
    ask(fd, request, (size_t)bytes, answer, sizeof(answer));
    (void)close(fd);
    assert_contains(answer, "1 saved, 0 not");
    file = fopen(in_directory("from-a-form"), "re");
    assert_non_null(file);
    assert_non_null(fgets(request, sizeof(request), file));
    assert_string_equal(request, "its text");
    (void)fclose(file);
    process_signal(&p, SIGTERM);
    process_expect(&p, STOP_MS, 0);
    process_release(&p);
}

/* ---- primes ---- */

/* The stream says where to go on, and ends with the last chunk. */
static void test_a_stream_ends_whole_in_a_drain(void **state)
{
    (void)state;
    for (unsigned run = 0; run < runs(); run++) {
        struct process p;
        start_example(&p, "primes", ARGS("127.0.0.1:0"));
        int fd = client_connect(&p);
        client_send(fd, GET("/primes?from=1000"));
        free(client_read_until(fd, "\n1009\n"));
        process_signal(&p, SIGTERM);
        char *rest = client_read_until(fd, "\r\n0\r\n\r\n");
        assert_contains(rest, "# go on with ?from=");
        free(rest);
        (void)close(fd);
        process_expect(&p, STOP_MS, 0);
        process_release(&p);
    }
}

static void test_readers_without_a_worker_are_told_of_the_drain(void **state)
{
    (void)state;
    for (unsigned run = 0; run < runs(); run++) {
        struct process p;
        int fd[50];
        start_example(&p, "primes", ARGS("127.0.0.1:0"));
        for (size_t i = 0; i < 50; i++) {
            fd[i] = client_connect(&p);
            client_send(fd[i], GET("/clock"));
            free(client_read_until(fd[i], "event: hello"));
        }
        process_signal(&p, SIGTERM);
        for (size_t i = 0; i < 50; i++) {
            char *rest = client_read_until(fd[i], "\r\n0\r\n\r\n");
            assert_contains(rest, "event: bye");
            free(rest);
            (void)close(fd[i]);
        }
        process_expect(&p, STOP_MS, 0);
        process_release(&p);
    }
}

/* ---- beside a main loop ---- */

static void test_a_main_loop_goes_on_beside_the_server(void **state)
{
    struct process p;

    (void)state;
    start_example(&p, "beside", ARGS("127.0.0.1:0"));
    assert_answer(&p, GET("/metrics"), "lines_total ");
    process_signal(&p, SIGTERM);
    process_expect(&p, STOP_MS, 0);
    assert_contains(p.log, "[http] ");
    process_release(&p);
}

/* ---- a module ---- */

static void test_the_program_loads_the_module(void **state)
{
    const char *path = in_directory("module.conf");
    FILE *file = fopen(path, "we");
    struct process p;

    (void)state;
    assert_non_null(file);
    (void)fprintf(file,
                  "listen: {host: 127.0.0.1, port: 0}\nuser: %s\nhosts: {default: {paths: {/hi: "
                  "{handler.module: {path: %s/greeting.so, name: greeting, args: Ahoy}}}}}\n",
                  own_user_name(), LASTCALL_EXAMPLES_FOLDER);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(setenv("LASTCALL_BINARY", LASTCALL_PROGRAM, 1), 0);
    process_start_configured(&p, ARGS("-c", path));
    assert_answer(&p, GET("/hi"), "Ahoy, 127.0.0.1\n");
    process_signal(&p, SIGTERM);
    process_expect(&p, STOP_MS, 0);
    process_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_hello_loses_nothing, process_kill_left),
        cmocka_unit_test_teardown(test_the_article_answers_who_is_in, process_kill_left),
        cmocka_unit_test_teardown(test_notes_that_were_answered_are_in_the_database,
                                  process_kill_left),
        cmocka_unit_test_teardown(test_uploads_that_were_answered_are_whole_files,
                                  process_kill_left),
        cmocka_unit_test_teardown(test_a_large_file_is_taken, process_kill_left),
        cmocka_unit_test_teardown(test_a_form_saves_its_files, process_kill_left),
        cmocka_unit_test_teardown(test_a_stream_ends_whole_in_a_drain, process_kill_left),
        cmocka_unit_test_teardown(test_readers_without_a_worker_are_told_of_the_drain,
                                  process_kill_left),
        cmocka_unit_test_teardown(test_a_main_loop_goes_on_beside_the_server, process_kill_left),
        cmocka_unit_test_teardown(test_the_program_loads_the_module, process_kill_left),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

/* Files that are sent and files that are received, by HTTP/1.1 and by HTTP/2. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "library_client.h"
#include "with_library.h"

#define LARGE ((size_t)40 << 20) /* more than libh2o keeps in memory */

static lc_server *server;
static int dir = -1;
static char *large; /* its bytes */

static void put(lc_req *r, void *user)
{
    int err = lc_save_body(r, dir, lc_param(r, "name"), LC_SYNC);

    (void)user;
    if (err == LC_OK)
        (void)lc_sendf(r, 201, "text/plain", "%lld", (long long)lc_body_size(r));
    else
        (void)lc_fail(r, err == LC_E_ARG ? 400 : 500, lc_strerror(err));
}

static void get(lc_req *r, void *user)
{
    char path[512];

    (void)user;
    (void)snprintf(path, sizeof(path), "%s", in_directory(lc_param(r, "name")));
    (void)lc_send_file(r, path, NULL);
}

static void form(lc_req *r, void *user)
{
    struct lc_part part = LC_PART_INIT;
    char text[256] = "";
    int more;

    (void)user;
    while ((more = lc_next_part(r, &part)) == 1) {
        size_t used = strlen(text);
        (void)snprintf(text + used, sizeof(text) - used, "%s=%.*s;", part.name, (int)part.count,
                       (const char *)part.bytes);
    }
    (void)lc_sendf(r, more == 0 ? 200 : 400, NULL, "%s", text);
}

static int set_up(void **state)
{
    if (library_group_setup(state) != 0)
        return -1;
    dir = open(directory, O_DIRECTORY | O_RDONLY | O_CLOEXEC);
    large = malloc(LARGE);
    for (size_t i = 0; i < LARGE; i++)
        large[i] = (char)(i * 2654435761U >> 13);
    server = library_new(NULL);
    (void)lc_set(server, "limit-request-body", "67108864");
    (void)lc_handle(server, "PUT /files/{name}", put, NULL);
    (void)lc_handle(server, "GET /files/{name}", get, NULL);
    (void)lc_handle(server, "POST /form", form, NULL);
    int result = lc_start(server);
    if (result != LC_OK)
        print_error("%s\n", lc_errmsg(server));
    return result != LC_OK || library_client_begin(lc_port(server)) != 0;
}

static int tear_down(void **state)
{
    library_client_end();
    (void)close(dir);
    free(large);
    int result = lc_shutdown(server, -1, NULL);
    return result != LC_OK || lc_free(server) != LC_OK || library_group_teardown(state) != 0;
}

static void put_file(const void *protocol, const char *path, const char *bytes, size_t size)
{
    library_ask_for(protocol, "PUT", path, NULL, bytes, size);
}

static void get_file(const void *protocol, const char *path, const char *field)
{
    const char *const fields[] = {field, NULL};

    library_ask_for(protocol, "GET", path, field != NULL ? fields : NULL, NULL, 0);
}

static void test_a_file_there_and_back(void **state)
{
    put_file(*state, "/files/a.txt", "0123456789", 10);
    assert_int_equal(got.status, 201);
    assert_string_equal(got.body, "10");
    get_file(*state, "/files/a.txt", NULL);
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body, "0123456789");
    assert_contains(got.headers, "content-type: text/plain\r\n");
    assert_contains(got.headers, "content-length: 10\r\n");
    assert_contains(got.headers, "accept-ranges: bytes\r\n");
    library_ask_for(*state, "HEAD", "/files/a.txt", NULL, NULL, 0);
    assert_int_equal(got.status, 200);
    assert_int_equal(got.size, 0);
    assert_contains(got.headers, "content-length: 10\r\n");
    put_file(*state, "/files/..%2fb.txt", "x", 1);
    assert_int_equal(got.status, 400);
    get_file(*state, "/files/none", NULL);
    assert_int_equal(got.status, 404);
}

static void test_conditions_and_ranges(void **state)
{
    char field[128], etag[64];

    put_file(*state, "/files/r.txt", "0123456789", 10);
    get_file(*state, "/files/r.txt", "Range: bytes=2-4");
    assert_int_equal(got.status, 206);
    assert_string_equal(got.body, "234");
    assert_contains(got.headers, "content-range: bytes 2-4/10\r\n");
    assert_contains(got.headers, "content-length: 3\r\n");
    get_file(*state, "/files/r.txt", "Range: bytes=20-");
    assert_int_equal(got.status, 416);
    assert_contains(got.headers, "content-range: bytes */10\r\n");
    const char *at = strstr(got.headers, "etag: ");
    get_file(*state, "/files/r.txt", NULL);
    at = strstr(got.headers, "etag: ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "etag: %63[^\r]", etag), 1);
    (void)snprintf(field, sizeof(field), "If-None-Match: %s", etag);
    get_file(*state, "/files/r.txt", field);
    assert_int_equal(got.status, 304);
    assert_int_equal(got.size, 0);
    assert_lacks(got.headers, "content-length: 10");
    put_file(*state, "/files/r.txt", "abc", 3); /* another file has another tag */
    get_file(*state, "/files/r.txt", field);
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body, "abc");
}

static void test_an_empty_file(void **state)
{
    put_file(*state, "/files/empty", "", 0);
    assert_int_equal(got.status, 201);
    get_file(*state, "/files/empty", NULL);
    assert_int_equal(got.status, 200);
    assert_int_equal(got.size, 0);
    assert_contains(got.headers, "content-length: 0\r\n");
}

static void test_a_large_file_there_and_back(void **state)
{
    char text[32];

    put_file(*state, "/files/large", large, LARGE);
    assert_int_equal(got.status, 201);
    (void)snprintf(text, sizeof(text), "%zu", LARGE);
    assert_string_equal(got.body, text);
    get_file(*state, "/files/large", NULL);
    assert_int_equal(got.status, 200);
    assert_int_equal(got.size, LARGE);
    assert_true(memcmp(got.body, large, LARGE) == 0);
    get_file(*state, "/files/large", "Range: bytes=30000000-39999999");
    assert_int_equal(got.status, 206);
    assert_int_equal(got.size, 10000000);
    assert_true(memcmp(got.body, large + 30000000, 10000000) == 0);
}

static void test_a_form_with_files(void **state)
{
    static const char *const fields[] = {"Content-Type: multipart/form-data; boundary=XX", NULL};
    static const char body[] = "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n"
                               "--XX\r\nContent-Disposition: form-data; name=\"b\"; "
                               "filename=\"c\"\r\nContent-Type: text/plain\r\n\r\ntext\r\n--XX--";

    library_ask_for(*state, "POST", "/form", fields, body, sizeof(body) - 1);
    assert_int_equal(got.status, 200);
    assert_string_equal(got.body, "a=1;b=text;");
    library_ask_for(*state, "POST", "/form", fields, body, sizeof(body) - 10);
    assert_int_equal(got.status, 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_a_file_there_and_back), BOTH(test_conditions_and_ranges),
        BOTH(test_an_empty_file),         BOTH(test_a_large_file_there_and_back),
        BOTH(test_a_form_with_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

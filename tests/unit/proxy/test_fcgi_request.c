/* A request as records of FastCGI: the records, and the variables in them. */

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "claims.h"
#include "expect.h"
#include "fcgi_request.h"
#include "loop.h"
#include "server_state.h"
#include "trust.h"
#include "upstream_pool.h"

static struct {
    struct server server;
    struct loop loop;
    h2o_hostconf_t host;
    h2o_conn_t conn;
    h2o_conn_callbacks_t callbacks;
    h2o_req_t req;
    h2o_filereq_t file;
    struct fcgi_settings settings;
    char text[128 * 1024];
} made;

static socklen_t address(struct sockaddr *ret_address, uint32_t host, uint16_t port)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_addr = {htonl(host)}, .sin_port = htons(port)};

    memcpy(ret_address, &in, sizeof(in));
    return sizeof(in);
}

static socklen_t peer_name(h2o_conn_t *conn, struct sockaddr *ret_address)
{
    (void)conn;
    return address(ret_address, 0x01020304, 1234);
}

static socklen_t sock_name(h2o_conn_t *conn, struct sockaddr *ret_address)
{
    (void)conn;
    return address(ret_address, 0x0a000001, 80);
}

#define IOVEC(text) h2o_iovec_init(H2O_STRLIT(text))

static int set_up(void **state)
{
    (void)state;
    memset(&made, 0, sizeof(made));
    made.server.globalconf.server_name = IOVEC("lastcall");
    made.callbacks.get_peername = peer_name;
    made.callbacks.get_sockname = sock_name;
    made.loop.server = &made.server;
    made.loop.ctx.globalconf = &made.server.globalconf;
    made.conn.ctx = &made.loop.ctx;
    made.conn.callbacks = &made.callbacks;
    made.host.authority.host = IOVEC("named");
    h2o_init_request(&made.req, &made.conn, NULL);
    made.req.hostconf = &made.host;
    made.req.method = IOVEC("GET");
    made.req.path = made.req.input.path = IOVEC("/x?y=1");
    made.req.path_normalized = IOVEC("/x");
    made.req.query_at = 2;
    made.req.authority = made.req.input.authority = IOVEC("host:81");
    made.req.scheme = &H2O_URL_SCHEME_HTTP;
    made.req.version = 0x101;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    h2o_mem_clear_pool(&made.req.pool);
    return 0;
}

static void add(const char *name, const char *value)
{
    const h2o_token_t *token = h2o_lookup_token(name, strlen(name));

    if (token != NULL)
        h2o_add_header(&made.req.pool, &made.req.headers, token, NULL, value, strlen(value));
    else
        h2o_add_header_by_str(&made.req.pool, &made.req.headers, name, strlen(name), 0, name, value,
                              strlen(value));
}

static void set(const char *name, const char *value)
{
    h2o_vector_reserve(&made.req.pool, &made.req.env, made.req.env.size + 2);
    made.req.env.entries[made.req.env.size++] = h2o_iovec_init(name, strlen(name));
    made.req.env.entries[made.req.env.size++] = h2o_iovec_init(value, strlen(value));
}

/* ---- a second, simple reader of what was written ---- */

struct record {
    unsigned type;
    size_t size;
    const char *content;
};

static struct record next_record(const char *bytes, size_t size, size_t *at)
{
    const unsigned char *header = (const unsigned char *)bytes + *at;

    assert_true(size - *at >= 8);
    struct record record = {header[1], (size_t)header[4] << 8 | header[5], bytes + *at + 8};
    assert_int_equal(header[0], 1);
    assert_int_equal(header[2] << 8 | header[3], FCGI_REQUEST_ID);
    *at += 8 + record.size + header[6];
    assert_true(*at <= size);
    return record;
}

static size_t read_length(const unsigned char *bytes, size_t *at)
{
    size_t length = bytes[*at];

    if (length < 128) {
        (*at)++;
        return length;
    }
    length = (length & 0x7f) << 24 | (size_t)bytes[*at + 1] << 16 | (size_t)bytes[*at + 2] << 8 |
             bytes[*at + 3];
    *at += 4;
    assert_true(length >= 128);
    return length;
}

/* As lines NAME=VALUE, after an empty one. */
static const char *as_text(const char *params, size_t size)
{
    size_t at = 0, text = 1;

    made.text[0] = '\n';
    while (at < size) {
        size_t name = read_length((const unsigned char *)params, &at);
        size_t value = read_length((const unsigned char *)params, &at);
        assert_true(name + value <= size - at);
        assert_true(text + name + value + 3 <= sizeof(made.text));
        memcpy(made.text + text, params + at, name);
        made.text[text + name] = '=';
        h2o_memcpy(made.text + text + name + 1, params + at + name, value);
        at += name + value;
        text += name + 1 + value;
        made.text[text++] = '\n';
    }
    made.text[text] = '\0';
    return made.text;
}

static size_t records_of_params;

static const char *params_of(bool keep)
{
    h2o_iovec_t head = fcgi_request_head(&made.req, &made.settings, keep);
    char *params = malloc(head.len);
    size_t at = 0, size = 0;
    struct record record = next_record(head.base, head.len, &at);

    assert_non_null(params);
    assert_int_equal(record.type, FCGI_TYPE_BEGIN_REQUEST);
    assert_int_equal(record.size, 8);
    assert_memory_equal(record.content, keep ? "\0\1\1\0\0\0\0\0" : "\0\1\0\0\0\0\0\0", 8);
    records_of_params = 0;
    do {
        record = next_record(head.base, head.len, &at);
        assert_int_equal(record.type, FCGI_TYPE_PARAMS);
        memcpy(params + size, record.content, record.size);
        size += record.size;
        records_of_params++;
    } while (record.size > 0);
    assert_int_equal(at, head.len);
    const char *text = as_text(params, size);
    free(params);
    return text;
}

/* ---- variables ---- */

static void test_the_variables_of_a_request(void **state)
{
    (void)state;
    add("accept", "*/*");
    add("x-some-thing", "b");
    assert_string_equal(params_of(false),
                        "\nSCRIPT_NAME=\nPATH_INFO=/x\nREMOTE_ADDR=1.2.3.4\nREMOTE_PORT=1234\n"
                        "SERVER_ADDR=10.0.0.1\nSERVER_PORT=80\nGATEWAY_INTERFACE=CGI/1.1\n"
                        "REQUEST_METHOD=GET\nQUERY_STRING=y=1\nHTTP_HOST=host:81\n"
                        "REQUEST_URI=/x?y=1\nSERVER_PROTOCOL=HTTP/1.1\nSERVER_NAME=named\n"
                        "SERVER_SOFTWARE=lastcall\nHTTP_ACCEPT=*/*\nHTTP_X_SOME_THING=b\n");
    (void)params_of(true);
    made.req.query_at = SIZE_MAX;
    made.req.scheme = &H2O_URL_SCHEME_HTTPS;
    const char *text = params_of(false);
    assert_contains(text, "\nQUERY_STRING=\n");
    assert_contains(text, "\nHTTPS=on\n");
}

static void test_a_script_and_its_path(void **state)
{
    (void)state;
    made.file = (h2o_filereq_t){.script_name = IOVEC("/a.php"),
                                .path_info = IOVEC("/info"),
                                .local_path = IOVEC("/www/a.php")};
    made.req.filereq = &made.file;
    made.settings.document_root = IOVEC("/root");
    const char *text = params_of(false);
    assert_contains(text, "\nSCRIPT_FILENAME=/www/a.php\nSCRIPT_NAME=/a.php\nPATH_INFO=/info\n"
                          "DOCUMENT_ROOT=/root\nPATH_TRANSLATED=/root/info\n");
    made.file.path_info = h2o_iovec_init(NULL, 0);
    text = params_of(false);
    assert_lacks(text, "PATH_INFO");
    assert_lacks(text, "PATH_TRANSLATED");
}

static void test_delegated_or_original(void **state)
{
    (void)state;
    made.req.path = IOVEC("/index.php/x");
    made.req.query_at = SIZE_MAX;
    made.req.authority = IOVEC("inner");
    assert_contains(params_of(false), "\nHTTP_HOST=host:81\nREQUEST_URI=/x?y=1\n");
    made.settings.sends_delegated_uri = true;
    assert_contains(params_of(false), "\nHTTP_HOST=inner\nREQUEST_URI=/index.php/x\n");
}

static void test_a_body_has_its_length_and_type(void **state)
{
    (void)state;
    assert_lacks(params_of(false), "CONTENT_LENGTH");
    made.req.entity = IOVEC("abc");
    add("content-type", "text/plain");
    const char *text = params_of(false);
    assert_contains(text, "\nCONTENT_LENGTH=3\n");
    assert_contains(text, "\nCONTENT_TYPE=text/plain\n");
    assert_lacks(text, "HTTP_CONTENT_TYPE");
}

/* Those are for access logs; an application gets the id as HTTP_X_REQUEST_ID. */
static void test_variables_of_the_server_itself_are_not_sent(void **state)
{
    (void)state;
    set("BEFORE", "1");
    *h2o_req_getenv(&made.req, H2O_STRLIT(OWN_VARIABLE_REQUEST_ID), 1) = IOVEC("id-1");
    upstream_set_error(&made.req, "first-byte-time");
    set("AFTER", "2");
    add("x-request-id", "id-1");
    const char *text = params_of(false);
    assert_contains(text, "\nHTTP_X_REQUEST_ID=id-1\nBEFORE=1\nAFTER=2\n");
    assert_lacks(text, "\nREQUEST_ID=");
    assert_lacks(text, "\nrequest-id=");
    assert_lacks(text, "first-byte-time");
}

/* CVE-2016-5385: HTTP_PROXY in its environment is a setting to many programs. */
static void test_fields_that_get_no_variable(void **state)
{
    (void)state;
    add("proxy", "http://evil.test/");
    add("x_forwarded_for", "evil");
    add("x-forwarded-for", "good");
    add("x.y", "evil");
    const char *text = params_of(false);
    assert_lacks(text, "HTTP_PROXY");
    assert_lacks(text, "evil");
    assert_contains(text, "\nHTTP_X_FORWARDED_FOR=good\n");
}

static void test_what_a_peer_that_is_not_trusted_says_gets_no_variable(void **state)
{
    char error[TRUST_ERROR_SIZE];
    (void)state;
    add("x-forwarded-for", "evil");
    add("x-forwarded-proto", "evil");
    add("forwarded", "evil");
    add("x-a", "good");
    assert_contains(params_of(false), "\nHTTP_X_FORWARDED_FOR=evil\n");
    made.server.trust = trust_create("10.0.0.0/8", error);
    assert_non_null(made.server.trust);
    const char *text = params_of(false);
    trust_destroy(made.server.trust);
    assert_lacks(text, "evil");
    assert_contains(text, "\nHTTP_X_A=good\n");
}

static void test_fields_of_one_name_become_one(void **state)
{
    (void)state;
    add("cookie", "a=1");
    add("x-a", "1");
    add("cookie", "b=2");
    add("x-a", "");
    add("x-a", "3");
    const char *text = params_of(false);
    assert_contains(text, "\nHTTP_COOKIE=a=1; b=2\nHTTP_X_A=1, , 3\n");
    assert_int_equal(count_in(text, "COOKIE"), 1);
    assert_int_equal(count_in(text, "X_A"), 1);
}

static void test_setenv_takes_the_place_of_a_variable(void **state)
{
    (void)state;
    set("REMOTE_USER", "me");
    set("HTTPS", "on");
    set("HTTP_X_A", "set");
    set("SERVER_NAME", "");
    add("x-a", "sent");
    add("x-ab", "sent");
    const char *text = params_of(false);
    assert_contains(text, "\nREMOTE_USER=me\nHTTPS=on\nHTTP_X_A=set\nSERVER_NAME=\n");
    assert_contains(text, "\nHTTP_X_AB=sent\n");
    assert_int_equal(count_in(text, "HTTP_X_A="), 1);
    assert_int_equal(count_in(text, "SERVER_NAME="), 1);
}

/* ---- records ---- */

static void test_long_values_and_many_of_them(void **state)
{
    static char value[30000];
    (void)state;
    memset(value, 'v', sizeof(value) - 1);
    for (size_t size = 120; size < 140; size++) { /* where the form of a length changes */
        made.req.headers.size = 0;
        char *text = strndup(value, size);
        add("x-a", text);
        assert_contains(params_of(false), text);
        free(text);
    }
    made.req.headers.size = 0;
    add("x-a", value);
    (void)params_of(false);
    assert_int_equal(records_of_params, 2); /* and the empty one */
    add("x-b", value);
    (void)params_of(false);
    assert_int_equal(records_of_params, 2);
    made.req.headers.size = 0;
    for (unsigned i = 0; i < 2; i++)
        add(i == 0 ? "x-a" : "x-b", value);
    made.req.path_normalized = h2o_iovec_init(value, 5500); /* over 65535 in all */
    (void)params_of(false);
    assert_int_equal(records_of_params, 3);
}

/* All of `body`, `piece` bytes at a time. */
static void expect_stdin(size_t body_size, size_t piece)
{
    struct fcgi_frame frame;
    char *body = malloc(body_size + 1), *got = malloc(body_size + 1);
    size_t from = 0, size = 0, bytes_size = 0;
    char *bytes = malloc(body_size + 8 * (body_size / piece + 8) + 8 * 8);

    assert_true(body != NULL && got != NULL && bytes != NULL);
    for (size_t i = 0; i < body_size; i++)
        body[i] = (char)(i * 7 + i / 251);
    do {
        h2o_iovec_t bufs[2 * FCGI_RECORDS_AT_ONCE + 1];
        size_t n = body_size - from < piece ? body_size - from : piece;
        size_t count = fcgi_request_frame(&frame, h2o_iovec_init(body, body_size), from, n, bufs);
        assert_in_range(count, 1, 2 * FCGI_RECORDS_AT_ONCE + 1);
        for (size_t i = 0; i < count; i++) {
            memcpy(bytes + bytes_size, bufs[i].base, bufs[i].len);
            bytes_size += bufs[i].len;
        }
        from += n;
    } while (from < body_size);
    for (size_t at = 0; at < bytes_size;) {
        struct record record = next_record(bytes, bytes_size, &at);
        assert_int_equal(record.type, FCGI_TYPE_STDIN);
        assert_int_equal(record.size == 0, at == bytes_size); /* the end is at the end */
        memcpy(got + size, record.content, record.size);
        size += record.size;
    }
    assert_int_equal(size, body_size);
    assert_int_equal(memcmp(got, body, size), 0);
    free(body);
    free(got);
    free(bytes);
}

static void test_a_body_in_records(void **state)
{
    static const size_t sizes[] = {0,      1,      65534,  65535,  65536,      131070,
                                   131071, 262139, 262140, 262141, 1024 * 1024};
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        expect_stdin(sizes[i], FCGI_RECORDS_AT_ONCE * FCGI_RECORD_MAX);
        expect_stdin(sizes[i], 1000);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_the_variables_of_a_request),
        TEST(test_a_script_and_its_path),
        TEST(test_delegated_or_original),
        TEST(test_a_body_has_its_length_and_type),
        TEST(test_variables_of_the_server_itself_are_not_sent),
        TEST(test_fields_that_get_no_variable),
        TEST(test_what_a_peer_that_is_not_trusted_says_gets_no_variable),
        TEST(test_fields_of_one_name_become_one),
        TEST(test_setenv_takes_the_place_of_a_variable),
        TEST(test_long_values_and_many_of_them),
        TEST(test_a_body_in_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The head of a request that goes to an upstream, and the head of its answer. */

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "expect.h"
#include "proxied_head.h"

static struct {
    h2o_globalconf_t conf;
    h2o_context_t ctx;
    h2o_conn_t conn;
    h2o_conn_callbacks_t callbacks;
    h2o_req_t req;
    char text[4096];
} made;

static socklen_t peer_name(h2o_conn_t *conn, struct sockaddr *ret_peer)
{
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_addr = {htonl(0x01020304)}};

    (void)conn;
    memcpy(ret_peer, &peer, sizeof(peer));
    return sizeof(peer);
}

static int set_up(void **state)
{
    (void)state;
    memset(&made, 0, sizeof(made));
    made.conf.proxy.emit_x_forwarded_headers = 1;
    made.conf.proxy.emit_via_header = 1;
    made.callbacks.get_peername = peer_name;
    made.ctx.globalconf = &made.conf;
    made.conn.ctx = &made.ctx;
    made.conn.callbacks = &made.callbacks;
    h2o_init_request(&made.req, &made.conn, NULL);
    made.req.method = h2o_iovec_init(H2O_STRLIT("GET"));
    made.req.path = h2o_iovec_init(H2O_STRLIT("/x?y"));
    made.req.authority = made.req.input.authority = h2o_iovec_init(H2O_STRLIT("host:81"));
    made.req.input.scheme = &H2O_URL_SCHEME_HTTP;
    made.req.version = 0x101;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    h2o_mem_clear_pool(&made.req.pool);
    return 0;
}

static void add(const h2o_token_t *name, const char *value)
{
    h2o_add_header(&made.req.pool, &made.req.headers, name, NULL, value, strlen(value));
}

static void add_named(const char *name, const char *value)
{
    h2o_add_header_by_str(&made.req.pool, &made.req.headers, name, strlen(name), 0, name, value,
                          strlen(value));
}

static const char *head(enum proxied_connection connection)
{
    h2o_iovec_t bytes = proxied_head_make(&made.req, connection, false);

    assert_true(bytes.len < sizeof(made.text));
    memcpy(made.text, bytes.base, bytes.len);
    made.text[bytes.len] = '\0';
    return made.text;
}

static void test_a_plain_request(void **state)
{
    (void)state;
    add(H2O_TOKEN_ACCEPT, "*/*");
    add_named("X-A", "b");
    assert_string_equal(head(PROXIED_KEEP),
                        "GET /x?y HTTP/1.1\r\nconnection: keep-alive\r\nhost: host:81\r\n"
                        "accept: */*\r\nX-A: b\r\nx-forwarded-proto: http\r\n"
                        "x-forwarded-for: 1.2.3.4\r\nvia: 1.1 host:81\r\n\r\n");
    assert_contains(head(PROXIED_CLOSE), "\r\nconnection: close\r\n");
    made.req.upgrade = h2o_iovec_init(H2O_STRLIT("websocket"));
    assert_contains(head(PROXIED_UPGRADE), "\r\nconnection: upgrade\r\nupgrade: websocket\r\n");
}

static void test_fields_of_one_name_become_one(void **state)
{
    (void)state;
    add(H2O_TOKEN_COOKIE, "");
    add(H2O_TOKEN_COOKIE, "a=1");
    add(H2O_TOKEN_COOKIE, "b=2");
    add(H2O_TOKEN_VIA, "1.1 x");
    add(H2O_TOKEN_X_FORWARDED_FOR, "::1");
    add(H2O_TOKEN_VIA, "2 y");
    add(H2O_TOKEN_COOKIE, "c=3");
    const char *text = head(PROXIED_KEEP);
    assert_contains(text, "\r\ncookie: a=1; b=2; c=3\r\n");
    assert_contains(text, "\r\nvia: 1.1 x, 2 y, 1.1 host:81\r\n");
    assert_contains(text, "\r\nx-forwarded-for: ::1, 1.2.3.4\r\n");
}

/* n fields of m bytes need memory for n times m, not for n * n: that was 468 MB for 16 KB. */
static void test_many_fields_of_one_name_take_no_more_memory_than_they_have(void **state)
{
    enum { FIELDS = 2000, BYTES = 500 };
    static char value[BYTES + 1];
    (void)state;
    memset(value, 'c', BYTES);
    for (unsigned i = 0; i < FIELDS; i++)
        add(H2O_TOKEN_COOKIE, value);
    h2o_iovec_t bytes = proxied_head_make(&made.req, PROXIED_KEEP, false);
    assert_in_range(bytes.len, FIELDS * (BYTES + 2), FIELDS * (BYTES + 2) + 512);
}

static void test_fields_of_the_clients_connection_stay_there(void **state)
{
    (void)state;
    add(H2O_TOKEN_CONNECTION, "keep-alive, X-Drop, cookie");
    add(H2O_TOKEN_TE, "trailers");
    add(H2O_TOKEN_COOKIE, "a=1");
    add_named("x-drop", "1");
    add_named("x-stay", "1");
    const char *text = head(PROXIED_KEEP);
    assert_lacks(text, "x-drop");
    assert_lacks(text, "cookie");
    assert_lacks(text, "\r\nte:");
    assert_contains(text, "x-stay: 1");
}

/* What the route adds is the route's: a client cannot take it away by naming it. */
static void test_a_client_does_not_remove_what_the_route_adds(void **state)
{
    static h2o_iovec_t named = {H2O_STRLIT("x-trust")}, more = {H2O_STRLIT("x-more")},
                       peer = {H2O_STRLIT("x-peer")};
    h2o_headers_command_t cmds[] = {
        {H2O_HEADERS_CMD_SET, &named, {H2O_STRLIT("none")}},
        {H2O_HEADERS_CMD_ADD, &more, {H2O_STRLIT("ours")}},
        {H2O_HEADERS_CMD_APPEND, &peer, {H2O_STRLIT("front")}},
        {H2O_HEADERS_CMD_NULL},
    };
    h2o_req_overrides_t overrides = {.headers_cmds = cmds};
    (void)state;
    made.req.overrides = &overrides;
    add(H2O_TOKEN_CONNECTION, "X-Trust, x-more, X-Peer, x-forwarded-for, cookie");
    add(H2O_TOKEN_COOKIE, "a=1");
    add(H2O_TOKEN_X_FORWARDED_FOR, "9.9.9.9");
    add_named("x-more", "theirs");
    add_named("x-peer", "forged");
    const char *text = head(PROXIED_KEEP);
    assert_contains(text, "\r\nx-trust: none\r\n");
    assert_contains(text, "\r\nx-more: ours\r\n");
    assert_contains(text, "\r\nx-peer: front\r\n");
    assert_contains(text, "\r\nx-forwarded-for: 1.2.3.4\r\n");
    assert_lacks(text, "theirs");
    assert_lacks(text, "forged");
    assert_lacks(text, "cookie");
}

static void test_a_body_has_its_length(void **state)
{
    (void)state;
    assert_lacks(head(PROXIED_KEEP), "content-length");
    made.req.method = h2o_iovec_init(H2O_STRLIT("POST"));
    assert_contains(head(PROXIED_KEEP), "\r\ncontent-length: 0\r\n");
    made.req.method = h2o_iovec_init(H2O_STRLIT("DELETE"));
    made.req.entity = h2o_iovec_init(H2O_STRLIT("abc"));
    assert_contains(head(PROXIED_KEEP), "\r\ncontent-length: 3\r\n");
}

/* ---- answers ---- */

static void answer(const char *bytes)
{
    static struct answer_fields fields;
    struct answer_reader reader;

    answer_reader_init(&reader, false, false);
    ssize_t size = answer_reader_head(&reader, bytes, strlen(bytes), &fields);
    assert_int_equal(size, strlen(bytes));
    assert_true(proxied_head_answer(&made.req, &fields, bytes, (size_t)size));
}

static void test_an_answer_is_taken_with_its_fields(void **state)
{
    (void)state;
    answer("HTTP/1.1 404 Nothing Here\r\nContent-Length: 7\r\nX-Mixed: Case\r\nServer: other\r\n"
           "Date: now\r\n\r\n");
    assert_int_equal(made.req.res.status, 404);
    assert_string_equal(made.req.res.reason, "Nothing Here");
    assert_int_equal(made.req.res.content_length, 7);
    assert_int_equal(made.req.res.headers.size, 1);
    const h2o_header_t *field = &made.req.res.headers.entries[0];
    assert_memory_equal(field->name->base, "x-mixed", 7);
    assert_memory_equal(field->orig_name, "X-Mixed", 7);
    assert_memory_equal(field->value.base, "Case", 4);
}

static void test_fields_of_the_upstreams_connection_stay_there(void **state)
{
    (void)state;
    answer("HTTP/1.1 200 OK\r\nX-Hop: 1\r\nConnection: close, x-hop\r\nX-Stay: 1\r\n"
           "Keep-Alive: timeout=5\r\n\r\n");
    assert_int_equal(made.req.res.headers.size, 1);
    assert_memory_equal(made.req.res.headers.entries[0].name->base, "x-stay", 6);
}

static void test_a_204_has_no_length(void **state)
{
    (void)state;
    answer("HTTP/1.1 204 No\r\nContent-Length: 7\r\n\r\n");
    assert_true(made.req.res.content_length == SIZE_MAX);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static void assert_upgrade(const char *name, int version, bool want)
{
    made.req.upgrade = h2o_iovec_init(name, strlen(name));
    made.req.version = version;
    assert_int_equal(proxied_asks_for_upgrade(&made.req), want);
}

/* Requests of HTTP/2 in a tunnel would get past the routes, and their limits. */
static void test_any_protocol_but_http_is_an_upgrade(void **state)
{
    (void)state;
    assert_upgrade("websocket", 0x101, true);
    assert_upgrade("WebSocket", 0x101, true);
    assert_upgrade("tcp/1.0", 0x101, true);
    assert_upgrade("", 0x101, false);
    assert_upgrade("websocket, x", 0x101, false); /* a list has no meaning that both know */
    assert_upgrade("x\ty", 0x101, false);
    assert_upgrade("h2c", 0x101, false);
    assert_upgrade("H2", 0x101, false);
    assert_upgrade("HTTP/2.0", 0x101, false);
    assert_upgrade("websocket", 0x100, false); /* RFC 9110 section 7.8 */
    assert_upgrade("websocket", 0x200, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_plain_request),
        TEST(test_fields_of_one_name_become_one),
        TEST(test_many_fields_of_one_name_take_no_more_memory_than_they_have),
        TEST(test_fields_of_the_clients_connection_stay_there),
        TEST(test_a_client_does_not_remove_what_the_route_adds),
        TEST(test_a_body_has_its_length),
        TEST(test_an_answer_is_taken_with_its_fields),
        TEST(test_fields_of_the_upstreams_connection_stay_there),
        TEST(test_a_204_has_no_length),
        TEST(test_any_protocol_but_http_is_an_upgrade),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

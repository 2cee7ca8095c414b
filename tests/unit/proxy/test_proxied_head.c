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
#include "server_state.h"
#include "loop.h"
#include "trust.h"

static struct {
    struct server server;
    struct loop loop;
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

static socklen_t peer_of_v6(h2o_conn_t *conn, struct sockaddr *ret_peer)
{
    struct sockaddr_in6 peer = {.sin6_family = AF_INET6};

    (void)conn;
    assert_int_equal(inet_pton(AF_INET6, "2001:db8::17", &peer.sin6_addr), 1);
    memcpy(ret_peer, &peer, sizeof(peer));
    return sizeof(peer);
}

static socklen_t peer_on_a_socket(h2o_conn_t *conn, struct sockaddr *ret_peer)
{
    (void)conn;
    ret_peer->sa_family = AF_UNIX;
    return sizeof(ret_peer->sa_family);
}

/* getpeername(2) fails after a reset. */
static socklen_t peer_that_is_gone(h2o_conn_t *conn, struct sockaddr *ret_peer)
{
    (void)conn;
    (void)ret_peer;
    return 0;
}

static void trust(const char *list)
{
    char error[TRUST_ERROR_SIZE];

    made.server.trust = trust_create(list, error);
    assert_non_null(made.server.trust);
}

static int set_up(void **state)
{
    (void)state;
    memset(&made, 0, sizeof(made));
    made.server.globalconf.proxy.emit_x_forwarded_headers = 1;
    made.server.globalconf.proxy.emit_via_header = 1;
    made.callbacks.get_peername = peer_name;
    made.loop.server = &made.server;
    made.loop.ctx.globalconf = &made.server.globalconf;
    made.conn.ctx = &made.loop.ctx;
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
    trust_destroy(made.server.trust);
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

static const char *head_with(enum proxied_connection connection, unsigned with)
{
    h2o_iovec_t bytes = proxied_head_make(&made.req, connection, with);

    assert_true(bytes.len < sizeof(made.text));
    memcpy(made.text, bytes.base, bytes.len);
    made.text[bytes.len] = '\0';
    return made.text;
}

static const char *head(enum proxied_connection connection)
{
    return head_with(connection, 0);
}

static void test_a_plain_request(void **state)
{
    (void)state;
    add(H2O_TOKEN_ACCEPT, "*/*");
    add_named("X-A", "b");
    assert_string_equal(
        head(PROXIED_KEEP),
        "GET /x?y HTTP/1.1\r\nconnection: keep-alive\r\nhost: host:81\r\n"
        "accept: */*\r\nX-A: b\r\nx-forwarded-proto: http\r\n"
        "x-forwarded-host: host:81\r\nx-forwarded-for: 1.2.3.4\r\nvia: 1.1 host:81\r\n\r\n");
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
    h2o_iovec_t bytes = proxied_head_make(&made.req, PROXIED_KEEP, 0);
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
        {H2O_HEADERS_CMD_NULL, NULL, {NULL, 0}},
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

/* ---- where it comes from ---- */

static void claim_all(void)
{
    add(H2O_TOKEN_X_FORWARDED_FOR, "9.9.9.9");
    add_named("x-forwarded-proto", "gopher");
    add_named("x-forwarded-host", "outer.test");
    add_named("x-forwarded-port", "70");
    add_named("forwarded", "for=9.9.9.9");
}

static void test_a_trusted_proxy_is_believed(void **state)
{
    (void)state;
    trust("1.2.3.0/24");
    claim_all();
    const char *text = head_with(PROXIED_KEEP, PROXIED_WITH_FORWARDED);
    assert_contains(text, "\r\nx-forwarded-for: 9.9.9.9, 1.2.3.4\r\n");
    assert_contains(text, "\r\nx-forwarded-proto: gopher\r\n");
    assert_contains(text, "\r\nx-forwarded-host: outer.test\r\n");
    assert_contains(text, "\r\nx-forwarded-port: 70\r\n");
    assert_contains(text, "\r\nforwarded: for=9.9.9.9, "
                          "for=1.2.3.4;host=\"host:81\";proto=http\r\n");
    assert_int_equal(count_in(text, "x-forwarded-"), 4);
}

static void test_what_a_trusted_proxy_leaves_open_is_made(void **state)
{
    (void)state;
    trust("1.2.3.0/24");
    made.server.globalconf.proxy.preserve_x_forwarded_proto = 1;
    const char *text = head(PROXIED_KEEP);
    assert_contains(text, "\r\nx-forwarded-for: 1.2.3.4\r\n");
    assert_contains(text, "\r\nx-forwarded-proto: http\r\n");
    assert_contains(text, "\r\nx-forwarded-host: host:81\r\n");
    assert_lacks(text, "\r\nforwarded:");
}

static void test_another_peer_is_not_believed(void **state)
{
    (void)state;
    trust("none");
    made.server.globalconf.proxy.preserve_x_forwarded_proto = 1;
    claim_all();
    const char *text = head_with(PROXIED_KEEP, PROXIED_WITH_FORWARDED);
    assert_contains(text, "\r\nx-forwarded-for: 1.2.3.4\r\n");
    assert_contains(text, "\r\nx-forwarded-proto: http\r\n");
    assert_contains(text, "\r\nx-forwarded-host: host:81\r\n");
    assert_contains(text, "\r\nforwarded: for=1.2.3.4;host=\"host:81\";proto=http\r\n");
    assert_lacks(text, "9.9.9.9");
    assert_lacks(text, "x-forwarded-port");
    made.server.globalconf.proxy.emit_x_forwarded_headers = 0;
    text = head(PROXIED_KEEP);
    assert_lacks(text, "x-forwarded");
    assert_lacks(text, "\r\nforwarded:");
}

static void test_without_a_list_it_is_as_with_h2o(void **state)
{
    (void)state;
    claim_all();
    const char *text = head(PROXIED_KEEP);
    assert_contains(text, "\r\nx-forwarded-for: 9.9.9.9, 1.2.3.4\r\n");
    assert_contains(text, "\r\nx-forwarded-proto: http\r\n");
    assert_contains(text, "\r\nx-forwarded-host: host:81\r\n");
    assert_contains(text, "\r\nx-forwarded-port: 70\r\n");
    assert_contains(text, "\r\nforwarded: for=9.9.9.9\r\n");
    text = head_with(PROXIED_KEEP, PROXIED_WITH_FORWARDED);
    assert_contains(text, "\r\nforwarded: for=1.2.3.4;host=\"host:81\";proto=http\r\n");
    made.server.globalconf.proxy.preserve_x_forwarded_proto = 1;
    assert_contains(head(PROXIED_KEEP), "\r\nx-forwarded-proto: gopher\r\n");
    made.server.globalconf.proxy.emit_x_forwarded_headers = 0;
    text = head(PROXIED_KEEP);
    assert_contains(text, "\r\nx-forwarded-for: 9.9.9.9\r\n");
    assert_contains(text, "\r\nx-forwarded-host: outer.test\r\n");
}

/* RFC 7239 section 6: brackets and quotes. */
static void test_a_peer_of_ipv6_stands_in_quotes(void **state)
{
    (void)state;
    made.callbacks.get_peername = peer_of_v6;
    made.req.input.authority = h2o_iovec_init(H2O_STRLIT("plain.test"));
    const char *text = head_with(PROXIED_KEEP, PROXIED_WITH_FORWARDED);
    assert_contains(text, "\r\nx-forwarded-for: 2001:db8::17\r\n");
    assert_contains(text, "\r\nforwarded: for=\"[2001:db8::17]\";host=plain.test;proto=http\r\n");
}

static void test_a_peer_on_a_socket_has_no_address(void **state)
{
    (void)state;
    made.callbacks.get_peername = peer_on_a_socket;
    made.req.input.authority = h2o_iovec_init(H2O_STRLIT("a\"b\\c"));
    trust("unix");
    add(H2O_TOKEN_X_FORWARDED_FOR, "9.9.9.9");
    const char *text = head_with(PROXIED_KEEP, PROXIED_WITH_FORWARDED);
    assert_contains(text, "\r\nx-forwarded-for: 9.9.9.9\r\n");
    assert_contains(text, "\r\nforwarded: for=unknown;host=\"a\\\"b\\\\c\";proto=http\r\n");
}

/* A route may say where it is reached: that is not doubled. */
static void test_a_peer_that_is_gone_is_not_taken_for_one_on_a_socket(void **state)
{
    (void)state;
    made.callbacks.get_peername = peer_that_is_gone;
    claim_all();
    assert_contains(head(PROXIED_KEEP), "\r\nx-forwarded-for: 9.9.9.9, unknown\r\n");
    trust("unix");
    const char *text = head(PROXIED_KEEP);
    assert_contains(text, "\r\nx-forwarded-for: unknown\r\n");
    assert_lacks(text, "9.9.9.9");
    assert_lacks(text, "gopher");
}

/* Applications that get fields as variables take one for the other. */
static void test_an_underscore_hides_no_claim(void **state)
{
    (void)state;
    add_named("x_forwarded_for", "9.9.9.9");
    add_named("x-forwarded_proto", "gopher");
    add_named("x_forwarded_host", "outer.test");
    add_named("x_request_id", "mine");
    add_named("x_other", "stays");
    const char *text = head(PROXIED_KEEP);
    assert_lacks(text, "9.9.9.9");
    assert_lacks(text, "gopher");
    assert_lacks(text, "outer.test");
    assert_lacks(text, "mine");
    assert_contains(text, "\r\nx_other: stays\r\n");
    trust("1.2.3.4");
    assert_contains(head(PROXIED_KEEP), "\r\nx_forwarded_for: 9.9.9.9\r\n");
}

static void test_what_the_route_sets_is_not_added_again(void **state)
{
    static h2o_iovec_t host = {H2O_STRLIT("x-forwarded-host")},
                       proto = {H2O_STRLIT("x-forwarded-proto")};
    h2o_headers_command_t cmds[] = {
        {H2O_HEADERS_CMD_SET, &host, {H2O_STRLIT("public.test")}},
        {H2O_HEADERS_CMD_SET, &proto, {H2O_STRLIT("https")}},
        {H2O_HEADERS_CMD_NULL, NULL, {NULL, 0}},
    };
    h2o_req_overrides_t overrides = {.headers_cmds = cmds};
    (void)state;
    made.req.overrides = &overrides;
    claim_all();
    const char *text = head(PROXIED_KEEP);
    assert_contains(text, "\r\nx-forwarded-host: public.test\r\n");
    assert_contains(text, "\r\nx-forwarded-proto: https\r\n");
    assert_int_equal(count_in(text, "x-forwarded-host"), 1);
    assert_int_equal(count_in(text, "x-forwarded-proto"), 1);
}

/* W3C Trace Context: both fields are passed on as they are. */
static void test_a_trace_is_passed_on(void **state)
{
    (void)state;
    trust("none");
    add_named("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    add_named("tracestate", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7");
    add_named("tracestate", "last=1");
    const char *text = head(PROXIED_KEEP);
    assert_contains(text, "\r\ntraceparent: "
                          "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n"
                          "tracestate: congo=t61rcWkgMzE,rojo=00f067aa0ba902b7\r\n"
                          "tracestate: last=1\r\n");
}

/* ---- bodies ---- */

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
    assert_false(proxied_head_follow(&made.req, &fields));
    proxied_head_answer(&made.req, &fields, bytes, (size_t)size);
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

/* A server may switch before it has read the body. */
static void test_a_request_with_a_body_is_no_upgrade(void **state)
{
    (void)state;
    made.req.entity = h2o_iovec_init(H2O_STRLIT("body"));
    assert_upgrade("websocket", 0x101, false);
    made.req.entity.len = 0;
    assert_upgrade("websocket", 0x101, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_plain_request),
        TEST(test_fields_of_one_name_become_one),
        TEST(test_many_fields_of_one_name_take_no_more_memory_than_they_have),
        TEST(test_fields_of_the_clients_connection_stay_there),
        TEST(test_a_client_does_not_remove_what_the_route_adds),
        TEST(test_a_trusted_proxy_is_believed),
        TEST(test_what_a_trusted_proxy_leaves_open_is_made),
        TEST(test_another_peer_is_not_believed),
        TEST(test_without_a_list_it_is_as_with_h2o),
        TEST(test_a_peer_of_ipv6_stands_in_quotes),
        TEST(test_a_peer_on_a_socket_has_no_address),
        TEST(test_a_peer_that_is_gone_is_not_taken_for_one_on_a_socket),
        TEST(test_an_underscore_hides_no_claim),
        TEST(test_what_the_route_sets_is_not_added_again),
        TEST(test_a_trace_is_passed_on),
        TEST(test_a_body_has_its_length),
        TEST(test_an_answer_is_taken_with_its_fields),
        TEST(test_fields_of_the_upstreams_connection_stay_there),
        TEST(test_a_204_has_no_length),
        TEST(test_any_protocol_but_http_is_an_upgrade),
        TEST(test_a_request_with_a_body_is_no_upgrade),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

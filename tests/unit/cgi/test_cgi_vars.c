/* The specification of cgi_vars.h: a script's environment. */

#include "cgi_vars.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cgi_exchange.h"

static struct cgi_exchange fake;
static struct cgi_settings settings;
static struct cgi_script script;
static char **variables;

static void begin(const char *method, const char *path)
{
    cgi_exchange_init(&fake, method, path);
    settings = (struct cgi_settings){.dir = "/srv/cgi"};
    memset(&script, 0, sizeof(script));
    (void)strcpy(script.path, "/srv/cgi/run");
    (void)strcpy(script.name, "/x/run");
}

static int teardown(void **state)
{
    (void)state;
    free(variables);
    variables = NULL;
    cgi_exchange_release(&fake);
    return 0;
}

static void make(void)
{
    free(variables);
    variables = cgi_vars_make(&settings, &fake.exchange, &script);
    assert_non_null(variables);
}

static unsigned count_of(const char *name)
{
    unsigned count = 0;
    for (char **at = variables; *at != NULL; at++)
        count += strncmp(*at, name, strlen(name)) == 0 && (*at)[strlen(name)] == '=';
    return count;
}

static const char *value_of(const char *name)
{
    for (char **at = variables; *at != NULL; at++)
        if (strncmp(*at, name, strlen(name)) == 0 && (*at)[strlen(name)] == '=')
            return *at + strlen(name) + 1;
    return NULL;
}

static void assert_is(const char *name, const char *value)
{
    const char *is = value_of(name);
    if (is == NULL || strcmp(is, value) != 0 || count_of(name) != 1)
        fail_msg("%s is %s, not %s", name, is != NULL ? is : "(not set)", value);
}

static void fields(const struct exchange_field *list, size_t count)
{
    fake.exchange.fields = list;
    fake.exchange.field_count = count;
}

#define FIELDS(...)                                                                                \
    static const struct exchange_field list[] = {__VA_ARGS__};                                     \
    fields(list, sizeof(list) / sizeof(list[0]))

/* ---- RFC 3875, section 4.1 ---- */

static void test_a_get_without_more(void **state)
{
    (void)state;
    begin("GET", "/x/run");
    make();
    assert_is("GATEWAY_INTERFACE", "CGI/1.1");
    assert_is("REQUEST_METHOD", "GET");
    assert_is("QUERY_STRING", "");
    assert_is("SCRIPT_NAME", "/x/run");
    assert_is("SCRIPT_FILENAME", "/srv/cgi/run");
    assert_is("REQUEST_URI", "/x/run");
    assert_is("REMOTE_ADDR", "192.0.2.7");
    assert_is("REMOTE_HOST", "192.0.2.7");
    assert_is("REMOTE_PORT", "4711");
    assert_is("SERVER_NAME", "test");
    assert_is("SERVER_PORT", "80");
    assert_is("SERVER_PROTOCOL", "HTTP/1.1");
    assert_is("SERVER_SOFTWARE", "lastcall/" LASTCALL_VERSION);
    assert_is("HTTP_HOST", "test");
    assert_non_null(value_of("PATH"));
    assert_null(value_of("PATH_INFO"));
    assert_null(value_of("PATH_TRANSLATED"));
    assert_null(value_of("CONTENT_LENGTH"));
    assert_null(value_of("CONTENT_TYPE"));
    assert_null(value_of("HTTPS"));
}

static void test_query_path_info_and_body(void **state)
{
    (void)state;
    begin("POST", "/x/run/a%20b?c=d&e");
    FIELDS({"content-type", "a/b"}, {"content-length", "3"});
    (void)strcpy(script.info, "/a b");
    fake.exchange.body = "abc";
    fake.exchange.body_bytes = 3;
    make();
    assert_is("QUERY_STRING", "c=d&e");
    assert_is("REQUEST_URI", "/x/run/a%20b?c=d&e");
    assert_is("PATH_INFO", "/a b");
    assert_is("PATH_TRANSLATED", "/srv/cgi/a b");
    assert_is("CONTENT_LENGTH", "3");
    assert_is("CONTENT_TYPE", "a/b");
    assert_null(value_of("HTTP_CONTENT_TYPE"));
    assert_null(value_of("HTTP_CONTENT_LENGTH"));
}

static void test_a_body_without_a_length_of_its_own_has_one_here(void **state)
{
    (void)state;
    begin("POST", "/x/run");
    fake.exchange.body_bytes = 7; /* chunked, or HTTP/2 */
    make();
    assert_is("CONTENT_LENGTH", "7");
}

static void test_server_name_and_port_are_those_that_the_client_used(void **state)
{
    static const struct {
        const char *authority, *name, *port;
        bool is_https;
    } cases[] = {
        {"a.example", "a.example", "80", false},
        {"a.example", "a.example", "443", true},
        {"a.example:81", "a.example", "81", false},
        {"a.example:", "a.example", "80", false},
        {"[::1]", "[::1]", "80", false},
        {"[::1]:82", "[::1]", "82", false},
        {"", "localhost", "80", false},
        {NULL, "localhost", "80", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin("GET", "/x/run");
        fake.exchange.authority = cases[i].authority;
        fake.exchange.is_https = cases[i].is_https;
        fake.exchange.version = 0x200;
        make();
        assert_is("SERVER_NAME", cases[i].name);
        assert_is("SERVER_PORT", cases[i].port);
        assert_is("SERVER_PROTOCOL", "HTTP/2.0");
        assert_int_equal(value_of("HTTPS") != NULL, cases[i].is_https);
        cgi_exchange_release(&fake);
    }
    begin("GET", "/x/run"); /* for the teardown */
}

/* ---- HTTP_* ---- */

static void test_fields_become_variables(void **state)
{
    (void)state;
    begin("GET", "/x/run");
    FIELDS({"accept", "a"}, {"x-two-words", "1"}, {"accept", "b"}, {"cookie", "c=1"},
           {"cookie", "d=2"}, {"host", "h"}, {"x-empty", ""});
    make();
    assert_is("HTTP_ACCEPT", "a, b");
    assert_is("HTTP_X_TWO_WORDS", "1");
    assert_is("HTTP_COOKIE", "c=1; d=2");
    assert_is("HTTP_HOST", "h");
    assert_is("HTTP_X_EMPTY", "");
}

static void test_some_fields_never_become_variables(void **state)
{
    (void)state;
    begin("GET", "/x/run");
    FIELDS({"proxy", "http://evil/"}, {"authorization", "Basic x"}, {"proxy-authorization", "x"},
           {"connection", "close"}, {"x_proxy", "1"}, {"te", "x"}, {"transfer-encoding", "x"},
           {"expect", "x"}, {"upgrade", "x"}, {"x=y", "1"}, {"", "1"}, {"a.b", "1"});
    make();
    for (char **at = variables; *at != NULL; at++)
        if (strncmp(*at, "HTTP_", 5) == 0)
            assert_string_equal(*at, "HTTP_HOST=test");
}

static void test_authorization_is_passed_if_that_is_configured(void **state)
{
    (void)state;
    begin("GET", "/x/run");
    FIELDS({"authorization", "Basic x"}, {"proxy", "y"});
    settings.authorization = true;
    make();
    assert_is("HTTP_AUTHORIZATION", "Basic x");
    assert_null(value_of("HTTP_PROXY"));
}

/* ---- configured ones ---- */

static void test_a_configured_variable_replaces_ours(void **state)
{
    (void)state;
    begin("GET", "/x/run");
    settings.env[0] = "PATH=/opt/bin";
    settings.env[1] = "SERVER_NAME=fixed";
    settings.env[2] = "LANG=C.UTF-8";
    settings.env_count = 3;
    make();
    assert_is("PATH", "/opt/bin");
    assert_is("SERVER_NAME", "fixed");
    assert_is("LANG", "C.UTF-8");
    assert_is("SERVER_PORT", "80");
}

static void test_nothing_of_this_process_is_passed(void **state)
{
    (void)state;
    assert_int_equal(setenv("SECRET_OF_THE_SERVER", "x", 1), 0);
    begin("GET", "/x/run");
    make();
    assert_null(value_of("SECRET_OF_THE_SERVER"));
}

static void test_which_texts_are_variables(void **state)
{
    (void)state;
    assert_true(cgi_env_is_valid("A=b"));
    assert_true(cgi_env_is_valid("_a1="));
    assert_true(cgi_env_is_valid("HTTPS=on"));
    assert_false(cgi_env_is_valid("A"));
    assert_false(cgi_env_is_valid("=b"));
    assert_false(cgi_env_is_valid("1A=b"));
    assert_false(cgi_env_is_valid("A B=c"));
    assert_false(cgi_env_is_valid("HTTP_PROXY=http://x/"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_a_get_without_more, teardown),
        cmocka_unit_test_teardown(test_query_path_info_and_body, teardown),
        cmocka_unit_test_teardown(test_a_body_without_a_length_of_its_own_has_one_here, teardown),
        cmocka_unit_test_teardown(test_server_name_and_port_are_those_that_the_client_used,
                                  teardown),
        cmocka_unit_test_teardown(test_fields_become_variables, teardown),
        cmocka_unit_test_teardown(test_some_fields_never_become_variables, teardown),
        cmocka_unit_test_teardown(test_authorization_is_passed_if_that_is_configured, teardown),
        cmocka_unit_test_teardown(test_a_configured_variable_replaces_ours, teardown),
        cmocka_unit_test_teardown(test_nothing_of_this_process_is_passed, teardown),
        cmocka_unit_test(test_which_texts_are_variables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

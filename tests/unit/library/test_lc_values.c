/* Texts that a client has encoded, and the client behind proxies. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "request_p.h"

static void test_percent_signs_are_decoded(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        /* text, as a path, as a form */
        {"a%20b+c", "a b+c", "a b c"},
        {"%41%7a", "Az", "Az"},
        {"%e2%82%AC", "\xe2\x82\xac", "\xe2\x82\xac"},
        {"100%", "100%", "100%"},
        {"%4", "%4", "%4"},
        {"%zz%4g", "%zz%4g", "%zz%4g"},
        {"%%41", "%A", "%A"},
        {"%2541", "%41", "%41"},
        {"a%00b", "a%00b", "a%00b"},
        {"", "", ""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char to[32];
        size_t bytes = lc_decode(cases[i][0], strlen(cases[i][0]), to, false);
        assert_string_equal(to, cases[i][1]);
        assert_int_equal(bytes, strlen(to));
        (void)strcpy(to, cases[i][0]); /* in place */
        (void)lc_decode(to, strlen(to), to, true);
        assert_string_equal(to, cases[i][2]);
    }
}

static void test_the_first_pair_of_a_name_is_found(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name, *value; /* NULL: none */
    } cases[] = {
        {"a=1&b=2", "a", "1"},   {"a=1&b=2", "b", "2"},    {"a=1&a=2", "a", "1"},
        {"a=1&b=2", "c", NULL},  {"a&b=2", "a", ""},       {"a=&b", "a", ""},
        {"&&a=1&", "a", "1"},    {"a=b=c", "a", "b=c"},    {"=1", "", "1"},
        {"&", "", NULL},         {"", "", NULL},           {"%61%62=1", "ab", "1"},
        {"a+b=1", "a b", "1"},   {"ab=1", "a", NULL},      {"a=1", "ab", NULL},
        {"a%3Db=1", "a=b", "1"}, {"a%26=1&c=2", "c", "2"}, {"a%00=1", "a", NULL},
        {"a;b=1", "b", NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *value;
        size_t bytes;
        bool found =
            lc_find_pair(cases[i].text, strlen(cases[i].text), cases[i].name, &value, &bytes);
        if (found != (cases[i].value != NULL))
            fail_msg("%s in %s", cases[i].name, cases[i].text);
        if (found) {
            assert_int_equal(bytes, strlen(cases[i].value));
            assert_memory_equal(value, cases[i].value, bytes);
        }
    }
}

static void test_cookies_are_found(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name, *value;
    } cases[] = {
        {"a=1; b=2", "a", "1"}, {"a=1; b=2", "b", "2"},    {"a=1;b=2", "b", "2"},
        {"a=1; a=2", "a", "1"}, {"a=\"x y\"", "a", "x y"}, {"a=\"", "a", "\""},
        {"a=%41", "a", "%41"},  {"a= ; b=2", "a", ""},     {" ;; b=2 ;", "b", "2"},
        {"ab=1", "a", NULL},    {"a", "a", NULL},          {"A=1", "a", NULL},
        {"b=a=1", "a", NULL},   {"", "a", NULL},           {"a=1=2", "a", "1=2"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *value;
        size_t bytes;
        bool found = lc_find_cookie(cases[i].text, cases[i].name, &value, &bytes);
        if (found != (cases[i].value != NULL))
            fail_msg("%s in %s", cases[i].name, cases[i].text);
        if (found) {
            assert_int_equal(bytes, strlen(cases[i].value));
            assert_memory_equal(value, cases[i].value, bytes);
        }
    }
}

static void test_the_client_is_the_last_address_that_no_proxy_has(void **state)
{
    (void)state;
    static const struct {
        const char *trusted, *peer, *list, *client;
    } cases[] = {
        {"10.0.0.0/8", "192.0.2.1", "198.51.100.7", "192.0.2.1"}, /* who says so is not trusted */
        {"10.0.0.0/8", "10.1.2.3", "198.51.100.7", "198.51.100.7"},
        {"10.0.0.0/8", "10.1.2.3", NULL, "10.1.2.3"},
        {"10.0.0.0/8", "10.1.2.3", "", "10.1.2.3"},
        {"10.0.0.0/8", "10.1.2.3", "6.6.6.6, 198.51.100.7",
         "198.51.100.7"}, /* not what it claims */
        {"10.0.0.0/8", "10.1.2.3", "198.51.100.7,10.9.9.9 ", "198.51.100.7"},
        {"10.0.0.0/8", "10.1.2.3", "10.0.0.5, 10.0.0.6", "10.0.0.5"},
        {"10.0.0.0/8", "10.1.2.3", "198.51.100.7, unknown", "10.1.2.3"},
        {"10.0.0.0/8", "10.1.2.3", "unknown, 10.0.0.6", "10.0.0.6"},
        {"10.0.0.0/8", "10.1.2.3", "198.51.100.7,", "10.1.2.3"},
        {"10.0.0.0/8", "10.1.2.3", "198.51.100.7:4711", "198.51.100.7"},
        {"10.0.0.0/8", "10.1.2.3", "[2001:db8::1]:4711", "2001:db8::1"},
        {"::1", "::1", "2001:DB8:0::1", "2001:db8::1"},
        {"2001:db8::/33", "2001:db8:7fff::1", "192.0.2.9", "192.0.2.9"},
        {"2001:db8::/33", "2001:db8:8000::1", "192.0.2.9", "2001:db8:8000::1"},
        {"unix", "unix", "192.0.2.9", "192.0.2.9"},
        {"::1", "unix", "192.0.2.9", "unix"},
        {"0.0.0.0/0", "10.1.2.3", "192.0.2.9", "192.0.2.9"},
        {"0.0.0.0/0", "10.1.2.3", "2001:db8::1", "2001:db8::1"},
        {"10.1.2.3", "::ffff:10.1.2.3", "192.0.2.9", "192.0.2.9"},
        {"10.0.0.0/9, 192.168.0.0/16 ::1", "192.168.3.4", "192.0.2.9", "192.0.2.9"},
        {"", "10.1.2.3", "192.0.2.9", "10.1.2.3"},
        {"none", "10.1.2.3", "192.0.2.9", "10.1.2.3"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char error[TRUST_ERROR_SIZE], text[64];
        struct trust *trust = trust_create(cases[i].trusted, error);
        assert_non_null(trust);
        lc_find_client(trust, cases[i].peer, cases[i].list, NULL, text);
        if (strcmp(text, cases[i].client) != 0)
            fail_msg("case %zu: %s", i, text);
        trust_destroy(trust);
    }
}

static void test_the_client_in_forwarded(void **state)
{
    (void)state;
    static const struct {
        const char *forwarded, *client;
    } cases[] = {
        {"for=192.0.2.43", "192.0.2.43"},
        {"For=192.0.2.43", "192.0.2.43"},
        {"for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"},
        {"proto=http;host=\"a, b;c\";for=192.0.2.60", "192.0.2.60"},
        {"for=6.6.6.6, for=192.0.2.43", "192.0.2.43"}, /* not what it claims */
        {"for=192.0.2.43, for=10.9.9.9", "192.0.2.43"},
        {"for=192.0.2.43,for=10.9.9.9 \t,", "192.0.2.43"},
        {"for=10.0.0.5, for=10.0.0.6", "10.0.0.5"},
        {"for=\"192.0.2.43:47011\"", "192.0.2.43"},
        {"for=\"192.0.2.43:_a-port\"", "192.0.2.43"},
        {"for=\"[2001:DB8:cafe::17]:4711\"", "2001:db8:cafe::17"},
        {"for=\"[2001:db8::1]\"", "2001:db8::1"},
        {"for=\"\\1\\92.0.2.43\"", "192.0.2.43"},
        {"for=192.0.2.43;;proto=http;", "192.0.2.43"},
        /* The proxy that wrote it is all that is known. */
        {"for=unknown", "10.1.2.3"},
        {"for=192.0.2.43, for=_hidden", "10.1.2.3"},
        {"for=192.0.2.43, for=unknown, for=10.0.0.6", "10.0.0.6"},
        {"for=192.0.2.43, proto=http", "10.1.2.3"},
        {"for=\"\"", "10.1.2.3"},
        {"for=\"[192.0.2.43]\"", "10.1.2.3"},
        {"for=\"[192.0.2.43:80]\"", "10.1.2.3"},
        {"for=\"2001:db8::1\"", "10.1.2.3"},
        {"for=\"[2001:db8::1\"", "10.1.2.3"},
        {"for=\"[2001:db8::1]x\"", "10.1.2.3"},
        {"for=\"192.0.2.43:\"", "10.1.2.3"},
        {"for=\"192.0.2.43:123456\"", "10.1.2.3"},
        {"for=\"192.0.2.43:8x\"", "10.1.2.3"},
        {"for=192.0.2", "10.1.2.3"},
        {"for=0192.0.2.43", "10.1.2.3"},
        /* Not well-formed: all of it counts for nothing. */
        {"for=192.0.2.43:80", "10.1.2.3"},
        {"for = 192.0.2.43", "10.1.2.3"},
        {"for=192.0.2.43; proto=http", "10.1.2.3"},
        {"for=192.0.2.43;for=192.0.2.44", "10.1.2.3"},
        {"for", "10.1.2.3"},
        {"for=", "10.1.2.3"},
        {"=192.0.2.43", "10.1.2.3"},
        {"for=\"192.0.2.43", "10.1.2.3"},
        {"for=\"192.0.2.43\\", "10.1.2.3"},
        {"for=\"192.0.2.43\"x", "10.1.2.3"},
        {"nonsense, for=192.0.2.43", "10.1.2.3"},
        {"192.0.2.43", "10.1.2.3"},
        {"", "10.1.2.3"},
        {" , ,", "10.1.2.3"},
    };
    char error[TRUST_ERROR_SIZE], text[64];
    struct trust *trust = trust_create("10.0.0.0/8", error);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        lc_find_client(trust, "10.1.2.3", NULL, cases[i].forwarded, text);
        if (strcmp(text, cases[i].client) != 0)
            fail_msg("%s: %s", cases[i].forwarded, text);
    }
    lc_find_client(trust, "192.0.2.1", NULL, "for=192.0.2.43", text);
    assert_string_equal(text, "192.0.2.1"); /* who says so is not trusted */
    /* A proxy that knows the one alone passes the other on as its client has sent it. */
    lc_find_client(trust, "10.1.2.3", "192.0.2.9", "for=6.6.6.6", text);
    assert_string_equal(text, "192.0.2.9");
    trust_destroy(trust);
}

/* The last 64 are read: behind more proxies than that, the one at the begin is no address of
 * theirs.
 */
static void test_many_proxies_in_forwarded(void **state)
{
    char error[TRUST_ERROR_SIZE], text[64], field[4096] = "for=192.0.2.43";
    struct trust *trust = trust_create("10.0.0.0/8", error);

    (void)state;
    for (int i = 1; i < 64; i++)
        (void)snprintf(field + strlen(field), sizeof(field) - strlen(field), ", for=10.0.0.%d", i);
    lc_find_client(trust, "10.1.2.3", NULL, field, text);
    assert_string_equal(text, "192.0.2.43");
    (void)strcat(field, ", for=10.0.0.64");
    lc_find_client(trust, "10.1.2.3", NULL, field, text);
    assert_string_equal(text, "10.0.0.1");
    trust_destroy(trust);
}

static void test_a_wrong_list_of_proxies_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"10.0.0.0/33", "10.0.0.0/",   "10.0.0/8",
                                        "::/129",      "proxy",       "10.0.0.0/8x",
                                        "::1 nobody",  "10.0.0.0/-1", "[::1]"};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char error[TRUST_ERROR_SIZE] = "";
        assert_null(trust_create(wrong[i], error));
        assert_non_null(strstr(error, "trusted-proxies"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_percent_signs_are_decoded),
        cmocka_unit_test(test_the_first_pair_of_a_name_is_found),
        cmocka_unit_test(test_cookies_are_found),
        cmocka_unit_test(test_the_client_is_the_last_address_that_no_proxy_has),
        cmocka_unit_test(test_the_client_in_forwarded),
        cmocka_unit_test(test_many_proxies_in_forwarded),
        cmocka_unit_test(test_a_wrong_list_of_proxies_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

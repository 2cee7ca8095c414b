/* multipart/form-data: what is read, and what is refused. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "library_double.h"

#define TYPE "content-type: multipart/form-data; boundary=XX"

/* What the handler has seen, "name|filename|type|bytes;" for each part, then the last result. */
static char seen[1024];
static bool is_in_place;

static void handler(lc_req *r, void *user)
{
    struct lc_part part = LC_PART_INIT;
    size_t count;
    const char *body = lc_body(r, &count);
    int more;

    (void)user;
    while ((more = lc_next_part(r, &part)) == 1) {
        size_t used = strlen(seen);
        const char *bytes = part.bytes;
        if (used < sizeof(seen) - 200)
            (void)snprintf(seen + used, sizeof(seen) - used, "%s|%s|%s|%.*s;", part.name,
                           part.filename != NULL ? part.filename : "-",
                           part.type != NULL ? part.type : "-", (int)part.count, bytes);
        is_in_place &= bytes >= body && bytes + part.count <= body + count;
        assert_int_equal(part.size, sizeof(part));
    }
    assert_int_equal(lc_next_part(r, &part), more); /* and again */
    assert_int_equal(lc_sendf(r, 200, NULL, "%d", more), 0);
}

static int read_parts(const char *headers, const char *body, size_t count)
{
    struct lc_answer answer = LC_ANSWER_INIT;
    lc_server *server = lc_new();

    seen[0] = '\0';
    is_in_place = true;
    assert_int_equal(lc_handle(server, "POST /", handler, NULL), 0);
    assert_int_equal(lc_call(server, "POST /", headers, body, count, &answer), 0);
    int result = atoi(answer.body);
    lc_answer_free(&answer);
    (void)lc_free(server);
    assert_true(is_in_place);
    return result;
}

static int read_text(const char *body)
{
    return read_parts(TYPE, body, strlen(body));
}

#define FIELD(name) "Content-Disposition: form-data; name=\"" name "\"\r\n"

static void test_parts_are_read(void **state)
{
    (void)state;
    assert_int_equal(
        read_text("--XX\r\n" FIELD(
            "a") "\r\n1\r\n"
                 "--XX\r\n" FIELD(
                     "b") "content-TYPE:  text/plain; charset=utf-8 \r\nX-Other: 1\r\n"
                          "\r\nline\r\n--X\r\n\r\n"
                          "--XX  "
                          "\r\nCONTENT-disposition:form-data;name=c;filename=\"d.txt\"\r\n\r\n\r\n"
                          "--XX--\r\nepilogue"),
        0);
    assert_string_equal(seen, "a|-|-|1;b|-|text/plain; charset=utf-8|line\r\n--X\r\n;c|d.txt|-|;");
}

static void test_edges_are_read(void **state)
{
    (void)state;
    assert_int_equal(read_text("--XX--"), 0);
    assert_string_equal(seen, "");
    assert_int_equal(read_text("preamble\r\n--XX\r\n" FIELD("a") "\r\n1\r\n--XX--"), 0);
    assert_string_equal(seen, "a|-|-|1;");
    /* what stands before the first delimiter is not looked at: RFC 2046 section 5.1.1 */
    assert_int_equal(read_text("x--XX\r\n" FIELD("a") "\r\n1\r\n--XX--"), 0);
    assert_string_equal(seen, "");
    /* without content, and without the CRLF that would be its end */
    assert_int_equal(read_text("--XX\r\n" FIELD("a") "\r\n--XX--"), 0);
    assert_string_equal(seen, "a|-|-|;");
    assert_int_equal(read_text("--XX\r\n" FIELD("") "\r\n1\r\n--XX--"), 0);
    assert_string_equal(seen, "|-|-|1;");
    assert_int_equal(
        read_text("--XX\r\n" FIELD("a") "Content-Transfer-Encoding: Binary\r\n\r\n1\r\n"
                                        "--XX--"),
        0);
}

static void test_bytes_are_not_texts(void **state)
{
    (void)state;
    static const char body[] = "--XX\r\n" FIELD("a") "\r\n\0\xff\r\n--X\0\r\n--XX--";

    assert_int_equal(read_parts(TYPE, body, sizeof(body) - 1), 0);
}

static void test_file_names_are_the_last_component(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"filename=\"a b.txt\"", "a b.txt"},
        {"filename=\"../../etc/passwd\"", "passwd"},
        {"filename=\"/etc/\"", ""},
        {"filename=\"..\"", ""},
        {"filename=\"a/.\"", ""},
        {"filename=\"C:\\photos\\x.jpg\"", "x.jpg"},
        {"filename=\"a\\\"b\"", "a\"b"},
        {"filename=\"a%22b;c\"", "a%22b;c"},
        {"filename=\"\"", ""},
        {"filename=caf\xc3\xa9", NULL}, /* no token */
        {"filename=\"caf\xc3\xa9\"", "caf\xc3\xa9"},
        {"filename*=UTF-8''a; x=y", "-"},
        {"FileName=t", "t"},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char body[256], expected[128];
        (void)snprintf(body, sizeof(body),
                       "--XX\r\nContent-Disposition: form-data; name=a; %s\r\n\r\n1\r\n--XX--",
                       names[i][0]);
        int result = read_text(body);
        assert_int_equal(result, names[i][1] != NULL ? 0 : LC_E_ARG);
        if (names[i][1] == NULL)
            continue;
        (void)snprintf(expected, sizeof(expected), "a|%s|-|1;", names[i][1]);
        assert_string_equal(seen, expected);
    }
}

static void test_what_is_not_well_formed_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "",
        "--XX",
        "--XX\r\n",
        "--YY\r\n" FIELD("a") "\r\n1\r\n--YY--",
        "--XX\n" FIELD("a") "\n1\n--XX--",
        "--XX\r\n" FIELD("a") "\r\n1",             /* cut */
        "--XX\r\n" FIELD("a") "\r\n1\r\n--XX",     /* cut */
        "--XX\r\n" FIELD("a") "\r\n1\r\n--XX\r\n", /* cut: one more is said */
        "--XX\r\n" FIELD("a") "\r\n1\r\n--XXY\r\n" FIELD("b") "\r\n2\r\n--XX--",
        "--XX\r\n\r\n1\r\n--XX--",                             /* no header */
        "--XX\r\nContent-Type: text/plain\r\n\r\n1\r\n--XX--", /* no name */
        "--XX\r\nContent-Disposition: form-data\r\n\r\n1\r\n--XX--",
        "--XX\r\nContent-Disposition: attachment; name=a\r\n\r\n1\r\n--XX--",
        "--XX\r\nContent-Disposition: form-data; name=\"a\r\n\r\n1\r\n--XX--",
        "--XX\r\nContent-Disposition: form-data; name=a name=b\r\n\r\n1\r\n--XX--",
        "--XX\r\nContent-Disposition: form-data; name=a; name=b\r\n\r\n1\r\n--XX--",
        "--XX\r\nContent-Disposition: form-data; name=a; filename=b; filename=c\r\n\r\n1\r\n--XX--",
        "--XX\r\nContent-Disposition: form-data; =a\r\n\r\n1\r\n--XX--",
        "--XX\r\nContent-Disposition: form-data; name=\r\n\r\n1\r\n--XX--",
        "--XX\r\n" FIELD("a") FIELD("b") "\r\n1\r\n--XX--",
        "--XX\r\n" FIELD("a") "Content-Type: a\r\nContent-Type: b\r\n\r\n1\r\n--XX--",
        "--XX\r\n" FIELD("a") " folded\r\n\r\n1\r\n--XX--",
        "--XX\r\n" FIELD("a") "no colon\r\n\r\n1\r\n--XX--",
        "--XX\r\n" FIELD("a") ": no name\r\n\r\n1\r\n--XX--",
        "--XX\r\n" FIELD("a") "X: \x01\r\n\r\n1\r\n--XX--",
        "--XX\r\n" FIELD("a") "Content-Transfer-Encoding: base64\r\n\r\n1\r\n--XX--",
        "--XX\r\nContent-Disposition : form-data; name=a\r\n\r\n1\r\n--XX--",
    };

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        if (read_text(wrong[i]) != LC_E_ARG)
            fail_msg("taken: %s", wrong[i]);
}

static void test_the_boundary(void **state)
{
    (void)state;
    static const char body[] = "--XX\r\n" FIELD("a") "\r\n1\r\n--XX--";
    static const struct {
        const char *type;
        int result;
    } cases[] = {
        {"content-type: multipart/form-data; boundary=\"XX\"", 0},
        {"content-type: Multipart/Form-Data ;charset=utf-8; BOUNDARY=XX;", 0},
        {"content-type: multipart/form-data", LC_E_ARG},
        {"content-type: multipart/form-data; boundary=", LC_E_ARG},
        {"content-type: multipart/form-data; boundary=\"\"", LC_E_ARG},
        {"content-type: multipart/form-data; boundary=\"XX \"", LC_E_ARG},
        {"content-type: multipart/form-data; boundary=XX; boundary=XX", LC_E_ARG},
        {"content-type: multipart/form-data; boundary=XXX", LC_E_ARG},
        {"content-type: multipart/mixed; boundary=XX", LC_E_ARG},
        {"content-type: multipart/form-data2; boundary=XX", LC_E_ARG},
        {"content-type: multipart/form-data; boundary="
         "12345678901234567890123456789012345678901234567890123456789012345678901",
         LC_E_ARG},
        {NULL, LC_E_ARG},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        if (read_parts(cases[i].type, body, sizeof(body) - 1) != cases[i].result)
            fail_msg("%s", cases[i].type);
}

static int read_many(size_t parts, size_t fields, size_t field_bytes)
{
    size_t room = parts * (200 + fields * (field_bytes + 8)), used = 0;
    char *body = malloc(room), *value = calloc(1, field_bytes + 1);

    memset(value, 'v', field_bytes);
    for (size_t i = 0; i < parts; i++) {
        used += (size_t)snprintf(body + used, room - used, "--XX\r\n" FIELD("a"));
        for (size_t k = 0; k < fields; k++)
            used += (size_t)snprintf(body + used, room - used, "X: %s\r\n", value);
        used += (size_t)snprintf(body + used, room - used, "\r\n1\r\n");
    }
    used += (size_t)snprintf(body + used, room - used, "--XX--");
    int result = read_parts(TYPE, body, used);
    free(value);
    free(body);
    return result;
}

static void test_the_bounds(void **state)
{
    (void)state;
    assert_int_equal(read_many(1000, 0, 0), 0);
    assert_int_equal(read_many(1001, 0, 0), LC_E_ARG);
    assert_int_equal(read_many(1, 15, 10), 0);
    assert_int_equal(read_many(1, 16, 10), LC_E_ARG);
    assert_int_equal(read_many(1, 1, 8000), 0);
    assert_int_equal(read_many(1, 1, 8200), LC_E_ARG);
}

static void wrong_size(lc_req *r, void *user)
{
    struct lc_part part = {0};

    (void)user;
    assert_int_equal(lc_next_part(r, &part), LC_E_ARG);
    assert_int_equal(lc_next_part(r, NULL), LC_E_ARG);
    assert_int_equal(lc_send(r, 200, NULL, NULL), 0);
}

static void test_a_structure_without_its_size_is_refused(void **state)
{
    (void)state;
    struct lc_answer answer = LC_ANSWER_INIT;
    lc_server *server = lc_new();

    assert_int_equal(lc_handle(server, "/", wrong_size, NULL), 0);
    assert_int_equal(lc_call(server, "POST /", TYPE, "--XX--", 6, &answer), 0);
    lc_answer_free(&answer);
    (void)lc_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_are_read),
        cmocka_unit_test(test_edges_are_read),
        cmocka_unit_test(test_bytes_are_not_texts),
        cmocka_unit_test(test_file_names_are_the_last_component),
        cmocka_unit_test(test_what_is_not_well_formed_is_refused),
        cmocka_unit_test(test_the_boundary),
        cmocka_unit_test(test_the_bounds),
        cmocka_unit_test(test_a_structure_without_its_size_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

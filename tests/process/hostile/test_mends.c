/* The functions of libh2o that lastcall replaces: a library that would not call the replacements,
 * or that they were not written for, is refused at start. */

#include "process.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"
#include "expect.h"
#include "replaced.h"

#define LIMIT_MS 30000
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_the_library_calls_our_functions(void **state)
{
    (void)state;
    assert_ptr_equal(replaced_find_target("libh2o-evloop", "h2o_socket_close"), &h2o_socket_close);
    assert_ptr_equal(replaced_find_target("libh2o-evloop", "h2o_socket_read_start"),
                     &h2o_socket_read_start);
}

static void test_a_function_that_the_library_calls_directly_is_not_found(void **state)
{
    (void)state;
    assert_null(replaced_find_target("libh2o-evloop", "h2o_config_init"));
    assert_null(replaced_find_target("no such library", "h2o_socket_close"));
}

static void test_another_version_is_refused_by_name(void **state)
{
    char error[REPLACED_ERROR_SIZE];
    (void)state;
    assert_true(replaced_init(error, sizeof(error)));
    assert_true(replaced_check((h2o_iovec_t){H2O_STRLIT("h2o/2.2.5")}, error, sizeof(error)));
    assert_false(replaced_check((h2o_iovec_t){H2O_STRLIT("h2o/2.3.0")}, error, sizeof(error)));
    assert_contains(error, "is h2o/2.3.0; the mends were written for h2o/2.2.5");
}

/* ---- the real process with a library that was changed ---- */

static char *read_all(const char *path, size_t *ret_size)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    assert_true(size > 0);
    rewind(file);
    char *bytes = malloc((size_t)size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)size, file), size);
    assert_int_equal(fclose(file), 0);
    *ret_size = (size_t)size;
    return bytes;
}

/* Put a copy of the installed library, with every `from` become `to`, where the next process finds
 * it first (LD_LIBRARY_PATH). Both texts are equally long. */
static void use_changed_library(const char *from, const char *to)
{
    Dl_info installed;
    size_t size, length = strlen(from) + 1, changes = 0;

    assert_int_not_equal(dladdr(dlsym(RTLD_DEFAULT, "h2o_config_init"), &installed), 0);
    char *bytes = read_all(installed.dli_fname, &size);
    for (char *at = bytes; (at = memmem(at, size - (size_t)(at - bytes), from, length)) != NULL;
         changes++)
        memcpy(at, to, length);
    assert_true(changes > 0);
    FILE *file = fopen(in_directory("libh2o-evloop.so.0.13"), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    free(bytes);
    assert_int_equal(setenv("LD_LIBRARY_PATH", directory, 1), 0);
}

static void expect_refusal(const char *text)
{
    struct process p;
    process_spawn(&p, ARGS("--listen", "127.0.0.1:0"));
    process_expect(&p, LIMIT_MS, 69);
    assert_contains(p.log, text);
    assert_null(strstr(p.log, "listening on"));
    process_release(&p);
}

static void test_a_library_of_another_version_stops_the_start(void **state)
{
    struct process p;
    (void)state;
    use_changed_library("h2o/2.2.5", "h2o/2.2.9");
    expect_refusal("is h2o/2.2.9; the mends were written for h2o/2.2.5 (set LASTCALL_UNMENDED=1 to "
                   "run without the mends)");
    assert_int_equal(setenv("LASTCALL_UNMENDED", "1", 1), 0);
    process_start(&p, NULL, ARGS(NULL));
    process_wait_log(&p, "LASTCALL_UNMENDED=1: going on although");
    assert_serves(&p);
    process_signal(&p, SIGTERM);
    process_expect(&p, LIMIT_MS, 0);
    process_release(&p);
}

static int tear_down(void **state)
{
    (void)unsetenv("LD_LIBRARY_PATH");
    (void)unsetenv("LASTCALL_UNMENDED");
    return process_kill_left(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_library_calls_our_functions),
        cmocka_unit_test(test_a_function_that_the_library_calls_directly_is_not_found),
        cmocka_unit_test(test_another_version_is_refused_by_name),
        cmocka_unit_test_teardown(test_a_library_of_another_version_stops_the_start, tear_down),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}

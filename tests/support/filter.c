/* LASTCALL_TEST in the environment is a pattern for the names of tests, such as `test_full*`: the
 * program runs those alone. Linked into every test program, so none of them has to do it itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

__attribute__((constructor)) static void filter_tests(void)
{
    const char *pattern = getenv("LASTCALL_TEST");

    if (pattern != NULL && pattern[0] != '\0')
        cmocka_set_test_filter(pattern);
}

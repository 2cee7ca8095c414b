#include "skip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

void skip_test(const char *reason)
{
    print_message("skipped: %s\n", reason);
    skip();
}

void skip_unless_root(void)
{
    if (geteuid() != 0)
        skip_test("needs root");
}

#include "expect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

void assert_contains(const char *text, const char *want)
{
    if (text == NULL || strstr(text, want) == NULL)
        fail_msg("no `%s` in:\n%s", want, text != NULL ? text : "(nothing)");
}

void assert_lacks(const char *text, const char *never)
{
    if (text != NULL && strstr(text, never) != NULL)
        fail_msg("`%s` in:\n%s", never, text);
}

unsigned count_in(const char *text, const char *what)
{
    unsigned n = 0;

    for (; (text = strstr(text, what)) != NULL; text += strlen(what))
        n++;
    return n;
}

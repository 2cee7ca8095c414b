#include "lc_p.h"

/* Words and numbers about the library itself. */

const char *lc_version(void)
{
    return LC_VERSION;
}

unsigned lc_version_number(void)
{
    return LC_VERSION_NUMBER;
}

unsigned lc_abi(void)
{
    return LC_ABI;
}

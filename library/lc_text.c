#include "lc_p.h"

#include <string.h>

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

const char *lc_strerror(int result)
{
    static const struct {
        int result;
        const char *text;
    } texts[] = {
        {LC_OK, "success"},
        {LC_E_THREAD, "not from this thread, or not any more"},
        {LC_E_STATE, "too early or too late for this call"},
        {LC_E_ARG, "an argument is not valid"},
        {LC_E_TWICE, "it was answered already"},
        {LC_E_GONE, "the client has left"},
        {LC_E_ABORTED, "the drain has cut it"},
        {LC_E_TIMEOUT, "the time is over"},
        {LC_E_AGAIN, "no room now: the client is behind"},
        {LC_E_LENGTH, "more or less than the length that was announced"},
        {LC_E_DEADLINE, "the deadline passed, and requests were cut"},
        {LC_E_FORCED, "the drain was cut short"},
        {LC_E_STUCK, "a handler has not returned"},
        {LC_E_DRAINING, "a drain has begun"},
        {LC_E_CONFIG, "the configuration is wrong: lc_errmsg() says what and where"},
        {LC_E_ABI, "the header and the library do not fit"},
        {LC_E_PRELOAD, "another libh2o comes first in this process: link -llastcall before it"},
        {LC_E_BUSY, "another thread holds it"},
        {LC_E_FULL, "a queue or a limit is reached"},
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (texts[i].result == result)
            return texts[i].text;
    const char *text = result < 0 && result > -1000 ? strerrordesc_np(-result) : NULL;
    return text != NULL ? text : "an unknown result";
}

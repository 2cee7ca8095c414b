#include "request_p.h"

#include <stddef.h>
#include <string.h>

static const struct {
    int result;
    const char *text;
} texts[] = {
    {LC_OK, "success"},
    {LC_E_THREAD, "not from this thread, or not any more"},
    {LC_E_STATE, "too early or too late for this call"},
    {LC_E_ARG, "an argument is not valid"},
    {LC_E_TWICE, "the request is answered already"},
    {LC_E_GONE, "the client has left"},
    {LC_E_ABORTED, "the request was cut by the drain's deadline or a second signal"},
    {LC_E_TIMEOUT, "the time is over"},
    {LC_E_AGAIN, "the client is behind; try again later"},
    {LC_E_LENGTH, "the answer is longer or shorter than announced"},
    {LC_E_DEADLINE, "the deadline came first, and requests were cut"},
    {LC_E_FORCED, "the drain was cut short"},
    {LC_E_STUCK, "a handler has not returned"},
    {LC_E_DRAINING, "a drain has begun"},
    {LC_E_CONFIG, "the configuration is not valid"},
    {LC_E_ABI, "the header and the library do not fit each other"},
    {LC_E_PRELOAD, "another libh2o comes first in this process: link -llastcall before it"},
    {LC_E_BUSY, "another thread holds it"},
    {LC_E_FULL, "a limit is reached"},
};

const char *lc_strerror(int result)
{
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (texts[i].result == result)
            return texts[i].text;
    /* Not strerror(3), which is not for several threads. */
    const char *text = result < 0 && result > -1000 ? strerrordesc_np(-result) : NULL;
    return text != NULL ? text : "an unknown result";
}

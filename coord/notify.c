#include "notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef LASTCALL_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

bool notify_wanted(void)
{
#ifdef LASTCALL_SYSTEMD
    return getenv("NOTIFY_SOCKET") != NULL;
#else
    return false;
#endif
}

void notify_send(const char *format, ...)
{
    char text[512];
    va_list args;

    if (!notify_wanted())
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
#ifdef LASTCALL_SYSTEMD
    (void)sd_notify(0, text);
#endif
}

uint64_t notify_watchdog_ns(void)
{
#ifdef LASTCALL_SYSTEMD
    uint64_t us = 0;
    /* It looks at $WATCHDOG_PID, too: what a parent was asked for is not ours to answer. */
    return notify_wanted() && sd_watchdog_enabled(0, &us) > 0 ? us * 1000 : 0;
#else
    return 0;
#endif
}

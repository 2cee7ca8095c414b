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

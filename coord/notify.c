#include "notify.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "handover.h"

#ifdef LASTCALL_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

static _Atomic bool handed_over; /* relaxed: a line more or less */
static int through_fd = -1;      /* immutable after start */

void notify_hand_over(void)
{
    atomic_store_explicit(&handed_over, true, memory_order_relaxed);
}

void notify_through(int fd)
{
    through_fd = fd;
}

bool notify_wanted(void)
{
    if (atomic_load_explicit(&handed_over, memory_order_relaxed))
        return false;
    if (through_fd >= 0)
        return true;
#ifdef LASTCALL_SYSTEMD
    return getenv("NOTIFY_SOCKET") != NULL;
#else
    return false;
#endif
}

static void send_through(const char *text)
{
    struct handover_message message;

    handover_begin(&message, HANDOVER_NOTIFY);
    handover_put_text(&message, HANDOVER_TEXT, text);
    (void)handover_send(through_fd, &message); /* a master that is busy misses a line */
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
    if (through_fd >= 0) {
        send_through(text);
        return;
    }
#ifdef LASTCALL_SYSTEMD
    (void)sd_notify(0, text);
#endif
}

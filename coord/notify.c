#include "notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "handover.h"

/* The library's sd_notify() waits for as long as the manager's queue is full: a manager that hangs
 * would hold up our drain. The protocol is one datagram, and meant to be spoken by hand where that
 * is better (sd_notify(3), "Notes"). */

#define PATIENCE_US 100000

/* A datagram has had to be dropped: from then on nothing is waited for. relaxed: a hint */
static _Atomic bool manager_hangs;

static bool find_manager(struct sockaddr_un *ret_there, socklen_t *ret_size)
{
    const char *path = getenv("NOTIFY_SOCKET");
    size_t n = path != NULL ? strlen(path) : 0;

    if (n < 2 || n >= sizeof(ret_there->sun_path) || (path[0] != '/' && path[0] != '@'))
        return false;
    *ret_there = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(ret_there->sun_path, path, n);
    if (path[0] == '@')
        ret_there->sun_path[0] = '\0';
    *ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    return true;
}

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
    struct sockaddr_un there;
    socklen_t size;

    if (atomic_load_explicit(&handed_over, memory_order_relaxed))
        return false;
    return through_fd >= 0 || find_manager(&there, &size);
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
    const struct timeval patience = {.tv_usec = PATIENCE_US};
    struct sockaddr_un there;
    socklen_t size;
    char text[512];
    va_list args;

    if (!notify_wanted() || (through_fd < 0 && !find_manager(&there, &size)))
        return;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (through_fd >= 0) {
        if (n > 0)
            send_through(text);
        return;
    }
    int fd = n > 0 ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0)
        return;
    bool hangs = atomic_load_explicit(&manager_hangs, memory_order_relaxed);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    ssize_t sent = sendto(fd, text, strlen(text), MSG_NOSIGNAL | (hangs ? MSG_DONTWAIT : 0),
                          (struct sockaddr *)&there, size);
    atomic_store_explicit(&manager_hangs, sent < 0 && errno == EAGAIN, memory_order_relaxed);
    (void)close(fd);
}

uint64_t notify_watchdog_ns(void)
{
    const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    char *end;

    /* What a parent was asked for is not ours to answer. */
    if (!notify_wanted() || us == NULL || (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    errno = 0;
    unsigned long long number = strtoull(us, &end, 10);
    if (us[0] < '0' || us[0] > '9' || *end != '\0' || errno != 0 || number > UINT64_MAX / 1000)
        return 0;
    return number * 1000;
}

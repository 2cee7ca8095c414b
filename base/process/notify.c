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

#include "scope.h"

/* sd_notify() of libsystemd waits as long as the manager's queue is full: a manager that hangs
 * would delay our drain. The protocol is one datagram, and sd_notify(3), "Notes", allows a program
 * to send it itself. */

#define PATIENCE_US 100000

/* A datagram was dropped: later ones do not wait. relaxed: a hint */
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

static _Atomic bool handed_over; /* relaxed: one line too many does no harm */
static void (*send_through)(
    void *arg, const char *text); /* immutable after start; NULL: send to the manager */
static void *send_through_arg;

void notify_hand_over(void)
{
    atomic_store_explicit(&handed_over, true, memory_order_relaxed);
}

void notify_through(void (*send)(void *arg, const char *text), void *arg)
{
    send_through = send;
    send_through_arg = arg;
}

bool notify_wanted(void)
{
    struct sockaddr_un there;
    socklen_t size;

    const struct scope *scope = scope_get();

    if (atomic_load_explicit(&handed_over, memory_order_relaxed) ||
        (scope != NULL && !scope->speaks_for_process))
        return false;
    return send_through != NULL || find_manager(&there, &size);
}

void notify_send(const char *format, ...)
{
    const struct timeval patience = {.tv_usec = PATIENCE_US};
    struct sockaddr_un there;
    socklen_t size;
    char text[512];
    va_list args;

    if (!notify_wanted())
        return;
    va_start(args, format);
    int n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (send_through != NULL) {
        if (n > 0)
            send_through(send_through_arg, text);
        return;
    }
    if (!find_manager(&there, &size))
        return;
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

    /* The watchdog may be meant for our parent. */
    if (!notify_wanted() || us == NULL || (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    errno = 0;
    unsigned long long number = strtoull(us, &end, 10);
    if (us[0] < '0' || us[0] > '9' || *end != '\0' || errno != 0 || number > UINT64_MAX / 1000)
        return 0;
    return number * 1000;
}

#ifndef LASTCALL_STOPS_H
#define LASTCALL_STOPS_H

/* Decides which stop signals are orders. A terminal signals the whole group, and npm or a shell
 * passes the signal on; timeout(1) signals its command, and then its group; a service manager
 * signals all processes of a service, and the master passes the signal on. Each of these means one
 * stop, so signals that come close together count as one. Only a signal that comes a while after
 * the last one that counted is another order: it cuts the drain short.
 *
 * There is no clock here: the caller passes the time. */

#include <stdbool.h>
#include <stdint.h>

#define STOPS_APART_NS (250 * UINT64_C(1000000)) /* the default */

/* One source of signals. Initialise it with zeros. */
struct stops {
    unsigned count;   /* how many counted */
    uint64_t last_ns; /* when the last of those came */
};

/* A signal came. Returns whether it counts: the first one does, and each that comes at least
 * `apart_ns` after the last one that counted. One that does not count changes nothing, so in a
 * steady stream of signals another one counts after a while.
 * Thread: the caller's own lock or thread. */
bool stops_take(struct stops *stops, uint64_t now_ns, uint64_t apart_ns);

#endif

#ifndef LASTCALL_EXIT_STATUS_H
#define LASTCALL_EXIT_STATUS_H

/* The exit status of the process. The last three are those of sysexits.h(3head), as h2o uses them.
 */
enum exit_status {
    EXIT_STATUS_CLEAN = 0,
    EXIT_STATUS_DEADLINE = 3, /* the deadline passed; the unfinished requests are on record */
    EXIT_STATUS_FORCED = 4,   /* a second signal cut the drain short */
    EXIT_STATUS_USAGE = 64,
    EXIT_STATUS_UNAVAILABLE = 69,
    EXIT_STATUS_CONFIG = 78,
};

#endif

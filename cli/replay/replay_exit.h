#ifndef LASTCALL_REPLAY_EXIT_H
#define LASTCALL_REPLAY_EXIT_H

/* The exit statuses of replay and unfinished; those from 64 to 78 are of sysexits.h(3head). */

enum replay_exit {
    REPLAY_EXIT_DONE = 0,
    REPLAY_EXIT_LEFT = 1,      /* a request was parked, or has to be tried again */
    REPLAY_EXIT_USAGE = 64,    /* EX_USAGE */
    REPLAY_EXIT_NOINPUT = 66,  /* EX_NOINPUT: the source cannot be read */
    REPLAY_EXIT_AWAY = 69,     /* EX_UNAVAILABLE: the target or Redis cannot be reached */
    REPLAY_EXIT_CANTNOTE = 74, /* EX_IOERR: an outcome could not be written */
    REPLAY_EXIT_BUSY = 75,     /* EX_TEMPFAIL: another replayer uses the source */
    REPLAY_EXIT_INTERRUPTED = 130,
};

#endif

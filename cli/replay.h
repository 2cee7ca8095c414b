#ifndef LASTCALL_REPLAY_H
#define LASTCALL_REPLAY_H

/* `lastcall replay`: send unfinished requests again. Returns the status to leave with.
 * Thread: main only. */
int replay_command(int argc, char **argv);

/* `lastcall unfinished`: what is on record, and what became of it.     Thread: main only. */
int unfinished_command(int argc, char **argv);

#endif

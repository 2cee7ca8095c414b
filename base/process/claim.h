#ifndef LASTCALL_CLAIM_H
#define LASTCALL_CLAIM_H

/* Children that the thread that started them waits for, each the leader of a process group.
 *
 *     claim_begin(&claim, owner);
 *     posix_spawn(&pid, ...);
 *     claim_made(&claim, pid);
 *     ... claim_signal(), until pidfd_open(2) of the child is readable ...
 *     claim_reap(&claim, &status);
 *
 * The reaper of orphans (app/app_exit.c) waits for any child, so it would take these as well. It
 * asks claims_reap_orphan(), which leaves them alone.
 *
 * Group note. A process group has the number of its leader. The kernel gives that number to nobody
 * else while the leader is not reaped, so a signal to the group of a claim meets no other group.
 * The thread that signals is the one that reaps; claims_kill(), on another one, signals under the
 * lock that claim_reap() takes. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct claim {
    struct claim *next;
    const void *owner;
    pid_t pid;
};

/* A child of `owner`'s is about to be started: from here to claim_made() no orphan is reaped.
 * Owner:  `claim` is the caller's, and in use until claim_reap().     Thread: any.
 * Blocks: never. */
void claim_begin(struct claim *claim, const void *owner);
/* It was, as `pid`. 0 or less: it was not, and the claim is over.     Thread: the same. */
void claim_made(struct claim *claim, pid_t pid);

/* Send `signo` to its group; as kill_process().     Thread: the claim's. */
bool claim_signal(const struct claim *claim, int signo, const char *what);

/* Reap the child, and end the claim. *ret_status as child_has_ended() has it.
 * Thread: the claim's.     Blocks: until the child has ended. */
void claim_reap(struct claim *claim, int *ret_status);

/* End the claim of a child that SIGKILL has not ended: it stays a zombie, or is an orphan.
 * Thread: the claim's. */
void claim_give_up(struct claim *claim);

/* The process is about to end: wait until every child of `owner`'s is reaped, until `until_ns` at
 * most; then SIGKILL the groups of the others. Returns how many these are.
 * Thread: any.     Blocks: until then. */
unsigned claims_kill(const void *owner, uint64_t until_ns);

/* ---- for the reaper of orphans ---- */

/* `pid` has ended, as waitid(2) with WNOWAIT says. Reap it unless it is claimed, or a child is
 * being started that might be it. False: it was left, and `wakeup_fd` (wakeup.h) will be rung when
 * it is worth another look.     Thread: the reaper's.     Blocks: never. */
bool claims_reap_orphan(pid_t pid, int wakeup_fd);

/* The reaper ends: its descriptor is rung no more.     Thread: the reaper's, or after its end. */
void claims_reaper_ends(void);

#endif

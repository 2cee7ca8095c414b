#ifndef LASTCALL_SUCCESSION_H
#define LASTCALL_SUCCESSION_H

/* A restart as it is carried out: the process that is started, what it says, and restart.h's rules
 * about it. Whoever owns one polls its descriptors and tells it what came; nothing here blocks.
 * The owner is a server that is to be followed by another one, or a master (master.h). */

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "clock.h"
#include "handover.h"
#include "restart.h"

struct succession;

/* All are called by the functions below, on the caller's thread, and must not block. */
struct succession_hooks {
    /* Listener number `i`, as HANDOVER_LISTENER. False: there are no more. */
    bool (*offer)(void *arg, size_t i, struct handover_message *ret_message);
    /* What comes behind the listeners may be added to.     May be NULL. */
    void (*begin)(void *arg, struct handover_message *message);
    /* A restart is wanted: may there be one? Says in the log why not.     May be NULL. */
    bool (*may_begin)(void *arg);
    /* It is up, and has accepted nothing so far: see `ready`.     May be NULL. */
    void (*ready)(void *arg);
    /* Its probation is over. False: a stop has come that is still to be told; ask again.
     * May be NULL. */
    bool (*may_commit)(void *arg);
    /* It is told to accept; what else it is told then may be added to.     May be NULL. */
    void (*commit)(void *arg, struct handover_message *message);
    /* The successor accepts, and nobody has been told so yet.     May be NULL. */
    void (*serves)(void *arg);
    /* A message that is not the succession's own. May be NULL: it is skipped. */
    void (*message)(void *arg, struct handover_message *message);
    /* Then: hand over what is left. succession_take_conns() is for this. */
    void (*retire)(void *arg, struct succession *succession);
    /* A restart has begun, or has come to nothing.     May be NULL. */
    void (*began)(void *arg);
    void (*failed)(void *arg);
    /* The successor may have put its name where ours was. May be NULL. */
    void (*reclaim)(void *arg);
    /* How many signals have told us to stop, when it is told as well. */
    unsigned (*count_signals)(void *arg);
    /* It was told to accept, and then to stop with us: it accepts, and ends behind us. May be NULL.
     */
    void (*bequeath)(void *arg, struct succession *succession);
    /* It has ended, when we stop or are followed; see `status`.     May be NULL. */
    void (*left)(void *arg);
};

struct succession_config {
    struct restart_config timing;
    const char *binary; /* started anew each time: what is there then */
    char *const *argv;
    const int *keep_fds; /* that the successor is to have, too, under the same numbers */
    size_t keep_count;
    bool runs_app;  /* a master that has the application: its worker must not start one */
    bool own_group; /* the successor gets a process group of its own */
    const struct succession_hooks *hooks;
    void *arg;
};

#define SUCCESSION_TAIL 2048

struct succession {
    struct succession_config config; /* timing may be changed while idle */
    struct restart restart;
    uint64_t generation; /* of the one who serves now */
    /* of the present attempt */
    pid_t pid;     /* 0: there is no process */
    int pid_fd;    /* pidfd_open(2) */
    int channel;   /* -1: closed */
    int words_fd;  /* its standard error */
    int conns_fd;  /* where connections to it go in */
    int stderr_fd; /* a master's worker: the log file that its words go to; -1: they go to ours */
    size_t offered;
    bool all_offered;
    uint64_t crowded_until_ns; /* the kernel has no room for more descriptors on their way */
    int spawn_error;
    int status; /* as waitpid(2) has it */
    int broken; /* what was wrong with what it said */
    uint16_t broken_version;
    char tail[SUCCESSION_TAIL]; /* its last words */
    size_t tail_bytes;
    struct handover_message ready; /* what it said then */
};

/* Thread: all of these: the owner's. Blocks: never (a process is started: for that long). */

void succession_init(struct succession *succession, const struct succession_config *config,
                     uint64_t generation);

/* Somebody wants a restart; says in the log what becomes of that. */
void succession_request(struct succession *succession, const char *trigger, const char *detail);

/* This process was told to stop (RESTART_ON_STOP, RESTART_ON_CLOSE), or that was called off
 * (RESTART_ON_RESUME). */
void succession_tell(struct succession *succession, enum restart_event event);

#define SUCCESSION_HURRY_NS (500 * NS_PER_MS)
/* Not so long, once a second signal has come: a successor that is to stop with us, and does not
 * answer, is killed in half a second. */
void succession_hurry(struct succession *succession);

/* Tell a process, over its channel, that who started it was told to stop by `signals` signals so
 * far; `is_final` if it closes what both have. By a signal, if it can not be told otherwise. Who
 * was told so once is told so again: of messages and signals nobody knows which is heard first. */
void succession_send_stop(int channel, pid_t pid, unsigned signals, bool is_final);

#define SUCCESSION_FDS 3
/* What to poll for; unused places have -1. */
void succession_poll(const struct succession *succession, struct pollfd fds[SUCCESSION_FDS]);

/* What came of it, and what is due by now. */
void succession_handle(struct succession *succession, const struct pollfd fds[SUCCESSION_FDS]);

/* When to come by if nothing else happens; CLOCK_NEVER. */
uint64_t succession_due_ns(const struct succession *succession);

/* What its end means for ours, when both stop: an enum coord_exit of a drain. One that had to be
 * killed may have had requests. */
int succession_left_status(const struct succession *succession);

/* Owner: the caller from now on. */
int succession_take_conns(struct succession *succession);
/* The successor as a process of the caller's: its channel and its pidfd.     Owner: the caller. */
void succession_take_child(struct succession *succession, pid_t *ret_pid, int *ret_pid_fd,
                           int *ret_channel);

/* Close everything; a process that was started lives or dies by itself. */
void succession_release(struct succession *succession);

/* A path for the binary that stays right when the folder or $PATH changes, and that names what is
 * there then: not this file if another has taken its name. malloc(3)ed.     Errors: NULL. */
char *succession_find_binary(const char *argv0);

#endif

#ifndef LASTCALL_SUCCESSION_H
#define LASTCALL_SUCCESSION_H

/* A succession: one restart after another, as restart.h's rules have it. Starts the successor's
 * process, exchanges messages with it, passes on its standard error, and sees its end. The owner is
 * the predecessor: a server, or a master (master.h). It polls the descriptors; nothing here
 * blocks. */

#include <limits.h>
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
    /* Listener number `i`, as HANDOVER_LISTENER. False: there are no more.
     * Owner: the descriptor is the caller's, message_release(). */
    bool (*offer)(void *arg, size_t i, struct message *ret_message);
    /* Add fields to BEGIN, which follows the listeners.     May be NULL. */
    void (*begin)(void *arg, struct message *message);
    /* A restart was requested: may it begin? If not, the callee logs why.     May be NULL. */
    bool (*may_begin)(void *arg);
    /* The successor has sent READY, see `ready`. It has accepted nothing so far. May be NULL. */
    void (*ready)(void *arg);
    /* The probation is over. False: a stop has come, and succession_on() will be called; until
     * then the question is repeated.     May be NULL. */
    bool (*may_commit)(void *arg);
    /* Add fields to COMMIT, which is about to be sent.     May be NULL. */
    void (*commit)(void *arg, struct message *message);
    /* The successor accepts; called before the log line and retire().     May be NULL. */
    void (*serves)(void *arg);
    /* A message of another type. NULL: it is ignored. */
    void (*message)(void *arg, struct message *message);
    /* The successor serves: hand over the rest; see succession_take_conns(). */
    void (*retire)(void *arg, struct succession *succession);
    /* A restart has begun; or it has failed.     May be NULL. */
    void (*began)(void *arg);
    void (*failed)(void *arg);
    /* A request was refused, because of `why`.     May be NULL. */
    void (*refused)(void *arg, const char *why);
    /* A restart under way is cancelled, because this process stops.     May be NULL. */
    void (*given_up)(void *arg);
    /* The successor may have overwritten the pid file: write it again.     May be NULL. */
    void (*reclaim)(void *arg);
    /* How many stop signals this process has got, to be passed on. */
    unsigned (*count_signals)(void *arg);
    /* The successor got COMMIT, then a final stop; now it has sent SETTLED. It ends after us, so
     * the files that both share are its own to remove.     May be NULL. */
    void (*transfer)(void *arg, struct succession *succession);
    /* The successor has ended while this process stops or retires, see `status`. May be NULL. */
    void (*exited)(void *arg);
};

struct succession_config {
    struct restart_config timing;
    const char *binary; /* path; each restart runs the file that is there then */
    char *const *argv;
    const int *keep_fds; /* descriptors that the successor inherits, with the same numbers */
    size_t keep_count;
    uint64_t open_files; /* the limit on open files before this process raised it; 0: it did not */
    bool runs_app;       /* the master has the application: the worker must not start it */
    bool own_group;      /* the successor gets a process group of its own */
    const struct succession_hooks *hooks;
    void *arg;
};

#define SUCCESSION_TAIL 2048

struct succession {
    struct succession_config config; /* `timing` may change while idle */
    struct restart restart;
    uint64_t generation; /* of the process that serves now */
    /* the present attempt: */
    pid_t pid;           /* 0: there is no process */
    int pid_fd;          /* pidfd_open(2) */
    int channel;         /* -1: closed */
    int child_stderr_fd; /* its standard error */
    int conns_fd;        /* our end of the connections' socket */
    int stderr_fd;       /* the log file of a master's worker, from READY; -1: none */
    size_t offered;
    bool all_offered;
    uint64_t crowded_until_ns; /* too many descriptors in flight: wait until then */
    int spawn_error;
    int status; /* as waitpid(2) has it */
    int broken; /* why its messages could not be read: negative errno */
    uint16_t broken_version;
    char tail[SUCCESSION_TAIL]; /* the end of its standard error */
    size_t tail_bytes;
    char line[PIPE_BUF]; /* of its standard error, incomplete */
    size_t line_bytes;
    char failure[1400];   /* why the restart failed; "": unknown */
    struct message ready; /* its READY message */
};

/* Thread: all of these: the owner's. Blocks: never, except that starting a process takes a moment.
 */

void succession_init(struct succession *succession, const struct succession_config *config,
                     uint64_t generation);

/* Request a restart. The outcome is in the log. */
void succession_request(struct succession *succession, const char *trigger, const char *detail);

/* Refuse a restart: log `why`, and call refused(). */
void succession_refuse(const struct succession *succession, const char *why);

/* Something happened to this process: it stops (RESTART_ON_STOP, RESTART_ON_CLOSE), its stop was
 * called off (RESTART_ON_RESUME), ... */
void succession_on(struct succession *succession, enum restart_event event);

#define SUCCESSION_HURRY_NS (500 * NS_PER_MS)
/* A second stop signal has come: a successor that must stop with this process, and does not answer,
 * is killed after half a second. */
void succession_hurry(struct succession *succession);

/* A stop, to be passed on to a process that this one has started. */
struct succession_stop {
    unsigned signals;   /* stop signals so far; at the third, the receiver calls _exit(2) */
    bool is_final;      /* this process closes the listeners that both have */
    const char *name;   /* the name of the signal; NULL: no signal */
    const char *detail; /* its sender */
};

/* Send a stop over the channel.     Errors: as message_send(). */
int succession_try_stop(int channel, const struct succession_stop *stop);

/* The same; if that fails, send SIGTERM. The message comes first because it needs no permission:
 * the process may have become another user. */
void succession_send_stop(int channel, pid_t pid, const struct succession_stop *stop);

#define SUCCESSION_FDS 3
/* What to poll; unused entries have fd -1. */
void succession_poll(const struct succession *succession, struct pollfd fds[SUCCESSION_FDS]);

/* Handle the result of poll(2), and what is due by now. */
void succession_handle(struct succession *succession, const struct pollfd fds[SUCCESSION_FDS]);

/* When to call that even without an event; CLOCK_NEVER. */
uint64_t succession_due_ns(const struct succession *succession);

/* The exit status to report for a restart that failed: the successor's status if it names a cause,
 * else EXIT_STATUS_UNAVAILABLE. */
int succession_failed_status(const struct succession *succession);

/* When both stop: the exit status of the successor's drain, for ours. If it was killed, it may have
 * lost requests: EXIT_STATUS_DEADLINE. */
int succession_drain_status(const struct succession *succession);

/* Our end of the connections' socket.     Owner: the caller from now on. */
int succession_take_conns(struct succession *succession);
/* The successor's process, its pidfd and its channel.     Owner: the caller from now on. */
void succession_take_child(struct succession *succession, pid_t *ret_pid, int *ret_pid_fd,
                           int *ret_channel);

/* Close all descriptors. A process that was started is not signalled. */
void succession_release(struct succession *succession);

/* The absolute path of the binary, to be resolved at each restart: if the file is replaced, the new
 * one runs.     Owner: the caller, free(3).     Errors: NULL. */
char *succession_find_binary(const char *argv0);

#endif

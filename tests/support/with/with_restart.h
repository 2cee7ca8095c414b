#ifndef LASTCALL_TEST_WITH_RESTART_H
#define LASTCALL_TEST_WITH_RESTART_H

/* A process that is followed by others: the generations of it, their children and files, and what
 * they serve. The test's process adopts their orphans. */

#include <limits.h>

#include "admin_client.h"

#define LIMIT_MS 30000
#define CONNECTIONS 32
#define KEPT "Connection: keep-alive\r\n"
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
/* The queue has room for ten streams of every connection that LASTCALL_CONNECTIONS may ask for. */
#define QUICK                                                                                      \
    "--restart-probation", "50ms", "--deadline", "20s", "--threads", "2", "--queue", "16384"
#define MASTER "-m", "master"
#define TEST(test)                                                                                 \
    {                                                                                              \
        .name = #test, .test_func = test, .teardown_func = end_all                                 \
    }

/* What a fake successor does, in Python; `say(type)` sends a message of the hand-over. */
#define FAKE                                                                                       \
    "#!/usr/bin/env python3\n"                                                                     \
    "import os, signal, socket, struct, sys, time\n"                                               \
    "s = socket.socket(fileno=int(os.environ['LASTCALL_HANDOVER']))\n"                             \
    "s.setblocking(True)\n"                                                                        \
    "def say(type, version=1):\n"                                                                  \
    "    s.send(struct.pack('=4sHH', b'LCHO', version, type))\n"                                   \
    "def until(want):\n"                                                                           \
    "    while struct.unpack('=4sHH', s.recv(4096)[:8])[2] != want: pass\n"

extern char program[PATH_MAX]; /* the binary under test */

/* Setup of each program: its own folder; the process becomes a subreaper. */
int with_restart_set_up(void **state);
int with_restart_clean_up(void **state);

/* Of each test; see TEST(). */
int end_all(void **state);

/* A path in that folder; valid until the sixteenth call after this one. */
const char *in_folder(const char *name);

/* Whole or not at all: renamed into place. */
void write_file(const char *path, const char *text);

/* The content of the file, or ""; valid until the next call. */
char *read_file(const char *path);

/* A configuration with `text` and some paths to ask for; where it is. */
const char *write_conf(const char *text);

/* The number in the environment, or what is usual. */
unsigned how_often(const char *setting, unsigned usual);

/* The process that serves as generation `n`; 0: it has not started in time. */
pid_t wait_generation(struct process *p, unsigned n);
void assert_generation(struct process *p, unsigned n, pid_t *ret_pid);

/* This process is a subreaper, so it can wait for successors, too. -1: the successor's own parent
 * has reaped it. */
int wait_status(pid_t pid);
void assert_drained(pid_t pid);

/* SIGTERM to `p` or to a successor of it, which ends well. */
void stop(struct process *p, pid_t pid);

/* SIGHUP to a struct process. */
void hup(void *arg);

/* The children of a process, also what it has adopted, and zombies: those of each of its threads.
 */
size_t list_children(pid_t of, pid_t *ret_pids, size_t max);

/* Waits until there is one. */
pid_t only_child(pid_t of);

/* A link to the binary, which a test may replace. */
const char *use_own_binary(void);

/* A request for /stream that takes a minute. It is in flight when this returns: its answer has
 * begun. Returns the connection. */
int begin_long_request(const struct process *p);

/* As assert_serves(), on this connection; the answer also has this line. */
void assert_serves_on(int fd, const char *connection);

/* Over IPv4; an error is negative. */
int connect_port(uint32_t address, uint16_t port);
void assert_serves_at(uint32_t address, uint16_t port);

size_t open_files_of(pid_t pid);

/* No more than `want`; waits, as the process may be about to close some. */
void assert_open_files(pid_t pid, size_t want);

#endif

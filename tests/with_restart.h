#ifndef LASTCALL_TEST_WITH_RESTART_H
#define LASTCALL_TEST_WITH_RESTART_H

/* A process that is followed by others: the generations of it, their children and files, and what
 * they serve. The test's process adopts what they leave behind. */

#include <limits.h>

#include "admin_client.h"

#define LIMIT_MS 30000
#define CONNECTIONS 32
#define GET(path) "GET " path " HTTP/1.1\r\nHost: test\r\n\r\n"
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

/* What a successor does that is none, in Python; `say(type)` sends a message of the hand-over. */
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

/* Of each program: a folder of its own, and children that come to it. */
int with_restart_set_up(void **state);
int with_restart_clean_up(void **state);

/* Of each test; see TEST(). */
int end_all(void **state);

/* A path in that folder; good until sixteen others have been asked for. */
const char *in_folder(const char *name);

/* Whole or not at all: renamed into place. */
void write_file(const char *path, const char *text);

/* What is there, or ""; good until the next call. */
char *read_file(const char *path);

/* A configuration with `text` and some paths to ask for; where it is. */
const char *write_conf(const char *text);

/* The number in the environment, or what is usual. */
unsigned how_often(const char *setting, unsigned usual);

/* The process that serves as generation `n`; 0: it does not come about. */
pid_t wait_generation(struct process *p, unsigned n);
void assert_generation(struct process *p, unsigned n, pid_t *ret_pid);

/* This process adopts what its children leave behind: so it can wait for the successors, too. -1:
 * its parent was there to do so. */
int wait_status(pid_t pid);
void assert_drained(pid_t pid);

/* SIGTERM to `p` or to a successor of it, which ends well. */
void stop(struct process *p, pid_t pid);

/* SIGHUP to a struct process. */
void hup(void *arg);

/* The children of a process, also what it has adopted, and zombies: those of each of its threads.
 */
size_t list_children(pid_t of, pid_t *ret_pids, size_t max);

/* There is one, or there will be. */
pid_t only_child(pid_t of);

/* The binary under a name of its own, for others to take. */
const char *use_own_binary(void);

/* As assert_serves(), on this connection; the answer also has this line. */
void assert_serves_on(int fd, const char *connection);

/* Over IPv4; an error is negative. */
int connect_port(uint32_t address, uint16_t port);
void assert_serves_at(uint32_t address, uint16_t port);

size_t open_files_of(pid_t pid);

/* No more than `want`; the last ones may just be on their way. */
void assert_open_files(pid_t pid, size_t want);

#endif

#ifndef LASTCALL_TEST_PROCESS_H
#define LASTCALL_TEST_PROCESS_H

/* Whole-process tests: start the real binary, talk to it over real sockets, send it real signals,
 * and read what it logs and how it ends. Everything on loopback, on free ports. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ADDRESS_SIZE 128

struct process {
    pid_t pid;
    char address[ADDRESS_SIZE]; /* the first one it listens on */
    uint16_t port;              /* of that address; 0 for a Unix socket */
    int status;                 /* exit status; -1 while it runs; 128 + n when signal n ended it */
    uint64_t exited_ns;         /* when its end was seen, within some 100 us */
    int log_fd;
    char *log; /* all that it wrote to standard error so far */
    size_t log_bytes;
};

/* Set: the next child cannot bind ports below 1024, even as root. */
extern bool process_drop_bind_capability;

/* Set: LASTCALL_BINARY is another program, which starts lastcall: it gets no flags but the test's.
 */
extern bool process_is_wrapped;

/* Set: the next child may have no more open files than this. */
extern unsigned process_open_files;

/* Set: the next child calls this just before execve(2). */
extern void (*process_in_child)(void);

/* LASTCALL_VALGRIND is set: everything takes some thirty times as long. */
bool process_runs_under_valgrind(void);

/* Start lastcall with `argv` (without argv[0], NULL-terminated) and `--listen`. `listen` NULL: a
 * free port of 127.0.0.1. Waits until it listens; fails the test if it does not. */
void process_start(struct process *process, const char *listen, const char *const *argv);

/* The same for a process whose `argv` names a configuration that listens. Both functions pass
 * `--force-after 0`: a second signal forces the exit at once, unless `argv` says otherwise. */
void process_start_configured(struct process *process, const char *const *argv);

/* The same, but do not wait for anything, and add no --listen. */
void process_spawn(struct process *process, const char *const *argv);

/* With SIGSTOP it stands still when this returns. */
void process_signal(struct process *process, int signo);

/* Wait for the end and return the status. Kills it and fails the test after `limit_ms`. */
int process_wait(struct process *process, uint32_t limit_ms);

/* Wait for the end; another status than `want` fails the test and shows the log. */
void process_expect(struct process *process, uint32_t limit_ms, int want);

/* Fill the pipe that it logs to, and do not read it again; then wait for the exit, also without
 * reading. */
void process_fill_log(struct process *process);
int process_wait_unread(struct process *process, uint32_t limit_ms);

/* Has it ended? Collects the status if so. Never blocks. */
bool process_is_gone(struct process *process);

/* For a load: of the struct process that is its argument. */
bool is_gone(void *process);
void send_term(void *process);

/* Wait until the log holds `text`. False: it does not after `limit_ms`, or its writers have exited.
 * For threads that may not fail a test; only one thread per process may wait at a time. */
bool process_says(struct process *process, const char *text, uint32_t limit_ms);

/* Wait until the log holds `text`; fails the test after a minute, or when the process ends without
 * it.
 */
void process_wait_log(struct process *process, const char *text);
/* The same, for `n` of them. */
void process_wait_log_times(struct process *process, const char *text, unsigned n);

/* Free what is held; kills the process if it still runs. Call in every test's end. */
void process_release(struct process *process);

/* For `user` in a configuration: a server that root starts would drop to nobody, which may not read
 * everything here. */
const char *own_user_name(void);

/* Teardown of every test: end what a failed test left running. */
int process_kill_left(void **state);

/* A connected socket to the process, blocking, with a receive time-out of 30 s. */
int client_connect(const struct process *process);
/* Write all of `text`. */
void client_send(int fd, const char *text);
/* recv(2) that goes on after an interruption; MSG_WAITALL means all. */
ssize_t client_recv(int fd, void *bytes, size_t size, int flags);
/* Read until the end of file, or until `text` has been read; returns malloc(3)ed text. */
char *client_read_until(int fd, const char *text);
/* One whole answer with Content-Length. malloc(3)ed; NULL if the connection ended before. */
char *client_read_answer(int fd);
/* The next whole answer, which contains `want`. */
void client_expect(int fd, const char *want);
/* Wait until the process has read all that was sent on this connection, which is TCP over IPv4. */
void client_wait_taken(int fd);
/* A request that stays under way for as long as the test needs: an upload to /sleep, of which the
 * process has read all but the last byte. Returns the connection. */
int client_begin(const struct process *process);
/* Send that byte; the answer has to be 200. Closes the connection. */
void client_end(int fd);
/* The answer to a request on a connection of its own.     Owner: the caller. */
char *client_ask(const struct process *process, const char *request);
/* It contains `want`. */
void assert_answer(const struct process *process, const char *request, const char *want);
/* Ask for /hello on a connection of its own; any answer but 200 fails the test. */
void assert_serves(const struct process *process);
/* CLOCK_MONOTONIC. */
uint64_t now_ns(void);

#define NS_PER_MS UINT64_C(1000000)

/* For a test that has to act before a limit of the server is over: the machine may stand still for
 * longer than that, and such an attempt shows nothing. Calls `once` until it returns true, which
 * means that it was in time; fails the test after 20 attempts. */
void repeat_until_in_time(bool (*once)(void *arg), void *arg);
bool is_in_time(uint64_t since_ns, uint32_t limit_ms);
/* Wait for something to read; `since_ns` is a time when it had not come. Returns the latest time
 * that is known to be one. */
uint64_t client_wait_readable(int fd, uint64_t since_ns);

#define GET_FROM(host, path) "GET " path " HTTP/1.1\r\nHost: " host "\r\n\r\n"
#define GET(path) GET_FROM("test", path)

#endif

#ifndef LASTCALL_TEST_WITH_UPSTREAM_H
#define LASTCALL_TEST_WITH_UPSTREAM_H

/* A real process between a client and an upstream, both played by the test. */

#include "answer_client.h"
#include "process.h"

enum upstream_end { KEEP, CLOSE, RESET };

struct fixture {
    struct process front;
    int listener;
    int upstream; /* the connection that the front has; -1: none */
    int client;
};

const char *protocol_name(enum answer_protocol protocol);

/* The upstream's connection that the next request comes in on: a new one, or the kept one. The
 * request is not read. */
void take_connection(struct fixture *f);
/* The same, and the head of an HTTP/1 request is read. */
void take_request(struct fixture *f);
void end_upstream(struct fixture *f, enum upstream_end end);
/* Does a connection of the front wait to be taken, or come within `wait_ms`? */
bool has_connection(const struct fixture *f, int wait_ms);
/* Let the upstream send `bytes` again and again, at most `most`, until it can send nothing for half
 * a second, because the front takes no more. Returns how much it was. */
size_t send_what_is_taken(struct fixture *f, const char *bytes, size_t size, size_t most);

/* Send a request for `path`; connects the client if it is not. */
void ask_for(struct fixture *f, enum answer_protocol protocol, bool head, const char *path);
void ask(struct fixture *f, enum answer_protocol protocol, bool head);
/* Read until the answer is over. */
enum answer_state read_answer(struct fixture *f, enum answer_protocol protocol, bool head,
                              struct answer *ret_answer);
/* The same over HTTP/1.1: it has to be whole, and of that status. */
void expect_status(struct fixture *f, int status);
void hang_up(struct fixture *f);

/* One exchange from connect to close: the client has to see an answer that is `want`. */
struct answer exchange(struct fixture *f, enum answer_protocol protocol, bool head,
                       const char *reply, enum upstream_end end, enum answer_state want);

/* A fixture whose upstream listens; its front is still to be started. It is `*state`, too. */
struct fixture *fixture_begin(void **state, uint16_t *ret_port);
/* The whole fixture. `text` is the configuration of the front, without its listener and threads;
 * an `@` in it stands for the port of the upstream. In the directory of directory.h. */
int fixture_start(void **state, const char *text);
/* Close everything; the process has to have lived. */
int fixture_tear_down(void **state);

#endif

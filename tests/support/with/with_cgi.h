#ifndef LASTCALL_TEST_WITH_CGI_H
#define LASTCALL_TEST_WITH_CGI_H

/* A server whose path /cgi runs shell scripts, and a client that speaks HTTP/1.1 and HTTP/2.
 * Scripts find the program's directory in $DIR. */

#include <stddef.h>

#include "with_config.h"

/* A configuration: /cgi with `more` keys of handler.cgi (", timeout: 1s"), and /hello. */
#define CGI(more)                                                                                  \
    LISTEN "pool: {workers: 16}\nhosts:\n  default:\n    paths:\n"                                 \
           "      /hello: {handler: hello}\n      /sleep: {handler: sleep}\n"                      \
           "      /cgi: {handler.cgi: {path: @/cgi, env: {DIR: @}" more "}}\n"
#define TYPE "printf 'Content-Type: text/plain\\n\\n'; "

/* Of each program; its end is remove_directory(). */
int with_cgi_set_up(void **state);

/* Make a script; `text` follows its first line, `#!/bin/sh`. */
void write_script(const char *name, const char *text);
/* One with another first line. */
void write_program(const char *name, const char *text);

struct answer_of {
    long status;
    char *body; /* terminated; the caller's */
    size_t bytes;
    char *head;
    int is_whole;
};

enum http { HTTP_1, HTTP_2 };

/* One request on a connection of its own. `body` NULL: GET, else POST.
 * Owner: the caller, answer_of_release().     Errors: none: an answer that is not whole. */
void request(const struct process *p, enum http http, const char *path, const char *body,
             size_t bytes, struct answer_of *ret_answer);
void answer_of_release(struct answer_of *answer);

/* The status, and `want` is in the body. */
void assert_get(const struct process *p, const char *path, long status, const char *want);

/* A FIFO in the directory, whose writers' end the test can wait for: they are processes of a
 * script. Returns its reader's side. */
int make_fifo(const char *name);
/* Until one has opened it, which writes a byte. */
void wait_fifo_begin(int fd);
/* Until all have ended; closes it. */
void wait_fifo_end(int fd);
/* Let a script that does `cat $DIR/NAME` go on. */
void open_fifo(const char *name);

#endif

#ifndef LASTCALL_TEST_WITH_SCRIPT_H
#define LASTCALL_TEST_WITH_SCRIPT_H

/* A script that CGI runs, for a request without a socket. Scripts are in the program's directory,
 * which they find in $DIR. */

#include "cgi.h"
#include "cgi_exchange.h"

extern struct cgi_exchange fake;
extern struct cgi_settings settings; /* of the next request; generous after script_set_up() */

/* Of each program. */
int script_begin(void **state);
int script_finish(void **state);
/* Of each test. */
int script_set_up(void **state);
int script_clean_up(void **state);

/* Make `/script` a shell script; `text` is what follows its first line. */
void script_write(const char *text);
/* A request for it, whose fields may be changed before script_run(). */
void script_request(const char *method, const char *path);
/* Have it answered, and fail the test if that takes more than a minute. */
void script_run(void);
/* All of these: write, GET /script, run. */
void script_get(const char *text);

/* The answer is this one. */
void assert_body(const char *want);
/* What the script wrote to the file `name`.     Owner: the caller. */
char *script_file(const char *name);

/* A FIFO that a process of the script's keeps open: has every such process ended? */
int script_open_fifo(const char *name);
void script_wait_fifo(int fd);

#endif

#ifndef LASTCALL_CGI_P_H
#define LASTCALL_CGI_P_H

/* What the files of CGI share; see cgi.h for the list. All functions run on the thread that
 * cgi_handle() was called on. */

#include <stdatomic.h>

#include "cgi.h"
#include "cgi_head.h"
#include "cgi_lookup.h"
#include "claim.h"
#include "log_limit.h"

/* An answer up to this size is sent whole, with its length, once the script has ended. */
#define CGI_HELD_BYTES 16384
#define CGI_ROOM (CGI_HEAD_BYTES + 2 * CGI_HELD_BYTES)
#define CGI_WORDS_BYTES 512 /* a longer line of standard error is logged in parts */

struct cgi {
    /* immutable after cgi_create() */
    struct cgi_settings settings; /* its texts are our copies */
    char *mount;                  /* without a slash at its end */
    int dir_fd;
    /* atomic: any worker; relaxed, it orders nothing else */
    _Atomic unsigned running; /* scripts */
    /* atomic, see log_limit.h */
    struct log_limit failures, words;
};

/* Why a script is stopped, or its answer is not whole. */
enum cgi_why {
    CGI_FINE,
    CGI_CANCELLED, /* the client has left, or the request is cut */
    CGI_LATE,      /* settings.timeout_ns */
    CGI_SLOW,      /* settings.write_timeout_ns */
    CGI_LONG,      /* settings.max_output */
    CGI_BAD,       /* its header, or it ended without one, or its body is too short */
    CGI_DIED,      /* its exit status is not 0 */
    CGI_BUSY,      /* it could not be started: too many processes or descriptors */
};

/* A script that runs. */
struct cgi_run {
    struct cgi *cgi;
    struct exchange *exchange;
    const struct cgi_script *script;
    /* cgi_spawn.c */
    struct claim claim;
    pid_t pid;
    int pid_fd;
    int in_fd, out_fd, error_fd; /* our ends of its pipes, non-blocking; -1: closed */
    /* cgi_run.c */
    size_t body_at; /* bytes of the request's body that it was given */
    int cancel_fd;  /* the exchange's; negative: there is none */
    bool has_ended, is_stopping, is_killed;
    uint64_t late_at_ns; /* when settings.timeout_ns is over */
    uint64_t kill_at_ns; /* while it is stopping */
    uint64_t held_until_ns;
    int status; /* as waitpid(2) has it, once it is reaped */
    enum cgi_why why;
    char reason[CGI_HEAD_ERROR]; /* for the log; "": `why` says all */
    /* cgi_output.c */
    char *buffer; /* CGI_ROOM: the header, and what is held of the body */
    size_t bytes; /* in `buffer`; not counting the header once that is read */
    size_t looked_at;
    struct cgi_head head; /* head.bytes 0: not yet read */
    bool has_no_body;     /* the method or the status says so: what is printed is dropped */
    bool is_streamed;     /* the answer has begun */
    uint64_t printed;     /* bytes in all */
    uint64_t body_bytes;  /* of the answer so far */
    /* cgi_words.c */
    char words[CGI_WORDS_BYTES];
    size_t words_bytes;
};

/* ---- cgi.c ---- */

/* Answer with `status` and a line that says what it means. */
void cgi_refuse(struct exchange *exchange, int status);

/* ---- cgi_spawn.c ---- */

/* Start the script. Fills the fields of its group, even on failure.
 * Blocks: until execve(2) has succeeded.     Errors: 0; a negative errno. */
int cgi_spawn(struct cgi_run *run);

/* ---- cgi_run.c ---- */

/* Run it, from its start to its end: the claim is over, and its pipes are closed. */
void cgi_run(struct cgi_run *run);

/* Log why the answer is not whole, at most 10 such lines a second. */
void cgi_say_failure(const struct cgi_run *run);

/* ---- cgi_output.c ---- */

/* Read what it has printed. False: that was the end.
 * Blocks: while the client does not take what is streamed. */
bool cgi_output_read(struct cgi_run *run);
/* Send what is held: the answer is streamed from now on. */
void cgi_output_stream(struct cgi_run *run);
/* It has ended: fill in the rest of the answer. */
void cgi_output_end(struct cgi_run *run);

/* ---- cgi_words.c ---- */

/* Log what it has written to standard error. False: that was the end.     Blocks: on the log. */
bool cgi_words_read(struct cgi_run *run);
/* All that it has written, when it has ended. */
void cgi_words_read_rest(struct cgi_run *run);
/* What is left of a line without an end. */
void cgi_words_end(struct cgi_run *run);

#endif

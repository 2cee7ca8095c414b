#ifndef LASTCALL_CGI_H
#define LASTCALL_CGI_H

/* CGI (RFC 3875): a program is started for each request, and what it prints is the answer.
 *
 *     cgi.c          settings; a request from its path to its answer
 *     cgi_lookup.c   which script is meant: SCRIPT_NAME and PATH_INFO
 *     cgi_vars.c     the environment: meta-variables of section 4.1, HTTP_*, and what is configured
 *     cgi_spawn.c    the process: descriptors, session, signals, working directory
 *     cgi_run.c      its input, output and end, with one poll(2)
 *     cgi_words.c    its standard error, for the log
 *     cgi_head.c     the header that it prints
 *     cgi_output.c   the answer: held back while it is short, else streamed
 *
 * docs/cgi.md says what scripts and operators may rely on. Nothing here knows libh2o. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include "exchange.h"

#define CGI_ERROR_SIZE 512
#define CGI_ENV_MAX 64 /* configured variables */

struct cgi_settings {
    const char *dir;           /* of the scripts; borrowed, as the other texts */
    const char *mount;         /* what the paths of its requests begin with: "/cgi-bin", "/" */
    const void *owner;         /* whose children the scripts are, see claims_kill() */
    bool any_link;             /* symbolic links may lead out of `dir` */
    bool authorization;        /* scripts see the field Authorization, as HTTP_AUTHORIZATION */
    uint64_t timeout_ns;       /* for the script, less the time that the client takes; 0: none */
    uint64_t write_timeout_ns; /* that the client may take nothing; 0: none */
    uint64_t grace_ns;         /* from SIGTERM to SIGKILL */
    uint64_t held_ns;     /* a script that prints nothing for so long has what it printed sent */
    uint64_t max_output;  /* bytes of an answer, its header included; 0: no limit */
    unsigned max_running; /* scripts at once; a request beyond them is answered 503; 0: no limit */
    const char *env[CGI_ENV_MAX]; /* "NAME=value" */
    size_t env_count;
    struct rlimit files; /* of the scripts */
};

struct cgi;

/* Owner:  the caller; ends with cgi_destroy(); copies all texts.     Thread: before start.
 * Errors: 0 and *ret_cgi; a negative errno, and one line in `error`. */
int cgi_create(const struct cgi_settings *settings, struct cgi **ret_cgi,
               char error[CGI_ERROR_SIZE]);
/* NULL is allowed.     Thread: after the last request. */
void cgi_destroy(struct cgi *cgi);

/* Answer a request: the handler of a struct user_route whose `user` is a struct cgi.
 * Thread: any that may block.     Blocks: as long as the script runs. */
void cgi_handle(struct exchange *exchange, void *cgi);

/* May `text` be a configured variable? It is NAME=value; the server sets HTTP_* alone.
 * Thread: any. */
bool cgi_env_is_valid(const char *text);

#endif

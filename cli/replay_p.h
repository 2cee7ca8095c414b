#ifndef LASTCALL_REPLAY_P_H
#define LASTCALL_REPLAY_P_H

/* The parts of `lastcall replay`:
 *
 *     replay.c          the command line, and the run: take, send, judge, note, again
 *     replay_rules.c    which requests, what an answer means, how long to wait: no I/O
 *     replay_send.c     one request as libcurl wants it
 *     replay_file.c     requests from an archive, decisions into its .done
 *     replay_redis.c    requests from a stream, decisions as acknowledgements
 *     replay_stream.c   what is asked of Redis for that
 *     replay_show.c     what a person sees of it
 *
 * Everything is on one thread. */

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clock.h"
#include "marks.h"
#include "redis_url.h"
#include "unfinished.h"

#define REPLAY_ONLY_MAX 32
#define REPLAY_HEADERS_MAX 32
#define REPLAY_ERROR_SIZE 512

enum replay_exit {
    REPLAY_EXIT_DONE = 0,
    REPLAY_EXIT_LEFT = 1,      /* something was parked, or has to be tried again */
    REPLAY_EXIT_USAGE = 64,    /* EX_USAGE */
    REPLAY_EXIT_NOINPUT = 66,  /* EX_NOINPUT: nothing can be read there */
    REPLAY_EXIT_AWAY = 69,     /* EX_UNAVAILABLE: the target, or Redis */
    REPLAY_EXIT_CANTNOTE = 74, /* EX_IOERR: a decision could not be noted */
    REPLAY_EXIT_BUSY = 75,     /* EX_TEMPFAIL: another one works on it */
    REPLAY_EXIT_INTERRUPTED = 130,
};

/* ---- rules ---- */

struct replay_filter {
    const char *only[REPLAY_ONLY_MAX]; /* METHOD, a glob for the path, reason:X, class:X */
    size_t only_count;
    bool include_may_have_run;
    bool include_parked; /* those that were parked before */
    bool include_queued; /* those that are in a stream already */
    uint64_t max_age_ms; /* 0: any */
};

/* Why a request is left alone; NULL in the names: it is not. */
#define REPLAY_VERDICTS(X)                                                                         \
    X(SEND, NULL)                                                                                  \
    X(SETTLED, "settled before")                                                                   \
    X(PARKED, "parked before (--include-parked sends them again)")                                 \
    X(QUEUED, "queued in a Redis stream (replay from there, or --include-queued)")                 \
    X(NOT_ASKED_FOR, "left out by --only")                                                         \
    X(MAY_HAVE_RUN, "may have run (--include-may-have-run sends them)")                            \
    X(TOO_OLD, "older than --max-age")                                                             \
    X(TWICE, "in the archive twice")

#define X(id, text) REPLAY_##id,
enum replay_verdict { REPLAY_VERDICTS(X) REPLAY_VERDICT_COUNT };
#undef X

const char *replay_verdict_text(enum replay_verdict verdict);

/* Is `text` something for --only? Returns NULL, or what is wanted. */
const char *replay_check_only(const char *text);

/* `mark` NULL: nothing was decided so far. */
enum replay_verdict replay_judge_request(const struct replay_filter *filter,
                                         const struct unfinished *request, const struct mark *mark,
                                         uint64_t now_ms);

/* Why it can not be sent as it was; NULL: it can. */
const char *replay_cannot_send(const struct unfinished *request);

/* What an answer makes of a request; status 0: there was none. */
enum mark_outcome replay_judge_answer(int status);

/* How long to wait behind the `tries`th failure (1 is the first); `chance` in [0, 1) spreads it. */
uint64_t replay_backoff_ns(unsigned tries, double chance);

/* Is this header for one connection only, or one that a replay writes itself? */
bool replay_drops_header(const struct unfinished *request, const struct unfinished_header *header);

/* ---- a request on its way ---- */

struct replay_item {
    struct unfinished request;
    unsigned attempt;         /* that is made, or was made last; counts over all runs */
    unsigned tries;           /* in this run */
    uint64_t due_ns;          /* not before */
    size_t file;              /* replay_file.c: of its files */
    char entry[48];           /* replay_redis.c: the id in the stream */
    struct replay_item *next; /* in the list of those that wait */
    /* while it is sent, replay_send.c's */
    CURL *easy;
    struct curl_slist *headers;
    char *method, *path;
    char answer[MARK_ANSWER_SIZE];
    size_t answer_bytes;
};

void replay_item_free(struct replay_item *item);

/* ---- where requests come from ---- */

struct replay_source;

struct replay_source_ops {
    /* About how many there are to send; *ret_left_alone counts the others by verdict. */
    int (*survey)(struct replay_source *source, size_t *ret_count);
    /* 1 and *ret_item, the caller's; 0: there are no more; a negative errno. */
    int (*next)(struct replay_source *source, struct replay_item **ret_item);
    /* It is about to be sent: 1, and item->attempt says the how manieth time; 0: somebody else has
     * taken it over meanwhile; a negative errno. */
    int (*begin)(struct replay_source *source, struct replay_item *item);
    /* Note what became of it; it counts from flush() on. 1; 0: somebody else has decided already;
     * a negative errno. */
    int (*decide)(struct replay_source *source, struct replay_item *item, const struct mark *mark);
    int (*flush)(struct replay_source *source);
    /* It goes back undecided: others may have it at once. */
    void (*give_back)(struct replay_source *source, struct replay_item *item);
    /* How many of source->unit are with others, as far as known. */
    size_t (*elsewhere)(struct replay_source *source);
    void (*close)(struct replay_source *source);
};

struct replay_source {
    const struct replay_source_ops *ops;
    const struct replay_filter *filter;
    const char *unit;              /* of elsewhere() */
    bool dry_run;                  /* nothing may be changed */
    char error[REPLAY_ERROR_SIZE]; /* what the last failure was */
    size_t left_alone[REPLAY_VERDICT_COUNT];
    size_t garbage;
    size_t parked; /* by the source itself: they can not be sent */
};

/* `path` is a file or a folder. Returns an enum replay_exit; on failure `error` has the line. */
int replay_file_open(const char *path, const struct replay_filter *filter, bool dry_run,
                     struct replay_source **ret_source, char *error);
int replay_redis_open(const struct redis_url *url, const struct replay_filter *filter, bool dry_run,
                      uint64_t claim_after_ns, struct replay_source **ret_source, char *error);

/* Redis or a path? */
bool replay_is_redis(const char *from);

/* ---- sending ---- */

struct replay_target {
    const char *url;     /* http://host:port, without a path */
    const char *socket;  /* a Unix socket to reach it at; NULL: as the url says */
    const char *ca_file; /* PEM, who may vouch for an https target; NULL: the system's */
    const char *host;    /* in place of the request's own; NULL: that one */
    const char *headers[REPLAY_HEADERS_MAX]; /* added, and in place of those of the same name */
    size_t header_count;
    uint64_t timeout_ns;
};

/* Make item->easy for the attempt, ready for a multi handle; its CURLOPT_PRIVATE is the item.
 * Errors: 0; -ENOMEM. */
int replay_send_prepare(const struct replay_target *target, struct replay_item *item);

/* Free what replay_send_prepare() has made. */
void replay_send_release(struct replay_item *item);

/* ---- showing ---- */

struct replay_show {
    bool terminal, quiet;
    uint64_t began_ns, next_ns;
    size_t total, done_before; /* for the time that is left */
};

struct replay_counts {
    size_t settled, parked, failed; /* failed: attempts */
    size_t given_up;                /* requests left for another run */
    size_t waiting, in_flight;
    size_t taken_over; /* decided by somebody else */
};

void replay_show_begin(struct replay_show *show, size_t total, bool quiet);
/* Now and then: a bar that changes on a terminal, else a line every 5 s. */
void replay_show_progress(struct replay_show *show, const struct replay_counts *counts,
                          uint64_t now_ns);
/* A line of its own, the bar out of its way. */
void replay_show_line(struct replay_show *show, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void replay_show_end(struct replay_show *show);
/* To standard output, without a byte that could move a cursor. */
void replay_show_text(const struct unfinished_text *text);
/* `POST shop.example/orders (idempotent, deadline)` likewise. */
void replay_show_request(const struct unfinished *request);
/* When it wants to be called again. */
uint64_t replay_show_next_ns(const struct replay_show *show);

#endif

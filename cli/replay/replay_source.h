#ifndef LASTCALL_REPLAY_SOURCE_H
#define LASTCALL_REPLAY_SOURCE_H

/* A source of requests to replay: archive files (replay_file.h) or a stream in Redis
 * (replay_redis.h). A source also keeps the outcomes. Thread: main only, for all of it. */

#include <stdbool.h>
#include <stddef.h>

#include "replay_item.h"
#include "replay_rules.h"

#define REPLAY_ERROR_SIZE 512

struct replay_source;

struct replay_source_ops {
    /* Estimate how many requests will be sent, and count the others in source->skipped.
     * 0; a negative errno. */
    int (*survey)(struct replay_source *source, size_t *ret_count);
    /* 1 and *ret_item, the caller's; 0 no more; a negative errno. */
    int (*next)(struct replay_source *source, struct replay_item **ret_item);
    /* Begin an attempt: 1, and item->attempt is its number; 0 another replayer has taken the
     * request; a negative errno. */
    int (*begin)(struct replay_source *source, struct replay_item *item);
    /* Note the outcome; flush() makes it durable. 1; 0 another replayer has noted one already; a
     * negative errno. */
    int (*decide)(struct replay_source *source, struct replay_item *item,
                  const struct disposition *disposition);
    int (*flush)(struct replay_source *source);
    /* Return a request without an outcome, so that other replayers may take it at once. */
    void (*give_back)(struct replay_source *source, struct replay_item *item);
    /* How many of source->unit other replayers hold, as far as known. */
    size_t (*elsewhere)(struct replay_source *source);
    void (*close)(struct replay_source *source);
};

struct replay_source {
    const struct replay_source_ops *ops;
    const struct replay_filter *filter;
    const char *unit;              /* what elsewhere() counts: "file" or "request" */
    bool dry_run;                  /* change nothing */
    char error[REPLAY_ERROR_SIZE]; /* of the last failure */
    size_t skipped[REPLAY_VERDICT_COUNT];
    size_t garbage; /* lines or entries that are not requests */
    size_t parked;  /* requests that cannot be sent; the source parked them itself */
};

#endif

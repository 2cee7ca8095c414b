#ifndef LASTCALL_REPLAY_ITEM_H
#define LASTCALL_REPLAY_ITEM_H

/* A request that a replay sends, from its source to its outcome. */

#include <curl/curl.h>
#include <stddef.h>
#include <stdint.h>

#include "dispositions.h"
#include "unfinished.h"

struct replay_item {
    struct unfinished request;
    unsigned attempt;         /* the number of the current or last attempt, over all runs */
    unsigned tries;           /* attempts in this run */
    uint64_t due_ns;          /* do not send before */
    size_t file;              /* replay_file.c: index of its file */
    char entry[48];           /* replay_redis.c: its id in the stream */
    struct replay_item *next; /* replay_run.c: in the list of waiting items */
    /* the current attempt, see replay_send.h */
    CURL *easy;
    struct curl_slist *headers;
    char *method, *path;
    char answer[DISPOSITION_ANSWER_SIZE]; /* the beginning of the answer's body */
    size_t answer_bytes;
};

/* Free what the current attempt holds; `answer` stays.     Thread: main only. */
void replay_item_end_attempt(struct replay_item *item);

/* NULL is allowed.     Thread: main only. */
void replay_item_free(struct replay_item *item);

#endif

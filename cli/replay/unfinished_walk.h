#ifndef LASTCALL_UNFINISHED_WALK_H
#define LASTCALL_UNFINISHED_WALK_H

/* Reads all requests on record in one place, with their outcomes. It changes nothing. */

#include "dispositions.h"
#include "redis_url.h"

struct unfinished_entry {
    const struct unfinished *request;
    const struct disposition *disposition; /* NULL: no outcome yet */
    const char *line;                      /* the request as the archive has it */
    size_t len;
    const char *place; /* the file or the stream */
    uint64_t pid;      /* not 0: the request is still in the record of this ended process */
};

typedef void unfinished_visit(void *arg, const struct unfinished_entry *entry);

/* Call `visit` for each request: of a folder, the archive's first, then those in the records of
 * ended processes. Anything that is not a request is reported on standard error and counted.
 * Thread: main only.     Errors: an enum replay_exit, after the message has been printed. */
int unfinished_walk_path(const char *path, unfinished_visit *visit, void *arg, size_t *ret_garbage);
int unfinished_walk_redis(const struct redis_url *url, unfinished_visit *visit, void *arg,
                          size_t *ret_garbage);

#endif

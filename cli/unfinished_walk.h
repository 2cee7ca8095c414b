#ifndef LASTCALL_UNFINISHED_WALK_H
#define LASTCALL_UNFINISHED_WALK_H

/* Every request on record in a place, and what became of it; nothing is changed there. */

#include "marks.h"
#include "redis_url.h"

struct unfinished_entry {
    const struct unfinished *request;
    const struct mark *mark; /* NULL: nothing was decided */
    const char *line;        /* as the archive has it */
    size_t len;
    const char *place; /* the file, or the stream */
};

typedef void unfinished_visit(void *arg, const struct unfinished_entry *entry);

/* Call `visit` for each. What is no request is named on standard error and counted. Returns an enum
 * replay_exit; failures were said.     Thread: main only. */
int unfinished_walk_path(const char *path, unfinished_visit *visit, void *arg, size_t *ret_garbage);
int unfinished_walk_redis(const struct redis_url *url, unfinished_visit *visit, void *arg,
                          size_t *ret_garbage);

#endif

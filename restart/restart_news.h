#ifndef LASTCALL_RESTART_NEWS_H
#define LASTCALL_RESTART_NEWS_H

/* The outcomes of restarts, which the serving process reports on its admin listener (`lastcall
 * reload` reads them). A server notes the outcome of its own restarts; a master sends it to its
 * worker. A restart that succeeds needs no note: the successor then answers, with the next
 * generation. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "handover.h"

enum restart_news_event {
    RESTART_NEWS_BEGAN = 1,
    RESTART_NEWS_FAILED,
    RESTART_NEWS_REFUSED, /* the restart did not begin */
};

#define RESTART_NEWS_REASON_SIZE 1400

struct restart_outcomes {
    bool is_under_way;
    uint64_t failed; /* number of failed restarts since this process serves */
    uint64_t refused;
    int status; /* of the last restart that failed or was refused: enum exit_status; 0: none */
    char reason[RESTART_NEWS_REASON_SIZE]; /* the reason for that, for people */
};

struct restart_news {
    pthread_mutex_t mu;
    struct restart_outcomes outcomes; /* mu */
};

/* Thread: before start; after join. */
void restart_news_init(struct restart_news *news);
void restart_news_release(struct restart_news *news);

/* `status` and `reason` are used with FAILED and REFUSED.     Thread: any.     Blocks: never. */
void restart_news_note(struct restart_news *news, enum restart_news_event event, int status,
                       const char *reason);

/* Thread: any.     Blocks: never. */
void restart_news_get(struct restart_news *news, struct restart_outcomes *ret_outcomes);

/* The same through a message, HANDOVER_NEWS: the master sends, the worker notes what it receives.
 * Errors of the first: as message_send(). */
int restart_news_send(int channel, enum restart_news_event event, int status, const char *reason);
void restart_news_receive(struct restart_news *news, const struct message *message);

#endif

#include "restart_news.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void restart_news_init(struct restart_news *news)
{
    memset(news, 0, sizeof(*news));
    (void)pthread_mutex_init(&news->mu, NULL);
}

void restart_news_release(struct restart_news *news)
{
    (void)pthread_mutex_destroy(&news->mu);
}

void restart_news_note(struct restart_news *news, enum restart_news_event event, int status,
                       const char *reason)
{
    struct restart_outcomes *outcomes = &news->outcomes;

    (void)pthread_mutex_lock(&news->mu);
    if (event != RESTART_NEWS_REFUSED) /* a refusal says nothing about a restart under way */
        outcomes->is_under_way = event == RESTART_NEWS_BEGAN;
    outcomes->failed += event == RESTART_NEWS_FAILED;
    outcomes->refused += event == RESTART_NEWS_REFUSED;
    if (event != RESTART_NEWS_BEGAN) {
        outcomes->status = status;
        (void)snprintf(outcomes->reason, sizeof(outcomes->reason), "%s", reason);
    }
    (void)pthread_mutex_unlock(&news->mu);
}

void restart_news_get(struct restart_news *news, struct restart_outcomes *ret_outcomes)
{
    (void)pthread_mutex_lock(&news->mu);
    *ret_outcomes = news->outcomes;
    (void)pthread_mutex_unlock(&news->mu);
}

int restart_news_send(int channel, enum restart_news_event event, int status, const char *reason)
{
    struct message message;

    if (channel < 0)
        return -EPIPE;
    handover_begin(&message, HANDOVER_NEWS);
    message_put_number(&message, HANDOVER_EVENT, event);
    message_put_number(&message, HANDOVER_STATUS, (uint64_t)status);
    message_put_text(&message, HANDOVER_TEXT, reason);
    return message_send(channel, &message);
}

void restart_news_receive(struct restart_news *news, const struct message *message)
{
    char reason[RESTART_NEWS_REASON_SIZE];
    uint64_t event = message_get_number(message, HANDOVER_EVENT, 0);

    (void)message_get_text(message, HANDOVER_TEXT, reason, sizeof(reason));
    if (event >= RESTART_NEWS_BEGAN && event <= RESTART_NEWS_REFUSED)
        restart_news_note(news, (enum restart_news_event)event,
                          (int)message_get_number(message, HANDOVER_STATUS, 0), reason);
}

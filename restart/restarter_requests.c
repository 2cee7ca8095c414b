/* What other threads ask of the restart thread: noted under the lock, then a wake-up. */

#include "restarter_p.h"

#include <stdio.h>

#include "wakeup.h"

void restarter_wake(struct restarter *restarter)
{
    wakeup_ring(restarter->wake_fd);
}

void restarter_request(struct restarter *restarter, const char *trigger, const char *detail)
{
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->asked = true; /* two at the same time count as one */
    (void)snprintf(restarter->trigger, sizeof(restarter->trigger), "%s", trigger);
    (void)snprintf(restarter->detail, sizeof(restarter->detail), "%s", detail);
    (void)pthread_mutex_unlock(&restarter->mu);
    restarter_wake(restarter);
}

void restarter_get_outcomes(struct restarter *restarter, struct restart_outcomes *ret_outcomes)
{
    restart_news_get(&restarter->news, ret_outcomes);
}

void restarter_logs_reopened(struct restarter *restarter)
{
    if (restarter == NULL)
        return;
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->logs_reopened = true;
    (void)pthread_mutex_unlock(&restarter->mu);
    restarter_wake(restarter);
}

void restarter_hurry(struct restarter *restarter)
{
    if (restarter == NULL)
        return;
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->hurries = true;
    (void)pthread_cond_broadcast(&restarter->changed);
    (void)pthread_mutex_unlock(&restarter->mu);
    restarter_wake(restarter);
}

/* Between the coordinator and a restart: each step of a drain goes to the successor and to the
 * predecessor, and a stop that came during the hand-over goes to the successor. */

#include "restarter_p.h"

#include "log.h"

void restarter_on_step(void *arg, enum coord_phase phase)
{
    struct restarter *restarter = arg;

    (void)pthread_mutex_lock(&restarter->mu);
    bool news = restarter->phase < PHASE_CLOSING;
    restarter->phase = phase;
    restarter->stepped |= news;
    (void)pthread_mutex_unlock(&restarter->mu);
    if (news) /* not after CLOSING: the end should not be delayed */
        restarter_wake(restarter);
}

unsigned restarter_count_signals(void *arg)
{
    const struct restarter *restarter = arg;
    struct coord_status status;

    coord_get_status(restarter->config.coord, &status);
    return status.forced ? 2 : 1;
}

/* An order to drain a worker is meant for the whole service, so the master must know. A predecessor
 * that stops with this process must know if our drain is called off. */
void restarter_tell_drains(struct restarter *restarter, bool drains)
{
    struct message message;

    if (restarter->predecessor_fd < 0)
        return;
    handover_begin(&message, HANDOVER_DRAINS);
    message_put_number(&message, HANDOVER_IS_ON, drains);
    (void)message_send(restarter->predecessor_fd, &message);
}

void restarter_take_step(struct restarter *restarter, enum coord_phase phase)
{
    bool drains = phase != PHASE_RUNNING;

    succession_on(&restarter->succession, drains ? RESTART_ON_STOP : RESTART_ON_RESUME);
    if (phase >= PHASE_CLOSING)
        succession_on(&restarter->succession, RESTART_ON_CLOSE);
    /* A drain after a hand-over concerns only this process. A drain that was called off is reported
     * in any case: it may have begun and ended before this thread looked, and the master may have
     * ordered it. */
    if (!restarter->has_handed_over && (!drains || !restarter->reported_drains))
        restarter_tell_drains(restarter, drains);
    restarter->reported_drains = drains;
}

/* A stop arrived just before the hand-over. It was meant for the service, which the successor is
 * now. */
void restarter_pass_stop_on(struct restarter *restarter, pid_t successor, bool is_final)
{
    log_line(LOG_LEVEL_WARN, "restart-stopped", NULL,
             "a stop came during the hand-over: process %ld stops as well", (long)successor);
    const struct succession_stop stop = {
        .signals = restarter_count_signals(restarter),
        .is_final = is_final, /* this process is closing the listeners that both have */
    };
    succession_send_stop(restarter->succession.channel, successor, &stop);
}

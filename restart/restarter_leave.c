/* The end of a process that a restart still needs: it waits for the successor to say that it
 * accepts, or to end. */

#include "restarter_p.h"

#include "clock.h"
#include "exit_status.h"
#include "notify.h"

void restarter_set_stopping_successor(struct restarter *restarter, pid_t stopping_successor)
{
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->stopping_successor = stopping_successor;
    restarter->is_needed |= stopping_successor > 0; /* restarter_look_whether_needed() clears it */
    (void)pthread_mutex_unlock(&restarter->mu);
}

void restarter_set_needed(struct restarter *restarter, bool is_needed)
{
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->is_needed = is_needed;
    (void)pthread_cond_broadcast(&restarter->changed);
    (void)pthread_mutex_unlock(&restarter->mu);
}

/* Called at the end of a turn, after all its events. */
void restarter_look_whether_needed(struct restarter *restarter)
{
    enum restart_state state = restarter->succession.restart.state;
    bool is_pending = state == RESTART_COMMITTING || state == RESTART_LEAVING;

    (void)pthread_mutex_lock(&restarter->mu);
    bool gives_up = restarter->gives_up;
    pid_t stopping_successor =
        restarter->hurries && !restarter->second_signal_sent ? restarter->stopping_successor : 0;
    restarter->second_signal_sent |= stopping_successor > 0;
    restarter->is_needed =
        is_pending || (restarter->stopping_successor > 0 && !restarter->successor_resumed);
    if (!restarter->is_needed)
        (void)pthread_cond_broadcast(&restarter->changed);
    (void)pthread_mutex_unlock(&restarter->mu);
    if (stopping_successor > 0)
        succession_send_stop(restarter->succession.channel, stopping_successor,
                             &(struct succession_stop){.signals = 2});
    if (gives_up && is_pending)
        succession_on(&restarter->succession, RESTART_ON_TIME);
}

/* Wait until this process is not needed, or `wait_ns` has passed, or (with `hurriedly`) a signal
 * has come. */
static void wait_while_needed_locked(struct restarter *restarter, uint64_t wait_ns, bool hurriedly)
{
    const struct timespec until = clock_timespec(clock_now_ns() + wait_ns);
    int err = 0;

    while (restarter->is_needed && err == 0 && !(hurriedly && restarter->hurries))
        err = pthread_cond_timedwait(&restarter->changed, &restarter->mu, &until);
}

static void wait_for_answer_locked(struct restarter *restarter, uint64_t deadline_at_ns)
{
    uint64_t now_ns = clock_now_ns(), wait_ns = SUCCESSION_HURRY_NS;

    if (deadline_at_ns != CLOCK_NEVER && deadline_at_ns > now_ns + wait_ns)
        wait_ns = deadline_at_ns - now_ns;
    wait_while_needed_locked(restarter, wait_ns, true);
    if (restarter->is_needed && restarter->hurries)
        wait_while_needed_locked(restarter, SUCCESSION_HURRY_NS, false);
    if (!restarter->is_needed || restarter->stopping_successor > 0)
        return;
    restarter->gives_up = true;
    restarter_wake(restarter);
    wait_while_needed_locked(restarter, SUCCESSION_HURRY_NS, false);
}

/* The successor has its own deadline; this limit is for a successor that hangs. */
static void wait_for_successor_locked(struct restarter *restarter)
{
    wait_while_needed_locked(restarter, restarter->config.stop_longest_ns, true);
    if (restarter->is_needed)
        wait_while_needed_locked(restarter, 2 * SUCCESSION_HURRY_NS, false);
}

int restarter_leave(struct restarter *restarter, int status)
{
    struct coord_status drain;

    if (restarter == NULL)
        return status;
    coord_get_status(restarter->config.coord, &drain);
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->leaves = true;
    restarter->hurries |= drain.forced;
    if (restarter->is_needed && restarter->hurries)
        restarter_wake(restarter); /* to pass the signal on */
    wait_for_answer_locked(restarter, drain.deadline_at_ns);
    if (restarter->is_needed)
        wait_for_successor_locked(restarter);
    pid_t stopping_successor = restarter->stopping_successor;
    bool serves = restarter->successor_resumed;
    if (restarter->successor_status > status && status <= EXIT_STATUS_FORCED)
        status = restarter->successor_status;
    (void)pthread_mutex_unlock(&restarter->mu);
    if (stopping_successor >
        0) /* not earlier: systemd kills the rest of the service when MAINPID ends */
        notify_send("MAINPID=%ld%s", (long)stopping_successor,
                    serves ? "\nREADY=1\nSTATUS=serving" : "");
    return status;
}

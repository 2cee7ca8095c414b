/* The restart thread: what wakes it, one turn of its loop, its start and its end. */

#include "restarter_p.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "thread.h"
#include "wakeup.h"

/* Returns false when the thread must end. */
static bool take_wishes(struct restarter *restarter)
{
    char trigger[sizeof(restarter->trigger)], detail[sizeof(restarter->detail)];

    wakeup_drain(restarter->wake_fd);
    (void)pthread_mutex_lock(&restarter->mu);
    bool asked = restarter->asked && (restarter->owns_listeners || !restarter->is_committed);
    bool stepped = restarter->stepped, must_stop = restarter->must_stop;
    bool logs_reopened = restarter->logs_reopened;
    enum coord_phase phase = restarter->phase;
    restarter->asked &= !asked;
    restarter->stepped = restarter->logs_reopened = false;
    memcpy(trigger, restarter->trigger, sizeof(trigger));
    memcpy(detail, restarter->detail, sizeof(detail));
    (void)pthread_mutex_unlock(&restarter->mu);
    if (stepped) /* also at the end: a successor that got COMMIT must hear of a stop */
        restarter_take_step(restarter, phase);
    if (must_stop)
        return false;
    if (logs_reopened)
        restarter_pass_logs_reopened(restarter);
    if (asked)
        restarter_ask(restarter, trigger, detail);
    return true;
}

static void *restart_thread(void *arg)
{
    struct restarter *restarter = arg;

    for (;;) {
        struct pollfd fds[2 + SUCCESSION_FDS] = {
            {.fd = restarter->wake_fd, .events = POLLIN},
            {.fd = restarter->predecessor_fd, .events = POLLIN},
        };
        succession_poll(&restarter->succession, &fds[2]);
        (void)poll(fds, sizeof(fds) / sizeof(fds[0]),
                   clock_poll_ms(clock_now_ns(), succession_due_ns(&restarter->succession)));
        if (fds[0].revents != 0 && !take_wishes(restarter))
            return NULL;
        if (fds[1].revents != 0)
            restarter_read_predecessor(restarter);
        succession_handle(&restarter->succession, &fds[2]);
        restarter_look_whether_needed(restarter);
    }
}

static void release(struct restarter *restarter)
{
    succession_release(&restarter->succession);
    restarter_leave_predecessor(restarter);
    (void)close(restarter->wake_fd);
    (void)pthread_cond_destroy(&restarter->changed);
    (void)pthread_mutex_destroy(&restarter->mu);
    restart_news_release(&restarter->news);
    free(restarter);
}

static int run(struct restarter *restarter)
{
    int err = restarter->predecessor_fd >= 0 ? restarter_say_ready(restarter) : 0;
    if (err != 0)
        return err;
    return thread_start(&restarter->thread, "restart", restart_thread, restarter);
}

int restarter_start(const struct restarter_config *config, struct restarter **ret_restarter)
{
    struct restarter *restarter = calloc(1, sizeof(*restarter));

    if (restarter == NULL)
        return -ENOMEM;
    restarter->config = *config;
    int err = restarter->wake_fd = wakeup_open();
    if (err < 0) {
        free(restarter);
        return err;
    }
    (void)pthread_mutex_init(&restarter->mu, NULL);
    restart_news_init(&restarter->news);
    clock_cond_init(&restarter->changed);
    restarter->generation = config->predecessor->generation;
    restarter->predecessor_fd = config->predecessor->fd;
    restarter->is_successor = restarter->predecessor_fd >= 0;
    restarter->owns_listeners = !restarter->is_successor || config->predecessor->is_master;
    config->predecessor->fd = -1;
    succession_init(&restarter->succession,
                    &(struct succession_config){.timing = config->timing,
                                                .binary = config->binary,
                                                .argv = config->argv,
                                                .keep_fds = &restarter->config.keep_fd,
                                                .keep_count = config->keep_fd >= 0,
                                                .open_files = config->open_files,
                                                .hooks = &restarter_hooks,
                                                .arg = restarter},
                    restarter->generation);
    if (restarter->is_successor) {
        coord_set_predecessor(config->coord, config->predecessor->pid);
        coord_stand_by(config->coord); /* until COMMIT */
    }
    coord_on_step(config->coord, restarter_on_step, restarter);
    err = run(restarter);
    if (err != 0) {
        release(restarter);
        return err;
    }
    *ret_restarter = restarter;
    return 0;
}

void restarter_stop(struct restarter *restarter)
{
    if (restarter == NULL)
        return;
    (void)pthread_mutex_lock(&restarter->mu);
    restarter->must_stop = true;
    (void)pthread_mutex_unlock(&restarter->mu);
    restarter_wake(restarter);
    (void)pthread_join(restarter->thread, NULL);
    release(restarter);
}

#include "master_p.h"

#include <signal.h>

#include "coord.h"
#include "log.h"
#include "notify.h"

/* ---- the end ---- */

void master_stop_succession(struct master *master)
{
    succession_tell(&master->succession, RESTART_ON_STOP);
    succession_tell(&master->succession, RESTART_ON_CLOSE);
}

void master_end(struct master *master, int status)
{
    master_stop_succession(master); /* no other worker from here on */
    if (master->current.pid == 0)   /* nobody accepts: a refusal says so, and silence would not */
        inherit_release(&master->held);
    master->retry_at_ns = CLOCK_NEVER;
    master->is_ending = true;
    master->status = status;
}

int master_exit_status(const struct master *master)
{
    if (master->stops > 2) /* whoever was left was killed */
        return COORD_EXIT_FORCED;
    bool is_clean = master->status == COORD_EXIT_CLEAN || master->status == COORD_EXIT_DEADLINE;
    return is_clean && master->left_status > master->status ? master->left_status : master->status;
}

/* ---- a stop ---- */

static void begin_stop(struct master *master)
{
    succession_tell(&master->succession, RESTART_ON_STOP);
    master->is_stopping = true;
    master_app_expect_end(master->app, true);
    master->retry_at_ns = CLOCK_NEVER;
}

/* Without a worker that could drain. */
static void stop_alone(struct master *master)
{
    master_hear_stopping(master);
    if (!master->is_ending)
        master_end(master, COORD_EXIT_CLEAN);
}

void master_send_stop(struct master *master, bool is_final)
{
    master->current.by_message = true;
    succession_send_stop(master->current.channel, master->current.pid, master->stops, is_final);
}

void master_stop_ahead(struct master *master)
{
    begin_stop(master);
    master->is_ahead = true;
    master->stops = 1;
    if (master->current.pid > 0)
        master_send_stop(master, false);
    else
        stop_alone(master);
}

/* The third is for those who do not listen any more. */
static void kill_all(const struct master *master)
{
    if (master->current.pid > 0)
        (void)kill(master->current.pid, SIGKILL);
    for (size_t i = 0; i < master->retiring_count; i++)
        (void)kill(master->retiring[i].pid, SIGKILL);
    if (master->succession.pid > 0)
        (void)kill(master->succession.pid, SIGKILL);
}

void master_stop(struct master *master, int signo)
{
    begin_stop(master);
    if (master->is_ahead) {
        master->is_ahead = false;
        return;
    }
    master->stops++;
    if (master->stops > 2) {
        kill_all(master);
    } else if (master->current.pid > 0) { /* it says when it is past the point of no return */
        if (master->current.by_message)
            master_send_stop(master, false);
        else
            (void)kill(master->current.pid, signo);
    } else {
        stop_alone(master);
    }
    /* Those drain already, and take a second one for an order to cut what they have: of the first
     * one they hear nothing, as it may be called off and come again. Two different ones, since two
     * of a kind may be one. */
    for (size_t i = 0; master->stops == 2 && i < master->retiring_count; i++) {
        (void)kill(master->retiring[i].pid, signo);
        (void)kill(master->retiring[i].pid, signo == SIGTERM ? SIGINT : SIGTERM);
    }
    /* Who was to take over, and had to stop with the one before it, has been told once. */
    if (master->stops == 2 && master->succession.pid > 0 &&
        (master->succession.restart.state == RESTART_LEAVING ||
         master->succession.restart.state == RESTART_STOPPED)) {
        succession_send_stop(master->succession.channel, master->succession.pid, 2, true);
        succession_hurry(&master->succession);
    }
    master_app_signal(master->app, signo); /* ends its grace, where that is what we wait for */
}

/* ---- what workers say of one ---- */

/* Somebody has told the worker itself (an order, a trigger), or it says that it does what we have
 * told it. There is no successor to a service that is about to end; until its listeners close, that
 * may be called off. */
void master_hear_drain(struct master *master, bool drains)
{
    bool was_on = master->worker_drains || master->is_stopping;

    if (!drains && (master->ends_with_app || master->is_ending))
        return; /* it does not know yet */
    master->worker_drains = drains;
    master_app_expect_end(master->app, drains);
    if (drains) {
        succession_tell(&master->succession, RESTART_ON_STOP);
        return;
    }
    if (!was_on)
        return;
    master->is_stopping = master->is_ahead = false;
    master->stops = 0;
    succession_tell(&master->succession, RESTART_ON_RESUME);
    log_line(LOG_LEVEL_INFO, "master-resumes", NULL,
             "worker %ld goes on, and so does this: restarts are possible again",
             (long)master->current.pid);
    master_say_ready(master); /* perhaps not for the first time: a restart may have been given up */
}

/* It was told in the instant in which another one took over: that was meant for the service. */
void master_hear_late_drain(struct master *master, const struct worker *worker)
{
    if (worker->was_told || master->is_stopping || master->is_ending)
        return;
    log_line(LOG_LEVEL_WARN, "restart-stopped", NULL,
             "worker %ld was told to stop in the instant of the hand-over: its successor is told, "
             "too",
             (long)worker->pid);
    master_stop_ahead(master);
}

/* The one who has just retired was closing its listeners, which are those of its successor, before
 * it heard that it has one: that can not be called off there, and must not be here. */
void master_hear_late_stopping(struct master *master, const struct worker *worker)
{
    log_line(LOG_LEVEL_WARN, "restart-stopped", NULL,
             "worker %ld was stopping in the instant of the hand-over: its successor is told, too",
             (long)worker->pid);
    master->is_ahead |= master->stops == 0;
    master->stops += master->stops == 0;
    begin_stop(master);
    master_stop_succession(master); /* those that it is about to have, too */
    if (master->current.pid > 0)
        master_send_stop(master, true);
    else
        stop_alone(master);
}

void master_hear_stopping(struct master *master)
{
    master_stop_succession(master);
    inherit_release(&master->held); /* the worker's close is to be the last */
    inherit_release(&master->new);  /* and that of one that has to stop with it */
    notify_send("STOPPING=1");
}

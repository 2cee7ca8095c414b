/* Stops of a master: which signals count, where they are passed on, and the end of the service. */

#include "master_p.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "coord.h"
#include "kill.h"
#include "log.h"
#include "notify.h"

/* ---- the end ---- */

void master_stop_succession(struct master *master)
{
    succession_on(&master->succession, RESTART_ON_STOP);
    succession_on(&master->succession, RESTART_ON_CLOSE);
}

void master_end(struct master *master, int status)
{
    master_stop_succession(master); /* start no more workers */
    if (master->current.pid == 0)   /* no process accepts: let the kernel refuse clients at once */
        inherit_release(&master->listeners);
    master->retry_at_ns = CLOCK_NEVER;
    master->is_ending = true;
    master->status = status;
}

int master_exit_status(const struct master *master)
{
    if (master->stops.count > 2) /* the remaining workers were killed */
        return EXIT_STATUS_FORCED;
    bool is_clean = master->status == EXIT_STATUS_CLEAN || master->status == EXIT_STATUS_DEADLINE;
    return is_clean && master->successor_status > master->status ? master->successor_status
                                                                 : master->status;
}

/* ---- a stop ---- */

static void begin_stop(struct master *master)
{
    succession_on(&master->succession, RESTART_ON_STOP);
    master->is_stopping = true;
    master_app_expect_end(master->app, true);
    master->retry_at_ns = CLOCK_NEVER;
}

/* Stop without a worker. */
static void stop_alone(struct master *master)
{
    master_on_worker_stopping(master);
    if (!master->is_ending)
        master_end(master, EXIT_STATUS_CLEAN);
}

static struct succession_stop stop_of(const struct master *master, bool is_final)
{
    return (struct succession_stop){.signals = master->stops.count,
                                    .is_final = is_final,
                                    .name = master->stop_name[0] != '\0' ? master->stop_name : NULL,
                                    .detail = master->stop_detail};
}

void master_send_stop(struct master *master, bool is_final)
{
    const struct succession_stop stop = stop_of(master, is_final);
    succession_send_stop(master->current.channel, master->current.pid, &stop);
}

void master_make_drain(struct worker *worker)
{
    if (kill_process(worker->pid, SIGTERM, "worker"))
        return;
    if (worker->channel >= 0)
        (void)close(worker->channel);
    worker->channel = -1;
}

void master_stop_after_worker(struct master *master)
{
    begin_stop(master);
    master->worker_stopped_first = true;
    master->stops = (struct stops){.count = 1, .last_ns = clock_now_ns()};
    if (master->current.pid > 0)
        master_send_stop(master, false);
    else
        stop_alone(master);
}

/* By message as well, in case this process may not signal the worker. */
static void end_at_once(const struct master *master, int channel, pid_t pid)
{
    const struct succession_stop stop = stop_of(master, false);

    if (pid <= 0)
        return;
    (void)succession_try_stop(channel,
                              &stop); /* a worker that hangs does not read it: hence SIGKILL */
    (void)kill_process(pid, SIGKILL, "worker");
}

/* After the third signal, for workers that do not respond. */
static void kill_all(const struct master *master)
{
    end_at_once(master, master->current.channel, master->current.pid);
    for (size_t i = 0; i < master->retiring_count; i++)
        end_at_once(master, master->retiring[i].channel, master->retiring[i].pid);
    end_at_once(master, master->succession.channel, master->succession.pid);
}

/* If a worker was told to stop first, the next signal is that same stop, however late it comes. */
bool master_counts_stop(struct master *master, uint64_t now_ns)
{
    if (master->worker_stopped_first) {
        master->worker_stopped_first = false;
        master->stops.last_ns = now_ns;
        return false;
    }
    return stops_take(&master->stops, now_ns, master->force_after_ns);
}

void master_stop(struct master *master, int signo, const char *name, const char *detail)
{
    begin_stop(master);
    (void)snprintf(master->stop_name, sizeof(master->stop_name), "%s", name);
    (void)snprintf(master->stop_detail, sizeof(master->stop_detail), "%s", detail);
    if (master->stops.count > 2) {
        kill_all(master);
    } else if (master->current.pid > 0) { /* it reports when it closes its listeners */
        master_send_stop(master, false);
    } else {
        stop_alone(master);
    }
    /* Retired workers already drain. The second signal cuts their drain short. They are not told of
     * the first, which may be called off and come again. */
    for (size_t i = 0; master->stops.count == 2 && i < master->retiring_count; i++) {
        const struct succession_stop stop = stop_of(master, false);
        succession_send_stop(master->retiring[i].channel, master->retiring[i].pid, &stop);
    }
    /* A successor that has to stop with the current worker was told once; tell it again. */
    if (master->stops.count == 2 && master->succession.pid > 0 &&
        (master->succession.restart.state == RESTART_LEAVING ||
         master->succession.restart.state == RESTART_STOPPED)) {
        const struct succession_stop stop = stop_of(master, true);
        succession_send_stop(master->succession.channel, master->succession.pid, &stop);
        succession_hurry(&master->succession);
    }
    master_app_signal(master->app, signo); /* ends its grace, if it is already stopping */
}

/* ---- stops that workers report ---- */

/* The worker got its own order to drain (by the admin API or a trigger), or it confirms ours. No
 * restart begins while the service drains; until the listeners close, the drain may be called
 * off. */
void master_on_worker_drain(struct master *master, bool drains)
{
    bool was_on = master->worker_drains || master->is_stopping;

    if (!drains && (master->ends_with_app || master->is_ending))
        return; /* the worker does not know yet that the service ends */
    master->worker_drains = drains;
    master_app_expect_end(master->app, drains);
    if (drains) {
        succession_on(&master->succession, RESTART_ON_STOP);
        return;
    }
    if (!was_on)
        return;
    master->is_stopping = master->worker_stopped_first = false;
    memset(&master->stops, 0, sizeof(master->stops));
    master->stop_name[0] = '\0';
    succession_on(&master->succession, RESTART_ON_RESUME);
    log_line(LOG_LEVEL_INFO, "master-resumes", NULL,
             "worker %ld goes on, and so does the master: restarts are possible again",
             (long)master->current.pid);
    master_say_ready(master); /* perhaps again: a restart may have been cancelled */
}

/* The stop reached the old worker during the hand-over. It was meant for the service. */
void master_on_retired_drain(struct master *master, const struct worker *worker)
{
    if (worker->told_to_stop || master->is_stopping || master->is_ending)
        return;
    log_line(LOG_LEVEL_WARN, "restart-stopped", NULL,
             "a stop reached worker %ld during the hand-over: its successor stops as well",
             (long)worker->pid);
    master_stop_after_worker(master);
}

/* The worker that has just retired was already closing its listeners, which its successor shares.
 * That cannot be called off there, so it must not be called off here. */
void master_on_retired_stopping(struct master *master, const struct worker *worker)
{
    log_line(
        LOG_LEVEL_WARN, "restart-stopped", NULL,
        "worker %ld was closing its listeners during the hand-over: its successor stops as well",
        (long)worker->pid);
    master->worker_stopped_first |= master->stops.count == 0;
    if (master->stops.count == 0)
        master->stops = (struct stops){.count = 1, .last_ns = clock_now_ns()};
    begin_stop(master);
    master_stop_succession(master); /* a restart under way as well */
    if (master->current.pid > 0)
        master_send_stop(master, true);
    else
        stop_alone(master);
}

void master_on_worker_stopping(struct master *master)
{
    master_stop_succession(master);
    inherit_release(&master->listeners);     /* so that the worker's close is the last */
    inherit_release(&master->new_listeners); /* also for a successor that stops with it */
    notify_send("STOPPING=1");
}

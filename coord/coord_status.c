/* What other threads may read of the coordinator: its phase, its status, and each step. */

#include "coord_p.h"

#include <errno.h>
#include <string.h>

bool coord_is_revocable_locked(const struct coord *coord)
{
    return !coord->handed_over && !coord->is_final && drain_can_undo(&coord->drain);
}

void coord_get_status(struct coord *coord, struct coord_status *ret_status)
{
    coord_lock(coord);
    const struct drain *drain = &coord->drain;
    *ret_status = (struct coord_status){
        .phase = drain->phase,
        .forced = drain->forced,
        .is_final = coord->is_final,
        .handed_over = coord->handed_over,
        .revocable = coord_is_revocable_locked(coord),
        .stands_by = coord->stands_by,
        .lame_duck_until_ns =
            drain->phase == PHASE_LAME_DUCK ? drain_lame_duck_until_ns(drain) : CLOCK_NEVER,
        .deadline_at_ns = drain->deadline_at_ns,
        .drain = drain->config,
        .trigger_count = coord->report.trigger_count,
        .triggers_left_out = coord->report.triggers_left_out,
        .begin = coord->report.begin,
        .requested_ns = drain->requested ? drain->requested_ns : 0,
        .exit_status = coord->report.status,
    };
    if (coord->report.status !=
        COORD_STATUS_UNDECIDED) { /* before that, the coordinator's thread writes them */
        ret_status->unfinished = coord->report.unfinished.count + coord->report.unfinished.left_out;
        ret_status->end = coord->report.end;
        ret_status->jobs_left = coord->report.pool_active_at_end;
    }
    memcpy(ret_status->final_by, coord->final_by, sizeof(coord->final_by));
    memcpy(ret_status->entered_ns, drain->entered_ns, sizeof(drain->entered_ns));
    memcpy(ret_status->triggers, coord->report.triggers, sizeof(coord->report.triggers));
    coord_unlock(coord);
}

const struct coord_requests *coord_get_unfinished(struct coord *coord)
{
    return &coord->report.unfinished;
}

void coord_on_step(struct coord *coord, void (*stepped)(void *arg, enum coord_phase phase),
                   void *arg)
{
    REQUIRE(coord->step_count < COORD_STEPS_MAX);
    coord->steps[coord->step_count].stepped = stepped;
    coord->steps[coord->step_count++].arg = arg;
}

enum coord_phase coord_get_phase(struct coord *coord)
{
    coord_lock(coord);
    enum coord_phase phase = coord->drain.phase;
    coord_unlock(coord);
    return phase;
}

int coord_wait_phase(struct coord *coord, enum coord_phase phase, uint64_t until_ns)
{
    struct timespec until = clock_timespec(until_ns);
    int err = 0;

    coord_lock(coord);
    while (coord->drain.phase < phase && err == 0)
        err = pthread_cond_timedwait(&coord->stepped, &coord->mu, &until);
    bool reached = coord->drain.phase >= phase;
    coord_unlock(coord);
    return reached ? 0 : -ETIMEDOUT;
}

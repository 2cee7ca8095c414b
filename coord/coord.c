/* The coordinator: creating it, and its loop. See poke note, coord_p.h. */

#include "coord_p.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool has_all(const struct coord_server_ops *ops)
{
    return ops->lame_duck != NULL && ops->close_listeners != NULL && ops->finish != NULL &&
           ops->release_idle != NULL && ops->give_up != NULL && ops->list_requests != NULL &&
           ops->cut != NULL && ops->census != NULL;
}

int coord_create(const struct coord_config *config, struct coord **ret_coord)
{
    REQUIRE(has_all(config->ops));
    struct coord *coord = calloc(1, sizeof(*coord));
    if (coord == NULL)
        return -ENOMEM;
    coord->config = *config;
    for (size_t i = 0; i < FILE_DESCRIPTORS; i++)
        coord->spare_fds[i] =
            config->report_path != NULL ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
    (void)pthread_mutex_init(&coord->mu, NULL);
    clock_cond_init(&coord->wake);
    clock_cond_init(&coord->stepped);
    drain_init(&coord->drain, &config->drain, clock_now_ns());
    coord->report.status = COORD_STATUS_UNDECIDED;
    *ret_coord = coord;
    return 0;
}

void coord_release_spare_fds(struct coord *coord)
{
    for (size_t i = 0; i < FILE_DESCRIPTORS; i++) {
        if (coord->spare_fds[i] >= 0)
            (void)close(coord->spare_fds[i]);
        coord->spare_fds[i] = -1;
    }
}

void coord_destroy(struct coord *coord)
{
    if (coord == NULL)
        return;
    coord_release_spare_fds(coord);
    coord_requests_release(&coord->report.unfinished);
    (void)pthread_cond_destroy(&coord->stepped);
    (void)pthread_cond_destroy(&coord->wake);
    (void)pthread_mutex_destroy(&coord->mu);
    free(coord);
}

void coord_attach_pool(struct coord *coord, struct pool *pool)
{
    coord->pool = pool;
}

void coord_attach_archive(struct coord *coord,
                          void (*archive)(void *arg, bool forced, bool loops_are_quiet,
                                          uint64_t until_ns, struct coord_archived *ret_archived),
                          void *arg)
{
    coord->archive = archive;
    coord->archive_arg = arg;
}

/* ---- the loop ---- */

static void look_around(struct coord *coord, enum coord_phase phase, struct drain_view *ret_view)
{
    memset(ret_view, 0, sizeof(*ret_view));
    memset(&coord->census, 0, sizeof(coord->census));
    coord->config.ops->census(coord->config.server, &coord->census);
    coord->pool_active = coord->pool != NULL ? pool_active(coord->pool) : 0;
    ret_view->listeners_closed = coord->census.listeners == 0;
    ret_view->quiet =
        coord->census.listeners == 0 && coord->census.active == 0 && coord->census.connections == 0;
    /* A job that has ended in the pool may still have its slot in the record until its loop has
     * handled it. If the process ended before that, the record would list a request that was
     * answered. */
    ret_view->jobs =
        coord->pool_active > 0 || coord->census.abandoned > 0 || coord->census.tasks > 0;
    ret_view->archived = phase == PHASE_ABORTING; /* coord_enter_phase() has returned */
}

static void sleep_until_poked(struct coord *coord)
{
    coord_lock(coord);
    uint64_t until_ns = coord_next_look_ns(coord);
    int err = 0;
    while (!coord->poked && err == 0) {
        if (until_ns == CLOCK_NEVER) {
            err = pthread_cond_wait(&coord->wake, &coord->mu);
        } else {
            struct timespec until = clock_timespec(until_ns);
            err = pthread_cond_timedwait(&coord->wake, &coord->mu, &until);
        }
    }
    REQUIRE(err == 0 || err == ETIMEDOUT);
    coord_unlock(coord);
}

static void tell_steps(const struct coord *coord, enum coord_phase phase)
{
    for (size_t i = 0; i < coord->step_count; i++)
        coord->steps[i].stepped(coord->steps[i].arg, phase);
}

int coord_run(struct coord *coord)
{
    for (;;) {
        struct drain_view view;

        coord_lock(coord);
        coord->poked = false; /* before the look, see poke note */
        bool noted = coord->noted;
        coord->noted = false;
        enum coord_phase phase = coord->drain.phase;
        coord_unlock(coord);
        look_around(coord, phase, &view);

        /* One critical section to decide and to write the phase. So coord_undrain() comes either
         * before the step, which is then not taken, or after it, and returns false. */
        coord_lock(coord);
        uint64_t now_ns = clock_now_ns();
        struct drain_advice advice = drain_look(&coord->drain, now_ns, &view);
        if (advice.next != phase) {
            drain_enter(&coord->drain, advice.next, now_ns);
            (void)pthread_cond_broadcast(&coord->stepped);
        }
        coord_unlock(coord);

        if (advice.release_idle)
            coord->config.ops->release_idle(coord->config.server, coord_spread_ns(coord));
        if (advice.ask_to_leave)
            coord_ask_to_leave(coord);
        if (advice.give_up != 0)
            coord->config.ops->give_up(coord->config.server, advice.give_up);
        if (advice.next != phase) {
            coord_enter_phase(coord, advice.next);
            tell_steps(coord, advice.next);
            if (advice.next == PHASE_DONE)
                return coord->report.status;
            continue; /* look again at once: the new phase may be over already */
        }
        if (noted) {
            coord_say_final(coord);
            tell_steps(coord, phase);
        }
        coord_show_progress(coord, now_ns);
        coord_tell_manager(coord, now_ns);
        sleep_until_poked(coord);
    }
}

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "lc_server_p.h"

/* The drain of a server, from outside: to begin it, to wait for it, to call it off, to cut it
 * short, and what came of it. */

/* ---- orders ---- */

static int begin_drain(lc_server *server, int64_t ms, const char *by, const char *why)
{
    struct coord *coord = server != NULL ? lc_borrow_coord(server) : NULL;

    if (coord == NULL)
        return server != NULL ? LC_E_STATE : LC_E_ARG;
    coord_request_drain_until(coord, by, why != NULL ? why : "", lc_until_ns(ms));
    lc_return_coord(server);
    return LC_OK;
}

int lc_drain(lc_server *server, int64_t ms, const char *why)
{
    return begin_drain(server, ms, "lc_drain", why);
}

int lc_undrain(lc_server *server)
{
    struct coord *coord = server != NULL ? lc_borrow_coord(server) : NULL;

    if (coord == NULL)
        return server != NULL ? LC_E_STATE : LC_E_ARG;
    int result = coord_undrain(coord) ? LC_OK : LC_E_STATE;
    lc_return_coord(server);
    return result;
}

int lc_cut_short(lc_server *server)
{
    struct coord *coord = server != NULL ? lc_borrow_coord(server) : NULL;

    if (coord == NULL)
        return server != NULL ? LC_E_STATE : LC_E_ARG;
    coord_force(coord, "lc_cut_short");
    lc_return_coord(server);
    return LC_OK;
}

/* ---- what came of it ---- */

static int verdict(int status)
{
    return status == EXIT_STATUS_DEADLINE ? LC_E_DEADLINE
           : status == EXIT_STATUS_FORCED ? LC_E_FORCED
                                          : LC_OK;
}

static uint64_t tasks_among(const struct coord_requests *list)
{
    uint64_t tasks = 0;

    for (size_t i = 0; i < list->count; i++)
        tasks += strcmp(list->items[i].state, "task") == 0;
    return tasks;
}

/* Only fields that the caller's struct has. */
static void fill(lc_server *server, int status, struct lc_result *result)
{
    struct coord_status end;

    coord_get_status(server->process.coord, &end);
    uint64_t tasks = tasks_among(coord_get_unfinished(server->process.coord));
    struct lc_result full = {
        .size = result->size,
        .status = status,
        .stuck = (unsigned)end.jobs_left,
        .answered = end.end.answered - end.begin.answered,
        .unfinished = end.unfinished - tasks + end.end.given_up,
        .tasks = tasks,
        .took_ms = end.requested_ns != 0
                       ? (int64_t)((end.entered_ns[PHASE_DONE] - end.requested_ns) / NS_PER_MS)
                       : 0,
    };
    memcpy(result, &full, result->size < sizeof(full) ? result->size : sizeof(full));
}

/* Returns 0: the drain is over; LC_E_TIMEOUT; LC_E_STATE: the start has failed meanwhile. */
static int wait_until_over(lc_server *server, uint64_t until_ns)
{
    struct timespec until = clock_timespec(until_ns);
    int err = 0;

    (void)pthread_mutex_lock(&server->mu);
    while (server->stage < LC_OVER && err == 0)
        err = until_ns == CLOCK_NEVER
                  ? pthread_cond_wait(&server->changed, &server->mu)
                  : pthread_cond_timedwait(&server->changed, &server->mu, &until);
    int result = server->stage == LC_OVER  ? LC_OK
                 : server->stage < LC_OVER ? LC_E_TIMEOUT
                                           : LC_E_STATE;
    (void)pthread_mutex_unlock(&server->mu);
    return result;
}

int lc_wait(lc_server *server, int64_t ms, struct lc_result *result)
{
    if (server == NULL)
        return LC_E_ARG;
    if (LC_IS_OF(server))
        return LC_E_THREAD;
    if (!lc_has_coord(server))
        return LC_E_STATE;
    int waited = wait_until_over(server, lc_until_ns(ms));
    if (waited != LC_OK)
        return waited;
    int status = server->status; /* it does not change any more */
    if (result != NULL && result->size > 0)
        fill(server, status, result);
    return verdict(status);
}

/* Called off note. Who undoes a drain has the coordinator tell its steps that the server runs
 * again. That may come late, when another drain was begun already; so it only has the waiting
 * thread look whether one is under way, which the coordinator changes under its lock. */
static bool is_called_off(lc_server *server, unsigned *seen)
{
    struct coord_status now;

    (void)pthread_mutex_lock(&server->mu);
    while (server->stage < LC_OVER && server->called_off == *seen)
        (void)pthread_cond_wait(&server->changed, &server->mu);
    bool is_over = server->stage >= LC_OVER;
    *seen = server->called_off;
    (void)pthread_mutex_unlock(&server->mu);
    struct coord *coord = is_over ? NULL : lc_borrow_coord(server);
    if (coord == NULL)
        return false;
    coord_get_status(coord, &now);
    lc_return_coord(server);
    return now.requested_ns == 0;
}

int lc_shutdown(lc_server *server, int64_t ms, struct lc_result *result)
{
    if (server == NULL)
        return LC_E_ARG;
    if (LC_IS_OF(server))
        return LC_E_THREAD;
    (void)pthread_mutex_lock(&server->mu);
    unsigned seen = server->called_off;
    (void)pthread_mutex_unlock(&server->mu);
    int began = begin_drain(server, ms, "lc_shutdown", "");
    if (began != LC_OK)
        return began;
    for (;;) {
        if (is_called_off(server, &seen))
            return LC_E_STATE;
        int waited = lc_wait(server, 0, result);
        if (waited != LC_E_TIMEOUT)
            return waited;
    }
}

int lc_unfinished(lc_server *server, size_t i, struct lc_cut *cut)
{
    if (server == NULL || cut == NULL)
        return LC_E_ARG;
    if (!lc_has_coord(server) || wait_until_over(server, 0) != LC_OK)
        return LC_E_STATE;
    const struct coord_requests *list = coord_get_unfinished(server->process.coord);
    if (i >= list->count)
        return LC_E_ARG;
    const struct coord_request *request = &list->items[i];
    struct lc_cut full = {.size = cut->size,
                          .method = request->method,
                          .path = request->path,
                          .peer = request->peer,
                          .state = request->state,
                          .age_ms = (int64_t)(request->age_ns / NS_PER_MS)};
    memcpy(cut, &full, cut->size < sizeof(full) ? cut->size : sizeof(full));
    return LC_OK;
}

/* ---- the phase ---- */

int lc_phase(lc_server *server)
{
    struct coord *coord = server != NULL ? lc_borrow_coord(server) : NULL;
    uint64_t count;

    if (coord == NULL)
        return server != NULL ? LC_E_STATE : LC_E_ARG;
    (void)pthread_mutex_lock(&server->mu);
    bool over = server->stage == LC_OVER;
    if (server->phase_fd >= 0)
        (void)!read(server->phase_fd, &count, sizeof(count)); /* before the look */
    (void)pthread_mutex_unlock(&server->mu);
    enum coord_phase phase = coord_get_phase(coord);
    lc_return_coord(server);
    if (over)
        return LC_DONE;
    return phase == PHASE_DONE ? LC_DRAINING : (int)phase; /* almost */
}

int lc_phase_fd(lc_server *server)
{
    if (server == NULL)
        return LC_E_ARG;
    (void)pthread_mutex_lock(&server->mu);
    if (server->phase_fd < 0)
        server->phase_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int fd = server->phase_fd >= 0 ? server->phase_fd : -errno;
    (void)pthread_mutex_unlock(&server->mu);
    return fd;
}

int lc_on_phase(lc_server *server, void (*stepped)(int phase, void *user), void *user)
{
    if (server == NULL)
        return LC_E_ARG;
    if (LC_IS_LATE(server))
        return LC_E_STATE;
    server->stepped = stepped;
    server->stepped_user = user;
    return LC_OK;
}

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "lc_server_p.h"
#include "log.h"
#include "thread.h"

/* Tasks: work that a drain waits for, and that is no request. The coordinator reads their number;
 * who ends one pokes it. Poke note (coord_p.h): the count is written under tasks.mu before the
 * poke, and read under it in the look.
 *
 * Work that lc_go() gets before the start waits in tasks.waiting for the workers; it is submitted
 * when the server runs, and dropped if it never does. */

void lc_tasks_init(lc_server *server)
{
    (void)pthread_mutex_init(&server->tasks.mu, NULL);
    clock_cond_init(&server->tasks.changed);
}

void lc_tasks_release(lc_server *server)
{
    (void)pthread_cond_destroy(&server->tasks.changed);
    (void)pthread_mutex_destroy(&server->tasks.mu);
}

static void begin(lc_server *server, lc_task *task, const char *name)
{
    task->server = server;
    task->begun_ns = clock_now_ns();
    task->previous = NULL;
    (void)snprintf(task->name, sizeof(task->name), "%s", name != NULL ? name : "");
}

/* LC_E_STATE: the end has come; LC_E_DRAINING, if `is_new_work`. */
static int link_task(lc_server *server, lc_task *task, bool is_new_work)
{
    int result = LC_OK;

    (void)pthread_mutex_lock(&server->tasks.mu);
    if (server->tasks.aborted)
        result = LC_E_STATE;
    else if (is_new_work && server->tasks.closing)
        result = LC_E_DRAINING;
    if (result == LC_OK) {
        task->next = server->tasks.first;
        if (task->next != NULL)
            task->next->previous = task;
        server->tasks.first = task;
        server->tasks.count++;
    }
    (void)pthread_mutex_unlock(&server->tasks.mu);
    return result;
}

static void unlink_task(lc_task *task)
{
    lc_server *server = task->server;

    (void)pthread_mutex_lock(&server->tasks.mu);
    if (task->previous != NULL)
        task->previous->next = task->next;
    else
        server->tasks.first = task->next;
    if (task->next != NULL)
        task->next->previous = task->previous;
    if (--server->tasks.count == 0) /* tasks that wait do not wait for each other */
        (void)pthread_cond_broadcast(&server->tasks.changed);
    struct coord *coord = lc_borrow_coord(server);
    if (coord !=
        NULL) { /* under the lock: once lc_free() sees the count, nothing of this is used */
        coord_poke(coord);
        lc_return_coord(server);
    }
    (void)pthread_mutex_unlock(&server->tasks.mu);
}

/* ---- of the program ---- */

lc_task *lc_task_begin(lc_server *server, const char *name)
{
    if (server == NULL)
        return NULL;
    lc_task *task = calloc(1, sizeof(*task));
    if (task == NULL)
        return NULL;
    begin(server, task, name);
    if (link_task(server, task, false) == LC_OK)
        return task;
    free(task);
    return NULL;
}

void lc_task_end(lc_task *task)
{
    if (task == NULL)
        return;
    if (task->is_work) {
        log_line(LOG_LEVEL_ERROR, "not-begun", NULL,
                 "lc_task_end(): the task %s is of lc_go(), and ends when its function returns",
                 task->name);
        return;
    }
    unlink_task(task);
    free(task);
}

int lc_task_cancelled(lc_task *task)
{
    if (task == NULL)
        return LC_E_ARG;
    (void)pthread_mutex_lock(&task->server->tasks.mu);
    bool aborted = task->server->tasks.aborted;
    (void)pthread_mutex_unlock(&task->server->tasks.mu);
    return aborted ? LC_E_ABORTED : LC_OK;
}

int lc_task_wait(lc_task *task, int64_t ms)
{
    uint64_t until_ns = lc_until_ns(ms);
    struct timespec until = clock_timespec(until_ns);
    int err = 0;

    if (task == NULL)
        return LC_E_ARG;
    lc_server *server = task->server;
    (void)pthread_mutex_lock(&server->tasks.mu);
    while (!server->tasks.draining && !server->tasks.aborted && err == 0)
        err = until_ns == CLOCK_NEVER
                  ? pthread_cond_wait(&server->tasks.changed, &server->tasks.mu)
                  : pthread_cond_timedwait(&server->tasks.changed, &server->tasks.mu, &until);
    int result = server->tasks.aborted    ? LC_E_ABORTED
                 : server->tasks.draining ? LC_E_DRAINING
                                          : LC_OK;
    (void)pthread_mutex_unlock(&server->tasks.mu);
    return result;
}

/* ---- on a worker ---- */

struct lc_work {
    struct pool_job job;
    lc_task task;
    struct lc_work *next; /* tasks.waiting */
    void (*work)(lc_task *task, void *arg);
    void *arg;
};

static NOT_LOOKED_INTO void run(struct pool_job *job)
{
    struct lc_work *work = (struct lc_work *)(void *)job;
    struct lc_called called;

    lc_called_begin(&called, work->task.server, "the task", work->task.name);
    LC_NOTHING_PASSES();
    work->work(&work->task, work->arg);
    lc_called_end(&called);
}

static void done(struct pool_job *job)
{
    struct lc_work *work = (struct lc_work *)(void *)job;
    unlink_task(&work->task);
    free(work);
}

/* Takes it over. */
static int submit(lc_server *server, struct lc_work *work)
{
    int err = pool_submit(server->process.pool, &work->job);

    if (err == 0)
        return LC_OK;
    unlink_task(&work->task);
    free(work);
    return err == -EAGAIN ? LC_E_FULL : LC_E_DRAINING;
}

/* False: the workers are there. */
static bool wait_for_workers(lc_server *server, struct lc_work *work)
{
    (void)pthread_mutex_lock(&server->tasks.mu);
    bool waits = !server->tasks.has_workers;
    struct lc_work **at = &server->tasks.waiting;
    while (waits && *at != NULL) /* in the order of the calls */
        at = &(*at)->next;
    if (waits)
        *at = work;
    (void)pthread_mutex_unlock(&server->tasks.mu);
    return waits;
}

int lc_go(lc_server *server, const char *name, void (*work)(lc_task *task, void *arg), void *arg)
{
    if (server == NULL || work == NULL)
        return LC_E_ARG;
    struct lc_work *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return -ENOMEM;
    made->job.run = run;
    made->job.done = done;
    made->work = work;
    made->arg = arg;
    made->task.is_work = true;
    begin(server, &made->task, name);
    int result = link_task(server, &made->task, true);
    if (result != LC_OK)
        free(made);
    else if (!wait_for_workers(server, made))
        result = submit(server, made);
    return result;
}

void lc_tasks_start(lc_server *server)
{
    (void)pthread_mutex_lock(&server->tasks.mu);
    server->tasks.has_workers = true;
    struct lc_work *first = server->tasks.waiting;
    server->tasks.waiting = NULL;
    (void)pthread_mutex_unlock(&server->tasks.mu);
    for (struct lc_work *work = first, *next; work != NULL; work = next) {
        char name[sizeof(work->task.name)];
        next = work->next; /* submit() may free it */
        (void)snprintf(name, sizeof(name), "%s", work->task.name);
        int result = submit(server, work);
        if (result != LC_OK)
            log_line(LOG_LEVEL_ERROR, "task-not-started", NULL, "the task %s was not started: %s",
                     name, lc_strerror(result));
    }
}

void lc_tasks_drop(lc_server *server)
{
    (void)pthread_mutex_lock(&server->tasks.mu);
    struct lc_work *first = server->tasks.waiting;
    server->tasks.waiting = NULL;
    (void)pthread_mutex_unlock(&server->tasks.mu);
    for (struct lc_work *work = first, *next; work != NULL; work = next) {
        next = work->next;
        unlink_task(&work->task);
        free(work);
    }
}

/* ---- of the coordinator ---- */

void lc_tasks_step(lc_server *server, enum coord_phase phase)
{
    (void)pthread_mutex_lock(&server->tasks.mu);
    server->tasks.draining = phase != PHASE_RUNNING;
    server->tasks.closing = phase >= PHASE_CLOSING;
    server->tasks.aborted |= phase >= PHASE_ABORTING;
    (void)pthread_cond_broadcast(&server->tasks.changed);
    (void)pthread_mutex_unlock(&server->tasks.mu);
}

bool lc_tasks_wait(lc_server *server, uint64_t until_ns)
{
    struct timespec until = clock_timespec(until_ns);
    int err = 0;

    (void)pthread_mutex_lock(&server->tasks.mu);
    while (server->tasks.count > 0 && err == 0)
        err = pthread_cond_timedwait(&server->tasks.changed, &server->tasks.mu, &until);
    bool gone = server->tasks.count == 0;
    (void)pthread_mutex_unlock(&server->tasks.mu);
    return gone;
}

uint64_t lc_tasks_count(lc_server *server)
{
    (void)pthread_mutex_lock(&server->tasks.mu);
    uint64_t count = server->tasks.count;
    (void)pthread_mutex_unlock(&server->tasks.mu);
    return count;
}

static bool describe(const lc_task *task, uint64_t now_ns, struct coord_request *ret_request)
{
    *ret_request = (struct coord_request){.method = strdup("TASK"),
                                          .path = strdup(task->name),
                                          .authority = strdup(""),
                                          .peer = strdup("this process"),
                                          .state = "task",
                                          .age_ns = now_ns - task->begun_ns};
    if (ret_request->method != NULL && ret_request->path != NULL &&
        ret_request->authority != NULL && ret_request->peer != NULL)
        return true;
    free(ret_request->method);
    free(ret_request->path);
    free(ret_request->authority);
    free(ret_request->peer);
    return false;
}

static int by_age(const void *one, const void *other)
{
    const struct coord_request *a = one, *b = other;
    return a->age_ns < b->age_ns ? 1 : a->age_ns > b->age_ns ? -1 : 0;
}

/* In one step with the order to end: so each task has either ended before it, or is listed. */
void lc_tasks_list(lc_server *server, bool abort, struct coord_requests *list)
{
    uint64_t now_ns = clock_now_ns();

    (void)pthread_mutex_lock(&server->tasks.mu);
    uint64_t count = server->tasks.count;
    struct coord_request *grown =
        count > 0 ? realloc(list->items, (list->count + count) * sizeof(*grown)) : NULL;
    if (grown != NULL)
        list->items = grown;
    for (lc_task *task = server->tasks.first; task != NULL; task = task->next)
        if (grown != NULL && describe(task, now_ns, &grown[list->count]))
            list->count++;
        else
            list->left_out++;
    if (abort)
        server->tasks.aborted = true;
    if (abort)
        (void)pthread_cond_broadcast(&server->tasks.changed);
    (void)pthread_mutex_unlock(&server->tasks.mu);
    if (list->count > 1)
        qsort(list->items, list->count, sizeof(*list->items), by_age);
}

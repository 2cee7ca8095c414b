#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "notify.h"
#include "settings.h"
#include "thread.h"
#include "lc_server_p.h"

/* The life of a server, on a thread of its own: see lc_server_p.h.
 *
 * libh2o reads configurations and makes contexts with state that is the process's. So servers start
 * and end one after the other; they serve at the same time. */
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

/* How long the end waits for threads that have nothing left to do, and after a cut for handlers to
 * notice it. */
#define END_NS (10 * NS_PER_S)
#define END_AFTER_CUT_NS (1 * NS_PER_S)

static void enter_stage(lc_server *server, enum lc_stage stage)
{
    (void)pthread_mutex_lock(&server->mu);
    server->stage = stage;
    (void)pthread_cond_broadcast(&server->changed);
    (void)pthread_mutex_unlock(&server->mu);
}

/* ---- telling the program ---- */

static NOT_LOOKED_INTO void call_stepped(lc_server *server, int phase)
{
    struct lc_called called;

    lc_called_begin(&called, server, "the function of", "lc_on_phase()");
    LC_NOTHING_PASSES();
    server->stepped(phase, server->stepped_user);
    lc_called_end(&called);
}

static void tell_phase(lc_server *server, enum coord_phase phase)
{
    const uint64_t one = 1;

    if (server->last_step == (int)phase)
        return; /* another trigger has come: no step */
    server->last_step = (int)phase;
    (void)pthread_mutex_lock(&server->mu);
    if (server->phase_fd >= 0)
        (void)!write(server->phase_fd, &one,
                     sizeof(one)); /* it is readable already, or becomes so */
    (void)pthread_mutex_unlock(&server->mu);
    if (server->stepped != NULL)
        call_stepped(server, (int)phase);
}

/* The program hears of DONE after the server has left its files and its registration. */
static void on_step(void *arg, enum coord_phase phase)
{
    lc_server *server = arg;

    lc_tasks_step(server, phase);
    if (phase == PHASE_RUNNING) { /* see lc_shutdown() */
        (void)pthread_mutex_lock(&server->mu);
        server->called_off++;
        (void)pthread_cond_broadcast(&server->changed);
        (void)pthread_mutex_unlock(&server->mu);
    }
    if (phase != PHASE_DONE)
        tell_phase(server, phase);
}

void lc_watch_steps(lc_server *server)
{
    coord_on_step(server->process.coord, on_step, server);
    (void)pthread_mutex_lock(&server->mu);
    server->coord = server->process.coord;
    server->port = server_port(server->process.server);
    (void)pthread_mutex_unlock(&server->mu);
}

/* ---- the start ---- */

static int check_addresses(const struct options *options, size_t given)
{
    for (size_t i = 0; i < options->listen_count; i++)
        if (strncmp(options->listen[i], "tls:", 4) == 0 && options->cert == NULL) {
            log_line(LOG_LEVEL_ERROR, "start-failed", NULL,
                     "cannot listen on %s: lc_tls() names its certificate and key",
                     options->listen[i]);
            return EXIT_STATUS_CONFIG;
        }
    if (options->listen_count > 0 || given > 0 || options->conf != NULL)
        return 0;
    return process_fail_with(EXIT_STATUS_CONFIG,
                             "no address to listen on: lc_listen(server, \"127.0.0.1:8080\")");
}

/* What a file may ask for, and a library must not do. */
static int check_options(const struct options *options)
{
    if (options->user != NULL)
        return process_fail_with(EXIT_STATUS_CONFIG,
                                 "user: a server in a program does not change the program's user; "
                                 "take it out of the file, or run lastcall");
    if (options->error_log != NULL)
        return process_fail_with(EXIT_STATUS_CONFIG,
                                 "error-log: lc_on_log() takes the lines of a server in a program; "
                                 "take it out of the file");
    return 0;
}

/* The first failure has the text of these, too. */
int lc_attach_routes(lc_server *server)
{
    const char *proxies = server->options.trusted_proxies;

    if ((proxies != NULL && lc_routes_trust(server->routes, proxies) != 0) ||
        lc_routes_attach(server->routes, server->process.server) != 0)
        return process_fail_with(EXIT_STATUS_CONFIG, server->error);
    return 0;
}

static int bring_up(lc_server *server)
{
    struct process *process = &server->process;
    const struct admin_config admin = settings_admin(&server->options);
    int status = check_addresses(&server->options, server->given.count);

    if (status == 0)
        status = process_read_configuration(process, &server->options);
    if (status == 0)
        status = check_options(&server->options);
    if (status == 0)
        status = lc_attach_routes(server);
    if (status == 0)
        status = process_read_secrets(process);
    if (status == 0)
        status = admin_open(&admin, process->server, &process->admin);
    if (status == 0)
        status = process_check_paths(&server->options);
    if (status == 0)
        status = process_create_coord(process, &lc_ops, server);
    if (status != 0)
        return status;
    lc_watch_steps(server);
    return process_start(process);
}

/* ---- the end ---- */

static void release_rest(struct process *process)
{
    coord_destroy(process->coord); /* a worker may have been telling it that the pool is idle */
    journal_destroy(process->journal);
    process->coord = NULL;
    process->journal = NULL;
}

/* lc_hold() may still be called, after LC_E_STUCK; and a function of the program that is called as
 * the server is destroyed may call exit(3), see lc_exit.c. */
static void destroy_server(lc_server *server)
{
    struct server *ends = server->process.server;

    (void)pthread_mutex_lock(&server->mu);
    server->process.server = NULL;
    (void)pthread_mutex_unlock(&server->mu);
    server_destroy(ends);
}

/* One step of it.     Errors: 0; -EBUSY: a thread is stuck. It may be called again. */
static int end_step(lc_server *server, enum lc_end step, uint64_t until_ns)
{
    struct process *process = &server->process;
    int err = 0;

    switch (step) {
    case LC_END_TASKS:
        lc_tasks_drop(server);
        return lc_tasks_wait(server, until_ns) ? 0 : -EBUSY;
    case LC_END_LOOPS:
        return process->server != NULL ? process_stop_loops(process, until_ns) : 0;
    case LC_END_SERVER:
        process_stop(process);
        (void)pthread_mutex_lock(&one_at_a_time);
        admin_destroy(process->admin);
        registration_destroy(process->registration);
        queue_destroy(process->queue);
        destroy_server(server);
        (void)pthread_mutex_unlock(&one_at_a_time);
        return 0;
    case LC_END_POOL: /* after the loops' memory: see pool_start_loop() */
        err = pool_destroy(process->pool, until_ns);
        if (err == 0)
            process->pool = NULL;
        return err;
    case LC_END_REST:
        release_rest(process);
        return 0;
    case LC_ENDED:
        break;
    }
    return 0;
}

static bool end_all(lc_server *server, uint64_t within_ns)
{
    uint64_t until_ns = clock_now_ns() + within_ns;

    while (server->end != LC_ENDED && end_step(server, server->end, until_ns) == 0)
        server->end++;
    return server->end == LC_ENDED;
}

/* Each order of lc_free() is one try. */
static void serve_the_end(lc_server *server, bool is_cut)
{
    (void)pthread_mutex_lock(&server->mu);
    for (;;) {
        while (server->ends == server->ends_tried)
            (void)pthread_cond_wait(&server->changed, &server->mu);
        (void)pthread_mutex_unlock(&server->mu);
        bool ended = end_all(server, is_cut ? END_AFTER_CUT_NS : END_NS);
        (void)pthread_mutex_lock(&server->mu);
        server->ends_tried++;
        server->has_ended = ended;
        (void)pthread_cond_broadcast(&server->changed);
        if (ended)
            break;
    }
    (void)pthread_mutex_unlock(&server->mu);
}

/* ---- the thread ---- */

static int start_alone(lc_server *server)
{
    (void)pthread_mutex_lock(&one_at_a_time);
    int status = bring_up(server);
    (void)pthread_mutex_unlock(&one_at_a_time);
    return status;
}

static void fail(lc_server *server, int status)
{
    (void)pthread_mutex_lock(&server->mu);
    server->coord = NULL;
    while (server->coord_borrowed > 0)
        (void)pthread_cond_wait(&server->changed, &server->mu);
    (void)pthread_mutex_unlock(&server->mu);
    server->process.status = status;
    process_leave(&server->process);
    /* A task that the program has begun keeps its memory, in lc_free(), and nothing waits for it.
     */
    lc_tasks_drop(server);
    server->end = LC_END_LOOPS;
    (void)end_all(server, CLOCK_NEVER / 2); /* it has accepted nothing: no thread is stuck */
    (void)pthread_mutex_lock(&server->mu);
    server->status = status;
    server->stage = LC_FAILED;
    (void)pthread_cond_broadcast(&server->changed);
    (void)pthread_mutex_unlock(&server->mu);
}

void lc_note_runs(lc_server *server)
{
    lc_watch_exit(LC_EXIT_WHEN_IT_RUNS);
    lc_tasks_start(server);
    enter_stage(server, LC_RUNS);
}

void lc_note_over(lc_server *server)
{
    (void)pthread_mutex_lock(&server->mu);
    server->status = server->process.status;
    (void)pthread_mutex_unlock(&server->mu);
    if (server->process.role != PROCESS_PROGRAM) /* which ends at once */
        server_close_listeners(server->process.server);
    enter_stage(server, LC_OVER);
    tell_phase(server, PHASE_DONE);
}

static void run(lc_server *server)
{
    struct process *process = &server->process;

    lc_note_runs(server);
    notify_send("READY=1\nSTATUS=serving\nMAINPID=%ld", (long)getpid());
    process->status = coord_run(process->coord);
    process_leave(process);
    lc_note_over(server);
    serve_the_end(server, process_is_cut_short(process->status));
}

static void *life(void *arg)
{
    lc_server *server = arg;

    (void)scope_enter(&server->scope);
    int status = start_alone(server);
    if (status == 0)
        run(server);
    else
        fail(server, status);
    server_end_thread(NULL);
    return NULL;
}

/* ---- from outside ---- */

/* The result of a start that failed. */
static int why(const lc_server *server)
{
    if (server->options.listen_error != 0)
        return server->options.listen_error;
    return server->process.start_error != 0 ? server->process.start_error : LC_E_CONFIG;
}

static int wait_for_start(lc_server *server)
{
    (void)pthread_mutex_lock(&server->mu);
    while (server->stage == LC_STARTING)
        (void)pthread_cond_wait(&server->changed, &server->mu);
    bool failed = server->stage == LC_FAILED;
    if (failed && server->failed == LC_OK)
        server->failed = why(server);
    int result = failed ? server->failed : LC_OK;
    (void)pthread_mutex_unlock(&server->mu);
    if (failed)
        (void)pthread_join(server->life, NULL);
    return result;
}

void lc_seal(lc_server *server)
{
    lc_watch_exit(LC_EXIT_AT_START);
    lc_modules_init(server);
    server->options.extra = server->extra;
    server->options.extra_count = server->extra_count;
    enter_stage(server, LC_STARTING);
}

int lc_begin(lc_server *server, enum process_role role)
{
    (void)pthread_mutex_lock(&server->mu);
    bool may_start = server->stage == LC_SETUP && server->process.role != PROCESS_PROGRAM;
    int result = may_start ? server->failed : LC_E_STATE;
    if (result == LC_OK)
        server->stage = LC_STARTING;
    (void)pthread_mutex_unlock(&server->mu);
    if (result != LC_OK)
        return result;
    server->process.role = role;
    server->process.options = &server->options;
    server->process.status = -1;
    server->process.predecessor.fd = server->process.predecessor.conns_fd = -1;
    server->process.predecessor.pid_file_fd = server->process.predecessor.stderr_fd = -1;
    server->options.inheritance = &server->given;
    lc_seal(server);
    server->scope.speaks_for_process = role > PROCESS_EMBEDDED;
    int err = thread_start(&server->life, "lastcall", life, server);
    if (err != 0) {
        enter_stage(server, LC_FAILED);
        return lc_setup_failed(server, err, "cannot start a thread: %s", strerrordesc_np(-err));
    }
    return wait_for_start(server);
}

int lc_start(lc_server *server)
{
    if (server == NULL)
        return LC_E_ARG;
    return LC_HOLDS() ? LC_E_THREAD : lc_begin(server, PROCESS_EMBEDDED);
}

/* True: it has ended, and the thread with it. */
static bool order_end(lc_server *server)
{
    (void)pthread_mutex_lock(&server->mu);
    server->ends++;
    (void)pthread_cond_broadcast(&server->changed);
    while (server->ends_tried < server->ends)
        (void)pthread_cond_wait(&server->changed, &server->mu);
    bool ended = server->has_ended;
    (void)pthread_mutex_unlock(&server->mu);
    if (ended)
        (void)pthread_join(server->life, NULL);
    return ended;
}

void lc_release(lc_server *server)
{
    lc_routes_destroy(server->routes);
    lc_modules_end(server);
    for (size_t i = 0; i < server->text_count; i++)
        free(server->texts[i]);
    free(server->texts);
    free(server->extra);
    inherit_release(&server->given);
    if (server->phase_fd >= 0)
        (void)close(server->phase_fd);
    lc_tasks_drop(server);
    lc_tasks_release(server);
    lc_log_release(server);
    (void)pthread_cond_destroy(&server->changed);
    (void)pthread_mutex_destroy(&server->mu);
    free(server);
}

int lc_free(lc_server *server)
{
    if (server == NULL)
        return LC_OK;
    if (LC_IS_OF(server))
        return LC_E_THREAD;
    if (server->process.role == PROCESS_PROGRAM)
        return LC_E_STATE; /* it ends with its process */
    struct coord *coord = lc_borrow_coord(server);
    if (coord != NULL) {
        coord_force(coord, "lc_free");
        lc_return_coord(server);
        (void)lc_wait(server, -1, NULL);
        if (!order_end(server))
            return LC_E_STUCK;
    } else {
        lc_tasks_drop(server);
        if (lc_tasks_count(server) > 0)
            return LC_E_STUCK;
    }
    lc_release(server);
    return LC_OK;
}

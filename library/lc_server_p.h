#ifndef LASTCALL_LC_SERVER_P_H
#define LASTCALL_LC_SERVER_P_H

/* A server, as the files that begin, run and end it share it.
 *
 *     SETUP --lc_start()--> STARTING --> RUNS --the drain is over--> OVER --lc_free()--> freed
 *                                 \--> FAILED
 *
 * From lc_start() on the server has a thread of its own, `life`: it reads the configuration, starts
 * everything, is the coordinator, and ends everything at lc_free(). So libh2o's code runs with all
 * signals blocked, and what it keeps for each thread goes with a thread of ours. */

#include <pthread.h>
#include <stdatomic.h>

#include "config_front.h"
#include "lc_p.h"
#include "options.h"
#include "process.h"
#include "scope.h"

#define LC_ERROR_SIZE 512

enum lc_stage { LC_SETUP, LC_STARTING, LC_RUNS, LC_OVER, LC_FAILED };

/* What may be ended, in this order; each step once. */
enum lc_end { LC_END_TASKS, LC_END_LOOPS, LC_END_SERVER, LC_END_POOL, LC_END_REST, LC_ENDED };

struct lc_task {
    lc_server *server;
    char name[64];
    bool is_work; /* of lc_go(), which ends it */
    uint64_t begun_ns;
    lc_task *next, *previous; /* tasks.mu */
};

struct lc_server {
    /* set up; immutable after lc_start() */
    struct options options;
    char **texts; /* that the options borrow */
    size_t text_count;
    struct options_extra *extra;
    size_t extra_count;
    struct inheritance given; /* listening sockets */
    struct lc_routes *routes;
    struct {
        int (*setup)(lc_server *server, void *user);
        void *user;
        bool has_listen; /* the command line names addresses */
    } program;           /* of lc_main() */
    struct config_front front;
    void (*stepped)(int phase, void *user);
    void *stepped_user;

    /* the thread `life` alone, while it runs */
    struct process process;
    struct scope scope;
    enum lc_end end;
    int last_step;             /* the phase that was told; -1: none */
    struct lc_loaded *modules; /* a list, the last one first */

    pthread_t life;

    struct {
        void (*line)(int level, const char *event, const char *text, const char *json, void *user);
        void *user;         /* both immutable after lc_start() */
        pthread_mutex_t mu; /* one line at a time */
    } log;

    /* tasks.mu; see lc_task.c */
    struct {
        pthread_mutex_t mu;
        pthread_cond_t changed;
        lc_task *first;
        uint64_t count;
        struct lc_work *waiting; /* of lc_go(), for the start */
        bool has_workers;        /* the pool takes jobs */
        bool draining;           /* a drain has begun */
        bool closing;            /* and cannot be called off */
        bool aborted;
    } tasks;

    /* mu */
    pthread_mutex_t mu;
    pthread_cond_t changed; /* stage, called_off, ends */
    enum lc_stage stage;
    bool in_module; /* init() of a module runs, on this thread: */
    pthread_t module_thread;
    int failed;                /* the first failure; 0: none */
    char error[LC_ERROR_SIZE]; /* of it */
    int status;                /* the exit status, once it is known */
    struct coord *coord;       /* from before the first request can come; NULL: not started */
    unsigned coord_borrowed;   /* so many threads use it: a start that fails waits for them */
    unsigned called_off;       /* so often a drain was */
    int port;
    int phase_fd;        /* an eventfd; -1: nobody asked for it */
    unsigned ends;       /* so often lc_free() has ordered the end */
    unsigned ends_tried; /* and so often it was tried */
    bool has_ended;      /* by the last try */
};

/* ---- lc_state.c ---- */

/* Thread of these: any.     Blocks: never. */

/* `ms` from now, on CLOCK_MONOTONIC in nanoseconds; -1: CLOCK_NEVER. */
uint64_t lc_until_ns(int64_t ms);
/* Does this thread belong to the server, or hold a request? Then it must not wait for the server's
 * end: LC_E_THREAD. The first call of each function is logged. */
#define LC_IS_OF(server)                                                                           \
    ({                                                                                             \
        static atomic_bool said_;                                                                  \
        lc_is_of(server, &said_, __func__);                                                        \
    })
bool lc_is_of(const lc_server *server, atomic_bool *said, const char *function);
/* Is there a coordinator? False before the start, and after a start that has failed. */
bool lc_has_coord(lc_server *server);
/* The coordinator, which stays until lc_return_coord(); NULL: there is none, and nothing to
 * return. */
struct coord *lc_borrow_coord(lc_server *server);
void lc_return_coord(lc_server *server);

/* ---- lc_server.c ---- */

/* lc_new() without its checks. NULL: no memory.     Thread: any. */
lc_server *lc_make(void);

/* ---- lc_life.c ---- */

/* The steps of a life, for lc_main() as well. */

/* The setup is over.     Thread: the one that starts it. */
void lc_seal(lc_server *server);
/* The server answers what was registered.     Thread: the coordinator's, before process_start().
 * Errors: 0; an enum exit_status, logged. */
int lc_attach_routes(lc_server *server);
/* Lend the coordinator out, and hear of its steps.     Thread: the same. */
void lc_watch_steps(lc_server *server);
/* It accepts.     Thread: the coordinator's. */
void lc_note_runs(lc_server *server);
/* The drain is over, and process.status the exit status.     Thread: the coordinator's. */
void lc_note_over(lc_server *server);
/* Nothing of it runs any more: free it.     Thread: any, the last one that has it. */
void lc_release(lc_server *server);

/* Start as lc_start() does. Afterwards server->status is the exit status of a start that failed.
 * Thread: any that neither holds a request nor belongs to the server.     Blocks: until it accepts.
 * Errors: as lc_start(). */
int lc_begin(lc_server *server, enum process_role role);

/* ---- lc_exit.c ---- */

/* Have exit(3) in a function that the server has called end the process at once: see there. Twice,
 * because what registers exit functions in between would run before. Each counts once in a process.
 * Thread: any. */
enum lc_exit_watch { LC_EXIT_AT_START, LC_EXIT_WHEN_IT_RUNS, LC_EXIT_WATCHES };
void lc_watch_exit(enum lc_exit_watch when);

/* ---- lc_module.c ---- */

/* Have the configuration load modules and name handlers.     Thread: before start. */
void lc_modules_init(lc_server *server);
/* Call fini() of each. No handler runs any more, or will.     Thread: any. */
void lc_modules_end(lc_server *server);

/* ---- lc_log.c ---- */

void lc_log_init(lc_server *server);
void lc_log_release(lc_server *server);

/* ---- lc_task.c ---- */

void lc_tasks_init(lc_server *server);
void lc_tasks_release(lc_server *server);
/* The pool is there: what lc_go() was given before is submitted.     Thread: the one that starts.
 */
void lc_tasks_start(lc_server *server);
/* It never will be: forget that work. */
void lc_tasks_drop(lc_server *server);
/* What the coordinator does with them.     Thread: life. */
void lc_tasks_step(lc_server *server, enum coord_phase phase);
uint64_t lc_tasks_count(lc_server *server);
/* Append them; with `abort`, order them to end. Those that find no memory are counted as left out.
 */
void lc_tasks_list(lc_server *server, bool abort, struct coord_requests *list);
/* Wait until none is left. False: one is.     Blocks: until CLOCK_MONOTONIC reads `until_ns`. */
bool lc_tasks_wait(lc_server *server, uint64_t until_ns);

/* ---- lc_ops.c ---- */

/* The server's callbacks, with the tasks. Their argument is the lc_server. */
extern const struct coord_server_ops lc_ops;

#endif

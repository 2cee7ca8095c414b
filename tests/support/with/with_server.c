#include "with_server.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "clock.h"
#include "config.h"
#include "coord.h"
#include "loopback.h"
#include "mux.h"
#include "options.h"
#include "server.h"
#include "lastcall/settings.h"

#define PATIENCE_S 60

struct process served_at;
struct server *served;

static struct {
    struct options options;
    struct pool *pool;
    struct coord *coord;
    struct mux *mux;
    struct journal *journal; /* NULL: no --journal */
    struct served routes[32];
    pthread_t runner;
    int status;
    bool is_draining;
} self;

static void on_idle(void *coord)
{
    coord_poke(coord);
}

static void *run(void *unused)
{
    self.status = coord_run(self.coord);
    return unused;
}

static void read_flags(const char *const *argv)
{
    char *all[64] = {"lastcall", "--listen", served_at.address, "--threads", "2", "--workers", "8"};
    int count = 7;

    served_at = (struct process){.port = free_port(), .pid = -1, .status = -1};
    (void)snprintf(served_at.address, sizeof(served_at.address), "127.0.0.1:%u", served_at.port);
    for (; argv != NULL && *argv != NULL; argv++)
        all[count++] = (char *)(uintptr_t)*argv;
    assert_int_equal(options_parse(count, all, &self.options), -1);
    self.options.has_own_routes = true;
}

static void open_journal(void)
{
    const struct journal_config config = settings_journal(&self.options);
    char error[JOURNAL_ERROR_SIZE];

    self.journal = NULL;
    if (config.dir == NULL)
        return;
    if (journal_open(&config, &self.journal, error) != 0)
        fail_msg("%s", error);
    server_attach_journal(served, self.journal);
}

static void add_routes(const struct served *routes)
{
    char error[MUX_ERROR];

    self.mux = mux_create();
    assert_non_null(self.mux);
    for (size_t i = 0; routes[i].pattern != NULL; i++) {
        self.routes[i] = routes[i];
        assert_int_equal(mux_add(self.mux, routes[i].pattern, &self.routes[i].route, error), 0);
    }
    user_route_serve(served, self.mux);
}

void serve(const struct served *routes, const char *const *argv)
{
    read_flags(argv);
    assert_int_equal(server_create(NULL, &served), 0);
    assert_int_equal(config_apply(&self.options, served), 0);
    const struct server_config settings = settings_server(&self.options);
    assert_int_equal(server_configure(served, &settings, false), 0);
    add_routes(routes);
    open_journal();
    const struct coord_config config = {
        .ops = &server_ops, .server = served, .drain = settings_drain(&self.options)};
    assert_int_equal(coord_create(&config, &self.coord), 0);
    const struct pool_config pool = {.workers = (unsigned)self.options.workers,
                                     .queue = (unsigned)self.options.queue,
                                     .loops = (unsigned)self.options.threads,
                                     .on_idle = on_idle,
                                     .on_idle_arg = self.coord};
    assert_int_equal(pool_create(&pool, &self.pool), 0);
    coord_attach_pool(self.coord, self.pool);
    assert_int_equal(server_start(served, self.pool, self.coord), 0);
    server_open(served);
    self.is_draining = false;
    assert_int_equal(pthread_create(&self.runner, NULL, run, NULL), 0);
}

void serve_drain(int64_t deadline_ms)
{
    self.is_draining = true;
    if (deadline_ms < 0)
        coord_request_drain(self.coord, "test", "");
    else
        (void)coord_request_drain_within(self.coord, "test", "", (uint64_t)deadline_ms * NS_PER_MS);
}

int serve_end(void)
{
    if (!self.is_draining)
        serve_drain(-1);
    assert_int_equal(pthread_join(self.runner, NULL), 0);
    assert_int_equal(server_stop(served, CLOCK_NEVER), 0);
    pool_close(self.pool);
    assert_int_equal(pool_wait_idle(self.pool, CLOCK_NEVER), 0);
    server_destroy(served);
    assert_int_equal(pool_destroy(self.pool, CLOCK_NEVER), 0);
    coord_destroy(self.coord);
    mux_destroy(self.mux);
    journal_destroy(self.journal);
    served = NULL;
    return self.status;
}

int serve_end_left(void **state)
{
    (void)state;
    if (served != NULL)
        (void)serve_end();
    return 0;
}

static struct coord_census census(void)
{
    struct coord_census all = {0};
    server_ops.census(served, &all);
    return all;
}

uint64_t served_on_record(void)
{
    struct journal_stats stats;

    journal_get_stats(self.journal, &stats);
    return stats.slots_used;
}

uint64_t served_active(void)
{
    return census().active;
}

uint64_t served_abandoned(void)
{
    return census().abandoned;
}

uint64_t served_answered(void)
{
    return census().answered;
}

void served_wait(uint64_t (*count)(void), uint64_t want)
{
    uint64_t until_ns = clock_now_ns() + PATIENCE_S * NS_PER_S;
    const struct timespec pause = {.tv_nsec = 200000};

    while (count() != want && clock_now_ns() < until_ns)
        (void)nanosleep(&pause, NULL); /* a count tells nobody that it changes */
    assert_int_equal(count(), want);
}

void await(sem_t *event)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    assert_int_equal(sem_timedwait(event, &until), 0);
}

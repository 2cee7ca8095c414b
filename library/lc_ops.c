#include "lc_server_p.h"

/* The coordinator's callbacks: the server's own, and beside them the tasks. */

static struct server *server_of(void *lc)
{
    return ((lc_server *)lc)->process.server;
}

static void lame_duck(void *lc, bool on)
{
    server_ops.lame_duck(server_of(lc), on);
}

static void close_listeners(void *lc)
{
    server_ops.close_listeners(server_of(lc));
}

static void hand_over(void *lc)
{
    server_ops.hand_over(server_of(lc));
}

static void finish(void *lc, uint64_t spread_ns)
{
    server_ops.finish(server_of(lc), spread_ns);
}

static void release_idle(void *lc, uint64_t spread_ns)
{
    server_ops.release_idle(server_of(lc), spread_ns);
}

static void leave(void *lc, uint64_t spread_ns, uint64_t moment_ns)
{
    server_ops.leave(server_of(lc), spread_ns, moment_ns);
}

static void give_up(void *lc, unsigned classes)
{
    server_ops.give_up(server_of(lc), classes);
}

static void list_requests(void *lc, bool freeze, struct coord_requests *ret_list)
{
    server_ops.list_requests(server_of(lc), freeze, ret_list);
    lc_tasks_list(lc, freeze, ret_list);
}

static void cut(void *lc)
{
    server_ops.cut(server_of(lc));
}

static void census(void *lc, struct coord_census *ret_census)
{
    server_ops.census(server_of(lc), ret_census);
    ret_census->tasks = lc_tasks_count(lc);
}

const struct coord_server_ops lc_ops = {
    .lame_duck = lame_duck,
    .close_listeners = close_listeners,
    .hand_over = hand_over,
    .finish = finish,
    .release_idle = release_idle,
    .leave = leave,
    .give_up = give_up,
    .list_requests = list_requests,
    .cut = cut,
    .census = census,
};

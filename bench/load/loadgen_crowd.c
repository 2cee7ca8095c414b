#include "loadgen_crowd.h"

#include <poll.h>

#include "loadgen_conn.h"

/* The crowd connects before the load begins and stays until the run ends:
 *
 *                load_crowd_gather             crowd_opened             crowd_over
 *     WAITING ---------------------> OPENING ----------------> OPEN ---------------> OVER
 *                                       '---- crowd_over: failed ---------------------^
 *
 * It never reconnects, and its requests do not count as requests of the load. */

#define OPENING_MAX 128U

static struct load_crowd *counts_of(struct load_conn *c)
{
    struct load_result *res = c->load->result;

    return c->role == LOAD_ROLE_IDLE ? &res->idle : &res->silent;
}

static void crowd_opened(struct load_conn *c)
{
    if (c->crowd != CROWD_OPENING)
        return;
    c->crowd = CROWD_OPEN;
    c->load->crowd_opening--;
    counts_of(c)->opened++;
}

static void crowd_over(struct load_conn *c)
{
    if (c->crowd == CROWD_OPENING) {
        c->load->crowd_opening--;
        counts_of(c)->failed++;
    } else if (c->crowd == CROWD_OPEN) {
        counts_of(c)->closed++;
    }
    c->crowd = CROWD_OVER;
}

static void crowd_settle(struct load_conn *c)
{
    const struct load_wire *wire = c->load->wire;

    if (c->load->error != 0)
        return;
    if (c->phase == CONN_OPEN && c->role == LOAD_ROLE_IDLE) {
        if (c->requests == 0)
            (void)wire->begin(c); /* never refuses the first request */
        wire->flush(c);
        if (c->closing && c->open_requests == 0)
            load_conn_drop(c, LOAD_END_EOF);
    }
    if (c->phase == CONN_CLOSED)
        crowd_over(c);
}

const struct load_crowd_hooks load_crowd_hooks = {.opened = crowd_opened, .settle = crowd_settle};

void load_crowd_gather(struct load *l)
{
    while (l->crowd_next < l->conns_len && l->crowd_opening < OPENING_MAX && l->error == 0) {
        struct load_conn *c = &l->conns[l->crowd_next++];
        c->crowd = CROWD_OPENING;
        l->crowd_opening++;
        load_conn_connect(c);
        crowd_settle(c);
    }
}

bool load_crowd_is_gathered(const struct load *l)
{
    return l->crowd_next == l->conns_len && l->crowd_opening == 0;
}

/* The run may end before the loop has handled the close. */
static bool is_closed_by_now(const struct load_conn *c)
{
    struct pollfd fd = {.fd = c->fd, .events = POLLRDHUP};

    return poll(&fd, 1, 0) == 1 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void load_crowd_wind_up(struct load_conn *c)
{
    if (c->crowd == CROWD_OPEN && !is_closed_by_now(c)) {
        counts_of(c)->still_open++;
        c->crowd = CROWD_OVER;
    }
    if (c->crowd == CROWD_WAITING)
        counts_of(c)->failed++;
    load_conn_drop(c, LOAD_END_PATIENCE);
    if (c->crowd != CROWD_WAITING)
        crowd_over(c);
}

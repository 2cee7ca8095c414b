#include "loadgen_p.h"

#include <poll.h>

/* The crowd is there before the load begins and watches until the run ends:
 *
 *                load_crowd_gather             load_crowd_opened             load_crowd_over
 *     WAITING ---------------------> OPENING ---------------------> OPEN --------------------> OVER
 *                                       '---- load_crowd_over: failed ---------------------------^
 *
 * It never reconnects, and nothing it does is lost. */

#define OPENING_MAX 128U

static struct load_crowd *books_of(struct load_conn *c)
{
    struct load_result *res = c->load->result;

    return c->role == LOAD_ROLE_IDLE ? &res->idle : &res->silent;
}

void load_crowd_gather(struct load *l)
{
    while (l->crowd_next < l->conns_len && l->crowd_opening < OPENING_MAX && l->error == 0) {
        struct load_conn *c = &l->conns[l->crowd_next++];
        c->crowd = CROWD_OPENING;
        l->crowd_opening++;
        load_conn_connect(c);
        load_crowd_settle(c);
    }
}

bool load_crowd_is_gathered(const struct load *l)
{
    return l->crowd_next == l->conns_len && l->crowd_opening == 0;
}

void load_crowd_opened(struct load_conn *c)
{
    if (c->crowd != CROWD_OPENING)
        return;
    c->crowd = CROWD_OPEN;
    c->load->crowd_opening--;
    books_of(c)->opened++;
}

void load_crowd_over(struct load_conn *c)
{
    if (c->crowd == CROWD_OPENING) {
        c->load->crowd_opening--;
        books_of(c)->failed++;
    } else if (c->crowd == CROWD_OPEN) {
        books_of(c)->closed++;
    }
    c->crowd = CROWD_OVER;
}

void load_crowd_settle(struct load_conn *c)
{
    const struct load_wire *wire = c->load->wire;

    if (c->load->error != 0)
        return;
    if (c->phase == CONN_OPEN && c->role == LOAD_ROLE_IDLE) {
        if (c->requests == 0)
            (void)wire->begin(c); /* the first on its connection: always taken */
        wire->flush(c);
        if (c->closing && c->open_requests == 0)
            load_conn_drop(c, LOAD_END_EOF);
    }
    if (c->phase == CONN_CLOSED)
        load_crowd_over(c);
}

/* The run may end before the loop has come to the news of it. */
static bool is_closed_by_now(const struct load_conn *c)
{
    struct pollfd fd = {.fd = c->fd, .events = POLLRDHUP};

    return poll(&fd, 1, 0) == 1 && (fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

void load_crowd_wind_up(struct load_conn *c)
{
    if (c->crowd == CROWD_OPEN && !is_closed_by_now(c)) {
        books_of(c)->still_open++;
        c->crowd = CROWD_OVER;
    }
    if (c->crowd == CROWD_WAITING)
        books_of(c)->failed++;
    load_conn_drop(c, LOAD_END_PATIENCE);
    if (c->crowd != CROWD_WAITING)
        load_crowd_over(c);
}

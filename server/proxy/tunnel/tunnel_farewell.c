#include "tunnel_p.h"

#include <sys/random.h>

#include "loop.h"

/* How a drain ends a WebSocket (RFC 6455 sections 5.5.1 and 7.4.1): each side gets a Close frame
 * with the status 1001, "going away", and a moment to answer it.
 *
 *     the drain asks      upstream: Close, where a message ends
 *     it answers          what it sent before is passed on; its Close becomes one of ours
 *     or a quarter later  client: Close, where a message ends
 *     both have answered, or the moment is over     the connections are closed in order
 *
 * The upstream comes first, so that nothing is lost of what it sends before it answers. After the
 * second quarter the end of a frame will do: a Close frame may stand within a message, which then
 * has no end. A side that is in the middle of a frame, or takes no bytes, cannot be told; the
 * deadline cuts it. Nothing may follow a Close frame, so what comes after it is dropped. A side
 * that has sent a Close frame of its own, which was passed on, closes the WebSocket without us.
 *
 * Other protocols have no such frame, and are cut at the deadline. */

#define QUARTERS 4

static struct tunnel_flow *flow_to(struct tunnel *tunnel, enum tunnel_direction direction)
{
    return &tunnel->flows[direction];
}

static const struct tunnel_flow *opposite(const struct tunnel_flow *flow)
{
    return &flow->tunnel->flows[flow == flow->tunnel->flows ? TO_CLIENT : TO_UPSTREAM];
}

/* Where a Close frame may be put in now. */
static enum websocket_place wanted_place(const struct tunnel_flow *flow)
{
    if (flow->farewell == FAREWELL_NONE)
        return WEBSOCKET_CLOSE; /* what answers ours, or comes by itself */
    return flow->tunnel->farewell.quarters >= QUARTERS / 2 ? WEBSOCKET_FRAME : WEBSOCKET_MESSAGE;
}

static size_t make_close(struct tunnel_flow *flow, char *bytes)
{
    bool to_upstream = flow == flow_to(flow->tunnel, TO_UPSTREAM);
    uint8_t mask[4] = {0}; /* if there is no random number, the frame is valid all the same */

    if (to_upstream)
        (void)!getrandom(mask, sizeof(mask), GRND_NONBLOCK);
    flow->farewell = FAREWELL_SAID;
    return websocket_close_make(bytes, WEBSOCKET_GOING_AWAY, to_upstream ? mask : NULL);
}

static bool is_leaving(const struct tunnel *tunnel)
{
    return tunnel->has_frames && tunnel->leaver.was_asked;
}

size_t farewell_filter(struct tunnel_flow *flow, size_t size)
{
    bool found = false;
    char *bytes = flow->buffer;

    if (!is_leaving(flow->tunnel)) {
        if (flow->tunnel->has_frames)
            websocket_frames_pass(&flow->frames, bytes, size);
        return size;
    }
    if (flow->farewell == FAREWELL_SAID) {
        websocket_frames_pass(&flow->frames, bytes, size);
        return 0;
    }
    if (flow->farewell == FAREWELL_NONE && opposite(flow)->frames.has_closed) {
        websocket_frames_pass(&flow->frames, bytes, size); /* it may answer a Close of the other */
        return size;
    }
    size_t before = websocket_frames_find(&flow->frames, wanted_place(flow), bytes, size, &found);
    if (!found)
        return size;
    bool has_closed = flow->frames.has_closed;
    websocket_frames_pass(&flow->frames, bytes + before, size - before);
    if (has_closed) { /* its own Close has just ended */
        flow->farewell = FAREWELL_SAID;
        return before;
    }
    return before + make_close(flow, bytes + before);
}

bool farewell_say_if_due(struct tunnel_flow *flow)
{
    if (flow->farewell != FAREWELL_WANTED || flow->in_flight > 0 || flow->is_over)
        return false;
    if (flow->frames.has_closed) {
        flow->farewell = FAREWELL_SAID;
        return false;
    }
    if (!websocket_frames_are_at(&flow->frames, wanted_place(flow)))
        return false;
    flow_take_buffer(flow);
    flow_write(flow, make_close(flow, flow->buffer));
    return true;
}

bool farewell_say_at_end(struct tunnel_flow *flow)
{
    if (!is_leaving(flow->tunnel) || flow->farewell == FAREWELL_SAID || flow->frames.has_closed ||
        !websocket_frames_are_at(&flow->frames, WEBSOCKET_FRAME))
        return false;
    flow_take_buffer(flow);
    flow_write(flow, make_close(flow, flow->buffer));
    return true;
}

/* `to` has a Close frame. */
static bool is_told(const struct tunnel_flow *flow)
{
    return flow->in_flight == 0 && (flow->farewell == FAREWELL_SAID || flow->frames.has_closed);
}

/* A side that has ended, or takes no more, need not be told anything; but a tunnel of which neither
 * side was told has ended by itself. */
static bool are_both_told(const struct tunnel *tunnel)
{
    const struct tunnel_flow *up = &tunnel->flows[TO_UPSTREAM], *down = &tunnel->flows[TO_CLIENT];

    return is_leaving(tunnel) && (is_told(up) || is_told(down)) && (is_told(up) || up->is_over) &&
           (is_told(down) || down->is_over);
}

static bool has_answered(const struct tunnel_flow *flow)
{
    return flow->has_ended || flow->frames.has_closed;
}

bool farewell_go_on(struct tunnel *tunnel)
{
    struct tunnel_flow *up = flow_to(tunnel, TO_UPSTREAM), *down = flow_to(tunnel, TO_CLIENT);

    if (!is_leaving(tunnel))
        return true;
    if (!are_both_told(tunnel) || !has_answered(up) || !has_answered(down))
        return true;
    tunnel_end(tunnel, TUNNEL_IN_ORDER);
    return false;
}

/* ---- time ---- */

static void want(struct tunnel_flow *flow)
{
    if (flow->farewell == FAREWELL_NONE)
        flow->farewell = FAREWELL_WANTED;
    (void)farewell_say_if_due(flow);
}

static void wait_for_quarter(struct tunnel *tunnel)
{
    uint64_t ms = tunnel->leaver.loop->leave.moment_ns / QUARTERS / NS_PER_MS;

    h2o_timeout_link(tunnel->proxy->loop->evloop, proxy_loop_timers(tunnel->proxy, ms > 0 ? ms : 1),
                     &tunnel->farewell.timer);
}

static void on_quarter(h2o_timeout_entry_t *timer)
{
    struct tunnel *tunnel = container_of(timer, struct tunnel, farewell.timer);

    tunnel->farewell.quarters++;
    want(flow_to(tunnel, TO_UPSTREAM));
    want(flow_to(tunnel, TO_CLIENT));
    if (are_both_told(tunnel))
        tunnel->farewell.quarters_told++;
    if (!farewell_go_on(tunnel))
        return;
    if (tunnel->farewell.quarters >= QUARTERS && tunnel->farewell.quarters_told >= QUARTERS / 2)
        tunnel_end(tunnel, TUNNEL_IN_ORDER);
    else
        wait_for_quarter(tunnel);
}

/* ---- what the drain calls ---- */

static void ask(struct leaver *leaver)
{
    struct tunnel *tunnel = container_of(leaver, struct tunnel, leaver);

    if (!tunnel->has_frames)
        return;
    tunnel->farewell.timer.cb = on_quarter;
    wait_for_quarter(tunnel);
    want(flow_to(tunnel, TO_UPSTREAM));
    (void)farewell_go_on(tunnel);
}

static bool was_told(const struct leaver *leaver)
{
    return are_both_told(container_of(leaver, struct tunnel, leaver));
}

static void cut(struct leaver *leaver)
{
    tunnel_end(container_of(leaver, struct tunnel, leaver),
               was_told(leaver) ? TUNNEL_IN_ORDER : TUNNEL_CUT);
}

const struct leaver_kind tunnel_leaver = {.ask = ask, .cut = cut, .was_told = was_told};

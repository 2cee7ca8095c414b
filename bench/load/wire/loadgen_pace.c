#include "loadgen_pace.h"

#include "clock.h"

/* A slow connection moves one slice at a time: a hundred slices per second, or single bytes less
 * often. It catches up on at most one late slice, so it does not rush after a standstill. */

#define SLICE_NS (10 * NS_PER_MS)

static size_t slice_of(uint32_t rate)
{
    return rate / 100 > 0 ? rate / 100 : 1;
}

static uint64_t next_due_ns(uint64_t due_ns, uint64_t now_ns, size_t len, uint32_t rate)
{
    uint64_t from_ns = due_ns + SLICE_NS > now_ns ? due_ns : now_ns;

    return from_ns + len * UINT64_C(1000000000) / rate;
}

size_t load_pace_read_room(const struct load_conn *c, size_t room)
{
    size_t slice = slice_of(c->load->options->read_rate);

    return slice < room ? slice : room;
}

void load_pace_read(struct load_conn *c, size_t len)
{
    c->read_due_ns = next_due_ns(c->read_due_ns, c->load->now_ns, len, c->load->options->read_rate);
    c->read_paused = c->read_due_ns > c->load->now_ns;
}

size_t load_pace_send_room(struct load_conn *c, size_t room)
{
    size_t slice = slice_of(c->load->options->send_rate);

    if (c->load->options->send_rate == 0 || room == 0)
        return room;
    if (c->send_due_ns > c->load->now_ns) {
        c->send_waits = true;
        return 0;
    }
    return slice < room ? slice : room;
}

void load_pace_sent(struct load_conn *c, size_t len)
{
    if (c->load->options->send_rate > 0)
        c->send_due_ns =
            next_due_ns(c->send_due_ns, c->load->now_ns, len, c->load->options->send_rate);
}

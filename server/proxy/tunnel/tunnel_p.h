#ifndef LASTCALL_TUNNEL_P_H
#define LASTCALL_TUNNEL_P_H

/* What the files of a tunnel share.
 *
 *     tunnel.c            the beginning, the end, and time without traffic
 *     tunnel_flow.c       one direction: read, pass on, wait, end
 *     tunnel_farewell.c   the Close frames of a drain
 *
 * A tunnel is two flows, each with one buffer:
 *
 *     client  ===== TO_UPSTREAM =====>  upstream
 *             <===== TO_CLIENT ======
 *
 * A flow reads when nothing of it is in flight, so each side is read as fast as the other takes. It
 * has a buffer only while bytes are in flight: a silent tunnel costs little memory.
 *
 * Note on ends. Most functions here may end the tunnel and free it. Those that do say so, and what
 * calls them touches nothing of it afterwards. */

#include "conn.h"
#include "leave.h"
#include "tunnel.h"
#include "websocket_frames.h"

enum tunnel_direction { TO_UPSTREAM, TO_CLIENT, TUNNEL_FLOWS };

/* A Close frame of ours. */
enum tunnel_farewell { FAREWELL_NONE, FAREWELL_WANTED, FAREWELL_SAID };

struct tunnel_flow {
    struct tunnel *tunnel;
    h2o_socket_t *from, *to;
    char *buffer;           /* NULL: nothing is in flight */
    size_t in_flight;       /* the library writes these */
    size_t turn_bytes;      /* read since the loop was last asked for events */
    bool was_full;          /* the last read filled the buffer */
    const char *read_error; /* of TLS */
    bool from_failed;       /* a write to `from` has: its end is none in order */
    bool has_ended;         /* no more is read of `from` */
    bool is_over;           /* and `to` has all, and its end */
    struct websocket_frames frames;
    enum tunnel_farewell farewell;
};

struct tunnel {
    struct leaver leaver;
    struct proxy_loop *proxy;
    struct conn *client; /* NULL: the answer 101 is still being written */
    h2o_socket_t *upstream;
    struct upstream *counted_at; /* one of its requests; NULL: it ended with the request */
    struct tunnel_flow flows[TUNNEL_FLOWS];
    h2o_timeout_entry_t idle_timer;
    uint64_t idle_ms;
    bool is_blocked;        /* half of it has ended, and the other half waits for its reader */
    bool has_frames;        /* it is a WebSocket */
    bool ends_when_written; /* when nothing is in flight */
    bool upstream_is_tcp;
    bool upstream_was_closed; /* TLS: its close_notify has come */
    struct {
        h2o_timeout_entry_t timer; /* of a quarter of the moment */
        unsigned quarters;         /* since the drain asked */
        unsigned quarters_told;    /* since both sides were told */
    } farewell;                    /* tunnel_farewell.c */
};

/* ---- tunnel.c ---- */

enum tunnel_how {
    TUNNEL_IN_ORDER,
    TUNNEL_BROKEN, /* one side was reset, or ended TLS without close_notify */
    TUNNEL_CUT     /* by a drain */
};

/* End it, and free it. WebSocket sides see an end of file, which without a Close frame is no
 * orderly end to them; others see a reset unless it ends in order. */
void tunnel_end(struct tunnel *tunnel, enum tunnel_how how);
/* Bytes have come or gone. */
void tunnel_note_traffic(struct tunnel *tunnel);
/* One flow is over. Returns false if that ended the tunnel. */
bool tunnel_flow_is_over(struct tunnel *tunnel);

/* ---- tunnel_flow.c ---- */

/* Both sockets are there. Returns false if that ended the tunnel. */
bool flow_open(struct tunnel_flow *flow);
/* Write these bytes of the flow's buffer. */
void flow_write(struct tunnel_flow *flow, size_t size);
/* A buffer, if it has none. */
void flow_take_buffer(struct tunnel_flow *flow);
void flow_drop_buffer(struct tunnel_flow *flow);
#define FLOW_BUFFER PROXY_SMALL_BUFFER

/* ---- tunnel_farewell.c ---- */

extern const struct leaver_kind tunnel_leaver;

/* `size` bytes were read into the flow's buffer. Returns how many are to be passed on, which may
 * end with a Close frame of ours; there is room for one. */
size_t farewell_filter(struct tunnel_flow *flow, size_t size);
/* Nothing of the flow is in flight. Put a Close frame there if it is time: true. May not end the
 * tunnel. */
bool farewell_say_if_due(struct tunnel_flow *flow);
/* `from` has ended: the last chance for a Close frame. True: it is being written. */
bool farewell_say_at_end(struct tunnel_flow *flow);
/* Something was written, or has come. Returns false if that ended the tunnel. */
bool farewell_go_on(struct tunnel *tunnel);

#endif

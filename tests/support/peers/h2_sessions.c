#include "h2_sessions.h"

#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "h2_by_hand.h"

/* A session opens streams, and does to them what the protocol allows and a bit more. Most frames
 * are valid, because a connection error ends the session. Flow control bugs show only while the
 * server cannot send, so half of the sessions read nothing for a while, with the smallest receive
 * buffer that the kernel allows. */

#define STEPS_MOST 200
#define FILL_LEAST 130 /* answers of 40 KB: more than the two kernels take */
#define OPEN_FIRST 1

struct session {
    int fd;
    uint64_t random;
    uint32_t next_stream;
    unsigned frames;
    bool reads;    /* what has come, now and then */
    bool is_paced; /* a moment between the steps, in which the server writes */
    struct h2_bytes *block;
};

/* xorshift64*; the state is never 0. */
static uint64_t draw(struct session *s, uint64_t below)
{
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    return (s->random * UINT64_C(0x2545f4914f6cdd1d) >> 33) % below;
}

static bool one_in(struct session *s, uint64_t n)
{
    return draw(s, n) == 0;
}

static uint32_t draw_window(struct session *s)
{
    static const uint32_t sizes[] = {0,     0,     1,     9,       100,     1000,
                                     16384, 40000, 65535, 1 << 20, 1 << 20, INT32_MAX};
    return sizes[draw(s, sizeof(sizes) / sizeof(sizes[0]))];
}

/* One that was opened, mostly one of the last ones; sometimes one that was not. */
static uint32_t draw_stream(struct session *s)
{
    uint32_t back = 2 * (uint32_t)draw(s, one_in(s, 4) ? 1000 : 12);

    if (one_in(s, 200))
        return s->next_stream + back;
    return back + 2 < s->next_stream ? s->next_stream - 2 - back : OPEN_FIRST;
}

static void send_frame(struct session *s, unsigned type, unsigned flags, uint32_t stream,
                       const void *payload, size_t size)
{
    h2_send_frame(s->fd, type, flags, stream, payload, size);
    s->frames++;
}

/* ---- steps ---- */

static void request(struct session *s, const char *method, const char *path, bool ends)
{
    unsigned flags = ends ? H2_END_STREAM : 0;

    s->block->size = 0;
    h2_add_head(s->block, method, path);
    if (one_in(s, 4))
        h2_add_field(s->block, "cookie", "a=b", true);
    for (uint64_t i = one_in(s, 20) ? draw(s, 600) : 0; i > 0; i--)
        h2_add(s->block, "\xbe", 1);
    if (!ends && one_in(s, 6))
        h2_add_field(s->block, "content-length", "5", false);
    if (one_in(s, 10)) { /* in two frames */
        size_t first = draw(s, s->block->size);
        send_frame(s, H2_HEADERS, flags, s->next_stream, s->block->bytes, first);
        send_frame(s, H2_CONTINUATION, H2_END_HEADERS, s->next_stream, s->block->bytes + first,
                   s->block->size - first);
    } else {
        send_frame(s, H2_HEADERS, flags | H2_END_HEADERS, s->next_stream, s->block->bytes,
                   s->block->size);
    }
    s->next_stream += 2;
}

static void step_get(struct session *s)
{
    static const char *const paths[] = {"/files/40k",  "/files/40k",  "/files/1000",
                                        "/hello",      "/sleep?ms=1", "/stream?kb=50&ms=20",
                                        "/files/none", "no-path"};
    uint64_t i = draw(s, one_in(s, 10) ? 8 : 6);
    request(s, one_in(s, 15) ? "HEAD" : "GET", paths[i], true);
}

static void step_fill(struct session *s)
{
    request(s, "GET", one_in(s, 4) ? "/files/1000" : "/files/40k", true);
}

static void step_post(struct session *s)
{
    request(s, "POST", one_in(s, 3) ? "/hello" : "/sleep?ms=1", false);
}

static void step_data(struct session *s)
{
    static const char zeros[16384];
    static const size_t sizes[] = {0, 1, 5, 1000, 16384};
    send_frame(s, H2_DATA, one_in(s, 2) ? H2_END_STREAM : 0, draw_stream(s), zeros,
               sizes[draw(s, 5)]);
}

static void step_trailer(struct session *s)
{
    uint32_t stream = draw_stream(s);
    bool whole = !one_in(s, 4);
    send_frame(s, H2_HEADERS, H2_END_STREAM | (whole ? H2_END_HEADERS : 0), stream, "\0\1a\1b", 5);
    if (!whole)
        send_frame(s, H2_CONTINUATION, H2_END_HEADERS, stream, "\0\1a\1b", 5);
}

static void step_settings(struct session *s)
{
    h2_send_window_setting(s->fd, draw_window(s));
    s->frames++;
}

static void step_window(struct session *s)
{
    uint32_t size = draw_window(s);
    h2_send_number(s->fd, H2_WINDOW, one_in(s, 5) ? 0 : draw_stream(s),
                   size == INT32_MAX || (size == 0 && !one_in(s, 20)) ? 1 : size);
    s->frames++;
}

static void step_reset(struct session *s)
{
    h2_send_number(s->fd, H2_RST, draw_stream(s), 8);
    s->frames++;
}

static void step_priority(struct session *s)
{
    uint32_t parent = one_in(s, 3) ? 0 : draw_stream(s);
    uint8_t payload[5] = {(uint8_t)(parent >> 24 | (one_in(s, 3) ? 128 : 0)),
                          (uint8_t)(parent >> 16), (uint8_t)(parent >> 8), (uint8_t)parent,
                          (uint8_t)draw(s, 256)};
    send_frame(s, H2_PRIORITY, 0, one_in(s, 6) ? s->next_stream + 2 : draw_stream(s), payload, 5);
}

static void step_other(struct session *s)
{
    uint8_t payload[64];
    size_t size = draw(s, sizeof(payload));

    for (size_t i = 0; i < size; i++)
        payload[i] = (uint8_t)draw(s, 256);
    if (one_in(s, 3))
        send_frame(s, H2_PING, 0, 0, "12345678", 8);
    else if (!one_in(s, 10))
        send_frame(s, 10 + (unsigned)draw(s, 240), (unsigned)draw(s, 256), draw_stream(s), payload,
                   size);
    else /* anything at all */
        send_frame(s, (unsigned)draw(s, 11), (unsigned)draw(s, 256), draw_stream(s), payload, size);
}

static void read_some(struct session *s)
{
    char bytes[4096];
    for (uint64_t n = draw(s, 30); n > 0; n--)
        if (recv(s->fd, bytes, one_in(s, 5) ? 9 : sizeof(bytes), MSG_DONTWAIT) <= 0)
            break;
}

struct choice {
    void (*step)(struct session *s);
    unsigned weight;
};

static void play_step(struct session *s, const struct choice *choices, size_t count)
{
    uint64_t all = 0;

    for (size_t i = 0; i < count; i++)
        all += choices[i].weight;
    uint64_t at = draw(s, all);
    for (size_t i = 0; i < count; i++) {
        if (at < choices[i].weight) {
            choices[i].step(s);
            return;
        }
        at -= choices[i].weight;
    }
}

static void play(struct session *s, const struct choice *choices, size_t count, uint64_t steps)
{
    for (; steps > 0; steps--) {
        play_step(s, choices, count);
        if (s->reads && one_in(s, 3))
            read_some(s);
        if (s->is_paced)
            (void)poll(NULL, 0, 3);
    }
}

/* With `narrow` it has the smallest receive buffer that the kernel allows. */
static int connect_to(uint16_t port, bool narrow)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval patience = {.tv_sec = 1};
    int least = 4096, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (narrow)
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof(least));
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static void begin(struct session *s, bool is_stuck)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    h2_send(s->fd, preface, sizeof(preface) - 1);
    h2_send_window_setting(s->fd, is_stuck ? 1 << 20 : draw_window(s));
    if (is_stuck || !one_in(s, 4))
        h2_send_number(s->fd, H2_WINDOW, 0, INT32_MAX - 65535);
    s->frames += 2;
}

unsigned h2_session_play(uint16_t port, uint64_t seed)
{
    static struct h2_bytes block;
    static const struct choice fill[] = {{step_fill, 30}, {step_window, 1}, {step_post, 1}};
    static const struct choice all[] = {
        {step_get, 12},    {step_post, 3},     {step_data, 5},
        {step_trailer, 1}, {step_settings, 6}, {step_window, 8},
        {step_reset, 2},   {step_priority, 3}, {step_other, 3},
    };
    struct session s = {.next_stream = OPEN_FIRST, .block = &block};

    s.random = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
    for (unsigned i = 0; i < 8; i++)
        (void)draw(&s, 2);
    bool is_stuck = one_in(&s, 2);
    s.fd = connect_to(port, is_stuck || one_in(&s, 2));
    if (s.fd < 0)
        return 0;
    begin(&s, is_stuck);
    if (is_stuck) {
        s.is_paced = true;
        play(&s, fill, sizeof(fill) / sizeof(fill[0]), FILL_LEAST + draw(&s, 100));
    }
    s.is_paced = one_in(&s, 2);
    s.reads = !is_stuck;
    play(&s, all, sizeof(all) / sizeof(all[0]), 1 + draw(&s, STEPS_MOST));
    s.reads = true;
    play(&s, all, sizeof(all) / sizeof(all[0]), draw(&s, 50));
    (void)close(s.fd);
    return s.frames;
}

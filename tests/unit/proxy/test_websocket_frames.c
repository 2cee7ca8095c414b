/* Where frames and messages of a WebSocket end. Every stream is read as a whole, and in two pieces
 * at every place, and byte by byte. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "websocket_frames.h"

#define ROOM ((size_t)70 * 1024)
#define ENDS_MOST 32

enum { TEXT = 1, BINARY = 2, MORE = 0, CLOSE = 8, PING = 9, PONG = 10, FIN = 0x80 };

/* A stream, and where its frames end. */
static struct {
    char bytes[4 * ROOM];
    size_t size;
    size_t frame_ends[ENDS_MOST], message_ends[ENDS_MOST];
    size_t frames, messages;
    size_t close_at; /* SIZE_MAX: there is none */
} made;

static int begin(void **state)
{
    (void)state;
    made.size = made.frames = made.messages = 0;
    made.close_at = SIZE_MAX;
    return 0;
}

/* `width`: of the length, in bytes: 0, 2 or 8. */
static void add_frame(unsigned first, unsigned width, uint64_t length, bool masked, bool ends)
{
    char *at = made.bytes + made.size;

    if ((first & 0x0f) == CLOSE && made.close_at == SIZE_MAX)
        made.close_at = made.size;
    *at++ = (char)first;
    *at++ = (char)((masked ? 0x80 : 0) | (width == 0 ? (unsigned)length : width == 2 ? 126 : 127));
    for (unsigned i = width; i-- > 0;)
        *at++ = (char)(length >> 8 * i);
    if (masked)
        at = (char *)memset(at, 0xf1, 4) + 4;
    memset(at, 0x88, (size_t)length); /* each looks like the beginning of a Close frame */
    made.size = (size_t)(at - made.bytes) + (size_t)length;
    assert_true(made.size <= sizeof(made.bytes));
    made.frame_ends[made.frames++] = made.size;
    if (ends)
        made.message_ends[made.messages++] = made.size;
}

static bool is_among(const size_t *ends, size_t count, size_t at)
{
    for (size_t i = 0; i < count; i++)
        if (ends[i] == at)
            return true;
    return at == 0;
}

static void assert_is_at(const struct websocket_frames *frames, size_t at)
{
    assert_int_equal(websocket_frames_are_at(frames, WEBSOCKET_FRAME),
                     is_among(made.frame_ends, made.frames, at));
    assert_int_equal(websocket_frames_are_at(frames, WEBSOCKET_MESSAGE),
                     is_among(made.message_ends, made.messages, at));
    assert_false(websocket_frames_are_at(frames, WEBSOCKET_CLOSE));
}

static void assert_places(void)
{
    struct websocket_frames bytewise = {0};

    assert_is_at(&bytewise, 0);
    for (size_t at = 0; at < made.size; at++) {
        struct websocket_frames pieces = {0};
        websocket_frames_pass(&pieces, made.bytes, at);
        assert_is_at(&pieces, at);
        assert_is_at(&bytewise, at);
        websocket_frames_pass(&pieces, made.bytes + at, made.size - at);
        assert_is_at(&pieces, made.size);
        websocket_frames_pass(&bytewise, made.bytes + at, 1);
    }
    assert_is_at(&bytewise, made.size);
}

/* The first place that a search from `from` finds. */
static size_t first(enum websocket_place place, size_t from)
{
    for (size_t at = from; at <= made.size; at++) {
        if (place == WEBSOCKET_FRAME && is_among(made.frame_ends, made.frames, at))
            return at;
        if (place == WEBSOCKET_MESSAGE && is_among(made.message_ends, made.messages, at))
            return at;
        if (at == made.close_at && at < made.size)
            return at;
    }
    return SIZE_MAX;
}

static void assert_finds(enum websocket_place place)
{
    for (size_t from = 0; from <= made.size; from++) {
        struct websocket_frames whole = {0};
        size_t want = first(place, from), at = from;
        bool found = false;
        websocket_frames_pass(&whole, made.bytes, from);
        struct websocket_frames bytewise = whole;
        size_t n =
            websocket_frames_find(&whole, place, made.bytes + from, made.size - from, &found);
        assert_int_equal(found, want != SIZE_MAX);
        assert_int_equal(from + n, found ? want : made.size);
        for (found = false; !found && at < made.size;)
            at += websocket_frames_find(&bytewise, place, made.bytes + at, 1, &found);
        if (want < made.size)
            assert_int_equal(at, want);
        else
            assert_int_equal(at, made.size);
    }
}

static void assert_all(void)
{
    assert_places();
    assert_finds(WEBSOCKET_FRAME);
    assert_finds(WEBSOCKET_MESSAGE);
    assert_finds(WEBSOCKET_CLOSE);
}

static void test_every_form_of_a_length(void **state)
{
    (void)state;
    for (unsigned masked = 0; masked < 2; masked++) {
        (void)begin(state);
        add_frame(FIN | TEXT, 0, 0, masked != 0, true);
        add_frame(FIN | TEXT, 0, 1, masked != 0, true);
        add_frame(FIN | BINARY, 0, 125, masked != 0, true);
        add_frame(FIN | BINARY, 2, 126, masked != 0, true);
        add_frame(FIN | BINARY, 2, 3, masked != 0, true); /* longer than it need be */
        add_frame(FIN | BINARY, 8, 300, masked != 0, true);
        add_frame(FIN | BINARY, 8, 0, masked != 0, true);
        assert_all();
    }
}

static void test_large_frames(void **state)
{
    (void)state;
    struct websocket_frames frames = {0};
    add_frame(FIN | BINARY, 2, 65535, true, true);
    add_frame(FIN | BINARY, 8, 65536, false, true);
    for (size_t at = 0; at < made.size;) {
        size_t piece = made.size - at < 997 ? made.size - at : 997;
        websocket_frames_pass(&frames, made.bytes + at, piece);
        at += piece;
        assert_is_at(&frames, at);
    }
}

/* RFC 6455 section 5.4: control frames may stand between the frames of a message. */
static void test_a_message_in_pieces_with_control_frames_between(void **state)
{
    (void)state;
    add_frame(TEXT, 0, 3, true, false);
    add_frame(FIN | PING, 0, 4, true, false);
    add_frame(MORE, 0, 0, true, false);
    add_frame(FIN | PONG, 0, 0, true, false);
    add_frame(FIN | MORE, 0, 5, true, true);
    add_frame(FIN | PING, 0, 0, true, true);
    add_frame(FIN | 0x40 | TEXT, 0, 2, true, true); /* compressed */
    assert_all();
}

static void test_a_close_frame_is_seen_before_it_comes(void **state)
{
    (void)state;
    add_frame(FIN | TEXT, 0, 3, false, true);
    add_frame(BINARY, 0, 2, false, false);
    add_frame(FIN | CLOSE, 0, 2, false, false);
    assert_all();
    struct websocket_frames frames = {0};
    websocket_frames_pass(&frames, made.bytes, made.size - 1);
    assert_false(frames.has_closed);
    websocket_frames_pass(&frames, made.bytes + made.size - 1, 1);
    assert_true(frames.has_closed);
}

static void test_a_close_frame_without_a_status_ends_at_once(void **state)
{
    (void)state;
    add_frame(FIN | CLOSE, 0, 0, true, true);
    assert_all();
}

/* Nothing that follows can be a boundary (RFC 6455 section 5.2: the most significant bit is 0). */
static void test_a_length_that_is_forbidden_has_no_end(void **state)
{
    (void)state;
    static const char head[] = "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff";
    struct websocket_frames frames = {0};
    bool found = true;
    websocket_frames_pass(&frames, head, 10);
    assert_int_equal(websocket_frames_find(&frames, WEBSOCKET_FRAME, head, 10, &found), 10);
    assert_false(found);
    assert_false(websocket_frames_are_at(&frames, WEBSOCKET_FRAME));
}

static void test_our_close_frames(void **state)
{
    (void)state;
    static const uint8_t mask[4] = {1, 2, 3, 4};
    char bytes[WEBSOCKET_CLOSE_MAX];
    struct websocket_frames frames = {0};
    assert_int_equal(websocket_close_make(bytes, WEBSOCKET_GOING_AWAY, NULL), 4);
    assert_memory_equal(bytes, "\x88\x02\x03\xe9", 4);
    assert_int_equal(websocket_close_make(bytes, WEBSOCKET_GOING_AWAY, mask), 8);
    assert_memory_equal(bytes, "\x88\x82\x01\x02\x03\x04\x02\xeb", 8);
    websocket_frames_pass(&frames, bytes, 8);
    assert_true(frames.has_closed);
    assert_true(websocket_frames_are_at(&frames, WEBSOCKET_FRAME));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_every_form_of_a_length, begin),
        cmocka_unit_test_setup(test_large_frames, begin),
        cmocka_unit_test_setup(test_a_message_in_pieces_with_control_frames_between, begin),
        cmocka_unit_test_setup(test_a_close_frame_is_seen_before_it_comes, begin),
        cmocka_unit_test_setup(test_a_close_frame_without_a_status_ends_at_once, begin),
        cmocka_unit_test_setup(test_a_length_that_is_forbidden_has_no_end, begin),
        cmocka_unit_test_setup(test_our_close_frames, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

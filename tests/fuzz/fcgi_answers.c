/* libFuzzer: the answer of a FastCGI application. Read at once and in pieces, it must come to the
 * same: the same verdict, status, body and lines, whatever the pieces are.
 *
 * The first byte of the input says what was asked, and how the pieces are cut. */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fcgi_reader.h"

enum verdict { WHOLE, PART, REFUSED };

struct reading {
    enum verdict verdict;
    int status;
    bool is_over; /* nothing more was to be read */
    char *body;
    size_t size;
    char *lines;
    size_t lines_size;
};

static void on_line(void *data, const char *line, size_t size)
{
    struct reading *reading = data;

    assert(size > 0 && size <= FCGI_LINE_MAX);
    memcpy(reading->lines + reading->lines_size, line, size);
    reading->lines_size += size;
}

/* Returns false if it is over. A piece has memory of its own, so that the sanitizer sees a read
 * beyond it. */
static bool take(struct fcgi_reader *reader, struct reading *reading, const char *bytes,
                 size_t size)
{
    static struct answer_fields fields;
    char *piece = malloc(size);

    assert(piece != NULL);
    memcpy(piece, bytes, size);
    size_t n = fcgi_reader_unframe(reader, piece, size);
    assert(n <= size);
    memcpy(reading->body + reading->size, piece, n);
    free(piece);
    if (!reader->has_head) {
        reading->size += n;
        ssize_t head = fcgi_reader_head(reader, reading->body, reading->size, &fields);
        if (head <= 0)
            return head == 0;
        assert((size_t)head <= reading->size);
        assert(fields.status >= 200 && fields.status <= 999);
        reading->status = fields.status;
        n = reading->size - (size_t)head;
        memmove(reading->body, reading->body + head, n);
        reading->size = 0;
    }
    ssize_t taken = fcgi_reader_body(reader, n);
    if (taken < 0)
        return false;
    assert((size_t)taken <= n);
    reading->size += (size_t)taken;
    return !reader->is_whole;
}

static void read_answer(struct reading *reading, unsigned how, const char *bytes, size_t size,
                        bool in_pieces)
{
    struct fcgi_reader reader;
    bool goes_on = true;

    fcgi_reader_init(&reader, how % 4 == 1, on_line, reading);
    for (size_t at = 0; at < size && goes_on;) {
        size_t n = in_pieces ? 1 + (how + (size_t)(unsigned char)bytes[at]) % 61 : size;
        if (n > size - at)
            n = size - at;
        goes_on = take(&reader, reading, bytes + at, n);
        at += n;
    }
    assert((reader.fault != NULL) == (reader.failure != FCGI_NONE));
    assert(!reader.is_whole || (reader.has_head && fcgi_reader_end(&reader, true)));
    reading->is_over = !goes_on;
    if (reader.fault != NULL)
        reading->verdict = REFUSED;
    else if (reader.has_head && fcgi_reader_end(&reader, true))
        reading->verdict = WHOLE;
    else
        reading->verdict = PART;
}

static void init(struct reading *reading, size_t size)
{
    *reading = (struct reading){.body = malloc(size + 1), .lines = malloc(size + 1)};
    assert(reading->body != NULL && reading->lines != NULL);
}

static void release(struct reading *reading)
{
    free(reading->body);
    free(reading->lines);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct reading once, pieces;

    init(&once, size);
    init(&pieces, size);
    if (size > 0) {
        const char *text = (const char *)bytes + 1;
        read_answer(&once, bytes[0], text, size - 1, false);
        read_answer(&pieces, bytes[0], text, size - 1, true);
        /* The parser sees a fault at once, or when the head is at its end. */
        bool is_early = pieces.status == 0 && once.verdict == REFUSED && pieces.verdict == PART;
        assert(is_early || once.verdict == pieces.verdict);
        assert(once.status == pieces.status);
        if (once.verdict == WHOLE) {
            assert(once.is_over == pieces.is_over);
            assert(once.size == pieces.size && memcmp(once.body, pieces.body, once.size) == 0);
        }
        if (once.verdict != REFUSED) {
            assert(once.lines_size == pieces.lines_size);
            assert(memcmp(once.lines, pieces.lines, once.lines_size) == 0);
        }
    }
    release(&once);
    release(&pieces);
    return 0;
}

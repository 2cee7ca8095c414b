/* libFuzzer: the answer of an upstream. Read at once and in pieces, it must come to the same: the
 * same verdict, status and body, whatever the pieces are. And what the reader calls whole must be
 * so by a second, simple count of its bytes.
 *
 * The first byte of the input says what was asked, and how the pieces are cut. */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "answer_reader.h"
#include "replaced.h"

enum verdict { WHOLE, PART, REFUSED };

struct reading {
    enum verdict verdict;
    int status;
    char *body;
    size_t size;
    bool has_head; /* the final one */
    bool may_keep;
    enum answer_end end;
};

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char error[REPLACED_ERROR_SIZE];

    (void)argc;
    (void)argv;
    return replaced_init(error, sizeof(error)) ? 0 : 1;
}

/* A piece has memory of its own, so that the sanitizer sees a read beyond it. */
static ssize_t read_body(struct answer_reader *reader, struct reading *reading, const char *bytes,
                         size_t size)
{
    char *piece = malloc(size > 0 ? size : 1);

    assert(piece != NULL);
    memcpy(piece, bytes, size);
    ssize_t decoded = answer_reader_body(reader, piece, size);
    if (decoded > 0) {
        assert((size_t)decoded <= size);
        memcpy(reading->body + reading->size, piece, (size_t)decoded);
        reading->size += (size_t)decoded;
    }
    free(piece);
    return decoded;
}

/* Returns whether there is a final head; `*at` is behind the heads. */
static bool read_heads(struct answer_reader *reader, struct reading *reading, const char *bytes,
                       size_t size, size_t *at)
{
    static struct answer_fields fields;

    for (;;) {
        char *rest = malloc(size - *at + 1);
        assert(rest != NULL);
        memcpy(rest, bytes + *at, size - *at);
        ssize_t head = answer_reader_head(reader, rest, size - *at, &fields);
        free(rest);
        if (head < 0) {
            assert(reader->fault != NULL);
            reading->verdict = REFUSED;
        }
        if (head <= 0)
            return false;
        assert((size_t)head <= size - *at);
        *at += (size_t)head;
        reading->status = fields.status;
        if (!answer_is_interim(fields.status))
            return true;
    }
}

static void read_answer(struct reading *reading, unsigned how, const char *bytes, size_t size,
                        bool in_pieces)
{
    struct answer_reader reader;
    size_t come = 0, at = 0;
    bool has_head = false;

    reading->verdict = PART;
    answer_reader_init(&reader, how % 4 == 1, how % 4 == 2);
    while (come < size && reading->verdict == PART && !reader.is_whole) {
        size_t piece = in_pieces ? 1 + (how + (size_t)(unsigned char)bytes[come]) % 61 : size;
        come += piece < size - come ? piece : size - come;
        if (!has_head && !read_heads(&reader, reading, bytes, come, &at))
            continue;
        has_head = true;
        if (read_body(&reader, reading, bytes + at, come - at) < 0)
            reading->verdict = REFUSED;
        at = come;
    }
    if (reading->verdict == PART && has_head && answer_reader_end(&reader, true))
        reading->verdict = WHOLE;
    reading->has_head = has_head;
    reading->may_keep = reader.may_keep;
    reading->end = reader.end;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct reading once = {.body = malloc(size + 1)}, pieces = {.body = malloc(size + 1)};

    assert(once.body != NULL && pieces.body != NULL);
    if (size > 0) {
        const char *text = (const char *)bytes + 1;
        read_answer(&once, bytes[0], text, size - 1, false);
        read_answer(&pieces, bytes[0], text, size - 1, true);
        /* The parser sees a fault at once, or when the head is at its end. */
        assert(once.verdict == pieces.verdict ||
               (!pieces.has_head && once.verdict == REFUSED && pieces.verdict == PART));
        if (once.verdict == WHOLE) {
            assert(once.status == pieces.status && once.may_keep == pieces.may_keep);
            assert(once.size == pieces.size && memcmp(once.body, pieces.body, once.size) == 0);
            assert(once.end != END_AT_ONCE || once.size == 0);
        }
    }
    free(once.body);
    free(pieces.body);
    return 0;
}

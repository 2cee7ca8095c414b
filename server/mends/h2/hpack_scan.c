#include "hpack_scan.h"

#include <string.h>

/* A field is an index into the static table, an index into the dynamic one, or a literal; a
 * literal may enter the dynamic table, where later fields of the same block may refer to it. This
 * file does not change the library's table; it keeps a ring with the sizes of the entries that the
 * block itself has made. Index 0 is the newest of those; larger indices continue in the library's
 * table. Entries that the library would have evicted meanwhile are kept: the library refuses a
 * block that refers to one, so their size does not matter. */

#define STATIC_ENTRIES 61
#define STATIC_BYTES (27 + 13) /* no entry of the static table is longer */
#define FIELD_BYTES 32
#define RING 128 /* the dynamic table holds 4096 bytes, and an entry counts as 32 at least */

enum known { KNOWN_NOT, KNOWN_CONTENT_LENGTH, KNOWN_SCHEME };

struct entry {
    uint32_t bytes;
    uint32_t name_bytes;
    enum known name;
};

struct reader {
    const uint8_t *at, *end;
    h2o_hpack_header_table_t *table;
    struct entry ring[RING];
    size_t entered; /* entries put into the ring, in total */
    bool is_broken;
};

struct text {
    const uint8_t *bytes;
    size_t len;  /* in the block, as sent */
    size_t most; /* decoded */
    bool is_huffman;
};

/* An integer of RFC 7541 section 5.1, as long as the library takes one. */
static size_t read_int(struct reader *reader, unsigned prefix_bits)
{
    size_t most = ((size_t)1 << prefix_bits) - 1;

    if (reader->at == reader->end) {
        reader->is_broken = true;
        return 0;
    }
    size_t value = *reader->at++ & most;
    if (value != most)
        return value;
    for (unsigned i = 0; i < 4 && reader->at < reader->end; i++) {
        uint8_t byte = *reader->at++;
        value += (size_t)(byte & 127) << (7 * i);
        if ((byte & 128) == 0)
            return value;
    }
    reader->is_broken = true;
    return 0;
}

static struct text read_text(struct reader *reader)
{
    struct text text = {0};

    if (reader->at == reader->end) {
        reader->is_broken = true;
        return text;
    }
    text.is_huffman = (*reader->at & 128) != 0;
    text.len = read_int(reader, 7);
    if (text.len > (size_t)(reader->end - reader->at)) {
        reader->is_broken = true;
        text.len = 0;
    }
    text.bytes = reader->at;
    text.most = text.is_huffman ? text.len * 8 / 5 : text.len; /* no code is shorter than 5 bits */
    reader->at += text.len;
    return text;
}

/* `coded` is `plain` in Huffman's code, which has one form for each text. */
static bool is_text(const struct text *text, const char *plain, const char *coded)
{
    const char *want = text->is_huffman ? coded : plain;
    return text->len == strlen(want) && memcmp(text->bytes, want, text->len) == 0;
}

static enum known known_literal(const struct text *name)
{
    if (is_text(name, "content-length", "\x21\xea\x49\x6a\x4a\xd4\x16\xa9\x93\x3f"))
        return KNOWN_CONTENT_LENGTH;
    return is_text(name, ":scheme", "\xb8\x82\x4e\x5a\x4b") ? KNOWN_SCHEME : KNOWN_NOT;
}

static enum known known_token(const h2o_iovec_t *name)
{
    if (name == &H2O_TOKEN_CONTENT_LENGTH->buf)
        return KNOWN_CONTENT_LENGTH;
    return name == &H2O_TOKEN_SCHEME->buf ? KNOWN_SCHEME : KNOWN_NOT;
}

/* The field of an index; `bytes` are those of name and value. */
static struct entry entry_at(struct reader *reader, size_t index)
{
    struct entry entry = {STATIC_BYTES, STATIC_BYTES, KNOWN_NOT};

    if (index <= STATIC_ENTRIES) {
        if (index == 28)
            entry.name = KNOWN_CONTENT_LENGTH;
        else if (index == 6 || index == 7)
            entry.name = KNOWN_SCHEME;
        reader->is_broken |= index == 0;
        return entry;
    }
    index -= STATIC_ENTRIES + 1;
    if (index < reader->entered && index < RING)
        return reader->ring[(reader->entered - 1 - index) % RING];
    if (index < reader->entered || index - reader->entered >= reader->table->num_entries) {
        reader->is_broken = true;
        return entry;
    }
    const h2o_hpack_header_table_entry_t *theirs =
        h2o_hpack_header_table_get(reader->table, index - reader->entered);
    entry.bytes = (uint32_t)(theirs->name->len + theirs->value->len);
    entry.name_bytes = (uint32_t)theirs->name->len;
    entry.name = known_token(theirs->name);
    return entry;
}

static void note_literal(struct hpack_scan *scan, enum known name, const struct text *value)
{
    if (name == KNOWN_SCHEME && !is_text(value, "http", "\x9d\x29\xaf") &&
        !is_text(value, "https", "\x9d\x29\xad\x1f"))
        scan->has_strange_scheme = true;
}

static void scan_literal(struct reader *reader, unsigned prefix_bits, bool enters,
                         struct hpack_scan *scan)
{
    struct entry entry = {0};
    size_t index = read_int(reader, prefix_bits);

    if (index != 0) {
        entry = entry_at(reader, index);
    } else {
        struct text name = read_text(reader);
        entry.name = known_literal(&name);
        entry.name_bytes = (uint32_t)name.most;
        scan->has_empty_name |= name.len == 0 && !reader->is_broken;
    }
    struct text value = read_text(reader);
    if (reader->is_broken)
        return;
    note_literal(scan, entry.name, &value);
    entry.bytes = entry.name_bytes + (uint32_t)value.most;
    if (enters)
        reader->ring[reader->entered++ % RING] = entry;
    scan->bytes += entry.bytes;
    scan->content_lengths += entry.name == KNOWN_CONTENT_LENGTH;
}

/* RFC 7541 section 6: the first bits tell the kind of entry. */
static void scan_field(struct reader *reader, struct hpack_scan *scan)
{
    uint8_t first = *reader->at;

    if (first >= 32 && first < 64) { /* a size update of the dynamic table, not a field */
        (void)read_int(reader, 5);
        return;
    }
    scan->fields++;
    scan->bytes += FIELD_BYTES;
    if (first >= 128) {
        struct entry entry = entry_at(reader, read_int(reader, 7));
        scan->bytes += entry.bytes;
        scan->content_lengths += entry.name == KNOWN_CONTENT_LENGTH;
    } else if (first >= 64) {
        scan_literal(reader, 6, true, scan);
    } else {
        scan_literal(reader, 4, false, scan);
    }
}

void hpack_scan(h2o_hpack_header_table_t *table, const uint8_t *src, size_t len, size_t fields_max,
                size_t bytes_max, struct hpack_scan *ret_scan)
{
    struct reader reader; /* the ring is written before it is read */

    reader.at = src;
    reader.end = src + len;
    reader.table = table;
    reader.entered = 0;
    reader.is_broken = false;
    memset(ret_scan, 0, sizeof(*ret_scan));
    while (reader.at < reader.end && !reader.is_broken && !ret_scan->is_too_much) {
        scan_field(&reader, ret_scan);
        ret_scan->is_too_much = ret_scan->fields > fields_max || ret_scan->bytes > bytes_max;
    }
}

/* libFuzzer: with any content of an in-flight record, its reader terminates, returns the requests
 * that are readable, and names those that are not. Checksums would keep the fuzzer out, so this
 * target corrects them: the input is a sequence of units, each
 *
 *     kind    1 byte: 0 a head, 1 a continuation of the one before, 2 raw: the bytes over all of it
 *     length  2 bytes
 *     bytes   that many, its payload
 *
 * A second run reads the same bytes as a file. */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "record.h"

#define UNITS 8
#define FILE_BYTES (JOURNAL_HEADER_BYTES + UNITS * JOURNAL_UNIT_BYTES)

static void check(const struct unfinished *u)
{
    char why[UNFINISHED_WHY_SIZE];
    struct unfinished back;
    struct unfinished whole = *u;

    whole.archived_ms = 1000;
    char *line = unfinished_line(&whole);
    assert(line != NULL);
    /* Years of five digits and numbers beyond JSON's are no request's. */
    if (u->began_ms < UINT64_C(253402300800000) && u->body_bytes <= INT64_MAX) {
        assert(unfinished_parse(line, strlen(line), &back, why) == 0);
        assert(back.path.len == u->path.len &&
               memcmp(back.path.base, u->path.base, u->path.len) == 0);
        assert(back.header_count == u->header_count && back.body.len == u->body.len);
        unfinished_release(&back);
    }
    free(line);
}

static void walk(const void *bytes, size_t size)
{
    char why[UNFINISHED_WHY_SIZE] = "";
    struct record record;
    struct record_item item;
    uint32_t index = 0;
    int found;

    if (record_open(bytes, size, &record, why) != 0) {
        assert(why[0] != '\0');
        return;
    }
    while ((found = record_next(&record, &index, &item)) == 1) {
        assert((item.kind == RECORD_REQUEST) == (item.why[0] == '\0'));
        assert(item.offset <= size);
        if (item.kind == RECORD_REQUEST)
            check(&item.request);
        unfinished_release(&item.request);
    }
    assert(found == 0);
}

static uint64_t sum_of(const struct journal_unit *unit)
{
    uint64_t sum =
        XXH3_64bits((const uint8_t *)unit + JOURNAL_SUMMED_FROM, JOURNAL_SUMMED_BYTES(unit->bytes));
    return sum > JOURNAL_WRITING ? sum : sum + 2;
}

static void close_unit(struct journal_unit *unit)
{
    if (unit->part == 0)
        atomic_store(&unit->commit, sum_of(unit));
    else
        unit->check = sum_of(unit);
}

static void put_header(uint8_t *file)
{
    struct journal_header h = {.version = JOURNAL_VERSION,
                               .byte_order = JOURNAL_BYTE_ORDER,
                               .header_bytes = JOURNAL_HEADER_BYTES,
                               .unit_bytes = JOURNAL_UNIT_BYTES,
                               .partitions = 2,
                               .units = UNITS / 2,
                               .file_bytes = FILE_BYTES};
    memcpy(h.magic, JOURNAL_MAGIC, sizeof(h.magic));
    h.checksum = XXH3_64bits(&h, offsetof(struct journal_header, checksum));
    memcpy(file, &h, sizeof(h));
}

static void put_units(struct journal_unit *units, const uint8_t *bytes, size_t size)
{
    struct journal_unit *last = NULL;

    for (uint32_t i = 0; i < UNITS && size >= 3; i++) {
        struct journal_unit *unit = &units[i];
        uint8_t kind = bytes[0] % 3;
        size_t n = (size_t)bytes[1] << 8 | bytes[2];
        bytes += 3;
        size -= 3;
        n = n < size ? n : size;
        size_t most = kind == 2 ? sizeof(*unit) : sizeof(unit->payload);
        size_t now = n < most ? n : most;
        memcpy(kind == 2 ? (uint8_t *)unit : unit->payload, bytes, now);
        bytes += n;
        size -= n;
        if (kind == 2) {
            last = NULL;
            continue;
        }
        unit->self = i;
        unit->next = JOURNAL_NO_UNIT;
        unit->bytes = (uint32_t)now;
        if (kind == 1 && last != NULL) {
            unit->part = last->part + 1;
            last->next = i;
            close_unit(last);
        }
        close_unit(unit);
        last = unit;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint8_t *file = calloc(1, FILE_BYTES);
    uint8_t *copy = malloc(size + 1);

    put_header(file);
    put_units((void *)(file + JOURNAL_HEADER_BYTES), bytes, size);
    walk(file, FILE_BYTES);
    walk(file, FILE_BYTES - (size > 0 ? bytes[0] * 37U : 0));
    memcpy(copy, bytes, size);
    walk(copy, size);
    free(copy);
    free(file);
    return 0;
}

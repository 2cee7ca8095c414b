#include "record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include <arpa/inet.h>

#include "address.h"
#include "require.h"

/* ---- the header ---- */

static bool is_text(const char *text, size_t size)
{
    return memchr(text, '\0', size) != NULL;
}

int record_open(const void *bytes, size_t size, struct record *ret_record, char *why)
{
    struct journal_header h;
    const char *wrong = NULL;

    REQUIRE((uintptr_t)bytes % 8 == 0);
    if (size < JOURNAL_HEADER_BYTES) {
        (void)snprintf(why, UNFINISHED_WHY_SIZE, "it has %zu bytes, too few for a header", size);
        return -EBADMSG;
    }
    memcpy(&h, bytes, sizeof(h));
    if (memcmp(h.magic, JOURNAL_MAGIC, sizeof(h.magic)) != 0)
        wrong = "it does not begin as an in-flight record does";
    else if (h.byte_order != JOURNAL_BYTE_ORDER)
        wrong = "it was written by a machine of another byte order";
    else if (h.version != JOURNAL_VERSION)
        wrong = "it was written by another version of lastcall";
    else if (h.checksum != XXH3_64bits(&h, offsetof(struct journal_header, checksum)))
        wrong = "its header fails its checksum";
    else if (h.header_bytes != JOURNAL_HEADER_BYTES || h.unit_bytes != JOURNAL_UNIT_BYTES ||
             h.partitions == 0 || h.partitions > JOURNAL_PARTITIONS_MAX || h.units == 0 ||
             h.units > JOURNAL_UNITS_MAX / h.partitions ||
             h.file_bytes !=
                 JOURNAL_HEADER_BYTES + (uint64_t)h.partitions * h.units * JOURNAL_UNIT_BYTES ||
             !is_text(h.boot_id, sizeof(h.boot_id)) || !is_text(h.server, sizeof(h.server)) ||
             !is_text(h.key_id, sizeof(h.key_id)))
        wrong = "its header has impossible values";
    if (wrong != NULL) {
        (void)snprintf(why, UNFINISHED_WHY_SIZE, "%s", wrong);
        return -EBADMSG;
    }
    size_t whole = (size - JOURNAL_HEADER_BYTES) / JOURNAL_UNIT_BYTES;
    uint32_t units = h.partitions * h.units;
    *ret_record = (struct record){.bytes = bytes,
                                  .size = size,
                                  .header = h,
                                  .units = whole < units ? (uint32_t)whole : units};
    return 0;
}

bool record_is_name(const char *name, bool *ret_is_new)
{
    size_t n = strlen("inflight.");

    if (strncmp(name, "inflight.", n) != 0)
        return false;
    size_t digits = strspn(name + n, "0123456789");
    n += digits;
    if (digits > 0 && name[n] == '.' && name[n + 1] >= '0' && name[n + 1] <= '9')
        n += 1 + strspn(name + n + 1, "0123456789");
    *ret_is_new = strcmp(name + n, ".new") == 0;
    return digits > 0 && (name[n] == '\0' || *ret_is_new);
}

/* ---- a chain of units ---- */

static const struct journal_unit *unit_at(const struct record *record, uint32_t index)
{
    return (const void *)(record->bytes + JOURNAL_HEADER_BYTES +
                          (size_t)index * JOURNAL_UNIT_BYTES);
}

static uint64_t sum_of(const struct journal_unit *unit)
{
    uint64_t sum =
        XXH3_64bits((const uint8_t *)unit + JOURNAL_SUMMED_FROM, JOURNAL_SUMMED_BYTES(unit->bytes));
    return sum > JOURNAL_WRITING ? sum : sum + 2; /* these two values have other meanings */
}

static bool is_good(const struct journal_unit *unit, uint64_t sum, uint32_t index, uint32_t part)
{
    return unit->bytes <= JOURNAL_PAYLOAD_BYTES && unit->self == index && unit->part == part &&
           sum == sum_of(unit);
}

/* All payloads of a chain, one after the other. In a chain with a loop some unit has the wrong
 * `part`. */
static int gather(const struct record *record, uint32_t head, uint8_t **ret_bytes, size_t *ret_size,
                  char *why)
{
    uint8_t *bytes = NULL;
    size_t size = 0, room = 0;
    uint32_t index = head;
    const uint64_t serial = unit_at(record, head)->serial;

    for (uint32_t part = 0; index != JOURNAL_NO_UNIT; part++) {
        if (index >= record->units) {
            (void)snprintf(why, UNFINISHED_WHY_SIZE, "its part %" PRIu32 " is not in the file",
                           part);
            free(bytes);
            return -EBADMSG;
        }
        const struct journal_unit *unit = unit_at(record, index);
        uint64_t sum =
            part == 0 ? atomic_load_explicit(&unit->commit, memory_order_relaxed) : unit->check;
        if (!is_good(unit, sum, index, part) || unit->serial != serial) {
            (void)snprintf(why, UNFINISHED_WHY_SIZE,
                           "its part %" PRIu32 ", at offset %zu, fails its checksum", part,
                           (size_t)((const uint8_t *)unit - record->bytes));
            free(bytes);
            return -EBADMSG;
        }
        if (bytes == NULL || size + unit->bytes > room) {
            room = room == 0 ? JOURNAL_UNIT_BYTES : 2 * room;
            uint8_t *grown = realloc(bytes, room);
            if (grown == NULL) {
                free(bytes);
                return -ENOMEM;
            }
            bytes = grown;
        }
        memcpy(bytes + size, unit->payload, unit->bytes);
        size += unit->bytes;
        index = unit->next;
    }
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

/* ---- what is in it ---- */

struct cursor {
    const uint8_t *at;
    size_t left;
    int err;
};

static const void *take(struct cursor *cursor, size_t n)
{
    const void *at = cursor->at;

    if (cursor->err != 0 || n > cursor->left) {
        cursor->err = cursor->err != 0 ? cursor->err : -EBADMSG;
        return NULL;
    }
    cursor->at += n;
    cursor->left -= n;
    return at;
}

static void take_text(struct cursor *cursor, size_t n, struct unfinished_text *ret_text)
{
    const void *at = take(cursor, n);

    if (at == NULL)
        return;
    ret_text->base = malloc(n + 1);
    if (ret_text->base == NULL) {
        cursor->err = -ENOMEM;
        return;
    }
    memcpy(ret_text->base, at, n);
    ret_text->base[n] = '\0';
    ret_text->len = n;
}

static void take_headers(struct cursor *cursor, uint32_t count, struct unfinished *u)
{
    if (count > cursor->left / sizeof(struct journal_field)) {
        cursor->err = -EBADMSG;
        return;
    }
    u->headers = count > 0 ? calloc(count, sizeof(*u->headers)) : NULL;
    if (count > 0 && u->headers == NULL)
        cursor->err = -ENOMEM;
    for (uint32_t i = 0; i < count && cursor->err == 0; i++) {
        struct journal_field field;
        const void *at = take(cursor, sizeof(field));
        if (at == NULL)
            return;
        memcpy(&field, at, sizeof(field));
        u->header_count = i + 1;
        u->headers[i].redacted = (field.value_bytes & JOURNAL_FIELD_REDACTED) != 0;
        take_text(cursor, field.name_bytes, &u->headers[i].name);
        take_text(cursor, field.value_bytes & ~JOURNAL_FIELD_REDACTED, &u->headers[i].value);
    }
}

static void hex(const uint8_t *bytes, size_t n, char *text)
{
    for (size_t i = 0; i < n; i++)
        (void)sprintf(text + 2 * i, "%02x", bytes[i]);
}

static void format_peer(const struct journal_entry *entry, char *text, size_t size)
{
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};
    struct sockaddr_in *in = (void *)&peer;
    struct sockaddr_in6 *in6 = (void *)&peer;

    if (entry->peer_family == JOURNAL_PEER_IN) {
        in->sin_family = AF_INET;
        in->sin_port = htons(entry->peer_port);
        memcpy(&in->sin_addr, entry->peer_address, sizeof(in->sin_addr));
    } else if (entry->peer_family == JOURNAL_PEER_IN6) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(entry->peer_port);
        memcpy(&in6->sin6_addr, entry->peer_address, sizeof(in6->sin6_addr));
    }
    if (!address_text(&peer, text, size))
        (void)snprintf(text, size, "%s", entry->peer_family == JOURNAL_PEER_UNIX ? "unix" : "?");
}

static enum unfinished_state state_of(uint32_t state)
{
    return state == JOURNAL_QUEUED       ? UNFINISHED_STATE_QUEUED
           : state == JOURNAL_RESPONDING ? UNFINISHED_STATE_RESPONDING
                                         : UNFINISHED_STATE_RUNNING;
}

static int decode(const uint8_t *bytes, size_t size, struct unfinished *u)
{
    static const uint8_t no_digest[32];
    struct cursor cursor = {.at = bytes, .left = size};
    struct journal_entry entry;
    const void *at = take(&cursor, sizeof(entry));

    if (at == NULL)
        return -EBADMSG;
    memcpy(&entry, at, sizeof(entry));
    if (entry.gap >= UNFINISHED_GAP_COUNT)
        return -EBADMSG;
    hex(entry.id, sizeof(entry.id), u->id);
    u->began_ms = entry.began_ms;
    u->body_bytes = entry.body_bytes;
    u->gap = (enum unfinished_gap)entry.gap;
    if (memcmp(entry.sha256, no_digest, sizeof(no_digest)) != 0)
        hex(entry.sha256, sizeof(entry.sha256), u->sha256);
    (void)strcpy(u->scheme, entry.is_https ? "https" : "http");
    format_peer(&entry, u->client, sizeof(u->client));
    take_text(&cursor, entry.method_bytes, &u->method);
    take_text(&cursor, entry.authority_bytes, &u->authority);
    take_text(&cursor, entry.path_bytes, &u->path);
    take_headers(&cursor, entry.header_count, u);
    if (u->gap == UNFINISHED_GAP_NONE && entry.body_bytes > cursor.left)
        return -EBADMSG; /* checked before the conversion to size_t */
    if (u->gap == UNFINISHED_GAP_NONE)
        take_text(&cursor, (size_t)entry.body_bytes, &u->body);
    return cursor.err != 0 ? cursor.err : cursor.left == 0 ? 0 : -EBADMSG;
}

static int read_request(const struct record *record, uint32_t index, struct record_item *item)
{
    uint8_t *bytes = NULL;
    size_t size = 0;
    const struct journal_unit *head = unit_at(record, index);

    int err = gather(record, index, &bytes, &size, item->why);
    if (err == 0) {
        err = decode(bytes, size, &item->request);
        if (err == -EBADMSG)
            (void)snprintf(item->why, sizeof(item->why),
                           "its checksums match, but its content is invalid");
    }
    free(bytes);
    item->request.state = state_of(atomic_load_explicit(&head->state, memory_order_relaxed));
    (void)snprintf(item->request.server, sizeof(item->request.server), "%s", record->header.server);
    if (err != 0)
        unfinished_release(&item->request);
    return err;
}

int record_next(const struct record *record, uint32_t *index, struct record_item *ret_item)
{
    while (*index < record->units) {
        const uint32_t at = (*index)++;
        /* relaxed: a lock orders the reader after the writer's last store */
        uint64_t commit = atomic_load_explicit(&unit_at(record, at)->commit, memory_order_relaxed);
        if (commit == JOURNAL_FREE)
            continue;
        memset(ret_item, 0, sizeof(*ret_item));
        ret_item->unit = at;
        ret_item->offset = JOURNAL_HEADER_BYTES + (uint64_t)at * JOURNAL_UNIT_BYTES;
        if (commit == JOURNAL_WRITING) {
            ret_item->kind = RECORD_TORN;
            (void)snprintf(ret_item->why, sizeof(ret_item->why), "it was being written");
            return 1;
        }
        int err = read_request(record, at, ret_item);
        ret_item->kind = err == 0 ? RECORD_REQUEST : RECORD_DAMAGED;
        return err == -ENOMEM ? err : 1;
    }
    if (*index == record->units && record->size < record->header.file_bytes) {
        (*index)++;
        memset(ret_item, 0, sizeof(*ret_item));
        ret_item->kind = RECORD_DAMAGED;
        ret_item->unit = JOURNAL_NO_UNIT;
        ret_item->offset = record->size;
        (void)snprintf(ret_item->why, sizeof(ret_item->why),
                       "the file ends here, %" PRIu64 " bytes short",
                       record->header.file_bytes - record->size);
        return 1;
    }
    return 0;
}

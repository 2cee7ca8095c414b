#include "journal_p.h"

#include <errno.h>
#include <fnmatch.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "clock.h"
#include "log.h"
#include "require.h"

/* A request's slot, as its loop writes it: see journal_format.h for the layout and the commit note.
 *
 *     journal_begin()       takes a unit for the head, marks it JOURNAL_WRITING, appends the texts
 *     journal_add_header()  appends a header
 *     journal_commit()      appends the body, closes the head with its checksum
 *
 * put() fills units, and takes another one where a unit is full. If none is free, or the headers
 * are too large, the slot falls back to its head: method, authority and path, as far as they fit,
 * without headers and body. */

#define HEADER_BYTES_MAX (64 << 10)
#define FALLBACK_TEXT_MAX 1024 /* the longest method, authority and path in a head alone */
#define SAY_EVERY_NS (10 * NS_PER_S)

static void count_to(_Atomic uint64_t *count, uint64_t n)
{
    atomic_store_explicit(count, n, memory_order_relaxed); /* there is one writer */
}

static void count_more(_Atomic uint64_t *count)
{
    count_to(count, atomic_load_explicit(count, memory_order_relaxed) + 1);
}

/* ---- which ---- */

static bool is_among(const struct journal_words *words, const char *text, size_t len)
{
    for (size_t i = 0; i < words->count; i++)
        if (words->items[i].len == len && memcmp(words->items[i].base, text, len) == 0)
            return true;
    return false;
}

static bool path_is_wanted(const struct journal *journal, const char *path, size_t len)
{
    char text[2048];

    for (size_t i = 0; i < journal->paths.count; i++) {
        const struct unfinished_text *word = &journal->paths.items[i];
        if (strpbrk(word->base, "*?[") == NULL && word->len <= len &&
            memcmp(word->base, path, word->len) == 0)
            return true;
    }
    if (!journal->has_patterns)
        return false;
    const char *query = memchr(path, '?', len);
    size_t n = query != NULL ? (size_t)(query - path) : len;
    n = n < sizeof(text) ? n : sizeof(text) - 1;
    memcpy(text, path, n);
    text[n] = '\0';
    for (size_t i = 0; i < journal->paths.count; i++)
        if (strpbrk(journal->paths.items[i].base, "*?[") != NULL &&
            fnmatch(journal->paths.items[i].base, text, 0) == 0)
            return true;
    return false;
}

bool journal_wants(const struct journal_part *part, const char *method, size_t method_len,
                   const char *path, size_t path_len)
{
    const struct journal *journal = part->journal;

    return (journal->every_method || is_among(&journal->methods, method, method_len)) &&
           (journal->every_path || path_is_wanted(journal, path, path_len));
}

/* ---- units ---- */

static struct journal_unit *unit_at(const struct journal_part *part, uint32_t index)
{
    REQUIRE(index >= part->first && index - part->first < part->unit_count);
    return &part->units[index - part->first];
}

static void require_owner(const struct journal_part *part)
{
    REQUIRE(!part->has_owner || pthread_equal(part->owner, pthread_self()));
}

static struct journal_unit *take_unit(struct journal_part *part, uint32_t number)
{
    REQUIRE(part->free_count > 0);
    uint32_t index = part->free[--part->free_count];
    struct journal_unit *unit = unit_at(part, index);

    if (index - part->first >= atomic_load_explicit(&part->top, memory_order_relaxed))
        atomic_store_explicit(&part->top, index - part->first + 1, memory_order_relaxed);
    if (number == 0) {
        /* Before anything else changes: see commit note. */
        atomic_store_explicit(&unit->commit, JOURNAL_WRITING, memory_order_relaxed);
        atomic_signal_fence(memory_order_seq_cst);
    }
    unit->serial = part->serial;
    unit->self = index;
    unit->next = JOURNAL_NO_UNIT;
    unit->part = number;
    unit->bytes = 0;
    count_to(&part->units_used, part->unit_count - part->free_count);
    return unit;
}

static void give_back(struct journal_part *part, uint32_t index)
{
    while (index != JOURNAL_NO_UNIT) {
        REQUIRE(part->free_count < part->unit_count);
        part->free[part->free_count++] = index;
        index = unit_at(part, index)->next;
    }
    count_to(&part->units_used, part->unit_count - part->free_count);
}

static uint64_t sum_of(const struct journal_unit *unit)
{
    uint64_t sum =
        XXH3_64bits((const uint8_t *)unit + JOURNAL_SUMMED_FROM, JOURNAL_SUMMED_BYTES(unit->bytes));
    return sum > JOURNAL_WRITING ? sum : sum + 2; /* these two values have other meanings */
}

static void put(struct journal_part *part, const void *bytes, size_t n)
{
    const uint8_t *from = bytes;

    while (n > 0 && part->gap == UNFINISHED_GAP_NONE) {
        struct journal_unit *tail = part->tail;
        size_t room = JOURNAL_PAYLOAD_BYTES - tail->bytes, now = n < room ? n : room;
        if (now == 0 && part->free_count <= part->reserve) {
            part->gap = UNFINISHED_GAP_NO_ROOM;
        } else if (now == 0) {
            part->tail = take_unit(part, tail->part + 1);
            tail->next = part->tail->self;
            if (tail != part->head)
                tail->check = sum_of(tail);
        } else {
            memcpy(tail->payload + tail->bytes, from, now);
            tail->bytes += (uint32_t)now;
            from += now;
            n -= now;
        }
    }
}

/* ---- a request ---- */

static void set_peer(struct journal_entry *entry, const struct sockaddr *peer)
{
    if (peer == NULL)
        return;
    if (peer->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)peer;
        entry->peer_family = JOURNAL_PEER_IN;
        entry->peer_port = ntohs(in->sin_port);
        memcpy(entry->peer_address, &in->sin_addr, 4);
    } else if (peer->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)peer;
        entry->peer_family = JOURNAL_PEER_IN6;
        entry->peer_port = ntohs(in6->sin6_port);
        memcpy(entry->peer_address, &in6->sin6_addr, 16);
    } else if (peer->sa_family == AF_UNIX) {
        entry->peer_family = JOURNAL_PEER_UNIX;
    }
}

/* 6 bytes of time, 4 of this process, 1 of the partition, 5 of a counter: ids sort by time, and
 * none comes twice. */
static void make_id(const struct journal_part *part, uint8_t id[16], uint64_t ms)
{
    for (unsigned i = 0; i < 6; i++)
        id[i] = (uint8_t)(ms >> (40 - 8 * i));
    memcpy(id + 6, part->journal->id_salt, 4);
    id[10] = part->index;
    for (unsigned i = 0; i < 5; i++)
        id[11 + i] = (uint8_t)(part->serial >> (32 - 8 * i));
}

/* Rate-limited: a server without free slots should not be busy logging it. */
static void say_unrecorded(struct journal_part *part)
{
    static _Atomic uint64_t next_ns; /* relaxed: to log it twice does no harm */
    uint64_t now_ns = clock_now_ns();

    count_more(&part->unrecorded);
    if (now_ns < atomic_load_explicit(&next_ns, memory_order_relaxed))
        return;
    atomic_store_explicit(&next_ns, now_ns + SAY_EVERY_NS, memory_order_relaxed);
    log_line(LOG_LEVEL_ERROR, "unrecorded",
             json_pack("{s:I}", "count", (json_int_t)atomic_load(&part->unrecorded)),
             "the in-flight record is full: requests run without a record (raise "
             "journal.max-inflight-bytes)");
}

static void put_texts(struct journal_part *part, size_t longest)
{
    const struct journal_request *r = &part->request;
    struct journal_entry *entry = &part->entry;

    entry->method_bytes = (uint32_t)(r->method.len < longest ? r->method.len : longest);
    entry->authority_bytes = (uint32_t)(r->authority.len < longest ? r->authority.len : longest);
    entry->path_bytes = (uint32_t)(r->path.len < longest ? r->path.len : longest);
    put(part, r->method.base, entry->method_bytes);
    put(part, r->authority.base, entry->authority_bytes);
    put(part, r->path.base, entry->path_bytes);
}

struct journal_slot *journal_begin(struct journal_part *part, const struct journal_request *request)
{
    struct journal_entry *entry = &part->entry;

    require_owner(part);
    REQUIRE(part->head == NULL); /* the slot before this one was committed */
    if (part->free_count == 0) {
        say_unrecorded(part);
        return NULL;
    }
    part->owner = pthread_self();
    part->has_owner = true;
    part->serial++;
    part->request = *request;
    part->gap = UNFINISHED_GAP_NONE;
    part->header_bytes = 0;
    part->head = part->tail = take_unit(part, 0);
    atomic_store_explicit(&part->head->state, JOURNAL_RUNNING, memory_order_relaxed);
    memset(entry, 0, sizeof(*entry));
    entry->began_ms =
        (uint64_t)(part->journal->wall_minus_mono_ms + (int64_t)(request->began_ns / NS_PER_MS));
    make_id(part, entry->id, entry->began_ms);
    entry->body_bytes = request->body_bytes;
    entry->is_https = request->is_https;
    set_peer(entry, request->peer);
    part->head->bytes = sizeof(*entry); /* journal_commit() writes it */
    put_texts(part, UINT32_MAX);
    count_to(&part->slots_used, atomic_load_explicit(&part->slots_used, memory_order_relaxed) + 1);
    return (struct journal_slot *)part->head;
}

/* `hmac-sha256:` and the hex digits. */
#define DIGEST_TEXT_BYTES (12 + 64)

static void digest_value(struct journal_part *part, const char *value, size_t len, char *text)
{
    uint8_t digest[32] = {0};
    size_t n = 0;

    if (EVP_MAC_init(part->mac, NULL, 0, NULL) != 1 ||
        EVP_MAC_update(part->mac, (const uint8_t *)value, len) != 1 ||
        EVP_MAC_final(part->mac, digest, &n, sizeof(digest)) != 1)
        memset(digest, 0, sizeof(digest)); /* do not store the value itself */
    memcpy(text, "hmac-sha256:", 12);
    for (size_t i = 0; i < sizeof(digest); i++) {
        text[12 + 2 * i] = "0123456789abcdef"[digest[i] >> 4];
        text[13 + 2 * i] = "0123456789abcdef"[digest[i] & 15];
    }
}

void journal_add_header(struct journal_part *part, const char *name, size_t name_len,
                        const char *value, size_t value_len)
{
    char digest[DIGEST_TEXT_BYTES];
    require_owner(part);
    REQUIRE(part->head != NULL);
    bool redacted = is_among(&part->journal->redact, name, name_len);

    if (redacted) {
        digest_value(part, value, value_len, digest);
        value = digest;
        value_len = sizeof(digest);
    }
    part->header_bytes += name_len + value_len;
    if (part->header_bytes > HEADER_BYTES_MAX && part->gap == UNFINISHED_GAP_NONE)
        part->gap = UNFINISHED_GAP_HEADERS_TOO_LARGE;
    const struct journal_field field = {.name_bytes = (uint32_t)name_len,
                                        .value_bytes = (uint32_t)value_len |
                                                       (redacted ? JOURNAL_FIELD_REDACTED : 0)};
    put(part, &field, sizeof(field));
    put(part, name, name_len);
    put(part, value, value_len);
    part->entry.header_count++;
}

/* Keep the head only. */
static void fall_back(struct journal_part *part)
{
    enum unfinished_gap gap = part->gap;

    give_back(part, part->head->next);
    part->head->next = JOURNAL_NO_UNIT;
    part->head->bytes = sizeof(part->entry);
    part->tail = part->head;
    part->entry.header_count = 0;
    part->gap = UNFINISHED_GAP_NONE; /* the shortened texts fit */
    put_texts(part, FALLBACK_TEXT_MAX);
    part->gap = gap;
}

static bool body_has_room(const struct journal_part *part, size_t bytes)
{
    size_t here = JOURNAL_PAYLOAD_BYTES - part->tail->bytes;
    size_t more =
        bytes > here ? (bytes - here + JOURNAL_PAYLOAD_BYTES - 1) / JOURNAL_PAYLOAD_BYTES : 0;
    return more == 0 || part->free_count >= part->reserve + more;
}

void journal_commit(struct journal_part *part, const char *body)
{
    struct journal_unit *head = part->head;
    size_t bytes = part->request.body_bytes;

    require_owner(part);
    REQUIRE(head != NULL);
    REQUIRE(atomic_load_explicit(&head->commit, memory_order_relaxed) == JOURNAL_WRITING);
    _Static_assert(sizeof(part->entry) + 3 * FALLBACK_TEXT_MAX <= JOURNAL_PAYLOAD_BYTES, "it fits");
    if (part->gap != UNFINISHED_GAP_NONE)
        fall_back(part);
    else if (bytes > part->journal->max_body)
        part->gap = UNFINISHED_GAP_BODY_TOO_LARGE;
    else if (!body_has_room(part, bytes))
        part->gap = UNFINISHED_GAP_NO_ROOM;
    if (part->gap != UNFINISHED_GAP_NONE) {
        (void)EVP_Digest(body, bytes, part->entry.sha256, NULL, EVP_sha256(), NULL);
        count_more(&part->incomplete);
    } else {
        put(part, body, bytes);
    }
    part->entry.gap = part->gap;
    memcpy(head->payload, &part->entry, sizeof(part->entry));
    if (part->tail != head)
        part->tail->check = sum_of(part->tail);
    /* release: after all bytes of the checksum; see commit note */
    atomic_store_explicit(&head->commit, sum_of(head), memory_order_release);
    count_more(&part->recorded);
    part->head = part->tail = NULL;
}

static struct journal_unit *unit_of(struct journal_slot *slot)
{
    return (struct journal_unit *)slot;
}

void journal_set_queued(struct journal_slot *slot)
{
    atomic_store_explicit(&unit_of(slot)->state, JOURNAL_QUEUED, memory_order_release);
}

void journal_set_running(struct journal_slot *slot)
{
    atomic_store_explicit(&unit_of(slot)->state, JOURNAL_RUNNING, memory_order_release);
}

void journal_set_responding(struct journal_slot *slot)
{
    atomic_store_explicit(&unit_of(slot)->state, JOURNAL_RESPONDING, memory_order_release);
}

void journal_free(struct journal_part *part, struct journal_slot *slot)
{
    struct journal_unit *head = unit_of(slot);

    require_owner(part);
    REQUIRE(!atomic_load_explicit(&part->frozen, memory_order_relaxed));
    REQUIRE(head != part->head); /* it was committed */
    /* release: after the answer was handed to the kernel */
    atomic_store_explicit(&head->commit, JOURNAL_FREE, memory_order_release);
    give_back(part, head->self);
    count_to(&part->slots_used, atomic_load_explicit(&part->slots_used, memory_order_relaxed) - 1);
}

void journal_freeze(struct journal_part *part)
{
    require_owner(part);
    atomic_store_explicit(&part->frozen, true, memory_order_release);
}

/* ---- a worker ---- */

static void sync_slot(const struct journal_part *part, const struct journal_unit *unit)
{
    size_t page = part->journal->page_bytes;

    for (;;) {
        uintptr_t from = (uintptr_t)unit & ~(uintptr_t)(page - 1);
        uintptr_t to = (uintptr_t)unit + JOURNAL_UNIT_BYTES;
        /* A failure does not matter here: the slot is still in memory, and the handler runs anyway.
         */
        (void)msync((void *)from, to - from, MS_SYNC);
        if (unit->next == JOURNAL_NO_UNIT)
            return;
        unit = unit_at(part, unit->next);
    }
}

void journal_mark_running(struct journal_part *part, struct journal_slot *slot)
{
    atomic_store_explicit(&unit_of(slot)->state, JOURNAL_RUNNING, memory_order_relaxed);
    /* No instruction of the handler may come before this store: see commit note. */
    atomic_signal_fence(memory_order_seq_cst);
    if (part->journal->sync == JOURNAL_SYNC_MSYNC)
        sync_slot(part, unit_of(slot));
}

/* ---- onlookers ---- */

const char *journal_path(const struct journal *journal)
{
    return journal->path;
}

struct journal_part *journal_part(struct journal *journal, unsigned index)
{
    REQUIRE(index < journal->part_count);
    return &journal->parts[index];
}

static uint64_t read_count(_Atomic uint64_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

void journal_get_stats(struct journal *journal, struct journal_stats *ret_stats)
{
    memset(ret_stats, 0, sizeof(*ret_stats));
    for (unsigned i = 0; i < journal->part_count; i++) {
        struct journal_part *part = &journal->parts[i];
        ret_stats->units += part->unit_count;
        ret_stats->units_used += read_count(&part->units_used);
        ret_stats->slots_used += read_count(&part->slots_used);
        ret_stats->recorded += read_count(&part->recorded);
        ret_stats->incomplete += read_count(&part->incomplete);
        ret_stats->unrecorded += read_count(&part->unrecorded);
    }
    ret_stats->archived = read_count(&journal->archived);
    ret_stats->torn = read_count(&journal->torn);
    ret_stats->damaged = read_count(&journal->damaged);
}

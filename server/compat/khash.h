#ifndef LASTCALL_COMPAT_KHASH_H
#define LASTCALL_COMPAT_KHASH_H

/* h2o/http2_internal.h needs klib's khash.h, which Debian's libh2o packages leave out. This header
 * reads the library's tables of streams of an HTTP/2 connection, by their ids. It never changes
 * one.
 *
 * A table has a power of two of places, with open addressing: a key's hash is the first place
 * to look at, then 1, 2, 3 ... places further, up to a place that was never used. `flags` has two
 * bits for each place, sixteen places in a word: 2 never used, 1 no longer used, 0 holds a key. */

#include <stdbool.h>
#include <stdint.h>

typedef uint32_t khiter_t;

static inline unsigned lastcall_khash_flag(const uint32_t *flags, khiter_t place)
{
    return flags[place >> 4] >> ((place & 15) << 1) & 3;
}

#define KHASH_MAP_INIT_INT64(name, value_type)                                                     \
    struct lastcall_khash_##name {                                                                 \
        uint32_t places, size, used, most;                                                         \
        uint32_t *flags;                                                                           \
        uint64_t *keys;                                                                            \
        value_type *values;                                                                        \
    };                                                                                             \
    /* The place of `key`; `places` if it is missing. */                                           \
    static inline khiter_t lastcall_khash_find_##name(const struct lastcall_khash_##name *table,   \
                                                      uint64_t key)                                \
    {                                                                                              \
        khiter_t mask = table->places - 1;                                                         \
        khiter_t place = (khiter_t)(key >> 33 ^ key ^ key << 11) & mask;                           \
        for (khiter_t step = 1; step <= table->places; place = (place + step++) & mask) {          \
            unsigned flag = lastcall_khash_flag(table->flags, place);                              \
            if (flag == 0 && table->keys[place] == key)                                            \
                return place;                                                                      \
            if ((flag & 2) != 0)                                                                   \
                break;                                                                             \
        }                                                                                          \
        return table->places;                                                                      \
    }

#define khash_t(name) struct lastcall_khash_##name
#define kh_get(name, table, key) lastcall_khash_find_##name(table, key)
#define kh_end(table) ((table)->places)
#define kh_exist(table, place) (lastcall_khash_flag((table)->flags, place) == 0)
#define kh_val(table, place) ((table)->values[place])

#endif

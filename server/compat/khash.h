#ifndef LASTCALL_COMPAT_KHASH_H
#define LASTCALL_COMPAT_KHASH_H

/* h2o/http2_internal.h wants klib's khash.h, which Debian's libh2o packages leave out. We use that
 * header for the layout of h2o_http2_conn_t, in which the hash table is a mere pointer, and never
 * touch the table: so an incomplete type will do. The one inline function that looks into it must
 * not be called from here; it traps. */

#include <stdint.h>

typedef uint32_t khiter_t;

#define KHASH_MAP_INIT_INT64(name, value_type)                                                     \
    struct lastcall_khash_##name;                                                                  \
    typedef value_type lastcall_khash_value_##name;
#define khash_t(name) struct lastcall_khash_##name
#define kh_get(name, table, key) (__builtin_trap(), (void)(table), (void)(key), (khiter_t)0)
#define kh_end(table) ((khiter_t)0)
#define kh_val(table, at) ((h2o_http2_stream_t *)NULL)

#endif

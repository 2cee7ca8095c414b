#ifndef LASTCALL_MUX_P_H
#define LASTCALL_MUX_P_H

/* What the files of the mux share: a pattern, taken apart. */

#include "mux.h"

enum mux_kind {
    MUX_LITERAL, /* a text */
    MUX_ONE,     /* {name} */
    MUX_REST,    /* {name...}, or the empty segment of a pattern that ends with '/'; the last */
    MUX_END      /* {$}; the last */
};

struct mux_segment {
    enum mux_kind kind;
    const char *text; /* of a literal, decoded; of a parameter, its name, "" without; in `memory` */
    size_t bytes;
};

struct mux_pattern {
    struct mux_pattern *next;
    void *value;
    char *text; /* as it was given */
    char *memory;
    const char *method; /* in `memory`; "": any */
    size_t count;
    struct mux_segment segment[];
};

/* 0; -EINVAL and one line in `error`; -ENOMEM.     Owner: the caller: mux_pattern_destroy(). */
int mux_pattern_create(const char *text, struct mux_pattern **ret_pattern, char error[MUX_ERROR]);
void mux_pattern_destroy(struct mux_pattern *pattern);

/* How the requests of one pattern relate to those of another. */
enum mux_relation {
    MUX_SAME,
    MUX_WIDER,    /* the first takes all of the second's, and more */
    MUX_NARROWER, /* the second takes all of the first's, and more */
    MUX_CROSSING, /* both take some, and each takes some that the other does not */
    MUX_APART     /* no request is for both */
};
enum mux_relation mux_compare(const struct mux_pattern *a, const struct mux_pattern *b);
/* Of their methods alone; "": any. */
enum mux_relation mux_compare_methods(const char *a, const char *b);

/* Compare a segment of a path, its %XX decoded as it goes, with a text, as memcmp(3) does. */
int mux_compare_segment(const char *segment, size_t segment_bytes, const char *text, size_t bytes);

/* Read one byte of a segment, its %XX decoded; returns how many bytes of the segment it took. */
size_t mux_decode_one(const char *at, size_t left, unsigned char *ret_byte);

#endif

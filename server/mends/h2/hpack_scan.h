#ifndef LASTCALL_HPACK_SCAN_H
#define LASTCALL_HPACK_SCAN_H

/* The size of an HTTP/2 header block after decoding (RFC 7541), without decoding it. A reference of
 * one byte may stand for a field of 4 KB, so a block must be measured before it is decoded. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "h2o_api.h"

struct hpack_scan {
    size_t fields;
    size_t bytes; /* names, values and 32 for each field (RFC 9113 section 6.5.2), rounded up: a
                   * text in Huffman's code counts with its largest decoded length */
    unsigned content_lengths;
    bool has_empty_name;
    bool has_strange_scheme; /* neither http nor https */
    bool is_too_much;        /* a limit was exceeded; the rest was not measured */
};

/* Measure `len` bytes from `src` on, which refer to the dynamic table `table`; stop beyond
 * `fields_max` or `bytes_max`. A block that breaks RFC 7541 is measured up to there; the library
 * then refuses it.     Thread: owner loop only.     Blocks: never. */
void hpack_scan(h2o_hpack_header_table_t *table, const uint8_t *src, size_t len, size_t fields_max,
                size_t bytes_max, struct hpack_scan *ret_scan);

#endif

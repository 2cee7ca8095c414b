#ifndef LASTCALL_CONFIG_TREE_H
#define LASTCALL_CONFIG_TREE_H

/* Reads YAML files into trees for libh2o's configurators. Beyond YAML it knows, as h2o's own loader
 * does:
 *
 *     !file PATH    is replaced by the document in that file, nested up to TREE_NESTED_MAX files
 *     <<            merges a mapping, or a sequence of mappings, into the mapping around it
 *     *NAME         may precede its anchor, and the anchor may be in an included file; of several
 *                   anchors with one name the first counts
 *
 * A configuration can be any file by mistake, so everything is bounded: the bytes of a file, the
 * depth of nesting, and the nodes and texts of the tree after its aliases are expanded. */

#include <stdbool.h>
#include <stddef.h>

#include "yoml.h"

#define TREE_FILE_MAX (4 << 20)   /* bytes of one file */
#define TREE_NODES_MAX (1 << 17)  /* in the whole tree */
#define TREE_BYTES_MAX (64 << 20) /* of its texts, and of all files read for it */
#define TREE_MERGE_MAX (1 << 24)  /* comparisons of keys */
#define TREE_TAGS_MAX 64
#define TREE_DEPTH_MAX 64
#define TREE_NESTED_MAX 16

/* Read the file at `path`. On failure `error` holds one line, `FILE:LINE:COLUMN: cause`, or
 * `FILE: cause` if the file cannot be read.
 * Owner:  the caller; ends with tree_free().
 * Thread: any.     Blocks: on the file.     Errors: NULL. */
yoml_t *tree_load_file(const char *path, char *error, size_t error_size);

/* The same for `bytes` in memory; messages call the file `name`. */
yoml_t *tree_load_bytes(const char *name, const char *bytes, size_t size, char *error,
                        size_t error_size);

/* Set `key`, a text, in a mapping that was loaded, whatever it was before. *mapping may move. Both
 * are copied.     Thread: any.     Errors: false without memory. */
bool tree_put(yoml_t **mapping, const yoml_t *key, const yoml_t *value);

/* NULL is allowed.     Thread: any. */
void tree_free(yoml_t *node);

#endif

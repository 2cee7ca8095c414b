#ifndef LASTCALL_CONFIG_TREE_H
#define LASTCALL_CONFIG_TREE_H

/* YAML files as trees for libh2o's configurators, with what h2o's own loader adds to the language:
 *
 *     !file PATH    the document in that file stands here, nested up to TREE_NESTED_MAX files
 *     <<            merges a mapping, or a sequence of mappings, into the one it stands in
 *     *NAME         may stand before its anchor, and its anchor may come with an included file; of
 *                   several anchors of one name the first counts
 *
 * Everything is bounded, because a configuration may be anything by mistake: the bytes of a file,
 * the depth of nesting, and the nodes and texts of the tree once its aliases are expanded. */

#include <stddef.h>

#include "yoml.h"

#define TREE_FILE_MAX (4 << 20)   /* bytes of one file */
#define TREE_NODES_MAX (1 << 17)  /* of the whole tree */
#define TREE_BYTES_MAX (64 << 20) /* of its texts, and of all files that are read for it */
#define TREE_MERGE_MAX (1 << 24)  /* comparisons of keys */
#define TREE_TAGS_MAX 64
#define TREE_DEPTH_MAX 64
#define TREE_NESTED_MAX 16

/* Read the file at `path`. On failure `error` holds one line, `FILE:LINE:COLUMN: cause`, or
 * `FILE: cause` where it can not be read at all.
 * Owner:  the caller; ends with tree_free().
 * Thread: any.     Blocks: on the file.     Errors: NULL. */
yoml_t *tree_load_file(const char *path, char *error, size_t error_size);

/* The same for `bytes` that are there already; `name` stands for the file in messages. */
yoml_t *tree_load_bytes(const char *name, const char *bytes, size_t size, char *error,
                        size_t error_size);

/* NULL is allowed.     Thread: any. */
void tree_free(yoml_t *node);

#endif

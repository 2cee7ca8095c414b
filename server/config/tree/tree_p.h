#ifndef LASTCALL_TREE_P_H
#define LASTCALL_TREE_P_H

/* What the files of the configuration's reader share. A configuration is read in four steps:
 *
 *     tree_read.c      libyaml's events become a tree of nodes
 *     config_tree.c    scalars with the tag !file are replaced by the trees of their files
 *     tree_expand.c    aliases are replaced by copies of their anchors, and merge keys carried out
 *     tree_nodes.c     makes, copies and frees the nodes, and keeps the bounds of config_tree.h
 *
 * Aliases become copies because libh2o reorders and frees parts of the tree, and because a tree
 * without sharing has no loops. Functions that fail store one error line and return NULL or false.
 * Thread: any, for all of these; a load belongs to one thread. */

#include <stdbool.h>
#include <stddef.h>
#include <yaml.h>

#include "config_tree.h"

struct tree_anchor {
    const yoml_t *node;
    size_t order; /* in the document: qsort(3) is not stable */
};

struct tree_load {
    char *error;
    size_t error_size;
    size_t nodes;                /* made so far, copies included */
    size_t bytes;                /* read, and copied as texts */
    size_t compared;             /* keys compared by merging */
    unsigned nested;             /* depth of !file inside !file */
    unsigned depth;              /* of collections, over files and aliases */
    struct tree_anchor *anchors; /* tree_expand.c: by name, then in the order of the document */
    size_t anchor_count;
    const yoml_t *open[TREE_DEPTH_MAX]; /* tree_expand.c: the anchors whose copies enclose us */
    unsigned open_count;
};

/* ---- tree_nodes.c ---- */

/* Store an error, unless there is one: the first is reported. Returns NULL. */
void *tree_fail_at(struct tree_load *load, const char *file, size_t line, size_t column,
                   const char *format, ...) __attribute__((format(printf, 5, 6)));
#define tree_fail(load, node, ...)                                                                 \
    tree_fail_at(load, (node)->filename, (node)->line, (node)->column, __VA_ARGS__)
void *tree_out_of_memory(struct tree_load *load);

/* Count `bytes` against TREE_BYTES_MAX: few nodes can have long texts, and a short file can repeat
 * a long text many times. */
bool tree_spend(struct tree_load *load, const char *file, size_t line, size_t column, size_t bytes);
/* Copy `text`, which may be NULL; `node` is where it stands. */
bool tree_copy_text(struct tree_load *load, const yoml_t *node, char **ret_copy, const void *text);
yoml_t *tree_new_node(struct tree_load *load, yoml_type_t type, const char *file, size_t line,
                      size_t column, const void *anchor, const void *tag);
/* Insert a pair at index `at` of a mapping, or append `key` to a sequence. Takes ownership of key
 * and value, also on failure. */
bool tree_insert(struct tree_load *load, yoml_t **collection, size_t at, yoml_t *key,
                 yoml_t *value);
/* A deep copy without anchors: an alias refers to the original. */
yoml_t *tree_copy(struct tree_load *load, const yoml_t *node);
/* Call `step` for each child, until one call returns false. */
bool tree_each_child(struct tree_load *load, yoml_t *node,
                     bool (*step)(struct tree_load *, yoml_t **));

/* ---- tree_read.c ---- */

/* Read the only document of a file; a second one is an error. */
yoml_t *tree_read_document(struct tree_load *load, yaml_parser_t *parser, const char *file);

/* ---- tree_expand.c ---- */

/* The tree with its aliases and merge keys carried out. Takes ownership of `raw`, which may be
 * NULL. */
yoml_t *tree_expanded(struct tree_load *load, yoml_t *raw);

#endif

#include "tree_p.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The nodes of a configuration tree: errors, making, copying, freeing; the bounds on their number
 * and size. */

/* ---- errors ---- */

void *tree_fail_at(struct tree_load *load, const char *file, size_t line, size_t column,
                   const char *format, ...)
{
    va_list args;
    char cause[256];

    if (load->error[0] != '\0')
        return NULL;
    va_start(args, format);
    (void)vsnprintf(cause, sizeof(cause), format, args);
    va_end(args);
    (void)snprintf(load->error, load->error_size, "%s:%zu:%zu: %s", file, line + 1, column + 1,
                   cause);
    return NULL;
}

void *tree_out_of_memory(struct tree_load *load)
{
    if (load->error[0] == '\0')
        (void)snprintf(load->error, load->error_size, "no memory for the configuration");
    return NULL;
}

/* ---- nodes ---- */

void tree_free(yoml_t *node)
{
    if (node == NULL || --node->_refcnt > 0)
        return;
    free(node->filename);
    free(node->anchor);
    free(node->tag);
    switch (node->type) {
    case YOML_TYPE_SCALAR:
    case YOML__TYPE_UNRESOLVED_ALIAS:
        free(node->data.scalar); /* the same address as data.alias */
        break;
    case YOML_TYPE_SEQUENCE:
        for (size_t i = 0; i < node->data.sequence.size; i++)
            tree_free(node->data.sequence.elements[i]);
        break;
    case YOML_TYPE_MAPPING:
        for (size_t i = 0; i < node->data.mapping.size; i++) {
            tree_free(node->data.mapping.elements[i].key);
            tree_free(node->data.mapping.elements[i].value);
        }
        break;
    }
    free(node);
}

bool tree_spend(struct tree_load *load, const char *file, size_t line, size_t column, size_t bytes)
{
    load->bytes += bytes;
    return load->bytes <= TREE_BYTES_MAX ||
           tree_fail_at(load, file, line, column, "more than %d MiB of texts, aliases expanded",
                        TREE_BYTES_MAX >> 20) != NULL;
}

bool tree_copy_text(struct tree_load *load, const yoml_t *node, char **ret_copy, const void *text)
{
    if (text == NULL)
        return true;
    if (!tree_spend(load, node->filename, node->line, node->column, strlen(text)))
        return false;
    *ret_copy = strdup(text);
    return *ret_copy != NULL || tree_out_of_memory(load) != NULL;
}

/* The size of a mapping with `n` elements; a sequence needs less. */
static size_t node_size(size_t n)
{
    size_t size = offsetof(yoml_t, data.mapping.elements) + n * sizeof(yoml_mapping_element_t);
    return size < sizeof(yoml_t) ? sizeof(yoml_t) : size;
}

yoml_t *tree_new_node(struct tree_load *load, yoml_type_t type, const char *file, size_t line,
                      size_t column, const void *anchor, const void *tag)
{
    if (++load->nodes > TREE_NODES_MAX)
        return tree_fail_at(load, file, line, column, "more than %d nodes, aliases expanded",
                            TREE_NODES_MAX);
    yoml_t *node = calloc(1, sizeof(*node));
    if (node == NULL)
        return tree_out_of_memory(load);
    node->type = type;
    node->line = line;
    node->column = column;
    node->_refcnt = 1;
    node->filename = strdup(file);
    if (node->filename == NULL)
        (void)tree_out_of_memory(load);
    if (node->filename == NULL || !tree_spend(load, file, line, column, strlen(file)) ||
        !tree_copy_text(load, node, &node->anchor, anchor) ||
        !tree_copy_text(load, node, &node->tag, tag)) {
        tree_free(node);
        return NULL;
    }
    return node;
}

/* The array grows at each power of two. */
bool tree_insert(struct tree_load *load, yoml_t **collection, size_t at, yoml_t *key, yoml_t *value)
{
    yoml_t *node = *collection;
    size_t n = node->data.sequence.size; /* the same address as data.mapping.size */

    if ((n & (n - 1)) == 0) {
        yoml_t *grown = realloc(node, node_size(n == 0 ? 1 : n * 2));
        if (grown == NULL) {
            tree_free(key);
            tree_free(value);
            return tree_out_of_memory(load) != NULL;
        }
        *collection = node = grown;
    }
    if (node->type == YOML_TYPE_SEQUENCE) {
        node->data.sequence.elements[n] = key;
        node->data.sequence.size++;
        return true;
    }
    yoml_mapping_element_t *elements = node->data.mapping.elements;
    memmove(elements + at + 1, elements + at, (n - at) * sizeof(*elements));
    elements[at] = (yoml_mapping_element_t){key, value};
    node->data.mapping.size++;
    return true;
}

/* Nested files and nested aliases make trees deeper than any document: their depth is checked here
 * too. */
bool tree_each_child(struct tree_load *load, yoml_t *node,
                     bool (*step)(struct tree_load *, yoml_t **))
{
    bool ok = true;

    if (node->type != YOML_TYPE_SEQUENCE && node->type != YOML_TYPE_MAPPING)
        return true;
    if (load->depth == TREE_DEPTH_MAX)
        return tree_fail(load, node, "nested deeper than %d levels", TREE_DEPTH_MAX) != NULL;
    load->depth++;
    for (size_t i = 0; ok && i < node->data.sequence.size; i++)
        ok = node->type == YOML_TYPE_SEQUENCE
                 ? step(load, &node->data.sequence.elements[i])
                 : step(load, &node->data.mapping.elements[i].key) &&
                       step(load, &node->data.mapping.elements[i].value);
    load->depth--;
    return ok;
}

yoml_t *tree_copy(struct tree_load *load, const yoml_t *node)
{
    yoml_t *copy =
        tree_new_node(load, node->type, node->filename, node->line, node->column, NULL, node->tag);
    if (copy == NULL)
        return NULL;
    if (node->type == YOML_TYPE_SCALAR || node->type == YOML__TYPE_UNRESOLVED_ALIAS) {
        if (tree_copy_text(load, copy, &copy->data.scalar, node->data.scalar))
            return copy;
        tree_free(copy);
        return NULL;
    }
    for (size_t i = 0; i < node->data.sequence.size; i++) {
        bool is_mapping = node->type == YOML_TYPE_MAPPING;
        yoml_t *value = NULL, *key = tree_copy(load, is_mapping ? node->data.mapping.elements[i].key
                                                                : node->data.sequence.elements[i]);
        if (key != NULL && is_mapping)
            value = tree_copy(load, node->data.mapping.elements[i].value);
        if (key == NULL || (is_mapping && value == NULL)) {
            tree_free(key);
            tree_free(copy);
            return NULL;
        }
        if (!tree_insert(load, &copy, i, key, value)) {
            tree_free(copy); /* the count of references is 1, which the analyzer does not see */
            return NULL;     /* NOLINT(clang-analyzer-unix.Malloc) */
        }
    }
    return copy;
}

bool tree_put(yoml_t **mapping, const yoml_t *key, const yoml_t *value)
{
    char error[64] = "";
    struct tree_load load = {.error = error, .error_size = sizeof(error)};
    yoml_t *copy = tree_copy(&load, value), *name = NULL;

    for (size_t i = 0; copy != NULL && i < (*mapping)->data.mapping.size; i++) {
        yoml_mapping_element_t *pair = &(*mapping)->data.mapping.elements[i];
        if (pair->key->type != YOML_TYPE_SCALAR ||
            strcmp(pair->key->data.scalar, key->data.scalar) != 0)
            continue;
        tree_free(pair->value);
        pair->value = copy;
        return true;
    }
    if (copy != NULL && (name = tree_copy(&load, key)) == NULL)
        tree_free(copy);
    if (name == NULL)
        return false; /* NOLINT(clang-analyzer-unix.Malloc): freed, see tree_copy() */
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): tree_insert() has it, or has freed it */
    return tree_insert(&load, mapping, (*mapping)->data.mapping.size, name, copy);
}

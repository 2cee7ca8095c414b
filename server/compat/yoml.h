#ifndef LASTCALL_COMPAT_YOML_H
#define LASTCALL_COMPAT_YOML_H

/* The tree that libh2o's configurators read. h2o/configurator.h includes a header of this name,
 * which Debian's packages leave out. Names and the order of the fields are the library's ABI:
 * nodes pass between its code and ours, and either side may free(3) them, so each node and each
 * text in it is a piece of malloc(3)'s own. */

#include <stddef.h>
#include <string.h>

typedef enum {
    YOML_TYPE_SCALAR,
    YOML_TYPE_SEQUENCE,
    YOML_TYPE_MAPPING,
    YOML__TYPE_UNRESOLVED_ALIAS,
} yoml_type_t;

typedef struct st_yoml_t yoml_t;

typedef struct st_yoml_mapping_element_t {
    yoml_t *key;
    yoml_t *value;
} yoml_mapping_element_t;

struct st_yoml_t {
    yoml_type_t type;
    char *filename;
    size_t line;   /* from 0 */
    size_t column; /* from 0 */
    char *anchor;
    char *tag;
    size_t _refcnt;
    union {
        char *scalar;
        struct {
            size_t size;
            yoml_t *elements[1];
        } sequence;
        struct {
            size_t size;
            yoml_mapping_element_t elements[1];
        } mapping;
        char *alias;
    } data;
};

/* The first value under `name`; NULL if there is none, or `node` is not a mapping. */
static inline yoml_t *yoml_get(const yoml_t *node, const char *name)
{
    if (node->type != YOML_TYPE_MAPPING)
        return NULL;
    for (size_t i = 0; i < node->data.mapping.size; i++) {
        const yoml_mapping_element_t *element = &node->data.mapping.elements[i];
        if (element->key->type == YOML_TYPE_SCALAR && strcmp(element->key->data.scalar, name) == 0)
            return element->value;
    }
    return NULL;
}

#endif

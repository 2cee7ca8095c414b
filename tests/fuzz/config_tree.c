/* libFuzzer: whatever the bytes of configuration files are, the loader ends, with a tree that
 * libh2o can have or with one line that says what is wrong. */

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "config_tree.h"
#include "pieces.h"

static size_t check(const yoml_t *node, size_t depth)
{
    size_t nodes = 1;

    assert(node->filename != NULL && node->_refcnt == 1 && depth <= TREE_DEPTH_MAX);
    switch (node->type) {
    case YOML_TYPE_SCALAR:
        assert(node->data.scalar != NULL);
        break;
    case YOML_TYPE_SEQUENCE:
        for (size_t i = 0; i < node->data.sequence.size; i++)
            nodes += check(node->data.sequence.elements[i], depth + 1);
        break;
    case YOML_TYPE_MAPPING:
        for (size_t i = 0; i < node->data.mapping.size; i++) {
            nodes += check(node->data.mapping.elements[i].key, depth + 1);
            nodes += check(node->data.mapping.elements[i].value, depth + 1);
        }
        break;
    case YOML__TYPE_UNRESOLVED_ALIAS:
        abort();
    }
    return nodes;
}

/* The library does so with what it has understood. */
static void take_apart(yoml_t *node)
{
    if (node->type != YOML_TYPE_MAPPING)
        return;
    for (size_t i = 0; i < node->data.mapping.size / 2; i++) {
        size_t other = node->data.mapping.size - 1 - i;
        yoml_mapping_element_t element = node->data.mapping.elements[i];
        node->data.mapping.elements[i] = node->data.mapping.elements[other];
        node->data.mapping.elements[other] = element;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char error[256];

    pieces_begin(bytes, size);
    yoml_t *tree = tree_load_file("a", error, sizeof(error));
    if (tree == NULL) {
        assert(error[0] >= 'a' && error[0] <= 'z' && error[1] == ':');
        assert(strlen(error) < sizeof(error));
    } else {
        assert(error[0] == '\0');
        assert(check(tree, 0) <= TREE_NODES_MAX);
        take_apart(tree);
    }
    tree_free(tree);
    tree = tree_load_bytes("bytes", (const char *)bytes, size, error, sizeof(error));
    tree_free(tree);
    pieces_end();
    return 0;
}

#include "tree_p.h"

#include <stdlib.h>
#include <string.h>

/* Aliases become copies of what they refer to; merge keys become the keys that they merge. */

/* ---- aliases ---- */

static bool note_anchors(struct tree_load *load, const yoml_t *node)
{
    if (node->anchor != NULL) {
        if ((load->anchor_count & (load->anchor_count - 1)) == 0) {
            size_t room = load->anchor_count == 0 ? 1 : load->anchor_count * 2;
            struct tree_anchor *grown = realloc(load->anchors, room * sizeof(*grown));
            if (grown == NULL)
                return tree_out_of_memory(load) != NULL;
            load->anchors = grown;
        }
        load->anchors[load->anchor_count] = (struct tree_anchor){node, load->anchor_count};
        load->anchor_count++;
    }
    if (node->type == YOML_TYPE_SEQUENCE)
        for (size_t i = 0; i < node->data.sequence.size; i++)
            if (!note_anchors(load, node->data.sequence.elements[i]))
                return false;
    if (node->type == YOML_TYPE_MAPPING)
        for (size_t i = 0; i < node->data.mapping.size; i++)
            if (!note_anchors(load, node->data.mapping.elements[i].key) ||
                !note_anchors(load, node->data.mapping.elements[i].value))
                return false;
    return true;
}

static int by_name(const void *a, const void *b)
{
    const struct tree_anchor *left = a, *right = b;
    int order = strcmp(left->node->anchor, right->node->anchor);
    return order != 0 ? order : left->order < right->order ? -1 : 1;
}

static const yoml_t *find_anchor(const struct tree_load *load, const char *name)
{
    size_t low = 0, high = load->anchor_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(load->anchors[middle].node->anchor, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == load->anchor_count || strcmp(load->anchors[low].node->anchor, name) != 0)
        return NULL;
    return load->anchors[low].node;
}

/* ---- merge keys ---- */

/* Keys after the merge key win over merged ones; the merged ones take the merge key's place. */
static bool has_key_from(const yoml_t *mapping, size_t from, const yoml_t *key)
{
    if (key->type != YOML_TYPE_SCALAR)
        return false;
    for (size_t i = from; i < mapping->data.mapping.size; i++) {
        const yoml_t *other = mapping->data.mapping.elements[i].key;
        if (other->type == YOML_TYPE_SCALAR && strcmp(other->data.scalar, key->data.scalar) == 0)
            return true;
    }
    return false;
}

static bool merge_one(struct tree_load *load, yoml_t **target, size_t at, const yoml_t *from)
{
    if (from->type != YOML_TYPE_MAPPING)
        return tree_fail(load, from, "<< wants a mapping, or a sequence of mappings") != NULL;
    for (size_t i = 0; i < from->data.mapping.size; i++) {
        const yoml_mapping_element_t *element = &from->data.mapping.elements[i];
        load->compared += (*target)->data.mapping.size - at;
        if (load->compared > TREE_MERGE_MAX)
            return tree_fail(load, from, "too much to merge") != NULL;
        if (has_key_from(*target, at, element->key))
            continue;
        yoml_t *key = tree_copy(load, element->key);
        yoml_t *value = key != NULL ? tree_copy(load, element->value) : NULL;
        if (value == NULL) {
            tree_free(key);
            return false;
        }
        if (!tree_insert(load, target, at++, key, value))
            return false;
    }
    return true;
}

static bool merge(struct tree_load *load, yoml_t **slot)
{
    for (size_t i = (*slot)->data.mapping.size; i-- > 0;) {
        yoml_mapping_element_t element = (*slot)->data.mapping.elements[i];
        if (element.key->type != YOML_TYPE_SCALAR || strcmp(element.key->data.scalar, "<<") != 0)
            continue;
        memmove(&(*slot)->data.mapping.elements[i], &(*slot)->data.mapping.elements[i + 1],
                (--(*slot)->data.mapping.size - i) * sizeof(element));
        const yoml_t *from = element.value;
        bool ok = true;
        if (from->type == YOML_TYPE_SEQUENCE)
            for (size_t j = 0; ok && j < from->data.sequence.size; j++)
                ok = merge_one(load, slot, i, from->data.sequence.elements[j]);
        else
            ok = merge_one(load, slot, i, from);
        tree_free(element.key);
        tree_free(element.value);
        if (!ok)
            return false;
    }
    return true;
}

/* ---- expansion ---- */

static bool expand(struct tree_load *load, yoml_t **slot);

static bool expand_alias(struct tree_load *load, yoml_t **slot)
{
    const yoml_t *alias = *slot, *target = find_anchor(load, alias->data.alias);

    if (target == NULL)
        return tree_fail(load, alias, "no anchor &%s for this alias", alias->data.alias) != NULL;
    for (unsigned i = 0; i < load->open_count; i++)
        if (load->open[i] == target)
            return tree_fail(load, alias, "*%s refers to a node that contains it",
                             alias->data.alias) != NULL;
    if (load->open_count == TREE_DEPTH_MAX)
        return tree_fail(load, alias, "aliases nested deeper than %d", TREE_DEPTH_MAX) != NULL;
    yoml_t *copy = tree_copy(load, target);
    if (copy == NULL)
        return false;
    load->open[load->open_count++] = target;
    bool ok = expand(load, &copy);
    load->open_count--;
    if (!ok) {
        tree_free(copy);
        return false;
    }
    tree_free(*slot);
    *slot = copy;
    return true;
}

static bool expand(struct tree_load *load, yoml_t **slot)
{
    if ((*slot)->type == YOML__TYPE_UNRESOLVED_ALIAS)
        return expand_alias(load, slot);
    if (!tree_each_child(load, *slot, expand))
        return false;
    return (*slot)->type != YOML_TYPE_MAPPING || merge(load, slot);
}

/* Expansion works on a copy of the tree: the anchors must stay as they were written while they are
 * copied. */
yoml_t *tree_expanded(struct tree_load *load, yoml_t *raw)
{
    if (raw == NULL)
        return NULL;
    yoml_t *tree = NULL;
    if (note_anchors(load, raw)) {
        if (load->anchor_count > 1)
            qsort(load->anchors, load->anchor_count, sizeof(*load->anchors), by_name);
        load->nodes = 0;
        load->bytes = 0;
        tree = tree_copy(load, raw);
    }
    if (tree != NULL && !expand(load, &tree)) {
        tree_free(tree);
        tree = NULL;
    }
    free(load->anchors);
    tree_free(raw);
    return tree;
}

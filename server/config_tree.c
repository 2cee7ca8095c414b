#include "config_tree.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

/* In four steps: libyaml's events become a tree of nodes (read_node); texts with the tag !file are
 * replaced by the trees of their files (include); aliases are replaced by copies of what they stand
 * for, and merge keys carried out (expand). Copies, because libh2o reorders and frees parts of what
 * it is given, and because a tree without sharing has no loops to fall into. */

struct noted {
    const yoml_t *node;
    size_t order; /* in the document: qsort(3) promises nothing about equals */
};

struct load {
    char *error;
    size_t error_size;
    size_t nodes;          /* made so far, copies included */
    size_t bytes;          /* read, and copied as texts */
    size_t compared;       /* keys, by merging */
    unsigned nested;       /* !file inside !file */
    unsigned depth;        /* of collections, over files and aliases */
    struct noted *anchors; /* expand: by name, then as they come in the document */
    size_t anchor_count;
    const yoml_t *open[TREE_DEPTH_MAX]; /* expand: the anchors whose copies we are in */
    unsigned open_count;
};

/* ---- errors ---- */

/* The first problem is the one to tell. Returns NULL for its callers to return. */
static void *fail_at(struct load *load, const char *file, size_t line, size_t column,
                     const char *format, ...) __attribute__((format(printf, 5, 6)));

static void *fail_at(struct load *load, const char *file, size_t line, size_t column,
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

#define fail_node(load, node, ...)                                                                 \
    fail_at(load, (node)->filename, (node)->line, (node)->column, __VA_ARGS__)

static void *out_of_memory(struct load *load)
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
        free(node->data.scalar); /* the same place as data.alias */
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

/* Few nodes can have long texts, and short files can name long ones many times. */
static bool spend(struct load *load, const char *file, size_t line, size_t column, size_t bytes)
{
    load->bytes += bytes;
    return load->bytes <= TREE_BYTES_MAX ||
           fail_at(load, file, line, column, "more than %d MiB of texts, aliases expanded",
                   TREE_BYTES_MAX >> 20) != NULL;
}

static bool copy_text(struct load *load, const yoml_t *node, char **ret_copy, const void *text)
{
    if (text == NULL)
        return true;
    if (!spend(load, node->filename, node->line, node->column, strlen(text)))
        return false;
    *ret_copy = strdup(text);
    return *ret_copy != NULL || out_of_memory(load) != NULL;
}

/* The size of a mapping with `n` elements, which is the larger kind of collection too. */
static size_t node_size(size_t n)
{
    size_t size = offsetof(yoml_t, data.mapping.elements) + n * sizeof(yoml_mapping_element_t);
    return size < sizeof(yoml_t) ? sizeof(yoml_t) : size;
}

static yoml_t *new_node(struct load *load, yoml_type_t type, const char *file, size_t line,
                        size_t column, const void *anchor, const void *tag)
{
    if (++load->nodes > TREE_NODES_MAX)
        return fail_at(load, file, line, column, "more than %d nodes, aliases expanded",
                       TREE_NODES_MAX);
    yoml_t *node = calloc(1, sizeof(*node));
    if (node == NULL)
        return out_of_memory(load);
    node->type = type;
    node->line = line;
    node->column = column;
    node->_refcnt = 1;
    node->filename = strdup(file);
    if (node->filename == NULL)
        (void)out_of_memory(load);
    if (node->filename == NULL || !spend(load, file, line, column, strlen(file)) ||
        !copy_text(load, node, &node->anchor, anchor) || !copy_text(load, node, &node->tag, tag)) {
        tree_free(node);
        return NULL;
    }
    return node;
}

/* Make room for one more at each power of two, and put the pair (or the single `key`) at `at`.
 * Takes key and value over, also on failure. */
static bool insert(struct load *load, yoml_t **collection, size_t at, yoml_t *key, yoml_t *value)
{
    yoml_t *node = *collection;
    size_t n = node->data.sequence.size; /* the same place as data.mapping.size */

    if ((n & (n - 1)) == 0) {
        yoml_t *grown = realloc(node, node_size(n == 0 ? 1 : n * 2));
        if (grown == NULL) {
            tree_free(key);
            tree_free(value);
            return out_of_memory(load) != NULL;
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

/* ---- events ---- */

static yoml_t *read_node(struct load *load, yaml_parser_t *parser, const char *file, unsigned depth,
                         bool *ret_end);

static yoml_t *read_collection(struct load *load, yaml_parser_t *parser, yoml_t *node,
                               unsigned depth)
{
    if (node != NULL && depth == TREE_DEPTH_MAX) {
        (void)fail_node(load, node, "nested deeper than %d levels", TREE_DEPTH_MAX);
        tree_free(node);
        return NULL;
    }
    while (node != NULL) {
        bool end = false;
        yoml_t *value = NULL, *key = read_node(load, parser, node->filename, depth + 1, &end);
        if (end)
            return node;
        if (key != NULL && node->type == YOML_TYPE_MAPPING)
            value = read_node(load, parser, node->filename, depth + 1, &end);
        if (key == NULL || (node->type == YOML_TYPE_MAPPING && value == NULL)) {
            tree_free(key);
            break;
        }
        if (!insert(load, &node, node->data.sequence.size, key, value))
            break;
    }
    tree_free(node);
    return NULL;
}

static yoml_t *read_scalar(struct load *load, const yaml_event_t *event, const char *file)
{
    yaml_scalar_style_t style = event->data.scalar.style;
    bool block = style == YAML_LITERAL_SCALAR_STYLE || style == YAML_FOLDED_SCALAR_STYLE;
    yoml_t *node =
        new_node(load, YOML_TYPE_SCALAR, file,
                 event->start_mark.line + (block ? 1 : 0), /* the text, not its mark */
                 event->start_mark.column, event->data.scalar.anchor, event->data.scalar.tag);
    if (node == NULL)
        return NULL;
    if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length) {
        (void)fail_node(load, node, "a text with a NUL byte in it");
        tree_free(node);
        return NULL;
    }
    if (!copy_text(load, node, &node->data.scalar, event->data.scalar.value)) {
        tree_free(node);
        return NULL;
    }
    return node;
}

static yoml_t *read_alias(struct load *load, const yaml_event_t *event, const char *file)
{
    yoml_t *node = new_node(load, YOML__TYPE_UNRESOLVED_ALIAS, file, event->start_mark.line,
                            event->start_mark.column, NULL, NULL);
    if (node != NULL && !copy_text(load, node, &node->data.alias, event->data.alias.anchor)) {
        tree_free(node);
        return NULL;
    }
    return node;
}

static yoml_t *node_of_event(struct load *load, yaml_parser_t *parser, const yaml_event_t *event,
                             const char *file, unsigned depth, bool *ret_end)
{
    size_t line = event->start_mark.line, column = event->start_mark.column;

    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return read_alias(load, event, file);
    case YAML_SCALAR_EVENT:
        return read_scalar(load, event, file);
    case YAML_SEQUENCE_START_EVENT:
        return read_collection(load, parser,
                               new_node(load, YOML_TYPE_SEQUENCE, file, line, column,
                                        event->data.sequence_start.anchor,
                                        event->data.sequence_start.tag),
                               depth);
    case YAML_MAPPING_START_EVENT:
        return read_collection(load, parser,
                               new_node(load, YOML_TYPE_MAPPING, file, line, column,
                                        event->data.mapping_start.anchor,
                                        event->data.mapping_start.tag),
                               depth);
    case YAML_STREAM_END_EVENT:
        return fail_at(load, file, line, column, "nothing in it");
    default: /* the end of what our caller reads */
        *ret_end = true;
        return NULL;
    }
}

/* The parser reads ahead of its own mark, and of what is no text it has counted bytes only. */
static void *fail_reading(struct load *load, const yaml_parser_t *parser, const char *file)
{
    const char *bytes = (const char *)parser->input.string.start;
    size_t size = (size_t)(parser->input.string.end - parser->input.string.start);
    size_t line = 0, column = 0;

    for (size_t i = 0; i < parser->problem_offset && i < size; i++) {
        column = bytes[i] == '\n' ? 0 : column + ((bytes[i] & 0xc0) != 0x80);
        line += bytes[i] == '\n';
    }
    return fail_at(load, file, line, column, "not a text: %s", parser->problem);
}

static void *fail_parsing(struct load *load, const yaml_parser_t *parser, const char *file)
{
    const yaml_mark_t *at = &parser->problem_mark;

    if (parser->error == YAML_MEMORY_ERROR)
        return out_of_memory(load);
    if (parser->error == YAML_READER_ERROR)
        return fail_reading(load, parser, file);
    return fail_at(load, file, at->line, at->column, "%s%s%s",
                   parser->context != NULL ? parser->context : "",
                   parser->context != NULL ? ": " : "", parser->problem);
}

static yoml_t *read_node(struct load *load, yaml_parser_t *parser, const char *file, unsigned depth,
                         bool *ret_end)
{
    yaml_event_t event;

    for (;;) {
        if (yaml_parser_parse(parser, &event) == 0)
            return fail_parsing(load, parser, file);
        if (event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_START_EVENT)
            break;
        yaml_event_delete(&event);
    }
    yoml_t *node = node_of_event(load, parser, &event, file, depth, ret_end);
    yaml_event_delete(&event);
    return node;
}

/* One document, and no other behind it: it would be read by nobody. */
static yoml_t *read_document(struct load *load, yaml_parser_t *parser, const char *file)
{
    bool end = false;
    yoml_t *node = read_node(load, parser, file, 0, &end);

    if (node == NULL)
        return NULL;
    yoml_t *more = read_node(load, parser, file, 0, &end); /* ... end of document */
    if (end && more == NULL) {
        end = false;
        yaml_event_t event;
        if (yaml_parser_parse(parser, &event) != 0) {
            if (event.type == YAML_STREAM_END_EVENT) {
                yaml_event_delete(&event);
                return node;
            }
            (void)fail_at(load, file, event.start_mark.line, event.start_mark.column,
                          "a second document; only one is read");
            yaml_event_delete(&event);
        } else {
            (void)fail_parsing(load, parser, file);
        }
    }
    tree_free(more);
    tree_free(node);
    return NULL;
}

/* ---- files ---- */

static bool include_all(struct load *load, yoml_t **slot);

/* libyaml compares each of these lines with all before it. */
static bool has_few_tag_lines(struct load *load, const char *name, const char *bytes, size_t size)
{
    const char *at = bytes, *end = bytes + size;
    unsigned lines = 0;

    while ((at = memmem(at, (size_t)(end - at), "%TAG", 4)) != NULL) {
        if (++lines > TREE_TAGS_MAX)
            return fail_at(load, name, 0, 0, "more than %d %%TAG directives", TREE_TAGS_MAX) !=
                   NULL;
        at += 4;
    }
    return true;
}

static yoml_t *load_bytes(struct load *load, const char *name, const char *bytes, size_t size)
{
    yaml_parser_t parser;

    if (!has_few_tag_lines(load, name, bytes, size))
        return NULL;
    if (yaml_parser_initialize(&parser) == 0)
        return out_of_memory(load);
    yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, size);
    yoml_t *node = read_document(load, &parser, name);
    yaml_parser_delete(&parser);
    if (node != NULL && !include_all(load, &node)) {
        tree_free(node);
        node = NULL;
    }
    return node;
}

static bool grow(char **bytes, size_t *room)
{
    size_t more = *room == 0 ? 16384 : 4 * *room;
    char *grown = realloc(*bytes, more);
    if (grown == NULL)
        return false;
    *bytes = grown;
    *room = more;
    return true;
}

/* The bytes of a file, no more than a configuration may have. */
static char *read_file(const char *path, size_t *ret_size, const char **ret_cause)
{
    struct stat st;
    size_t size = 0;
    static_assert(TREE_FILE_MAX == 4 << 20, "the message below says so");

    /* O_NONBLOCK: not to wait for a FIFO that nobody writes to. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        *ret_cause = strerrordesc_np(errno);
        if (fd >= 0)
            (void)close(fd);
        return NULL;
    }
    (void)fcntl(fd, F_SETFL, 0); /* but for what the one behind it writes */
    *ret_cause = S_ISDIR(st.st_mode) ? "is a directory" : NULL;
    char *bytes = NULL;
    size_t room = 0;
    while (*ret_cause == NULL) {
        if (size == room && !grow(&bytes, &room)) {
            *ret_cause = "no memory for it";
            break;
        }
        ssize_t n = read(fd, bytes + size, room - size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            *ret_cause = strerrordesc_np(errno);
        if (n <= 0)
            break;
        size += (size_t)n;
        if (size > TREE_FILE_MAX)
            *ret_cause = "larger than 4 MiB";
    }
    (void)close(fd);
    *ret_size = size;
    if (*ret_cause == NULL)
        return bytes;
    free(bytes);
    return NULL;
}

static yoml_t *load_file(struct load *load, const char *path, const yoml_t *from)
{
    const char *cause;
    size_t size;

    char *bytes = read_file(path, &size, &cause);
    if (bytes == NULL) {
        if (from != NULL)
            return fail_node(load, from, "cannot read %s: %s", path, cause);
        (void)snprintf(load->error, load->error_size, "%s: cannot read it: %s", path, cause);
        return NULL;
    }
    yoml_t *node = spend(load, path, 0, 0, size) ? load_bytes(load, path, bytes, size) : NULL;
    free(bytes);
    return node;
}

static bool include(struct load *load, yoml_t **slot)
{
    yoml_t *node = *slot;

    if (node->type != YOML_TYPE_SCALAR)
        return fail_node(load, node, "!file wants a path") != NULL;
    if (load->nested == TREE_NESTED_MAX)
        return fail_node(load, node, "!file %s: nested deeper than %d files", node->data.scalar,
                         TREE_NESTED_MAX) != NULL;
    load->nested++;
    yoml_t *loaded = load_file(load, node->data.scalar, node);
    load->nested--;
    if (loaded == NULL)
        return false;
    if (loaded->anchor == NULL) { /* an anchor on the tag names what stands there now */
        loaded->anchor = node->anchor;
        node->anchor = NULL;
    }
    tree_free(node);
    *slot = loaded;
    return true;
}

/* Call `step` on each child; false as soon as one says so. Files in each other and aliases in each
 * other nest deeper than any document: so their depth is counted here too. */
static bool each_child(struct load *load, yoml_t *node, bool (*step)(struct load *, yoml_t **))
{
    bool ok = true;

    if (node->type != YOML_TYPE_SEQUENCE && node->type != YOML_TYPE_MAPPING)
        return true;
    if (load->depth == TREE_DEPTH_MAX)
        return fail_node(load, node, "nested deeper than %d levels", TREE_DEPTH_MAX) != NULL;
    load->depth++;
    for (size_t i = 0; ok && i < node->data.sequence.size; i++)
        ok = node->type == YOML_TYPE_SEQUENCE
                 ? step(load, &node->data.sequence.elements[i])
                 : step(load, &node->data.mapping.elements[i].key) &&
                       step(load, &node->data.mapping.elements[i].value);
    load->depth--;
    return ok;
}

static bool include_all(struct load *load, yoml_t **slot)
{
    if ((*slot)->tag != NULL && strcmp((*slot)->tag, "!file") == 0)
        return include(load, slot);
    return each_child(load, *slot, include_all);
}

/* ---- aliases ---- */

static bool note_anchors(struct load *load, const yoml_t *node)
{
    if (node->anchor != NULL) {
        if ((load->anchor_count & (load->anchor_count - 1)) == 0) {
            size_t room = load->anchor_count == 0 ? 1 : load->anchor_count * 2;
            struct noted *grown = realloc(load->anchors, room * sizeof(*grown));
            if (grown == NULL)
                return out_of_memory(load) != NULL;
            load->anchors = grown;
        }
        load->anchors[load->anchor_count] = (struct noted){node, load->anchor_count};
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
    const struct noted *left = a, *right = b;
    int order = strcmp(left->node->anchor, right->node->anchor);
    return order != 0 ? order : left->order < right->order ? -1 : 1;
}

static const yoml_t *find_anchor(const struct load *load, const char *name)
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

/* Without anchors: an alias means the original. */
static yoml_t *copy_of(struct load *load, const yoml_t *node)
{
    yoml_t *copy =
        new_node(load, node->type, node->filename, node->line, node->column, NULL, node->tag);
    if (copy == NULL)
        return NULL;
    if (node->type == YOML_TYPE_SCALAR || node->type == YOML__TYPE_UNRESOLVED_ALIAS) {
        if (copy_text(load, copy, &copy->data.scalar, node->data.scalar))
            return copy;
        tree_free(copy);
        return NULL;
    }
    for (size_t i = 0; i < node->data.sequence.size; i++) {
        bool is_mapping = node->type == YOML_TYPE_MAPPING;
        yoml_t *value = NULL, *key = copy_of(load, is_mapping ? node->data.mapping.elements[i].key
                                                              : node->data.sequence.elements[i]);
        if (key != NULL && is_mapping)
            value = copy_of(load, node->data.mapping.elements[i].value);
        if (key == NULL || (is_mapping && value == NULL)) {
            tree_free(key);
            tree_free(copy);
            return NULL;
        }
        if (!insert(load, &copy, i, key, value)) {
            tree_free(copy);
            return NULL;
        }
    }
    return copy;
}

/* ---- merge keys ---- */

/* Keys that stand behind the merge key win over merged ones; the merged ones take its place. */
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

static bool merge_one(struct load *load, yoml_t **target, size_t at, const yoml_t *from)
{
    if (from->type != YOML_TYPE_MAPPING)
        return fail_node(load, from, "<< wants a mapping, or a sequence of mappings") != NULL;
    for (size_t i = 0; i < from->data.mapping.size; i++) {
        const yoml_mapping_element_t *element = &from->data.mapping.elements[i];
        load->compared += (*target)->data.mapping.size - at;
        if (load->compared > TREE_MERGE_MAX)
            return fail_node(load, from, "too much to merge") != NULL;
        if (has_key_from(*target, at, element->key))
            continue;
        yoml_t *key = copy_of(load, element->key);
        yoml_t *value = key != NULL ? copy_of(load, element->value) : NULL;
        if (value == NULL) {
            tree_free(key);
            return false;
        }
        if (!insert(load, target, at++, key, value))
            return false;
    }
    return true;
}

static bool merge(struct load *load, yoml_t **slot)
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

static bool expand(struct load *load, yoml_t **slot);

static bool expand_alias(struct load *load, yoml_t **slot)
{
    const yoml_t *alias = *slot, *target = find_anchor(load, alias->data.alias);

    if (target == NULL)
        return fail_node(load, alias, "no anchor &%s for this alias", alias->data.alias) != NULL;
    for (unsigned i = 0; i < load->open_count; i++)
        if (load->open[i] == target)
            return fail_node(load, alias, "*%s stands for something that contains it",
                             alias->data.alias) != NULL;
    if (load->open_count == TREE_DEPTH_MAX)
        return fail_node(load, alias, "aliases nested deeper than %d", TREE_DEPTH_MAX) != NULL;
    yoml_t *copy = copy_of(load, target);
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

static bool expand(struct load *load, yoml_t **slot)
{
    if ((*slot)->type == YOML__TYPE_UNRESOLVED_ALIAS)
        return expand_alias(load, slot);
    if (!each_child(load, *slot, expand))
        return false;
    return (*slot)->type != YOML_TYPE_MAPPING || merge(load, slot);
}

/* The anchors stay as they were written while copies of them are made: so the tree that is expanded
 * is a copy too. */
static yoml_t *expanded(struct load *load, yoml_t *raw)
{
    if (raw == NULL)
        return NULL;
    yoml_t *tree = NULL;
    if (note_anchors(load, raw)) {
        if (load->anchor_count > 1)
            qsort(load->anchors, load->anchor_count, sizeof(*load->anchors), by_name);
        load->nodes = 0;
        load->bytes = 0;
        tree = copy_of(load, raw);
    }
    if (tree != NULL && !expand(load, &tree)) {
        tree_free(tree);
        tree = NULL;
    }
    free(load->anchors);
    tree_free(raw);
    return tree;
}

/* ---- doors ---- */

yoml_t *tree_load_file(const char *path, char *error, size_t error_size)
{
    struct load load = {.error = error, .error_size = error_size};
    error[0] = '\0';
    return expanded(&load, load_file(&load, path, NULL));
}

yoml_t *tree_load_bytes(const char *name, const char *bytes, size_t size, char *error,
                        size_t error_size)
{
    struct load load = {.error = error, .error_size = error_size};
    error[0] = '\0';
    return expanded(&load, load_bytes(&load, name, bytes, size));
}

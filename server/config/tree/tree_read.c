#include "tree_p.h"

#include <string.h>

/* One YAML document: libyaml's events become nodes. */

static yoml_t *read_node(struct tree_load *load, yaml_parser_t *parser, const char *file,
                         unsigned depth, bool *ret_end);

static yoml_t *read_collection(struct tree_load *load, yaml_parser_t *parser, yoml_t *node,
                               unsigned depth)
{
    if (node != NULL && depth == TREE_DEPTH_MAX) {
        (void)tree_fail(load, node, "nested deeper than %d levels", TREE_DEPTH_MAX);
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
        if (!tree_insert(load, &node, node->data.sequence.size, key, value))
            break;
    }
    tree_free(node);
    return NULL;
}

static yoml_t *read_scalar(struct tree_load *load, const yaml_event_t *event, const char *file)
{
    yaml_scalar_style_t style = event->data.scalar.style;
    bool block = style == YAML_LITERAL_SCALAR_STYLE || style == YAML_FOLDED_SCALAR_STYLE;
    yoml_t *node = tree_new_node(
        load, YOML_TYPE_SCALAR, file,
        event->start_mark.line + (block ? 1 : 0), /* the text starts below its | or > */
        event->start_mark.column, event->data.scalar.anchor, event->data.scalar.tag);
    if (node == NULL)
        return NULL;
    if (strlen((const char *)event->data.scalar.value) != event->data.scalar.length) {
        (void)tree_fail(load, node, "a text with a NUL byte in it");
        tree_free(node);
        return NULL;
    }
    if (!tree_copy_text(load, node, &node->data.scalar, event->data.scalar.value)) {
        tree_free(node);
        return NULL;
    }
    return node;
}

static yoml_t *read_alias(struct tree_load *load, const yaml_event_t *event, const char *file)
{
    yoml_t *node = tree_new_node(load, YOML__TYPE_UNRESOLVED_ALIAS, file, event->start_mark.line,
                                 event->start_mark.column, NULL, NULL);
    if (node != NULL && !tree_copy_text(load, node, &node->data.alias, event->data.alias.anchor)) {
        tree_free(node);
        return NULL;
    }
    return node;
}

static yoml_t *node_of_event(struct tree_load *load, yaml_parser_t *parser,
                             const yaml_event_t *event, const char *file, unsigned depth,
                             bool *ret_end)
{
    size_t line = event->start_mark.line, column = event->start_mark.column;

    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return read_alias(load, event, file);
    case YAML_SCALAR_EVENT:
        return read_scalar(load, event, file);
    case YAML_SEQUENCE_START_EVENT:
        return read_collection(load, parser,
                               tree_new_node(load, YOML_TYPE_SEQUENCE, file, line, column,
                                             event->data.sequence_start.anchor,
                                             event->data.sequence_start.tag),
                               depth);
    case YAML_MAPPING_START_EVENT:
        return read_collection(load, parser,
                               tree_new_node(load, YOML_TYPE_MAPPING, file, line, column,
                                             event->data.mapping_start.anchor,
                                             event->data.mapping_start.tag),
                               depth);
    case YAML_STREAM_END_EVENT:
        return tree_fail_at(load, file, line, column, "nothing in it");
    default: /* the end of the caller's collection */
        *ret_end = true;
        return NULL;
    }
}

/* libyaml gives no mark for invalid text, only a byte offset: count the lines up to it. */
static void *fail_reading(struct tree_load *load, const yaml_parser_t *parser, const char *file)
{
    const char *bytes = (const char *)parser->input.string.start;
    size_t size = (size_t)(parser->input.string.end - parser->input.string.start);
    size_t line = 0, column = 0;

    for (size_t i = 0; i < parser->problem_offset && i < size; i++) {
        column = bytes[i] == '\n' ? 0 : column + ((bytes[i] & 0xc0) != 0x80);
        line += bytes[i] == '\n';
    }
    return tree_fail_at(load, file, line, column, "not a text: %s", parser->problem);
}

static void *fail_parsing(struct tree_load *load, const yaml_parser_t *parser, const char *file)
{
    const yaml_mark_t *at = &parser->problem_mark;

    if (parser->error == YAML_MEMORY_ERROR)
        return tree_out_of_memory(load);
    if (parser->error == YAML_READER_ERROR)
        return fail_reading(load, parser, file);
    return tree_fail_at(load, file, at->line, at->column, "%s%s%s",
                        parser->context != NULL ? parser->context : "",
                        parser->context != NULL ? ": " : "", parser->problem);
}

static yoml_t *read_node(struct tree_load *load, yaml_parser_t *parser, const char *file,
                         unsigned depth, bool *ret_end)
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

/* A second document would be ignored: it is an error. */
yoml_t *tree_read_document(struct tree_load *load, yaml_parser_t *parser, const char *file)
{
    bool end = false;
    yoml_t *node = read_node(load, parser, file, 0, &end);

    if (node == NULL)
        return NULL;
    yoml_t *more = read_node(load, parser, file, 0, &end); /* the end of the document */
    if (end && more == NULL) {
        end = false;
        yaml_event_t event;
        if (yaml_parser_parse(parser, &event) != 0) {
            if (event.type == YAML_STREAM_END_EVENT) {
                yaml_event_delete(&event);
                return node;
            }
            (void)tree_fail_at(load, file, event.start_mark.line, event.start_mark.column,
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

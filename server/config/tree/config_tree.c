#include "tree_p.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Files, and the files that they include: see tree_p.h for the steps. */

static bool include_all(struct tree_load *load, yoml_t **slot);

/* libyaml compares each %TAG directive with all earlier ones. */
static bool has_few_tag_lines(struct tree_load *load, const char *name, const char *bytes,
                              size_t size)
{
    const char *at = bytes, *end = bytes + size;
    unsigned lines = 0;

    while ((at = memmem(at, (size_t)(end - at), "%TAG", 4)) != NULL) {
        if (++lines > TREE_TAGS_MAX)
            return tree_fail_at(load, name, 0, 0, "more than %d %%TAG directives", TREE_TAGS_MAX) !=
                   NULL;
        at += 4;
    }
    return true;
}

static yoml_t *load_bytes(struct tree_load *load, const char *name, const char *bytes, size_t size)
{
    yaml_parser_t parser;

    if (!has_few_tag_lines(load, name, bytes, size))
        return NULL;
    if (yaml_parser_initialize(&parser) == 0)
        return tree_out_of_memory(load);
    yaml_parser_set_input_string(&parser, (const unsigned char *)bytes, size);
    yoml_t *node = tree_read_document(load, &parser, name);
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

/* Read a whole file, at most TREE_FILE_MAX bytes. */
static char *read_file(const char *path, size_t *ret_size, const char **ret_cause)
{
    struct stat st;
    size_t size = 0;
    static_assert(TREE_FILE_MAX == 4 * 1024 * 1024, "the message below says so");

    /* O_NONBLOCK: open(2) must not wait for the writer of a FIFO. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        *ret_cause = strerrordesc_np(errno);
        if (fd >= 0)
            (void)close(fd);
        return NULL;
    }
    (void)fcntl(fd, F_SETFL, 0); /* read(2) may wait for the writer */
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

static yoml_t *load_file(struct tree_load *load, const char *path, const yoml_t *from)
{
    const char *cause;
    size_t size;

    char *bytes = read_file(path, &size, &cause);
    if (bytes == NULL) {
        if (from != NULL)
            return tree_fail(load, from, "cannot read %s: %s", path, cause);
        (void)snprintf(load->error, load->error_size, "%s: cannot read it: %s", path, cause);
        return NULL;
    }
    yoml_t *node = tree_spend(load, path, 0, 0, size) ? load_bytes(load, path, bytes, size) : NULL;
    free(bytes);
    return node;
}

static bool include(struct tree_load *load, yoml_t **slot)
{
    yoml_t *node = *slot;

    if (node->type != YOML_TYPE_SCALAR)
        return tree_fail(load, node, "!file wants a path") != NULL;
    if (load->nested == TREE_NESTED_MAX)
        return tree_fail(load, node, "!file %s: nested deeper than %d files", node->data.scalar,
                         TREE_NESTED_MAX) != NULL;
    load->nested++;
    yoml_t *loaded = load_file(load, node->data.scalar, node);
    load->nested--;
    if (loaded == NULL)
        return false;
    if (loaded->anchor == NULL) { /* an anchor on the tag refers to the included tree */
        loaded->anchor = node->anchor;
        node->anchor = NULL;
    }
    tree_free(node);
    *slot = loaded;
    return true;
}

static bool include_all(struct tree_load *load, yoml_t **slot)
{
    if ((*slot)->tag != NULL && strcmp((*slot)->tag, "!file") == 0)
        return include(load, slot);
    return tree_each_child(load, *slot, include_all);
}

yoml_t *tree_load_file(const char *path, char *error, size_t error_size)
{
    struct tree_load load = {.error = error, .error_size = error_size};
    error[0] = '\0';
    return tree_expanded(&load, load_file(&load, path, NULL));
}

yoml_t *tree_load_bytes(const char *name, const char *bytes, size_t size, char *error,
                        size_t error_size)
{
    struct tree_load load = {.error = error, .error_size = error_size};
    error[0] = '\0';
    return tree_expanded(&load, load_bytes(&load, name, bytes, size));
}

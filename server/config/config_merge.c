#include "config_p.h"

#include <stdlib.h>
#include <string.h>

#include "config_tree.h"

/* The tree of a configuration: the file, or what the flags stand for, and what calls of the library
 * have set. That becomes a document like that of a file, and both are one mapping: so a directive
 * is read by the same code, whoever has set it. */

#define NAME "(settings)"

void config_put_quoted(FILE *out, const char *text)
{
    (void)fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            (void)fputc('\\', out);
        if ((unsigned char)*text < 0x20)
            (void)fprintf(out, "\\x%02x", (unsigned char)*text);
        else
            (void)fputc(*text, out);
    }
    (void)fputc('"', out);
}

static void put_pair(FILE *out, const struct options_extra *extra)
{
    config_put_quoted(out, extra->name);
    (void)fputs(": ", out);
    config_put_quoted(out, extra->value);
    (void)fputc('\n', out);
}

static const char *first_path(const struct options *options)
{
    for (size_t i = 0; i < options->extra_count; i++)
        if (options->extra[i].path != NULL)
            return options->extra[i].path;
    return NULL;
}

/* The directives of each path follow each other. */
bool config_put_paths(FILE *out, const struct options *options)
{
    const char *path = NULL;

    for (size_t i = 0; i < options->extra_count; i++) {
        const struct options_extra *extra = &options->extra[i];
        if (extra->path == NULL)
            continue;
        if (path == NULL || strcmp(path, extra->path) != 0) {
            (void)fputs("      ", out);
            config_put_quoted(out, extra->path);
            (void)fputs(":\n", out);
        }
        path = extra->path;
        (void)fputs("        ", out);
        put_pair(out, extra);
    }
    return path != NULL;
}

static yoml_t *load_extra(const struct options *options, char *error, size_t error_size)
{
    char *text = NULL;
    size_t size = 0;
    yoml_t *tree = NULL;
    FILE *out = open_memstream(&text, &size);

    for (size_t i = 0; out != NULL && i < options->extra_count; i++)
        if (options->extra[i].path == NULL)
            put_pair(out, &options->extra[i]);
    if (out != NULL && ftell(out) == 0)
        (void)fputs("{}\n", out);
    if (out != NULL && fclose(out) == 0)
        tree = tree_load_bytes(NAME, text, size, error, error_size);
    else
        (void)snprintf(error, error_size, "no memory to start");
    free(text);
    return tree;
}

static bool overrides(const struct options *options, const char *name)
{
    bool last = false;

    for (size_t i = 0; i < options->extra_count; i++)
        if (options->extra[i].path == NULL && strcmp(options->extra[i].name, name) == 0)
            last = options->extra[i].overrides;
    return last;
}

/* Take the settings into the file's mapping. */
static yoml_t *merge(const struct options *options, yoml_t *file, yoml_t *extra)
{
    for (size_t i = 0; i < extra->data.mapping.size; i++) {
        yoml_mapping_element_t *pair = &extra->data.mapping.elements[i];
        const char *name = pair->key->data.scalar;
        bool is_set = yoml_get(file, name) != NULL;
        if (is_set && !overrides(options, name))
            continue;
        if (!tree_put(&file, pair->key, pair->value)) {
            tree_free(file);
            return NULL;
        }
    }
    return file;
}

yoml_t *config_tree(const struct options *options, char *error, size_t error_size)
{
    const char *path = first_path(options);
    yoml_t *extra = NULL, *tree = NULL;

    if (options->conf != NULL && path != NULL) {
        (void)snprintf(error, error_size,
                       "%s: beside a file, its paths are served; write %s into it", options->conf,
                       path);
        return NULL;
    }
    tree = options->conf != NULL ? tree_load_file(options->conf, error, error_size)
                                 : config_flags_tree(options, error, error_size);
    /* One that is no mapping is refused by libh2o's reader, with its place. */
    if (tree == NULL || tree->type != YOML_TYPE_MAPPING || options->extra_count == 0)
        return tree;
    extra = load_extra(options, error, error_size);
    if (extra == NULL) {
        tree_free(tree);
        return NULL;
    }
    tree = merge(options, tree, extra);
    if (tree == NULL)
        (void)snprintf(error, error_size, "no memory to start");
    tree_free(extra);
    return tree;
}

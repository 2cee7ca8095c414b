#include "config_p.h"

#include <stdlib.h>
#include <string.h>

#include "config_tree.h"

/* The configuration of a server of the library. What calls have set becomes a document like that of
 * a file; so a directive is read by the same code, whoever has set it. Beside a file both are one
 * mapping. */

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

/* The directives of each path follow each other. */
static void put_paths(FILE *out, const struct options *options)
{
    const char *path = NULL;

    (void)fputs("hosts:\n  default:\n    paths:\n", out);
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
    if (path == NULL)
        (void)fputs("      {}\n", out);
}

static yoml_t *load_extra(const struct options *options, char *error, size_t error_size)
{
    char *text = NULL;
    size_t size = 0;
    yoml_t *tree = NULL;
    FILE *out = open_memstream(&text, &size);

    if (out != NULL) {
        for (size_t i = 0; i < options->extra_count; i++)
            if (options->extra[i].path == NULL)
                put_pair(out, &options->extra[i]);
        if (options->conf == NULL)
            put_paths(out, options);
        else if (ftell(out) == 0)
            (void)fputs("{}\n", out);
    }
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

static const char *first_path(const struct options *options)
{
    for (size_t i = 0; i < options->extra_count; i++)
        if (options->extra[i].path != NULL)
            return options->extra[i].path;
    return NULL;
}

yoml_t *config_embedded_tree(const struct options *options, char *error, size_t error_size)
{
    yoml_t *extra, *file = NULL;

    if (options->conf != NULL && first_path(options) != NULL) {
        (void)snprintf(error, error_size,
                       "%s: beside a file, its paths are served; write %s into it", options->conf,
                       first_path(options));
        return NULL;
    }
    extra = load_extra(options, error, error_size);

    if (extra == NULL || options->conf == NULL)
        return extra;
    file = tree_load_file(options->conf, error, error_size);
    if (file != NULL && file->type == YOML_TYPE_MAPPING) {
        file = merge(options, file, extra);
        if (file == NULL)
            (void)snprintf(error, error_size, "no memory to start");
    }
    tree_free(extra);
    return file; /* one that is no mapping is refused by libh2o's reader, with its place */
}

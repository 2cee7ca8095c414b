/* The loader of configuration files: the tree it builds from YAML, and its errors for other input.
 */

#include "config_tree.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "directory.h"

static char error[1024];

/* ---- files ---- */

static void write_bytes(const char *name, const void *bytes, size_t size)
{
    FILE *file = fopen(in_directory(name), "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const char *name, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void write_text(const char *name, const char *format, ...)
{
    FILE *file = fopen(in_directory(name), "w");
    va_list args;
    assert_non_null(file);
    va_start(args, format);
    (void)vfprintf(file, format, args);
    va_end(args);
    assert_int_equal(fclose(file), 0);
}

/* ---- trees as text ---- */

static void print_node(FILE *out, const yoml_t *node)
{
    switch (node->type) {
    case YOML_TYPE_SCALAR:
        (void)fprintf(out, "%s", node->data.scalar);
        break;
    case YOML_TYPE_SEQUENCE:
        (void)fputc('[', out);
        for (size_t i = 0; i < node->data.sequence.size; i++) {
            (void)fputs(i > 0 ? " " : "", out);
            print_node(out, node->data.sequence.elements[i]);
        }
        (void)fputc(']', out);
        break;
    case YOML_TYPE_MAPPING:
        (void)fputc('{', out);
        for (size_t i = 0; i < node->data.mapping.size; i++) {
            (void)fputs(i > 0 ? " " : "", out);
            print_node(out, node->data.mapping.elements[i].key);
            (void)fputc(':', out);
            print_node(out, node->data.mapping.elements[i].value);
        }
        (void)fputc('}', out);
        break;
    case YOML__TYPE_UNRESOLVED_ALIAS:
        (void)fprintf(out, "*%s", node->data.alias);
        break;
    }
}

/* What libh2o relies on: it takes parts of a tree out, and frees them. */
static void assert_unshared(const yoml_t *node)
{
    assert_int_equal(node->_refcnt, 1);
    assert_non_null(node->filename);
    assert_int_not_equal(node->type, YOML__TYPE_UNRESOLVED_ALIAS);
    if (node->type == YOML_TYPE_SEQUENCE)
        for (size_t i = 0; i < node->data.sequence.size; i++)
            assert_unshared(node->data.sequence.elements[i]);
    if (node->type == YOML_TYPE_MAPPING)
        for (size_t i = 0; i < node->data.mapping.size; i++) {
            assert_unshared(node->data.mapping.elements[i].key);
            assert_unshared(node->data.mapping.elements[i].value);
        }
}

static void assert_tree(yoml_t *tree, const char *want)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    if (tree == NULL)
        fail_msg("no tree: %s", error);
    assert_string_equal(error, "");
    assert_unshared(tree);
    print_node(out, tree);
    (void)fclose(out);
    assert_string_equal(text, want);
    free(text);
    tree_free(tree);
}

static yoml_t *load_text(const char *text)
{
    return tree_load_bytes("text", text, strlen(text), error, sizeof(error));
}

static void assert_reads(const char *text, const char *want)
{
    assert_tree(load_text(text), want);
}

static void assert_file_reads(const char *name, const char *want)
{
    assert_tree(tree_load_file(in_directory(name), error, sizeof(error)), want);
}

/* One line, and it begins with `want`. */
static void assert_error(yoml_t *tree, const char *want)
{
    assert_null(tree);
    assert_null(strchr(error, '\n'));
    if (strncmp(error, want, strlen(want)) != 0)
        fail_msg("`%s` does not begin with `%s`", error, want);
}

static void assert_refused(const char *text, const char *want)
{
    assert_error(load_text(text), want);
}

/* The message of a file in the directory, from its name on. */
static void assert_file_refused(const char *name, const char *want)
{
    char whole[512];
    (void)snprintf(whole, sizeof(whole), "%s/%s", directory, want);
    assert_error(tree_load_file(in_directory(name), error, sizeof(error)), whole);
}

/* ---- what YAML says ---- */

static void test_scalars_stay_texts(void **state)
{
    (void)state;
    assert_reads("word", "word");
    assert_reads("8080", "8080");
    assert_reads("\"two\\nlines \\u00e4\"", "two\nlines \xc3\xa4");
    assert_reads("'it''s'", "it's");
    assert_reads("[ON, ~, null, 0x10, \"\"]", "[ON ~ null 0x10 ]");
    assert_reads("!!str 5", "5");
}

static void test_collections_nest_in_both_styles(void **state)
{
    (void)state;
    assert_reads("- 1\n- - 2\n  - 3\n- {a: b}\n", "[1 [2 3] {a:b}]");
    assert_reads("a: 1\nb:\n  c: 2\n  d: [3, 4]\ne: {}\nf: []\n",
                 "{a:1 b:{c:2 d:[3 4]} e:{} f:[]}");
    assert_reads("? [x, y]\n: z\n? {m: n}\n: o\n", "{[x y]:z {m:n}:o}");
    assert_reads("a: 1\na: 2\n", "{a:1 a:2}"); /* what a key given twice means is the reader's */
    assert_reads("key:\n", "{key:}");
}

static void test_positions_count_from_nought_and_name_the_file(void **state)
{
    (void)state;
    yoml_t *tree = load_text("# first\na:\n  - b: c\n");
    assert_non_null(tree);
    yoml_t *b = yoml_get(yoml_get(tree, "a")->data.sequence.elements[0], "b");
    assert_string_equal(b->filename, "text");
    assert_int_equal(b->line, 2);
    assert_int_equal(b->column, 7);
    tree_free(tree);
}

static void test_block_text_has_the_line_where_its_text_begins(void **state)
{
    (void)state;
    yoml_t *tree = load_text("a: |\n  one\n  two\nb: >-\n  three\n  four\nc: plain\n");
    assert_non_null(tree);
    assert_string_equal(yoml_get(tree, "a")->data.scalar, "one\ntwo\n");
    assert_int_equal(yoml_get(tree, "a")->line, 1); /* not that of the bar */
    assert_string_equal(yoml_get(tree, "b")->data.scalar, "three four");
    assert_int_equal(yoml_get(tree, "b")->line, 4);
    assert_int_equal(yoml_get(tree, "c")->line, 6);
    tree_free(tree);
}

static void test_byte_order_mark_and_utf16_are_read(void **state)
{
    (void)state;
    assert_reads("\xef\xbb\xbf"
                 "a: b\n",
                 "{a:b}");
    assert_tree(tree_load_bytes("text",
                                "\xff\xfe"
                                "a\0:\0 \0b\0\n\0",
                                12, error, sizeof(error)),
                "{a:b}");
}

/* ---- aliases ---- */

static void test_alias_is_a_copy_without_the_anchor(void **state)
{
    (void)state;
    assert_reads("a: &x [1, 2]\nb: *x\nc: *x\n", "{a:[1 2] b:[1 2] c:[1 2]}");
    assert_reads("&k key: *k\n", "{key:key}");
    assert_reads("a: &x {b: &y c}\nd: [*x, *y]\n", "{a:{b:c} d:[{b:c} c]}");
    assert_reads("a: &x b\n*x : c\n", "{a:b b:c}"); /* as a key too */
}

static void test_alias_may_stand_before_its_anchor(void **state)
{
    (void)state;
    assert_reads("a: *x\nb: &x 1\n", "{a:1 b:1}");
    assert_reads("a: *x\nb: &x [*y]\nc: &y 2\n", "{a:[2] b:[2] c:2}");
}

static void test_of_anchors_with_one_name_the_first_counts(void **state)
{
    (void)state;
    assert_reads("a: *x\nb: &x 1\nc: &x 2\nd: *x\n", "{a:1 b:1 c:2 d:1}");
    assert_reads("a: &x [&x 1]\nb: *x\n", "{a:[1] b:[1]}");
}

static void test_alias_without_anchor_is_named(void **state)
{
    (void)state;
    assert_refused("a: 1\nb: [2, *nobody]\n", "text:2:8: no anchor &nobody for this alias");
}

static void test_loops_of_aliases_are_refused(void **state)
{
    (void)state;
    assert_refused("a: &x [1, *x]\n", "text:1:11: *x refers to a node that contains it");
    assert_refused("&x {a: *x}\n", "text:1:8: *x refers to a node that contains it");
    assert_refused("&x {? *x : 1}\n", "text:1:7: *x refers to a node that contains it");
    assert_refused("a: &x [*y]\nb: &y [*x]\n", "text:");
    assert_non_null(strstr(error, "refers to a node that contains it"));
    assert_refused("a: &x {<<: *x}\n", "text:1:12: *x refers to a node that contains it");
    assert_refused("a: &x [*y]\nb: &y [*z]\nc: &z {d: *x}\n", "text:");
    assert_non_null(strstr(error, "refers to a node that contains it"));
}

/* ---- merge keys ---- */

static void test_merge_takes_a_mapping_or_a_sequence_of_them(void **state)
{
    (void)state;
    assert_reads("<<: {a: 1}\n", "{a:1}");
    assert_reads("x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  c: 3\n", "{x:{a:1 b:2} y:{a:1 b:2 c:3}}");
    assert_reads("<<: [{a: 1}, {b: 2}]\nc: 3\n", "{b:2 a:1 c:3}");
    assert_reads("<<: {}\n", "{}");
    assert_reads("<<: []\na: 1\n", "{a:1}");
}

static void test_merged_keys_yield_to_those_after_the_merge(void **state)
{
    (void)state;
    assert_reads("<<: {a: 1, b: 2}\na: 3\n", "{b:2 a:3}");
    assert_reads("a: 3\n<<: {a: 1, b: 2}\n", "{a:3 a:1 b:2}"); /* for the reader to judge */
}

static void test_of_mappings_merged_at_once_the_later_wins(void **state)
{
    (void)state;
    /* As in h2o: each is put before those that stand there already, and yields to them. */
    yoml_t *tree = load_text("<<: [{a: 1}, {a: 2}]\n");
    assert_non_null(tree);
    assert_int_equal(tree->data.mapping.size, 1);
    assert_string_equal(yoml_get(tree, "a")->data.scalar, "1");
    tree_free(tree);
}

static void test_merges_nest_and_repeat(void **state)
{
    (void)state;
    assert_reads("x: &x {<<: *y, b: 2}\ny: &y {a: 1}\nz: {<<: *x}\n",
                 "{x:{a:1 b:2} y:{a:1} z:{a:1 b:2}}");
    assert_reads("{<<: {a: 1}, <<: {b: 2}}\n", "{a:1 b:2}");
    assert_reads("{<<: {<<: {a: 1}, b: 2}, c: 3}\n", "{a:1 b:2 c:3}");
    assert_reads("{<<: {[k]: 1}, [k]: 2}\n", "{[k]:1 [k]:2}"); /* only texts are compared */
}

static void test_merge_of_anything_else_is_refused(void **state)
{
    static const char cause[] = "<< wants a mapping, or a sequence of mappings";
    char want[128];
    (void)state;
    (void)snprintf(want, sizeof(want), "text:2:5: %s", cause);
    assert_refused("a: 1\n<<: 2\n", want);
    (void)snprintf(want, sizeof(want), "text:1:6: %s", cause);
    assert_refused("<<: [text]\n", want);
    (void)snprintf(want, sizeof(want), "text:1:6: %s", cause);
    assert_refused("<<: [[{a: 1}]]\n", want);
}

/* ---- !file ---- */

static void test_file_tag_stands_for_the_document_in_it(void **state)
{
    (void)state;
    write_text("inner.yaml", "[1, 2]\n");
    write_text("outer.yaml", "a: !file %s\nb: 3\n", in_directory("inner.yaml"));
    assert_file_reads("outer.yaml", "{a:[1 2] b:3}");
    write_text("outer.yaml", "!file %s\n", in_directory("inner.yaml")); /* all of it */
    assert_file_reads("outer.yaml", "[1 2]");
    write_text("outer.yaml", "[!file %s , !file %s ]\n", in_directory("inner.yaml"),
               in_directory("inner.yaml"));
    assert_file_reads("outer.yaml", "[[1 2] [1 2]]");
    write_text("map.yaml", "{a: 1}\n");
    write_text("outer.yaml", "<<: !file %s\nb: 2\n", in_directory("map.yaml"));
    assert_file_reads("outer.yaml", "{a:1 b:2}");
}

static void test_nodes_of_an_included_file_have_its_name(void **state)
{
    (void)state;
    write_text("inner.yaml", "\n  a: 1\n");
    write_text("outer.yaml", "x: !file %s\n", in_directory("inner.yaml"));
    yoml_t *tree = tree_load_file(in_directory("outer.yaml"), error, sizeof(error));
    assert_non_null(tree);
    yoml_t *a = yoml_get(yoml_get(tree, "x"), "a");
    assert_string_equal(a->filename, in_directory("inner.yaml"));
    assert_int_equal(a->line, 1);
    assert_int_equal(a->column, 5);
    tree_free(tree);
}

static void test_path_of_an_included_file_is_as_seen_from_the_process(void **state)
{
    char before[4096];
    (void)state;
    write_text("inner.yaml", "1\n");
    write_text("outer.yaml", "a: !file inner.yaml\n");
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(directory), 0);
    yoml_t *tree = tree_load_file("outer.yaml", error, sizeof(error));
    assert_int_equal(chdir(before), 0);
    assert_tree(tree, "{a:1}");
}

static void test_anchors_reach_across_files(void **state)
{
    (void)state;
    write_text("inner.yaml", "a: &x 1\nb: *y\n");
    write_text("outer.yaml", "p: *x\nq: !file %s\nr: &y 2\ns: &x 3\n", in_directory("inner.yaml"));
    assert_file_reads("outer.yaml", "{p:1 q:{a:1 b:2} r:2 s:3}");
    write_text("inner.yaml", "[1]\n");
    write_text("outer.yaml", "a: &x !file %s\nb: *x\n", in_directory("inner.yaml"));
    assert_file_reads("outer.yaml", "{a:[1] b:[1]}"); /* an anchor on the tag */
}

static void test_problems_of_an_included_file_come_with_its_name(void **state)
{
    char want[256];
    (void)state;
    write_text("inner.yaml", "a: 1\nb: [2\n");
    write_text("outer.yaml", "x: !file %s\n", in_directory("inner.yaml"));
    assert_file_refused("outer.yaml", "inner.yaml:3:1: while parsing a flow sequence: ");
    write_text("inner.yaml", "a: 1\nb: *x\n");
    assert_file_refused("outer.yaml", "inner.yaml:2:4: no anchor &x");
    write_text("outer.yaml", "a: 1\nx: !file %s/none.yaml\n", directory);
    (void)snprintf(want, sizeof(want),
                   "outer.yaml:2:4: cannot read %s/none.yaml: No such file or directory",
                   directory);
    assert_file_refused("outer.yaml", want);
    write_text("outer.yaml", "x: !file [a]\n");
    assert_file_refused("outer.yaml", "outer.yaml:1:4: !file wants a path");
    write_text("outer.yaml", "x: !file ''\n");
    assert_file_refused("outer.yaml", "outer.yaml:1:4: cannot read : No such file or directory");
}

static void test_loops_of_files_end(void **state)
{
    char want[256];
    (void)state;
    write_text("self.yaml", "- 1\n- !file %s\n", in_directory("self.yaml"));
    (void)snprintf(want, sizeof(want), "self.yaml:2:3: !file %s/self.yaml: nested deeper than %d ",
                   directory, TREE_NESTED_MAX);
    assert_file_refused("self.yaml", want);
    write_text("ping.yaml", "!file %s\n", in_directory("pong.yaml"));
    write_text("pong.yaml", "[!file %s ]\n", in_directory("ping.yaml"));
    assert_file_refused("ping.yaml", "p");
    assert_non_null(strstr(error, "nested deeper than"));
    /* Each level twice, 2^16 loads: the tree is full long before. */
    write_text("fork.yaml", "[!file %s , !file %s ]\n", in_directory("fork.yaml"),
               in_directory("fork.yaml"));
    assert_file_refused("fork.yaml", "fork.yaml:1:");
}

/* ---- bounds ---- */

static char *repeated(const char *before, const char *piece, size_t times, const char *after)
{
    size_t size = 0;
    char *text = NULL;
    FILE *out = open_memstream(&text, &size);

    (void)fputs(before, out);
    for (size_t i = 0; i < times; i++)
        (void)fputs(piece, out);
    (void)fputs(after, out);
    (void)fclose(out);
    return text;
}

static void assert_refused_and_free(char *text, const char *want)
{
    assert_refused(text, want);
    free(text);
}

static void test_nesting_has_a_limit(void **state)
{
    char want[64];
    (void)state;
    char *brackets = repeated("", "[", TREE_DEPTH_MAX, "");
    char *whole = repeated(brackets, "]", TREE_DEPTH_MAX, "");
    assert_reads(whole, whole);
    free(whole);
    free(brackets);
    (void)snprintf(want, sizeof(want), "text:1:%d: nested deeper than %d levels",
                   TREE_DEPTH_MAX + 1, TREE_DEPTH_MAX);
    assert_refused_and_free(repeated("", "[", TREE_DEPTH_MAX + 1, ""), want);
    assert_refused_and_free(repeated("", "[", 1000000, ""), want);
    (void)snprintf(want, sizeof(want), "text:1:%d: nested deeper than %d levels",
                   2 * TREE_DEPTH_MAX + 1, TREE_DEPTH_MAX);
    assert_refused_and_free(repeated("", "- ", 1000000, ""), want);
}

static void test_alias_bombs_are_bounded(void **state)
{
    char text[4096] = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n", line[256];
    size_t n = strlen(text);
    (void)state;
    for (unsigned i = 1; i < 12; i++) {
        int bytes =
            snprintf(line, sizeof(line),
                     "a%u: &a%u [*a%u, *a%u, *a%u, *a%u, *a%u, *a%u, *a%u, *a%u, *a%u, "
                     "*a%u]\n",
                     i, i, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
        memcpy(text + n, line, (size_t)bytes + 1);
        n += (size_t)bytes;
    }
    assert_refused(text, "text:1:");
    assert_non_null(strstr(error, "more than 131072 nodes, aliases expanded"));
    assert_refused_and_free(repeated("[&x [1, 2, 3, 4, 5, 6, 7]", ", *x", 20000, "]"), "text:1:");
    assert_non_null(strstr(error, "nodes, aliases expanded"));
}

static void test_tree_has_a_limit_without_aliases_too(void **state)
{
    (void)state;
    assert_refused_and_free(repeated("[", "1,", 1000000, "]"), "text:1:");
    assert_non_null(strstr(error, "more than 131072 nodes"));
    /* Merge keys and their mappings are made once more each: none of them is for nothing. */
    assert_refused_and_free(repeated("{", "<<: {a: 1}, ", 60000, "}"), "text:1:");
    assert_non_null(strstr(error, "nodes"));
}

static void test_texts_have_a_limit_however_few_nodes_have_them(void **state)
{
    (void)state;
    char *letters = repeated("- &x \"", "kkkkkkkkkk", 100000, "\"\n");
    assert_refused_and_free(repeated(letters, "- *x\n", 100000, ""),
                            "text:1:3: more than 64 MiB of texts, aliases expanded");
    free(letters);
    letters = repeated("- &x !<", "kkkkkkkkkk", 100000, "> 1\n"); /* a tag is one too */
    assert_refused_and_free(repeated(letters, "- *x\n", 100000, ""),
                            "text:1:3: more than 64 MiB of texts, aliases expanded");
    free(letters);
    letters = repeated("a\n", "# nothing but comments\n", 100000, "");
    write_text("long", "%s", letters);
    free(letters);
    letters = repeated("", "- !file ", 1, in_directory("long"));
    char *text = repeated("", letters, 1, "\n"), *whole = repeated("", text, 1000, "");
    assert_error(load_text(whole), in_directory("long"));
    assert_non_null(strstr(error, ":1:1: more than 64 MiB of texts"));
    free(whole);
    free(text);
    free(letters);
}

static void test_merging_has_a_limit(void **state)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    (void)state;
    (void)fputs("x: &x {z: 1", out);
    for (unsigned i = 0; i < 13000; i++)
        (void)fprintf(out, ", a%u: ", i);
    (void)fputs("}\ny: {<<: *x", out);
    for (unsigned i = 0; i < 13000; i++)
        (void)fprintf(out, ", b%u: ", i);
    (void)fputs("}\n", out);
    (void)fclose(out);
    assert_refused_and_free(text, "text:1:4: too much to merge");
    /* Of nothing, there is no end: but it is quick. */
    text = repeated("{", "<<: {}, ", 30000, "a: 1}");
    assert_reads(text, "{a:1}");
    free(text);
}

static void test_chain_of_aliases_has_a_limit(void **state)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    (void)state;
    (void)fputs("- *a0\n", out);
    for (unsigned i = 0; i < 200; i++)
        (void)fprintf(out, "- &a%u [*a%u]\n", i, i + 1);
    (void)fputs("- &a200 x\n", out);
    (void)fclose(out);
    assert_refused_and_free(text, "text:65:3: nested deeper than 64 levels");
}

/* 64 levels in each of 16 files in each other, and so in each of 64 aliases: neither may multiply.
 */
static void test_files_and_aliases_in_each_other_share_the_limit(void **state)
{
    char *open = repeated("", "[", 40, ""), *close = repeated("", "]", 40, "");
    char text[512];
    (void)state;
    write_text("inner.yaml", "%s x %s", open, close);
    write_text("outer.yaml", "%s [!file %s ] %s", open + 17, in_directory("inner.yaml"),
               close + 17);
    yoml_t *tree = tree_load_file(in_directory("outer.yaml"), error, sizeof(error));
    assert_non_null(tree);
    tree_free(tree);
    write_text("outer.yaml", "%s [!file %s ] %s", open + 16, in_directory("inner.yaml"),
               close + 16);
    assert_file_refused("outer.yaml", "inner.yaml:1:40: nested deeper than 64 levels");
    (void)snprintf(text, sizeof(text), "- &a %s x %s\n- %s *a %s\n", open, close, open + 17,
                   close + 17);
    tree = load_text(text);
    assert_non_null(tree);
    tree_free(tree);
    (void)snprintf(text, sizeof(text), "- &a %s x %s\n- %s *a %s\n", open, close, open + 16,
                   close + 16);
    assert_refused(text, "text:1:45: nested deeper than 64 levels");
    free(open);
    free(close);
}

static void test_file_that_is_too_large_is_not_read_through(void **state)
{
    (void)state;
    write_text("large", "a: 1\n");
    assert_int_equal(truncate(in_directory("large"), 100 << 20), 0);
    assert_file_refused("large", "large: cannot read it: larger than 4 MiB");
    write_text("outer.yaml", "a: !file %s\n", in_directory("large"));
    assert_file_refused("outer.yaml", "outer.yaml:1:4: cannot read ");
    assert_error(tree_load_file("/dev/zero", error, sizeof(error)),
                 "/dev/zero: cannot read it: larger than 4 MiB");
}

static void test_largest_file_is_read(void **state)
{
    (void)state;
    char *text = malloc(TREE_FILE_MAX + 1);
    memset(text, '#', TREE_FILE_MAX + 1);
    memcpy(text, "a: 1\n", 5);
    write_bytes("full", text, TREE_FILE_MAX);
    assert_file_reads("full", "{a:1}");
    write_bytes("full", text, TREE_FILE_MAX + 1);
    assert_file_refused("full", "full: cannot read it: larger than 4 MiB");
    free(text);
}

/* ---- what is no configuration ---- */

static void test_binary_junk_is_refused_in_one_line(void **state)
{
    static const char elf[] = "\x7f"
                              "ELF\2\1\1";
    unsigned char junk[256];
    (void)state;
    assert_error(tree_load_bytes("text", elf, sizeof(elf), error, sizeof(error)),
                 "text:1:1: not a text: control characters are not allowed");
    assert_refused("a: 1\nb: \xff\xfe\n", "text:2:");
    assert_non_null(strstr(error, "not a text: invalid leading UTF-8 octet"));
    for (unsigned seed = 0; seed < 256; seed++) {
        for (unsigned i = 0; i < sizeof(junk); i++)
            junk[i] = (unsigned char)((i + 1) * (2 * seed + 1) + (i * i * seed >> 3));
        yoml_t *tree =
            tree_load_bytes("text", (const char *)junk, sizeof(junk), error, sizeof(error));
        if (tree == NULL) {
            assert_int_equal(strncmp(error, "text:", 5), 0);
            assert_null(strchr(error, '\n'));
        }
        tree_free(tree);
    }
}

static void test_nul_in_a_text_is_refused(void **state)
{
    (void)state;
    assert_refused("a: \"b\\0c\"\n", "text:1:4: a text with a NUL byte in it");
    assert_error(tree_load_bytes("text", "a: b\0c\n", 7, error, sizeof(error)),
                 "text:1:5: not a text: control characters are not allowed");
}

static void test_nothing_is_no_configuration(void **state)
{
    (void)state;
    assert_refused("", "text:1:1: nothing in it");
    assert_refused("# a comment\n\n# another\n", "text:4:1: nothing in it");
    assert_refused("\xef\xbb\xbf", "text:1:1: nothing in it");
    assert_refused("%YAML 1.1\n", "text:");
    assert_reads("---\n", ""); /* a document with an empty text: the configurators refuse it */
    write_text("empty", "%s", "");
    assert_file_refused("empty", "empty:1:1: nothing in it");
}

static void test_second_document_is_refused(void **state)
{
    (void)state;
    assert_reads("---\na: 1\n...\n", "{a:1}");
    assert_refused("a: 1\n---\nb: 2\n", "text:2:1: a second document; only one is read");
    assert_refused("a: 1\n...\n---\n", "text:3:1: a second document; only one is read");
    assert_refused("a: 1\n---\n[\n", "text:2:1: a second document; only one is read");
    assert_refused("a: 1\n...\n]\n", "text:3:1: ");
    assert_refused("a: 1\n...\n\x01\n", "text:3:1: ");
}

static void test_syntax_errors_have_their_place_and_cause(void **state)
{
    (void)state;
    assert_refused("a: [1, 2\nb: 3\n", "text:2:2: while parsing a flow sequence: did not find "
                                       "expected ',' or ']'");
    assert_refused("a: 'b\n", "text:2:1: while scanning a quoted scalar: found unexpected end of "
                              "stream");
    assert_refused("a: b: c\n", "text:1:5: mapping values are not allowed in this context");
    assert_refused("a: 1\n\tb: 2\n",
                   "text:2:1: while scanning a plain scalar: found a tab character "
                   "that violates indentation");
    assert_refused("a: 1\n  b: 2\n", "text:2:4: mapping values are not allowed in this context");
    assert_refused("a: @b\n", "text:1:4: while scanning for the next token: found character that "
                              "cannot start any token");
    assert_refused("a: !x!y z\n", "text:1:4: while parsing a node: found undefined tag handle");
    assert_refused("a: *\n", "text:1:");
    assert_refused("a: &\n", "text:1:");
}

/* A parser counts from the place where it began; a name may be longer than a message. */
static void test_message_is_cut_to_its_room(void **state)
{
    char small[16];
    (void)state;
    assert_null(tree_load_bytes("text", "[", 1, small, sizeof(small)));
    assert_string_equal(small, "text:2:1: while");
}

/* ---- what is no file ---- */

static void test_unreadable_files_are_named(void **state)
{
    (void)state;
    assert_file_refused("none", "none: cannot read it: No such file or directory");
    assert_file_refused("", ": cannot read it: is a directory");
    write_text("file", "1\n");
    assert_file_refused("file/below", "file/below: cannot read it: Not a directory");
    assert_error(tree_load_file("", error, sizeof(error)),
                 ": cannot read it: No such file or directory");
    assert_int_equal(symlink("loop", in_directory("loop")), 0);
    assert_file_refused("loop", "loop: cannot read it: Too many levels of symbolic links");
    if (geteuid() == 0)
        return; /* root may read every file */
    assert_int_equal(chmod(in_directory("file"), 0), 0);
    assert_file_refused("file", "file: cannot read it: Permission denied");
}

static void test_fifo_without_a_writer_is_empty_at_once(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(in_directory("fifo"), 0600), 0);
    assert_file_refused("fifo", "fifo:1:1: nothing in it");
    int fd = open(in_directory("fifo"), O_RDWR | O_CLOEXEC); /* one that holds what was written */
    assert_int_equal(write(fd, "a: 1\n", 5), 5);
    int reader = open(in_directory("fifo"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    (void)close(reader);
    (void)close(fd);
}

static void test_device_without_end_or_bytes_is_refused(void **state)
{
    (void)state;
    assert_error(tree_load_file("/dev/null", error, sizeof(error)), "/dev/null:1:1: nothing in it");
}

/* ---- all ---- */

int main(void)
{
    (void)alarm(600); /* what never ends is a failure */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scalars_stay_texts),
        cmocka_unit_test(test_collections_nest_in_both_styles),
        cmocka_unit_test(test_positions_count_from_nought_and_name_the_file),
        cmocka_unit_test(test_block_text_has_the_line_where_its_text_begins),
        cmocka_unit_test(test_byte_order_mark_and_utf16_are_read),
        cmocka_unit_test(test_alias_is_a_copy_without_the_anchor),
        cmocka_unit_test(test_alias_may_stand_before_its_anchor),
        cmocka_unit_test(test_of_anchors_with_one_name_the_first_counts),
        cmocka_unit_test(test_alias_without_anchor_is_named),
        cmocka_unit_test(test_loops_of_aliases_are_refused),
        cmocka_unit_test(test_merge_takes_a_mapping_or_a_sequence_of_them),
        cmocka_unit_test(test_merged_keys_yield_to_those_after_the_merge),
        cmocka_unit_test(test_of_mappings_merged_at_once_the_later_wins),
        cmocka_unit_test(test_merges_nest_and_repeat),
        cmocka_unit_test(test_merge_of_anything_else_is_refused),
        cmocka_unit_test(test_file_tag_stands_for_the_document_in_it),
        cmocka_unit_test(test_nodes_of_an_included_file_have_its_name),
        cmocka_unit_test(test_path_of_an_included_file_is_as_seen_from_the_process),
        cmocka_unit_test(test_anchors_reach_across_files),
        cmocka_unit_test(test_problems_of_an_included_file_come_with_its_name),
        cmocka_unit_test(test_loops_of_files_end),
        cmocka_unit_test(test_nesting_has_a_limit),
        cmocka_unit_test(test_alias_bombs_are_bounded),
        cmocka_unit_test(test_tree_has_a_limit_without_aliases_too),
        cmocka_unit_test(test_texts_have_a_limit_however_few_nodes_have_them),
        cmocka_unit_test(test_merging_has_a_limit),
        cmocka_unit_test(test_chain_of_aliases_has_a_limit),
        cmocka_unit_test(test_files_and_aliases_in_each_other_share_the_limit),
        cmocka_unit_test(test_file_that_is_too_large_is_not_read_through),
        cmocka_unit_test(test_largest_file_is_read),
        cmocka_unit_test(test_binary_junk_is_refused_in_one_line),
        cmocka_unit_test(test_nul_in_a_text_is_refused),
        cmocka_unit_test(test_nothing_is_no_configuration),
        cmocka_unit_test(test_second_document_is_refused),
        cmocka_unit_test(test_syntax_errors_have_their_place_and_cause),
        cmocka_unit_test(test_message_is_cut_to_its_room),
        cmocka_unit_test(test_unreadable_files_are_named),
        cmocka_unit_test(test_fifo_without_a_writer_is_empty_at_once),
        cmocka_unit_test(test_device_without_end_or_bytes_is_refused),
    };
    return cmocka_run_group_tests_name("config_tree", tests, make_directory, remove_directory);
}

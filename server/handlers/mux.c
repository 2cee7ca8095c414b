#include "mux_p.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The patterns of one method are a tree: a node for each segment. A path is looked up from the
 * root: at each node a literal child comes first, then {name}, then the rest. All patterns that
 * match one path form a chain (see mux.h), and at the first segment where two of a chain differ,
 * the narrower one has the literal, or {name} beside a rest. So the first pattern found is the
 * narrowest.
 *
 * A node is visited at most once for a path, because its depth says which segment it stands for:
 * the patterns' number bounds the time, however they are made up. */

struct node {
    const char *text; /* the literal that leads here; a pattern's */
    size_t bytes;
    struct node **literals; /* sorted by their text */
    size_t count;
    struct node *one;               /* {name} */
    const struct mux_pattern *here; /* the path ends here, without '/' */
    const struct mux_pattern *end;  /* {$} */
    const struct mux_pattern *rest;
};

struct tree {
    struct tree *next; /* sorted by method */
    const char *method;
    struct node root;
};

struct mux {
    struct tree *trees;
    struct mux_pattern *patterns;
    size_t allow_bytes; /* of all methods, each with ", " */
};

struct mux *mux_create(void)
{
    return calloc(1, sizeof(struct mux));
}

static void release_node(struct node *node)
{
    for (size_t i = 0; i < node->count; i++) {
        release_node(node->literals[i]);
        free(node->literals[i]);
    }
    free(node->literals);
    if (node->one != NULL)
        release_node(node->one);
    free(node->one);
}

void mux_destroy(struct mux *mux)
{
    if (mux == NULL)
        return;
    for (struct tree *tree = mux->trees, *next; tree != NULL; tree = next) {
        next = tree->next;
        release_node(&tree->root);
        free(tree);
    }
    for (struct mux_pattern *pattern = mux->patterns, *next; pattern != NULL; pattern = next) {
        next = pattern->next;
        mux_pattern_destroy(pattern);
    }
    free(mux);
}

/* ---- adding ---- */

/* As mux_compare_segment(), of what is decoded already: a '%' in it is itself. */
static int compare_texts(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    int order = memcmp(a, b, a_bytes < b_bytes ? a_bytes : b_bytes);

    return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

/* Where a literal is among a node's children, or belongs. */
static size_t literal_at(const struct node *node, const char *segment, size_t bytes,
                         int (*compare)(const char *, size_t, const char *, size_t),
                         bool *ret_found)
{
    size_t low = 0, high = node->count;

    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct node *child = node->literals[middle];
        int order = compare(segment, bytes, child->text, child->bytes);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    *ret_found = false;
    return low;
}

static struct node *literal_child(struct node *node, const struct mux_segment *segment)
{
    bool is_there;
    size_t at = literal_at(node, segment->text, segment->bytes, compare_texts, &is_there);

    if (is_there)
        return node->literals[at];
    struct node **more = realloc(node->literals, (node->count + 1) * sizeof(struct node *));
    if (more == NULL)
        return NULL;
    node->literals = more;
    struct node *child = calloc(1, sizeof(*child));
    if (child == NULL)
        return NULL;
    child->text = segment->text;
    child->bytes = segment->bytes;
    memmove(more + at + 1, more + at, (node->count - at) * sizeof(struct node *));
    more[at] = child;
    node->count++;
    return child;
}

static int add_to_tree(struct tree *tree, const struct mux_pattern *pattern)
{
    struct node *node = &tree->root;

    for (size_t i = 0; i < pattern->count; i++) {
        const struct mux_segment *segment = &pattern->segment[i];
        switch (segment->kind) {
        case MUX_REST:
            node->rest = pattern;
            return 0;
        case MUX_END:
            node->end = pattern;
            return 0;
        case MUX_ONE:
            if (node->one == NULL)
                node->one = calloc(1, sizeof(*node->one));
            node = node->one;
            break;
        case MUX_LITERAL:
            node = literal_child(node, segment);
            break;
        }
        if (node == NULL)
            return -ENOMEM;
    }
    node->here = pattern;
    return 0;
}

static struct tree *tree_of(const struct mux *mux, const char *method, size_t bytes)
{
    for (struct tree *tree = mux->trees; tree != NULL; tree = tree->next)
        if (strlen(tree->method) == bytes && memcmp(tree->method, method, bytes) == 0)
            return tree;
    return NULL;
}

/* "GET, HEAD, POST": sorted, and HEAD is there with GET. */
static size_t allow_bytes(const char *method)
{
    size_t bytes = strlen(method);

    return bytes == 0 ? 0 : bytes + 2 + (strcmp(method, "GET") == 0 ? strlen("HEAD, ") : 0);
}

static struct tree *make_tree(struct mux *mux, const char *method)
{
    struct tree *tree = calloc(1, sizeof(*tree)), **at = &mux->trees;

    if (tree == NULL)
        return NULL;
    tree->method = method;
    while (*at != NULL && strcmp((*at)->method, method) < 0)
        at = &(*at)->next;
    tree->next = *at;
    *at = tree;
    mux->allow_bytes += allow_bytes(method);
    return tree;
}

static bool is_conflict(const struct mux_pattern *pattern, const struct mux_pattern *other)
{
    enum mux_relation relation = other != NULL ? mux_compare(pattern, other) : MUX_APART;

    return relation == MUX_SAME || relation == MUX_CROSSING;
}

/* One of the patterns at the node and below that conflicts with `pattern`; NULL: none does. `at`:
 * the segment of `pattern` for the node's children. All literals are looked at only where that is a
 * parameter or the rest, so that thousands of routes are added quickly. No node is visited twice.
 * Recursion: as deep as the tree, MUX_SEGMENTS at most. */
static const struct mux_pattern *conflict_below(const struct node *node,
                                                const struct mux_pattern *pattern, size_t at)
{
    const struct mux_pattern *ends[] = {node->here, node->end, node->rest}, *found = NULL;
    const struct mux_segment *last = &pattern->segment[pattern->count - 1];
    const struct mux_segment *segment = at < pattern->count ? &pattern->segment[at] : last;
    size_t from = 0, to = node->count;
    bool is_there;

    for (size_t i = 0; i < 3; i++)
        if (is_conflict(pattern, ends[i]))
            return ends[i];
    if (segment->kind == MUX_END || (at >= pattern->count && last->kind != MUX_REST))
        return NULL; /* longer paths are not for it */
    if (segment->kind == MUX_LITERAL) {
        from = literal_at(node, segment->text, segment->bytes, compare_texts, &is_there);
        to = from + is_there;
    }
    for (size_t i = from; i < to && found == NULL; i++)
        found = conflict_below(node->literals[i], pattern, at + 1);
    if (found == NULL && node->one != NULL)
        found = conflict_below(node->one, pattern, at + 1);
    return found;
}

static const struct mux_pattern *find_conflict(const struct mux *mux,
                                               const struct mux_pattern *pattern)
{
    const struct mux_pattern *found = NULL;

    for (const struct tree *i = mux->trees; i != NULL && found == NULL; i = i->next)
        if (mux_compare_methods(pattern->method, i->method) != MUX_APART)
            found = conflict_below(&i->root, pattern, 0);
    return found;
}

static int check(const struct mux *mux, const struct mux_pattern *pattern, char error[MUX_ERROR])
{
    const struct mux_pattern *other = find_conflict(mux, pattern);

    if (other != NULL) {
        bool is_same = mux_compare(pattern, other) == MUX_SAME;
        (void)snprintf(error, MUX_ERROR, "pattern \"%.90s\" %s \"%.90s\"%s", pattern->text,
                       is_same ? "takes the same requests as" : "overlaps", other->text,
                       is_same ? "" : ", and neither is more specific");
        return -EINVAL;
    }
    if (mux->allow_bytes + allow_bytes(pattern->method) > MUX_ALLOW &&
        tree_of(mux, pattern->method, strlen(pattern->method)) == NULL) {
        (void)snprintf(error, MUX_ERROR, "pattern \"%.90s\": too many methods for a field Allow",
                       pattern->text);
        return -EINVAL;
    }
    return 0;
}

int mux_add(struct mux *mux, const char *text, void *value, char error[MUX_ERROR])
{
    struct mux_pattern *pattern;
    int err = mux_pattern_create(text, &pattern, error);

    if (err != 0)
        return err;
    pattern->value = value;
    err = check(mux, pattern, error);
    if (err != 0) {
        mux_pattern_destroy(pattern);
        return err;
    }
    /* From here on the tree may refer to it, even if not all of it could be added. */
    pattern->next = mux->patterns;
    mux->patterns = pattern;
    struct tree *tree = tree_of(mux, pattern->method, strlen(pattern->method));
    if (tree == NULL)
        tree = make_tree(mux, pattern->method);
    return tree == NULL ? -ENOMEM : add_to_tree(tree, pattern);
}

/* ---- finding ---- */

/* `at`: where a '/' is, or the end.     Recursion: as deep as the tree, MUX_SEGMENTS at most. */
static const struct mux_pattern *match(const struct node *node, const char *at, const char *end)
{
    if (at == end)
        return node->here;
    const char *segment = at + 1;
    const char *next = memchr(segment, '/', (size_t)(end - segment));
    if (next == NULL)
        next = end;
    if (segment == end)
        return node->end != NULL ? node->end : node->rest;
    size_t bytes = (size_t)(next - segment);
    const struct mux_pattern *found = NULL;
    if (bytes > 0) {
        bool is_there;
        size_t i = literal_at(node, segment, bytes, mux_compare_segment, &is_there);
        if (is_there)
            found = match(node->literals[i], next, end);
        if (found == NULL && node->one != NULL)
            found = match(node->one, next, end);
    }
    return found != NULL ? found : node->rest;
}

static const struct mux_pattern *match_method(const struct mux *mux, const char *method,
                                              size_t bytes, const char *path, const char *end)
{
    const struct tree *tree = tree_of(mux, method, bytes);

    return tree != NULL ? match(&tree->root, path, end) : NULL;
}

static void set_params(const struct mux_pattern *pattern, const char *path, const char *end,
                       struct mux_match *to)
{
    const char *at = path;

    for (size_t i = 0; i < pattern->count; i++) {
        const struct mux_segment *segment = &pattern->segment[i];
        const char *begin = at + 1, *next = NULL;
        if (segment->kind != MUX_REST)
            next = memchr(begin, '/', (size_t)(end - begin));
        if (next == NULL)
            next = end;
        at = next;
        if (segment->kind == MUX_LITERAL || segment->bytes == 0)
            continue;
        to->param[to->params].name = segment->text;
        to->param[to->params].at = (size_t)(begin - path);
        to->param[to->params].bytes = (size_t)(next - begin);
        to->params++;
    }
}

static void append(char allow[MUX_ALLOW], const char *method)
{
    size_t used = strlen(allow);

    (void)snprintf(allow + used, MUX_ALLOW - used, "%s%s", used > 0 ? ", " : "", method);
}

static void list_methods(const struct mux *mux, const char *path, const char *end,
                         char allow[MUX_ALLOW])
{
    bool has_head = false;

    for (const struct tree *tree = mux->trees; tree != NULL; tree = tree->next) {
        if (match(&tree->root, path, end) == NULL ||
            (has_head && strcmp(tree->method, "HEAD") == 0))
            continue;
        append(allow, tree->method);
        if (strcmp(tree->method, "GET") == 0) {
            append(allow, "HEAD");
            has_head = true;
        }
    }
}

void mux_find(const struct mux *mux, const char *method, size_t method_bytes, const char *path,
              size_t path_bytes, struct mux_match *ret_match)
{
    const char *end = path + path_bytes;
    bool is_head = method_bytes == 4 && memcmp(method, "HEAD", 4) == 0;

    ret_match->value = NULL;
    ret_match->allow[0] = '\0';
    ret_match->params = 0;
    if (path_bytes == 0 || *path != '/')
        return;
    const struct mux_pattern *found = match_method(mux, method, method_bytes, path, end);
    if (found == NULL && is_head)
        found = match_method(mux, "GET", 3, path, end);
    if (found == NULL)
        found = match_method(mux, "", 0, path, end);
    if (found == NULL) {
        list_methods(mux, path, end, ret_match->allow);
        return;
    }
    ret_match->value = found->value;
    set_params(found, path, end, ret_match);
}

/* ---- paths ---- */

/* 1: the segment is ".", 2: "..", 0: neither */
static int dots(const char *segment, size_t bytes)
{
    int count = 0;

    for (size_t i = 0; i < bytes; count++) {
        unsigned char c;
        i += mux_decode_one(segment + i, bytes - i, &c);
        if (c != '.' || count == 2)
            return 0;
    }
    return count;
}

size_t mux_clean_path(const char *target, size_t bytes, char *to)
{
    const char *query = memchr(target, '?', bytes);
    const char *at = target, *end = query != NULL ? query : target + bytes;
    size_t used = 0;

    while (at < end && *at == '/') {
        const char *segment = at + 1, *next = memchr(segment, '/', (size_t)(end - segment));
        bool is_last = next == NULL;
        if (is_last)
            next = end;
        int count = dots(segment, (size_t)(next - segment));
        if (count == 2)
            while (used > 0 && to[--used] != '/')
                ;
        if (count == 0) {
            memmove(to + used, at, (size_t)(next - at));
            used += (size_t)(next - at);
        } else if (is_last) {
            to[used++] = '/';
        }
        at = next;
    }
    if (at < end && at == target) { /* no path: "*" */
        memmove(to, target, (size_t)(end - target));
        used = (size_t)(end - target);
    }
    to[used] = '\0';
    return used;
}

bool mux_is_under(const char *prefix, const char *path, size_t path_bytes)
{
    const char *end = path + path_bytes;

    while (*prefix == '/') {
        if (path == end || *path != '/')
            return false;
        size_t bytes = strcspn(++prefix, "/");
        if (bytes == 0 && prefix[bytes] == '\0')
            return true;
        const char *segment = path + 1, *next = memchr(segment, '/', (size_t)(end - segment));
        if (next == NULL)
            next = end;
        if (mux_compare_segment(segment, (size_t)(next - segment), prefix, bytes) != 0)
            return false;
        prefix += bytes;
        path = next;
    }
    return true;
}

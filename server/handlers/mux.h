#ifndef LASTCALL_MUX_H
#define LASTCALL_MUX_H

/* Which route takes a request? Patterns as in Go's ServeMux (net/http, "Patterns"), without hosts:
 *
 *     "PATTERN" or "METHOD PATTERN"
 *     /a            that path alone
 *     /a/           everything below it, /a/ too
 *     /a/{id}       one segment, not an empty one
 *     /a/{rest...}  all that follows, /a/ too
 *     /a/{$}        /a/ alone
 *
 * GET takes HEAD too. The most specific pattern wins, whatever the order of the calls: the one
 * whose requests are a part of the other's. Of two patterns that share some requests, one has to be
 * more specific; mux_add() refuses the second one otherwise. So the patterns that match one request
 * always form a chain, and its end is the answer.
 *
 * A path is compared segment by segment, with both sides' %XX decoded in each: /a%2Fb is one
 * segment. Unlike Go's, nothing is redirected: /a is not found if only /a/ is there. */

#include <stdbool.h>
#include <stddef.h>

#define MUX_PARAMS 16
#define MUX_SEGMENTS 64  /* of a pattern */
#define MUX_PATTERN 1024 /* bytes of a pattern */
#define MUX_ALLOW 256    /* for all methods of a mux, each with ", " */
#define MUX_ERROR 256

struct mux;

struct mux_match {
    void *value; /* NULL: nothing matches */
    /* a path matches, but no method: for the field Allow, "GET, HEAD, POST"; else "" */
    char allow[MUX_ALLOW];
    size_t params;
    struct {
        const char *name; /* the mux's */
        size_t at, bytes; /* in the path that was given; not decoded */
    } param[MUX_PARAMS];
};

/* NULL: no memory. */
struct mux *mux_create(void);
void mux_destroy(struct mux *mux);
/* `value` is not NULL. 0; -EINVAL, and one line in `error`: the pattern is none, or overlaps
 * another and neither is more specific; -ENOMEM.     Thread: before start. */
int mux_add(struct mux *mux, const char *pattern, void *value, char error[MUX_ERROR]);
/* `path`: as mux_clean_path() returns it.     Thread: any.     Blocks: never. */
void mux_find(const struct mux *mux, const char *method, size_t method_bytes, const char *path,
              size_t path_bytes, struct mux_match *ret_match);

/* The path of a request's target for mux_find(): without the query, the segments "." and ".."
 * resolved (RFC 3986 section 5.2.4; "%2e" is a dot as well), not decoded. `to` has room for `bytes`
 * + 1 and may be `target`; a '\0' follows.     Returns the bytes.     Thread: any. */
size_t mux_clean_path(const char *target, size_t bytes, char *to);

/* Is the path `prefix`, or below it? "/a" covers /a and /a/b, "/a/" only /a/ and /a/b. Segments are
 * compared as mux_find() does.     Thread: any. */
bool mux_is_under(const char *prefix, const char *path, size_t path_bytes);

#endif

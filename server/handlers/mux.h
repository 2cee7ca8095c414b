#ifndef LASTCALL_MUX_H
#define LASTCALL_MUX_H

/* Which route takes a request? Patterns as in Go's ServeMux (net/http, "Patterns"), without hosts:
 *
 *     "PATTERN" or "METHOD PATTERN"
 *     /a            that path alone
 *     /a/           everything below it
 *     /a/{id}       one segment
 *     /a/{rest...}  all that follows
 *     /a/{$}        /a/ alone
 *
 * GET takes HEAD too. The most specific pattern wins, whatever the order of the calls. */

#include <stdbool.h>
#include <stddef.h>

#define MUX_PARAMS 16
#define MUX_ERROR 256

struct mux;

struct mux_match {
    void *value; /* NULL: nothing matches */
    /* a path matches, but no method: for the field Allow, "GET, HEAD, POST"; else "" */
    char allow[256];
    size_t params;
    struct {
        const char *name; /* the mux's */
        size_t at, bytes; /* in the path that was given */
    } param[MUX_PARAMS];
};

/* NULL: no memory. */
struct mux *mux_create(void);
void mux_destroy(struct mux *mux);
/* 0; -EINVAL, and one line in `error`: the pattern is none, or overlaps another and neither is more
 * specific; -ENOMEM.     Thread: before start. */
int mux_add(struct mux *mux, const char *pattern, void *value, char error[MUX_ERROR]);
/* `path`: without the query, "." and ".." resolved, not decoded.     Thread: any. */
void mux_find(const struct mux *mux, const char *method, size_t method_bytes, const char *path,
              size_t path_bytes, struct mux_match *ret_match);

#endif

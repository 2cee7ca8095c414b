#include "request_p.h"

#include <errno.h>
#include <string.h>

/* All pairs of a query or of a form, in the order in which they were sent; so also several of one
 * name. They are decoded together when the first is asked for, so that going through them takes a
 * time that grows with their number, and not with its square. */

static const char *decode_piece(const struct lc_piece *piece, char **to)
{
    char *decoded = *to;

    *to += lc_decode(piece->at, piece->bytes, decoded, true) + 1;
    return decoded;
}

/* Each pair has at most as many bytes as its piece, and two '\0' for one '=' or for none. NULL: no
 * memory. */
static const struct lc_pairs *decode(struct lc_request *request, const char *text, size_t bytes)
{
    struct exchange *exchange = request->exchange;
    const char *end = text + bytes;
    struct lc_piece piece[2];
    size_t count = 0;

    for (const char *at = text; lc_next_pair(&at, end, piece);)
        count++;
    struct lc_pairs *pairs =
        exchange->ops->alloc(exchange, sizeof(*pairs) + count * sizeof(pairs->pair[0]));
    char *to = pairs != NULL ? exchange->ops->alloc(exchange, bytes + 2 * count) : NULL;
    if (to == NULL)
        return NULL;
    pairs->count = 0;
    for (const char *at = text; lc_next_pair(&at, end, piece); pairs->count++) {
        pairs->pair[pairs->count].name = decode_piece(&piece[0], &to);
        pairs->pair[pairs->count].value = decode_piece(&piece[1], &to);
    }
    return pairs;
}

static int give(const struct lc_pairs *pairs, size_t i, const char **name, const char **value)
{
    if (pairs == NULL)
        return -ENOMEM;
    if (i >= pairs->count)
        return LC_E_ARG;
    if (name != NULL)
        *name = pairs->pair[i].name;
    if (value != NULL)
        *value = pairs->pair[i].value;
    return 0;
}

int lc_query_at(lc_req *req, size_t i, const char **name, const char **value)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    const char *query = request->exchange->query;
    if (request->query_pairs == NULL)
        request->query_pairs = decode(request, query, strlen(query));
    return give(request->query_pairs, i, name, value);
}

int lc_form_at(lc_req *req, size_t i, const char **name, const char **value)
{
    struct lc_request *request = LC_HELD(req);

    if (request == NULL)
        return LC_E_THREAD;
    if (!lc_has_form(request))
        return LC_E_ARG;
    if (request->form_pairs == NULL)
        request->form_pairs =
            decode(request, request->exchange->body, request->exchange->body_bytes);
    return give(request->form_pairs, i, name, value);
}

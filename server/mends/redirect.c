/* The Location of `redirect`, and of a folder whose last slash is missing.
 *
 * Fault: the library appends the rest of the request's path to the configured prefix. For the
 * prefix `/` and the path `//evil.example/x` that is `//evil.example/x`, which names another host
 * (RFC 3986 section 4.2): a link to this server leads anywhere. With `internal: YES` the process
 * itself connects there. `//name` for a folder `name` of a document root becomes `//name/`.
 *
 * Upstream: never changed in the 2.2 series.
 *
 * Replaced: h2o_build_destination(), which the redirect handler calls with the prefix; the proxy
 * handler calls it, too, with the original path, and is not changed. A configured prefix that
 * begins with `//` is kept. And h2o_send_redirect(), for the handler of files, which appends to the
 * path.
 */

#include <stdint.h>
#include <string.h>

#include "mends.h"

static bool names_a_host(const char *path, size_t length)
{
    return length >= 2 && path[0] == '/' && path[1] == '/';
}

static h2o_iovec_t stay_here(h2o_iovec_t path)
{
    while (names_a_host(path.base, path.len)) {
        path.base++;
        path.len--;
    }
    return path;
}

h2o_iovec_t redirect_check(h2o_iovec_t destination, const char *prefix, size_t prefix_len)
{
    return names_a_host(prefix, prefix_len) ? destination : stay_here(destination);
}

h2o_iovec_t redirect_check_folder(h2o_req_t *req, h2o_iovec_t url)
{
    if (!names_a_host(url.base, url.len))
        return url;
    h2o_iovec_t path =
        h2o_uri_escape(&req->pool, req->path_normalized.base, req->path_normalized.len, "/");
    return url.len > path.len && memcmp(url.base, path.base, path.len) == 0 ? stay_here(url) : url;
}

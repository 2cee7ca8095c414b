#include "claims.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "clock.h"
#include "loop.h"
#include "server_state.h"
#include "trust.h"

#define ID_BYTES 16 /* RFC 9562: 122 random bits are enough to be unique; these are 128 */

enum claims claims_of(const h2o_req_t *req)
{
    const struct trust *trust = loop_of(req->conn)->server->trust;
    struct sockaddr_storage peer = {.ss_family = AF_UNSPEC};

    if (trust == NULL)
        return CLAIMS_UNRULED;
    socklen_t len = req->conn->callbacks->get_peername(req->conn, (void *)&peer);
    return trust_has_peer(trust, (void *)&peer, len) ? CLAIMS_BELIEVED : CLAIMS_DROPPED;
}

bool claims_may_be_id(const char *text, size_t bytes)
{
    if (bytes == 0 || bytes > CLAIMS_ID_MOST)
        return false;
    for (size_t i = 0; i < bytes; i++)
        if (!isalnum((unsigned char)text[i]) && (text[i] == '\0' || !strchr("-._~+/=:@", text[i])))
            return false;
    return true;
}

/* ---- a new one ---- */

/* A system without getrandom(2) gives ids of the clock: they are still unique in this process. */
static void refill(struct loop *loop)
{
    struct claims_random *random = &loop->claims_random;
    ssize_t got;

    do
        got = getrandom(random->bytes, sizeof(random->bytes), 0);
    while (got < 0 && errno == EINTR);
    if (got < ID_BYTES) {
        const uint64_t stand_in[2] = {(uint64_t)(uintptr_t)loop, clock_now_ns()};
        memcpy(random->bytes, stand_in, ID_BYTES);
        got = ID_BYTES;
    }
    random->left = (size_t)got;
}

static h2o_iovec_t make(struct loop *loop, h2o_req_t *req)
{
    static const char digits[] = "0123456789abcdef";
    struct claims_random *random = &loop->claims_random;
    char *text = h2o_mem_alloc_pool(&req->pool, 2 * ID_BYTES);

    if (random->left < ID_BYTES)
        refill(loop);
    for (size_t i = 0; i < ID_BYTES; i++) {
        uint8_t byte = random->bytes[--random->left];
        text[2 * i] = digits[byte >> 4];
        text[2 * i + 1] = digits[byte & 15];
    }
    return h2o_iovec_init(text, 2 * ID_BYTES);
}

/* ---- the request's ---- */

/* Set the first field of that name, and remove the others. */
static void set_field(h2o_req_t *req, h2o_iovec_t id)
{
    ssize_t at = h2o_find_header_by_str(&req->headers, H2O_STRLIT(CLAIMS_ID_FIELD), -1);

    if (at == -1) {
        h2o_add_header_by_str(&req->pool, &req->headers, H2O_STRLIT(CLAIMS_ID_FIELD), 0,
                              "X-Request-Id", id.base, id.len);
        return;
    }
    req->headers.entries[at].value = id;
    while ((at = h2o_find_header_by_str(&req->headers, H2O_STRLIT(CLAIMS_ID_FIELD), at)) != -1)
        at = h2o_delete_header(&req->headers, at) - 1;
}

h2o_iovec_t claims_give_id(h2o_req_t *req)
{
    ssize_t at = h2o_find_header_by_str(&req->headers, H2O_STRLIT(CLAIMS_ID_FIELD), -1);
    h2o_iovec_t id = at != -1 ? req->headers.entries[at].value : h2o_iovec_init(NULL, 0);

    if (at == -1 || !claims_may_be_id(id.base, id.len) || claims_of(req) != CLAIMS_BELIEVED)
        id = make(loop_of(req->conn), req);
    set_field(req, id);
    *h2o_req_getenv(req, H2O_STRLIT(OWN_VARIABLE_REQUEST_ID), 1) = id;
    return id;
}

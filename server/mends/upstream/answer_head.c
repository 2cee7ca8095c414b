#include "answer_head.h"

bool answer_has_body(const h2o_req_t *req)
{
    return req->res.status >= 200 && req->res.status != 204 && req->res.status != 304 &&
           !h2o_memis(req->input.method.base, req->input.method.len, H2O_STRLIT("HEAD"));
}

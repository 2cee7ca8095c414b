/* What is noted about a request for its line in the access log. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "forward_p.h"

/* A request that waits for an upstream may try one four times a second, for minutes. */
static void test_the_notes_of_a_request_are_bounded(void **state)
{
    h2o_req_t req = {.conn = NULL};
    struct forward forward = {.req = &req, .protocol = &forward_http};
    (void)state;
    h2o_mem_init_pool(&req.pool);
    for (unsigned i = 0; i < 10000; i++)
        forward_note(&forward, h2o_iovec_init(H2O_STRLIT("refused (connect)")));
    assert_in_range(req.error_logs.size, 9, 12); /* eight lines of FastCGI, and the failure */
    assert_string_equal(req.error_logs.entries[8].msg.base, "refused (connect)");
    h2o_mem_clear_pool(&req.pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_notes_of_a_request_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

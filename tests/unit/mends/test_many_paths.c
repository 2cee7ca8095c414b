/* A context with many paths: its begin and its end each call every handler, filter and logger once,
 * and libh2o looks for none of the paths in its list. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mends.h"
#include "replaced.h"

#define PATHS 100

static unsigned begun[3], ended[3];

static void handler_begins(h2o_handler_t *self, h2o_context_t *ctx)
{
    (void)self, (void)ctx;
    begun[0]++;
}

static void handler_ends(h2o_handler_t *self, h2o_context_t *ctx)
{
    (void)self, (void)ctx;
    ended[0]++;
}

static void filter_begins(h2o_filter_t *self, h2o_context_t *ctx)
{
    (void)self, (void)ctx;
    begun[1]++;
}

static void filter_ends(h2o_filter_t *self, h2o_context_t *ctx)
{
    (void)self, (void)ctx;
    ended[1]++;
}

static void logger_begins(h2o_logger_t *self, h2o_context_t *ctx)
{
    (void)self, (void)ctx;
    begun[2]++;
}

static void logger_ends(h2o_logger_t *self, h2o_context_t *ctx)
{
    (void)self, (void)ctx;
    ended[2]++;
}

static void fill(h2o_pathconf_t *path)
{
    h2o_handler_t *handler = h2o_create_handler(path, sizeof(*handler));
    h2o_filter_t *filter = h2o_create_filter(path, sizeof(*filter));
    h2o_logger_t *logger = h2o_create_logger(path, sizeof(*logger));

    handler->on_context_init = handler_begins;
    handler->on_context_dispose = handler_ends;
    filter->on_context_init = filter_begins;
    filter->on_context_dispose = filter_ends;
    logger->on_context_init = logger_begins;
    logger->on_context_dispose = logger_ends;
}

static void test_each_path_begins_and_ends_once_and_is_not_looked_for(void **state)
{
    (void)state;
    h2o_globalconf_t conf;
    h2o_context_t ctx;
    char text[16], error[REPLACED_ERROR_SIZE];

    if (!replaced_init(error, sizeof(error)) || !replaced_check_calls(error, sizeof(error)))
        fail_msg("%s", error);
    h2o_config_init(&conf);
    h2o_hostconf_t *host =
        h2o_config_register_host(&conf, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    for (unsigned i = 0; i < PATHS; i++) {
        (void)snprintf(text, sizeof(text), "/%u", i);
        fill(h2o_config_register_path(host, text, 0));
    }
    fill(&host->fallback_path);
    h2o_evloop_t *evloop = h2o_evloop_create();
    h2o_context_init(&ctx, evloop, &conf);
    /* Again, as file.custom-handler has it: what has no text begins once. */
    h2o_context_init_pathconf_context(&ctx, &host->fallback_path);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(begun[i], PATHS + 1);
    assert_int_equal(ctx._pathconfs_inited.size, 1);
    h2o_context_dispose_pathconf_context(&ctx, &host->fallback_path);
    left_over_context(&ctx);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(ended[i], PATHS + 1);
    left_over_evloop(evloop);
    left_over_config(&conf, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_path_begins_and_ends_once_and_is_not_looked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

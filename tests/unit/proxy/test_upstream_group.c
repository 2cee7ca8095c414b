/* Who of a group gets a request, by health, backups and trials. The view has no loop: only the
 * choice is looked at. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "upstream_group.h"

#define COUNT 3
#define S NS_PER_S

static struct {
    struct group_rules rules;
    struct upstream_group *group;
    struct upstream_view *views[2];
    char names[COUNT][32];
    uint64_t now_ns;
} made;

static struct upstream_view *make_view(void)
{
    struct upstream_view *view =
        calloc(1, sizeof(*view) + COUNT * sizeof(struct group_view_member));

    assert_non_null(view);
    view->group = made.group;
    view->choices = calloc(COUNT, sizeof(view->choices[0]));
    assert_non_null(view->choices);
    for (size_t i = 0; i < COUNT; i++) {
        view->members[i].view = view;
        view->members[i].index = i;
        view->choices[i].name = made.group->members[i].name;
    }
    return view;
}

/* The last one is a backup. */
static void make(enum balance balance)
{
    made.rules = (struct group_rules){
        .balance = balance,
        .health = {.failures = 1, .eject_ns = 1 * S, .eject_most_ns = 8 * S, .rise = 1, .fall = 1}};
    made.group = upstream_group_create(COUNT);
    made.group->rules = &made.rules;
    for (size_t i = 0; i < COUNT; i++) {
        (void)snprintf(made.names[i], sizeof(made.names[i]), "http://10.0.0.%zu", i);
        made.group->members[i].target.name = made.names[i];
        made.group->members[i].weight = 1;
        made.group->members[i].is_backup = i == COUNT - 1;
    }
    upstream_group_finish(made.group);
    made.group->views = h2o_mem_alloc(2 * sizeof(made.group->views[0]));
    for (size_t i = 0; i < 2; i++)
        made.group->views[i] = made.views[i] = make_view();
    made.group->view_count = 2;
    made.now_ns = 1000 * S;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        free(made.views[i]->choices);
        free(made.views[i]);
    }
    upstream_group_destroy(made.group);
    return 0;
}

#define NONE COUNT

/* The index that is chosen, NONE: none is. */
static health_trial trial; /* of the last choice */

static size_t choose(const struct group_wish *wish)
{
    struct upstream *upstream = upstream_view_choose(made.views[0], wish, made.now_ns, &trial);

    return upstream != NULL ? group_view_member(upstream)->index : NONE;
}

static void expect(const struct group_wish *wish, size_t index, bool is_trial)
{
    assert_int_equal(choose(wish), index);
    assert_int_equal(trial != HEALTH_NO_TRIAL, is_trial);
}

static const struct group_wish safe = {.is_safe = true}, unsafe = {.is_safe = false};

static void eject(size_t i)
{
    assert_int_not_equal(health_failed(made.group->health, i, HEALTH_NO_TRIAL, true, made.now_ns),
                         0);
}

/* ---- backups ---- */

static void test_a_backup_is_for_when_no_other_is_up(void **state)
{
    (void)state;
    make(BALANCE_ROUND_ROBIN);
    expect(&safe, 0, false);
    expect(&safe, 1, false);
    expect(&safe, 0, false);
    eject(0);
    expect(&safe, 1, false);
    eject(1);
    expect(&safe, 2, false);
    expect(&safe, 2, false);
}

static void test_a_backup_is_for_requests_that_have_tried_the_others(void **state)
{
    struct group_wish wish = {.not_these = 1, .is_safe = true};
    (void)state;
    make(BALANCE_ROUND_ROBIN);
    expect(&wish, 1, false);
    wish.not_these = 3;
    expect(&wish, 2, false);
    wish.not_these = 7;
    expect(&wish, NONE, false);
}

/* ---- trials ---- */

static void test_a_trial_comes_first_when_the_ejection_is_over(void **state)
{
    (void)state;
    make(BALANCE_ROUND_ROBIN);
    eject(1);
    made.now_ns += 1 * S;
    expect(&unsafe, 0, false);
    expect(&safe, 1, true);
    health_trial first = trial;
    expect(&safe, 0, false); /* one at a time */
    assert_true(health_succeeded(made.group->health, 1, first, made.now_ns));
    expect(&unsafe, 0, false);
    expect(&unsafe, 1, false);
}

static void test_any_request_tries_it_if_no_safe_one_comes(void **state)
{
    (void)state;
    make(BALANCE_ROUND_ROBIN);
    eject(1);
    made.now_ns += 2 * S - 1;
    expect(&unsafe, 0, false);
    made.now_ns += 1;
    expect(&unsafe, 1, true);
}

static void test_if_none_is_up_any_is_tried_early(void **state)
{
    (void)state;
    make(BALANCE_ROUND_ROBIN);
    for (size_t i = 0; i < COUNT; i++)
        eject(i);
    expect(&safe, NONE, false);
    made.now_ns += HEALTH_TRIALS_APART_NS;
    for (size_t i = 0; i < COUNT; i++)
        expect(&unsafe, i, true);
    expect(&unsafe, NONE, false);
    assert_int_equal(upstream_group_retry_after_s(made.group), 1);
}

static void test_those_that_checks_found_down_are_not_tried(void **state)
{
    (void)state;
    make(BALANCE_ROUND_ROBIN);
    made.rules.check_every_ms = 2500;
    for (size_t i = 0; i < COUNT; i++)
        assert_true(health_checked(made.group->health, i, false, made.now_ns));
    made.now_ns += 1000 * S;
    expect(&safe, NONE, false);
    assert_int_equal(upstream_group_retry_after_s(made.group), 3);
}

/* ---- keys ---- */

static void test_a_key_returns_to_its_member_with_a_trial(void **state)
{
    struct group_wish wish = {.has_key = true, .is_safe = true};
    (void)state;
    make(BALANCE_HASH);
    wish.key = choice_hash("a", 1);
    size_t own = choose(&wish);
    assert_in_range(own, 0, 1);
    eject(own);
    expect(&wish, 1 - own, false);
    made.now_ns += 1 * S;
    expect(&wish, own, true);
    health_trial own_trial = trial;
    expect(&wish, 1 - own, false); /* one at a time */
    assert_true(health_succeeded(made.group->health, own, own_trial, made.now_ns));
    expect(&wish, own, false);
}

static void test_requests_without_a_key_go_in_turn(void **state)
{
    (void)state;
    make(BALANCE_HASH);
    expect(&safe, 0, false);
    expect(&safe, 1, false);
    expect(&safe, 0, false);
}

/* ---- the fewest requests ---- */

static void test_the_requests_of_all_loops_count(void **state)
{
    (void)state;
    make(BALANCE_LEAST);
    upstream_begin_tunnel(&made.views[1]->members[0].upstream);
    for (unsigned i = 0; i < 3; i++)
        expect(&safe, 1, false);
    upstream_end_tunnel(&made.views[1]->members[0].upstream);
    upstream_begin_tunnel(&made.views[0]->members[1].upstream);
    for (unsigned i = 0; i < 3; i++)
        expect(&safe, 0, false);
}

static void test_one_that_ends_leaves_the_list_of_the_server(void **state)
{
    static const struct group_rules rules;
    h2o_iovec_t host = h2o_iovec_init(H2O_STRLIT("a")), path = h2o_iovec_init(H2O_STRLIT("/"));
    struct upstream_group *all = NULL, *groups[3];
    h2o_mem_pool_t memory;

    (void)state;
    h2o_mem_init_pool(&memory);
    for (size_t i = 0; i < 3; i++) {
        groups[i] = upstream_group_create(0);
        groups[i]->rules = &rules;
        upstream_group_join(groups[i], &all, &memory, host, path);
    }
    upstream_group_destroy(groups[1]);
    assert_ptr_equal(all, groups[0]);
    assert_ptr_equal(all->next, groups[2]);
    upstream_group_destroy(groups[0]);
    assert_ptr_equal(all, groups[2]);
    assert_null(all->next);
    upstream_group_destroy(groups[2]);
    assert_null(all);
    h2o_mem_clear_pool(&memory);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_backup_is_for_when_no_other_is_up),
        TEST(test_a_backup_is_for_requests_that_have_tried_the_others),
        TEST(test_a_trial_comes_first_when_the_ejection_is_over),
        TEST(test_any_request_tries_it_if_no_safe_one_comes),
        TEST(test_if_none_is_up_any_is_tried_early),
        TEST(test_those_that_checks_found_down_are_not_tried),
        TEST(test_a_key_returns_to_its_member_with_a_trial),
        TEST(test_requests_without_a_key_go_in_turn),
        TEST(test_the_requests_of_all_loops_count),
        cmocka_unit_test(test_one_that_ends_leaves_the_list_of_the_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

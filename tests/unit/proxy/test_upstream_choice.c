/* Which member of a group gets a request, without sockets. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "upstream_choice.h"

#define MEMBERS 5

static void make(struct choice_member *members, size_t count, const unsigned *weights)
{
    char name[32];

    memset(members, 0, count * sizeof(members[0]));
    for (size_t i = 0; i < count; i++) {
        int len = snprintf(name, sizeof(name), "http://10.0.0.%zu:80", i + 1);
        members[i].weight = weights[i];
        members[i].name = choice_hash(name, (size_t)len);
    }
}

/* How often each of `count` is chosen in `rounds`. */
static void count_choices(struct choice_member *members, size_t count, unsigned rounds,
                          unsigned *ret_counts)
{
    memset(ret_counts, 0, count * sizeof(ret_counts[0]));
    for (unsigned i = 0; i < rounds; i++)
        ret_counts[choice_make(BALANCE_ROUND_ROBIN, members, count, 0)]++;
}

/* ---- round robin ---- */

static void test_each_gets_its_weight(void **state)
{
    struct choice_member members[3];
    unsigned counts[3];
    (void)state;
    make(members, 3, (const unsigned[]){5, 1, 2});
    count_choices(members, 3, 800, counts);
    assert_int_equal(counts[0], 500);
    assert_int_equal(counts[1], 100);
    assert_int_equal(counts[2], 200);
}

static void test_a_heavy_one_does_not_get_its_turns_in_a_row(void **state)
{
    struct choice_member members[2];
    char order[8] = "";
    (void)state;
    make(members, 2, (const unsigned[]){5, 1});
    for (size_t i = 0; i < 6; i++)
        order[i] = (char)('a' + choice_make(BALANCE_ROUND_ROBIN, members, 2, 0));
    assert_string_equal(order, "aaabaa");
}

static void test_one_that_may_not_be_chosen_is_passed_over(void **state)
{
    struct choice_member members[3];
    unsigned counts[3];
    (void)state;
    make(members, 3, (const unsigned[]){1, 0, 1});
    count_choices(members, 3, 100, counts);
    assert_int_equal(counts[0], 50);
    assert_int_equal(counts[1], 0);
    members[1].weight = 1; /* it has not saved up its turns */
    count_choices(members, 3, 99, counts);
    assert_in_range(counts[1], 32, 34);
}

static void test_all_down_is_none(void **state)
{
    static const enum balance all[] = {BALANCE_ROUND_ROBIN, BALANCE_LEAST, BALANCE_HASH};
    struct choice_member members[2];
    (void)state;
    make(members, 2, (const unsigned[]){0, 0});
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(choice_make(all[i], members, 2, 7), CHOICE_NONE);
}

/* ---- the fewest requests ---- */

static void test_the_one_with_the_fewest_requests_for_its_weight(void **state)
{
    struct choice_member members[3];
    (void)state;
    make(members, 3, (const unsigned[]){1, 1, 4});
    members[0].active = 1;
    members[1].active = 2;
    members[2].active = 8;
    assert_int_equal(choice_make(BALANCE_LEAST, members, 3, 0), 0);
    members[2].active = 6; /* 7 for 4 is less than 2 for 1 */
    assert_int_equal(choice_make(BALANCE_LEAST, members, 3, 0), 2);
    members[0].weight = members[2].weight = 0;
    assert_int_equal(choice_make(BALANCE_LEAST, members, 3, 0), 1);
}

static void test_equals_take_turns(void **state)
{
    struct choice_member members[3];
    unsigned counts[3] = {0};
    (void)state;
    make(members, 3, (const unsigned[]){1, 1, 1});
    members[1].active = 5;
    for (unsigned i = 0; i < 100; i++)
        counts[choice_make(BALANCE_LEAST, members, 3, 0)]++;
    assert_int_equal(counts[0], 50);
    assert_int_equal(counts[1], 0);
    assert_int_equal(counts[2], 50);
}

/* Requests stay until all are given: each member gets as many as its weight says. */
static void test_requests_that_stay_are_spread_by_weight(void **state)
{
    struct choice_member members[3];
    (void)state;
    make(members, 3, (const unsigned[]){1, 2, 3});
    for (unsigned i = 0; i < 600; i++)
        members[choice_make(BALANCE_LEAST, members, 3, 0)].active++;
    assert_in_range(members[0].active, 99, 101);
    assert_in_range(members[1].active, 199, 201);
    assert_in_range(members[2].active, 299, 301);
}

/* ---- hashes ---- */

static uint64_t key(unsigned n)
{
    char text[16];

    return choice_hash(text, (size_t)snprintf(text, sizeof(text), "client %u", n));
}

static void test_a_key_stays_where_it_is(void **state)
{
    struct choice_member members[MEMBERS], others[MEMBERS];
    (void)state;
    make(members, MEMBERS, (const unsigned[]){1, 1, 1, 1, 1});
    make(others, MEMBERS, (const unsigned[]){1, 1, 1, 1, 1});
    for (unsigned n = 0; n < 1000; n++) {
        size_t chosen = choice_make(BALANCE_HASH, members, MEMBERS, key(n));
        for (unsigned again = 0; again < 3; again++)
            assert_int_equal(choice_make(BALANCE_HASH, members, MEMBERS, key(n)), chosen);
        assert_int_equal(choice_make(BALANCE_HASH, others, MEMBERS, key(n)), chosen);
    }
}

static void test_only_the_keys_of_a_lost_member_move(void **state)
{
    struct choice_member members[MEMBERS];
    unsigned moved[MEMBERS] = {0}, of_lost = 0;
    (void)state;
    make(members, MEMBERS, (const unsigned[]){1, 1, 1, 1, 1});
    for (unsigned n = 0; n < 10000; n++) {
        size_t before = choice_make(BALANCE_HASH, members, MEMBERS, key(n));
        members[2].weight = 0;
        size_t after = choice_make(BALANCE_HASH, members, MEMBERS, key(n));
        members[2].weight = 1;
        if (before != 2) {
            assert_int_equal(after, before);
            continue;
        }
        of_lost++;
        moved[after]++;
    }
    assert_in_range(of_lost, 1800, 2200);
    for (size_t i = 0; i < MEMBERS; i++)
        if (i != 2)
            assert_in_range(moved[i], of_lost / 4 - of_lost / 16, of_lost / 4 + of_lost / 16);
}

static void test_keys_are_spread_by_weight(void **state)
{
    struct choice_member members[3];
    unsigned counts[3] = {0};
    (void)state;
    make(members, 3, (const unsigned[]){1024, 2048, 3072});
    for (unsigned n = 0; n < 60000; n++)
        counts[choice_make(BALANCE_HASH, members, 3, key(n))]++;
    assert_in_range(counts[0], 9500, 10500);
    assert_in_range(counts[1], 19500, 20500);
    assert_in_range(counts[2], 29500, 30500);
}

/* Other processes, also of later versions, have to agree. */
static void test_the_hash_does_not_change(void **state)
{
    struct choice_member members[MEMBERS];
    char all[17] = "";
    (void)state;
    make(members, MEMBERS, (const unsigned[]){1, 1, 1, 1, 1});
    for (unsigned n = 0; n < 16; n++)
        all[n] = (char)('0' + choice_make(BALANCE_HASH, members, MEMBERS, key(n)));
    assert_string_equal(all, "3232224301132200");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_gets_its_weight),
        cmocka_unit_test(test_a_heavy_one_does_not_get_its_turns_in_a_row),
        cmocka_unit_test(test_one_that_may_not_be_chosen_is_passed_over),
        cmocka_unit_test(test_all_down_is_none),
        cmocka_unit_test(test_the_one_with_the_fewest_requests_for_its_weight),
        cmocka_unit_test(test_equals_take_turns),
        cmocka_unit_test(test_requests_that_stay_are_spread_by_weight),
        cmocka_unit_test(test_a_key_stays_where_it_is),
        cmocka_unit_test(test_only_the_keys_of_a_lost_member_move),
        cmocka_unit_test(test_keys_are_spread_by_weight),
        cmocka_unit_test(test_the_hash_does_not_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* What does not move: the rule with numbers, the slots with two threads that race. The watchdog
 * itself is watched in whole processes, see test_heartbeat.c. */

#include "watchdog.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define LIMIT 100

/* ---- the rule ---- */

static void test_a_moving_thread_never_stalls(void **state)
{
    struct watchdog_track track = {0};
    (void)state;
    for (uint64_t mark = 0; mark < 100; mark++)
        assert_int_equal(watchdog_track(&track, true, mark, LIMIT, LIMIT), WATCHDOG_NONE);
}

static void test_an_idle_thread_never_stalls(void **state)
{
    struct watchdog_track track = {0};
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(watchdog_track(&track, false, 7, LIMIT, LIMIT), WATCHDOG_NONE);
    /* The time in which it had nothing to do does not count as a stall. */
    assert_int_equal(watchdog_track(&track, true, 7, LIMIT, LIMIT), WATCHDOG_NONE);
    assert_int_equal(watchdog_track(&track, true, 7, LIMIT - 1, LIMIT), WATCHDOG_NONE);
    assert_int_equal(watchdog_track(&track, true, 7, 1, LIMIT), WATCHDOG_BEGAN);
}

static void test_stall_is_logged_once_and_so_is_its_end(void **state)
{
    struct watchdog_track track = {0};
    (void)state;
    assert_int_equal(watchdog_track(&track, true, 0, 60, LIMIT),
                     WATCHDOG_NONE); /* new: since when? */
    assert_int_equal(watchdog_track(&track, true, 0, 60, LIMIT), WATCHDOG_NONE);
    assert_int_equal(watchdog_track(&track, true, 0, 60, LIMIT), WATCHDOG_BEGAN);
    assert_int_equal(track.still_ns, 120);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(watchdog_track(&track, true, 0, 60, LIMIT), WATCHDOG_NONE);
    assert_int_equal(watchdog_track(&track, true, 1, 60, LIMIT), WATCHDOG_OVER);
    assert_int_equal(watchdog_track(&track, true, 1, LIMIT, LIMIT),
                     WATCHDOG_BEGAN); /* another one */
    assert_int_equal(watchdog_track(&track, false, 1, 1, LIMIT), WATCHDOG_OVER);
    assert_int_equal(watchdog_track(&track, false, 1, 1, LIMIT), WATCHDOG_NONE);
}

/* ---- slots ---- */

static void begin(struct watchdog_slot *slot, const char *method, const char *path,
                  uint64_t begun_ns)
{
    watchdog_slot_begin(slot, method, strlen(method), path, strlen(path), begun_ns);
}

static void test_slot_says_what_runs(void **state)
{
    static struct watchdog_slot slot;
    struct watchdog_seen seen, later;
    (void)state;
    assert_true(watchdog_slot_read(&slot, &seen));
    assert_int_equal(seen.begun_ns, 0);
    begin(&slot, "GET", "/a?b=c", 42);
    assert_true(watchdog_slot_read(&slot, &seen));
    assert_int_equal(seen.begun_ns, 42);
    assert_string_equal(seen.text, "GET /a?b=c");
    begin(&slot, "GET", "/a?b=c", 42); /* the same again is another one */
    assert_true(watchdog_slot_read(&slot, &later));
    assert_int_not_equal(later.turn, seen.turn);
    watchdog_slot_end(&slot);
    assert_true(watchdog_slot_read(&slot, &seen));
    assert_int_equal(seen.begun_ns, 0);
}

/* Whatever a client sends as a path, and each length at which a word begins. */
static void test_slot_cuts_what_is_too_long(void **state)
{
    static struct watchdog_slot slot;
    struct watchdog_seen seen;
    char path[400], want[400];
    (void)state;
    for (size_t n = 0; n < 300; n++) {
        memset(path, 'x', n);
        path[n] = '\0';
        begin(&slot, "POST", path, 1);
        assert_true(watchdog_slot_read(&slot, &seen));
        (void)snprintf(want, sizeof(want), "POST %.*s", WATCHDOG_PATH, path);
        assert_string_equal(seen.text, want);
    }
    memset(path, 'y', 200);
    path[200] = '\0';
    begin(&slot, path, path, 1);
    assert_true(watchdog_slot_read(&slot, &seen));
    (void)snprintf(want, sizeof(want), "%.*s %.*s", WATCHDOG_METHOD, path, WATCHDOG_PATH, path);
    assert_string_equal(seen.text, want);
    watchdog_slot_begin(&slot, NULL, 0, NULL, 0, 1);
    assert_true(watchdog_slot_read(&slot, &seen));
    assert_string_equal(seen.text, " ");
}

static struct watchdog_slot raced;
static _Atomic bool enough;

/* All of one round's letters are its number's. */
static char letter_of(uint64_t round)
{
    return (char)('a' + round % 26);
}

static void *write_rounds(void *arg)
{
    char path[80];
    (void)arg;
    for (uint64_t round = 1; !atomic_load_explicit(&enough, memory_order_relaxed); round++) {
        memset(path, letter_of(round), sizeof(path));
        watchdog_slot_begin(&raced, "GET", 3, path, sizeof(path), round);
        if (round % 3 == 0)
            watchdog_slot_end(&raced);
    }
    return NULL;
}

static bool is_whole(const struct watchdog_seen *seen)
{
    for (size_t i = 0; i < 80; i++)
        if (seen->text[4 + i] != letter_of(seen->begun_ns))
            return false;
    return true;
}

static void test_slot_is_never_read_half(void **state)
{
    struct watchdog_seen seen = {0};
    pthread_t writer;
    unsigned read = 0, refused = 0;
    bool whole = true;
    (void)state;
    assert_int_equal(pthread_create(&writer, NULL, write_rounds, NULL), 0);
    while (read < 1000000 && refused < 10000000 && whole) {
        if (!watchdog_slot_read(&raced, &seen)) {
            refused++;
        } else if (seen.begun_ns != 0) {
            read++;
            whole = is_whole(&seen);
        }
    }
    atomic_store(&enough, true);
    assert_int_equal(pthread_join(writer, NULL), 0);
    print_message("%u readings, %u refused\n", read, refused);
    if (!whole)
        fail_msg("half of one, half of another: %llu, %s", (unsigned long long)seen.begun_ns,
                 seen.text);
    assert_true(read > 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_moving_thread_never_stalls),
        cmocka_unit_test(test_an_idle_thread_never_stalls),
        cmocka_unit_test(test_stall_is_logged_once_and_so_is_its_end),
        cmocka_unit_test(test_slot_says_what_runs),
        cmocka_unit_test(test_slot_cuts_what_is_too_long),
        cmocka_unit_test(test_slot_is_never_read_half),
    };
    (void)alarm(600);
    return cmocka_run_group_tests_name("stall", tests, NULL, NULL);
}

/* The specification of thread.h, wakeup.h, address.h and child_environment(), one claim a test. */

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <arpa/inet.h>

#include "address.h"
#include "child.h"
#include "thread.h"
#include "wakeup.h"

/* ---- threads ---- */

struct seen {
    char name[THREAD_NAME_SIZE];
    sigset_t mask;
};

static void *look(void *arg)
{
    struct seen *seen = arg;

    (void)pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
    (void)pthread_sigmask(SIG_BLOCK, NULL, &seen->mask);
    return seen;
}

static void see(const char *name, struct seen *ret_seen)
{
    pthread_t thread;
    void *returned;

    assert_int_equal(thread_start(&thread, name, look, ret_seen), 0);
    assert_int_equal(pthread_join(thread, &returned), 0);
    assert_ptr_equal(returned, ret_seen);
}

static void test_a_thread_has_its_name_from_the_beginning(void **state)
{
    struct seen seen;

    (void)state;
    see("tenth-floor", &seen);
    assert_string_equal(seen.name, "tenth-floor");
}

static void test_a_name_that_is_too_long_is_cut_off(void **state)
{
    struct seen seen;

    (void)state;
    see("a-name-of-twenty-one-", &seen);
    assert_string_equal(seen.name, "a-name-of-twent");
}

static void *cancel_itself(void *arg)
{
    (void)pthread_cancel(pthread_self());
    pthread_testcancel();
    return arg;
}

static void test_a_thread_cannot_be_cancelled(void **state)
{
    pthread_t thread;
    void *returned;

    assert_int_equal(thread_start(&thread, "goes-on", cancel_itself, state), 0);
    assert_int_equal(pthread_join(thread, &returned), 0);
    assert_ptr_equal(returned, state);
}

static void test_a_thread_blocks_every_signal_and_its_creator_none_more(void **state)
{
    struct seen seen;
    sigset_t all, before, after;

    (void)state;
    (void)sigfillset(&all); /* leaves out the two that glibc keeps for itself */
    (void)pthread_sigmask(SIG_BLOCK, NULL, &before);
    see("blocked", &seen);
    (void)pthread_sigmask(SIG_BLOCK, NULL, &after);
    for (int signo = 1; signo <= SIGRTMAX; signo++) {
        if (sigismember(&all, signo) == 1 && signo != SIGKILL && signo != SIGSTOP)
            assert_int_equal(sigismember(&seen.mask, signo), 1);
        assert_int_equal(sigismember(&after, signo), sigismember(&before, signo));
    }
}

/* ---- threads that give way ---- */

/* What a thread sees of itself that had `policy` when it was started. */
struct way {
    int policy;
    int err; /* of setting it */
    bool gives;
    int after;
    void (*then)(void); /* NULL: nothing */
};

static void *look_at_way(void *arg)
{
    static const struct sched_param none;
    struct way *way = arg;

    way->err = sched_setscheduler(0, way->policy, &none);
    if (way->then != NULL)
        way->then();
    way->gives = thread_gives_way();
    way->after = sched_getscheduler(0);
    return way;
}

/* On a thread of its own: back from some policies, only root can come. */
static struct way way_of(int policy, void (*then)(void))
{
    struct way way = {.policy = policy, .then = then};
    pthread_t thread;

    assert_int_equal(thread_start(&thread, "way", look_at_way, &way), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(way.err, 0);
    return way;
}

static void test_a_thread_that_somebody_made_a_batch_one_is_not_said_to_give_way(void **state)
{
    (void)state;
    assert_false(way_of(SCHED_BATCH, NULL).gives);
}

static void give_way(void)
{
    thread_give_way(true);
}

static void test_a_thread_that_gives_way_is_a_batch_one(void **state)
{
    struct way way = way_of(SCHED_OTHER, give_way);

    (void)state;
    assert_true(way.gives);
    assert_int_equal(way.after, SCHED_BATCH);
}

static void test_only_a_thread_with_the_usual_policy_gives_way(void **state)
{
    static const int others[] = {SCHED_BATCH, SCHED_IDLE};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct way way = way_of(others[i], give_way);
        assert_false(way.gives);
        assert_int_equal(way.after, others[i]);
    }
}

static void give_way_until_somebody_else_decides(void)
{
    static const struct sched_param none;

    thread_give_way(true);
    assert_int_equal(sched_setscheduler(0, SCHED_IDLE, &none), 0);
    thread_give_way(false);
    thread_give_way(true);
}

static void test_a_policy_that_somebody_chose_meanwhile_stays(void **state)
{
    struct way way = way_of(SCHED_OTHER, give_way_until_somebody_else_decides);

    (void)state;
    assert_false(way.gives);
    assert_int_equal(way.after, SCHED_IDLE);
}

static void give_way_for_a_moment(void)
{
    thread_give_way(true);
    thread_give_way(false);
}

static void test_a_thread_that_gives_way_no_longer_has_the_usual_policy(void **state)
{
    struct way way = way_of(SCHED_OTHER, give_way_for_a_moment);

    (void)state;
    assert_false(way.gives);
    assert_int_equal(way.after, SCHED_OTHER);
}

/* ---- wake-ups ---- */

static bool is_readable(int fd)
{
    struct pollfd in = {.fd = fd, .events = POLLIN};
    return poll(&in, 1, 0) == 1;
}

static void test_rings_make_it_readable_until_it_is_drained(void **state)
{
    int fd = wakeup_open();

    (void)state;
    assert_true(fd >= 0);
    assert_false(is_readable(fd));
    wakeup_ring(fd);
    wakeup_ring(fd);
    assert_true(is_readable(fd));
    wakeup_drain(fd);
    assert_false(is_readable(fd));
    wakeup_ring(fd);
    assert_true(is_readable(fd));
    assert_int_equal(close(fd), 0);
}

static void test_neither_a_full_counter_nor_an_empty_one_blocks(void **state)
{
    const uint64_t most = UINT64_MAX - 1;
    int fd = wakeup_open();

    (void)state;
    wakeup_drain(fd);
    assert_int_equal(write(fd, &most, sizeof(most)), sizeof(most));
    wakeup_ring(fd);
    assert_true(is_readable(fd));
    wakeup_drain(fd);
    assert_false(is_readable(fd));
    assert_int_equal(close(fd), 0);
}

/* ---- addresses ---- */

static void test_an_address_is_written_with_its_port(void **state)
{
    struct sockaddr_storage address = {.ss_family = AF_INET};
    struct sockaddr_in *in = (void *)&address;
    struct sockaddr_in6 *in6 = (void *)&address;
    char text[ADDRESS_TEXT_SIZE];

    (void)state;
    in->sin_port = htons(8080);
    in->sin_addr.s_addr = htonl(0xc0000201);
    assert_true(address_text(&address, text, sizeof(text)));
    assert_string_equal(text, "192.0.2.1:8080");
    address.ss_family = AF_INET6;
    in6->sin6_port = htons(65535);
    assert_int_equal(inet_pton(AF_INET6, "2001:db8::1", &in6->sin6_addr), 1);
    assert_true(address_text(&address, text, sizeof(text)));
    assert_string_equal(text, "[2001:db8::1]:65535");
    memset(&in6->sin6_addr, 0xee, sizeof(in6->sin6_addr));
    assert_true(address_text(&address, text, sizeof(text)));
    assert_string_equal(text, "[eeee:eeee:eeee:eeee:eeee:eeee:eeee:eeee]:65535");
}

static void test_an_address_of_another_family_touches_nothing(void **state)
{
    struct sockaddr_storage address = {.ss_family = AF_UNIX};
    char text[ADDRESS_TEXT_SIZE] = "as it was";

    (void)state;
    assert_false(address_text(&address, text, sizeof(text)));
    assert_string_equal(text, "as it was");
}

/* ---- a child's environment ---- */

static bool is_secret(const char *variable)
{
    return strncmp(variable, "SECRET=", 7) == 0;
}

static unsigned count_of(char **environment, const char *variable)
{
    unsigned count = 0;

    for (; *environment != NULL; environment++)
        count += strcmp(*environment, variable) == 0;
    return count;
}

static void test_an_environment_lacks_what_is_left_out_and_has_the_extra(void **state)
{
    char extra[] = "EXTRA=2";

    (void)state;
    assert_int_equal(setenv("SECRET", "1", 1), 0);
    assert_int_equal(setenv("KEPT", "1", 1), 0);
    char **with = child_environment(is_secret, extra),
         **without = child_environment(is_secret, NULL);
    assert_int_equal(count_of(with, "SECRET=1") + count_of(without, "SECRET=1"), 0);
    assert_int_equal(count_of(with, "KEPT=1") + count_of(without, "KEPT=1"), 2);
    assert_int_equal(count_of(with, "EXTRA=2"), 1);
    assert_int_equal(count_of(without, "EXTRA=2"), 0);
    free(with);
    free(without);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_thread_has_its_name_from_the_beginning),
        cmocka_unit_test(test_a_name_that_is_too_long_is_cut_off),
        cmocka_unit_test(test_a_thread_cannot_be_cancelled),
        cmocka_unit_test(test_a_thread_blocks_every_signal_and_its_creator_none_more),
        cmocka_unit_test(test_only_a_thread_with_the_usual_policy_gives_way),
        cmocka_unit_test(test_a_thread_that_somebody_made_a_batch_one_is_not_said_to_give_way),
        cmocka_unit_test(test_a_policy_that_somebody_chose_meanwhile_stays),
        cmocka_unit_test(test_a_thread_that_gives_way_is_a_batch_one),
        cmocka_unit_test(test_a_thread_that_gives_way_no_longer_has_the_usual_policy),
        cmocka_unit_test(test_rings_make_it_readable_until_it_is_drained),
        cmocka_unit_test(test_neither_a_full_counter_nor_an_empty_one_blocks),
        cmocka_unit_test(test_an_address_is_written_with_its_port),
        cmocka_unit_test(test_an_address_of_another_family_touches_nothing),
        cmocka_unit_test(test_an_environment_lacks_what_is_left_out_and_has_the_extra),
    };
    return cmocka_run_group_tests_name("thread", tests, NULL, NULL);
}

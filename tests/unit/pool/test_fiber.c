/* The specification of fiber.h, one claim a test. A fiber that goes on on another thread meets that
 * thread by joining it: no test needs a lock. */

#include "fiber.h"

#include <alloca.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "thread.h"

#define STACK_BYTES ((size_t)8 << 20)
#define DEEP_BYTES ((size_t)2 << 20)

static char hello, again, bye; /* values to pass: only their addresses count */

static struct fiber *create(void (*body)(void *arg), void *arg)
{
    struct fiber *fiber = NULL;

    assert_int_equal(fiber_create(STACK_BYTES, body, arg, &fiber), 0);
    assert_non_null(fiber);
    return fiber;
}

/* ---- resuming on another thread ---- */

struct resumption {
    struct fiber *fiber;
    void *value;
    void *back;
    uintptr_t self;
};

static void *resume_there(void *arg)
{
    struct resumption *r = arg;
    r->self = thread_self_id();
    r->back = fiber_resume(r->fiber, r->value);
    return NULL;
}

static struct resumption resume_on_another_thread(struct fiber *fiber, void *value)
{
    struct resumption r = {.fiber = fiber, .value = value};
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, resume_there, &r), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return r;
}

/* ---- bodies: what they see, the test's own thread asserts ---- */

struct seen {
    struct fiber *fiber;
    void *got[2];
    uintptr_t self[3];
    uintptr_t frame;
    void *local[2];
    int kept;
    bool ended;
};

static void returns(void *arg)
{
    struct seen *seen = arg;
    seen->frame = (uintptr_t)__builtin_frame_address(0);
    seen->self[0] = thread_self_id();
    seen->ended = true;
}

static void yields_twice(void *arg)
{
    struct seen *seen = arg;
    volatile int kept = 1;

    seen->self[0] = thread_self_id();
    seen->local[0] = (void *)&kept;
    seen->got[0] = fiber_yield(seen->fiber, &hello);
    kept++;
    seen->self[1] = thread_self_id();
    seen->got[1] = fiber_yield(seen->fiber, &again);
    kept++;
    seen->self[2] = thread_self_id();
    seen->local[1] = (void *)&kept;
    seen->kept = kept;
    seen->ended = true;
}

static void uses_much(void *arg)
{
    struct seen *seen = arg;
    volatile char *deep = alloca(DEEP_BYTES);

    for (size_t i = 0; i < DEEP_BYTES; i += 512)
        deep[i] = (char)(i >> 9);
    (void)fiber_yield(seen->fiber, &hello);
    seen->kept = 1;
    for (size_t i = 0; i < DEEP_BYTES; i += 512)
        seen->kept &= deep[i] == (char)(i >> 9);
    seen->ended = true;
}

/* ---- claims ---- */

static void test_the_body_runs_at_the_first_resume(void **state)
{
    struct seen seen = {0};

    (void)state;
    struct fiber *fiber = create(returns, &seen);
    assert_false(seen.ended);
    assert_null(fiber_resume(fiber, NULL));
    assert_true(seen.ended);
    fiber_destroy(fiber);
}

static void test_the_body_has_a_stack_of_its_own(void **state)
{
    pthread_attr_t attr;
    void *low;
    size_t bytes;
    struct seen seen = {0};

    (void)state;
    assert_int_equal(pthread_getattr_np(pthread_self(), &attr), 0);
    assert_int_equal(pthread_attr_getstack(&attr, &low, &bytes), 0);
    (void)pthread_attr_destroy(&attr);
    struct fiber *fiber = create(returns, &seen);
    assert_null(fiber_resume(fiber, NULL));
    assert_int_equal(seen.self[0], thread_self_id());
    assert_true(seen.frame < (uintptr_t)low || seen.frame >= (uintptr_t)low + bytes);
    fiber_destroy(fiber);
}

static void test_values_pass_both_ways(void **state)
{
    struct seen seen = {0};

    (void)state;
    struct fiber *fiber = seen.fiber = create(yields_twice, &seen);
    assert_ptr_equal(fiber_resume(fiber, NULL), &hello);
    assert_ptr_equal(fiber_resume(fiber, &bye), &again);
    assert_null(fiber_resume(fiber, &hello));
    assert_ptr_equal(seen.got[0], &bye);
    assert_ptr_equal(seen.got[1], &hello);
    assert_true(seen.ended);
    fiber_destroy(fiber);
}

static void test_the_body_goes_on_on_another_thread(void **state)
{
    struct seen seen = {0};

    (void)state;
    struct fiber *fiber = seen.fiber = create(yields_twice, &seen);
    assert_ptr_equal(fiber_resume(fiber, NULL), &hello);
    struct resumption there = resume_on_another_thread(fiber, &bye);
    assert_ptr_equal(there.back, &again);
    assert_ptr_equal(seen.got[0], &bye);
    assert_null(fiber_resume(fiber, NULL));
    assert_ptr_equal(seen.local[0], seen.local[1]);
    assert_int_equal(seen.kept, 3);
    fiber_destroy(fiber);
}

/* In a release build the compiler would keep what pthread_self(3) has returned. */
static void test_the_body_can_ask_which_thread_it_is_on(void **state)
{
    struct seen seen = {0};

    (void)state;
    struct fiber *fiber = seen.fiber = create(yields_twice, &seen);
    (void)fiber_resume(fiber, NULL);
    struct resumption there = resume_on_another_thread(fiber, NULL);
    (void)fiber_resume(fiber, NULL);
    assert_int_equal(seen.self[0], thread_self_id());
    assert_int_equal(seen.self[1], there.self);
    assert_int_equal(seen.self[2], thread_self_id());
    assert_int_not_equal(there.self, thread_self_id());
    fiber_destroy(fiber);
}

static void test_the_body_may_end_on_another_thread(void **state)
{
    struct seen seen = {0};

    (void)state;
    struct fiber *fiber = seen.fiber = create(yields_twice, &seen);
    assert_ptr_equal(resume_on_another_thread(fiber, NULL).back, &hello);
    assert_ptr_equal(resume_on_another_thread(fiber, NULL).back, &again);
    assert_null(resume_on_another_thread(fiber, NULL).back);
    assert_true(seen.ended);
    fiber_destroy(fiber);
}

static void test_the_stack_is_deep_and_moves_along(void **state)
{
    struct seen seen = {0};

    (void)state;
    struct fiber *fiber = seen.fiber = create(uses_much, &seen);
    assert_ptr_equal(fiber_resume(fiber, NULL), &hello);
    assert_null(resume_on_another_thread(fiber, NULL).back);
    assert_true(seen.ended);
    assert_int_equal(seen.kept, 1);
    fiber_destroy(fiber);
}

static void test_many_switches_between_several_fibers(void **state)
{
    enum { FIBERS = 16, ROUNDS = 50 };
    struct seen seen[FIBERS];
    struct fiber *fibers[FIBERS];

    (void)state;
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < FIBERS; i++) {
            seen[i] = (struct seen){0};
            fibers[i] = seen[i].fiber = create(yields_twice, &seen[i]);
        }
        for (unsigned i = 0; i < FIBERS; i++)
            assert_ptr_equal(fiber_resume(fibers[i], NULL), &hello);
        for (unsigned i = FIBERS; i-- > 0;)
            assert_ptr_equal(fiber_resume(fibers[i], &seen[i]), &again);
        for (unsigned i = 0; i < FIBERS; i++) {
            assert_null(fiber_resume(fibers[i], &seen[i]));
            assert_ptr_equal(seen[i].got[0], &seen[i]);
            assert_int_equal(seen[i].kept, 3);
            fiber_destroy(fibers[i]);
        }
    }
}

static void test_one_that_has_not_ended_can_be_destroyed(void **state)
{
    struct seen seen = {0}, fresh = {0};

    (void)state;
    struct fiber *fiber = seen.fiber = create(yields_twice, &seen);
    assert_ptr_equal(fiber_resume(fiber, NULL), &hello);
    fiber_destroy(fiber);
    fiber_destroy(create(returns, &fresh));
    fiber_destroy(NULL);
    assert_false(seen.ended);
    assert_false(fresh.ended);
}

/* More than the address space. */
static void test_without_memory_there_is_no_fiber(void **state)
{
    struct fiber *fiber = (void *)&hello;

    (void)state;
    assert_true(fiber_create((size_t)1 << 50, returns, NULL, &fiber) < 0);
    assert_ptr_equal(fiber, &hello);
}

/* ---- the guard page: in a child, which gets SIGSEGV ---- */

/* Each level takes more than a page, so that it touches each one on the way down. */
static unsigned descend(unsigned levels)
{
    volatile char page[4096];

    memset((void *)page, (int)levels, sizeof(page));
    unsigned below = levels > 0 ? descend(levels - 1) : 0;
    return below + (unsigned char)page[levels % sizeof(page)];
}

struct fall {
    struct fiber *fiber;
    uintptr_t frame;
    size_t bytes;
    unsigned sum;
};

static void falls(void *arg)
{
    struct fall *fall = arg;

    fall->frame = (uintptr_t)__builtin_frame_address(0);
    (void)fiber_yield(fall->fiber, &hello);
    fall->sum = descend((unsigned)(fall->bytes / 4096));
}

/* Memory that can be written to lies below the guard page, as another thread's stack may. */
static void fall_in_child(size_t bytes)
{
    const struct rlimit no_core = {0, 0};
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const size_t below = (size_t)1 << 20;
    struct fall fall = {.bytes = bytes};

    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)signal(SIGSEGV, SIG_DFL); /* cmocka and sanitizers catch it */
    if (fiber_create(STACK_BYTES, falls, &fall, &fall.fiber) != 0)
        _exit(2);
    (void)fiber_resume(fall.fiber, NULL);
    uintptr_t guard = ((fall.frame | (page - 1)) + 1) - STACK_BYTES - page;
    (void)mmap((void *)(guard - below), below, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0); /* or it is in use */
    (void)fiber_resume(fall.fiber, NULL);
    _exit(0);
}

static int status_of_fall(size_t bytes)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0)
        fall_in_child(bytes);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_what_runs_over_the_end_of_the_stack_gets_sigsegv(void **state)
{
    (void)state;
    int status = status_of_fall(STACK_BYTES + ((size_t)256 << 10));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
}

/* Else the claim above would hold for any depth. */
static void test_what_stays_on_the_stack_does_not(void **state)
{
    (void)state;
    int status = status_of_fall(STACK_BYTES / 4);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_body_runs_at_the_first_resume),
        cmocka_unit_test(test_the_body_has_a_stack_of_its_own),
        cmocka_unit_test(test_values_pass_both_ways),
        cmocka_unit_test(test_the_body_goes_on_on_another_thread),
        cmocka_unit_test(test_the_body_can_ask_which_thread_it_is_on),
        cmocka_unit_test(test_the_body_may_end_on_another_thread),
        cmocka_unit_test(test_the_stack_is_deep_and_moves_along),
        cmocka_unit_test(test_many_switches_between_several_fibers),
        cmocka_unit_test(test_one_that_has_not_ended_can_be_destroyed),
        cmocka_unit_test(test_without_memory_there_is_no_fiber),
        cmocka_unit_test(test_what_runs_over_the_end_of_the_stack_gets_sigsegv),
        cmocka_unit_test(test_what_stays_on_the_stack_does_not),
    };
    return cmocka_run_group_tests_name("fiber", tests, NULL, NULL);
}

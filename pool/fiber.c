#include "fiber.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "require.h"

/* The switch itself is Boost.Context's: it saves what a function call preserves, and takes some ten
 * nanoseconds. swapcontext(3) makes a system call for the signal mask at each switch, and all our
 * threads have the same mask.
 *
 * Sanitizers and valgrind follow the stack pointer, so they are told of each switch. */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif
#if !defined(NDEBUG) && __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(from, to) 0U
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

/* Boost.Context's entry points have C linkage; its headers are C++. A context is the stack pointer
 * of a function that was left. */
typedef void *context;
struct transfer {
    context from; /* what was left */
    void *value;
};
struct transfer jump_fcontext(context to, void *value);
context make_fcontext(void *stack_end, size_t bytes, void (*entry)(struct transfer));

struct fiber {
    void (*body)(void *arg);
    void *arg;
    char *mapping; /* the guard page, then the stack */
    size_t mapped;
    size_t guard;
    context inside;  /* the body, while it is left */
    context outside; /* the thread that runs it, while it runs */
    bool begun, ended;
    unsigned valgrind_id;
#ifdef __SANITIZE_ADDRESS__
    void *fake_stack;           /* the body's, while it is left */
    const void *outside_bottom; /* the stack of the thread that runs it */
    size_t outside_bytes;
#endif
#ifdef __SANITIZE_THREAD__
    void *tsan_inside, *tsan_outside;
#endif
};

/* ---- telling the sanitizers: called on the stack that is left, and on the one that is reached
 * ---- */

static inline void leave_outside(struct fiber *fiber, void **ret_fake_stack)
{
    (void)fiber;
    (void)ret_fake_stack;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(ret_fake_stack, fiber->mapping + fiber->guard,
                                   fiber->mapped - fiber->guard);
#endif
#ifdef __SANITIZE_THREAD__
    fiber->tsan_outside = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber->tsan_inside, 0); /* 0: what was written before is visible after */
#endif
}

static inline void reach_outside(void *fake_stack)
{
    (void)fake_stack;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_stack, NULL, NULL);
#endif
}

static inline void leave_inside(struct fiber *fiber, bool for_good)
{
    (void)fiber;
    (void)for_good;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(for_good ? NULL : &fiber->fake_stack, fiber->outside_bottom,
                                   fiber->outside_bytes);
#endif
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(fiber->tsan_outside, 0);
#endif
}

static inline void reach_inside(struct fiber *fiber)
{
    (void)fiber;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fiber->fake_stack, &fiber->outside_bottom,
                                    &fiber->outside_bytes);
#endif
}

/* ---- switching ---- */

/* The body's first frame. It never returns: there is nothing below it. */
static void begin(struct transfer arrived)
{
    struct fiber *fiber = arrived.value;

    fiber->outside = arrived.from;
    reach_inside(fiber);
    fiber->body(fiber->arg);
    fiber->ended = true;
    leave_inside(fiber, true);
    (void)jump_fcontext(fiber->outside, NULL);
    REQUIRE(false);
}

void *fiber_resume(struct fiber *fiber, void *value)
{
    void *fake_stack = NULL;

    REQUIRE(!fiber->ended);
    leave_outside(fiber, &fake_stack);
    void *given = fiber->begun ? value : fiber; /* begin() has no other argument */
    fiber->begun = true;
    struct transfer back = jump_fcontext(fiber->inside, given);
    reach_outside(fake_stack);
    fiber->inside = back.from;
    return back.value;
}

void *fiber_yield(struct fiber *fiber, void *value)
{
    REQUIRE(value != NULL);
    leave_inside(fiber, false);
    struct transfer arrived = jump_fcontext(fiber->outside, value);
    fiber->outside = arrived.from;
    reach_inside(fiber);
    return arrived.value;
}

/* ---- life ---- */

int fiber_create(size_t stack_bytes, void (*body)(void *arg), void *arg, struct fiber **ret_fiber)
{
    const size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    struct fiber *fiber = calloc(1, sizeof(*fiber));

    if (fiber == NULL)
        return -ENOMEM;
    fiber->body = body;
    fiber->arg = arg;
    fiber->guard = guard;
    fiber->mapped = (stack_bytes + guard - 1) / guard * guard + guard;
    /* NORESERVE: like a thread's stack, it takes memory as it is used */
    fiber->mapping = mmap(NULL, fiber->mapped, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (fiber->mapping == MAP_FAILED || mprotect(fiber->mapping, guard, PROT_NONE) != 0) {
        int err = -errno;
        if (fiber->mapping != MAP_FAILED)
            (void)munmap(fiber->mapping, fiber->mapped);
        free(fiber);
        return err;
    }
    fiber->inside = make_fcontext(fiber->mapping + fiber->mapped, fiber->mapped - guard, begin);
    fiber->valgrind_id =
        VALGRIND_STACK_REGISTER(fiber->mapping + guard, fiber->mapping + fiber->mapped);
#ifdef __SANITIZE_THREAD__
    fiber->tsan_inside = __tsan_create_fiber(0);
#endif
    *ret_fiber = fiber;
    return 0;
}

void fiber_destroy(struct fiber *fiber)
{
    if (fiber == NULL)
        return;
#ifdef __SANITIZE_THREAD__
    __tsan_destroy_fiber(fiber->tsan_inside);
#endif
#ifdef __SANITIZE_ADDRESS__
    /* Of a body that has not returned, what surrounds its variables is still marked. */
    __asan_unpoison_memory_region(fiber->mapping, fiber->mapped);
#endif
    VALGRIND_STACK_DEREGISTER(fiber->valgrind_id);
    (void)munmap(fiber->mapping, fiber->mapped);
    free(fiber);
}

#ifndef LASTCALL_FIBER_H
#define LASTCALL_FIBER_H

/* A coroutine: a function with a stack of its own. One thread at a time runs it, and may leave it
 * in the middle for another thread to go on with.
 *
 *     thread A: fiber_resume() --> body ... fiber_yield() --> A goes on
 *     thread B: fiber_resume() --> ... fiber_yield() returns, and the body continues
 *
 * The caller sees to it that only one thread is in fiber_resume(), and that what the thread before
 * wrote is visible to it (a lock, or release and acquire).
 *
 * After fiber_yield() another thread may run the body. What is bound to a thread is stale then:
 * pthread_self(3), the address of errno or of a _Thread_local, a lock. The compiler does not know
 * this, and keeps such addresses across the call. So code of a body reads them through functions
 * that are not inlined (thread_self_id(), base/thread.h). */

#include <stddef.h>

struct fiber;

/* Make one that will run `body(arg)`; it runs at the first fiber_resume(). The stack grows as it is
 * used, up to `stack_bytes`, and has a guard page: what runs over its end gets SIGSEGV.
 * Owner:  the caller; ends with fiber_destroy().     Thread: any.     Blocks: never.
 * Errors: 0; -ENOMEM; another negative errno of mmap(2). */
int fiber_create(size_t stack_bytes, void (*body)(void *arg), void *arg, struct fiber **ret_fiber);

/* Run the body until it yields or returns. `value` is what its fiber_yield() returns. Returns what
 * it yields; NULL: it has returned, and must not be resumed again.
 * Thread: any outside of a fiber.     Blocks: as the body does. */
void *fiber_resume(struct fiber *fiber, void *value);

/* Leave the body; `value` is not NULL. Returns the value of the next fiber_resume().
 * Thread: the body. */
void *fiber_yield(struct fiber *fiber, void *value);

/* Free it. The body has returned, or will never go on: then what it owns is not freed. NULL is
 * allowed.     Thread: any. */
void fiber_destroy(struct fiber *fiber);

#endif

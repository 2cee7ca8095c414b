#ifndef LASTCALL_THREAD_H
#define LASTCALL_THREAD_H

/* Starting a thread: with a name, and with all signals blocked, since the signal thread
 * (coord/signals.h) is the only one that takes signals. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A function whose callers may not know what is in it: else the compiler would call it once and
 * keep the answer. */
#ifdef __clang__
#define NOT_LOOKED_INTO __attribute__((noinline))
#else
#define NOT_LOOKED_INTO __attribute__((noipa))
#endif

/* What the kernel keeps of a thread's name, its terminator included. */
#define THREAD_NAME_SIZE 16

/* Start a thread that runs `run(arg)`. It has its name, and all its signals blocked, before its
 * first instruction of `run`; it cannot be cancelled. A longer name is cut off.
 * Owner:  the caller joins or detaches *ret_thread; `name` is not kept.
 * Thread: any.     Blocks: never.
 * Errors: 0 and *ret_thread; a negative errno of pthread_create(3); -ENOMEM. */
int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *arg), void *arg);

/* The running thread, as a number that no other living thread has; never 0. The compiler may keep
 * what pthread_self(3) returned, since a thread does not change. But code on a fiber
 * (pool/fiber.h) may continue on another thread, so this asks anew at each call.
 * Thread: any.     Blocks: never. */
uintptr_t thread_self_id(void);

/* What the kernel says of a thread of this process: it sleeps, or it is awake, that is, it runs or
 * waits for a processor. See proc(5), stat.
 * Thread: any.     Blocks: never; it takes some microseconds.
 * Errors: THREAD_UNKNOWN: the thread has ended, or /proc does not tell. */
enum thread_state { THREAD_UNKNOWN, THREAD_SLEEPS, THREAD_AWAKE };
enum thread_state thread_state_of(pid_t tid);

/* From now on (or no longer) the calling thread gives way: when it wakes up, it does not interrupt
 * what runs on its processor, but waits until that sleeps or has used up its time slice, some
 * milliseconds. Where a processor is idle, it makes no difference. A policy that somebody else has
 * chosen stays, whether before this call or after it. A thread of thread_start() begins without it;
 * other threads and processes that it starts inherit it. See sched(7), SCHED_BATCH.
 * Thread: any.     Blocks: never; what is so already costs no system call.
 * Errors: none are told: it is about speed. */
NOT_LOOKED_INTO void thread_give_way(bool on);

/* Has thread_give_way(true) made the calling thread give way? A process that it starts should not.
 * Thread: any.     Blocks: never. */
NOT_LOOKED_INTO bool thread_gives_way(void);

/* The processor time in nanoseconds that a thread of this process has used. See proc(5), schedstat.
 * Thread: any.     Blocks: never; it takes some microseconds.     Errors: 0: as above. */
uint64_t thread_used_ns(pid_t tid);

#endif

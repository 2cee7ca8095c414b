#ifndef LASTCALL_CLOCK_H
#define LASTCALL_CLOCK_H

/* One time type: nanoseconds on CLOCK_MONOTONIC, as uint64_t, in names that end in _ns. */

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define NS_PER_US UINT64_C(1000)
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

/* The point in time that never comes. */
#define CLOCK_NEVER UINT64_MAX

/* Thread: any, async-signal-safe.     Blocks: never. */
uint64_t clock_now_ns(void);

/* Thread: any. */
struct timespec clock_timespec(uint64_t ns);

/* Initialise a condition variable whose time-outs are on that clock, so that a step of the wall
 * clock does not change them.     Thread: any, before it is used. */
void clock_cond_init(pthread_cond_t *cond);

/* The time-out of poll(2) for a wait from `now_ns` to `until_ns`: rounded up, so that the wait does
 * not end before that time; -1, without end, for CLOCK_NEVER.     Thread: any. */
int clock_poll_ms(uint64_t now_ns, uint64_t until_ns);

/* For how long has the process stood still? `due_ns` is when the caller was to look at the clock
 * again, `now_ns` when it did. Half a second counts as the ordinary delay of a busy machine; what
 * is beyond is time in which the process was stopped, or its machine was, and nobody whom it waits
 * for could reach it: whoever judges others by a time-out grants it again. Thread: any. */
uint64_t clock_stood_ns(uint64_t due_ns, uint64_t now_ns);

/* `10s`, `250ms`, `2m`, `1h`, `1.5s`; `0` needs no unit. Up to 30 days.
 * Thread: any.     Errors: 0 and *ret_ns; -EINVAL, then *ret_ns is untouched. */
int clock_parse_duration(const char *text, uint64_t *ret_ns);

/* Write a duration for people, with at most three digits: `1.98s`, `12ms`, `450us`, `2m10s`.
 * Returns `buf`.     Thread: any. */
#define CLOCK_TEXT_SIZE 24
char *clock_format_duration(uint64_t ns, char buf[CLOCK_TEXT_SIZE]);

/* The wall clock in milliseconds since 1970, UTC.     Thread: any. */
uint64_t clock_wall_ms(void);

/* The wall clock for logs and reports, UTC, as RFC 3339 with milliseconds. Returns `buf`.
 * Thread: any. */
char *clock_format_wall(char buf[CLOCK_TEXT_SIZE + 8]);

#endif

#ifndef LASTCALL_FUTEX_H
#define LASTCALL_FUTEX_H

/* Sleeping on a word of memory, see futex(2). The sleeper reads the word first, looks at its news
 * second, and sleeps only while the word is as it was read; who has news changes the word after it
 * has published them, and then wakes. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Sleep while the word is `value`, until `deadline_ns` on CLOCK_MONOTONIC (UINT64_MAX: for ever).
 * May return early. Returns false at the deadline.     Thread: any.     Blocks: yes. */
bool futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t deadline_ns);

/* Wake one sleeper, if there is one.     Thread: any.     Blocks: never. */
void futex_wake(_Atomic uint32_t *word);

#endif

#ifndef LASTCALL_STALL_H
#define LASTCALL_STALL_H

/* What does not move. One thread, "watchdog", looks at the loops, the workers and the queue a few
 * times in each `limit`, and says once of each of them that it has stood still for so long:
 *
 *     a loop     has not taken an order (ORDER_PING, loop.c) that it was given so long ago. One
 *                that waits for events with nothing to do takes it at once, so idle is not stuck
 *     a worker   is in one handler all that time. That is what workers are for: it is said and
 *                counted, and nothing else comes of it
 *     the pool   has a queue, and finished no job in that time
 *
 * A loop that is stuck, or a pool, makes stall_is_moving() false. Only time in which the watchdog
 * itself ran is counted: a process that was stopped, or a machine that slept, is no stall.
 *
 * What a worker runs is read out of a slot, which it writes; see "slot note". For a loop, which has
 * many requests a millisecond, that would be too dear; see "last note". */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct server;
struct stall;

/* ---- the last request of a loop ---- */

/* Last note. A loop leaves no more than a pointer to the request that it began last, and takes it
 * back when that ends. Its memory may then go at any instant, so the watchdog does not look at it:
 * it has the kernel copy it (process_vm_readv(2), which fails where there is nothing), and believes
 * the copy only if the loop had not moved meanwhile:
 *
 *     owner:    request (release);  turn + 1 (release);  ...;  NULL;  turn + 1;  release fence
 *     reader:   t = turn (acquire);  request (acquire);  copy;  acquire fence;  turn == t?
 *
 * Bytes that were written behind an end are seen only with the turn of that end. */
struct stall_last {
    _Atomic(const void *) request;
    _Atomic uint64_t turn;
};

/* A request begins.     Thread: the loop. */
static inline void stall_last_begin(struct stall_last *last, const void *request)
{
    uint64_t turn = atomic_load_explicit(&last->turn, memory_order_relaxed);
    atomic_store_explicit(&last->request, request, memory_order_release);
    atomic_store_explicit(&last->turn, turn + 1, memory_order_release);
}

/* One has ended; its memory may go.     Thread: the loop. */
static inline void stall_last_end(struct stall_last *last, const void *request)
{
    if (atomic_load_explicit(&last->request, memory_order_relaxed) != request)
        return;
    uint64_t turn = atomic_load_explicit(&last->turn, memory_order_relaxed);
    atomic_store_explicit(&last->request, NULL, memory_order_relaxed);
    atomic_store_explicit(&last->turn, turn + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

/* ---- slots of workers ---- */

#define STALL_METHOD 8 /* bytes; what is longer is cut */
#define STALL_PATH 96  /* with the rest, two cache lines */
#define STALL_TEXT (STALL_METHOD + STALL_PATH + 2)

/* Slot note. What runs may end, and its memory go, while another thread looks; so it is not looked
 * at, but at a copy in a slot: the owner writes it when something begins, some ten nanoseconds in
 * cache lines that nobody else touches. A reader that comes in the middle must notice:
 *
 *     owner:    turn = odd;  words (release);    turn = even (release)
 *     reader:   t = turn (acquire);  words (acquire);  turn == t and even?
 *
 * A word of a later round makes the reader see that round's odd `turn`, or a later one, at its last
 * look; and what an even `turn` stands for was written before it. All are atomics, and none of
 * these orders costs an instruction on x86. */
struct stall_slot {
    _Alignas(64) _Atomic uint64_t turn;
    _Atomic uint64_t begun_ns; /* 0: nothing runs */
    _Atomic uint64_t lengths;  /* of the method; and of the path, 2^8 times */
    _Atomic uint64_t method;
    _Atomic uint64_t path[STALL_PATH / sizeof(uint64_t)];
};

static inline void stall_slot_put(_Atomic uint64_t *words, const char *bytes, size_t n)
{
    uint64_t word;

    for (; n >= sizeof(word); n -= sizeof(word), bytes += sizeof(word)) {
        memcpy(&word, bytes, sizeof(word));
        atomic_store_explicit(words++, word, memory_order_release);
    }
    if (n == 0)
        return;
    char rest[sizeof(word)] = {0};
    for (size_t i = 0; i < n; i++)
        rest[i] = bytes[i];
    memcpy(&word, rest, sizeof(word));
    atomic_store_explicit(words, word, memory_order_release);
}

/* `METHOD path` begins.     Thread: the slot's owner. */
static inline void stall_slot_begin(struct stall_slot *slot, const char *method, size_t method_len,
                                    const char *path, size_t path_len, uint64_t begun_ns)
{
    size_t m = method_len < STALL_METHOD ? method_len : STALL_METHOD;
    size_t p = path_len < STALL_PATH ? path_len : STALL_PATH;
    uint64_t turn = atomic_load_explicit(&slot->turn, memory_order_relaxed);

    atomic_store_explicit(&slot->turn, turn + 1, memory_order_relaxed);
    atomic_store_explicit(&slot->begun_ns, begun_ns, memory_order_release);
    atomic_store_explicit(&slot->lengths, m | p << 8, memory_order_release);
    stall_slot_put(&slot->method, method, m);
    stall_slot_put(slot->path, path, p);
    atomic_store_explicit(&slot->turn, turn + 2, memory_order_release);
}

/* It has ended.     Thread: the slot's owner. */
static inline void stall_slot_end(struct stall_slot *slot)
{
    uint64_t turn = atomic_load_explicit(&slot->turn, memory_order_relaxed);
    atomic_store_explicit(&slot->turn, turn + 1, memory_order_relaxed);
    atomic_store_explicit(&slot->begun_ns, 0, memory_order_release);
    atomic_store_explicit(&slot->turn, turn + 2, memory_order_release);
}

/* What a slot says. */
struct stall_seen {
    uint64_t turn;         /* another one: something else runs since */
    uint64_t begun_ns;     /* 0: nothing runs */
    char text[STALL_TEXT]; /* `METHOD path` */
};

/* Returns false in the middle of a change: it moves.     Thread: any. */
bool stall_slot_read(struct stall_slot *slot, struct stall_seen *ret_seen);

/* ---- the rule ---- */

/* One thing that should move. A zeroed one is new. */
struct stall_track {
    uint64_t mark;
    uint64_t still_ns;
    bool seen;
    bool said;
};

enum stall_change { STALL_NONE, STALL_BEGAN, STALL_OVER };

/* `elapsed_ns` later, it has something to do (`busy`), and how far it is reads `mark`. What has to
 * be said? Thread: the caller's own. */
enum stall_change stall_track(struct stall_track *track, bool busy, uint64_t mark,
                              uint64_t elapsed_ns, uint64_t limit_ns);

/* ---- the watchdog ---- */

/* The thread is not running yet: the slots are there for loops and workers to write to.
 * Owner:  the caller; ends with stall_destroy().     Thread: main only.
 * Errors: 0; -ENOMEM. */
int stall_create(struct server *server, uint64_t limit_ns, struct stall **ret_stall);

/* Once the loops run.     Thread: main only.     Errors: 0; a negative errno. */
int stall_start(struct stall *stall);

/* Stop and join the thread; before a loop or the pool goes. NULL is allowed.
 * Thread: main only.     Blocks: until CLOCK_MONOTONIC reads `deadline_ns`.
 * Errors: 0; -EBUSY: it is held up in a log line. */
int stall_stop(struct stall *stall, uint64_t deadline_ns);

/* NULL is allowed.     Thread: main only, after loops and workers. */
void stall_destroy(struct stall *stall);

/* Thread: any. */
struct stall_slot *stall_slot_of_worker(struct stall *stall, unsigned worker);

/* See server_is_moving(), server_stalls(), server.h.     Thread: any.     Blocks: never. */
bool stall_is_moving(struct stall *stall);
uint64_t stall_count(struct stall *stall);

#endif

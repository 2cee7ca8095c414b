#ifndef LASTCALL_STALL_H
#define LASTCALL_STALL_H

/* The watchdog. Its thread looks at the loops, the workers and the queue several times in each
 * `limit`, and logs once for each of them that it has made no progress for so long:
 *
 *     a loop     has not carried out an order (ORDER_PING) that is so old. A loop that waits for
 *                events carries it out at once, so an idle loop is not stuck
 *     a worker   is in one handler all that time. Workers may block: this is logged and counted,
 *                and has no other effect
 *     the pool   has a queue, and finished no job in that time
 *
 * A stuck loop or pool makes watchdog_is_moving() false. Only time in which the watchdog itself ran
 * counts: a process that was stopped, or a machine that slept, is not stuck.
 *
 * Each worker writes what it runs into a slot; see "slot note". For a loop, which serves many
 * requests a millisecond, that would cost too much; see "last note". */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct server;
struct watchdog;

/* ---- the last request of a loop ---- */

/* Last note. A loop stores only a pointer to the request that it began last, and clears it when
 * that request ends. The memory may be freed at any instant, so the watchdog does not read it
 * directly: the kernel copies it (process_vm_readv(2), which fails where nothing is mapped), and
 * the copy counts only if the loop had not moved meanwhile:
 *
 *     owner:    request (release);  turn + 1 (release);  ...;  NULL;  turn + 1;  release fence
 *     reader:   t = turn (acquire);  request (acquire);  copy;  acquire fence;  turn == t?
 *
 * A reader that sees bytes written after an end also sees the turn of that end. */
struct watchdog_last {
    _Atomic(const void *) request;
    _Atomic uint64_t turn;
};

/* A request begins.     Thread: the loop. */
static inline void watchdog_last_begin(struct watchdog_last *last, const void *request)
{
    uint64_t turn = atomic_load_explicit(&last->turn, memory_order_relaxed);
    atomic_store_explicit(&last->request, request, memory_order_release);
    atomic_store_explicit(&last->turn, turn + 1, memory_order_release);
}

/* One has ended; its memory may go.     Thread: the loop. */
static inline void watchdog_last_end(struct watchdog_last *last, const void *request)
{
    if (atomic_load_explicit(&last->request, memory_order_relaxed) != request)
        return;
    uint64_t turn = atomic_load_explicit(&last->turn, memory_order_relaxed);
    atomic_store_explicit(&last->request, NULL, memory_order_relaxed);
    atomic_store_explicit(&last->turn, turn + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

/* ---- slots of workers ---- */

#define WATCHDOG_METHOD 8 /* bytes; a longer one is cut off */
#define WATCHDOG_PATH 96  /* with the rest, two cache lines */
#define WATCHDOG_TEXT (WATCHDOG_METHOD + WATCHDOG_PATH + 2)

/* Slot note. A request may end, and its memory be freed, while another thread looks. So the reader
 * looks at a copy in a slot, which the owner writes when a request begins: some ten nanoseconds, in
 * cache lines that no other thread writes. A reader that comes in the middle must notice:
 *
 *     owner:    turn = odd;  words (release);    turn = even (release)
 *     reader:   t = turn (acquire);  words (acquire);  turn == t and even?
 *
 * A word of a later round makes the reader see that round's odd `turn`, or a later one, at its last
 * look; and what an even `turn` stands for was written before it. All are atomics, and none of
 * these orders costs an instruction on x86. */
struct watchdog_slot {
    _Alignas(64) _Atomic uint64_t turn;
    _Atomic uint64_t begun_ns; /* 0: nothing runs */
    _Atomic uint64_t lengths;  /* of the method; and of the path, 2^8 times */
    _Atomic uint64_t method;
    _Atomic uint64_t path[WATCHDOG_PATH / sizeof(uint64_t)];
};

static inline void watchdog_slot_put(_Atomic uint64_t *words, const char *bytes, size_t n)
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
static inline void watchdog_slot_begin(struct watchdog_slot *slot, const char *method,
                                       size_t method_len, const char *path, size_t path_len,
                                       uint64_t begun_ns)
{
    size_t m = method_len < WATCHDOG_METHOD ? method_len : WATCHDOG_METHOD;
    size_t p = path_len < WATCHDOG_PATH ? path_len : WATCHDOG_PATH;
    uint64_t turn = atomic_load_explicit(&slot->turn, memory_order_relaxed);

    atomic_store_explicit(&slot->turn, turn + 1, memory_order_relaxed);
    atomic_store_explicit(&slot->begun_ns, begun_ns, memory_order_release);
    atomic_store_explicit(&slot->lengths, m | p << 8, memory_order_release);
    watchdog_slot_put(&slot->method, method, m);
    watchdog_slot_put(slot->path, path, p);
    atomic_store_explicit(&slot->turn, turn + 2, memory_order_release);
}

/* It has ended.     Thread: the slot's owner. */
static inline void watchdog_slot_end(struct watchdog_slot *slot)
{
    uint64_t turn = atomic_load_explicit(&slot->turn, memory_order_relaxed);
    atomic_store_explicit(&slot->turn, turn + 1, memory_order_relaxed);
    atomic_store_explicit(&slot->begun_ns, 0, memory_order_release);
    atomic_store_explicit(&slot->turn, turn + 2, memory_order_release);
}

/* The contents of a slot. */
struct watchdog_seen {
    uint64_t turn;            /* if it differs, another request has begun */
    uint64_t begun_ns;        /* 0: nothing runs */
    char text[WATCHDOG_TEXT]; /* `METHOD path` */
};

/* Returns false while the owner writes: then it makes progress.     Thread: any. */
bool watchdog_slot_read(struct watchdog_slot *slot, struct watchdog_seen *ret_seen);

/* ---- the rule ---- */

/* One thing that should move. A zeroed one is new. */
struct watchdog_track {
    uint64_t mark;
    uint64_t still_ns;
    bool seen;
    bool said;
};

enum watchdog_change { WATCHDOG_NONE, WATCHDOG_BEGAN, WATCHDOG_OVER };

/* `elapsed_ns` have passed. `busy`: it has something to do; `mark` changes when it makes progress.
 * Returns what is to be logged. Thread: the caller's own. */
enum watchdog_change watchdog_track(struct watchdog_track *track, bool busy, uint64_t mark,
                                    uint64_t elapsed_ns, uint64_t limit_ns);

/* ---- the watchdog ---- */

/* Make the slots that workers write to; the thread is not running yet.
 * Owner:  the caller; ends with watchdog_destroy().     Thread: main only.
 * Errors: 0; -ENOMEM. */
int watchdog_create(struct server *server, uint64_t limit_ns, struct watchdog **ret_watchdog);

/* Once the loops run.     Thread: main only.     Errors: 0; a negative errno. */
int watchdog_start(struct watchdog *watchdog);

/* Stop and join the thread; before a loop or the pool goes. NULL is allowed.
 * Thread: main only.     Blocks: until CLOCK_MONOTONIC reads `deadline_ns`.
 * Errors: 0; -EBUSY: it waits for a log line to be written. */
int watchdog_stop(struct watchdog *watchdog, uint64_t deadline_ns);

/* NULL is allowed.     Thread: main only, after loops and workers. */
void watchdog_destroy(struct watchdog *watchdog);

/* Thread: any. */
struct watchdog_slot *watchdog_slot_of_worker(struct watchdog *watchdog, unsigned worker);

/* See server_is_moving(), server_stalls(), server.h.     Thread: any.     Blocks: never. */
bool watchdog_is_moving(struct watchdog *watchdog);
uint64_t watchdog_count(struct watchdog *watchdog);

#endif

#ifndef LASTCALL_UPSTREAM_CHOICE_H
#define LASTCALL_UPSTREAM_CHOICE_H

/* Which member of a group gets a request: the arithmetic, without health and sockets.
 * Thread: any, one at a time for each array of members.     Blocks: never. */

#include <stddef.h>
#include <stdint.h>

enum balance {
    BALANCE_ROUND_ROBIN, /* in turn, by weight: 5 and 1 are a a a b a a, not a a a a a b */
    BALANCE_LEAST,       /* the one with the fewest requests for its weight; in turn among equals */
    /* By a key: the member with the highest score of (key, member) gets it ("rendezvous"). So all
     * processes agree without telling each other, and with a member that is lost only its own keys
     * move, evenly to the others. */
    BALANCE_HASH,
};

struct choice_member {
    uint64_t weight; /* 0: not to be chosen now; at most 2^24 */
    uint64_t active; /* BALANCE_LEAST: requests that it has; at most 2^32 */
    uint64_t name;   /* BALANCE_HASH: choice_hash() of its name */
    int64_t turn;    /* kept from choice to choice; 0 at the beginning */
};

#define CHOICE_NONE SIZE_MAX

/* Returns the member's index; CHOICE_NONE: all weights are 0. */
size_t choice_make(enum balance balance, struct choice_member *members, size_t count, uint64_t key);

/* The same number for the same bytes, in every process. */
uint64_t choice_hash(const char *bytes, size_t size);

#endif

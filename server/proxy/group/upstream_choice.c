#include "upstream_choice.h"

#include <math.h>
#include <stdbool.h>

/* Multiply and shift: each bit of the input reaches each bit of the result. The constants are those
 * of splitmix64, a generator in the public domain. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* FNV-1a, then mixed. */
uint64_t choice_hash(const char *bytes, size_t size)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(0x100000001b3);
    return mix(hash);
}

/* a / b < c / d, without fractions. */
static bool is_less(uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    return a * d < c * b;
}

/* The member with the fewest requests for its weight; one more than it has, so that of two that
 * have none the heavier one comes first. */
static const struct choice_member *find_least(const struct choice_member *members, size_t count)
{
    const struct choice_member *least = NULL;

    for (size_t i = 0; i < count; i++)
        if (members[i].weight > 0 &&
            (least == NULL ||
             is_less(members[i].active + 1, members[i].weight, least->active + 1, least->weight)))
            least = &members[i];
    return least;
}

/* In turn: each gets its weight, and the one that has most pays for all. With `least`, among those
 * that have as few requests for their weight. */
static size_t take_turn(struct choice_member *members, size_t count,
                        const struct choice_member *least)
{
    size_t best = CHOICE_NONE;
    int64_t all = 0;

    for (size_t i = 0; i < count; i++) {
        struct choice_member *member = &members[i];
        if (member->weight == 0 || (least != NULL && is_less(least->active + 1, least->weight,
                                                             member->active + 1, member->weight)))
            continue;
        member->turn += (int64_t)member->weight;
        all += (int64_t)member->weight;
        if (best == CHOICE_NONE || member->turn > members[best].turn)
            best = i;
    }
    if (best != CHOICE_NONE)
        members[best].turn -= all;
    return best;
}

/* With u evenly from 0 to 1, -ln(u) / w is what an exponential clock of the rate w shows: the
 * first of several clocks is that of member i with the probability w(i) / sum of all w. */
static size_t hash_to(const struct choice_member *members, size_t count, uint64_t key)
{
    size_t best = CHOICE_NONE;
    double first = INFINITY;

    for (size_t i = 0; i < count; i++) {
        if (members[i].weight == 0)
            continue;
        double u = ((double)(mix(key ^ members[i].name) >> 11) + 0.5) * 0x1p-53;
        double at = -log(u) / (double)members[i].weight;
        if (at < first) {
            first = at;
            best = i;
        }
    }
    return best;
}

size_t choice_make(enum balance balance, struct choice_member *members, size_t count, uint64_t key)
{
    if (balance == BALANCE_HASH)
        return hash_to(members, count, key);
    return take_turn(members, count, balance == BALANCE_LEAST ? find_least(members, count) : NULL);
}

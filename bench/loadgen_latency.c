#include "loadgen_p.h"

/* Latencies are kept in a histogram of 32 steps an octave, so a percentile is right to 3 %. */

#define STEPS 32

static size_t bucket_of(uint64_t us)
{
    if (us < 2 * STEPS)
        return (size_t)us;
    unsigned octave = 63U - (unsigned)__builtin_clzll(us) - 5U; /* log2(STEPS) is 5 */
    size_t bucket = (size_t)octave * STEPS + (size_t)(us >> octave);
    return bucket < LOAD_HISTOGRAM_BUCKETS ? bucket : LOAD_HISTOGRAM_BUCKETS - 1;
}

static uint64_t value_of(size_t bucket)
{
    if (bucket < 2 * STEPS)
        return bucket;
    size_t octave = bucket / STEPS - 1;
    uint64_t low = (uint64_t)(bucket - octave * STEPS) << octave;
    return low + ((UINT64_C(1) << octave) >> 1);
}

static uint64_t percentile_us(const struct load_histogram *h, unsigned percent)
{
    uint64_t rank = (h->count * percent + 99) / 100;
    uint64_t seen = 0;

    for (size_t i = 0; i < LOAD_HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank && seen > 0)
            return value_of(i) < h->max_us ? value_of(i) : h->max_us;
    }
    return 0;
}

void load_histogram_add(struct load_histogram *h, uint64_t us)
{
    h->buckets[bucket_of(us)]++;
    h->count++;
    if (us > h->max_us)
        h->max_us = us;
}

struct load_latency load_histogram_read(const struct load_histogram *h)
{
    return (struct load_latency){.count = h->count,
                                 .p50_us = percentile_us(h, 50),
                                 .p99_us = percentile_us(h, 99),
                                 .max_us = h->max_us};
}

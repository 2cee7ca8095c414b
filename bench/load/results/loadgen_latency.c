#include "loadgen_latency.h"

#include <errno.h>
#include <inttypes.h>

#include "clock.h"

/* The histogram has 32 buckets per octave, so a percentile is exact to 3 %. */

#define STEPS 32

static size_t bucket_of(uint64_t us)
{
    if (us < 2 * STEPS)
        return (size_t)us;
    unsigned octave = 63U - (unsigned)__builtin_clzll(us) - 5U; /* log2(STEPS) is 5 */
    size_t bucket = (size_t)octave * STEPS + (size_t)(us >> octave);
    return bucket < LOAD_LATENCY_BUCKETS ? bucket : LOAD_LATENCY_BUCKETS - 1;
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

    for (size_t i = 0; i < LOAD_LATENCY_BUCKETS; i++) {
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

/* ---- by time ---- */

void load_latencies_add(struct load *l, uint64_t us)
{
    struct load_latencies *latencies = l->options->latencies;
    uint64_t window = (l->now_ns - l->start_ns) / (LOAD_WINDOW_MS * NS_PER_MS);

    if (latencies != NULL && window < LOAD_WINDOWS)
        latencies->windows[window][bucket_of(us)]++;
}

static void write_window(size_t window, const uint32_t *buckets, FILE *file)
{
    const char *before = "[";
    bool any = false;

    for (size_t i = 0; i < LOAD_LATENCY_BUCKETS; i++) {
        if (buckets[i] == 0)
            continue;
        if (!any) /* ferror() finds errors, here and below */
            (void)fprintf(file, "{\"t_ms\":%zu,\"us\":", window * LOAD_WINDOW_MS);
        any = true;
        (void)fprintf(file, "%s[%" PRIu64 ",%" PRIu32 "]", before, value_of(i), buckets[i]);
        before = ",";
    }
    if (any)
        (void)fputs("]}\n", file);
}

int load_latencies_write(const struct load_latencies *latencies, const struct load_result *result,
                         FILE *file)
{
    (void)fprintf(file, "{\"start_ns\":%" PRIu64 "}\n", result->start_ns);
    for (size_t i = 0; i < LOAD_WINDOWS; i++)
        write_window(i, latencies->windows[i], file);
    return fflush(file) != 0 || ferror(file) ? -EIO : 0;
}

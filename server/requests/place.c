#include "place.h"

#include "clock.h"
#include "loop.h"

#define MEASURES 8
#define SETBACKS_MOST 3

void place_init(struct place *place, enum place_mode mode)
{
    place->mode = mode;
    atomic_init(&place->estimate_ns, (uint32_t)PLACE_LONGEST_NS);
    atomic_init(&place->to_measure, MEASURES);
    atomic_init(&place->setbacks, 0);
    atomic_init(&place->usual_ns, (uint32_t)PLACE_LONGEST_NS);
}

bool place_is_short(const struct place *place)
{
    return atomic_load_explicit(&place->estimate_ns, memory_order_relaxed) < PLACE_SHORT_NS;
}

bool place_is_here(const struct place *place, const struct loop *loop)
{
    return place->mode == PLACE_AUTO && loop->handlers.turn_ns < PLACE_TURN_NS &&
           place_is_short(place);
}

static uint32_t setbacks(const struct place *place)
{
    return atomic_load_explicit(&place->setbacks, memory_order_relaxed);
}

/* The part of the way down. */
static uint32_t down(const struct place *place)
{
    uint32_t n = setbacks(place);

    return n == 0 ? 32 : 1024U << (n - 1);
}

/* See estimate note. */
void place_add_sample(struct place *place, uint64_t ns)
{
    uint32_t sample = (uint32_t)(ns < PLACE_LONGEST_NS ? ns : PLACE_LONGEST_NS);
    uint32_t estimate = atomic_load_explicit(&place->estimate_ns, memory_order_relaxed);
    bool was_short = estimate < PLACE_SHORT_NS;

    if (sample > estimate)
        estimate += (sample - estimate + 1) / 2;
    else
        estimate -= (estimate - sample) / down(place);
    if (was_short && sample >= PLACE_SHORT_NS && setbacks(place) < SETBACKS_MOST)
        atomic_store_explicit(&place->setbacks, setbacks(place) + 1, memory_order_relaxed);
    atomic_store_explicit(&place->estimate_ns, estimate, memory_order_relaxed);
    uint32_t usual = atomic_load_explicit(&place->usual_ns, memory_order_relaxed);
    usual = usual - usual / 16 + sample / 16;
    atomic_store_explicit(&place->usual_ns, usual, memory_order_relaxed);
}

bool place_is_brief(const struct place *place)
{
    return atomic_load_explicit(&place->usual_ns, memory_order_relaxed) < PLACE_SHORT_NS;
}

/* Far from being called in place: whether a long one was preempted or slept does not matter. */
static bool is_long(const struct place *place)
{
    return atomic_load_explicit(&place->estimate_ns, memory_order_relaxed) > PLACE_LONGEST_NS / 2;
}

void place_was_left(struct place *place, bool busy)
{
    if (busy)
        atomic_store_explicit(&place->to_measure, MEASURES, memory_order_relaxed);
    else
        place_add_sample(place, PLACE_LONGEST_NS);
}

/* It has had a long handler, and may be called in place again soon: each handler counts. */
static bool is_on_probation(const struct place *place)
{
    return setbacks(place) > 0 && !place_is_short(place) && !is_long(place);
}

void place_begin(struct place_watch *watch, struct place *place, uint64_t now_ns)
{
    uint32_t left = atomic_load_explicit(&place->to_measure, memory_order_relaxed);

    watch->place = place;
    watch->measured = left > 0 || is_on_probation(place);
    if (left > 0)
        atomic_store_explicit(&place->to_measure, left - 1, memory_order_relaxed);
    if (watch->measured) {
        (void)getrusage(RUSAGE_THREAD, &watch->before);
    }
    watch->begun_ns = now_ns != 0 ? now_ns : clock_now_ns();
}

static uint64_t processor_ns(const struct rusage *usage)
{
    return ((uint64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000 +
            (uint64_t)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec)) *
           NS_PER_US;
}

uint64_t place_end(const struct place_watch *watch)
{
    struct rusage after;
    uint64_t took_ns = clock_now_ns() - watch->begun_ns;

    if (took_ns <= PLACE_SHORT_NS || is_long(watch->place)) {
        place_add_sample(watch->place, took_ns);
    } else if (!watch->measured) {
        atomic_store_explicit(&watch->place->to_measure, MEASURES, memory_order_relaxed);
    } else {
        (void)getrusage(RUSAGE_THREAD, &after);
        bool slept = after.ru_nvcsw != watch->before.ru_nvcsw;
        place_add_sample(watch->place,
                         slept ? took_ns : processor_ns(&after) - processor_ns(&watch->before));
    }
    return took_ns;
}

#include "stops.h"

bool stops_take(struct stops *stops, uint64_t now_ns, uint64_t apart_ns)
{
    /* Two threads may pass their times in the wrong order. An earlier time counts as the same one,
     * unless every signal counts. */
    if (stops->count > 0 && apart_ns > 0 &&
        (now_ns < stops->last_ns || now_ns - stops->last_ns < apart_ns))
        return false;
    stops->count++;
    stops->last_ns = now_ns;
    return true;
}

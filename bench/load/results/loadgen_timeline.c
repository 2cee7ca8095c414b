#include "loadgen_timeline.h"

#include <errno.h>
#include <inttypes.h>

#include "clock.h"

/* Each event is counted in the slot of l->now_ns, which is at most one turn of the loop old. */

#define SLOT_NS (LOAD_SLOT_MS * NS_PER_MS)
#define MARKS 3

void load_timeline_count(struct load *l, enum load_kind kind)
{
    struct load_timeline *t = l->options->timeline;

    if (kind == LOAD_REFUSED && l->result->first_refused_ns == 0)
        l->result->first_refused_ns = l->now_ns;
    if (t == NULL)
        return;
    uint64_t slot = (l->now_ns - l->start_ns) / SLOT_NS;
    if (slot < LOAD_SLOTS)
        t->slots[slot][kind]++;
    else
        t->beyond++;
}

struct mark {
    const char *name;
    uint64_t at_ns; /* 0: did not happen, or was written */
};

/* Write the marks before `until_ns`, the earliest first. */
static void write_marks(struct mark *marks, uint64_t start_ns, uint64_t until_ns, FILE *file)
{
    for (;;) {
        struct mark *next = NULL;
        for (size_t i = 0; i < MARKS; i++) {
            if (marks[i].at_ns != 0 && (next == NULL || marks[i].at_ns < next->at_ns))
                next = &marks[i];
        }
        if (next == NULL || next->at_ns >= until_ns)
            return;
        (void)fprintf(file, "{\"t_ms\":%.3f,\"mark\":\"%s\"}\n",
                      (double)(int64_t)(next->at_ns - start_ns) / 1e6,
                      next->name); /* ferror() finds errors */
        next->at_ns = 0;
    }
}

int load_timeline_write(const struct load_timeline *timeline, const struct load_result *result,
                        FILE *file)
{
    struct mark marks[MARKS] = {
        {"signal", result->signal_ns},
        {"first_refused", result->first_refused_ns},
        {"gone", result->gone_ns},
    };

    for (size_t i = 0; i < LOAD_SLOTS; i++) {
        const uint32_t *n = timeline->slots[i];
        if ((n[LOAD_SENT] | n[LOAD_ANSWERED] | n[LOAD_LOST] | n[LOAD_REFUSED]) == 0)
            continue;
        write_marks(marks, result->start_ns, result->start_ns + i * SLOT_NS, file);
        (void)fprintf(file,
                      "{\"t_ms\":%zu,\"sent\":%" PRIu32 ",\"answered\":%" PRIu32
                      ",\"lost\":%" PRIu32 ",\"refused\":%" PRIu32 "}\n",
                      i * LOAD_SLOT_MS, n[LOAD_SENT], n[LOAD_ANSWERED], n[LOAD_LOST],
                      n[LOAD_REFUSED]); /* ferror() finds errors */
    }
    write_marks(marks, result->start_ns, UINT64_MAX, file);
    if (timeline->beyond > 0)
        (void)fprintf(file, "{\"beyond\":%" PRIu64 "}\n", timeline->beyond);
    return fflush(file) != 0 || ferror(file) ? -EIO : 0;
}

#ifndef LASTCALL_LOADGEN_LATENCY_H
#define LASTCALL_LOADGEN_LATENCY_H

/* Histograms of latencies.     Thread: the run's. */

#include "loadgen_state.h"

void load_histogram_add(struct load_histogram *h, uint64_t us);
struct load_latency load_histogram_read(const struct load_histogram *h);

/* Add an answer that arrived at l->now_ns to options->latencies. */
void load_latencies_add(struct load *l, uint64_t us);

#endif

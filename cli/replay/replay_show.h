#ifndef LASTCALL_REPLAY_SHOW_H
#define LASTCALL_REPLAY_SHOW_H

/* The output of a replay: progress on standard error, requests on standard output.
 * Thread: main only, for all of these. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "unfinished.h"

struct replay_show {
    bool terminal, quiet;
    uint64_t began_ns, next_ns;
    size_t total;
};

struct replay_counts {
    size_t settled, parked;
    size_t failed;   /* attempts */
    size_t given_up; /* requests left for another run */
    size_t waiting, in_flight;
    size_t taken_over; /* requests whose outcome another replayer noted */
};

void replay_show_begin(struct replay_show *show, size_t total, bool quiet);

/* Show the counts if it is time: a bar on a terminal, otherwise a line every 5 s. */
void replay_show_progress(struct replay_show *show, const struct replay_counts *counts,
                          uint64_t now_ns);

/* When replay_show_progress() next shows something; CLOCK_NEVER if never. */
uint64_t replay_show_next_ns(const struct replay_show *show);

/* Print a line; the bar makes room for it. */
void replay_show_line(struct replay_show *show, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Erase the bar. */
void replay_show_end(struct replay_show *show);

/* Print text from a request; control characters become `?`. */
void replay_show_text(const struct unfinished_text *text);

/* Print `POST shop.example/orders (idempotent, deadline)`, cleaned in the same way. */
void replay_show_request(const struct unfinished *request);

#endif

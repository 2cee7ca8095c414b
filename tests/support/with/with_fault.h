#ifndef LASTCALL_TEST_WITH_FAULT_H
#define LASTCALL_TEST_WITH_FAULT_H

/* A fault of an upstream as a row of a table: what it does, what the client gets in each protocol,
 * what the log says, and which metric counts it. */

#include "admin_client.h"
#include "with_upstream.h"

#define CUT (-1) /* the client has a part of the answer, and sees that there is no more */

struct fault {
    const char *name;
    /* The upstream: `play`, or this reply to the request and this end. */
    const char *reply;
    enum upstream_end end;
    void (*play)(struct fixture *f);
    int want; /* a status, or CUT */
    const char *cause, *phase, *kind;
    void (*prepare)(struct fixture *f); /* before the first request; NULL: nothing */
};

/* The end of a request: the client's answer, and no other. */
void expect_answer(struct fixture *f, enum answer_protocol protocol, const struct fault *fault);
/* The kind of the fault was counted so often, and no other kind. */
void expect_counts(const struct process *admin, const struct fault *fault, double count);
/* The first line about an upstream has the cause and the phase. */
void expect_line(struct fixture *f, const struct fault *fault);

/* All of it, with a fixture that runs, and ends with this. `play` NULL: there is no upstream that
 * could play. */
void expect_fault(struct fixture *f, void (*play)(struct fixture *f, const struct fault *fault),
                  const struct fault *fault);
/* Each with a fixture of its own; see fixture_start() for `conf`. */
void expect_faults(const char *conf, const struct fault *faults, size_t count);

#endif

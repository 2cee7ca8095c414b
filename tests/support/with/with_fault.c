#include "with_fault.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "expect.h"

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static const char *const kinds[] = {"lookup",
                                    "connect",
                                    "tls",
                                    "connect-time",
                                    "send-time",
                                    "first-byte-time",
                                    "between-bytes-time",
                                    "ended",
                                    "malformed",
                                    "cut"};

/* ---- what is seen of it ---- */

static double failures(const struct process *admin, const char *kind)
{
    char name[96];

    (void)snprintf(name, sizeof(name), "lastcall_upstream_failures_total{kind=\"%s\"}", kind);
    return admin_metric(admin, name);
}

void expect_counts(const struct process *admin, const struct fault *fault, double count)
{
    for (size_t i = 0; i < COUNT(kinds); i++) {
        double want = strcmp(kinds[i], fault->kind) == 0 ? count : 0;
        if (failures(admin, kinds[i]) != want)
            fail_msg("%s: %s is counted %.0f times, not %.0f", fault->name, kinds[i],
                     failures(admin, kinds[i]), want);
    }
}

/* A request counts shortly after its last byte. */
static void expect_aborted(const struct process *admin, const struct fault *fault, double count)
{
    static const char name[] = "lastcall_requests_aborted_total{route=\"proxy\"}";

    for (unsigned i = 0; admin_metric(admin, name) < count; i++) {
        if (i == 3000)
            fail_msg("%s: an answer that was cut counts as one that was whole", fault->name);
        (void)poll(NULL, 0, 10);
    }
    if (admin_metric(admin, name) > count)
        fail_msg("%s: an answer counts as one that was cut", fault->name);
}

void expect_answer(struct fixture *f, enum answer_protocol protocol, const struct fault *fault)
{
    struct answer answer;
    enum answer_state got = read_answer(f, protocol, false, &answer);

    if (got != (fault->want == CUT ? ANSWER_CUT : ANSWER_WHOLE) ||
        (fault->want != CUT && answer.status != fault->want))
        fail_msg("%s, %s: status %d, and the answer is %s", fault->name, protocol_name(protocol),
                 answer.status, answer_state_name(got));
    answer_release(&answer);
}

/* The first line of each kind is never left out. */
void expect_line(struct fixture *f, const struct fault *fault)
{
    char phase[64];

    (void)snprintf(phase, sizeof(phase), " (%s, ", fault->phase);
    process_wait_log(&f->front, "warning: upstream ");
    const char *line = strstr(f->front.log, "warning: upstream ");
    char *text = strndup(line, strcspn(line, "\n"));
    assert_non_null(text);
    assert_contains(text, fault->cause);
    assert_contains(text, phase);
    free(text);
}

/* ---- the play ---- */

static void play(struct fixture *f, const struct fault *fault)
{
    if (fault->play != NULL) {
        fault->play(f);
        return;
    }
    take_request(f);
    client_send(f->upstream, fault->reply);
    end_upstream(f, fault->end);
}

void expect_fault(struct fixture *f, void (*play_it)(struct fixture *f, const struct fault *fault),
                  const struct fault *fault)
{
    void *state = f;
    struct process admin = admin_of(&f->front);

    if (fault->prepare != NULL)
        fault->prepare(f);
    for (enum answer_protocol protocol = 0; protocol < ANSWER_PROTOCOLS; protocol++) {
        ask(f, protocol, false);
        if (play_it != NULL)
            play_it(f, fault);
        expect_answer(f, protocol, fault);
        hang_up(f);
        expect_counts(&admin, fault, protocol + 1);
        expect_aborted(&admin, fault, fault->want == CUT ? protocol + 1 : 0);
    }
    expect_line(f, fault);
    (void)fixture_tear_down(&state);
}

void expect_faults(const char *conf, const struct fault *faults, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *state;
        (void)fixture_start(&state, conf);
        expect_fault(state, play, &faults[i]);
    }
}

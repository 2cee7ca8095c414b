#ifndef LASTCALL_UPSTREAM_HEALTH_H
#define LASTCALL_UPSTREAM_HEALTH_H

/* Which members of a group of upstreams may get requests.
 *
 *               failures in a row                      fall checks in a row fail
 *          +------------------------+             +-------------------------------+
 *          |                        v             |                               v
 *          UP <--- a trial --- EJECTED            UP <--- rise checks succeed --- DOWN
 *                  succeeds
 *
 * Requests eject: a member that fails `failures` times in a row is left out for `eject_ns`; then
 * one request at a time tries it, and each trial that fails doubles the time. So does a failure
 * soon after it has come back; a member that stays up for as long as it was ejected starts afresh.
 * Checks take a member down and up. A member gets requests if it is neither ejected nor down.
 *
 * The last member that is up is ejected only if no connection to it comes about: bad answers are
 * better than none.
 *
 * Time is an argument, in nanoseconds of any monotonic clock that all callers share.
 *
 * Thread: any, for all but create and destroy.     Blocks: for some instructions, on a lock. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct health_rules {
    unsigned failures;      /* in a row that eject; 0: none do */
    uint64_t eject_ns;      /* the first time */
    uint64_t eject_most_ns; /* no longer than this; a member that stays that long starts afresh */
    unsigned rise, fall;    /* checks in a row that count; the first check counts alone */
    uint64_t slow_start_ns; /* a member that comes back gets its share in this time; 0: at once */
};

enum health_state { HEALTH_UP, HEALTH_EJECTED, HEALTH_DOWN };

struct health;

/* All members are up.     Owner: the caller.     Errors: NULL without memory. */
struct health *health_create(size_t count, const struct health_rules *rules);
void health_destroy(struct health *health);

/* ---- questions ---- */

const char *health_state_name(enum health_state state);
enum health_state health_state(const struct health *health, size_t i);
/* EJECTED: when a request may try it. */
uint64_t health_ejected_until_ns(const struct health *health, size_t i);
/* How often it was ejected. */
uint64_t health_ejections(const struct health *health, size_t i);
/* Of its weight, in parts of HEALTH_WHOLE; less after it has come back. */
#define HEALTH_WHOLE 1024
unsigned health_share(const struct health *health, size_t i, uint64_t now_ns);

/* ---- trials ---- */

/* A number that tells the requests that try a member from those that were sent to it before. */
typedef uint64_t health_trial;
#define HEALTH_NO_TRIAL 0

/* May the caller's request try this member, which is ejected? One at a time may, when the time of
 * the ejection is over. `is_last_resort`: no member is up, so another trial comes after
 * HEALTH_TRIALS_APART_NS already, even beside one whose outcome is awaited. HEALTH_NO_TRIAL: it may
 * not. */
#define HEALTH_TRIALS_APART_NS UINT64_C(250000000)
health_trial health_take_trial(struct health *health, size_t i, uint64_t now_ns,
                               bool is_last_resort);
/* Is any member being tried? */
bool health_has_trial(struct health *health);
/* The request of the trial ended without an outcome. */
void health_drop_trial(struct health *health, size_t i, health_trial trial);

/* ---- events ---- */

/* It has answered a request, which was this trial, or none. Returns whether that has ended its
 * ejection: only a trial does. */
bool health_succeeded(struct health *health, size_t i, health_trial trial, uint64_t now_ns);
/* It has failed, likewise; `is_gone`: no connection came about. Returns how long it is ejected from
 * now on; 0: it is not, or was before, which only a trial makes longer. */
uint64_t health_failed(struct health *health, size_t i, health_trial trial, bool is_gone,
                       uint64_t now_ns);
/* A check has ended. Returns whether the member has gone down, or has come up. */
bool health_checked(struct health *health, size_t i, bool is_good, uint64_t now_ns);

#endif

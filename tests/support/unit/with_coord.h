#ifndef LASTCALL_TEST_WITH_COORD_H
#define LASTCALL_TEST_WITH_COORD_H

/* A coordinator against a fake server.
 *
 * The coordinator runs on the test's own thread, and the fake server's callbacks are the stage: a
 * test hangs its play on them and so acts at an exact point of the coordinator's loop. No sleeps:
 * what is timed has a real deadline of some milliseconds, of which only the lower bound is claimed.
 * A lost wake-up shows as a hang, which alarm(2) ends.
 *
 *     census    the look. Its counts are taken before the play acts: what the play changes there
 *               comes after the look and before the sleep
 *     list      without `freeze`: the progress line, between decision and sleep
 *     others    inside a step: before the next look
 *
 * The log is JSON in a memory file; the clean-up insists that each line of it parses. */

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

#include "coord.h"

#define HANG_S 60
#define FAR (3600 * NS_PER_S)
#define CALLS_MAX 64
#define claim(f) cmocka_unit_test_setup_teardown(f, with_coord_set_up, with_coord_clean_up)

enum call {
    CENSUS,
    LAME_DUCK_ON,
    LAME_DUCK_OFF,
    CLOSE,
    HAND_OVER,
    FINISH,
    RELEASE,
    LIST,
    FREEZE,
    GIVE_UP,
    CUT
};

struct fake {
    struct coord *coord;
    /* coordinator's thread, which is the test's, and the test before and after coord_run() */
    void (*play)(struct fake *fake, enum call call, enum coord_phase phase);
    enum call calls[CALLS_MAX]; /* without the looks */
    uint64_t called_ns[CALLS_MAX];
    size_t call_count;
    uint64_t spread_ns[2];        /* of finish, of release */
    unsigned given_up[CALLS_MAX]; /* of each give-up */
    size_t give_up_count;
    unsigned looks[PHASE_COUNT];
    pthread_t thread;                 /* of the calls */
    bool strangers;                   /* a call came on another thread */
    struct coord_requests unfinished; /* what `freeze` hands out */
    int acts;                         /* for the play */
    /* mu */
    pthread_mutex_t mu;
    struct coord_census now;
};

/* All of these are new for each test. */
extern struct fake fake;
extern struct coord *coord;
extern atomic_llong
    wall_shift_s;  /* the wall clock's step: a test sets it, clock_gettime() reads it */
extern int memory; /* the file that stderr is */

extern char report_path[64]; /* in a directory that is empty before and after each test */
extern enum coord_phase phase_of[CUT + 1]; /* see play_note_phases() */
extern bool undone[3];                     /* for what coord_undrain() returns to a play */

/* The fake server, and times that no test comes to see. */
extern const struct coord_config ordinary;

/* Of each program: the directory, and that it is left empty. */
int with_coord_make_directory(void **state);
int with_coord_remove_directory(void **state);

/* Of each test; see claim(). */
int with_coord_set_up(void **state);
int with_coord_clean_up(void **state);

void make(struct coord_config config);

/* What the next census counts. */
void set_counts(struct fake *f, unsigned listeners, uint64_t active, uint64_t connections);

/* One more request for the list of those that are unfinished. */
void add_unfinished(struct fake *f, const char *method, const char *path);

/* An obedient server: it closes the listener at once, and the request with it. */
void play_obedient(struct fake *f, enum call call, enum coord_phase phase);

/* The listener closes, but the request goes on for ever. */
void play_busy(struct fake *f, enum call call, enum coord_phase phase);

/* The same, the phase of each call is noted, and with the release the drain is forced. */
void play_note_phases(struct fake *f, enum call call, enum coord_phase phase);

/* The listener closes, and the counts of requests are the test's. */
void play_many_requests(struct fake *f, enum call call, enum coord_phase phase);

/* The calls without the looks, as words. */
void assert_calls(const char *want);
unsigned count_calls(enum call call);
uint64_t time_of(enum call call); /* the first one's */

/* The n-th line of the log with this event, or NULL.     Owner: the caller. */
json_t *logged(const char *event, unsigned nth);
void assert_logged(const char *event, unsigned times);
void assert_message_has(const char *event, const char *part);

/* What an object has under `key`, and that it is of this type. */
const char *text_of(const json_t *object, const char *key);
json_int_t number_of(const json_t *object, const char *key);
double real_of(const json_t *object, const char *key);

/* Owner: the caller. */
json_t *read_report(void);

/* Beside and with the report. */
void assert_directory_holds(unsigned files);

#endif
